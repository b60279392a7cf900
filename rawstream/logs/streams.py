"""Lines from streams of bytes: standard input, the output of a command, and bodies of requests."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from math import inf

import trio

from ..channels.channel import Channel
from ..http.request import Request
from ..limits import KIB
from ..stderr import PIPE_BUF
from .lines import Line, LineSplitter

READ_BYTES = 64 * KIB
PATIENCE_SECONDS = 1.0
"""After this silence the last line is shown, although it has no line end."""

PassOn = Callable[[bytes], Awaitable[None]]


class LinePublisher:
    """Publishes the lines of a stream of bytes."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.count = 0
        """The lines that were published."""
        self._lines = LineSplitter()
        self._last_came = trio.current_time()

    async def feed(self, data: bytes) -> None:
        """Take bytes."""
        self._last_came = trio.current_time()
        await self._publish(self._lines.feed(data))

    async def end(self) -> None:
        """Take the end of the bytes."""
        await self._publish(self._lines.end())

    async def end_silent_lines(self) -> None:
        """Publish the last line, too, whenever nothing follows for a while. Until cancelled."""
        while True:
            await trio.sleep_until(self._last_came + PATIENCE_SECONDS)
            if trio.current_time() - self._last_came >= PATIENCE_SECONDS:
                await self.end()
                await trio.sleep(PATIENCE_SECONDS)

    async def _publish(self, lines: list[Line]) -> None:
        for line in lines:
            self.channel.publish(line.text)
            self.count += 1
            await self.channel.keep_pace()
        await trio.lowlevel.checkpoint()


async def publish_stream(channel: Channel, pieces: AsyncIterator[bytes], pass_on: PassOn) -> None:
    """Publish the lines of a stream, and pass its bytes on, until it ends."""
    publisher = LinePublisher(channel)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.end_silent_lines)
        async for data in pieces:
            await pass_on(data)
            await publisher.feed(data)
        nursery.cancel_scope.cancel()
    await publisher.end()


async def publish_body(request: Request, channel: Channel) -> None:
    """Publish the lines of a request's body as they come, and answer 201 with `{"id": ID of the
    last, "entries": COUNT}`. The body may be silent for any time."""
    publisher = LinePublisher(channel)

    async def farewell() -> None:
        """The server is stopping, and the client might send lines for ever."""
        await publisher.end()
        await request.respond(503, f"the server is stopping; lines taken: {publisher.count}\n")

    request.exchange.on_drain(farewell)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.end_silent_lines)
        async for data in request.stream(silence=inf):
            await publisher.feed(data)
        nursery.cancel_scope.cancel()
    await publisher.end()
    request.exchange.on_drain(None)
    last = channel.id_of(channel.end)
    await request.respond(201, json={"id": last, "entries": publisher.count})


# -- Descriptors that others use, too, and which therefore stay blocking ---------------------------


class Descriptor:
    """The bytes that come from a file descriptor, as an iterator."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._patience = inf
        self._waiting = trio.CancelScope()

    def end_when_silent(self, seconds: float) -> None:
        """From now on take this much silence for the end."""
        self._patience = seconds
        self._waiting.deadline = trio.current_time() + seconds

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        with trio.CancelScope(deadline=trio.current_time() + self._patience) as self._waiting:
            await _until_ready(partial(trio.lowlevel.wait_readable, self._fd))
        data = b"" if self._waiting.cancelled_caught else self._read()
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


def writer_to(fd: int) -> PassOn:
    """Return a function that writes bytes to a descriptor whole. Once nobody reads them any more,
    it does nothing."""
    room = select.poll()
    room.register(fd, select.POLLOUT)
    is_gone = False

    async def pass_on(data: bytes) -> None:
        nonlocal is_gone
        for start in range(0, len(data), PIPE_BUF):
            if is_gone:
                return
            if not room.poll(0):
                await _until_ready(partial(trio.lowlevel.wait_writable, fd))
            try:
                _write_whole(fd, data[start : start + PIPE_BUF])
            except OSError:  # a closed pipe, a full disk: the logs go on
                is_gone = True

    return pass_on


def _write_whole(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


async def _until_ready(wait: Callable[[], Awaitable[None]]) -> None:
    with suppress(PermissionError):  # a regular file, which epoll does not take: always ready
        await wait()
        return
    await trio.lowlevel.checkpoint()
