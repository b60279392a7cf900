"""The bytes that come over one connection: for one reader at a time."""

from __future__ import annotations

import os

import trio

from ..limits import KIB
from .keepalive import SECOND_LOOK, is_late

READ_SIZE = 64 * KIB
"""Bytes asked for in one read; Trio's own default."""

STREAM_ERRORS = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""A peer that is gone, as sockets and Trio's streams put it."""

DIRECT = os.name == "posix"
"""Where a socket is a file descriptor that `os.read` and `os.writev` take."""


class ReceivingHalf:
    """The half of a transport that is read from."""

    __slots__ = ("_fd", "_socket", "_unread", "shortcuts", "stream")

    def __init__(self, stream: trio.abc.Stream, *, shortcuts: bool) -> None:
        """Without `shortcuts` everything takes the plain road, through Trio."""
        self.stream = stream
        self.shortcuts = shortcuts and DIRECT
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        # Where reads and writes may go directly; -1 where they may not, and once it is being
        # closed, when the descriptor may soon be another connection's.
        self._fd = self._socket.fileno() if self._socket is not None and self.shortcuts else -1
        self._unread = b""

    def unread(self, data: bytes) -> None:
        """Give back bytes that belong to the next protocol: they are received first."""
        self._unread = data + self._unread

    def _take_unread(self) -> bytes:
        data, self._unread = self._unread, b""
        return data

    async def receive(self) -> bytes:
        """The next bytes, as they come; b"" at the end of input, a reset being an end, too."""
        if self._unread:
            return self._take_unread()
        try:
            if self._fd < 0:
                return bytes(await self.stream.receive_some(READ_SIZE))
            # First the others: by the time they have had their turn a busy client's next bytes
            # are often here, and waiting for them costs more than one read in vain.
            await trio.lowlevel.checkpoint()
            try:
                return os.read(self._fd, READ_SIZE)
            except BlockingIOError:
                return await self.receive_later()
        except STREAM_ERRORS:
            return b""

    async def receive_later(self) -> bytes:
        """The next bytes, when it is known that there are none yet."""
        if self._fd < 0:
            return await self.receive()
        assert self._socket is not None
        try:
            while True:
                await trio.lowlevel.wait_readable(self._socket)
                if (data := self.receive_nowait()) is not None:
                    return data
        except STREAM_ERRORS:
            return b""

    async def receive_within(self, seconds: float) -> bytes | None:
        """The next bytes; None if none come in time. If the whole process stood still meanwhile,
        bytes that have come in time are not taken for late."""
        with trio.move_on_after(seconds) as waiting:
            return await self.receive()
        if is_late(waiting.deadline):
            with trio.move_on_after(SECOND_LOOK):
                return await self.receive()
        return None

    def receive_nowait(self) -> bytes | None:
        """What is here already, as `receive` gives it; None if that would have to wait."""
        if self._unread:
            return self._take_unread()
        if self._fd < 0:
            return None
        try:
            return os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            return b""
