"""The bytes of one connection: one reader, any number of writers, in one order.

Trio's streams allow one task at a time in `send_all`, and leave it to their user what a cancelled
send has left half done. Here writers queue for their turn, a send that makes no progress is
bounded, and a transport whose last piece is half sent is `TORN`: nothing but closing follows.

There are two roads for what is written:

    directly   `os.write` on the descriptor, without waiting. When the socket has room, which is
               nearly always, nothing else is needed; on 64 KiB chunks that halves the CPU a byte
               costs. `try_write` is the one place where it is done.
    waiting    `_send_rest`, through Trio: for what the socket did not take, and for everything
               over TLS, over memory, and while writes are held.

What a direct write leaves over is kept by reference in `_unsent`, and goes out before anything
else does. It stays there until it is out, so that no cancellation takes it back.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Protocol

import trio

from ..errors import BrokenStream, ClientGone
from ..limits import KIB, MIB, Limits
from .keepalive import SECOND_LOOK, is_late
from .kernel import unacknowledged
from .parts import behind, first
from .receiving import READ_SIZE, STREAM_ERRORS, ReceivingHalf

PIECE_SIZE = 16 * KIB
"""What goes through TLS goes in pieces of this size, one record each (RFC 8446 section 5.1), with
the whole of `send_seconds`. A socket that says it is writable takes one whole."""

JOINED_BYTES = 4 * KIB
"""Parts of a piece that are copied into one, which costs less than to write them as parts."""

CORK_BYTES = 64 * KIB
"""The most that is kept back to be joined into one write."""

LITTLE_BYTES = 16 * KIB
"""What may be under way to the peer and there is room for a piece all the same."""

MOST_PARTS = 64
"""Parts given to the kernel in one call; IOV_MAX is 1,024 on Linux, 16 in POSIX."""

YIELD_EVERY_BYTES = 4 * MIB
"""Bytes written directly after which a sender lets the other tasks run, however willing the socket
is: about a millisecond. A write counts as `READ_SIZE` at least."""


class State(Enum):
    """What may still be written."""

    OPEN = "anything"
    TORN = "nothing: a piece is half sent, and its rest is lost"
    CLOSED = "nothing: it is being closed, and the descriptor may soon be another connection's"


class Owner(Protocol):
    """Who a transport works for."""

    def on_gone(self, *, stopped_reading: bool) -> None:
        """A send has found that the peer has gone, or reads no more: next is `ClientGone`."""

    def on_sent(self) -> None:
        """A send that had to wait is over, sent or not."""


class Transport(ReceivingHalf):
    """One connection's byte stream, whatever carries it: TCP, a unix socket, TLS, or memory."""

    __slots__ = (
        "_corked_bytes", "_direct_fd", "_held", "_send_lock", "_unsent", "_unyielded",
        "bytes_sent", "carrier", "corked", "flushing", "limits", "on_left_over", "owner",
        "peer_is_done", "state",
    )  # fmt: skip

    owner: Owner | None
    """Who is told of what sends find out."""
    flushing: trio.Event | None
    """Set when the flush that is under way is over; None if there is none."""
    on_left_over: Callable[[], None] | None
    """Called when `write_soon` has left something over: somebody has to `flush`."""

    def __init__(self, stream: trio.abc.Stream, limits: Limits, *, shortcuts: bool = True) -> None:
        """Without `shortcuts` everything takes the plain road, through Trio."""
        super().__init__(stream, shortcuts=shortcuts)
        self.state = State.OPEN
        self.bytes_sent = 0
        self.peer_is_done = False  # it has said its last: closing need not wait for more
        self.owner = None
        self.on_left_over = None
        self.limits = limits
        # What TLS is carried by. `unwrap` takes it away from the TLS stream.
        self.carrier: trio.abc.Stream = (
            stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        )
        self._send_lock: trio.Lock | None = None  # made when a send first has to wait
        self._held = False
        self._unsent: tuple[memoryview, ...] = ()  # what direct writes have left over
        self.flushing: trio.Event | None = None
        self.corked: list[bytes] | None = None  # what waits to be joined into one write
        self._corked_bytes = 0
        self._unyielded = 0
        self._direct_fd = -1  # where a write may go directly now; -1 if it may not
        self._decide_road()

    def _decide_road(self) -> None:
        """Whether a write may go directly: call it when any of this has changed."""
        locked = self._send_lock is not None and self._send_lock.locked()
        may = self.state is State.OPEN and not (locked or self._held or self._unsent)
        self._direct_fd = self._fd if may else -1

    # -- Writing --------------------------------------------------------------------------------

    @property
    def sending(self) -> bool:
        """Whether something is half way: a send waits, or a direct write has left something."""
        return bool(self._unsent) or (self._send_lock is not None and self._send_lock.locked())

    @property
    def backlog(self) -> int:
        """Bytes that direct writes have left over."""
        return sum(map(len, self._unsent))

    async def send(self, *parts: bytes) -> None:
        """Send the parts, one behind the other, as one piece that no other send can come into.
        When it returns they are with the kernel.

        Waits while the peer reads slowly. Raises `ClientGone` when the peer has gone, or has
        read nothing for `send_seconds`; `BrokenStream` when it is torn. Cancelled while it
        waits for its first byte it leaves nothing behind; later, a torn transport. It is a
        checkpoint only where it waits.
        """
        if self.corked:
            self._uncork()
        size = sum(map(len, parts))
        if size <= JOINED_BYTES and len(parts) > 1:
            parts = (b"".join(parts),)
        written = self.try_write(*parts) if size else 0
        if written < size or not size:
            try:
                await self._send_rest(() if written else parts, begun=written > 0)
            except ClientGone as error:
                if self.owner is not None:
                    self.owner.on_gone(stopped_reading=error.stopped_reading)
                    await trio.lowlevel.checkpoint()  # where that has cancelled this task
                raise
            return
        self._unyielded += max(size, READ_SIZE)
        if self._unyielded >= YIELD_EVERY_BYTES:
            self._unyielded = 0
            # Shielded: the bytes are out, so a cancellation here must not look like a send that
            # did not happen. It never waits.
            await trio.lowlevel.cancel_shielded_checkpoint()

    def try_write(self, data: bytes = b"", *more: bytes) -> int:
        """Write without waiting, if that can be done; the count of bytes that are with the kernel,
        0 if none were taken, for whatever reason. If it is less than all, the rest is taken too,
        by reference, but somebody has to `send`, even nothing, for it to go out. Never raises.

        Called for every message and reader of a channel: flat, and one system call.
        """
        fd = self._direct_fd
        if fd < 0:
            return 0
        size = len(data)
        try:
            if more:
                size += sum(map(len, more))
                written = os.writev(fd, (data, *more))
            else:
                written = os.write(fd, data)
        except OSError:
            return 0  # full; or gone, and whoever sends next is told
        self.bytes_sent += written
        if written < size:
            self._unsent = behind((data, *more), written)
            self._decide_road()
        return written

    def write_soon(self, data: bytes, *, more: bool) -> None:
        """Take all of `data` without waiting. With `more` to come in this pass of the scheduler it
        waits for that, to go out in one write. What the socket does not take goes out before any
        later send does; `on_left_over` is called then."""
        corked = self.corked
        if corked is None:
            if not more:
                self._write_or_keep(data)
                return
            # Whatever its task does next, in this pass of the scheduler it goes out.
            trio.lowlevel.current_trio_token().run_sync_soon(self._uncork)
            corked = self.corked = []
        corked.append(data)
        self._corked_bytes += len(data)
        if not more or self._corked_bytes > CORK_BYTES:
            self._uncork()

    def _uncork(self) -> None:
        if self.corked:
            data = b"".join(self.corked)
            self.corked, self._corked_bytes = None, 0
            self._write_or_keep(data)

    def _write_or_keep(self, data: bytes) -> None:
        if not self.try_write(data):
            self._unsent = (*self._unsent, memoryview(data))
            self._decide_road()
        if self._unsent and self.flushing is None and self.on_left_over:
            self.flushing = trio.Event()
            self.on_left_over()

    async def flush(self) -> None:
        """Send what was left over. It is for a task that outlives all users: over TLS, a send that
        is cancelled tears."""
        assert self.flushing is not None
        try:
            with suppress(BrokenStream, ClientGone):
                await self.send()
        finally:
            self.flushing.set()
            self.flushing = None

    def hold(self, held: bool) -> None:
        """Whether direct writes are refused, because something is under way that they must not
        come into the middle of, or behind. What is sent takes the plain road."""
        self._held = held
        self._decide_road()

    async def _send_rest(self, parts: tuple[bytes, ...], *, begun: bool) -> None:
        """All that is unsent, then `parts`, in turn with other senders. If the piece has `begun`,
        its rest is unsent, and cancelled it is torn."""
        self._unyielded = 0
        if self._send_lock is None:
            self._send_lock = trio.Lock()
        if begun:
            # No task has run since the direct write, so it is our turn.
            self._send_lock.acquire_nowait()
        else:
            await self._send_lock.acquire()
        self._direct_fd = -1
        try:
            if self.state is State.TORN:
                raise BrokenStream
            if self.state is State.CLOSED:
                raise ClientGone
            own = sum(map(len, self._unsent)) if begun else 0
            while self._unsent:
                sent = await self._put(self._unsent, tears=own > 0)
                own -= sent
                self._unsent = behind(self._unsent, sent)
            rest = behind(parts, 0)
            begun = False
            while rest:
                rest = behind(rest, await self._put(rest, tears=begun))
                begun = True
        finally:
            if self.state is State.TORN:
                self._unsent = ()
            self._send_lock.release()
            self._decide_road()
            if self.owner is not None:
                self.owner.on_sent()

    async def _put(self, parts: tuple[memoryview, ...], *, tears: bool) -> int:
        """Send some of `parts`, and return its size. Cancelled before that is out it tears, if it
        `tears` or nobody can tell how much is out. Raises `ClientGone`."""
        if tears:
            self.state = State.TORN
        else:
            await trio.lowlevel.checkpoint_if_cancelled()  # as long as nothing is out
        try:
            if self._socket is None:
                await self._wait_for_room()
                tears, self.state = True, State.TORN
            sent = await self._put_in_time(parts)
        except STREAM_ERRORS:
            raise ClientGone from None
        if tears and self.state is State.TORN:
            self.state = State.OPEN
        self.bytes_sent += sent
        return sent

    async def _wait_for_room(self) -> None:
        """Under TLS: wait as long as nothing is encrypted, for then nothing is lost or torn."""
        sock = self.carrier_socket
        under_way = unacknowledged(sock) if sock is not None else 0
        if sock is None or (under_way is not None and under_way < LITTLE_BYTES):
            return
        with trio.move_on_after(self.limits.send_seconds) as waiting:
            await trio.lowlevel.wait_writable(sock)
            return
        if is_late(waiting.deadline):
            with trio.move_on_after(SECOND_LOOK):
                await trio.lowlevel.wait_writable(sock)
                return
        raise ClientGone("client stopped reading", stopped_reading=True)

    async def _put_in_time(self, parts: tuple[memoryview, ...]) -> int:
        with trio.move_on_after(self.limits.send_seconds) as waiting:
            return await self._put_some(parts)
        # Of what a TLS stream was sending nobody can tell how much is out.
        if is_late(waiting.deadline) and self._socket is not None:
            with trio.move_on_after(SECOND_LOOK):
                return await self._put_some(parts)
        raise ClientGone("client stopped reading", stopped_reading=True)

    async def _put_some(self, parts: tuple[memoryview, ...]) -> int:
        if self._socket is None:
            piece = b"".join(first(parts, PIECE_SIZE))
            await self.stream.send_all(piece)
            return len(piece)
        if len(parts) > 1 and hasattr(self._socket, "sendmsg"):
            return await self._socket.sendmsg(parts[:MOST_PARTS])
        return await self._socket.send(parts[0])

    # -- Its end --------------------------------------------------------------------------------

    @property
    def carrier_socket(self) -> trio.socket.SocketType | None:
        """The socket that carries the bytes, be it under TLS; None over memory."""
        return self.carrier.socket if isinstance(self.carrier, trio.SocketStream) else None

    def tear(self) -> None:
        """What was sent last is not whole, and never will be."""
        self.state = State.TORN
        self._decide_road()

    def stop(self) -> bool:
        """Nothing is written any more; whether all was. The descriptor may soon be another
        connection's."""
        whole = self.state is State.OPEN and not self.sending
        self.state = State.CLOSED
        self._fd = -1
        self._decide_road()
        return whole
