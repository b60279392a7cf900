r"""A response body sent piece by piece. The other streams are built on it.

The bytes of `await stream.send(b"hello")` depend on the version and on the headers:

    HTTP/1.1                     5\r\nhello\r\n    a chunk: size in hexadecimal, then the data
    HTTP/1.1, length known       hello             counted down from Content-Length
    HTTP/1.0                     hello             until the connection closes
    HEAD                         nothing           only the head of the response is sent

A chunked body ends with a chunk of size 0 (RFC 9112 section 7.1), which is sent when the block is
left. If an exception leaves the block, it is not sent, and the client can tell that the body is
truncated.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from ..http.exchange import Body
from ..http.fields import Fields
from ..http.request import Request

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
    `endless` means that the body has no end of its own: when the server stops, the handler is
    cancelled and the stream ends properly at once. Other streams may finish until the deadline of
    the drain. `headers` are added to the response.
    """
    if endless and length is not None:
        raise ValueError("a stream of known length cannot be endless")
    fields = [("Content-Type", content_type), *headers]
    if length is None:
        fields.append(("X-Accel-Buffering", "no"))  # else nginx fills a buffer first
    return Stream(request, "stream", status, fields, length, endless=endless)


class BodyStream:
    """A response body under way. Entering the block sends the head, leaving it ends the body. A
    stream of your own can derive from this class, and send what it likes to `body`."""

    __slots__ = ("_endless", "_exchange", "_head", "_label", "body", "trailers")

    trailers: Fields
    """Fields sent after the last chunk (RFC 9110 section 6.5), or dropped if the body is not
    chunked. Announce them in `headers`: `("Trailer", "Digest")`."""
    body: Body
    """The body of the response, once the block has been entered."""

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
        del self._head  # saves memory: streams are many, and last long
        self.body = await self._exchange.start(*head, label=self._label)
        if self._endless:
            self._exchange.on_drain(self._farewell)
        return self

    async def __aexit__(self, exc_type: object, exc: object, traceback: object) -> None:
        if exc_type is None:
            await self.body.end(self.trailers)
            self._exchange.on_drain(None)  # not earlier: a drain may cancel before the end is sent

    async def _farewell(self) -> None:
        """End the body. The server is stopping, and the handler has been cancelled."""
        await self.body.end()


class Stream(BodyStream):
    """A stream of bytes. Made by `open_stream`."""

    __slots__ = ()

    def send(self, data: bytes) -> Awaitable[None]:
        """Send a piece of the body. It has been handed to the kernel when this returns; over HTTP/2
        it is in the same pass of the scheduler, in one write with what other streams send. Empty
        data sends nothing; it does not end the stream.

        Waits for a slow reader. A send that makes no progress for `Limits.send_seconds` closes the
        connection; over HTTP/2, a stream that is given no window for `Limits.window_seconds` is
        reset. If it is cancelled half way, every later send raises `BrokenStream`. Raises
        `RuntimeError` before the block is entered.
        """
        return entered(self).send(data)


def entered(stream: BodyStream) -> Body:
    """The body of a stream. Raises `RuntimeError` before its block is entered."""
    try:
        return stream.body
    except AttributeError:
        raise RuntimeError("the stream has not begun: enter it with `async with`") from None
