r"""A response body sent piece by piece: chunked, the ground on which the other streams stand.

What `await stream.send(b"hello")` puts on the wire depends on what the client speaks:

    HTTP/1.1                     5\r\nhello\r\n    a chunk: size in hexadecimal, then the data
    HTTP/1.1, length known       hello             counted down from Content-Length
    HTTP/1.0                     hello             until the connection closes
    HEAD                         nothing           only the head of the response is sent

A chunked body ends with a chunk of size 0 (RFC 9112 section 7.1). It is sent when the block is
left, and only then: a block left by an exception leaves a body that its client can tell is torn.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from .request import Fields, Request

Self = TypeVar("Self", bound="Body")


def open_stream(
    request: Request,
    content_type: str,
    *,
    status: int = 200,
    headers: Fields = (),
    length: int | None = None,
    endless: bool = False,
) -> Stream:
    """Answer with a stream: `async with open_stream(request, "text/plain") as stream:`.

    `length` is the size of the body in bytes if it is known; sending less or more is an error.
    `endless` says that the body has no end of its own: when the server stops, the handler is
    cancelled and the stream ended at once, where others may finish until the drain's deadline.
    """
    if endless and length is not None:
        raise ValueError("a stream of known length is not endless")
    fields = [("Content-Type", content_type), *headers]
    if length is None:
        fields.append(("X-Accel-Buffering", "no"))  # nginx would collect a bufferful first
    return Stream(request, "stream", status, fields, length, endless=endless)


class Body:
    """A response body under way: its head when the block is entered, its end when it is left."""

    __slots__ = ("_endless", "_exchange", "_head", "trailers")

    trailers: Fields
    """Fields sent behind the last chunk (RFC 9110 section 6.5); dropped where the framing has no
    place for them. Announce them in `headers`: `("Trailer", "Digest")`."""

    def __init__(
        self,
        request: Request,
        label: str,
        status: int,
        fields: Fields,
        length: int | None = None,
        *,
        endless: bool,
    ) -> None:
        self.trailers = ()
        self._exchange = request.exchange
        self._exchange.label = label
        self._head = (status, fields, length)
        self._endless = endless

    async def __aenter__(self: Self) -> Self:
        head = self._head
        del self._head  # streams are many, and last
        await self._exchange.start(*head)
        if self._endless:
            self._exchange.endless(self._farewell)
        return self

    async def __aexit__(self, exc_type: object, exc: object, traceback: object) -> None:
        if exc_type is None:
            self._exchange.endless(None)
            await self._exchange.end(self.trailers)

    async def _farewell(self) -> None:
        """The server stops, and the handler has been cancelled."""
        await self._exchange.end()


class Stream(Body):
    """A stream of bytes. Made by `open_stream`."""

    __slots__ = ()

    def send(self, data: bytes) -> Awaitable[None]:
        """Send a piece; it is on the wire when this returns. No data is nothing, not the end.

        Waits for a slow reader; a send that makes no progress for `Limits.send_seconds` closes
        the connection. Cancelled half way it leaves the stream torn: every later send raises
        `BrokenStream`.
        """
        return self._exchange.send(data)
