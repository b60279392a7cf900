"""A response body sent over HTTP/1.x, in each of its framings.

    CHUNKED       size in hexadecimal, CRLF, the data, CRLF; the last chunk has size 0
    COUNTED       as many bytes as Content-Length says
    UNTIL_CLOSE   until the connection closes, as in HTTP/1.0

RFC 9112 sections 6 and 7. Chunks are framed here: they do not change the state of a `Framing`.
"""

from __future__ import annotations

from typing import Protocol

import trio

from ..http.exchange import BROKEN, ENDED, Frame, TryWrite, as_it_is, refuse
from ..http.fields import Fields
from ..tcp.parts import as_bytes
from ..tcp.transport import Transport
from .framing import CHUNKED, COUNTED, Framing, chunk


class Owner(Protocol):
    """The exchange that a body belongs to."""

    def check_not_over(self) -> None:
        """Raise `RuntimeError` once the connection carries another exchange."""


class Http1Body:
    """A `Body` over HTTP/1.x."""

    __slots__ = ("_framing", "_owner", "_transport", "frame")

    frame: Frame

    def __init__(self, transport: Transport, framing: Framing, owner: Owner) -> None:
        chunked = framing.body_length is CHUNKED
        self.frame = chunk if chunked else as_it_is
        self._transport = transport
        self._framing = framing
        self._owner = owner

    @property
    def try_write(self) -> TryWrite:
        """The transport's, except where the bytes have to be counted."""
        counted = self._framing.body_length is COUNTED
        if counted or self._framing.progress is ENDED:
            return refuse
        return self._transport.try_write

    @property
    def sending(self) -> bool:
        return self._transport.sending

    async def send(self, *parts: bytes) -> None:
        self._check_open()
        # Stop here if cancelled: what has been framed must be sent.
        await trio.lowlevel.checkpoint_if_cancelled()
        size = 0
        for part in parts:
            if type(part) is not bytes:
                await self.send(*(as_bytes(part, "a piece of a body is bytes") for part in parts))
                return
            size += len(part)
        if not size:  # an empty chunk would be the last chunk
            await self.send_framed(b"")
        elif self._framing.body_length is CHUNKED:
            await self._transport.send(b"%x\r\n" % size, *parts, b"\r\n")
        else:
            await send_committed(self._transport, *self._framing.pieces(parts))

    async def send_framed(self, framed: bytes) -> None:
        self._owner.check_not_over()
        if framed:
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._transport.send(framed)
        elif self._transport.sending:
            await self._transport.send()
        else:
            await trio.lowlevel.checkpoint()

    async def end(self, trailers: Fields = ()) -> None:
        self._check_open()
        await trio.lowlevel.checkpoint_if_cancelled()
        chunked = self._framing.body_length is CHUNKED
        end = self._framing.end(trailers if chunked else ())
        await send_committed(self._transport, end)

    def _check_open(self) -> None:
        self._owner.check_not_over()
        if self._framing.progress is ENDED:
            raise RuntimeError("the response has ended; nothing more can be sent")
        if self._framing.progress is BROKEN:
            raise ValueError("the body did not fit its length; nothing more can be sent")


async def send_committed(transport: Transport, *parts: bytes) -> None:
    """Send what a `Framing` has made, which counts it as sent. If it is cancelled, even before its
    first byte is sent, nothing but closing may follow."""
    sent = False
    try:
        await transport.send(*parts)
        sent = True
    finally:
        if not sent:
            transport.tear()
