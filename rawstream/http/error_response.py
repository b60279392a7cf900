"""How errors are answered: which error a handler's failure is, and what its client is told."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import (
    BrokenStream,
    ClientGone,
    HTTPError,
    Unavailable,
    WebSocketClosed,
    reason_phrase,
)
from .fields import Fields
from .request import Request

EXPECTED = (ClientGone, BrokenStream, WebSocketClosed)
"""A handler that ends by one of these has met an end that was there already."""


def error_response(error: HTTPError, request: Request | None = None) -> tuple[int, Fields, bytes]:
    """Status, fields and the one line that an error is answered with."""
    accepted = request.headers.get("accept", "") if request else ""
    if isinstance(error, Unavailable) and "text/event-stream" in accepted:
        retry = b"retry: %d\n\n" % (error.retry_seconds * 1000)
        return 200, [("Content-Type", "text/event-stream"), *error.headers], retry
    text = f"{error.status} {reason_phrase(error.status)}"
    if error.text:
        text += f": {error.text}"
    fields = [("Content-Type", "text/plain; charset=utf-8"), *error.headers]
    return error.status, fields, f"{text}\n".encode()


def http_error(error: Exception) -> HTTPError | None:
    """The error to answer with, also out of the nurseries of a handler: the first there is, if
    nothing but such errors was raised."""
    raised = list(leaves(error))
    if not all(isinstance(leaf, (HTTPError, *EXPECTED)) for leaf in raised):
        return None
    return next((leaf for leaf in raised if isinstance(leaf, HTTPError)), None)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """An exception, or the exceptions that a group holds at any depth."""
    group = getattr(error, "exceptions", None)  # ExceptionGroup has no name in Python 3.10
    if group is None:
        yield error
    else:
        for member in group:
            yield from leaves(member)
