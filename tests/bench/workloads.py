"""The workloads: each loads some servers and returns its sections of the page."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial

import load
from http2_load import CONNECTIONS, REQUESTS, REQUESTS_IN_FLIGHT, Multiplexed, h2load
from load import Readers, Sample, Server, Storm, publish, servers, take_turns
from report import Column, Section
from shared import (
    BEFORE,
    CODEC,
    HELLO,
    HYPERCORN,
    LOOP,
    LOOP2,
    NCHAN,
    ORDER,
    RAWSTREAM,
    SEND,
    TASK,
    WAIT,
    WEBSOCKETS,
    WITHOUT_PLAIN_REQUESTS,
)

STARTS = 3
"""How often the server of a short workload is started. Two processes of the same server differ by up
to a tenth, for as long as they live: their memory lies differently."""

BURST = 500
"""Clients that join at the same moment."""


def without(peers: Sequence[str], *names: str) -> list[str]:
    return [peer for peer in peers if peer not in names]


def microseconds(samples: dict[str, Sample]) -> dict[str, float]:
    return {name: sample.microseconds for name, sample in samples.items()}


def plain_get(peers: Sequence[str], rounds: int) -> list[Section]:
    def same(server: Server) -> Callable[[], float]:
        return pinged(server, [server.get("/")], HELLO)

    def new(server: Server) -> Callable[[], float]:
        return pinged(server, [server.browsers_get(n) for n in range(10_000)], HELLO)

    text = "32 kept-alive connections have one request in flight each."
    return [
        Section(
            "Plain GET",
            f"{text} All requests have the same head.",
            with_and_without_log(peers, rounds, same, "get"),
        ),
        Section(
            "Plain GET, each head new",
            f"{text} Each has another path, query and cookie, and the fields that a browser sends.",
            with_and_without_log(peers, rounds, new, "get-new"),
        ),
    ]


def post(peers: Sequence[str], rounds: int) -> list[Section]:
    body = json.dumps(ORDER).encode()

    def orders(server: Server) -> Callable[[], float]:
        return pinged(server, [server.post("/order", body)], b'"count": 8}\n')

    return [
        Section(
            "POST of JSON",
            f"32 kept-alive connections post {len(body):,} bytes of JSON each, and are answered with "
            "JSON. Every handler decodes and encodes with Python's `json`.",
            with_and_without_log(peers, rounds, orders, "post"),
        )
    ]


def pinged(server: Server, messages: Sequence[bytes], ending: bytes) -> Callable[[], float]:
    sockets = [server.connect() for _ in range(32)]
    endless = itertools.cycle(messages)
    return lambda: load.ping_pong(sockets, endless, ending, 1000)


def with_and_without_log(
    peers: Sequence[str],
    rounds: int,
    opened: Callable[[Server], Callable[[], float]],
    key: str,
) -> list[Column]:
    names = [RAWSTREAM, *without(peers, *WITHOUT_PLAIN_REQUESTS)]
    floor = [LOOP] if key == "get" else []
    columns = []
    for title, access_log in (("no log", False), ("access log", True)):
        samples: dict[str, Sample] = {}
        for _ in range(STARTS):
            with servers(*([] if access_log else floor), *names, access_log=access_log) as group:
                samples = take_turns(group, rounds * 10 // STARTS + 1, opened, samples)
        values = microseconds(samples)
        key_of_column = f"{key}-log" if access_log else key
        columns.append(Column("µs per request", values, title=title, key=key_of_column))
    return columns


def stream(peers: Sequence[str], rounds: int) -> list[Section]:
    pieces = 4000
    buffer = bytearray(1 << 18)

    def read_all(server: Server) -> float:
        with server.connect() as sock:
            sock.sendall(server.get(f"/stream?count={pieces}"))
            total = 0
            while total < pieces * 65536:
                got = sock.recv_into(buffer)
                if not got:
                    raise SystemExit(f"{server.name} closed the connection early")
                total += got
        return total / 1e6

    with servers(LOOP, RAWSTREAM, *without(peers, *WITHOUT_PLAIN_REQUESTS)) as group:
        samples = take_turns(group, rounds * 2, lambda server: lambda: read_all(server))
    return [
        Section(
            "One stream",
            "One client reads pieces of 64 KiB as fast as they arrive.",
            [Column("µs of CPU per MB", microseconds(samples), digits=0)],
        )
    ]


def echo(peers: Sequence[str], rounds: int) -> list[Section]:
    def one(server: Server) -> Callable[[], float]:
        sockets = load.websockets_to(server, 64)
        frames = itertools.repeat(load.MASKED_FRAME)
        return lambda: load.ping_pong(sockets, frames, load.ECHOED_FRAME, 1000)

    def many(server: Server) -> Callable[[], float]:
        sockets = load.websockets_to(server, 8)
        size = len(load.ECHOED_FRAME)
        return lambda: load.flood(sockets, load.MASKED_FRAME, size, 10_000)

    columns = []
    for title, key, opened in (("1 in flight", "echo", one), ("32 in flight", "", many)):
        floors = [CODEC, WAIT] if opened is one else [CODEC]
        samples: dict[str, Sample] = {}
        for _ in range(STARTS):
            with servers(*floors, RAWSTREAM, *without(peers, NCHAN)) as group:
                samples = take_turns(group, rounds * 10 // STARTS + 1, opened, samples)
        columns.append(Column("µs per message", microseconds(samples), title=title, key=key))
    return [
        Section(
            "WebSocket echo",
            "Messages have 100 bytes. 64 WebSockets have 1 message in flight each; then 8 have 32. The "
            "second floor looks at no frame: it waits, reads, and writes what was made beforehand.",
            columns,
        )
    ]


def fan_out(peers: Sequence[str], readers: int, rounds: int) -> list[Section]:
    sections = []
    paces = [("50/s", 100_000 // readers // 2, 50, 1), ("in bursts", 200, 1000, 100)]
    text = (
        f"Each message of 100 bytes goes to {readers:,} readers: 50 messages a second, then in bursts "
        "of 100, ten bursts a second."
    )
    if readers > 500 and HYPERCORN in peers:
        text += f" {HYPERCORN} is left out: it would take minutes."
        peers = without(peers, HYPERCORN)
    for path, kind in (("/fan-events", "event streams"), ("/fan-ws", "WebSockets")):
        columns: list[Column] = []
        others = without(peers, WEBSOCKETS) if kind == "event streams" else peers
        for title, count, rate, burst in paces:
            with servers(SEND, RAWSTREAM, *others) as group:
                samples = {server.name: Sample() for server in group}
                for _ in range(rounds):
                    for server in group:
                        where = "/fan-events" if server.name == SEND else path
                        opened = partial(Readers, server, where, readers)
                        _deliver(server, samples[server.name], opened, readers, count, rate, burst)
            key = f"fan-out-{readers}" if not columns and kind == "event streams" else ""
            values = microseconds(samples)
            columns.append(Column("µs per delivery", values, digits=2, title=title, key=key))
        sections.append(Section(f"Fan-out to {readers:,} {kind}", text, columns))
    return sections


def _deliver(
    server: Server,
    sample: Sample,
    opened: Callable[[], Readers],
    readers: int,
    count: int,
    rate: float,
    burst: int,
) -> None:
    all_of_them = opened()

    def deliver() -> float:
        publish(server, count, rate, burst)
        return all_of_them.read(readers * count)

    warm_up = max(burst, count // 4)
    publish(server, warm_up, rate, burst)
    all_of_them.read(readers * warm_up)
    sample.add(server, deliver)
    all_of_them.close()


def joins(peers: Sequence[str], clients: int, rounds: int) -> list[Section]:
    """Clients that connect in bursts, and stay."""
    sections = []
    for path, kind in (("/fan-events", "event streams"), ("/fan-ws", "WebSockets")):
        names = [RAWSTREAM, *(without(peers, WEBSOCKETS) if path == "/fan-events" else peers)]
        columns = []
        for title, access_log in (("no log", False), ("access log", True)):
            samples = {name: Sample() for name in names}
            for _ in range(rounds):
                for name in names:
                    with servers(name, access_log=access_log) as [server]:
                        storm = Storm(server, path, 0)
                        samples[name].add(server, partial(_join, storm, clients))
                        storm.close()
            columns.append(Column("µs per client", microseconds(samples), digits=0, title=title))
        text = f"{clients:,} clients open {kind}, in bursts of {BURST}, and stay."
        sections.append(Section(f"Joining: {kind}", text, columns))
    return sections


def _join(storm: Storm, clients: int) -> float:
    for _ in range(clients // BURST):
        storm.join(BURST)
        storm.wait_for_heads()
    return clients


def arrivals(peers: Sequence[str], clients: int) -> list[Section]:
    """Clients that connect all at once: new ones, then clients that resume 500 messages behind."""
    joined, seconds_to_join = {}, {}
    for name in (RAWSTREAM, *without(peers, WEBSOCKETS)):
        with servers(name) as [server]:
            cpu, began = server.cpu(), time.perf_counter()
            storm = Storm(server, "/fan-events", clients)
            storm.wait_for_heads()
            seconds_to_join[name] = time.perf_counter() - began
            joined[name] = (server.cpu() - cpu) / clients * 1e6
            storm.close()
    resumed, seconds_to_resume = {}, {}
    for name in (RAWSTREAM, *(peer for peer in peers if peer in (BEFORE, NCHAN))):
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
            seconds_to_resume[name] = time.perf_counter() - began
            resumed[name] = (server.cpu() - cpu) / clients / 500 * 1e6
            storm.close()
    return [
        Section(
            "Clients arriving at once",
            f"{clients:,} clients connect at the same moment and ask for an event stream.",
            [
                Column("µs of CPU per client", joined, digits=0),
                Column("s until all have a response", seconds_to_join, 2, better="faster"),
            ],
        ),
        Section(
            "Coming back 500 behind",
            f"{clients:,} clients connect at the same moment, and each resumes an event stream "
            "500 messages back. Only servers that keep a log are measured.",
            [
                Column("µs of CPU per delivery", resumed, digits=2),
                Column("s until all have all messages", seconds_to_resume, 2, better="faster"),
            ],
        ),
    ]


def idle_memory(peers: Sequence[str], clients: int) -> list[Section]:
    values = {}
    for name in (TASK, RAWSTREAM, *without(peers, *WITHOUT_PLAIN_REQUESTS)):
        with servers(name) as [server]:
            warm = Readers(server, "/events", 200)
            before = server.memory()
            idle = Readers(server, "/events", clients)
            time.sleep(0.5)
            values[name] = (server.memory() - before) / clients / 1024
            idle.close()
            warm.close()
    return [
        Section(
            "Idle memory",
            f"{clients:,} clients have read one event of their event stream and wait for the next.",
            [Column("KiB resident per client", values, better="smaller", key="memory")],
        )
    ]


def http2(peers: Sequence[str], rounds: int) -> list[Section]:
    """Requests, fan-out and memory over HTTP/2."""
    before = [peer for peer in peers if peer == BEFORE]
    sections = [_http2_fan_out(peers, rounds), _http2_memory([RAWSTREAM, *before])]
    if shutil.which("h2load"):
        names = [RAWSTREAM, *before, *(peer for peer in peers if peer == HYPERCORN)]
        sections.insert(0, _http2_get(names))
    return sections


def _http2_get(names: Sequence[str]) -> Section:
    samples: dict[str, Sample] = {}
    for _ in range(STARTS):
        with servers(LOOP2, *names) as group:
            for server in group:
                sample = samples.setdefault(server.name, Sample())
                sample.add(server, partial(h2load, server))
    answered = (f"{name} {sample.count / STARTS:,.0f}" for name, sample in samples.items())
    return Section(
        "HTTP/2: plain GET",
        f"`h2load -n {REQUESTS} -c {CONNECTIONS} -m {REQUESTS_IN_FLIGHT}`, over TCP.",
        [Column("µs per answered request", microseconds(samples), key="http2-get")],
        f"Answered of {REQUESTS:,}: {', '.join(answered)}.",
    )


def _http2_fan_out(peers: Sequence[str], rounds: int) -> Section:
    connections, streams, count, rate = 50, 10, 100, 50
    readers = connections * streams
    names = [RAWSTREAM, *without(peers, WEBSOCKETS)]
    columns = []
    for title, group_of in (("HTTP/2", [RAWSTREAM]), ("HTTP/1.1", names)):
        samples = {name: Sample() for name in group_of}
        with servers(*group_of) as group:
            for _ in range(rounds):
                for server in group:
                    opened: Callable[[], Readers] = partial(Readers, server, "/fan-events", readers)
                    if title == "HTTP/2":
                        opened = partial(Multiplexed, server, "/fan-events", connections, streams)
                    _deliver(server, samples[server.name], opened, readers, count, rate, 1)
        columns.append(Column("µs per delivery", microseconds(samples), digits=2, title=title))
    return Section(
        f"HTTP/2: fan-out to {readers} event streams",
        f"{connections} connections carry {streams} event streams each, which get messages of 100 "
        f"bytes, {rate} a second; over HTTP/1.1 each stream has a connection of its own.",
        columns,
    )


def _http2_memory(names: Sequence[str], connections: int = 50, streams: int = 100) -> Section:
    values = {}
    for name in names:
        with servers(name) as [server]:
            warm = Multiplexed(server, "/events", 5, streams)
            before = server.memory()
            idle = Multiplexed(server, "/events", connections, streams)
            time.sleep(0.5)
            values[name] = (server.memory() - before) / connections / streams / 1024
            idle.close()
            warm.close()
    return Section(
        "HTTP/2: idle memory",
        f"{connections} connections carry {streams} event streams each, which have sent one event "
        "and wait for the next.",
        [Column("KiB resident per stream", values, better="smaller", key="http2-memory")],
    )


def ten_thousand(readers: int = 10_000, seconds: int = 20) -> list[Section]:
    with servers(RAWSTREAM) as [server]:
        all_of_them = Readers(server, "/fan-events", readers)
        with server.connect() as sock:
            sock.sendall(server.get(f"/publish-stamped?count={seconds * 10}&rate=10"))
            sock.recv(65536)
        with load.newcomers(server) as responses:
            cpu = server.cpu()
            messages = readers * seconds * 10
            deliveries = sorted(all_of_them.read_stamped(messages))
            share = (server.cpu() - cpu) / seconds
        all_of_them.close()
    return [
        Section(
            f"{readers:,} readers",
            f"{readers:,} event streams get 10 messages a second for {seconds} seconds. Ten new "
            "clients a second connect and send a request. No peer is measured.",
            [
                Column(f"ms to {what}, {name}", {RAWSTREAM: times[len(times) * percent // 100]})
                for what, times in (("deliver", deliveries), ("respond", responses))
                for name, percent in (("median", 50), ("p99", 99))
            ],
            f"All {messages:,} messages were delivered. The server used {share:.0%} of its core.",
        )
    ]
