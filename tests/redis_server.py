"""A real redis-server, which tests stop, kill, pause and restart, and channels in it."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
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


class Sentinel:
    """A primary, a replica and a sentinel, which makes the replica the primary soon after the other
    is killed. They listen on these three ports."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        folders = [folder / name for name in ("primary", "replica", "sentinel")]
        for each in folders:
            each.mkdir()
        at_once = ("--repl-diskless-sync-delay", "0")
        primary_at = f"127.0.0.1 {ports[0]}"
        self.primary = RedisServer(folders[0], "--port", str(ports[0]), *at_once)
        self.replica = RedisServer(
            folders[1], "--port", str(ports[1]), *at_once, "--replicaof", primary_at
        )
        self.url = f"redis+sentinel://127.0.0.1:{ports[2]}/main"
        self._port = ports[2]
        self._settings = folders[2] / "sentinel.conf"  # which it writes to
        self._settings.write_text(
            f"port {ports[2]}\ndir {folders[2]}\n"
            f"sentinel monitor main {primary_at} 1\n"
            "sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 2000\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start all of them, and wait until they know each other."""
        self.primary.start()
        self.replica.start()
        await until(lambda: "master_link_status:up" in self.replica.command("info", "replication"))
        self._start_sentinel()
        await until(self._knows_the_replica)

    def _start_sentinel(self) -> None:
        command = ["redis-sentinel", str(self._settings)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def _knows_the_replica(self) -> bool:
        asked = ["redis-cli", "-p", str(self._port), "sentinel", "replicas", "main"]
        return b"flags\nslave\n" in subprocess.run(asked, capture_output=True).stdout

    def kill(self) -> None:
        """Kill what still runs."""
        self.primary.kill()
        self.replica.kill()
        if self._process:
            self._process.kill()
            self._process.wait()

    def stop_replication(self) -> None:
        """From now on the replica gets nothing."""
        self.primary.command("config", "set", "requirepass", "secret")
        self.primary.command("-a", "secret", "client", "kill", "type", "replica")


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
