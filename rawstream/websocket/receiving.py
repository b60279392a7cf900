"""The receiving half of a WebSocket: which task reads, and when.

Only the holder of the read lock reads. A handler that waits for a message takes the lock, takes
the next message or reads, and releases the lock; that saves one switch of tasks a message. When
the handler has been busy with something else for a while, another task, the pump, does the same, so
that pings are answered and a Close is noticed. The pump stops while the inbox is full
(`Limits.message_queue`), and TCP then slows the client down. Control frames are handled where
they are read, without waiting.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar

import trio
from wsproto.events import CloseConnection, Ping

from ..errors import BrokenStream, WebSocketClosed
from ..http.exchange import ByteStream, Exchange
from .inbox import Inbox
from .machine import FrameMachine
from .reader import FrameReader
from .writer import FrameWriter

Self = TypeVar("Self")

ABNORMAL = 1006
"""The close code of a connection that ended without a Close (RFC 6455 section 7.4.1)."""

YIELD_EVERY_FRAMES = 64
"""Frames of one read after which other tasks may run: a frame may be as small as two bytes."""

AWAY_SECONDS = 0.25
"""When a handler has not asked for a message for this long, the pump reads instead."""


class ReceivingHalf:
    """The receiving half of a `WebSocket`."""

    close_code: int | None
    """None while open. Then the peer's close code: 1005 if its Close had none, 1006 if the
    connection ended without a Close; or ours, if we ended it because of a mistake (1002, 1007,
    1009)."""
    close_reason: str
    """The peer's reason, "" if there was none."""

    def __init__(
        self, exchange: Exchange, stream: ByteStream, machine: FrameMachine, *, deflating: bool
    ) -> None:
        self.close_code = None
        self.close_reason = ""
        self._exchange = exchange
        self._limits = exchange.limits
        self._stream = stream
        self._machine = machine
        self._deflating = deflating
        self._reader = FrameReader(
            machine,
            self._limits.message_bytes,
            deflating=deflating,
            shortcuts=stream.shortcuts,
        )
        # Also sends frames that have been encoded already, for channels.
        self.writer = FrameWriter(stream, machine, deflating=deflating)
        self._reading = False  # a task holds the read lock
        self._readers: trio.lowlevel.ParkingLot | None = None  # tasks that wait for the lock
        self._inbox = Inbox(self._limits)  # messages that the pump has read
        self._waiting: trio.CancelScope | None = None  # around the wait for bytes
        self._away = _Away(self)
        self._pump: trio.CancelScope | None = None  # around its task, while there is one
        self._pump_ended: trio.Event | None = None  # of that task
        self._has_stopped = False  # the handler's block has ended
        self._in_receive = False  # the handler is waiting for a message
        self._is_interrupted = False  # and is to stop that
        self._receives = False  # the handler has asked for messages
        self._taken = 0  # messages that the handler has taken
        self._awaiting_pong = False
        self._closing = False  # we have sent the first Close
        self._closed: trio.Event | None = None  # for tasks that wait until all is over

    async def receive(self) -> str | bytes:
        """The next message, `str` or bytes. Raises `WebSocketClosed` when there will be no other.
        If this is cancelled, no message is lost."""
        message = self._take_at_once()
        return message if message is not None else await self._receive()

    def __aiter__(self: Self) -> Self:
        return self

    async def __anext__(self) -> str | bytes:
        """The next message; the iteration ends when the WebSocket is closed."""
        message = self._take_at_once()  # repeated from `receive`: this saves a coroutine
        if message is not None:
            return message
        try:
            return await self._receive()
        except WebSocketClosed:
            raise StopAsyncIteration from None

    def _take_at_once(self) -> str | bytes | None:
        """A message that has arrived already. None if there is none, or if other tasks should run
        first."""
        if self._inbox.messages:
            return None
        self._taken += 1
        return self._reader.take_message() if self._taken % YIELD_EVERY_FRAMES else None

    async def _receive(self) -> str | bytes:
        self._receives = self._in_receive = True
        try:
            if self._inbox.messages or self._taken % YIELD_EVERY_FRAMES == 0:
                await trio.lowlevel.checkpoint()
            while True:
                if self._inbox.messages and not self._closing:
                    return self._inbox.take()
                if self.close_code is not None or self._closing:
                    raise WebSocketClosed(self.close_code or ABNORMAL, self.close_reason)
                if self._reader.is_over:  # the reply to the Close is being sent
                    await self._until_closed()
                elif (message := await self._read_once(for_handler=True)) is not None:
                    return message
        finally:
            self._in_receive = False
            if not self._away.active:
                self._away.start()

    async def discard(self) -> None:
        """Receive messages and drop them, until `interrupt` is called or the WebSocket is
        closed."""
        self._receives = self._in_receive = True
        try:
            while not (self._is_interrupted or self._reader.is_over):
                await self._read_once(for_handler=False)
                self._inbox.clear()
            if self._reader.is_over:
                await self._until_closed()
        finally:
            self._in_receive = self._is_interrupted = False
            if not self._away.active:
                self._away.start()

    def interrupt(self) -> None:
        """End a `discard` under way."""
        self._is_interrupted = self._in_receive
        if self._is_interrupted and self._waiting is not None:
            self._waiting.cancel()

    async def _read_once(self, *, for_handler: bool) -> str | bytes | None:
        """Handle the frames that have arrived; if there are none, read. Return a message for the
        handler, or None if there is none or it is in the inbox.

        For the handler this stops at the first message. Its reply must be sent before the next
        frame is looked at, which may be a Close or malformed.
        """
        while self._reading:
            if self._readers is None:
                self._readers = trio.lowlevel.ParkingLot()
            await self._readers.park()
        self._reading = True
        try:
            if self._reader.is_over or self._is_interrupted:
                return None
            if self._inbox.messages and for_handler:
                return None
            if self._reader.has_more and await self._act(for_handler=for_handler):
                return None
            data = None
            if for_handler:
                # Other tasks run first. Meanwhile the next bytes of a busy client have often
                # arrived, and then the wait below is not needed, which costs as much as all else.
                await trio.lowlevel.checkpoint()
                data = self._stream.receive_nowait()
            if data is None:
                with trio.CancelScope() as self._waiting:
                    data = await self._stream.receive_later()
                self._waiting = None
                if data is None:
                    return None  # interrupted by `close`
            self._awaiting_pong = False  # any bytes show that the peer is there
            self._reader.feed(data)
            if for_handler and (message := self._reader.take_message()) is not None:
                return message
            await self._act(for_handler=for_handler)
            return None
        finally:
            self._reading = False
            if self._readers:
                self._readers.unpark()

    async def _act(self, *, for_handler: bool) -> bool:
        """Handle the frames that have arrived, as far as there is room for messages. Return whether
        there was a complete frame."""
        count = 0
        for received in self._reader.take():
            count += 1
            if isinstance(received, str | bytes):
                if not self._closing:
                    self._inbox.add(received)
                if for_handler or self._in_receive or self._inbox.is_full:
                    break
            elif isinstance(received, Ping):
                self._answer_ping(received)
            elif isinstance(received, CloseConnection):
                self._take_close(received)
                break
            if count % YIELD_EVERY_FRAMES == 0 or (self._deflating and received is None):
                await trio.lowlevel.checkpoint()
        return count > 0

    def _answer_ping(self, ping: Ping) -> None:
        if self._closing:
            return  # no pong after a Close (RFC 6455 section 5.5.2)
        if not self.writer.answer_ping(ping):
            self._exchange.keep_alive.start_soon(self._send_pong)

    async def _send_pong(self) -> None:
        with suppress(WebSocketClosed, BrokenStream):  # reading goes on all the same
            await self.writer.send_pong()

    async def _read_while_away(self) -> None:
        """Read until the handler receives again, or the WebSocket is closed."""
        if self._has_stopped:
            return
        self._pump_ended = ended = trio.Event()
        try:
            with trio.CancelScope() as self._pump:
                while not (self._reader.is_over or self._in_receive):
                    if self._inbox.is_full:
                        await self._inbox.wait_for_room()
                    else:
                        await self._read_once(for_handler=False)
        finally:
            self._pump = None
            ended.set()

    async def _stop_pump(self) -> None:
        """End the pump, if there is one, so that another task can read from the stream."""
        self._has_stopped = True
        pump, ended = self._pump, self._pump_ended
        if pump is not None and ended is not None:
            pump.cancel()
            with trio.CancelScope(shield=True) as ending:  # it takes one pass of the scheduler
                ending.deadline = trio.current_time() + self._limits.close_seconds
                await ended.wait()

    async def _until_closed(self) -> None:
        """Wait until nothing more is received and sent."""
        if self.close_code is None:
            self._closed = self._closed or trio.Event()
            await self._closed.wait()

    def _take_close(self, event: CloseConnection) -> None:
        """Handle a Close, the end of input, or bytes that wsproto rejects."""
        raise NotImplementedError


class _Away:
    """The pump: reads when the handler has been busy with something else for a while."""

    __slots__ = ("__weakref__", "_ws", "active", "interval", "last_active")

    def __init__(self, ws: ReceivingHalf) -> None:
        self._ws = ws
        self.interval = AWAY_SECONDS
        self.last_active = 0.0
        self.active = False

    def start(self) -> None:
        """The handler has just stopped receiving."""
        self.last_active = trio.current_time()
        self.active = True
        self._ws._exchange.keep_alive.add(self)

    def on_due(self) -> Awaitable[None] | None:
        """Be the pump, unless the handler is receiving again. Called once a `start`."""
        self.active = not self._ws._in_receive
        return self._read() if self.active else None

    async def _read(self) -> None:
        await self._ws._read_while_away()
        self.active = False
