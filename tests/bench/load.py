"""The clients of the benchmark, and the server processes that they load.

Servers run on one core and the clients on the other. The CPU time of a server's process, user and
system, is read from the kernel, which counts it in nanoseconds.
"""

from __future__ import annotations

import itertools
import os
import re
import resource
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import shared

SERVER_CORE, LOAD_CORE = 0, 1
READY_SECONDS = 20
SILENCE_SECONDS = 30

PORTS = itertools.count(17000 + os.getpid() % 1000)
"""Below the ephemeral range, so that no client socket can have one of them. Each server has another
one: a connection to the one before may not be over yet."""

MASK = b"\x01\x02\x03\x04"
PAYLOAD = bytes(100)
MASKED_FRAME = b"\x82\xe4" + MASK + bytes(byte ^ MASK[n % 4] for n, byte in enumerate(PAYLOAD))
ECHOED_FRAME = b"\x82\x64" + PAYLOAD
MESSAGE = shared.MESSAGE.encode()
IN_FLIGHT = 32

UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
GET = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: bench/1.0\r\n"
    "Accept: {accept}\r\n\r\n"
)

BROWSERS_GET = (
    "GET /hello/{number}?page={number}&sort=name HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    "Connection: keep-alive\r\nCookie: session={session:x}; theme=dark\r\n\r\n"
)
POST = (
    "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n"
    "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
)

checkout_before = ""
"""The folder of the earlier checkout that the server `shared.BEFORE` runs."""


class Server:
    """A server process on its core, with the processes that it has started."""

    def __init__(self, name: str, port: int, *, access_log: bool) -> None:
        self.name = name
        self.port = port
        options = ["access-log"] if access_log else []
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("servers.py"), name, str(port), *options],
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": checkout_before} if name == shared.BEFORE else None,
        )
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if time.monotonic() > deadline:
                raise SystemExit(f"{name} did not start")
            time.sleep(0.05)
        self._processes = [process for process in Path("/proc").iterdir() if self._is_of(process)]

    def _is_ready(self) -> bool:
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def _is_of(self, process: Path) -> bool:
        """Return whether this process is the server's, or was started by it."""
        try:
            session = (process / "stat").read_text().rpartition(")")[2].split()[3]
        except (OSError, IndexError):
            return False
        return session == str(self.process.pid)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), SILENCE_SECONDS)

    def cpu(self) -> float:
        """Return the seconds of CPU that its threads have used."""
        tasks = [task for process in self._processes for task in (process / "task").iterdir()]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def memory(self) -> int:
        """Return its resident bytes."""
        pages = [(process / "statm").read_text().split()[1] for process in self._processes]
        return sum(map(int, pages)) * resource.getpagesize()

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def get(self, path: str, accept: str = "*/*") -> bytes:
        return GET.format(path=path, port=self.port, accept=accept).encode()

    def browsers_get(self, number: int) -> bytes:
        return BROWSERS_GET.format(number=number, port=self.port, session=hash((number,))).encode()

    def post(self, path: str, body: bytes) -> bytes:
        return POST.format(path=path, port=self.port, length=len(body)).encode() + body

    def upgrade(self, path: str) -> bytes:
        return UPGRADE.format(path=path, port=self.port).encode()


@contextmanager
def servers(*names: str, access_log: bool = False) -> Iterator[list[Server]]:
    """Run these servers, one process each, and kill them at the end."""
    started: list[Server] = []
    try:
        for name in names:
            started.append(Server(name, next(PORTS), access_log=access_log))
        yield started
    finally:
        for server in started:
            server.kill()


class Sample:
    """The CPU time that a server used for a number of messages."""

    def __init__(self) -> None:
        self.cpu = self.count = 0.0

    def add(self, server: Server, burst: Callable[[], float]) -> None:
        cpu = server.cpu()
        self.count += burst()
        self.cpu += server.cpu() - cpu

    @property
    def microseconds(self) -> float:
        return self.cpu / self.count * 1e6


