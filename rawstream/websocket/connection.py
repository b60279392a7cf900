"""WebSocket: messages both ways on one connection (RFC 6455), compressed if asked (RFC 7692).

wsproto knows the rules of frames. receiving.py decides which task reads, reader.py finds frames in
the bytes that arrive, writer.py makes the bytes that leave. This file orders the closing, and sends
pings.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager

import trio
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Ping
from wsproto.extensions import PerMessageDeflate

from ..errors import BrokenStream, WebSocketClosed
from ..http.exchange import ByteStream
from ..http.lifetime import Ended
from ..http.request import Request
from .machine import OPEN, FrameMachine
from .receiving import ABNORMAL, ReceivingHalf
from .writer import MessageStream

NORMAL, GOING_AWAY, NO_STATUS, INTERNAL_ERROR, TRY_AGAIN_LATER = 1000, 1001, 1005, 1011, 1013
"""Close codes, RFC 6455 section 7.4.1."""


class WebSocket(ReceivingHalf):
    """A WebSocket connection, made by `open_websocket`. `async for message in ws` receives messages
    until it is closed. Any number of tasks may send, and several may receive, one after the other.
    """

    subprotocol: str | None
    """The subprotocol that was chosen, if any."""

    def __init__(
        self,
        request: Request,
        stream: ByteStream,
        subprotocol: str | None,
        deflate: PerMessageDeflate | None,
    ) -> None:
        machine = FrameMachine(deflate)
        super().__init__(request.exchange, stream, machine, deflating=deflate is not None)
        self.subprotocol = subprotocol
        self._pings = _Pings(self, self._limits.ping_seconds)

    def _start(self) -> None:
        """The handler's block begins."""
        self._exchange.on_drain(self._farewell)
        self._stream.on_left_over = self._flush_soon
        self._look_soon()
        self._exchange.keep_alive.add(self._pings)

    async def _stop(self) -> None:
        """The handler's block has ended."""
        self._stream.on_left_over = None
        self._pings.active = False
        await self._stop_pump()

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
        if self._machine.state is OPEN:
            self._closing = True
            self._reader.close_lane()
            if self._waiting is not None:
                self._waiting.cancel()  # no more messages will be received
            await self.writer.send(CloseConnection(code, reason))
        with trio.move_on_after(self._limits.close_seconds):
            while not self._reader.is_over:
                await self._read_once(for_handler=False)
            await self._until_closed()

    def _take_close(self, event: CloseConnection) -> None:
        """Handle a Close, the end of input, or bytes that wsproto rejects."""
        self._reader.is_over = True
        self._reader.close_lane()
        state = self._machine.state
        reason = event.reason or ""
        reply: CloseConnection | None = None
        if state is ConnectionState.REMOTE_CLOSING:
            reply = event.response()
        elif state is OPEN:
            # A malformed frame: fail the connection (RFC 6455 section 7.1.7) with a Close that says
            # why, and do not wait for the peer's.
            reply = CloseConnection(event.code, reason)
        if state not in (OPEN, ConnectionState.LOCAL_CLOSING):
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
            has_news = self._receivers or self._inbox.messages
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
        if not self.active or ws._machine.state is not OPEN:
            return
        if ws._stream.sending:
            return  # a ping would only wait behind that send, which has a deadline of its own
        if ws._awaiting_pong and ws._is_read:
            ws.writer.ended = ws.close_code, ws.close_reason = ABNORMAL, "no pong"
            ws._exchange.cancel(Ended.CLIENT_VANISHED)
            return
        ws._awaiting_pong = True  # before it is sent: the pong may be read before `send` returns
        ws._look()  # somebody must read it
        try:
            await ws.writer.send(Ping())
        except BrokenStream:
            ws._exchange.cancel(Ended.TORN)
        except WebSocketClosed:
            pass
