"""Lines from streams of bytes: standard input, the output of a command, and bodies of requests."""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from math import inf

import trio

from ..channels.channel import Channel
from ..http.request import Request
from ..limits import KIB, MIB
from ..stderr import PIPE_BUF, logger
from .lines import PATIENCE_SECONDS, Line, LineSplitter

READ_BYTES = 64 * KIB
LINGER_BYTES = MIB
"""Read of a stream that others hold open, after its end was expected."""

PassOn = Callable[[bytes], Awaitable[None]]


class LinePublisher:
    """Publishes the lines of a stream of bytes."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.count = 0
        """The lines that were published."""
        self.is_held_up = False
        """Whether the bytes that come next are not asked for now: that is no silence."""
        self._lines = LineSplitter()
        self._last_came = trio.current_time()

    async def feed(self, data: bytes) -> None:
        """Take bytes."""
        for line in self._lines.feed(data):
            self._publish(line)
            await self.channel.keep_pace()
        self._last_came = trio.current_time()
        await trio.lowlevel.checkpoint()

    def end(self) -> None:
        """Take the end of the bytes, or of the patience."""
        for line in self._lines.end():
            self._publish(line)

    async def end_silent_lines(self) -> None:
        """Publish the last line, too, whenever nothing follows for a while. Until cancelled."""
        while True:
            await trio.sleep(PATIENCE_SECONDS / 4)
            is_silent = trio.current_time() - self._last_came >= PATIENCE_SECONDS
            if is_silent and not self.is_held_up:
                self.end()

    def _publish(self, line: Line) -> None:
        self.channel.publish(line.text)
        self.count += 1


async def publish_stream(channel: Channel, pieces: AsyncIterator[bytes], pass_on: PassOn) -> None:
    """Publish the lines of a stream, and pass its bytes on, until it ends."""
    publisher = LinePublisher(channel)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.end_silent_lines)
        async for data in pieces:
            publisher.is_held_up = True
            await pass_on(data)
            await publisher.feed(data)
            publisher.is_held_up = False
        nursery.cancel_scope.cancel()
    publisher.end()


async def publish_body(request: Request, channel: Channel) -> None:
    """Publish the lines of a request's body as they come, and answer 201 with `{"id": ID of the
    last, "entries": COUNT}`. The body may be silent for any time."""
    publisher = LinePublisher(channel)

    async def farewell() -> None:
        """The server is stopping, and the client might send lines for ever."""
        publisher.end()
        await request.respond(503, f"the server is stopping; lines taken: {publisher.count}\n")

    request.exchange.on_drain(farewell)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.end_silent_lines)
        try:
            async for data in request.stream(silence=inf):
                await publisher.feed(data)
        finally:
            publisher.end()  # also of a client that was cut off
        nursery.cancel_scope.cancel()
    request.exchange.on_drain(None)
    last = channel.id_of(channel.end)
    await request.respond(201, json={"id": last, "entries": publisher.count})


# -- Descriptors that others use, too, and which therefore stay blocking ---------------------------


class Descriptor:
    """The bytes that come from a file descriptor, as an iterator."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._deadline = inf
        self._left = 0  # bytes that are still read after the deadline
        self._waiting = trio.CancelScope()

    def end_within(self, seconds: float) -> None:
        """Expect the end. After this time only what has been written already is read."""
        self._deadline = self._waiting.deadline = trio.current_time() + seconds
        self._left = LINGER_BYTES

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if trio.current_time() < self._deadline:
            with trio.CancelScope(deadline=self._deadline) as self._waiting:
                await _until_ready(partial(trio.lowlevel.wait_readable, self._fd))
        is_late = trio.current_time() >= self._deadline
        if is_late and (self._left <= 0 or not _is_ready(self._fd, select.POLLIN, wait=0)):
            raise StopAsyncIteration
        data = self._read()
        if is_late:
            self._left -= len(data)
        if not data:
            raise StopAsyncIteration
        return data

    def _read(self) -> bytes:
        try:
            return os.read(self._fd, READ_BYTES)
        except OSError as error:
            if error.errno == errno.EIO:  # the end of a pseudo-terminal
                return b""
            raise


class Outlet:
    """A file descriptor to which bytes are passed on. Once nobody takes them any more, they are
    dropped: the logs go on."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._is_gone = False
        # Only a pipe says when it has room for how much. A terminal may say that it has room, and
        # then not take it, for as long as somebody has stopped it.
        self._write = self._to_pipe if stat.S_ISFIFO(os.fstat(fd).st_mode) else self._in_thread

    async def __call__(self, data: bytes) -> None:
        """Write bytes whole."""
        if self._is_gone:
            return
        try:
            await self._write(data)
        except OSError as error:
            self._is_gone = True
            if not isinstance(error, BrokenPipeError):
                logger.warning("the output is not passed on any more: %s", error.strerror)

    def close(self) -> None:
        """Tell who reads them that nothing follows."""
        self._is_gone = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._fd)

    async def _to_pipe(self, data: bytes) -> None:
        for start in range(0, len(data), PIPE_BUF):
            await trio.lowlevel.wait_writable(self._fd)
            _write_whole(self._fd, data[start : start + PIPE_BUF])

    async def _in_thread(self, data: bytes) -> None:
        await trio.to_thread.run_sync(_write_whole, self._fd, data, abandon_on_cancel=True)


def _write_whole(fd: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:  # somebody has made it non-blocking
            _is_ready(fd, select.POLLOUT, wait=None)


def _is_ready(fd: int, event: int, *, wait: int | None) -> bool:
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(wait))


def is_in_foreground() -> bool:
    """Whether Ctrl-C in our terminal reaches us, and with us all programs of our pipeline."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


async def _until_ready(wait: Callable[[], Awaitable[None]]) -> None:
    with suppress(PermissionError):  # a regular file, which epoll does not take: always ready
        await wait()
        return
    await trio.lowlevel.checkpoint()
