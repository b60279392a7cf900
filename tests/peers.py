"""Peers that speak in bytes, and the servers they talk to: over memory, sockets, or as a process."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from http2_client import Http2Stream

from rawstream import Handler, Limits, serve_stream
from rawstream.http.context import ServerContext
from rawstream.http1.connection import Connection
from rawstream.http2.connection import Http2Connection
from rawstream.tcp.keepalive import KeepAliveScheduler
from rawstream.tcp.transport import Transport
from rawstream.tcp.watching import PeekingWatcher

IS_MEASURED = any(name.startswith("COV") for name in os.environ)
"""Whether coverage is measured, also in the processes that tests start."""

use_shortcuts = True
"""Whether servers may take their shortcuts for speed; set once, by an option of pytest."""

PATIENCE = 10
"""Seconds after which a test that waits for something has failed."""


VERSIONS = ("1.1", "2")
"""Of HTTP. Tests are written in the bytes of the first."""


async def happens(event: trio.Event) -> None:
    """Wait for an event that must come."""
    with trio.fail_after(PATIENCE):
        await event.wait()


class Peer:
    """The client's end of a byte stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.received = bytearray()

    async def send(self, data: bytes, *, step: int = 0) -> None:
        """Send, in pieces of `step` bytes, each read by the server before the next is sent."""
        for start in range(0, len(data), step or max(1, len(data))):
            await self.stream.send_all(data[start : start + (step or len(data))])
            if step:
                await trio.testing.wait_all_tasks_blocked()

    async def until(self, ending: bytes) -> bytes:
        """All that has come, once it ends with these bytes."""
        return await self._once(lambda: self.received.endswith(ending), PATIENCE)

    async def exactly(self, count: int) -> bytes:
        """All that has come, once it is `count` bytes; more if more came together."""
        return await self._once(lambda: len(self.received) >= count, PATIENCE)

    async def has(self, pattern: bytes, patience: float = PATIENCE) -> bytes:
        """All that has come, once it contains these bytes."""
        looked_through = 0

        def complete() -> bool:
            nonlocal looked_through
            start = max(0, looked_through - len(pattern))
            looked_through = len(self.received)
            return self.received.find(pattern, start) >= 0

        return await self._once(complete, patience)

    async def to_end_of_chunks(self, patience: float = PATIENCE) -> bytes:
        """A response up to the end of its chunked body, trailers included."""
        last = re.compile(rb"\r\n0\r\n(\S+: .*\r\n)*\r\n\Z")
        return await self._once(lambda: last.search(self.received) is not None, patience)

    async def to_end(self, patience: float = PATIENCE) -> bytes:
        """All that comes until the server closes."""
        with trio.fail_after(patience):
            while data := await self.stream.receive_some():
                self.received += data
        return self._taken()

    async def _once(self, complete: Callable[[], bool], patience: float) -> bytes:
        with trio.fail_after(patience):
            while not complete():
                data = await self.stream.receive_some()
                assert data, f"the server closed after {bytes(self.received)!r}"
                self.received += data
        return self._taken()

    def _taken(self) -> bytes:
        taken = bytes(self.received)
        self.received.clear()
        return taken


# -- Over memory ----------------------------------------------------------------------------------

Connect = Callable[..., Peer]
"""Of the fixture `connect`."""


def connect_over_memory(
    nursery: trio.Nursery,
    handler: Handler,
    limits: Limits | None = None,
    *,
    version: str = "1.1",
) -> Peer:
    """One connection to a handler, over memory."""
    ours, theirs = trio.testing.memory_stream_pair()
    serving = partial(serve_stream, handler, theirs, limits=limits, shortcuts=use_shortcuts)
    nursery.start_soon(serving)
    return peer_of(ours, version)


def peer_of(stream: trio.abc.Stream, version: str) -> Peer:
    """A client that speaks this version of HTTP over a stream."""
    return Peer(Http2Stream(stream) if version == "2" else stream)


