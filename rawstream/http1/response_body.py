"""A response body sent over HTTP/1.x, in each of its framings.

    CHUNKED       size in hexadecimal, CRLF, the data, CRLF; the last chunk has size 0
    COUNTED       as many bytes as Content-Length says
    UNTIL_CLOSE   until the connection closes, as in HTTP/1.0

RFC 9112 sections 6 and 7. Heads and the ends of bodies go through h11, which checks their order.
Chunks are framed by hand: they do not change the state of h11.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

import h11
import trio

from ..http.exchange import Frame, TryWrite, as_it_is, refuse
from ..http.fields import Fields, checked, encoded
from ..tcp.parts import as_bytes
from ..tcp.transport import Transport


class Framing(Enum):
    """How a client finds the end of a body."""

    CHUNKED = "chunked"
    COUNTED = "Content-Length"
    UNTIL_CLOSE = "until close"


def chunk(data: bytes) -> bytes:
    """Frame a piece, not empty, of a chunked body (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Owner(Protocol):
    """The exchange that a body belongs to."""

    def check_not_over(self) -> None:
        """Raise `RuntimeError` once the connection carries another exchange."""


class Http1Body:
    """A `Body` over HTTP/1.x."""

    __slots__ = ("_h11", "_owner", "_transport", "frame", "framing", "has_ended")

    frame: Frame

    def __init__(
        self,
        transport: Transport,
        h11_connection: h11.Connection,
        framing: Framing,
        owner: Owner,
    ) -> None:
        self.framing = framing
        self.frame = chunk if framing is Framing.CHUNKED else as_it_is
        self.has_ended = False
        self._transport = transport
        self._h11 = h11_connection
        self._owner = owner

    @property
    def try_write(self) -> TryWrite:
        """The transport's, except where h11 has to count the bytes."""
        if self.framing is Framing.COUNTED or self.has_ended:
            return refuse
        return self._transport.try_write

    @property
    def sending(self) -> bool:
        return self._transport.sending

    async def send(self, *parts: bytes) -> None:
        self._check_open()
        # Stop here if cancelled: h11 assumes that its output is always sent.
        await trio.lowlevel.checkpoint_if_cancelled()
        size = 0
        for part in parts:
            if type(part) is not bytes:
                await self.send(*(as_bytes(part, "a piece of a body is bytes") for part in parts))
                return
            size += len(part)
        if not size:  # an empty chunk would be the last chunk
            await self.send_framed(b"")
        elif self.framing is Framing.CHUNKED:
            await self._transport.send(b"%x\r\n" % size, *parts, b"\r\n")
        else:
            framed: list[bytes] = []
            for part in parts:
                framed += self._framed(h11.Data(data=part))
            await send_committed(self._transport, *framed)

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
        fields = encoded(checked(trailers)) if self.framing is Framing.CHUNKED else []
        await send_committed(self._transport, *self._framed(h11.EndOfMessage(headers=fields)))
        self.has_ended = True

    def _check_open(self) -> None:
        self._owner.check_not_over()
        if self.has_ended:
            raise RuntimeError("the response has ended; nothing more can be sent")

    def _framed(self, event: h11.Event) -> list[bytes]:
        try:
            return self._h11.send_with_data_passthrough(event) or []
        except h11.LocalProtocolError as error:
            raise ValueError(f"a body that does not fit its length: {error}") from None


async def send_committed(transport: Transport, *parts: bytes) -> None:
    """Send output of h11, which assumes that it is always sent. If it is cancelled, even before
    its first byte is sent, nothing but closing may follow."""
    sent = False
    try:
        await transport.send(*parts)
        sent = True
    finally:
        if not sent:
            transport.tear()
