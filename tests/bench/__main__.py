"""The benchmark: `python tests/bench`. Prints one table a workload, as Markdown.

Servers run on core 0, the load on core 1. All servers of a workload are up at the same time and
take turns in short bursts, so that what else the machine does meets all alike. What counts is
the CPU time of the server's process, user and system, which the kernel counts in nanoseconds;
wall time is printed too, but it is the machine's as much as the server's.
"""

from __future__ import annotations

import argparse
import os
import resource
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import HELLO, MESSAGE, PIECE

SERVER_CORE, LOAD_CORE = 0, 1
PEERS = ("uvicorn, h11", "uvicorn, httptools + uvloop", "hypercorn on Trio", "aiohttp")
MASK = b"\x01\x02\x03\x04"
PAYLOAD = bytes(100)
MASKED_FRAME = b"\x82\xe4" + MASK + bytes(byte ^ MASK[n % 4] for n, byte in enumerate(PAYLOAD))
ECHOED_FRAME = b"\x82\x64" + PAYLOAD
UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
GET = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n"
)


class Server:
    """A server process on its core."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("servers.py"), name, str(port)],
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
            stderr=subprocess.DEVNULL,
        )
        for _ in range(200):
            try:
                self.connect().close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"{name} did not start")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port))

    def cpu(self) -> float:
        """Seconds of CPU that its threads have used."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def memory(self) -> int:
        """Bytes resident."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def request(self, path: str) -> bytes:
        return GET.format(path=path, port=self.port).encode()


@contextmanager
def servers(*names: str) -> Iterator[list[Server]]:
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


def take_turns(
    group: list[Server], rounds: int, burst_of: Callable[[Server], Callable[[], float]]
) -> dict[str, Sample]:
    """Bursts in turn; the first round warms up and does not count."""
    samples = {server.name: Sample() for server in group}
    bursts = {server.name: burst_of(server) for server in group}
    for server in group:
        bursts[server.name]()
    for _ in range(rounds):
        for server in group:
            samples[server.name].add(server, bursts[server.name])
    return samples


def flood(sockets: list[socket.socket], question: bytes, size: int, count: int) -> float:
    """Keep 32 questions in flight on every socket, in one write each time, until `count` answers,
    of `size` bytes, have come."""
    flight = question * 32
    with selectors.DefaultSelector() as selector:
        missing = {}
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
            sock.sendall(flight)
            missing[sock] = 32 * size
        asked, answered = len(sockets) * 32, 0
        while answered < asked:
            for key, _ in selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                answer = sock.recv(65536)
                if not answer:
                    raise SystemExit("the server closed")
                missing[sock] -= len(answer)
                if missing[sock] == 0:
                    answered += 32
                    if asked < count:
                        sock.sendall(flight)
                        asked += 32
                        missing[sock] = 32 * size
    return answered


def ping_pong(sockets: list[socket.socket], question: bytes, ending: bytes, count: int) -> float:
    """Ask on every socket, one question at a time, until `count` answers have come."""
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
            sock.sendall(question)
        asked, answered = len(sockets), 0
        while answered < asked:
            for key, _ in selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                answer = sock.recv(65536)
                if not answer.endswith(ending):
                    if not answer:
                        raise SystemExit("the server closed")
                    continue  # head and body came in two reads
                answered += 1
                if asked < count:
                    sock.sendall(question)
                    asked += 1
    return answered


def title(text: str, *columns: str) -> None:
    print(f"\n**{text}**\n\n| server | {' | '.join(columns)} |")
    print("|---|" + "---:|" * len(columns), flush=True)


def plain_get(rounds: int) -> None:
    """32 connections, kept alive, one request in flight on each."""
    names = ["bare Trio + h11 loop", "rawstream", "rawstream, access log on", *PEERS]

    def opened(server: Server) -> Callable[[], float]:
        sockets = [server.connect() for _ in range(32)]
        return lambda: ping_pong(sockets, server.request("/"), HELLO, 1000)

    with servers(*names) as group:
        samples = take_turns(group, rounds * 10, opened)
    title("Plain GET, 32 kept-alive connections", "CPU µs a request", "ratio", "requests/s")
    floor = samples[names[0]].cpu / samples[names[0]].count
    for name, sample in samples.items():
        cpu = sample.cpu / sample.count
        rate = sample.count / sample.wall
        print(f"| {name} | {cpu * 1e6:.0f} | {cpu / floor:.2f} | {rate:,.0f} |", flush=True)


def stream(rounds: int) -> None:
    """One client reads 64 KiB pieces as fast as they come."""
    names = ["bare Trio + h11 loop", "rawstream", *PEERS]
    pieces = 4000
    buffer = bytearray(1 << 18)

    def read_all(server: Server) -> float:
        with server.connect() as sock:
            sock.sendall(server.request(f"/stream?count={pieces}"))
            total = 0
            while total < pieces * len(PIECE):
                got = sock.recv_into(buffer)
                if not got:
                    raise SystemExit(f"{server.name} closed early")
                total += got
        return total

    with servers(*names) as group:
        samples = take_turns(group, rounds * 2, lambda server: lambda: read_all(server))
    title("One stream of 64 KiB pieces", "CPU s a GB", "ratio", "MB/s")
    floor = samples[names[0]].cpu / samples[names[0]].count
    for name, sample in samples.items():
        cpu = sample.cpu / sample.count
        label = "bare Trio `send_all` loop" if name == names[0] else name
        rate = sample.count / sample.wall / 1e6
        print(f"| {label} | {cpu * 1e9:.2f} | {cpu / floor:.2f} | {rate:,.0f} |", flush=True)


def echo(rounds: int, connections: int, in_flight: int) -> None:
    """WebSockets, so many messages of 100 bytes in flight on each."""
    names = ["codec by hand on Trio", "rawstream", *PEERS]

    def opened(server: Server) -> Callable[[], float]:
        sockets = [server.connect() for _ in range(connections)]
        for sock in sockets:
            sock.sendall(UPGRADE.format(port=server.port).encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(1)
            assert b" 101 " in head
        if in_flight == 1:
            return lambda: ping_pong(sockets, MASKED_FRAME, ECHOED_FRAME, 1000)
        return lambda: flood(sockets, MASKED_FRAME, len(ECHOED_FRAME), 10_000)

    with servers(*names) as group:
        samples = take_turns(group, rounds * 10, opened)
    title(
        f"WebSocket echo, {connections} connections, {in_flight} in flight, 100 bytes",
        "CPU µs a message",
        "ratio",
        "messages/s",
    )
    floor = samples[names[0]].cpu / samples[names[0]].count
    for name, sample in samples.items():
        cpu, rate = sample.cpu / sample.count, sample.count / sample.wall
        print(f"| {name} | {cpu * 1e6:.1f} | {cpu / floor:.2f} | {rate:,.0f} |", flush=True)


def idle_memory(clients: int) -> None:
    """Clients that have read one event and wait for the next."""
    title(f"{clients:,} idle event streams", "KiB resident a client")
    names = ["bare Trio task", "rawstream", *PEERS]
    for name in names:
        with servers(name) as [server]:
            sockets = []
            for sock in (server.connect() for _ in range(200)):  # warm up
                sock.sendall(server.request("/events"))
                sock.recv(65536)
                sockets.append(sock)
            before = server.memory()
            for _ in range(clients):
                sock = server.connect()
                sock.sendall(server.request("/events"))
                sock.recv(65536)
                sockets.append(sock)
            time.sleep(0.5)
            used = (server.memory() - before) / clients
            for sock in sockets:
                sock.close()
        print(f"| {name} | {used / 1024:.1f} |", flush=True)


def fan_out(path: str, readers: int, rounds: int, *, count: int, rate: int, burst: int) -> None:
    """Messages of 100 bytes to all readers, so many a second, in bursts."""
    names = ["bare loop of send", "rawstream", *PEERS]
    names.remove("hypercorn on Trio")  # its queues are asyncio's here
    if path == "/fan-ws":
        names.append("websockets broadcast, uvloop")
    upgrade = UPGRADE.replace("/ws", "/fan-ws")
    events = GET.replace("Accept: */*", "Accept: text/event-stream")

    def opened(server: Server) -> Callable[[], float]:
        selector = selectors.DefaultSelector()
        bare = server.name == names[0]
        head = (events if path == "/fan-events" or bare else upgrade).format(
            path=path, port=server.port
        )
        for _ in range(readers):
            sock = server.connect()
            sock.sendall(head.encode())
            if not sock.recv(65536):
                raise SystemExit(f"{server.name} closed")
            selector.register(sock, selectors.EVENT_READ)

        def burst_of() -> float:
            wanted, got = readers * count * len(MESSAGE), 0
            query = f"/publish?count={count}&rate={rate}&burst={burst}"
            with server.connect() as sock:
                sock.sendall(server.request(query))
                sock.recv(65536)
            while got < wanted:
                ready = selector.select(10)
                if not ready:
                    raise SystemExit(f"{server.name} lost messages")
                for key, _ in ready:
                    assert isinstance(key.fileobj, socket.socket)
                    got += key.fileobj.recv(1 << 18).count(b"x")
            return got / len(MESSAGE)

        return burst_of

    with servers(*names) as group:
        samples = take_turns(group, rounds, opened)
    kind = "events" if path == "/fan-events" else "WebSockets"
    pace = f"in bursts of {burst}" if burst > 1 else f"{rate} a second"
    title(f"Fan-out to {readers:,} {kind}, {pace}", "CPU µs a delivery", "ratio")
    floor = samples[names[0]].cpu / samples[names[0]].count
    for name, sample in samples.items():
        cpu = sample.cpu / sample.count
        print(f"| {name} | {cpu * 1e6:.2f} | {cpu / floor:.2f} |", flush=True)


def all_fan_outs(rounds: int) -> None:
    for path in ("/fan-events", "/fan-ws"):
        fan_out(path, 500, rounds, count=100, rate=50, burst=1)
        fan_out(path, 500, rounds, count=1000, rate=1000, burst=100)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests/bench", description=__doc__)
    parser.add_argument(
        "workload", nargs="*", help="get, stream, echo, fan-out, memory; all by default"
    )
    parser.add_argument("--rounds", type=int, default=5, help="more are steadier (default: 5)")
    parser.add_argument("--clients", type=int, default=5000, help="of the memory workload")
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    workloads = {
        "get": lambda: plain_get(options.rounds),
        "stream": lambda: stream(options.rounds),
        "echo": lambda: [echo(options.rounds, 64, 1), echo(options.rounds, 8, 32)],
        "fan-out": lambda: all_fan_outs(options.rounds),
        "memory": lambda: idle_memory(options.clients),
    }
    for name in options.workload or workloads:
        if name not in workloads:
            parser.error(f"there is no workload {name!r}")
        workloads[name]()


if __name__ == "__main__":
    main()