def take_turns(
    group: list[Server],
    rounds: int,
    burst_of: Callable[[Server], Callable[[], float]],
    samples: dict[str, Sample] | None = None,
) -> dict[str, Sample]:
    """Load the servers in turn, so that other work on the machine affects all of them equally. Add
    to `samples`, if there are some already.

    The first round warms up and does not count.
    """
    samples = samples or {server.name: Sample() for server in group}
    bursts = {server.name: burst_of(server) for server in group}
    for server in group:
        bursts[server.name]()
    for _ in range(rounds):
        for server in group:
            samples[server.name].add(server, bursts[server.name])
    return samples


# -- Requests and replies -------------------------------------------------------------------------


def ping_pong(
    sockets: list[socket.socket], messages: Iterator[bytes], ending: bytes, count: int
) -> float:
    """Keep one message in flight on every socket, until `count` replies have arrived.

    A server that is faster than its load has more of its time left, which it spends on waking for
    single requests: so this is as fast as Python can be.
    """
    read, write = os.read, os.write
    replied = 0
    with select.epoll() as epoll:
        for sock in sockets:
            epoll.register(sock, select.EPOLLIN)
            write(sock.fileno(), next(messages))
        sent = len(sockets)
        while replied < sent:
            ready = epoll.poll(SILENCE_SECONDS)
            if not ready:
                raise SystemExit("the server is silent")
            for fd, _ in ready:
                reply = read(fd, 65536)
                if not reply.endswith(ending):
                    if not reply:
                        raise SystemExit("the server closed the connection")
                    continue  # head and body arrived in two reads
                replied += 1
                if sent < count:
                    write(fd, next(messages))
                    sent += 1
    return replied


def flood(sockets: list[socket.socket], message: bytes, size: int, count: int) -> float:
    """Write `IN_FLIGHT` messages at once on every socket that has all its replies of `size` bytes,
    until `count` replies have arrived."""
    missing = dict.fromkeys(sockets, 0)
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
        sent, replied = 0, 0
        while replied < max(count, sent):
            for sock, left in missing.items():
                if not left and sent < count:
                    sock.sendall(message * IN_FLIGHT)
                    sent += IN_FLIGHT
                    missing[sock] = size * IN_FLIGHT
            for sock in _ready(selector):
                missing[sock] -= len(_received(sock))
                if not missing[sock]:
                    replied += IN_FLIGHT
    return replied


def _ready(selector: selectors.BaseSelector) -> Iterator[socket.socket]:
    ready = selector.select(SILENCE_SECONDS)
    if not ready:
        raise SystemExit("the server is silent")
    for key, _ in ready:
        assert isinstance(key.fileobj, socket.socket)
        yield key.fileobj


def _received(sock: socket.socket) -> bytes:
    data = sock.recv(1 << 18)
    if not data:
        raise SystemExit("the server closed the connection")
    return data


def websockets_to(server: Server, count: int) -> list[socket.socket]:
    """Return sockets on which the server echoes frames."""
    sockets = [server.connect() for _ in range(count)]
    for sock in sockets:
        sock.sendall(server.upgrade("/ws"))
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(1)
        if b" 101 " not in head:
            raise SystemExit(f"{server.name} replied {head!r}")
    return sockets


# -- Readers --------------------------------------------------------------------------------------


