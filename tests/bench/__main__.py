"""The benchmark: `python tests/bench`. Prints one table, as Markdown, and draws it.

Every workload is measured for all servers in the same run, which take turns, and against a floor:
the same done on Trio with nothing around it. In the table stands CPU time of the server, user
and system, and in brackets its ratio to the floor's.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import load
import picture
from load import Readers, Sample, Server, Storm, publish, servers, take_turns

PEERS = ["uvicorn, h11", "uvicorn, httptools + uvloop", "hypercorn on Trio", "aiohttp"]
WEBSOCKETS = "websockets on uvloop"
NCHAN = "nginx + nchan (C)"
LOOP, CODEC, SEND, TASK = (
    "bare Trio + h11 loop", "codec by hand on Trio", "bare loop of send", "bare Trio task",
)  # fmt: skip
FLOORS = (LOOP, CODEC, SEND, TASK)
SLOW = "hypercorn on Trio"
"""Left out with 5,000 readers: it would take minutes."""


@dataclass
class Column:
    """What a workload came to."""

    title: str
    unit: str
    values: dict[str, float]
    digits: int = 1

    @property
    def floor(self) -> float | None:
        return next((self.values[name] for name in FLOORS if name in self.values), None)

    def cell(self, name: str) -> str:
        if name not in self.values:
            return ""
        text = f"{self.values[name]:,.{self.digits}f}"
        return f"{text} ({self.values[name] / self.floor:.2f})" if self.floor else text


def measured(title: str, unit: str, samples: dict[str, Sample], digits: int = 1) -> Column:
    return Column(title, unit, {name: s.microseconds for name, s in samples.items()}, digits)


def plain_get(rounds: int) -> list[Column]:
    """32 connections, kept alive, one request in flight on each."""

    def opened(server: Server) -> Callable[[], float]:
        sockets = [server.connect() for _ in range(32)]
        return lambda: load.ping_pong(sockets, server.get("/"), load.HELLO, 1000)

    with servers(LOOP, "rawstream", "rawstream, access log on", *PEERS) as group:
        samples = take_turns(group, rounds * 10, opened)
    return [measured("plain GET, 32 connections", "µs a request", samples)]


def stream(rounds: int) -> list[Column]:
    """One client reads 64 KiB pieces as fast as they come."""
    pieces = 4000
    buffer = bytearray(1 << 18)

    def read_all(server: Server) -> float:
        with server.connect() as sock:
            sock.sendall(server.get(f"/stream?count={pieces}"))
            total = 0
            while total < pieces * 65536:
                got = sock.recv_into(buffer)
                if not got:
                    raise SystemExit(f"{server.name} closed early")
                total += got
        return total / 1e6

    with servers(LOOP, "rawstream", *PEERS) as group:
        samples = take_turns(group, rounds * 2, lambda server: lambda: read_all(server))
    return [measured("one stream of 64 KiB pieces", "µs a MB", samples, 0)]


def echo(rounds: int) -> list[Column]:
    """WebSockets, messages of 100 bytes."""

    def one(server: Server) -> Callable[[], float]:
        sockets = load.websockets_to(server, 64)
        return lambda: load.ping_pong(sockets, load.MASKED_FRAME, load.ECHOED_FRAME, 1000)

    def many(server: Server) -> Callable[[], float]:
        sockets = load.websockets_to(server, 8)
        size = len(load.ECHOED_FRAME)
        return lambda: load.flood(sockets, load.MASKED_FRAME, size, 10_000)

    with servers(CODEC, "rawstream", *PEERS, *websockets()) as group:
        return [
            measured("echo, 64 WebSockets, 1 in flight", "µs a message", take_turns(group, rounds * 10, one)),
            measured("echo, 8 WebSockets, 32 in flight", "µs a message", take_turns(group, rounds * 10, many)),
        ]  # fmt: skip


def websockets() -> list[str]:
    """The peer that knows WebSockets alone."""
    return [WEBSOCKETS] if load.BEFORE not in PEERS else []


def fan_out(readers: int, rounds: int) -> list[Column]:
    """Messages of 100 bytes to all readers, at a pace and in bursts."""
    columns = []
    nchan = nginx()
    for path, kind in (("/fan-events", "events"), ("/fan-ws", "WebSockets")):
        names = [SEND, "rawstream", *PEERS, *nchan]
        if path == "/fan-ws":
            names += websockets()
        if readers > 500 and SLOW in names:
            names.remove(SLOW)
        paces = [("50 a second", 100_000 // readers // 2, 50, 1), ("bursts of 100", 200, 1000, 100)]
        for pace, count, rate, burst in paces:
            with servers(*names) as group:
                samples = {server.name: Sample() for server in group}
                for _ in range(rounds):
                    for server in group:
                        _deliver(server, samples[server.name], path, readers, count, rate, burst)
            title = f"fan-out to {readers:,} {kind}, {pace}"
            columns.append(measured(title, "µs a delivery", samples, 2))
    return columns


def nginx() -> list[str]:
    """The peer in C, where it is installed."""
    return [NCHAN] if shutil.which("nginx") and load.BEFORE not in PEERS else []


def _deliver(
    server: Server, sample: Sample, path: str, readers: int, count: int, rate: float, burst: int
) -> None:
    path = path if server.name != SEND else "/fan-events"
    all_of_them = Readers(server, path, readers)

    def deliver() -> float:
        publish(server, count, rate, burst)
        return all_of_them.read(readers * count)

    warm_up = max(burst, count // 4)
    publish(server, warm_up, rate, burst)
    all_of_them.read(readers * warm_up)
    sample.add(server, deliver)
    all_of_them.close()


def storms(clients: int) -> list[Column]:
    """Clients that come all at once: new ones, and ones that come back 500 messages behind."""
    nchan = nginx()
    joined, waited = {}, {}
    for name in ("rawstream", *PEERS, *nchan):
        with servers(name) as [server]:
            cpu, began = server.cpu(), time.perf_counter()
            storm = Storm(server, "/fan-events", clients)
            storm.wait_for_heads()
            waited[name] = time.perf_counter() - began
            joined[name] = (server.cpu() - cpu) / clients * 1e6
            storm.close()
    resumed, caught_up = {}, {}
    before = [name for name in PEERS if name == load.BEFORE]
    for name in ("rawstream", *before, *nchan):
        with servers(name) as [server]:
            publish(server, 500, 10_000, 500)
            time.sleep(1)
            path = "/fan-all"
            if name != NCHAN:
                epoch, end = load.end_of_log(server)
                path = f"/fan-events?after={epoch}-{end - 500}"
            cpu, began = server.cpu(), time.perf_counter()
            storm = Storm(server, path, clients)
            storm.read(clients * 500)
            caught_up[name] = time.perf_counter() - began
            resumed[name] = (server.cpu() - cpu) / clients / 500 * 1e6
            storm.close()
    return [
        Column(f"{clients:,} join at once", "µs a client", joined, 0),
        Column(f"{clients:,} join at once", "s until the last has its answer", waited),
        Column(f"{clients:,} come back 500 behind", "µs a delivery", resumed, 2),
        Column(f"{clients:,} come back 500 behind", "s until all have all", caught_up),
    ]


def idle_memory(clients: int) -> list[Column]:
    """Clients that have read one event and wait for the next."""
    values = {}
    for name in (TASK, "rawstream", *PEERS):
        with servers(name) as [server]:
            warm = Readers(server, "/events", 200)
            before = server.memory()
            idle = Readers(server, "/events", clients)
            time.sleep(0.5)
            values[name] = (server.memory() - before) / clients / 1024
            idle.close()
            warm.close()
    return [Column(f"{clients:,} idle event streams", "KiB resident a client", values)]


def ten_thousand(readers: int = 10_000, seconds: int = 20) -> list[Column]:
    """Readers of one process at 10 messages a second, while new clients come."""
    with servers("rawstream") as [server]:
        all_of_them = Readers(server, "/fan-events", readers)
        with server.connect() as sock:
            sock.sendall(server.get(f"/publish-stamped?count={seconds * 10}&rate=10"))
            sock.recv(65536)
        with load.newcomers(server) as accepted:
            cpu = server.cpu()
            messages = readers * seconds * 10
            latencies = sorted(all_of_them.read_stamped(messages))
            share = (server.cpu() - cpu) / seconds
        all_of_them.close()
    values = {
        "messages delivered, which is all": float(messages),
        "ms until delivered, half of them": latencies[len(latencies) // 2],
        "ms until delivered, p99": latencies[len(latencies) * 99 // 100],
        "ms until a new client is answered, half of them": accepted[len(accepted) // 2],
        "ms until a new client is answered, p99": accepted[len(accepted) * 99 // 100],
        "of a core": share,
    }
    title = f"{readers:,} readers, 10 messages a second"
    return [Column(title, unit, {"rawstream": value}) for unit, value in values.items()]


def table(columns: list[Column]) -> str:
    """All there is: a row a workload, a column a server."""
    names = list(dict.fromkeys(name for column in columns for name in column.values))
    floors = [name for name in names if name in FLOORS]
    names = [name for name in names if name not in FLOORS]
    head = ["", *(["the floor"] if floors else []), *names]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for column in columns:
        cells = [column.cell(name) for name in names]
        if floors:
            cells.insert(0, f"{column.floor:,.{column.digits}f}" if column.floor else "")
        lines.append([f"{column.title}, {column.unit}", *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    workloads: dict[str, Callable[[argparse.Namespace], list[Column]]] = {
        "get": lambda o: plain_get(o.rounds),
        "stream": lambda o: stream(o.rounds),
        "echo": lambda o: echo(o.rounds),
        "fan-out": lambda o: fan_out(500, o.rounds),
        "fan-out-5000": lambda o: fan_out(5000, max(1, o.rounds // 2)),
        "storms": lambda o: storms(o.clients),
        "memory": lambda o: idle_memory(o.clients),
        "10000": lambda o: ten_thousand(),
    }
    parser = argparse.ArgumentParser(prog="tests/bench", description=__doc__)
    parser.add_argument("workload", nargs="*", help=f"{', '.join(workloads)}; all by default")
    parser.add_argument("--rounds", type=int, default=3, help="more are steadier (default: 3)")
    parser.add_argument("--clients", type=int, default=5000, help="of storms and memory")
    parser.add_argument("--picture", type=Path, help="draw the ratios into this SVG file")
    parser.add_argument(
        "--before", metavar="FOLDER", help="measure against this earlier checkout, not the peers"
    )
    options = parser.parse_args()
    if options.before:
        if not Path(options.before, "rawstream", "__init__.py").exists():
            parser.error(f"there is no checkout of rawstream in {options.before}")
        load.checkout_before = str(Path(options.before).resolve())
        PEERS[:] = [load.BEFORE]
    for name in options.workload:
        if name not in workloads:
            parser.error(f"there is no workload {name!r}")
    os.sched_setaffinity(0, {load.LOAD_CORE})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    columns = []
    for name in options.workload or workloads:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        columns += workloads[name](options)
    print(table(columns))
    if options.picture:
        panels = {
            column.title: {name: value / column.floor for name, value in column.values.items()}
            for column in columns
            if column.floor
        }
        picture.draw(panels, FLOORS, options.picture)


if __name__ == "__main__":
    main()
