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

from ..http.exchange import Body
from ..http.fields import Fields
from ..http.request import Request

NOT_ENTERED = "no response has been started; a stream is entered by async with"

Self = TypeVar("Self", bound="BodyStream")


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


class BodyStream:
    """A response body under way: its head when the block is entered, its end when it is left."""

    __slots__ = ("_endless", "_exchange", "_head", "_label", "body", "trailers")

    trailers: Fields
    """Fields sent behind the last chunk (RFC 9110 section 6.5); dropped where the framing has no
    place for them. Announce them in `headers`: `("Trailer", "Digest")`."""
    body: Body
    """The body on the wire; there is none before the block is entered."""

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
        self._label = label
        self._head = (status, fields, length)
        self._endless = endless

    async def __aenter__(self: Self) -> Self:
        head = self._head
        del self._head  # streams are many, and last
        self.body = await self._exchange.start(*head, label=self._label)
        if self._endless:
            self._exchange.on_drain(self._farewell)
        return self

    async def __aexit__(self, exc_type: object, exc: object, traceback: object) -> None:
        if exc_type is None:
            self._exchange.on_drain(None)
            await self.body.end(self.trailers)

    async def _farewell(self) -> None:
        """The server stops, and the handler has been cancelled."""
        await self.body.end()


class Stream(BodyStream):
    """A stream of bytes. Made by `open_stream`."""

    __slots__ = ()

    def send(self, data: bytes) -> Awaitable[None]:
        """Send a piece; it is with the kernel when this returns. No data is nothing, not the end.

        Waits for a slow reader; a send that makes no progress for `Limits.send_seconds` closes
        the connection. Cancelled half way it leaves the stream torn: every later send raises
        `BrokenStream`. Raises `RuntimeError` before the block is entered.
        """
        try:
            body = self.body
        except AttributeError:
            raise RuntimeError(NOT_ENTERED) from None
        return body.send(data)
