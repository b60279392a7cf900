"""WebSocket: messages both ways on one connection (RFC 6455), compressed if asked (RFC 7692).

wsproto knows the rules of frames. reader.py finds them in what comes, writer.py makes what goes.
Here is who reads when, pings, and the order of things at the end.

Who reads? Whoever holds the read lock. A handler that needs a message takes the lock, takes what
comes next or reads, and lets go: that saves a switch of tasks a message. While the handler is busy
with something else, a task of the WebSocket, the pump, does the same, so that pings are answered
and a Close is seen. It stops when the inbox is full (`Limits.message_queue`), and TCP then slows
the client. Control frames are acted on where they are read, and never wait.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager, suppress

import trio
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Ping
from wsproto.extensions import PerMessageDeflate

from ..errors import BrokenStream, WebSocketClosed
from ..http.exchange import ByteStream, Frame, TryWrite, as_it_is
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
"""Frames of one read after which the other tasks have their turn: a frame may have no payload."""

AWAY_SECONDS = 0.25
"""How long nobody reads when the handler is busy with something else; then the pump does."""


class WebSocket:
    """A WebSocket connection. Made by `open_websocket`; any task may send, one may receive."""

    subprotocol: str | None
    """The one chosen, if any."""
    close_code: int | None
    """None while open; then the peer's close code, 1005 if it gave none, 1006 if it left without
    a word, or ours if we had to end it (1002, 1007, 1009)."""
    close_reason: str

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
        self._writer = FrameWriter(stream, self._wsproto, deflating=deflating)
        self._nursery: trio.Nursery | None = None
        # Reading:
        self._reading = False  # somebody holds the read lock
        self._readers = trio.lowlevel.ParkingLot()  # who waits for it
        self._queue = 0  # how many do
        self._inbox = Inbox(self._limits)  # what the pump has read
        self._waiting: trio.CancelScope | None = None  # for bytes
        self._pump_wanted = trio.Event()
        self._pump_wanted.set()  # until the handler receives
        self._watch = _Watch(self)
        self._in_receive = False  # the handler needs a message at this moment
        self._receives = False  # it has asked for messages
        self._taken = 0  # messages, by the handler
        # Closing:
        self._closing = False  # we have sent the first Close
        self._closed = trio.Event()  # nothing more will come
        # Pings:
        self.active = True
        self.interval = self._limits.ping_seconds
        self.last_active = trio.current_time()
        self._awaiting_pong = False
        # As a sink of shared frames:
        self.frame: Frame = as_it_is
        self.try_write: TryWrite = stream.try_write

    def run_in(self, nursery: trio.Nursery | None) -> None:
        """Have tasks of its own run there; None: it is about to close."""
        self._nursery = nursery
        self._stream.on_left_over = None
        if nursery is not None:
            self._stream.on_left_over = self._flush_soon
            nursery.start_soon(self._pump)

    def _flush_soon(self) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._stream.flush)

    # -- Sending

    def send(self, message: str | bytes) -> Awaitable[None]:
        """Send a message: `str` as text, bytes as binary; it is with the kernel when this returns.
        An answer to one of several messages that came together goes out with the answers to the
        others, before its task waits for anything; once it is joined to them, cancelling takes it
        back no more.

        Any number of tasks may send; each waits for its turn, and for a slow reader. Raises
        `WebSocketClosed` once the closing has begun on either side.
        """
        return self._writer.send_message(message, more=self._reader.has_more)

    def open_message(self) -> AbstractAsyncContextManager[MessageStream]:
        """Send one long message in fragments: `async with ws.open_message() as message:`.

        Other messages wait until the block is left, pings and pongs do not. Left by an
        exception, the message has no end, and nothing but a Close can follow.
        """
        return self._writer.open_message()

    def send_framed(self, framed: bytes) -> Awaitable[None]:
        """Send whole messages that are frames already, made by `frames.data_frame`, as `send` does.
        Not on a WebSocket with compression."""
        return self._writer.send_frames(framed)

    # -- Receiving

    async def receive(self) -> str | bytes:
        """The next message. Raises `WebSocketClosed` when there will be none; cancelled, it has
        taken none."""
        message = self._take_at_once()
        return message if message is not None else await self._receive()

    def __aiter__(self) -> WebSocket:
        return self

    async def __anext__(self) -> str | bytes:
        """The next message; the iteration ends when the WebSocket is closed."""
        message = self._take_at_once()  # also here, for it spares a coroutine
        if message is not None:
            return message
        try:
            return await self._receive()
        except WebSocketClosed:
            raise StopAsyncIteration from None

    def _take_at_once(self) -> str | bytes | None:
        """A message that is here already, unless it is time for the other tasks."""
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
                if self._reader.is_over:  # the answer to a Close is on its way
                    await self._closed.wait()
                elif (message := await self._read_once(for_handler=True)) is not None:
                    return message
        finally:
            self._in_receive = False
            if not self._watch.active:
                self._watch.start()

    async def _read_once(self, *, for_handler: bool) -> str | bytes | None:
        """Act on what has come, or if there is nothing, read. For the handler it stops at the first
        message: an answer to that is to go out before anything behind it is looked at, which may be
        a Close or a broken frame. The message, unless it is in the inbox."""
        while self._reading:
            self._queue += 1
            try:
                await self._readers.park()
            finally:
                self._queue -= 1
        self._reading = True
        try:
            if self._reader.is_over or (self._inbox.messages and for_handler):
                return None
            if self._reader.has_more and await self._act(for_handler=for_handler):
                return None
            # First the others: by the time they have had their turn a busy client's next bytes are
            # often here, and a wait that can be interrupted costs as much as all the rest.
            await trio.lowlevel.checkpoint()
            data = self._stream.receive_nowait()
            if data is None:
                with trio.CancelScope() as self._waiting:
                    data = await self._stream.receive_later()
                self._waiting = None
                if data is None:
                    return None  # a `close` has interrupted
            self._awaiting_pong = False  # whatever came, somebody is there
            self._reader.feed(data)
            if for_handler and (message := self._reader.take_message()) is not None:
                return message
            await self._act(for_handler=for_handler)
            return None
        finally:
            self._reading = False
            if self._queue:
                self._readers.unpark()

    async def _act(self, *, for_handler: bool) -> bool:
        """Act on all that has come, as far as there is room for it; whether there was anything but
        the beginning of a frame."""
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
            return  # RFC 6455 section 5.5.2: not after a Close
        if not self._writer.answer_ping(ping) and self._nursery is not None:
            self._nursery.start_soon(self._send_pong)

    async def _send_pong(self) -> None:
        with suppress(WebSocketClosed, BrokenStream):  # what comes is still to be read
            await self._writer.send_pong()

    # -- The pump

    async def _pump(self) -> None:
        """Read while the handler does not, until the end."""
        while not self._reader.is_over:
            await self._pump_wanted.wait()
            if self._in_receive:
                self._pump_wanted = trio.Event()
            elif self._inbox.is_full:
                await self._inbox.wait_for_room()
            else:
                await self._read_once(for_handler=False)

    # -- Closing

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close, unless it is closed: send Close with this code and reason (at most 123 bytes of
        UTF-8), and wait `Limits.close_seconds` for the client's. Messages not yet received are
        dropped. Raises `ValueError` for a code that may not be sent (RFC 6455 section 7.4)."""
        if not (1000 <= code < 1015 or 3000 <= code < 5000) or code in (1004, NO_STATUS, ABNORMAL):
            raise ValueError(f"close code {code} may not be sent")
        self._inbox.clear()
        await self._close_first(code, reason)

    async def farewell(self) -> None:
        """The server stops. The handler has been cancelled, and the pump with it."""
        self._inbox.clear()
        await self._close_first(GOING_AWAY, "the server is stopping")

    async def _close_first(self, code: int, reason: str) -> None:
        """Send the first Close, and read on to theirs. If theirs came first its answer is on its
        way (RFC 6455 section 5.5.1), and is waited for."""
        if self._wsproto.state is ConnectionState.OPEN:
            self._closing = True
            self._reader.close_lane()
            if self._waiting is not None:
                self._waiting.cancel()  # no message will be received any more
            await self._writer.send(CloseConnection(code, reason))
        with trio.move_on_after(self._limits.close_seconds):
            while not self._reader.is_over:
                await self._read_once(for_handler=False)
            if self._nursery is not None:
                await self._closed.wait()

    def _take_close(self, event: CloseConnection) -> None:
        """A Close, the end of input, or bytes that wsproto refuses."""
        self._reader.is_over = True
        self._reader.close_lane()
        state = self._wsproto.state
        reason = event.reason or ""
        reply: CloseConnection | None = None
        if state is ConnectionState.REMOTE_CLOSING:
            reply = event.response()
        elif state is ConnectionState.OPEN:
            # Broken frames, and no Close came: fail the connection (RFC 6455 section 7.1.7), say
            # why, and do not wait for an answer.
            reply = CloseConnection(event.code, reason)
        if state not in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            self._stream.peer_is_done = True
        self._writer.ended = int(event.code), reason
        # The reply first: a handler that is told may be cancelled in the middle of its sends.
        if reply is None or self._nursery is None or self._writer.answer_close(reply):
            self._finish()
        else:
            self._nursery.start_soon(self._send_last)

    async def _send_last(self) -> None:
        try:
            await self._writer.finish()
        finally:
            self._finish()

    def _finish(self) -> None:
        """It is over. A handler that listens is told and has a moment to finish, any other is
        cancelled; one that began the closing knows already."""
        self.close_code, self.close_reason = self._writer.ended
        self._closed.set()
        if not self._closing:
            has_news = self._in_receive or self._inbox.messages
            told = self._receives and (has_news or self.close_code != ABNORMAL)
            self._exchange.cancel(Ended.CLIENT_LEFT, self._limits.leave_seconds if told else 0)

    # -- Pings

    async def on_due(self) -> None:
        """Ping; a ping that the last interval has left unanswered ends the connection."""
        if not self.active or self._wsproto.state is not ConnectionState.OPEN:
            return
        if self._stream.sending:
            return  # a ping would wait behind that; if it is stuck it has a deadline of its own
        if self._awaiting_pong and not self._inbox.is_full:
            self._writer.ended = self.close_code, self.close_reason = ABNORMAL, "no pong"
            self._exchange.cancel(Ended.CLIENT_VANISHED)
            return
        try:
            await self._writer.send(Ping())
            self._awaiting_pong = True
        except BrokenStream:
            self._exchange.cancel(Ended.TORN)
        except WebSocketClosed:
            pass


class _Watch:
    """Has the pump read when the handler has been busy with something else for a while."""

    __slots__ = ("__weakref__", "_ws", "active", "interval", "last_active")

    def __init__(self, ws: WebSocket) -> None:
        self._ws = ws
        self.interval = AWAY_SECONDS
        self.last_active = 0.0
        self.active = False

    def start(self) -> None:
        """The handler has just stopped to receive."""
        self.last_active = trio.current_time()
        self.active = True
        self._ws._exchange.keep_alive.add(self)

    async def on_due(self) -> None:
        """Asked once for each `start`, unless the handler is back."""
        self.active = False
        if not self._ws._in_receive:
            self._ws._pump_wanted.set()
