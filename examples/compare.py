"""The folklore, measured: `python examples/compare.py`.

"A WebSocket is faster." "Polls are expensive." "Events lose nothing." This program sends the same
messages in four ways and measures what each way costs. The server, `compare_server.py`, is a
process of its own, on loopback. The clients, `compare_clients.py`, are sockets that count. Their
requests are as small as possible: those of a browser are some hundred bytes longer, without
cookies.

    bytes      all that TCP carries for a message. Down, a poll is a request and a response for each
               message. Up, a WebSocket sends frames. The clients of the other ways send POSTs,
               which are requests and responses, too.
    set-up     what passes before the first message. To connect is a round trip. The bytes of a poll
               all belong to its message.
    CPU        of the server's process, user and system, while messages follow each other as fast
               as they can: the median of five rounds, with the set-up. A poll and a POST wait
               for the response to the one before; the other messages wait for nothing.
    latency    from the making of a message, which contains its time, until its client has it; at
               200 messages a second.
    memory     by which a fresh server grows for each of 500 clients that wait. Polls are held.
    reconnect  what a client that comes back sends and receives before the first message that it
               missed: its request with a cursor, and the head of the response.
    lost       A channel publishes 10 messages while its client reads, 10 while the client is away,
               and 10 when it is back. Of the last 20, these do not reach it.

Bytes, round trips and lost messages are the same in every run; `--exact` prints only those. CPU,
latency and memory differ. Compare them only within one run.
"""

import argparse
import csv
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

from compare_clients import WAYS, Chunked, Way, Wire

SMALLEST, LARGEST = 15, 65_535  # bytes: those of the time, and what a length of 16 bits can tell
RATE, TIMED = 200, 300  # messages a second, and how many at most, when latency is measured
WARM_UP, IDLE = 50, 500  # clients that wait before memory is read, and more, until it is again
ROUNDS = 5  # in which the CPU time is measured
AWAY = 10  # messages that are published at a time to a client that comes and goes
WIDTH = 40  # of the longest bar

# -- What is measured -----------------------------------------------------------------------------

Figures = dict[str, float]


