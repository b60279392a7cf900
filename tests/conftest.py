"""What the tests share: servers in the test's own nursery, and peers that speak in bytes."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme

import rawstream.exchange
from rawstream import Limits, Request, serve
from rawstream.departure import PeekingDepartures
from rawstream.exchange import Service
from rawstream.http1 import Connection
from rawstream.incoming import Incoming
from rawstream.pacemaker import Pacemaker
from rawstream.transport import Transport

NOW = 784111777
DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
PATIENCE = 10
"""Seconds after which a test that waits for bytes has failed."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without-shortcuts",
        action="store_true",
        help="run with every short-cut for speed switched off",
    )


@pytest.fixture(autouse=True)
def _shortcuts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.config.getoption("--without-shortcuts"):
        monkeypatch.setattr(Transport, "_write", lambda self, parts: 0)
        monkeypatch.setattr(Transport, "write_now", lambda self, data: 0)
        monkeypatch.setattr(Transport, "receive_now", lambda self: None)
        monkeypatch.setattr(Incoming, "take_message", lambda self: None)


@pytest.fixture
def fixed_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every response is sent at the moment of the RFCs' examples."""
    monkeypatch.setattr(rawstream.exchange.time, "time", lambda: NOW)


def program(name: str) -> str:
    """A program the tests need. CI installs it; elsewhere its tests are skipped without it."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return found


# -- Over memory ----------------------------------------------------------------------------------

Handler = Callable[[Request], Awaitable[None]]


class Peer:
    """The client's end of a byte stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.received = b""

    async def send(self, data: bytes, *, step: int = 0) -> None:
        """Send, in pieces of `step` bytes, each read by the server before the next is sent."""
        for start in range(0, len(data), step or max(1, len(data))):
            await self.stream.send_all(data[start : start + (step or len(data))])
            if step:
                await trio.testing.wait_all_tasks_blocked()

    async def until(self, ending: bytes) -> bytes:
        """All that has come, until it ends with these bytes."""
        with trio.fail_after(PATIENCE):
            while not self.received.endswith(ending):
                data = await self.stream.receive_some()
                assert data, f"the server closed after {self.received!r}"
                self.received += data
        return self._taken()

    async def exactly(self, count: int) -> bytes:
        """The next `count` bytes."""
        with trio.fail_after(PATIENCE):
            while len(self.received) < count:
                data = await self.stream.receive_some()
                assert data, f"the server closed after {self.received!r}"
                self.received += data
        return self._taken()

    async def has(self, pattern: bytes, patience: float = PATIENCE) -> bytes:
        """All that has come, once it contains these bytes."""
        with trio.fail_after(patience):
            while pattern not in self.received:
                data = await self.stream.receive_some()
                assert data, f"the server closed after {self.received!r}"
                self.received += data
        return self._taken()

    async def to_end_of_chunks(self, patience: float = PATIENCE) -> bytes:
        """A response up to the end of its chunked body, trailers included."""
        with trio.fail_after(patience):
            while not re.search(rb"\r\n0\r\n(\S+: .*\r\n)*\r\n\Z", self.received):
                data = await self.stream.receive_some()
                assert data, f"the server closed after {self.received!r}"
                self.received += data
        return self._taken()

    async def to_end(self, patience: float = PATIENCE) -> bytes:
        """All that comes until the server closes."""
        with trio.fail_after(patience):
            while data := await self.stream.receive_some():
                self.received += data
        return self._taken()

    def _taken(self) -> bytes:
        taken, self.received = self.received, b""
        return taken


Connect = Callable[..., Peer]


def connect_over_memory(
    nursery: trio.Nursery, handler: Handler, limits: Limits | None = None, **options: Any
) -> Peer:
    """One connection to a handler, over memory; `options` are `Service`'s."""
    limits = limits or Limits()
    departures, pacemaker = PeekingDepartures(), Pacemaker()
    service = Service(limits=limits, departures=departures, pacemaker=pacemaker, **options)
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(pacemaker.run)
    transport = Transport(theirs, limits)
    nursery.start_soon(Connection(transport, service, handler, "", last=False).run)
    return Peer(ours)


