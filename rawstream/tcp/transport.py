"""The bytes of one connection: one reader, any number of writers, in one order.

Trio's streams allow one task at a time in `send_all`, and leave a half-done cancelled send to their
user. Here writers queue for their turn, a send that makes no progress times out, and a transport
whose last piece is half-sent is `TORN`: nothing but closing may follow.

Bytes are written in one of two ways:

    directly   `os.write` on the descriptor, without waiting. The socket nearly always has room,
               and then nothing else is needed. On 64 KiB chunks this halves the CPU time per
               byte. Only `try_write` does it.
    waiting    `_send_rest`, through Trio: for bytes that the socket did not take, and for
               everything over TLS, over memory, and while direct writes are held.

Bytes left over by a direct write are kept by reference in `_unsent`, and are sent before anything
else. They stay there until they are sent, so that no cancellation loses them.
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
"""Over TLS, data is sent in pieces of this size: one record each (RFC 8446 section 5.1), which has
`send_seconds` of its own. A socket that is reported writable takes a whole one."""

JOINED_BYTES = 4 * KIB
"""A piece in parts, up to this size, is joined by copying: cheaper than writing the parts."""

CORK_BYTES = 64 * KIB
"""The most that is held back to be joined into one write."""

FIRST_BYTES = 2 * KIB
"""The first bytes of a connection, up to this size, fit into any socket: Linux gives it more than 4
KiB at least."""

LITTLE_BYTES = 16 * KIB
"""With fewer unacknowledged bytes than this, the socket has room for a piece."""

MOST_PARTS = 64
"""Parts passed to the kernel in one call; IOV_MAX is 1,024 on Linux, 16 in POSIX."""

YIELD_EVERY_BYTES = 4 * MIB
"""Bytes written directly after which a sender lets other tasks run, even if the socket has room:
about a millisecond. A write counts as `READ_SIZE` at least."""


class State(Enum):
    """What may still be written."""

    OPEN = "anything"
    TORN = "nothing: a piece is half-sent, and its rest is lost"
    CLOSED = "nothing: it is being closed, and its descriptor may soon be another connection's"


# By these names they are found ten times as fast in Python 3.11 as by their class.
OPEN, TORN, CLOSED = State


class Owner(Protocol):
    """The connection that a transport belongs to."""

    def on_gone(self, *, stopped_reading: bool) -> None:
        """A send has found that the peer has gone or stopped reading, and raises `ClientGone`."""

    def on_sent(self) -> None:
        """A send that had to wait has ended, successfully or not."""


class Transport(ReceivingHalf):
    """The byte stream of one connection, over TCP, a unix socket, TLS, or memory."""

    __slots__ = (
        "_corked_bytes", "_direct_fd", "_held", "_send_lock", "_unsent", "_unyielded",
        "bytes_sent", "carrier", "corked", "flushing", "limits", "on_left_over", "owner",
        "peer_is_done", "state",
    )  # fmt: skip

    owner: Owner | None
    """Notified when a send finds that the peer has gone, or has had to wait."""
    flushing: trio.Event | None
    """Set when the flush under way has ended; None if there is none."""
    on_left_over: Callable[[], None] | None
    """Called when `write_soon` has left bytes over, to have a task call `flush`."""

    def __init__(self, stream: trio.abc.Stream, limits: Limits, *, shortcuts: bool = True) -> None:
        """Without `shortcuts` all reads and writes go through Trio."""
        super().__init__(stream, shortcuts=shortcuts)
        self.state = OPEN
        self.bytes_sent = 0
        self.peer_is_done = False  # it sends nothing more: closing need not wait for it
        self.owner = None
        self.on_left_over = None
        self.limits = limits
        # The stream below TLS; kept here, since `unwrap` detaches it from the TLS stream.
        self.carrier = stream
        if self._socket is None and isinstance(stream, trio.SSLStream):
            self.carrier = stream.transport_stream
        self._send_lock: trio.Lock | None = None  # created when a send first has to wait
        self._held = False
        self._unsent: tuple[memoryview, ...] = ()  # left over by direct writes
        self.flushing: trio.Event | None = None
        self.corked: list[bytes] | None = None  # held back, to be joined into one write
        self._corked_bytes = 0
        self._unyielded = 0
        self._direct_fd = -1  # for direct writes; -1 while they are not allowed
        self._decide_road()

    def _decide_road(self) -> None:
        """Decide whether direct writes are allowed. Call it when anything it reads has changed."""
        locked = self._send_lock is not None and self._send_lock.locked()
        waiting = locked or self._held or self._unsent or self.corked is not None
        self._direct_fd = self._fd if self.state is OPEN and not waiting else -1

    # -- Writing --------------------------------------------------------------------------------

    @property
    def sending(self) -> bool:
        """Whether anything is unsent: a send waits, or a direct write has left bytes over."""
        return bool(self._unsent) or (self._send_lock is not None and self._send_lock.locked())

    @property
    def backlog(self) -> int:
        """The number of bytes left over by direct writes."""
        return sum(map(len, self._unsent))

    @property
    def is_joining(self) -> bool:
        """Whether `write_soon` is holding something back, other than the first bytes."""
        return self.corked is not None and (self.bytes_sent > 0 or len(self.corked) > 1)

    async def send(self, *parts: bytes) -> None:
        """Send the parts, in order, as one piece that no other send can interrupt. When it returns
        they have been handed to the kernel.

        Waits while the peer reads slowly. Raises `ClientGone` if the peer has gone, or has read
        nothing for `send_seconds`; `BrokenStream` if the transport is torn. Cancelled before its
        first byte is sent, it has no effect; cancelled later, it leaves the transport torn. It is
        a checkpoint only where it waits.
        """
        piece = parts
        if held := self._take_corked():
            parts = (held, *piece)
        size = sum(map(len, parts))
        if size <= JOINED_BYTES and len(parts) > 1:
            parts = (b"".join(parts),)
        written = self.try_write(*parts) if size else 0
        if written < size or not size:
            if held and not written:
                self._keep(held)
            try:
                await self._send_rest(() if written else piece, begun=written > 0)
            except ClientGone as error:
                if self.owner is not None:
                    self.owner.on_gone(stopped_reading=error.stopped_reading)
                    await trio.lowlevel.checkpoint()  # `on_gone` may have cancelled this task
                raise
            return
        self._unyielded += max(size, READ_SIZE)
        if self._unyielded >= YIELD_EVERY_BYTES:
            self._unyielded = 0
            # Shielded: the bytes have been sent, so a cancellation here must not look as if they
            # had not. It never waits.
            await trio.lowlevel.cancel_shielded_checkpoint()

    def try_write(self, data: bytes = b"", *more: bytes) -> int:
        """Write without waiting, if possible. Return how many bytes were handed to the kernel.

        0 means that none were taken, for whatever reason. If only some were, the rest is kept,
        by reference, but goes out only when a task calls `send`, even without parts. Never
        raises. Called for every message and reader of a channel: flat, and one system call.
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
            return 0  # the socket is full; or the peer has gone, and the next `send` raises
        self.bytes_sent += written
        if written < size:
            self._unsent = behind((data, *more), written)
            self._decide_road()
        return written

    def write_soon(self, data: bytes, *, more: bool) -> None:
        """Take all of `data` without waiting. `more` means that more follows in this pass of the
        scheduler: `data` is then held back, to be sent with it in one write. If the socket does
        not take everything, `on_left_over` is called; the rest is sent before any later send."""
        corked = self.corked
        if corked is None:
            if not more:
                self._write_or_keep(data)
                return
            # It is sent in this pass of the scheduler, whatever its task does next.
            _uncork_soon(self)
            corked = self.corked = []
            self._direct_fd = -1  # a direct write would overtake it
        corked.append(data)
        self._corked_bytes += len(data)
        if not more or self._corked_bytes > CORK_BYTES:
            self.uncork()

    def hold_back(self, data: bytes) -> bool:
        """Hold back the first bytes of the connection, to be sent with what follows in this pass of
        the scheduler in one write. Return False if they may not fit into the socket: send them."""
        fits = self._direct_fd >= 0 and not self.bytes_sent and len(data) <= FIRST_BYTES
        if fits:
            self.write_soon(data, more=True)
        return fits

    def uncork(self) -> None:
        """Write now what is held back."""
        if data := self._take_corked():
            self._write_or_keep(data)

    def _take_corked(self) -> bytes:
        if not self.corked:
            return b""
        data = b"".join(self.corked)
        self.corked, self._corked_bytes = None, 0
        self._decide_road()
        return data

    def _keep(self, data: bytes) -> None:
        self._unsent = (*self._unsent, memoryview(data))
        self._decide_road()

    def _write_or_keep(self, data: bytes) -> None:
        if not self.try_write(data):
            self._keep(data)
        if self._unsent and self.flushing is None and self.on_left_over:
            self.flushing = trio.Event()
            self.on_left_over()

    async def flush(self) -> None:
        """Send what was left over. Call it in a task that outlives all users of the transport: over
        TLS, a cancelled send tears."""
        assert self.flushing is not None
        try:
            with suppress(BrokenStream, ClientGone):
                await self.send()
        finally:
            self.flushing.set()
            self.flushing = None

    def hold(self, held: bool) -> None:
        """Refuse direct writes while `held`, because they must not interrupt or follow what is
        under way. `send` then goes through Trio."""
        self._held = held
        self._decide_road()

    async def _send_rest(self, parts: tuple[bytes, ...], *, begun: bool) -> None:
        """Send everything in `_unsent`, then `parts`, in turn with other senders. If the piece has
        `begun`, its rest is in `_unsent`, and a cancellation tears."""
        self._unyielded = 0
        if self._send_lock is None:
            self._send_lock = trio.Lock()
        if begun:
            # No other task has run since the direct write, so the lock is free.
            self._send_lock.acquire_nowait()
        else:
            await self._send_lock.acquire()
        self._direct_fd = -1
        try:
            if self.state is TORN:
                raise BrokenStream
            if self.state is CLOSED:
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
            if self.state is TORN:
                self._unsent = ()
            self._send_lock.release()
            self._decide_road()
            if self.owner is not None:
                self.owner.on_sent()

    async def _put(self, parts: tuple[memoryview, ...], *, tears: bool) -> int:
        """Send some of `parts`, and return how many bytes. A cancellation tears if `tears`, or if
        it leaves unknown how much was sent. Raises `ClientGone`."""
        if tears:
            self.state = TORN
        else:
            await trio.lowlevel.checkpoint_if_cancelled()  # nothing has been sent yet
        try:
            if self._socket is None:
                await self._wait_for_room()
                tears, self.state = True, TORN
            sent = await self._put_in_time(parts)
        except STREAM_ERRORS:
            raise ClientGone from None
        if tears and self.state is TORN:
            self.state = OPEN
        self.bytes_sent += sent
        return sent

    async def _wait_for_room(self) -> None:
        """Over TLS: wait before anything is encrypted, so that ending the wait tears nothing."""
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
        # Not over TLS, where it is not known how much was sent.
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
        """The socket that carries the bytes, directly or below TLS; None over memory."""
        return self.carrier.socket if isinstance(self.carrier, trio.SocketStream) else None

    def tear(self) -> None:
        """Mark the last piece as half-sent for good."""
        self.state = TORN
        self._decide_road()

    def stop(self) -> bool:
        """Stop writing for good. Return whether everything was sent. The descriptor may soon be
        another connection's."""
        whole = self.state is OPEN and not self.sending
        self.state = CLOSED
        self._fd = -1
        self._decide_road()
        return whole


_corked = trio.lowlevel.RunVar[list[Transport]]("corked")
"""The transports to uncork at the end of this pass. Waking the scheduler for each of them would
cost a third of what a small write does."""


def _uncork_soon(transport: Transport) -> None:
    try:
        waiting = _corked.get()
    except LookupError:
        waiting = []
        _corked.set(waiting)
    if not waiting:
        trio.lowlevel.current_trio_token().run_sync_soon(_uncork_all, waiting)
    waiting.append(transport)


def _uncork_all(waiting: list[Transport]) -> None:
    transports = waiting.copy()
    waiting.clear()
    for transport in transports:
        transport.uncork()
