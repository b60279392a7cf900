"""A real redis-server, which tests stop, kill, pause and restart, and channels in it."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import trio
from peers import PATIENCE

from rawstream import RedisChannels

_prefixes = count()


class RedisServer:
    """A redis-server on a unix socket, whose every write is on the disk before it is answered."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it has loaded what it had."""
        self.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [
                *("redis-server", "--port", "0", "--unixsocket", self.socket),
                *("--dir", self.folder, "--save", "", "--appendonly", "yes"),
                *("--appendfsync", "always", *self._options),
            ],
            stdout=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + PATIENCE
        while not self._answers():
            assert time.monotonic() < give_up, "redis-server does not answer"
            time.sleep(0.005)

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(1)
                sock.connect(str(self.socket))
                sock.sendall(b"PING\r\n")
                return sock.recv(7) == b"+PONG\r\n"
        except OSError:
            return False

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.signal(signal.SIGKILL)
        assert self._process
        self._process.wait()

    def stop(self) -> None:
        """Stop it with SIGTERM."""
        self.signal(signal.SIGTERM)
        assert self._process
        self._process.wait()

    def command(self, *words: str) -> str:
        """What redis-cli prints."""
        done = subprocess.run(
            ["redis-cli", "-s", self.socket, *words], capture_output=True, check=True, text=True
        )
        return done.stdout.strip()


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    """A redis-server that runs."""
    server = RedisServer(folder, *options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def new_prefix() -> str:
    """A prefix for keys that no other test has."""
    return f"test{next(_prefixes)}:"


@asynccontextmanager
async def shared(url: str, count: int = 2, **options: Any) -> AsyncIterator[list[RedisChannels]]:
    """Channels as this many processes have them, which are connected to Redis."""
    options.setdefault("prefix", new_prefix())
    channels = [RedisChannels(url, **options) for _ in range(count)]
    async with trio.open_nursery() as nursery:
        for each in channels:
            await nursery.start(each.run)
        yield channels
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], Any], patience: float = PATIENCE) -> None:
    """Wait until something is true. What happens in Redis can only be asked for."""
    with trio.fail_after(patience):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await trio.sleep(0.005)
