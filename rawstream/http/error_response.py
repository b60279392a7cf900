"""Which response an error gets, and which error a handler's failure counts as."""

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
"""A handler that ends with one of these reports an end that is already being handled."""


def error_response(error: HTTPError, request: Request | None = None) -> tuple[int, Fields, bytes]:
    """Return the status, the fields and the body, one line, of the response to an error."""
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
    """Return the `HTTPError` to respond with, or None. In a group raised by a handler's nurseries
    it is the first one, if there are only `HTTPError` and `EXPECTED`."""
    raised = list(leaves(error))
    if not all(isinstance(leaf, (HTTPError, *EXPECTED)) for leaf in raised):
        return None
    return next((leaf for leaf in raised if isinstance(leaf, HTTPError)), None)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, or the exceptions that a group holds at any depth."""
    group = getattr(error, "exceptions", None)  # Python 3.10 has no ExceptionGroup
    if group is None:
        yield error
    else:
        for member in group:
            yield from leaves(member)
