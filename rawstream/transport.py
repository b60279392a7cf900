"""The bytes of one connection: one reader, any number of writers, one wire.

Trio's streams allow one task at a time in `send_all` and leave what a cancelled send left half
done to their user. Here writers queue for their turn, a send that makes no progress is bounded,
and a send that was cancelled half way marks the wire as torn, once and for all.

A send first writes directly, without waiting: when the socket has room, which is nearly always,
nothing else is needed. Measured on 64 KiB chunks that halves the CPU a byte costs against
`send_all`, which passes through the scheduler each time. `_write` is that short-cut; where it
takes nothing (TLS, other streams, a full socket) `send_all` does it all. `write_now` and `take` are
for who cannot wait at all: what the socket did not take stays here as the tail, and goes out before
anything else does.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import trio

from .errors import BrokenStream, ClientGone
from .limits import KIB, Limits
from .pacemaker import SECOND_LOOK, is_late

READ_SIZE = 64 * KIB
"""Bytes asked for in one read; Trio's own default."""

PIECE_SIZE = 64 * KIB
"""What does not go to a socket directly goes in pieces of this size, each with the whole of
`send_seconds`: so much of it TLS holds encrypted while its client does not read."""

SENDS_A_PASS = 64
"""Direct writes after which a sender lets the other tasks run, however willing the socket is."""

TLS_SILENCE = 0.005
"""Seconds without a record, after which those that came are taken to be read."""

SETTLING_SECONDS = 0.02
"""How often a connection that is only to be acknowledged is asked whether it is."""

STREAM_ERRORS = (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError)
"""What a stream may say on its way out. Busy: a send is stuck below TLS."""

DIRECT = os.name == "posix"
"""Where a socket is a file descriptor that `os.read` and `os.writev` take."""

UNSENT = 0
"""The ioctl that asks how many bytes the peer has not acknowledged."""
if sys.platform == "linux":
    import fcntl
    import termios

    UNSENT = termios.TIOCOUTQ


