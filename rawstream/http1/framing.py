"""What an exchange needs of HTTP/1.x: the bytes of its response, and the body of its request.

A `Framing` knows the rules of one request and its response (RFC 9112). It does no I/O: bytes in,
bytes out. There are two, and the head of the request decides which one it is:

    H11Framing   h11_framing.py   any request and response, by a state machine of h11
    PlainLane    plain_lane.py    a shortcut: plain requests, and responses in HTTP/1.1
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from ..http.exchange import Progress
from ..http.fields import Fields
from .head import RequestHead
from .request_body import RequestBody


class BodyLength(Enum):
    """How a client finds the end of a body (RFC 9112 section 6.3)."""

    CHUNKED = "chunked"
    COUNTED = "Content-Length"
    UNTIL_CLOSE = "until close"


CHUNKED, COUNTED, UNTIL_CLOSE = BodyLength


def chunk(data: bytes) -> bytes:
    """Frame a piece, not empty, of a chunked body (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Framing(Protocol):
    """One request and its response in the framing of HTTP/1.x. What its methods return must be
    sent: they count it as sent."""

    head: RequestHead
    expectations: tuple[str, ...]
    """The elements of `Expect`."""
    body: RequestBody | None
    """The body of the request; None if it has none."""
    body_length: BodyLength
    """How the client finds the end of the response body, once its head has been made."""

    @property
    def progress(self) -> Progress:
        """How much of the response has been made."""

    @property
    def another_may_follow(self) -> bool:
        """Whether the connection can carry another request: this one and its response have ended,
        and neither closes the connection."""

    def response_head(
        self, status: int, fields: Fields, length: int | None, *, close: bool
    ) -> bytes:
        """Make the head of the response, for a body of `length` bytes, or of any length. `fields`
        is a tuple. With `close` the connection closes after the response. Raises `ValueError` for
        what may not stand in a head."""

    def pieces(self, parts: Sequence[bytes]) -> Sequence[bytes]:
        """Make pieces of the response body, none of them empty. Raises `ValueError` if they are
        more than its length."""

    def end(self, trailers: Fields = ()) -> bytes:
        """Make the end of the response body. Raises `ValueError` if the body is shorter than its
        length, or for what may not stand in trailers."""

    def switch(self, fields: Fields) -> bytes:
        """Make the 101 that accepts another protocol, which the request has asked for. Raises
        `ValueError`."""
