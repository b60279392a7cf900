"""What Redis costs: readers on several processes that share a channel, against one in memory."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from load import SERVER_CORE, Readers, Sample, Server, publish, servers
from report import Column, Section
from shared import PUBLISHER, RAWSTREAM, READER, REDIS, REDIS_URL

READERS = 500
PROCESSES = 4
IDLE_READERS = 20_000


def on_redis(rounds: int) -> list[Section]:
    with _redis() as pid:
        return [_fan_out(rounds), _publishing(rounds), _idle(), _redis_itself(pid)]


@contextmanager
def _redis() -> Iterator[int]:
    """A redis-server with its defaults, on the core of the servers."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "redis.sock")
        process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", path, "--dir", folder],
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
            stdout=subprocess.DEVNULL,
        )
        os.environ[REDIS_URL] = f"unix://{path}"
        while not path.exists():
            time.sleep(0.01)
        try:
            yield process.pid
        finally:
            process.kill()
            process.wait()


def _fan_out(rounds: int) -> Section:
    """Each message goes to readers of two processes. Both are measured while they deliver it."""
    columns = []
    for title, count, rate, burst in (("50/s", 200, 50, 1), ("in bursts", 200, 1000, 100)):
        samples = {name: Sample() for name in (RAWSTREAM, PUBLISHER, READER)}
        for _ in range(rounds):
            with servers(RAWSTREAM, RAWSTREAM) as group:
                _deliver(group, samples, count, rate, burst)
            with servers(PUBLISHER, READER) as group:
                _deliver(group, samples, count, rate, burst)
        values = {name: sample.microseconds for name, sample in samples.items()}
        columns.append(Column("µs per delivery", values, digits=2, title=title))
    took = _delivery_times()
    columns += [
        Column(f"ms to deliver, {name}", {READER: took[len(took) * percent // 100]})
        for name, percent in (("median", 50), ("p99", 99))
    ]
    return Section(
        f"Fan-out through Redis to {READERS} event streams on each of 2 processes",
        "Messages of 100 bytes, 50 a second and in bursts of 100, against two processes that each "
        "publish to a channel in their own memory. The time is that from before the publishing to a "
        "reader of the other process, at 50 messages a second.",
        columns,
    )


def _deliver(
    group: Sequence[Server], samples: dict[str, Sample], count: int, rate: float, burst: int
) -> None:
    all_of_them = [Readers(server, "/fan-events", READERS) for server in group]

    def deliver(count: int) -> float:
        for server in group:
            if server.name != READER:
                publish(server, count, rate, burst)
        return min(readers.read(READERS * count) for readers in all_of_them)

    deliver(max(burst, count // 4))
    before = [server.cpu() for server in group]
    delivered = deliver(count)
    for server, cpu in zip(group, before, strict=True):
        samples[server.name].cpu += server.cpu() - cpu
        samples[server.name].count += delivered
    for readers in all_of_them:
        readers.close()


def _delivery_times(messages: int = 500, rate: float = 50) -> list[float]:
    with servers(PUBLISHER, READER) as [publisher, reader]:
        all_of_them = [Readers(server, "/fan-events", READERS) for server in (publisher, reader)]
        with publisher.connect() as sock:
            sock.sendall(publisher.get(f"/publish-stamped?count={messages}&rate={rate}"))
            sock.recv(65536)
        pid = os.fork()  # somebody has to read those of the other process meanwhile
        if pid == 0:
            all_of_them[0].read_stamped(READERS * messages)
            os._exit(0)
        took = sorted(all_of_them[1].read_stamped(READERS * messages))
        os.waitpid(pid, 0)
        for readers in all_of_them:
            readers.close()
    return took


def _publishing(rounds: int, count: int = 20_000) -> Section:
    rates, costs = {}, {}
    for publishers in (1, 100):
        with servers(PUBLISHER) as [server]:
            _flood(server, count // 20, publishers)
            cpu, seconds = server.cpu(), 0.0
            for _ in range(rounds):
                seconds += _flood(server, count, publishers)
            label = f"{publishers} at a time"
            rates[label] = rounds * count / seconds
            costs[label] = (server.cpu() - cpu) / (rounds * count) * 1e6
    columns = [
        column
        for label in rates
        for column in (
            Column("entries a second", {PUBLISHER: rates[label]}, digits=0, title=label),
            Column("µs per entry", {PUBLISHER: costs[label]}, title=label),
        )
    ]
    return Section(
        "Publishing through Redis",
        "One process publishes entries of 100 bytes as fast as they are acknowledged: one after the "
        "other, and 100 at a time.",
        columns,
    )


def _flood(server: Server, count: int, publishers: int) -> float:
    with server.connect() as sock:
        sock.sendall(server.get(f"/flood?count={count}&publishers={publishers}"))
        answer = b""
        while not answer.endswith(b"\n") or b"\r\n\r\n" not in answer:
            answer += sock.recv(65536)
    return float(answer.partition(b"\r\n\r\n")[2])


def _idle() -> Section:
    """Readers that wait, on several processes, until one entry reaches all of them."""
    with servers(PUBLISHER, *[READER] * (PROCESSES - 1)) as group:
        before = sum(server.memory() for server in group)
        crowds = [_Crowd(server, IDLE_READERS // PROCESSES) for server in group]
        for crowd in crowds:
            crowd.wait()  # until all are connected
        memory = sum(server.memory() for server in group) - before
        began = time.perf_counter()
        publish(group[0], 1, 1, 1)
        for crowd in crowds:
            crowd.wait()  # until all have read it
        seconds = time.perf_counter() - began
    return Section(
        f"{IDLE_READERS:,} idle event streams on {PROCESSES} processes",
        "Then one entry goes to all of them. Servers and Redis share one core.",
        [
            Column("KiB resident per stream", {READER: memory / IDLE_READERS / 1024}),
            Column("seconds until all have it", {READER: seconds}, digits=2),
        ],
    )


def _redis_itself(pid: int, entries: int = 250) -> Section:
    """What the one Redis of all processes uses."""
    columns = []
    for count in (1, PROCESSES):
        with servers(PUBLISHER, *[READER] * (count - 1)) as group:
            all_of_them = [Readers(server, "/fan-events", 1) for server in group]
            before = _cpu_of(pid)
            publish(group[0], entries, 50, 1)
            for readers in all_of_them:
                readers.read(entries)
                readers.close()
            used = (_cpu_of(pid) - before) / entries * 1e6
        title = f"{count} process" if count == 1 else f"{count} processes"
        columns.append(Column("µs per entry", {REDIS: used}, digits=0, title=title))
    return Section(
        "Redis itself",
        "50 entries a second are published, and read by one process or by several.",
        columns,
    )


def _cpu_of(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


class _Crowd:
    """Readers in a process of their own: one process may not open as many files."""

    def __init__(self, server: Server, count: int) -> None:
        self._news, news = os.pipe()
        if os.fork() == 0:
            readers = Readers(server, "/fan-events", count)
            os.write(news, b".")
            readers.read(count)
            os.write(news, b".")
            os._exit(0)
        os.close(news)

    def wait(self) -> None:
        """Wait for the next thing that it has done."""
        if not os.read(self._news, 1):
            raise SystemExit("readers have failed")
