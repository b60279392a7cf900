"""WebSocket: messages both ways on one connection (RFC 6455), compressed if asked (RFC 7692).

    client                                     server
    GET, Upgrade: websocket         ->
                                    <-         101 Switching Protocols, and no HTTP from here on
    frames, masked                  ->
                                    <-         frames, not masked
    Close, a code and a reason      ->  <-     Close in return; then the server closes TCP

wsproto knows the rules of frames. incoming.py cuts what comes, outgoing.py makes what goes. Here is
who reads when, pings, and the order of things at the end.

Who reads? A handler that waits for messages does, which saves a switch of tasks a message. What
is no message it leaves to a task of its WebSocket, the pump, which also reads while the handler is
busy with something else, so that pings are answered and a Close is seen; it stops when
`Limits.message_queue` messages wait for the handler.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import trio
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Ping
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import generate_accept_token

from .errors import TORN, BrokenStream, WebSocketClosed
from .handshake import accept_deflate, check_handshake
from .incoming import Incoming
from .outgoing import MessageStream, Outgoing
from .request import Request, WriteNow

NORMAL, GOING_AWAY, NO_STATUS, ABNORMAL, INTERNAL_ERROR, TRY_AGAIN_LATER = (
    1000, 1001, 1005, 1006, 1011, 1013,
)  # fmt: skip
"""Close codes, RFC 6455 section 7.4.1."""

FRAMES_A_PASS = 64
"""Frames of one read after which the other tasks have their turn: a frame may have no payload."""

AWAY_SECONDS = 0.25
"""How long nobody reads when the handler is busy with something else; then the pump does."""


@asynccontextmanager
async def open_websocket(
    request: Request,
    *,
    subprotocols: Sequence[str] = (),
    origins: Collection[str] | None = None,
    max_message_size: int | None = None,
    compression: bool = False,
) -> AsyncIterator[WebSocket]:
    """Accept a WebSocket: `async with open_websocket(request) as ws:`.

    The first of `subprotocols` that the client offers is chosen. `origins` are the browser
    origins let in, by default only our own. `max_message_size` is in bytes after inflating, by
    default `Limits.message_bytes`; a larger message closes with 1009. `compression` accepts
    permessage-deflate if it is offered; zlib's windows then make a connection much larger.

    Leaving the block closes with 1000, or 1011 if by an exception, and waits
    `Limits.close_seconds` for the client's Close. A client that leaves cancels the handler;
    one that is reading is first given what had arrived, and then the end, and has
    `Limits.leave_seconds` to finish. When the server stops the handler is cancelled, and the
    WebSocket closed with 1001.

    Raises `HTTPError` 400, 403, 405 or 426 if the handshake is not acceptable.
    """
    if isinstance(subprotocols, str):
        raise TypeError("subprotocols are a sequence of strings")
    check_handshake(request, origins)
    key = request.headers["sec-websocket-key"].encode()
    fields = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", generate_accept_token(key).decode()),
    ]
    offered = request.headers.elements("sec-websocket-protocol")
    subprotocol = next((name for name in subprotocols if name in offered), None)
    if subprotocol is not None:
        fields.append(("Sec-WebSocket-Protocol", subprotocol))
    deflate = None
    if compression and (accepted := accept_deflate(request)):
        deflate, answer = accepted
        fields.append(("Sec-WebSocket-Extensions", answer))
    exchange = request.exchange
    exchange.label = "websocket"
    await exchange.take_over(fields)
    ws = WebSocket(request, subprotocol, max_message_size or exchange.limits.message_bytes, deflate)
    exchange.endless(ws._farewell)
    exchange.pacemaker.pace(ws)
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ws._pump)
            ws._nursery = nursery
            try:
                try:
                    yield ws
                except WebSocketClosed:
                    pass  # the end of the block is what it was about to reach
                except Exception as error:
                    failure = error  # leaves as it is, not in a group
                exchange.endless(None)
                with suppress(WebSocketClosed, BrokenStream):
                    await ws.close(INTERNAL_ERROR if failure else NORMAL)
                nursery.cancel_scope.cancel()
            finally:
                ws._nursery = None
    finally:
        ws.beating = False
    if failure is not None:
        raise failure


# -- The connection -------------------------------------------------------------------------------


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
        subprotocol: str | None,
        max_message_size: int,
        deflate: PerMessageDeflate | None,
    ) -> None:
        self.subprotocol = subprotocol
        self.close_code = None
        self.close_reason = ""
        self._exchange = request.exchange
        self._limits = request.exchange.limits
        self._wsproto = Connection(ConnectionType.SERVER, [deflate] if deflate else [])
        self._deflating = deflate is not None
        self.shared_frames = not self._deflating
        self._incoming = Incoming(self._wsproto, max_message_size, deflating=self._deflating)
        self._outgoing = Outgoing(
            self._exchange, self._wsproto, self._flush_soon, deflating=self._deflating
        )
        self._nursery: trio.Nursery | None = None
        # From the pump to the handler; None: read yourself.
        self._to_inbox, self._inbox = trio.open_memory_channel[str | bytes | None](
            self._limits.message_queue
        )
        self._pumping = True  # the pump reads, or is about to
        self._pump_wanted = trio.Event()
        self._pump_wanted.set()
        self._reading = False  # the handler does, at this moment
        self._waiting: trio.CancelScope | None = None  # for something to read
        self._away = True  # the handler is not in `receive`
        self._watch = _Watch(self)
        self._taken = 0  # messages, by the handler
        self._receiving = False  # the handler has asked for messages
        self._closing = False  # we have sent the first Close
        self._closed = trio.Event()  # nothing more will come
        # The pacemaker's:
        self.beating = True
        self.interval = self._limits.ping_seconds
        self.last_sent = trio.current_time()
        self._awaiting_pong = False

    # -- Sending

    def send(self, message: str | bytes) -> Awaitable[None]:
        """Send a message: `str` as text, bytes as binary; it is on the wire when this returns. An
        answer to one of several messages that came together goes out with the answers to the
        others, before its task waits for anything.

        Any number of tasks may send; each waits for its turn, and for a slow reader. Raises
        `WebSocketClosed` once the closing has begun on either side.
        """
        more = not self._pumping and self._incoming.has_more
        return self._outgoing.send_message(message, more=more)

    def _flush_soon(self) -> bool:
        if self._nursery is None:
            return False
        self._nursery.start_soon(self._outgoing.flush)
        return True

    def open_message(self) -> AbstractAsyncContextManager[MessageStream]:
        """Send one long message in fragments: `async with ws.open_message() as message:`.

        Other messages wait until the block is left, pings and pongs do not. Left by an
        exception, the message has no end, and nothing but a Close can follow.
        """
        return self._outgoing.open_message()

    shared_frames: bool
    """Whether the frames of `frames.data_frame` may be sent here: not if they are compressed."""

    def send_frames(self, frames: bytes) -> Awaitable[None]:
        """Send whole messages that are frames already, as `send` does; only `shared_frames`."""
        return self._outgoing.send_frames(frames)

    frame_key = "websocket"

    def frame(self, data: bytes) -> bytes:
        """Frames are frames."""
        return data

    @property
    def write_now(self) -> WriteNow:
        """Takes frames without waiting, as `Exchange.write_now` does."""
        return self._exchange.write_now

    # -- Receiving

    async def receive(self) -> str | bytes:
        """The next message. Raises `WebSocketClosed` when there will be none; cancelled, it has
        taken none."""
        message = self._take_at_once()
        return message if message is not None else await self._receive()

    def _take_at_once(self) -> str | bytes | None:
        """A message that is here already, unless it is time for the other tasks."""
        if self._pumping:
            return None
        self._taken += 1
        return self._incoming.take_message() if self._taken % FRAMES_A_PASS else None

    async def _receive(self) -> str | bytes:
        self._receiving = True
        self._away = False
        try:
            if self._taken % FRAMES_A_PASS == 0:
                await trio.lowlevel.checkpoint()
            while True:
                if self._pumping:
                    message = await self._inbox.receive()
                else:
                    message = self._incoming.take_message()
                if message is not None:
                    return message
                if self._incoming.has_more:
                    self._want_pump()
                elif not self._pumping:
                    await self._read()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise WebSocketClosed(self.close_code or ABNORMAL, self.close_reason) from None
        finally:
            self._away = True
            if not (self._watch.paced or self._pumping):
                self._watch.pace()

    async def _read(self) -> None:
        """Read more, unless the pump is to do it."""
        self._outgoing.write_joined()
        if self._reading:
            raise trio.BusyResourceError("another task is receiving from this WebSocket")
        self._reading = True
        data = None
        try:
            # First the others: by the time they have had their turn a busy client's next bytes are
            # often here, and a wait that can be interrupted costs as much as all the rest.
            await trio.lowlevel.checkpoint()
            if not self._pumping and (data := self._exchange.receive_now()) is None:
                with trio.CancelScope() as self._waiting:
                    data = await self._exchange.receive()
        finally:
            self._reading, self._waiting = False, None
            if self._pumping:
                self._pump_wanted.set()
        if data is not None:
            self._awaiting_pong = False  # whatever came, somebody is there
            self._incoming.feed(data)
        if data == b"":
            self._want_pump()

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

    # -- Closing

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close, unless it is closed: send Close with this code and reason (at most 123 bytes of
        UTF-8), and wait `Limits.close_seconds` for the client's. Messages not yet received are
        dropped. Raises `ValueError` for a code that may not be sent (RFC 6455 section 7.4)."""
        if not (1000 <= code < 1015 or 3000 <= code < 5000) or code in (1004, NO_STATUS, ABNORMAL):
            raise ValueError(f"close code {code} may not be sent")
        self._inbox.close()
        self._want_pump()
        if self._wsproto.state is ConnectionState.OPEN:
            self._closing = True
            await self._outgoing.send(CloseConnection(code, reason))
        # Or theirs came first, and the pump is about to answer it (RFC 6455 section 5.5.1).
        with trio.move_on_after(self._limits.close_seconds):
            await self._closed.wait()

    async def _farewell(self) -> None:
        """The server stops. The handler has been cancelled, and the pump with it."""
        self._inbox.close()
        if self._wsproto.state is ConnectionState.OPEN:
            self._closing = True
            await self._outgoing.send(CloseConnection(GOING_AWAY, "the server is stopping"))
            with trio.move_on_after(self._limits.close_seconds):
                await self._read_on()

    async def beat(self) -> None:
        """Ping; a ping that the last interval has left unanswered ends the connection."""
        if not self.beating or self._wsproto.state is not ConnectionState.OPEN:
            return
        if self._exchange.sending:
            return  # a ping would wait behind that; if it is stuck it has a deadline of its own
        if self._awaiting_pong and self._is_reading():
            self.close_code, self.close_reason = self._outgoing.ended = ABNORMAL, "no pong"
            self._exchange.cancel("client vanished")
        else:
            try:
                await self._outgoing.send(Ping())
                self._awaiting_pong = True
            except BrokenStream:
                self._exchange.cancel(TORN)
            except WebSocketClosed:
                pass

    def _is_reading(self) -> bool:
        """Whether a pong would be seen: not while the handler lets messages pile up."""
        statistics = self._inbox.statistics()
        return statistics.current_buffer_used < statistics.max_buffer_size

    # -- The pump

    def _want_pump(self) -> None:
        """Have the pump read from here on, instead of whoever does."""
        self._pumping = True
        if not self._reading:
            self._pump_wanted.set()
        elif self._waiting:
            self._waiting.cancel()

    async def _pump(self) -> None:
        """Read when wanted, to the end; what ends it is in `close_code`, and tells or cancels the
        handler."""
        with suppress(WebSocketClosed, BrokenStream):
            while self.close_code is None:
                await self._pump_wanted.wait()
                await self._read_on()
        self._to_inbox.close()
        self._closed.set()

    async def _read_on(self) -> None:
        """Read until the end, or until the handler waits for messages and can read by itself."""
        while True:
            await self._act()
            if self.close_code is not None:
                return
            if self._can_read_itself():
                self._pumping = False
                self._pump_wanted = trio.Event()
                if self._inbox.statistics().tasks_waiting_receive:
                    self._to_inbox.send_nowait(None)
                return
            data = await self._exchange.receive()
            self._awaiting_pong = False
            self._incoming.feed(data)

    def _can_read_itself(self) -> bool:
        """Whether the handler is here, has all there was, and what comes next may be a message."""
        return (
            not (self._away or self._deflating or self._closing)
            and self._incoming.is_between_messages
            and not self._inbox.statistics().current_buffer_used
        )

    async def _act(self) -> None:
        """Act on all that has come."""
        for n, happening in enumerate(self._incoming.take(), 1):
            if n % FRAMES_A_PASS == 0 or (self._deflating and happening is None):
                await trio.lowlevel.checkpoint()
            if isinstance(happening, str | bytes):
                await self._deliver(happening)
            elif isinstance(happening, Ping):
                if not self._closing:  # RFC 6455 section 5.5.2: not after a Close
                    with suppress(BrokenStream):  # what comes is still to be read
                        await self._outgoing.send(happening.response())
            elif isinstance(happening, CloseConnection):
                await self._take_close(happening)
            if self.close_code is not None:
                break

    async def _deliver(self, message: str | bytes) -> None:
        if not self._closing:
            with suppress(trio.BrokenResourceError):  # closing since
                await self._to_inbox.send(message)
            # Let a handler that is waiting answer before the next frame is looked at: it may be
            # a Close or a broken one, and no message can be sent after those.
            await trio.lowlevel.checkpoint()

    async def _take_close(self, event: CloseConnection) -> None:
        """A Close, the end of input, or bytes that wsproto refuses."""
        state = self._wsproto.state
        if state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            await self._fail(event.code, event.reason or "")  # broken frames: no Close came
            return
        self._exchange.input_over = True
        reply = event.response() if state is ConnectionState.REMOTE_CLOSING else None
        await self._end(event.code, event.reason or "", reply)

    async def _fail(self, code: int, reason: str) -> None:
        """Fail the connection, RFC 6455 section 7.1.7: say why, and do not wait for an answer."""
        is_open = self._wsproto.state is ConnectionState.OPEN
        await self._end(code, reason, CloseConnection(code, reason) if is_open else None)

    async def _end(self, code: int, reason: str, last: CloseConnection | None) -> None:
        """The connection is over once `last` is sent. A handler that listens is told and has a
        moment to finish, any other is cancelled; one that began the closing knows already."""
        self.close_code, self.close_reason = self._outgoing.ended = int(code), reason
        if last is not None:
            with suppress(WebSocketClosed, BrokenStream):
                await self._outgoing.send(last)
        if not self._closing:
            statistics = self._inbox.statistics()
            waiting = statistics.tasks_waiting_receive or statistics.current_buffer_used
            told = self._receiving and (waiting or code != ABNORMAL)
            self._exchange.cancel("client left", self._limits.leave_seconds if told else 0)


class _Watch:
    """Has the pump read when the handler has been busy with something else for a while."""

    __slots__ = ("__weakref__", "_ws", "interval", "last_sent", "paced")

    def __init__(self, ws: WebSocket) -> None:
        self._ws = ws
        self.interval = AWAY_SECONDS
        self.last_sent = 0.0
        self.paced = False

    def pace(self) -> None:
        self.last_sent = trio.current_time()
        self.paced = True
        self._ws._exchange.pacemaker.pace(self)

    @property
    def beating(self) -> bool:
        """Asked when its time has come; if it is False, that was all until the next `pace`."""
        self.paced = self._ws.beating and self._ws._away and not self._ws._pumping
        return self.paced

    async def beat(self) -> None:
        if self._ws._away:
            self._ws._want_pump()
