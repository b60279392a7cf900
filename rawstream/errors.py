"""What a handler can meet or raise: their errors carry the reply they deserve, ours the cause."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus

_RENAMED = {413: "Content Too Large", 414: "URI Too Long", 422: "Unprocessable Content"}
"""Phrases of RFC 9110 that Python learned with 3.13."""


def reason_phrase(status: int) -> str:
    """What RFC 9110 section 15 and the registry call this status; "" if they do not know it."""
    with suppress(ValueError):
        return _RENAMED.get(status) or HTTPStatus(status).phrase
    return ""


class HTTPError(Exception):
    """The request deserves an error status. Raised by the library and by handlers alike; it is
    answered with `status`, `headers` and `text` on one line, if no response has begun.

    `status` is an HTTP status code of RFC 9110 section 15, 400 to 599.
    """

    def __init__(
        self, status: int, text: str = "", headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text
        self.headers = headers


RETRY_SECONDS = (5, 15)
"""When a client that was turned away may come back: spread out, lest all come at once."""


class Unavailable(HTTPError):
    """503: it could be served, but not now; with a `Retry-After`.

    An EventSource never comes back after a status other than 200. One that waits for events gets
    200, a `retry:` and an end instead.
    """

    def __init__(self, text: str) -> None:
        self.retry_seconds = random.uniform(*RETRY_SECONDS)
        super().__init__(503, text, [("Retry-After", f"{self.retry_seconds:.0f}")])


class ClientGone(Exception):
    """The client has left, or has stopped reading for `Limits.send_seconds`.

    Handlers rarely see it: their connection is cancelled in the same moment, and Trio's own
    cancellation ends them. Only who sends from inside a shield, or from a task outside the
    handler, gets this.
    """

    def __init__(self, how: str = "client left", *, stopped_reading: bool = False) -> None:
        super().__init__(how)
        self.stopped_reading = stopped_reading


class BrokenStream(Exception):
    """An earlier send was cancelled half way, so the bytes on the wire end inside a chunk or a
    frame: nothing but closing may follow, and every later send raises this."""


class WebSocketClosed(Exception):
    """The WebSocket is closed, or closing; nothing can be sent or received any more.

    `code` and `reason` are the peer's (RFC 6455 section 7.1.5): 1005 when it gave none, 1006
    when it left without a word, ours when we closed first.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
