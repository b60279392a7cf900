"""A response body over HTTP/2: its pieces become DATA frames.

    b"hello"  ->  00 00 05 | 00 | 00 | 00 00 00 01 | hello
                  length     DATA      stream 1

RFC 9113 section 6.1. A piece needs no framing of its own, so readers of a channel share its bytes.
It waits for two things: the window that the client has opened (section 5.2), and the socket.
"""

from __future__ import annotations

from typing import Protocol

import trio

from ..errors import BrokenStream, ClientGone
from ..http.exchange import BROKEN, ENDED, Frame, Progress, TryWrite, as_it_is, refuse
from ..http.fields import Fields
from ..http.lifetime import Ended
from ..limits import Limits
from ..tcp.keepalive import SECOND_LOOK, is_late
from ..tcp.parts import as_bytes
from .link import Link
from .response_head import made_fields


class Owner(Protocol):
    """The exchange that a body belongs to."""

    link: Link
    stream: int
    limits: Limits
    progress: Progress
    bytes_sent: int

    @property
    def is_lost(self) -> bool:
        """Whether nothing more is sent to the client."""

    @property
    def is_writable(self) -> bool:
        """Whether DATA may be sent."""

    def check_open(self) -> None:
        """Raise an exception if the body can take nothing more."""

    def lose(self, reason: Ended) -> None:
        """The client has left, or reads no more."""

    def on_sent(self) -> None:
        """A send that had to wait has ended."""


class Http2Body:
    """A `Body` over HTTP/2."""

    __slots__ = ("_exchange", "_left", "_turn")

    frame: Frame = staticmethod(as_it_is)

    def __init__(self, exchange: Owner, length: int | None) -> None:
        self._exchange = exchange
        self._left = length  # how much of a declared length is still to be sent
        self._turn: trio.Lock | None = None  # created when a send first has to wait

    @property
    def try_write(self) -> TryWrite:
        """Where the bytes have to be counted, nothing is written without waiting."""
        return refuse if self._left is not None else self._try_write

    def _try_write(self, data: bytes) -> int:
        if not self._fits(data):
            return 0
        self._put(data, last=False)
        return len(data)

    @property
    def sending(self) -> bool:
        return self._turn is not None and self._turn.locked()

    async def send(self, *parts: bytes) -> None:
        self._exchange.check_open()
        data = b"".join(as_bytes(part, "a piece of a body is bytes") for part in parts)
        if self._left is not None and len(data) > self._left:
            self._exchange.progress = BROKEN
            raise ValueError("the body is longer than its Content-Length")
        await self.send_framed(data)

    async def send_framed(self, framed: bytes) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if framed:
            await self.put(framed)
        elif self._turn is not None and self._turn.locked():
            async with self._turn:
                pass
        else:
            await trio.lowlevel.checkpoint()

    async def end(self, trailers: Fields = ()) -> None:
        exchange = self._exchange
        exchange.check_open()
        fields = made_fields(trailers)
        if self._left:
            exchange.progress = BROKEN
            raise ValueError("the body is shorter than its Content-Length")
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._turn is not None:
            async with self._turn:
                pass
        await self._check_alive()
        if fields:
            exchange.link.machine.send_headers(exchange.stream, fields, end_stream=True)
        else:
            exchange.link.machine.end_stream(exchange.stream)
        exchange.progress = ENDED
        exchange.link.write()

    async def put(self, data: bytes, *, last: bool = False) -> None:
        """Send bytes, not empty, as one piece that no other send can interrupt; `last`: they end
        the body. Cancelled before its first byte is sent, this has no effect; cancelled later, it
        breaks the body off."""
        if self._fits(data):
            self._put(data, last=last)
            return
        self._exchange.link.write()  # the head goes out, however long this waits
        if self._turn is None:
            self._turn = trio.Lock()
        try:
            async with self._turn:
                await self._put_in_turn(data, last=last)
        finally:
            self._exchange.on_sent()

    async def _put_in_turn(self, data: bytes, *, last: bool) -> None:
        rest = memoryview(data)
        try:
            while rest:
                size = min(len(rest), await self._wait_for_room())
                whole = size == len(rest)
                self._put(bytes(rest[:size]), last=last and whole, whole=whole)
                rest = rest[size:]
                if rest:  # the other streams have their turns
                    await trio.lowlevel.cancel_shielded_checkpoint()
        finally:
            if rest and len(rest) < len(data) and self._exchange.progress is not ENDED:
                self._exchange.progress = BROKEN

    def _fits(self, data: bytes) -> bool:
        """Whether bytes can be sent at once, as one frame."""
        exchange = self._exchange
        link = exchange.link
        waits = link.blocked_by is not None or self.sending
        return exchange.is_writable and not waits and len(data) <= link.room(exchange.stream)

    def _put(self, data: bytes, *, last: bool, whole: bool = True) -> None:
        exchange = self._exchange
        exchange.link.send_data(exchange.stream, data, last=last, whole=whole)
        exchange.bytes_sent += len(data)
        if self._left is not None:
            self._left -= len(data)
        if last:
            exchange.progress = ENDED
        exchange.link.write()

    async def _wait_for_room(self) -> int:
        """Wait until the windows and the socket have room; return how much."""
        link, stream = self._exchange.link, self._exchange.stream
        while True:
            await self._check_alive()
            if (flushed := link.blocked_by) is not None:
                await flushed.wait()
            elif room := max(0, link.room(stream)):
                return room
            else:
                await self._wait_for_window()

    async def _wait_for_window(self) -> None:
        exchange = self._exchange
        with trio.move_on_after(exchange.limits.window_seconds) as waiting:
            await exchange.link.wait_for_window(exchange.stream)
            return
        if is_late(waiting.deadline):
            with trio.move_on_after(SECOND_LOOK):
                await exchange.link.wait_for_window(exchange.stream)
                return
        exchange.lose(Ended.CLIENT_STOPPED_READING)

    async def _check_alive(self) -> None:
        """Raise `ClientGone`, or `BrokenStream`, if nothing more can be sent."""
        exchange = self._exchange
        if exchange.is_lost:
            await trio.lowlevel.checkpoint()  # the handler has been cancelled
            raise ClientGone
        if exchange.progress is BROKEN:
            raise BrokenStream