# -- Over a pair of sockets -----------------------------------------------------------------------


@dataclass
class Served:
    """The server's end of one connection."""

    context: ServerContext
    transport: Transport
    connection: Connection | Http2Connection

    def drain(self) -> None:
        """As a server does that stops."""
        self.context.draining = True
        self.connection.drain()


@asynccontextmanager
async def connected(
    handler: Handler,
    *,
    dribble: bool = False,
    limits: Limits | None = None,
    version: str = "1.1",
) -> AsyncIterator[tuple[Peer, Served]]:
    """A connection over a pair of sockets with small buffers. With `dribble` its server's socket
    takes a byte at a time."""
    ours, theirs = trio.socket.socketpair()
    for sock in (ours, theirs):
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4096)
    limits = limits or Limits()
    context = ServerContext(
        limits=limits,
        watcher=PeekingWatcher(),
        keep_alive=KeepAliveScheduler(),
        access_log=False,
    )
    stream = trio.SocketStream(theirs)
    if dribble:
        stream.socket = Dribbling(theirs)  # type: ignore[assignment]
    transport = Transport(stream, limits, shortcuts=use_shortcuts and not dribble)
    connection: Connection | Http2Connection
    if version == "2":
        connection = Http2Connection(transport, context, handler, "", last=False)
    else:
        connection = Connection(transport, context, handler, "", last=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(context.keep_alive.run)
        nursery.start_soon(connection.run)
        async with trio.SocketStream(ours) as stream:
            yield peer_of(stream, version), Served(context, transport, connection)
        nursery.cancel_scope.cancel()


class Dribbling:
    """A socket that takes one byte at a time."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    async def send(self, data: memoryview) -> int:
        await trio.lowlevel.checkpoint()
        return await self._sock.send(data[:1])


# -- Over sockets ---------------------------------------------------------------------------------


@dataclass
class Server:
    """A server in the test's nursery."""

    address: tuple[str, int] | str
    stop: trio.Event
    ended: trio.Event = field(default_factory=trio.Event)
    tls: ssl.SSLContext | None = None  # the clients'
    version: str = "1.1"  # that its raw clients speak
    peers: list[Peer] = field(default_factory=list)

    @property
    def port(self) -> int:
        assert isinstance(self.address, tuple)
        return self.address[1]

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def connect(self, *, strict: bool = False) -> Peer:
        """A raw client; over TLS if the server is, its handshake done. A strict one raises
        `trio.BrokenResourceError` where TLS ends without close_notify; the others take that for
        an end, as most clients of HTTP do."""
        stream: trio.abc.Stream
        if isinstance(self.address, str):
            stream = await trio.open_unix_socket(self.address)
        else:
            stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        if self.tls is not None:
            stream = trio.SSLStream(
                stream, self.tls, server_hostname="127.0.0.1", https_compatible=not strict
            )
            with trio.fail_after(PATIENCE):
                await stream.do_handshake()
        self.peers.append(peer_of(stream, self.version))
        return self.peers[-1]

    def open_socket(self) -> socket.socket:
        """A blocking client, for use in a thread; over TLS if the server is, and then strict:
        `ssl.SSLEOFError` is raised where TLS ends without close_notify. It has little room for
        what it has not read yet."""
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        sock = socket.socket(family)
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.connect(self.address)
        if self.tls is None:
            return sock
        return self.tls.wrap_socket(sock, server_hostname="127.0.0.1", suppress_ragged_eofs=False)


Serving = Callable[..., Awaitable[Server]]
"""Of the fixture `serving`."""


@dataclass
class Certificate:
    """A certificate for 127.0.0.1 and localhost, and clients that trust it."""

    server_context: ssl.SSLContext
    client_context: ssl.SSLContext
    certfile: Path
    keyfile: Path
    ca: Path


# -- As a process ---------------------------------------------------------------------------------

COMMAND = (sys.executable, "-m", "rawstream")


@dataclass
class Program:
    """`python -m rawstream` in a process of its own."""

    process: trio.Process
    url: str
    printed: bytes
    """What it has printed with the URL."""
    _logged: bytes = b""

    async def logs(self, text: str) -> None:
        """Wait until it has written this to stderr."""
        assert self.process.stderr is not None
        with trio.fail_after(PATIENCE):
            while text.encode() not in self._logged:
                data = await self.process.stderr.receive_some()
                assert data, f"the server ended after {self._logged!r}"
                self._logged += data

    async def error_output(self) -> str:
        """All that it writes to stderr until it ends."""
        assert self.process.stderr is not None
        with trio.fail_after(PATIENCE * 3):
            while data := await self.process.stderr.receive_some():
                self._logged += data
            await self.process.wait()
        return self._logged.decode()


@asynccontextmanager
async def running(*arguments: str, **options: Any) -> AsyncIterator[Program]:
    """A server process that has said on which URL it answers; killed at the end."""
    process = await trio.lowlevel.open_process(
        [*COMMAND, *arguments],
        stdout=-1,
        stderr=-1,
        **options,
    )
    try:
        yield Program(process, *await _announced(process))
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def _announced(process: trio.Process) -> tuple[str, bytes]:
    """The URL, and all that was printed with it."""
    assert process.stdout is not None
    output = b""
    with trio.fail_after(PATIENCE * 2):
        while not (found := re.search(rb"rawstream on (\S+)", output)):
            data = await process.stdout.receive_some()
            assert data, "the server ended at once"
            output += data
    return found[1].decode(), output


@contextmanager
def served(
    *command: str, announced: bytes, folder: Path = Path(__file__).parent.parent
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process, once its first line has said so; killed at the end. For tests
    without Trio."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},  # as in the terminal of somebody who reads it
    )
    assert process.stdout is not None
    too_late = threading.Timer(PATIENCE * 2, process.kill)
    too_late.start()
    try:
        line = process.stdout.readline()
        assert announced in line, line
        too_late.cancel()
        yield process
    finally:
        too_late.cancel()
        if IS_MEASURED:  # a process that is killed does not say what it has covered
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
        process.kill()
        process.wait()
        process.stdout.close()


def free_port() -> int:
    """A port below the ephemeral range, so that no client of the test can sit on it; of a range
    that no other worker of pytest's takes from."""
    return free_ports(1)[0]


def free_ports(count: int) -> range:
    """Several such ports in a row."""
    first = 18000 + 1000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    for port in range(first + os.getpid() % 900, first + 1000 - count):
        ports = range(port, port + count)
        if all(map(is_free, ports)):
            return ports
    raise AssertionError("no free port")


def is_free(port: int) -> bool:
    """Whether nobody has this port, also not a connection that was closed a moment ago."""
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


NGINX = """
master_process off; daemon off; pid nginx.pid; error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{behind}; {more} }}
  }}
}}
"""
"""A proxy in a folder of the test's own, in one process: killed, it leaves no worker behind. Apart
from that and `more`, nginx's defaults."""


# -- Other people's programs ----------------------------------------------------------------------


@contextmanager
def nginx_before(behind: int, folder: Path, *, port: int, more: str = "") -> Iterator[None]:
    """nginx on a port, before a server on another, once it answers."""
    (folder / "nginx.conf").write_text(NGINX.format(port=port, behind=behind, more=more))
    folder.chmod(0o755)
    command = [program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + PATIENCE
            while is_free(port):
                assert time.monotonic() < end, "nginx does not listen"
                time.sleep(0.02)
            yield
        finally:
            process.kill()


Curl = Callable[..., Awaitable[tuple[int, bytes]]]
"""Of the fixture `curl`."""


def program(name: str) -> str:
    """A program the tests need. CI installs it; elsewhere its tests are skipped without it."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return found


def fetched(url: str, *options: str) -> bytes:
    """What curl receives. For tests without Trio."""
    command = [program("curl"), "-sN", *options, url]
    return subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE * 3).stdout
