"""WebSocket: messages both ways on one connection (RFC 6455), compressed if asked (RFC 7692).

wsproto knows the rules of frames. reader.py finds frames in the bytes that arrive, writer.py makes
the bytes that leave. This file decides which task reads, sends pings, and orders the closing.

Only the holder of the read lock reads. A handler that waits for a message takes the lock, takes
the next message or reads, and releases the lock; that saves one switch of tasks a message. When
the handler has been busy with something else for a while, another task, the pump, does the same, so
that pings are answered and a Close is noticed. The pump stops while the inbox is full
(`Limits.message_queue`), and TCP then slows the client down. Control frames are handled where
they are read, without waiting.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager, suppress

import trio
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Ping
from wsproto.extensions import PerMessageDeflate

from ..errors import BrokenStream, WebSocketClosed
from ..http.exchange import ByteStream
from ..http.lifetime import Ended
from ..http.request import Request
from .inbox import Inbox
from .reader import FrameReader
from .writer import FrameWriter, MessageStream

NORMAL, GOING_AWAY, NO_STATUS, ABNORMAL, INTERNAL_ERROR, TRY_AGAIN_LATER = (
    1000, 1001, 1005, 1006, 1011, 1013,
)  # fmt: skip
"""Close codes, RFC 6455 section 7.4.1."""

YIELD_EVERY_FRAMES = 64
"""Frames of one read after which other tasks may run: a frame may be as small as two bytes."""

AWAY_SECONDS = 0.25
"""When a handler has not asked for a message for this long, the pump reads instead."""


class WebSocket:
    """A WebSocket connection, made by `open_websocket`. `async for message in ws` receives messages
    until it is closed. Any number of tasks may send, and several may receive, one after the other.
    """

    subprotocol: str | None
    """The subprotocol that was chosen, if any."""
    close_code: int | None
    """None while open. Then the peer's close code: 1005 if its Close had none, 1006 if the
    connection ended without a Close; or ours, if we ended it because of a mistake (1002, 1007,
    1009)."""
    close_reason: str
    """The peer's reason, "" if there was none."""

    def __init__(
        self,
        request: Request,
        stream: ByteStream,
        subprotocol: str | None,
        deflate: PerMessageDeflate | None,
    ) -> None:
        self.subprotocol = subprotocol
        self.close_code = None
        self.close_reason = ""
        self._exchange = request.exchange
        self._limits = request.exchange.limits
        self._stream = stream
        self._wsproto = Connection(ConnectionType.SERVER, [deflate] if deflate else [])
        deflating = deflate is not None
        self._deflating = deflating
        self._reader = FrameReader(
            self._wsproto,
            self._limits.message_bytes,
            deflating=deflating,
            shortcuts=stream.shortcuts,
        )
        # Also sends frames that have been encoded already, for channels.
        self.writer = FrameWriter(stream, self._wsproto, deflating=deflating)
        # Reading:
        self._reading = False  # a task holds the read lock
        self._readers: trio.lowlevel.ParkingLot | None = None  # tasks that wait for the lock
        self._inbox = Inbox(self._limits)  # messages that the pump has read
        self._waiting: trio.CancelScope | None = None  # around the wait for bytes
        self._away = _Away(self)
        self._pump: trio.CancelScope | None = None  # around its task
        self._in_receive = False  # the handler is waiting for a message
        self._receives = False  # the handler has asked for messages
        self._taken = 0  # messages that the handler has taken
        # Closing:
        self._closing = False  # we have sent the first Close
        self._closed: trio.Event | None = None  # for tasks that wait until all is over
        # Pings:
        self._pings = _Pings(self, self._limits.ping_seconds)
        self._awaiting_pong = False

    def _start(self) -> None:
        """The handler's block begins."""
        self._exchange.on_drain(self._farewell)
        self._stream.on_left_over = self._flush_soon
        self._away.start()
        self._exchange.keep_alive.add(self._pings)

    def _stop(self) -> None:
        """The handler's block has ended."""
        self._stream.on_left_over = None
        self._pings.active = self._away.active = False
        if self._pump is not None:
            self._pump.cancel()

    def _flush_soon(self) -> None:
        self._exchange.keep_alive.start_soon(self._stream.flush)

    # -- Sending

    def send(self, message: str | bytes) -> Awaitable[None]:
        """Send a message: `str` as text, bytes as binary. It has been handed to the kernel when
        this returns, with one exception: replies to messages that arrived in one read are written
        together before the task next blocks. A reply that has been joined to others is sent even
        if this is cancelled.

        Any number of tasks may send; each waits for its turn, and for a slow reader. Raises
        `WebSocketClosed` once either side has begun to close, and `BrokenStream` after a send that
        was cancelled half way.
        """
        return self.writer.send_message(message, more=self._reader.has_more)

    def open_message(self) -> AbstractAsyncContextManager[MessageStream]:
        """Send one long message in fragments: `async with ws.open_message() as message:`.

        Until the block is left, other messages wait; pings and pongs do not. If an exception leaves
        the block, the message stays unfinished, and only a Close can follow.
        """
        return self.writer.open_message()

    # -- Receiving

    async def receive(self) -> str | bytes:
        """The next message, `str` or bytes. Raises `WebSocketClosed` when there will be no other.
        If this is cancelled, no message is lost."""
        message = self._take_at_once()
        return message if message is not None else await self._receive()

    def __aiter__(self) -> WebSocket:
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
            if self._reader.is_over or (self._inbox.messages and for_handler):
                return None
            if self._reader.has_more and await self._act(for_handler=for_handler):
                return None
            # Other tasks run first. Meanwhile the next bytes of a busy client have often arrived,
            # and then the wait below, which costs as much as everything else here, is not needed.
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

    # -- The pump

    async def _read_while_away(self) -> None:
        """Read until the handler receives again, or the WebSocket is closed."""
        with trio.CancelScope() as self._pump:
            while not (self._reader.is_over or self._in_receive):
                if self._inbox.is_full:
                    await self._inbox.wait_for_room()
                else:
                    await self._read_once(for_handler=False)
        self._pump = None

    # -- Closing

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Send a Close with this code and reason (at most 123 bytes of UTF-8), and wait up to
        `Limits.close_seconds` for the client's. Does nothing if the WebSocket is closed already.
        Messages not yet received are dropped. Raises `ValueError` for a code that may not be sent
        (RFC 6455 section 7.4)."""
        if not (1000 <= code < 1015 or 3000 <= code < 5000) or code in (1004, NO_STATUS, ABNORMAL):
            raise ValueError(f"close code {code} may not be sent")
        self._inbox.clear()
        await self._close_first(code, reason)

    async def _farewell(self) -> None:
        """Close with 1001. The server is stopping; the handler has been cancelled."""
        self._inbox.clear()
        await self._close_first(GOING_AWAY, "the server is stopping")

    async def _close_first(self, code: int, reason: str) -> None:
        """Send our Close and read up to the peer's. If the peer closed first, wait until the
        reply to its Close has been sent (RFC 6455 section 5.5.1)."""
        if self._wsproto.state is ConnectionState.OPEN:
            self._closing = True
            self._reader.close_lane()
            if self._waiting is not None:
                self._waiting.cancel()  # no more messages will be received
            await self.writer.send(CloseConnection(code, reason))
        with trio.move_on_after(self._limits.close_seconds):
            while not self._reader.is_over:
                await self._read_once(for_handler=False)
            await self._until_closed()

    async def _until_closed(self) -> None:
        """Wait until nothing more is received and sent."""
        if self.close_code is None:
            self._closed = self._closed or trio.Event()
            await self._closed.wait()

    def _take_close(self, event: CloseConnection) -> None:
        """Handle a Close, the end of input, or bytes that wsproto rejects."""
        self._reader.is_over = True
        self._reader.close_lane()
        state = self._wsproto.state
        reason = event.reason or ""
        reply: CloseConnection | None = None
        if state is ConnectionState.REMOTE_CLOSING:
            reply = event.response()
        elif state is ConnectionState.OPEN:
            # A malformed frame: fail the connection (RFC 6455 section 7.1.7) with a Close that says
            # why, and do not wait for the peer's.
            reply = CloseConnection(event.code, reason)
        if state not in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            self._stream.peer_is_done = True
        self.writer.ended = int(event.code), reason
        # Reply first, because the end may cancel the handler in the middle of a send.
        if reply is None or self.writer.answer_close(reply):
            self._finish()
        else:
            self._exchange.keep_alive.start_soon(self._send_last)

    async def _send_last(self) -> None:
        try:
            await self.writer.finish()
        finally:
            self._finish()

    def _finish(self) -> None:
        """Record the end, and cancel the handler if the peer began it: after `Limits.leave_seconds`
        if the handler receives messages and so learns of the end, else at once."""
        self.close_code, self.close_reason = self.writer.ended
        if self._closed is not None:
            self._closed.set()
        if not self._closing:
            has_news = self._in_receive or self._inbox.messages
            told = self._receives and (has_news or self.close_code != ABNORMAL)
            self._exchange.cancel(Ended.CLIENT_LEFT, self._limits.leave_seconds if told else 0)


class _Pings:
    """Sends a ping whenever an interval has passed. If no byte has arrived since the last ping, the
    peer has vanished."""

    __slots__ = ("__weakref__", "_ws", "active", "interval", "last_active")

    def __init__(self, ws: WebSocket, interval: float) -> None:
        self._ws = ws
        self.active = True
        self.interval = interval
        self.last_active = trio.current_time()

    async def on_due(self) -> None:
        """Send a ping, or end the connection."""
        ws = self._ws
        if not self.active or ws._wsproto.state is not ConnectionState.OPEN:
            return
        if ws._stream.sending:
            return  # a ping would only wait behind that send, which has a deadline of its own
        if ws._awaiting_pong and not ws._inbox.is_full:
            ws.writer.ended = ws.close_code, ws.close_reason = ABNORMAL, "no pong"
            ws._exchange.cancel(Ended.CLIENT_VANISHED)
            return
        try:
            await ws.writer.send(Ping())
            ws._awaiting_pong = True
        except BrokenStream:
            ws._exchange.cancel(Ended.TORN)
        except WebSocketClosed:
            pass


class _Away:
    """The pump: reads when the handler has been busy with something else for a while."""

    __slots__ = ("__weakref__", "_ws", "active", "interval", "last_active")

    def __init__(self, ws: WebSocket) -> None:
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
