"""The sending half of a WebSocket: messages and control frames, one after the other.

The frames of whole messages are made by hand unless they are compressed; wsproto makes all other
frames. Any number of tasks may send. Replies to messages that arrived in one read are collected,
and go out in one write.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, Pong, TextMessage

from ..errors import BrokenStream, ClientGone, WebSocketClosed
from ..http.exchange import ByteStream, Frame, TryWrite, as_it_is
from ..limits import KIB
from ..tcp.parts import as_bytes
from .frames import MESSAGE, data_frame
from .machine import OPEN, FrameMachine

PONGS_BYTES = KIB
"""A pong is queued behind unsent bytes only up to this size, so that a client that sends pings and
reads nothing cannot fill the memory."""


class FrameWriter:
    """The sending half of a WebSocket."""

    ended = (1006, "")
    """The close code and the reason that a later send raises."""

    frame: Frame = staticmethod(as_it_is)
    """As a sink of channels: frames that have been encoded are sent unchanged."""
    try_write: TryWrite

    def __init__(self, stream: ByteStream, machine: FrameMachine, *, deflating: bool) -> None:
        self._stream = stream
        self._machine = machine
        self._deflating = deflating
        self.try_write = stream.try_write
        self._torn = False  # a frame that wsproto made was not sent whole
        self._in_message: trio.Lock | None = None  # fragments of two messages must not mix
        self._last = b""  # the unsent part of the last Close
        self._pong: Pong | None = None  # the latest pong that could not be sent at once

    # -- Messages

    async def send_message(self, message: str | bytes, *, more: bool) -> None:
        """Send a message. If `more` messages are sent before the task next blocks, it may be
        written together with them. Raises `WebSocketClosed` and `BrokenStream`."""
        stream = self._stream
        if self._deflating or (self._in_message is not None and self._in_message.locked()):
            async with self._message_lock():
                await self.send(_message(message, finished=True))
            return
        frame = data_frame(message)
        if not stream.is_joining and (not more or stream.sending):
            await self.send(frame)
            return
        self._check_open()
        stream.write_soon(frame, more=more)
        if stream.flushing is not None:
            await stream.flushing.wait()

    async def send_framed(self, framed: bytes) -> None:
        """Send whole messages that have been encoded as frames already, without compression. If
        there are none, wait until everything before has been sent."""
        if not framed:
            await self._flush()
            return
        if self._in_message is None:
            await self.send(framed)
            return
        async with self._in_message:
            await self.send(framed)

    @asynccontextmanager
    async def open_message(self) -> AsyncIterator[MessageStream]:
        """Send one message in fragments."""
        async with self._message_lock():
            message = MessageStream(partial(self.send, in_part=True))
            finished = False
            self._stream.hold(True)  # no direct write may come between the fragments
            try:
                yield message
                await message._end()
                finished = True
                self._stream.hold(self._machine.state is not OPEN)
            finally:
                self._torn = self._torn or not finished

    def _message_lock(self) -> trio.Lock:
        if self._in_message is None:
            self._in_message = trio.Lock()
        return self._in_message

    async def send(self, event: Event | bytes, *, in_part: bool = False) -> None:
        """Send an event as the frame that wsproto makes of it, or bytes that are a frame already.
        `in_part`: it is a fragment of a message."""
        if isinstance(event, bytes | Message):
            self._check_open()
        elif self._torn and not isinstance(event, CloseConnection):
            raise BrokenStream
        await trio.lowlevel.checkpoint_if_cancelled()
        frame = event if isinstance(event, bytes) else bytes(self._machine.wsproto.send(event))
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
                # The peer misses a frame that its inflater or the rest of the message depends on.
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
        if self._machine.state is not OPEN:
            raise WebSocketClosed(*self.ended)
        if self._torn:
            raise BrokenStream

    # -- Control frames that must not wait

    def answer_ping(self, ping: Ping) -> bool:
        """Send a pong at once if possible, else keep it for `send_pong`, in place of an earlier one
        (RFC 6455 section 5.5.3). Return False if the caller has to start `send_pong`."""
        if not self._torn and self._stream.backlog < PONGS_BYTES:
            self._stream.write_soon(bytes(self._machine.wsproto.send(ping.response())), more=False)
            return True
        is_first, self._pong = self._pong is None, ping.response()
        return not is_first

    async def send_pong(self) -> None:
        """Send the pong that was kept, once everything before has been sent."""
        await self._flush()
        pong, self._pong = self._pong, None
        if pong is not None and self._machine.state is OPEN:
            await self.send(pong)

    def answer_close(self, reply: CloseConnection) -> bool:
        """Send the last Close at once if possible. Return False if `finish` has to send the
        rest."""
        frame = bytes(self._machine.wsproto.send(reply))
        written = 0 if self._stream.corked else self._stream.try_write(frame)
        self._last = b"" if written else frame  # the stream keeps the rest of a partial write
        self._stream.hold(True)  # for good: nothing follows a Close
        return written == len(frame)

    async def finish(self) -> None:
        """Send the rest of the last Close."""
        with suppress(BrokenStream, ClientGone):
            await self._stream.send(self._last)


class MessageStream:
    """A message that is sent in fragments, all text or all binary. Made by
    `WebSocket.open_message`."""

    def __init__(self, send: Callable[[Event], Awaitable[None]]) -> None:
        self._send = send
        self._last: str | bytes = ""
        self._is_over = False

    async def send(self, piece: str | bytes) -> None:
        """Send the next piece, in a frame of its own. It has been handed to the kernel when this
        returns."""
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
    return BytesMessage(as_bytes(data, MESSAGE), message_finished=finished)
