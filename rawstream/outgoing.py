"""What goes out over a WebSocket: messages and control frames, one behind the other on one wire.

Whole messages are frames made by hand, unless they are compressed; everything else is wsproto's.
Any number of tasks may send. What answers several messages that came in one read waits for the
others, to go out in one write.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio
from wsproto.connection import Connection, ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Message, TextMessage

from .errors import BrokenStream, ClientGone, WebSocketClosed
from .frames import data_frame
from .limits import KIB
from .request import Exchange

JOINED_BYTES = 64 * KIB
"""The most that is kept to be joined into one write."""


class Outgoing:
    """The sending half of a WebSocket."""

    ended = (1006, "")
    """The code and the reason that whoever sends too late is told."""

    def __init__(
        self,
        exchange: Exchange,
        wsproto: Connection,
        flush_soon: Callable[[], bool],
        *,
        deflating: bool,
    ) -> None:
        """`flush_soon` is called when the socket has not taken all: it starts a task that calls
        `flush`, and says whether it could."""
        self._exchange = exchange
        self._wsproto = wsproto
        self._flush_soon = flush_soon
        self._flushed: trio.Event | None = None  # set when the flush under way is over
        self._deflating = deflating
        self._torn = False  # wsproto and the wire no longer agree about what was sent
        self._in_message = trio.Lock()  # fragments of two messages must not mix
        self._joined: list[bytes] = []  # frames that wait for others
        self._joined_bytes = 0
        exchange.hold_writes(deflating)

    async def send_message(self, message: str | bytes, *, more: bool) -> None:
        """Send a message. With `more` to be sent in this pass of the scheduler it may wait for
        that. Raises `WebSocketClosed` and `BrokenStream`."""
        if self._deflating or self._in_message.locked():
            async with self._in_message:
                await self.send(_message(message, finished=True))
            return
        frame = data_frame(message)
        if not self._joined and (not more or self._exchange.sending):
            await self.send(frame)
            return
        self._check_open()
        if not self._joined:
            # Whatever its task does next, in this pass of the scheduler it goes out.
            trio.lowlevel.current_trio_token().run_sync_soon(self.write_joined)
        self._joined.append(frame)
        self._joined_bytes += len(frame)
        if not more or self._joined_bytes > JOINED_BYTES:
            self.write_joined()
            if self._flushed is not None:
                # The task of the flush sends: over TLS, a send that is cancelled tears the wire.
                await self._flushed.wait()

    async def send_frames(self, frames: bytes) -> None:
        """Send whole messages that are frames already."""
        async with self._in_message:
            await self.send(frames)

    @asynccontextmanager
    async def open_message(self) -> AsyncIterator[MessageStream]:
        """Send one message in fragments."""
        async with self._in_message:
            stream = MessageStream(partial(self.send, in_part=True))
            finished = False
            self.write_joined()
            self._exchange.hold_writes(True)  # a message may not come between fragments
            try:
                yield stream
                await stream._end()
                finished = True
                is_open = self._wsproto.state is ConnectionState.OPEN
                self._exchange.hold_writes(self._deflating or not is_open)
            finally:
                self._torn = self._torn or not finished

    async def send(self, event: Event | bytes, *, in_part: bool = False) -> None:
        """Have wsproto make a frame, unless it is one, and send it behind those that wait. What is
        sent `in_part` is a fragment of a message."""
        if isinstance(event, bytes | Message):
            self._check_open()
        elif self._torn and not isinstance(event, CloseConnection):
            raise BrokenStream
        await trio.lowlevel.checkpoint_if_cancelled()
        self.write_joined()
        if isinstance(event, CloseConnection):
            self._exchange.hold_writes(True)  # for good: nothing follows a Close
        frame = event if isinstance(event, bytes) else bytes(self._wsproto.send(event))
        sent = False
        try:
            await self._exchange.send(frame)
            sent = True
        except ClientGone:
            raise WebSocketClosed(*self.ended) from None
        finally:
            if not sent:
                # What was made and not sent is missing from what the peer's inflater, or its
                # idea of the message under way, builds on.
                is_data = isinstance(event, Message)
                self._torn = self._torn or in_part or (self._deflating and is_data)

    def write_joined(self) -> None:
        """Write what waits, without waiting. It is out of our hands then: what the socket does not
        take goes out before anything else."""
        if self._joined:
            data = b"".join(self._joined)
            self._joined, self._joined_bytes = [], 0
            self._exchange.take(data)
            if self._exchange.sending and self._flushed is None and self._flush_soon():
                self._flushed = trio.Event()

    async def flush(self) -> None:
        """Send what the socket has not taken."""
        assert self._flushed is not None
        try:
            with suppress(BrokenStream, ClientGone):
                await self._exchange.send(b"")
        finally:
            self._flushed.set()
            self._flushed = None

    def _check_open(self) -> None:
        if self._wsproto.state is not ConnectionState.OPEN:
            raise WebSocketClosed(*self.ended)
        if self._torn:
            raise BrokenStream


class MessageStream:
    """A message sent in fragments, all text or all binary. Made by `WebSocket.open_message`."""

    def __init__(self, send: Callable[[Event], Awaitable[None]]) -> None:
        self._send = send
        self._last: str | bytes = ""
        self._is_over = False

    async def send(self, piece: str | bytes) -> None:
        """Send the next piece, in a frame of its own; it is on the wire when this returns."""
        if self._is_over:
            raise RuntimeError("this message has ended")
        await self._send(_message(piece, finished=False))
        self._last = piece[:0]

    async def _end(self) -> None:
        self._is_over = True
        await self._send(_message(self._last, finished=True))


def _message(data: str | bytes, *, finished: bool) -> TextMessage | BytesMessage:
    if isinstance(data, str):
        return TextMessage(data, message_finished=finished)
    return BytesMessage(bytes(memoryview(data)), message_finished=finished)
