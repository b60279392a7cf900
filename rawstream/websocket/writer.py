"""What goes out over a WebSocket: messages and control frames, one behind the other.

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
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, Pong, TextMessage

from ..errors import BrokenStream, ClientGone, WebSocketClosed
from ..http.exchange import ByteStream
from ..limits import KIB
from .frames import data_frame

PONGS_BYTES = KIB
"""What may wait to be sent and a pong is still put behind it: a client that pings and reads nothing
is not to fill the memory."""


class FrameWriter:
    """The sending half of a WebSocket."""

    ended = (1006, "")
    """The code and the reason that whoever sends too late is told."""

    def __init__(self, stream: ByteStream, wsproto: Connection, *, deflating: bool) -> None:
        self._stream = stream
        self._wsproto = wsproto
        self._deflating = deflating
        self._torn = False  # wsproto and the wire no longer agree about what was sent
        self._in_message = trio.Lock()  # fragments of two messages must not mix
        self._last = b""  # the Close that ends it, as far as it waits
        self._pong: Pong | None = None  # the last one, which could not be sent at once

    # -- Messages

    async def send_message(self, message: str | bytes, *, more: bool) -> None:
        """Send a message. With `more` to be sent in this pass of the scheduler it may wait for
        that. Raises `WebSocketClosed` and `BrokenStream`."""
        stream = self._stream
        if self._deflating or self._in_message.locked():
            async with self._in_message:
                await self.send(_message(message, finished=True))
            return
        frame = data_frame(message)
        if not stream.corked and (not more or stream.sending):
            await self.send(frame)
            return
        self._check_open()
        stream.write_soon(frame, more=more)
        if stream.flushing is not None:
            await stream.flushing.wait()

    async def send_frames(self, frames: bytes) -> None:
        """Send whole messages that are frames already; none, to wait for what is under way."""
        if not frames:
            await self._flush()
            return
        async with self._in_message:
            await self.send(frames)

    @asynccontextmanager
    async def open_message(self) -> AsyncIterator[MessageStream]:
        """Send one message in fragments."""
        async with self._in_message:
            message = MessageStream(partial(self.send, in_part=True))
            finished = False
            self._stream.hold(True)  # a message may not come between fragments
            try:
                yield message
                await message._end()
                finished = True
                self._stream.hold(self._wsproto.state is not ConnectionState.OPEN)
            finally:
                self._torn = self._torn or not finished

    async def send(self, event: Event | bytes, *, in_part: bool = False) -> None:
        """Have wsproto make a frame, unless it is one, and send it. What is sent `in_part` is a
        fragment of a message."""
        if isinstance(event, bytes | Message):
            self._check_open()
        elif self._torn and not isinstance(event, CloseConnection):
            raise BrokenStream
        await trio.lowlevel.checkpoint_if_cancelled()
        frame = event if isinstance(event, bytes) else bytes(self._wsproto.send(event))
        sent = False
        try:
            await self._stream.send(frame)
            sent = True
        except ClientGone:
            raise WebSocketClosed(*self.ended) from None
        finally:
            if isinstance(event, CloseConnection):
                self._stream.hold(True)  # for good: nothing follows a Close
            if not sent:
                # What was made and not sent is missing from what the peer's inflater, or its
                # idea of the message under way, builds on.
                is_data = isinstance(event, Message)
                self._torn = self._torn or in_part or (self._deflating and is_data)

    async def _flush(self) -> None:
        try:
            if self._stream.sending:
                await self._stream.send()
            else:
                await trio.lowlevel.checkpoint()
        except ClientGone:
            raise WebSocketClosed(*self.ended) from None

    def _check_open(self) -> None:
        if self._wsproto.state is not ConnectionState.OPEN:
            raise WebSocketClosed(*self.ended)
        if self._torn:
            raise BrokenStream

    # -- Control frames that must not wait

    def answer_ping(self, ping: Ping) -> bool:
        """Send a pong, if that can be done at once; else it waits for `send_pong`, where it takes
        the place of an earlier one (RFC 6455 section 5.5.3). False if nobody is to send that yet.
        """
        if not self._torn and self._stream.backlog < PONGS_BYTES:
            self._stream.write_soon(bytes(self._wsproto.send(ping.response())), more=False)
            return True
        is_first, self._pong = self._pong is None, ping.response()
        return not is_first

    async def send_pong(self) -> None:
        """Send the pong that waits, as soon as the send under way is over."""
        await self._flush()
        pong, self._pong = self._pong, None
        if pong is not None and self._wsproto.state is ConnectionState.OPEN:
            await self.send(pong)

    def answer_close(self, reply: CloseConnection) -> bool:
        """Send the last Close, if that can be done at once; False if `finish` has to do it."""
        frame = bytes(self._wsproto.send(reply))
        written = 0 if self._stream.corked else self._stream.try_write(frame)
        self._last = b"" if written else frame  # what is left of it is the stream's to send
        self._stream.hold(True)  # for good: nothing follows a Close
        return written == len(frame)

    async def finish(self) -> None:
        """Send what is left of the last Close."""
        with suppress(BrokenStream, ClientGone):
            await self._stream.send(self._last)


class MessageStream:
    """A message sent in fragments, all text or all binary. Made by `WebSocket.open_message`."""

    def __init__(self, send: Callable[[Event], Awaitable[None]]) -> None:
        self._send = send
        self._last: str | bytes = ""
        self._is_over = False

    async def send(self, piece: str | bytes) -> None:
        """Send the next piece, in a frame of its own; it is with the kernel when this returns."""
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
