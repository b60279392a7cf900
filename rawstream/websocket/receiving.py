"""The receiving half of a WebSocket: who reads, and when.

A handler that waits for a message reads by itself, under the read lock; that saves one switch of
tasks a message. When it has been busy with something else for a moment, the pump reads instead, so
that pings are answered and a Close is noticed. Nobody waits for it: the watch over all connections
calls the pump when bytes have arrived. Where it cannot, as over TLS, the pump is a task.

The pump stops when the inbox is full (`Limits.message_queue`), and TCP then slows the client down.
Control frames are handled where they are read, without waiting.
"""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from typing import TypeVar

import trio
from wsproto.events import CloseConnection, Ping

from ..errors import BrokenStream, WebSocketClosed
from ..http.exchange import ByteStream, Exchange
from ..stderr import logger
from .inbox import Inbox
from .machine import FrameMachine
from .reader import FrameReader
from .writer import FrameWriter

Self = TypeVar("Self")

ABNORMAL = 1006
"""The close code of a connection that ended without a Close (RFC 6455 section 7.4.1)."""

YIELD_EVERY_FRAMES = 64
"""Frames of one read after which other tasks may run: a frame may be as small as two bytes."""


class Acted(Enum):
    """How far the frames that have arrived were handled."""

    NOTHING = "there was no frame"
    ENOUGH = "all frames, or as far as was asked for"
    PAUSED = "other tasks should run before the rest"


NOTHING, ENOUGH, PAUSED = Acted  # by these names they are found faster


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
        self._drops = False  # messages are dropped, because the handler asks for none
        self._waiting: trio.CancelScope | None = None  # around the wait for bytes
        self._will_look = False  # whether the handler is away is going to be looked at
        self._is_told = False  # of bytes, by the watch; nobody is receiving
        self._goes_on = False  # `_on_bytes` is going to be called once more
        self._pump: trio.CancelScope | None = None  # around its task, while there is one
        self._pump_ended: trio.Event | None = None  # of that task
        self._has_stopped = False  # the handler's block has ended
        self._receivers = 0  # tasks of the handler that wait for a message
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
        self._receives = True
        self._receivers += 1
        if self._is_told:
            self._is_told = False
            self._exchange.tell_of_bytes(None)
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
            self._receivers -= 1
            self._look_soon()

    def drop_messages(self) -> None:
        """From now on, drop messages instead of keeping them for `receive`. Pings are answered all
        the same, and a client that leaves cancels the handler at once."""
        self._drops = True
        self._inbox.clear()
        self._look()

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
            if self._reader.is_over:
                return None
            if self._inbox.messages and for_handler:
                return None
            if self._reader.has_more and await self._act_on(for_handler=for_handler):
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
                if data is None:
                    return None  # interrupted by `close`
            self._take_in(data)
            if for_handler and (message := self._reader.take_message()) is not None:
                return message
            await self._act_on(for_handler=for_handler)
            return None
        finally:
            self._reading = False
            self._waiting = None
            if self._readers:
                self._readers.unpark()

    def _take_in(self, data: bytes) -> None:
        self._awaiting_pong = False  # any bytes show that the peer is there
        self._reader.feed(data)

    async def _act_on(self, *, for_handler: bool) -> bool:
        """Handle the frames that have arrived, as far as there is room for messages. Return whether
        there was one."""
        while (acted := self._act(for_handler=for_handler)) is PAUSED:
            await trio.lowlevel.checkpoint()
        return acted is ENOUGH

    def _act(self, *, for_handler: bool) -> Acted:
        """`_act_on` up to where other tasks should run."""
        count = 0
        for received in self._reader.take():
            count += 1
            if isinstance(received, str | bytes):
                if not (self._closing or self._drops):
                    self._inbox.add(received)
                if for_handler or self._receivers or self._inbox.is_full:
                    break
            elif isinstance(received, Ping):
                self._answer_ping(received)
            elif isinstance(received, CloseConnection):
                self._take_close(received)
                break
            if count % YIELD_EVERY_FRAMES == 0 or (self._deflating and received is None):
                return PAUSED
        return ENOUGH if count else NOTHING

    def _answer_ping(self, ping: Ping) -> None:
        if self._closing:
            return  # no pong after a Close (RFC 6455 section 5.5.2)
        if not self.writer.answer_ping(ping):
            self._exchange.keep_alive.start_soon(self._send_pong)

    async def _send_pong(self) -> None:
        with suppress(WebSocketClosed, BrokenStream):  # reading goes on all the same
            await self.writer.send_pong()

    # -- The pump

    def _look_soon(self) -> None:
        """The handler has just stopped receiving. Look in a moment whether it still has."""
        if not self._will_look:
            self._will_look = True
            self._exchange.keep_alive.after_a_moment(self._look)

    def _look(self) -> None:
        """Have the pump read, unless the handler is receiving."""
        self._will_look = False
        if self._receivers or self._has_stopped or self._pump is not None:
            return
        self._is_told = self._is_told or self._exchange.tell_of_bytes(self._on_bytes)
        if not self._is_told:
            self._exchange.keep_alive.start_soon(self._read_while_away)
        elif self._reader.has_more or self._stream.has_unread:
            self._on_bytes()

    @property
    def _is_read(self) -> bool:
        """Whether what arrives now is read at once."""
        return (self._waiting is not None or self._is_told) and not self._inbox.is_full

    @property
    def _is_away(self) -> bool:
        """Whether the pump should read."""
        return not (self._receivers or self._reader.is_over or self._inbox.is_full)

    def _on_bytes(self) -> None:
        """Be the pump for one read. The watch calls this when bytes have arrived."""
        if self._goes_on or not self._is_told or self._reading or not self._is_away:
            return
        try:
            if not self._reader.has_more or self._act(for_handler=False) is NOTHING:
                data = self._stream.receive_nowait()
                if data is None:
                    return  # until the next bytes arrive
                self._take_in(data)
                self._act(for_handler=False)
        except Exception:
            logger.exception("reading a WebSocket failed")
        else:
            # Other tasks run before the rest is read.
            self._goes_on = True
            trio.lowlevel.current_trio_token().run_sync_soon(self._go_on)

    def _go_on(self) -> None:
        self._goes_on = False
        self._on_bytes()

    async def _read_while_away(self) -> None:
        """Read until the handler receives again, the inbox is full, or the WebSocket is closed."""
        if self._has_stopped or self._pump is not None:
            return
        self._pump_ended = ended = trio.Event()
        try:
            with trio.CancelScope() as self._pump:
                while self._is_away:
                    await self._read_once(for_handler=False)
        finally:
            self._pump = None
            ended.set()

    async def _stop_pump(self) -> None:
        """End the pump, so that another task can read from the stream."""
        self._has_stopped = True
        if self._is_told:
            self._is_told = False
            self._exchange.tell_of_bytes(None)
        pump, ended = self._pump, self._pump_ended
        if pump is not None and ended is not None:
            pump.cancel()
            with trio.CancelScope(shield=True) as ending:  # it takes one pass of the scheduler
                ending.deadline = trio.current_time() + self._limits.close_seconds
                await ended.wait()

    async def _until_closed(self) -> None:
        """Wait until nothing more is received and sent."""
        if self.close_code is None:
            if self._closed is None:
                self._closed = trio.Event()
            await self._closed.wait()

    def _take_close(self, event: CloseConnection) -> None:
        """Handle a Close, the end of input, or bytes that wsproto rejects."""
        raise NotImplementedError