class Readers:
    """Clients that read the same messages, from event streams or WebSockets."""

    def __init__(self, server: Server, path: str, count: int) -> None:
        self.sockets: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        wanted = "text/event-stream"
        is_websocket = path.startswith("/fan-ws")
        self._request = server.upgrade(path) if is_websocket else server.get(path, wanted)
        for _ in range(count):
            self.sockets.append(server.connect())
            self._subscribe(self.sockets[-1])
            try:
                _received(self.sockets[-1])
            except TimeoutError:
                raise SystemExit(f"{server.name} does not answer a reader") from None

    def _subscribe(self, sock: socket.socket) -> None:
        sock.sendall(self._request)
        self._selector.register(sock, selectors.EVENT_READ)

    def read(self, messages: float) -> float:
        """Read until the clients together have received this many messages; return how many."""
        wanted, got = messages * len(MESSAGE), 0
        while got < wanted:
            for sock in _ready(self._selector):
                got += _received(sock).count(b"x")
        return got / len(MESSAGE)

    def read_stamped(self, messages: int) -> list[float]:
        """Read this many messages that begin with the time at which they were published.

        Return the milliseconds that they took, measured for every tenth reader: measuring all of
        them would slow down this process.
        """
        took: list[float] = []
        timed = {sock.fileno() for sock in self.sockets[::10]}
        got = 0
        with select.epoll() as epoll:
            for sock in self.sockets:
                epoll.register(sock.fileno(), select.EPOLLIN)
            while got < messages:
                ready = epoll.poll(SILENCE_SECONDS)
                if not ready:
                    raise SystemExit("messages are lost")
                for fd, _ in ready:
                    data = os.read(fd, 65536)
                    got += data.count(b"data: ")
                    if fd in timed:
                        now = time.monotonic_ns()
                        parts = data.split(b"data: ")[1:]
                        took += [(now - int(part[:20])) / 1e6 for part in parts]
        return took

    def close(self) -> None:
        self._selector.close()
        for sock in self.sockets:
            sock.close()


class Storm(Readers):
    """Readers that connect all at once, none waiting for the response to another."""

    def __init__(self, server: Server, path: str, count: int) -> None:
        super().__init__(server, path, 0)
        self._server = server
        self._replied = set[socket.socket]()
        self.join(count)

    def join(self, count: int) -> None:
        """Connect so many more."""
        with selectors.DefaultSelector() as connecting:
            for _ in range(count):
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", self._server.port))
                self.sockets.append(sock)
                connecting.register(sock, selectors.EVENT_WRITE)
            left = count
            while left:
                for sock in _ready(connecting):
                    connecting.unregister(sock)
                    self._subscribe(sock)
                    left -= 1

    def wait_for_heads(self) -> None:
        """Read until every client has its response head."""
        while len(self._replied) < len(self.sockets):
            for sock in _ready(self._selector):
                if _received(sock).startswith((b"HTTP/1.1 200", b"HTTP/1.1 101")):
                    self._replied.add(sock)


@contextmanager
def newcomers(server: Server) -> Iterator[list[float]]:
    """Connect ten new clients a second in another process, with one request each.

    At the end, the list holds the milliseconds from connecting to the response, sorted.
    """
    took: list[float] = []
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with open(writing, "w", buffering=1) as pipe:
            while True:
                began = time.perf_counter()
                with server.connect() as sock:
                    sock.sendall(server.get("/"))
                    _received(sock)
                pipe.write(f"{(time.perf_counter() - began) * 1000}\n")
                time.sleep(0.1)
    os.close(writing)
    try:
        yield took
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with open(reading) as pipe:
            took += sorted(float(line) for line in pipe)


def publish(server: Server, count: int, rate: float, burst: int) -> None:
    """Start publishing this many messages, at a rate a second and in bursts; return at once."""
    if server.name == shared.NCHAN:
        if os.fork() == 0:  # clients publish to nchan by posting each message
            _post(server, count, rate, burst)
            os._exit(0)
        return
    with server.connect() as sock:
        sock.sendall(server.get(f"/publish?count={count}&rate={rate}&burst={burst}"))
        _received(sock)


def _post(server: Server, count: int, rate: float, burst: int) -> None:
    one = (
        f"POST /publish HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Content-Length: {len(MESSAGE)}\r\n\r\n"
    ).encode() + MESSAGE
    with server.connect() as sock:
        for _ in range(count // burst):
            sock.sendall(one * burst)
            replies = 0
            while replies < burst:
                replies += _received(sock).count(b"HTTP/1.1 2")
            time.sleep(burst / rate)


def end_of_log(server: Server) -> tuple[str, int]:
    """Return the epoch and the end position of rawstream's channel."""
    with server.connect() as sock:
        sock.sendall(server.get("/fan-events?wait=0"))
        found = re.search(rb'ETag: "(\w+)-(\d+)"', _received(sock))
    if not found:
        raise SystemExit(f"{server.name} has no channel")
    return found[1].decode(), int(found[2])
