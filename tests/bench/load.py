"""The clients of the benchmark, and the processes they load.

Servers run on one core, the clients on the other. What counts is the CPU time of the server's
process, user and system, which the kernel counts in nanoseconds.
"""

from __future__ import annotations

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

SERVER_CORE, LOAD_CORE = 0, 1
READY_SECONDS = 20
SILENCE_SECONDS = 30

MASK = b"\x01\x02\x03\x04"
PAYLOAD = bytes(100)
MASKED_FRAME = b"\x82\xe4" + MASK + bytes(byte ^ MASK[n % 4] for n, byte in enumerate(PAYLOAD))
ECHOED_FRAME = b"\x82\x64" + PAYLOAD
HELLO = b"hello\n"
MESSAGE = b"x" * 100
IN_FLIGHT = 32

UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
GET = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: bench/1.0\r\n"
    "Accept: {accept}\r\n\r\n"
)


BEFORE = "rawstream, before"
checkout_before = ""
"""The folder of an earlier checkout, which the server of that name runs."""


class Server:
    """A server process on its core."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("servers.py"), name, str(port)],
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": checkout_before} if name == BEFORE else None,
        )
        patience = time.monotonic() + READY_SECONDS
        while time.monotonic() < patience:
            try:
                self.connect().close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"{name} did not start")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), SILENCE_SECONDS)

    def cpu(self) -> float:
        """Seconds of CPU that its threads have used."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def memory(self) -> int:
        """Bytes resident."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def get(self, path: str, accept: str = "*/*") -> bytes:
        return GET.format(path=path, port=self.port, accept=accept).encode()

    def upgrade(self, path: str) -> bytes:
        return UPGRADE.format(path=path, port=self.port).encode()


@contextmanager
def servers(*names: str) -> Iterator[list[Server]]:
    """These servers, one process each; killed at the end."""
    started: list[Server] = []
    try:
        for name in names:
            # Below the ephemeral range, so that no client can sit on it.
            started.append(Server(name, 17000 + os.getpid() % 1000 + len(started)))
        yield started
    finally:
        for server in started:
            server.process.kill()
            server.process.wait()


class Sample:
    """What a server has used for how much."""

    def __init__(self) -> None:
        self.cpu = self.wall = self.count = 0.0

    def add(self, server: Server, burst: Callable[[], float]) -> None:
        cpu, wall = server.cpu(), time.perf_counter()
        count = burst()
        self.cpu += server.cpu() - cpu
        self.wall += time.perf_counter() - wall
        self.count += count

    @property
    def microseconds(self) -> float:
        return self.cpu / self.count * 1e6


def take_turns(
    group: list[Server], rounds: int, burst_of: Callable[[Server], Callable[[], float]]
) -> dict[str, Sample]:
    """Bursts in turn, so that what else the machine does meets all alike; the first round warms up
    and does not count."""
    samples = {server.name: Sample() for server in group}
    bursts = {server.name: burst_of(server) for server in group}
    for server in group:
        bursts[server.name]()
    for _ in range(rounds):
        for server in group:
            samples[server.name].add(server, bursts[server.name])
    return samples


# -- Questions and answers ------------------------------------------------------------------------


def ping_pong(sockets: list[socket.socket], question: bytes, ending: bytes, count: int) -> float:
    """Ask on every socket, one question at a time, until `count` answers have come."""
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
            sock.sendall(question)
        asked, answered = len(sockets), 0
        while answered < asked:
            for sock in _ready(selector):
                answer = _received(sock)
                if not answer.endswith(ending):
                    continue  # head and body came in two reads
                answered += 1
                if asked < count:
                    sock.sendall(question)
                    asked += 1
    return answered


def flood(sockets: list[socket.socket], question: bytes, size: int, count: int) -> float:
    """Keep `IN_FLIGHT` questions in flight on every socket, in one write each time, until `count`
    answers, of `size` bytes, have come."""
    missing = dict.fromkeys(sockets, 0)
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
        asked, answered = 0, 0
        while answered < max(count, asked):
            for sock, left in missing.items():
                if not left and asked < count:
                    sock.sendall(question * IN_FLIGHT)
                    asked += IN_FLIGHT
                    missing[sock] = size * IN_FLIGHT
            for sock in _ready(selector):
                missing[sock] -= len(_received(sock))
                if not missing[sock]:
                    answered += IN_FLIGHT
    return answered


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
        raise SystemExit("the server closed")
    return data


def websockets_to(server: Server, count: int) -> list[socket.socket]:
    """Sockets that echo frames."""
    sockets = [server.connect() for _ in range(count)]
    for sock in sockets:
        sock.sendall(server.upgrade("/ws"))
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(1)
        if b" 101 " not in head:
            raise SystemExit(f"{server.name} answered {head!r}")
    return sockets


# -- Readers --------------------------------------------------------------------------------------


class Readers:
    """Clients that read the same messages, over events or WebSockets."""

    def __init__(self, server: Server, path: str, count: int) -> None:
        self.sockets: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        wanted = "text/event-stream"
        is_websocket = path.startswith("/fan-ws")
        self._request = server.upgrade(path) if is_websocket else server.get(path, wanted)
        for _ in range(count):
            self.sockets.append(server.connect())
            self._ask(self.sockets[-1])
            _received(self.sockets[-1])

    def _ask(self, sock: socket.socket) -> None:
        sock.sendall(self._request)
        self._selector.register(sock, selectors.EVENT_READ)

    def read(self, messages: float) -> float:
        """Read until they have got so many messages, all together."""
        wanted, got = messages * len(MESSAGE), 0
        while got < wanted:
            for sock in _ready(self._selector):
                got += _received(sock).count(b"x")
        return got / len(MESSAGE)

    def read_stamped(self, messages: int) -> list[float]:
        """Read so many messages that begin with the time they were published; how many
        milliseconds they took, by every tenth reader: this process must not be what is slow."""
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
    """Readers that come all at once: nobody waits for an answer before the next one connects."""

    def __init__(self, server: Server, path: str, count: int) -> None:
        super().__init__(server, path, 0)
        for _ in range(count):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", server.port))
            self.sockets.append(sock)
        with selectors.DefaultSelector() as connecting:
            for sock in self.sockets:
                connecting.register(sock, selectors.EVENT_WRITE)
            left = count
            while left:
                for sock in _ready(connecting):
                    connecting.unregister(sock)
                    self._ask(sock)
                    left -= 1

    def wait_for_heads(self) -> None:
        """Until each of them has been answered."""
        answered = set[socket.socket]()
        while len(answered) < len(self.sockets):
            for sock in _ready(self._selector):
                if b"HTTP/1.1 200" in _received(sock):
                    answered.add(sock)


@contextmanager
def newcomers(server: Server) -> Iterator[list[float]]:
    """Have clients come, ten a second, in a process of their own: connect, ask, be answered. The
    list has, at the end, how many milliseconds each took, in order."""
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
    """Have messages published, so many a second, in bursts; returns at once."""
    if server.name.startswith("nginx"):
        if os.fork() == 0:  # nchan is published to, message by message
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
            answers = 0
            while answers < burst:
                answers += _received(sock).count(b"HTTP/1.1 2")
            time.sleep(burst / rate)


def end_of_log(server: Server) -> tuple[str, int]:
    """Epoch and position of rawstream's channel."""
    with server.connect() as sock:
        sock.sendall(server.get("/fan-events?wait=0"))
        found = re.search(rb'ETag: "(\w+)-(\d+)"', _received(sock))
    if not found:
        raise SystemExit(f"{server.name} has no channel")
    return found[1].decode(), int(found[2])