class Transport:
    """One connection's byte stream, whatever carries it: TCP, a unix socket, TLS, or memory."""

    __slots__ = (
        "_carrier", "_fd", "_limits", "_socket", "_tail", "_turn", "_unyielded", "bytes_sent",
        "drained", "held", "lost", "stream", "torn",
    )  # fmt: skip

    lost: Callable[[str], None] | None
    """Called when a send finds that the peer has gone, with how; before `ClientGone` is raised."""
    drained: Callable[[], None] | None
    """Called when a send that had to wait is over, sent or not."""

    def __init__(self, stream: trio.abc.Stream, limits: Limits) -> None:
        self.stream = stream
        self.bytes_sent = 0
        self.torn = False
        self.held = False  # `write_now` refuses
        self.lost = self.drained = None
        self._limits = limits
        self._turn: trio.Lock | None = None  # made when a send first has to wait
        self._tail: memoryview | None = None  # what `write_now` took and the socket did not
        self._unyielded = 0
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        # What TLS is carried by. `unwrap` takes it away from the TLS stream.
        self._carrier: trio.abc.Stream = (
            stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        )
        # Where reads and writes may go directly; -1 where they may not, and from the moment of
        # closing on, when the descriptor may belong to another connection.
        self._fd = self._socket.fileno() if self._socket is not None and DIRECT else -1

    @property
    def sending(self) -> bool:
        """Whether a send is under way, its bytes perhaps half on the wire."""
        return self._tail is not None or (self._turn is not None and self._turn.locked())

    async def receive(self) -> bytes:
        """The next bytes, as they come; b"" at the end of input, a reset being an end, too."""
        try:
            if self._fd < 0 or self._socket is None:
                return bytes(await self.stream.receive_some(READ_SIZE))
            # First the others: by the time they have had their turn a busy client's next bytes
            # are often here, and waiting for them costs more than one read in vain.
            await trio.lowlevel.checkpoint()
            while True:
                try:
                    return os.read(self._fd, READ_SIZE)
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(self._socket)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
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

    def receive_now(self) -> bytes | None:
        """What is here already, as `receive` gives it; None if that would have to wait."""
        if self._fd < 0:
            return None
        try:
            return os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    async def send(self, *parts: bytes) -> None:
        """Put the parts on the wire, one behind the other, as one piece that no other send can
        come into. When it returns they are with the kernel.

        Waits while the peer reads slowly. Raises `ClientGone` when the peer has gone, or has
        read nothing for `send_seconds`; `BrokenStream` when the wire is torn. Cancelled while it
        waits for its first byte it leaves nothing behind; later, a torn wire. It is a checkpoint
        only where it waits.
        """
        try:
            written = self._write(parts)
            if written < sum(map(len, parts)) or self.torn or self._tail is not None:
                await self._send_rest(parts, written)
                return
        except ClientGone as error:
            if self.lost:
                self.lost(str(error))
                await trio.lowlevel.checkpoint()  # where that has cancelled this task
            raise
        self._unyielded += 1
        if self._unyielded >= SENDS_A_PASS:
            self._unyielded = 0
            # Shielded: the bytes are out, so a cancellation here must not look like a send that
            # did not happen. It never waits.
            await trio.lowlevel.cancel_shielded_checkpoint()

    def write_now(self, data: bytes) -> int:
        """Take `data` without waiting, if that can be done; the count of bytes that are with the
        kernel, 0 if none were taken. If it is less than all, the rest is taken too, by reference,
        but somebody has to `send`, even nothing, for it to go out. Never raises.

        Called for every message and reader of a channel: flat, and one system call.
        """
        turn = self._turn
        if self._fd < 0 or self._tail is not None or self.torn or self.held:
            return 0
        if turn is not None and turn.locked():
            return 0
        try:
            written = os.write(self._fd, data)
        except OSError:
            return 0  # full; or gone, and whoever sends next is told
        self.bytes_sent += written
        if written < len(data):
            self._tail = memoryview(data)[written:]
        return written

    def take(self, data: bytes) -> None:
        """Take all of `data` without waiting; what the socket does not take goes out before any
        later send does. If this is `sending` now, somebody has to `send`, even nothing."""
        if not self.write_now(data):
            tail = b"" if self._tail is None else bytes(self._tail)
            self._tail = memoryview(tail + data)

    def _write(self, parts: Sequence[bytes]) -> int:
        """Write what the socket takes without waiting; the count of bytes, 0 if it takes none.

        Refuses, with 0, wherever bytes would be mixed or skip a layer.
        Raises as `send` does.
        """
        if self._fd < 0 or self.sending:
            return 0
        if self.torn:
            raise BrokenStream
        try:
            written = os.writev(self._fd, parts)
        except BlockingIOError:
            return 0
        except OSError:
            raise ClientGone from None
        self.bytes_sent += written
        return written

    async def _send_rest(self, parts: Sequence[bytes | memoryview], written: int) -> None:
        """All that is left of `parts` after `written` bytes, in turn with other senders."""
        self._unyielded = 0
        if self._turn is None:
            self._turn = trio.Lock()
        if written:
            # No task has run since the direct write, so the turn is free.
            self._turn.acquire_nowait()
        else:
            await self._turn.acquire()
        try:
            if self.torn:
                raise BrokenStream
            rest = memoryview(parts[0] if len(parts) == 1 else b"".join(parts))[written:]
            while self._tail is not None:
                # It stays the tail until it is out: who is cancelled here tears nothing.
                taken = await self._put_in_time(self._tail, begun=False)
                self._tail = self._tail[taken:] or None
            while rest:
                taken = await self._put_in_time(rest, begun=written > 0)
                rest = rest[taken:]
                written += taken
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            raise ClientGone from None
        finally:
            self._turn.release()
            if self.drained:
                self.drained()

    async def _put_in_time(self, data: memoryview, *, begun: bool) -> int:
        """As `_put`. Raises `ClientGone` if the socket takes nothing for `send_seconds`."""
        with trio.move_on_after(self._limits.send_seconds) as waiting:
            return await self._put(data, begun=begun)
        # Of what a TLS stream was sending nobody can tell how much is out.
        if is_late(waiting.deadline) and self._socket is not None:
            with trio.move_on_after(SECOND_LOOK):
                return await self._put(data, begun=begun)
        raise ClientGone("client stopped reading")

    async def _put(self, data: memoryview, *, begun: bool) -> int:
        """Send a piece of `data` and return its size. Cancelled before that is out, it leaves the
        wire torn if the piece is `begun`, or if nobody can tell how much of it is out."""
        self.torn = begun or self._socket is None
        if self._socket is None:
            taken = len(data[:PIECE_SIZE])
            await self.stream.send_all(data[:PIECE_SIZE])
        else:
            taken = await self._socket.send(data)
        self.torn = False
        self.bytes_sent += taken
        return taken

    @property
    def carrier_socket(self) -> trio.socket.SocketType | None:
        """The socket that carries the bytes, be it under TLS; None over memory."""
        return self._carrier.socket if isinstance(self._carrier, trio.SocketStream) else None

    def is_settled(self) -> bool:
        """Whether a close now loses nothing: the peer has acknowledged all that was sent, and
        nothing lies unread that would make the kernel answer a close with a reset."""
        sock = self.carrier_socket
        if sock is None or not UNSENT:
            return True
        try:
            unsent = fcntl.ioctl(sock.fileno(), UNSENT, bytes(4))
            unread = fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4))
        except (OSError, ValueError):
            return True
        return not any(unsent + unread)

    async def close(self) -> None:
        """Close after all that was sent; over TLS with its close_notify, within `linger_seconds`.
        Cancelled, it has closed all the same."""
        self._fd = -1
        if self.torn or self.sending:
            await trio.aclose_forcefully(self.stream)
        else:
            with trio.move_on_after(self._limits.linger_seconds):
                if isinstance(self.stream, trio.SSLStream):
                    await _read_away(self.stream)
                await self.stream.aclose()

    async def abort(self) -> None:
        """Close so that the peer cannot take what it has for all there was: with a reset, over
        TLS without close_notify."""
        self._fd = -1
        if self._socket is not None:
            linger = struct.pack("ii", 1, 0)
            self._socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, linger)
        await trio.aclose_forcefully(self.stream)

    async def close_in_stages(self, *, until_settled: bool) -> None:
        """Close so that the peer can still read what was sent, though it may be sending itself
        (RFC 9112 section 9.6): first our half, then the whole, when the peer has closed, has been
        silent for `linger_seconds`, or has gone on sending for `linger_total_seconds`. Or, with
        `until_settled`, as soon as it has acknowledged everything, within `linger_seconds`."""
        self._fd = -1
        limits = self._limits
        total = limits.linger_seconds if until_settled else limits.linger_total_seconds
        try:
            with trio.move_on_after(total):
                async with trio.open_nursery() as nursery:
                    if until_settled:
                        nursery.start_soon(self._watch_settling, nursery.cancel_scope)
                    with suppress(*STREAM_ERRORS):
                        await self._linger()
                    nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(self._carrier)

    async def _watch_settling(self, lingering: trio.CancelScope) -> None:
        settled = False
        while not settled:
            await trio.sleep(SETTLING_SECONDS)
            settled = self.is_settled()
        lingering.cancel()

    async def _linger(self) -> None:
        if isinstance(self.stream, trio.SSLStream):
            await _read_away(self.stream)
            # Our close_notify (RFC 8446 section 6.1), and theirs if it comes soon: a client that is
            # in the middle of sending has none for us.
            with trio.move_on_after(self._limits.linger_seconds / 2):
                with suppress(*STREAM_ERRORS):
                    await self.stream.unwrap()
        if isinstance(self._carrier, trio.abc.HalfCloseableStream):
            await self._carrier.send_eof()
            with trio.CancelScope() as silent:
                silent.deadline = trio.current_time() + self._limits.linger_seconds
                while await self._carrier.receive_some(READ_SIZE):
                    silent.deadline = trio.current_time() + self._limits.linger_seconds


async def _read_away(stream: trio.SSLStream[trio.abc.Stream]) -> None:
    """Read until nothing comes for a moment. A TLS stream that holds records which nobody has read
    ends without close_notify."""
    with suppress(*STREAM_ERRORS):
        silent = False
        while not silent:
            with trio.move_on_after(TLS_SILENCE) as waiting:
                if not await stream.receive_some(READ_SIZE):
                    break
            silent = waiting.cancelled_caught
