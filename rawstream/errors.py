"""Exceptions. Each mistake of a client carries the reply to it: a status or a close code."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus

_RENAMED = {413: "Content Too Large", 414: "URI Too Long", 422: "Unprocessable Content"}
"""Phrases of RFC 9110 that `http.HTTPStatus` has only since Python 3.13."""


def reason_phrase(status: int) -> str:
    """The reason phrase of a status (RFC 9110 section 15 and the IANA registry); "" if unknown."""
    with suppress(ValueError):
        return _RENAMED.get(status) or HTTPStatus(status).phrase
    return ""


class HTTPError(Exception):
    """Answers the request with an error status, if no response has begun. Handlers and the library
    both raise it. The body of the response is one line: the status, its phrase, and `text`.

    `status` is a status code of RFC 9110 section 15, 400 to 599; `headers` are added to the
    response. Raises `ValueError` for any other status.
    """

    def __init__(
        self, status: int, text: str = "", headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"an HTTPError has a status from 400 to 599, not {status}")
        super().__init__(status, text)
        self.status = status
        self.text = text
        self.headers = headers

    def with_headers(self, headers: Sequence[tuple[str, str]]) -> HTTPError:
        """The same error with more fields. This one, which may be shared, is not changed."""
        error = HTTPError.__new__(type(self), *self.args)
        error.__dict__.update(self.__dict__)
        error.headers = [*self.headers, *headers]
        return error


RETRY_SECONDS = (5, 15)
"""When a client that was turned away may come back. A random time between the two, so that not all
clients come back at once."""


class Unavailable(HTTPError):
    """503 with a `Retry-After`: the request could be served, but not now.

    An EventSource gives up for good after any status but 200. A client that accepts
    `text/event-stream` therefore gets 200, a `retry:` field and the end of the stream.
    """

    def __init__(self, text: str) -> None:
        self.retry_seconds = random.uniform(*RETRY_SECONDS)
        super().__init__(503, text, [("Retry-After", f"{self.retry_seconds:.0f}")])


class ClientGone(Exception):
    """The client has left, or has read nothing for `Limits.send_seconds`.

    Handlers rarely see this, because they are cancelled at the same moment. Only shielded code and
    tasks outside the handler do.
    """

    def __init__(self, how: str = "client left", *, stopped_reading: bool = False) -> None:
        super().__init__(how)
        self.stopped_reading = stopped_reading


class BrokenStream(Exception):
    """An earlier send was cancelled half way, so what was sent ends inside a chunk or a frame.
    Nothing but closing may follow: every later send raises this."""


class WebSocketClosed(Exception):
    """The WebSocket is closed or closing: nothing more can be sent or received.

    `code` and `reason` are the peer's (RFC 6455 section 7.1.5): 1005 if its Close had no code,
    1006 if the connection ended without a Close, ours if we closed first.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
