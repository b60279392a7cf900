"""Reading the bytes of one connection, in one task at a time."""

from __future__ import annotations

import os

import trio

from ..limits import KIB
from .keepalive import SECOND_LOOK, is_late

READ_SIZE = 64 * KIB
"""Bytes requested in one read; Trio's own default."""

STREAM_ERRORS = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What sockets and Trio's streams raise if the peer has gone."""

DIRECT = os.name == "posix"
"""Whether `os.read` and `os.writev` accept a socket's descriptor."""


class ReceivingHalf:
    """The receiving half of a transport."""

    bytes_received = 0
    """Counted only by a `CountingTransport`."""

    __slots__ = ("_fd", "_socket", "_unread", "shortcuts", "stream")

    def __init__(self, stream: trio.abc.Stream, *, shortcuts: bool) -> None:
        """Without `shortcuts` all reads and writes go through Trio."""
        self.stream = stream
        self.shortcuts = shortcuts and DIRECT
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        # The descriptor for direct reads and writes. -1 if there are none, and from the start of
        # the close, since the descriptor may soon be another connection's.
        self._fd = self._socket.fileno() if self._socket is not None and self.shortcuts else -1
        self._unread = b""

    @property
    def direct_socket(self) -> trio.socket.SocketType | None:
        """The socket, if `receive_nowait` reads from it directly."""
        return self._socket if self._fd >= 0 else None

    @property
    def has_unread(self) -> bool:
        """Whether bytes were given back."""
        return bool(self._unread)

    def unread(self, data: bytes) -> None:
        """Give back bytes that belong to the next protocol. They are received first."""
        self._unread = data + self._unread

    def _take_unread(self) -> bytes:
        data, self._unread = self._unread, b""
        return data

    async def receive(self) -> bytes:
        """Return the next bytes as they arrive; b"" at the end of input or after a reset."""
        if self._unread:
            return self._take_unread()
        try:
            if self._fd < 0:
                return bytes(await self.stream.receive_some(READ_SIZE))
            # Let the other tasks run first: by then a busy client's next bytes have often
            # arrived, and waiting for them costs more than one read in vain.
            await trio.lowlevel.checkpoint()
            try:
                return os.read(self._fd, READ_SIZE)
            except BlockingIOError:
                return await self.receive_later()
        except STREAM_ERRORS:
            return b""

    async def receive_later(self) -> bytes:
        """Return the next bytes, which have probably not arrived yet."""
        if self._fd < 0 or self._unread:
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
        """Return the next bytes, or None if none arrive in time. If the whole process stood still
        meanwhile, bytes that arrived in time do not count as late."""
        with trio.move_on_after(seconds) as waiting:
            return await self.receive()
        if is_late(waiting.deadline):
            with trio.move_on_after(SECOND_LOOK):
                return await self.receive()
        return None

    def receive_nowait(self) -> bytes | None:
        """Return what has arrived, as `receive` does; None if it would have to wait."""
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