class Server:
    """The server's process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self._wire = Wire(port)
        self.port = port

    def work(self, **work: object) -> None:
        self._wire.ask("POST", "/work", json.dumps(work))

    def publish(self) -> None:
        self._wire.ask("POST", "/publish", str(AWAY))

    def state(self, name: str) -> float:
        return float(json.loads(self._wire.ask("GET", "/state"))[name])

    def memory(self) -> float:
        """Return the KiB that it occupies."""
        statm = Path(f"/proc/{self._process.pid}/statm")
        if statm.exists():
            return int(statm.read_text().split()[1]) * resource.getpagesize() / 1024
        return float(subprocess.check_output(["ps", "-o", "rss=", "-p", str(self._process.pid)]))


@contextmanager
def started(port: int) -> Iterator[Server]:
    """Start the server, and end it. Its session is its own, so that Ctrl-C does not reach it."""
    command = [sys.executable, str(Path(__file__).with_name("compare_server.py")), str(port)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True) as process:
        try:
            assert process.stdout
            if not (announced := process.stdout.readline()):
                sys.exit(process.wait())  # it has said why
            yield Server(process, int(announced))
        finally:
            process.terminate()


def read(client: Chunked, count: int) -> None:
    while count > 0:
        count -= len(client.receive())


def bytes_of(way: Way, server: Server, size: int, count: int, ids: bool = False) -> Figures:
    server.work(way=way.name, size=size, count=count, ids=ids)
    client = way(server.port)
    client.open()
    setup = client.wire.bytes
    read(client, 1)
    round_trips = client.wire.round_trips
    read(client, count - 1)
    return {
        "bytes_down": (client.wire.bytes - setup) / count,
        "bytes_up": way(server.port, "/up").send_all(["x" * size] * count) / count,
        "bytes_setup": setup,
        "round_trips": round_trips,
    }


def cpu_of(way: Way, server: Server, size: int, count: int) -> Figures:
    server.work(way=way.name, size=size, count=count)
    before = server.state("cpu")
    client = way(server.port)
    client.open()
    read(client, count)
    between = server.state("cpu")
    way(server.port, "/up").send_all(["x" * size] * count)
    after = server.state("cpu")
    return {"cpu_down": (between - before) / count, "cpu_up": (after - between) / count}


def latency_of(way: Way, server: Server, size: int, count: int) -> Figures:
    server.work(way=way.name, size=size, count=count, rate=RATE)
    client, took = way(server.port), list[float]()
    client.open()
    while len(took) < count:
        for message in client.receive():
            took.append((time.monotonic_ns() - int(message.rstrip("-"), 16)) / 1e6)
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return {"p50_ms": cuts[49], "p99_ms": cuts[98]}


def memory_of(way: Way, server: Server) -> Figures:
    server.work(way=way.name, size=SMALLEST, count=0)
    clients, kib = list[Chunked](), list[float]()
    for count in (WARM_UP, IDLE):
        for _ in range(count):
            clients.append(way(server.port))
            clients[-1].wait()
        while server.state("waiting") < len(clients):
            pass
        kib.append(server.memory())
    return {"memory_kib": (kib[1] - kib[0]) / IDLE}


def reconnect_of(way: Way, server: Server) -> Figures:
    server.work(way=way.name, size=SMALLEST, count=0)  # with a new channel
    client = way(server.port, "/channel")
    client.open()
    server.publish()
    before = numbers(client, AWAY)
    client.wire.socket.close()
    server.publish()
    anew, resumed = way(server.port, "/channel"), way(server.port, "/channel", client.cursor)
    anew.open()
    resumed.open()
    got = numbers(resumed, 2 * AWAY)
    round_trips = resumed.wire.round_trips
    server.publish()
    got += numbers(resumed, 3 * AWAY)
    expected = set(range(AWAY + 1, 3 * AWAY + 1))
    return {
        "reconnect_bytes": resumed.wire.bytes_to_first_head,
        "reconnect_round_trips": round_trips,
        "lost_without_cursor": len(expected - set(numbers(anew, 3 * AWAY))),
        "lost_with_cursor": len(expected - set(got)),
        "repeated_with_cursor": len(before + got) - len(set(before + got)),
    }


def numbers(client: Chunked, last: int) -> list[int]:
    """Return the numbers that a client receives, up to the last."""
    found: list[int] = []
    while last not in found:
        found += map(int, client.receive())
    return found


def measure(options: argparse.Namespace) -> dict[str, Figures]:
    """Return the figures of each way by its name."""
    found: dict[str, Figures] = {way.name: {} for way in WAYS}
    tell("start")
    with started(options.port) as server:
        for way in WAYS:
            tell(f"bytes: {way.name}")
            found[way.name] |= bytes_of(way, server, options.size, options.messages)
            found[way.name] |= reconnect_of(way, server)
        if not options.exact:
            measure_time(server, options, found)
    for way in WAYS if not options.exact else []:
        tell(f"memory: {way.name}")
        with started(options.port) as fresh:
            found[way.name] |= memory_of(way, fresh)
    tell("")  # clears the line
    return {
        name: {key: round(figures[key], 3) for key, *_ in ROWS if key in figures}
        for name, figures in found.items()
    }


def measure_time(server: Server, options: argparse.Namespace, found: dict[str, Figures]) -> None:
    samples: dict[str, list[Figures]] = {way.name: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way in WAYS:  # in turn, so that other work on the machine slows all of them down
            tell(f"CPU: {way.name}")
            samples[way.name].append(cpu_of(way, server, options.size, options.messages))
    for way in WAYS:
        for key in ("cpu_down", "cpu_up"):
            found[way.name][key] = statistics.median(sample[key] for sample in samples[way.name])
        tell(f"latency: {way.name}")
        count = min(options.messages, TIMED)
        found[way.name] |= latency_of(way, server, options.size, count)


def tell(doing: str) -> None:
    """Show on a terminal what is being done."""
    if sys.stderr.isatty():
        print(f"\r{doing:<30}\r", end="", file=sys.stderr, flush=True)


# -- What is printed ------------------------------------------------------------------------------

ROWS = [
    ("bytes_down", "bytes down, a message", ".0f"),
    ("bytes_up", "bytes up, a message", ".0f"),
    ("bytes_setup", "set-up, bytes", ".0f"),
    ("round_trips", "set-up, round trips", ".0f"),
    ("cpu_down", "CPU down, \xb5s a message", ".1f"),
    ("cpu_up", "CPU up, \xb5s a message", ".1f"),
    ("p50_ms", "latency p50, ms", ".2f"),
    ("p99_ms", "latency p99, ms", ".2f"),
    ("memory_kib", "memory, KiB an idle client", ".1f"),
    ("reconnect_bytes", "reconnect, bytes", ".0f"),
    ("reconnect_round_trips", "reconnect, round trips", ".0f"),
    ("lost_without_cursor", f"lost of {2 * AWAY} without a cursor", ".0f"),
    ("lost_with_cursor", f"lost of {2 * AWAY} with a cursor", ".0f"),
    ("repeated_with_cursor", "repeated with a cursor", ".0f"),
]
DRAWN = ("bytes_down", "bytes_up", "cpu_down", "memory_kib")


def table(found: dict[str, Figures], title: str) -> list[str]:
    lines = [f"| {title:<32} |" + "".join(f" {name:>9} |" for name in found)]
    lines.append(f"| {'-' * 32} |" + f" {'-' * 8}: |" * len(found))
    for key, label, form in ROWS:
        values = [figures[key] for figures in found.values() if key in figures]
        if values:
            lines.append(f"| {label:<32} |" + "".join(f" {value:>9{form}} |" for value in values))
    return lines


def picture(found: dict[str, Figures]) -> list[str]:
    lines = []
    for key, label, form in ROWS:
        values = {name: figures[key] for name, figures in found.items() if key in figures}
        if key in DRAWN and values:
            lines += ["", label]
            for name, value in values.items():
                bar = "\u2588" * max(1, round(WIDTH * value / max(values.values())))
                lines.append(f"  {name:<9} {bar} {value:{form}}")
    return lines


def overheads(sizes: list[int], port: int) -> list[str]:
    """Return a table of the bytes that are added to messages of several sizes."""
    chunked, events, _, websocket = WAYS
    rows = [(f"down: {way.name}", way, "bytes_down", False) for way in WAYS]
    rows.insert(2, ("down: sse with ids", events, "bytes_down", True))
    rows.append(("up: POST", chunked, "bytes_up", False))
    rows.append(("up: websocket", websocket, "bytes_up", False))
    columns = "".join(f" {f'{size:,} B':>8} |" for size in sizes)
    lines = [f"| {'bytes added to a message':<24} | set-up |{columns}"]
    lines.append(f"| {'-' * 24} | -----: |" + " -------: |" * len(sizes))
    with started(port) as server:
        for label, way, key, ids in rows:
            found = [bytes_of(way, server, size, AWAY, ids) for size in sizes]
            setup = found[0]["bytes_setup"] if key == "bytes_down" else 0
            columns = "".join(f" {f[key] - n:>8.0f} |" for f, n in zip(found, sizes, strict=True))
            lines.append(f"| {label:<24} | {setup or '-':>6} |{columns}")
    return lines


def show(lines: list[str]) -> None:
    """Print lines, in ASCII where the output takes no more."""
    text = "\n".join(lines)
    if (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        text = text.replace("\u2588", "#").replace("\xb5", "u")
    print(text)


# -- The command ----------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def number(least: int, most: int, text: str) -> int:
    """Return a number of an option."""
    if not (text.isascii() and text.isdigit() and least <= int(text[:9]) <= most):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most}")
    return int(text)


def parsed() -> argparse.Namespace:
    size = partial(number, SMALLEST, LARGEST)
    parser = Parser(description="Measure what a message costs in each of four ways.")
    add = parser.add_argument
    add("--messages", type=partial(number, 10, 100_000), default=1000, help="how many (1000)")
    add("--size", type=size, default=100, help="bytes of a message (100)")
    add("port", type=partial(number, 0, 65535), nargs="?", default=0, help="the server's (any)")
    add = parser.add_mutually_exclusive_group().add_argument
    add("--exact", action="store_true", help="print only what is the same in every run")
    add("--csv", action="store_true", help="print a line for each way")
    add("--json", action="store_true", help="print one object")
    sizes = "bytes that are added to messages of these sizes, for example 15,100,1000"
    add("--sizes", type=lambda text: [size(part) for part in text.split(",")], help=sizes)
    return parser.parse_args()


def main(options: argparse.Namespace) -> None:
    if options.sizes:
        show(overheads(options.sizes, options.port))
        return
    found = measure(options)
    if options.json:
        about = {"messages": options.messages, "size": options.size}
        ways = [{"name": name, **figures} for name, figures in found.items()]
        print(json.dumps({**about, "python": platform.python_version(), "ways": ways}))
    elif options.csv:
        rows = csv.writer(sys.stdout)
        rows.writerow(["name", *found[WAYS[0].name]])
        rows.writerows([name, *figures.values()] for name, figures in found.items())
    else:
        title = f"{options.messages:,} messages of {options.size:,} bytes"
        show(table(found, title) + picture(found))


if __name__ == "__main__":
    try:
        main(parsed())
    except KeyboardInterrupt:
        sys.exit(130)  # as shells report SIGINT
    except OSError as error:
        sys.exit(f"compare.py: {error}")