@pytest.fixture
def connect(nursery: trio.Nursery) -> Connect:
    """`peer = connect(handler)`: one connection to a handler, over memory."""
    return partial(connect_over_memory, nursery)


# -- Over sockets ---------------------------------------------------------------------------------


@dataclass
class Server:
    """A server in the test's nursery."""

    address: tuple[str, int] | str
    stop: trio.Event
    ended: trio.Event = field(default_factory=trio.Event)
    tls: ssl.SSLContext | None = None
    peers: list[Peer] = field(default_factory=list)

    @property
    def port(self) -> int:
        assert isinstance(self.address, tuple)
        return self.address[1]

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def connect(self) -> Peer:
        """A raw client; over TLS if the server is."""
        stream: trio.abc.Stream
        if isinstance(self.address, str):
            stream = await trio.open_unix_socket(self.address)
        else:
            stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        if self.tls is not None:
            stream = trio.SSLStream(
                stream, self.tls, server_hostname="127.0.0.1", https_compatible=True
            )
        self.peers.append(Peer(stream))
        return self.peers[-1]


Serving = Callable[..., Awaitable[Server]]


@pytest.fixture
async def serving(nursery: trio.Nursery) -> AsyncIterator[Serving]:
    """`server = await serving(handler)`: a server on a port of its own."""

    async def serving(handler: Handler, **options: Any) -> Server:
        stop, ended = trio.Event(), trio.Event()
        client_context = options.pop("client_context", None)

        async def run(task_status: trio.TaskStatus[list[tuple[str, int] | str]]) -> None:
            await serve(handler, stop=stop, task_status=task_status, **options)
            ended.set()

        if "unix" not in options:
            options.setdefault("port", 0)
        addresses = await nursery.start(run)
        servers.append(Server(addresses[0], stop, ended, client_context))
        return servers[-1]

    servers: list[Server] = []
    yield serving
    for server in servers:
        for peer in server.peers:
            await trio.aclose_forcefully(peer.stream)


@dataclass
class Certificate:
    """A certificate for 127.0.0.1 and localhost, and clients that trust it."""

    server_context: ssl.SSLContext
    client_context: ssl.SSLContext
    certfile: Path
    keyfile: Path
    ca: Path


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    certfile, keyfile, ca = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(certfile, append=number > 0)
    issued.private_key_pem.write_to_path(keyfile)
    authority.cert_pem.write_to_path(ca)
    client_context = ssl.create_default_context(cafile=ca)
    return Certificate(
        rawstream.listen.tls_context(str(certfile), str(keyfile)),
        client_context,
        certfile,
        keyfile,
        ca,
    )


# -- As a process ---------------------------------------------------------------------------------

COMMAND = (sys.executable, "-m", "rawstream")


@dataclass
class Program:
    """`python -m rawstream` in a process of its own."""

    process: trio.Process
    url: str

    async def error_output(self) -> str:
        """All that it writes to stderr until it ends."""
        assert self.process.stderr is not None
        output = b""
        with trio.fail_after(PATIENCE * 3):
            while data := await self.process.stderr.receive_some():
                output += data
            await self.process.wait()
        return output.decode()


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
        yield Program(process, await _announced(process))
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def _announced(process: trio.Process) -> str:
    assert process.stdout is not None
    output = b""
    with trio.fail_after(PATIENCE * 2):
        while not (found := re.search(rb"rawstream on (\S+)", output)):
            data = await process.stdout.receive_some()
            assert data, "the server ended at once"
            output += data
    return found[1].decode()


Curl = Callable[..., Awaitable[tuple[int, bytes]]]


@pytest.fixture
def curl() -> Curl:
    """`status, output = await curl("-N", url)`: exit status and standard output."""
    path = program("curl")

    async def curl(*arguments: str, input: bytes = b"") -> tuple[int, bytes]:
        with trio.fail_after(PATIENCE * 3):
            done = await trio.run_process(
                [path, "-s", *arguments], stdin=input, capture_stdout=True, check=False
            )
        return done.returncode, done.stdout

    return curl
