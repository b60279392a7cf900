"""Several server processes that share a channel through Redis, while all of them fail at random.

Whatever happens, each reader sees one sequence without a gap, and what was acknowledged is in it.
"""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from itertools import count, islice
from pathlib import Path
from typing import Any

import trio
from redis_server import RedisServer, redis_server
from wire import get, handshake, objects_in_frames, objects_in_lines, unchunked_so_far

from rawstream import EventDecoder

SECONDS = 3
"""How long everything fails. A longer run finds more."""

PATIENCE = 20
"""Within which everything is right again."""

APP = Path(__file__).with_name("redis_app.py")

SERVERS, READERS, PUBLISHERS = 3, 8, 3

Seen = dict[str, Any]
"""An entry or a gap, as a line has it."""

# -- Server processes -----------------------------------------------------------------------------


class Server:
    """A server process that is started again after its end, on the same socket."""

    def __init__(self, redis: RedisServer, folder: Path, number: int) -> None:
        self.socket = str(folder / f"{number}.sock")
        self._command = [sys.executable, str(APP), redis.url, self.socket]
        self.start()

    def start(self) -> None:
        """Start it. It may take a while until it answers."""
        self.process = subprocess.Popen(self._command)

    async def listens(self) -> None:
        """Wait until it can be reached."""
        while True:
            with suppress(OSError):
                async with await trio.open_unix_socket(self.socket):
                    return
            await trio.sleep(0.02)

    async def end(self, number: int) -> None:
        """End it with this signal."""
        self.process.send_signal(number)
        await trio.to_thread.run_sync(self.process.wait)


async def ask(socket: str, request: bytes, seconds: float) -> bytes:
    """What comes within this time, or until the server closes. Raises `OSError` if nobody
    listens."""
    received = b""
    with trio.move_on_after(seconds), suppress(trio.BrokenResourceError):
        async with await trio.open_unix_socket(socket) as stream:
            await stream.send_all(request)
            while data := await stream.receive_some():
                received += data
    return received


# -- Readers --------------------------------------------------------------------------------------


class Reader:
    """A reader that changes the server and the transport at random."""

    def __init__(self, name: str, sockets: list[str], choices: random.Random) -> None:
        self.seen: list[Seen] = []
        self.cursor = "0"
        self._name = name
        self._sockets = sockets
        self._random = choices

    async def run(self, is_over: trio.Event, last: list[str]) -> None:
        """Read until it is over and the last entry was read."""
        ways = (self._events, self._lines, self._websocket, self._poll)
        while not (is_over.is_set() and self.cursor == last[0]):
            way = self._random.choice(ways)
            with suppress(OSError):  # nobody listens
                await way(self._random.choice(self._sockets), self._random.uniform(0, 0.4))
            await trio.sleep(self._random.uniform(0, 0.02))

    async def _events(self, socket: str, seconds: float) -> None:
        fields = b"Accept: text/event-stream\r\n"
        decoder = EventDecoder(last_event_id=self.cursor)
        received = await ask(socket, get(self._target(), fields), seconds)
        for event in decoder.feed(unchunked_so_far(_body(received))):
            self._take({"id": event.id, "data": event.data, event.event or "message": True})
        self.cursor = decoder.last_event_id

    async def _lines(self, socket: str, seconds: float) -> None:
        fields = b"Accept: application/x-ndjson\r\n"
        received = await ask(socket, get(self._target(), fields), seconds)
        for line in objects_in_lines(unchunked_so_far(_body(received))):
            self._take(line)

    async def _websocket(self, socket: str, seconds: float) -> None:
        head = f"GET {self._target()} HTTP/1.1".encode()
        received = await ask(socket, handshake(head=head), seconds)
        for message in objects_in_frames(_body(received, 101)):
            self._take(message)

    async def _poll(self, socket: str, seconds: float) -> None:
        received = await ask(socket, get(f"{self._target()}&wait=1", b"Connection: close\r\n"), 2)
        with suppress(ValueError):  # it is not whole
            answer = json.loads(_body(received))
            for entry in answer["entries"]:
                self._take(entry)
            self._take({"id": answer["next"]} | ({"gap": True} if "gap" in answer else {}))

    def _target(self) -> str:
        return f"/news?name={self._name}&after={self.cursor}"

    def _take(self, line: Seen) -> None:
        if "data" in line or "gap" in line:
            self.seen.append(line)
        self.cursor = line.get("id", self.cursor)


def _body(response: bytes, status: int = 200) -> bytes:
    head, _, body = response.partition(b"\r\n\r\n")
    return body if head.startswith(b"HTTP/1.1 %d" % status) else b""


# -- Publishers -----------------------------------------------------------------------------------


class Publisher:
    """Posts texts to servers at random, one or several at a time, and notes what is known of
    them."""

    def __init__(self, name: str, sockets: list[str], choices: random.Random) -> None:
        self.acknowledged = set[str]()
        self.ids = dict[str, str]()  # of the last text of each acknowledged request
        self.refused = set[str]()
        self.unknown = set[str]()
        self._texts = (f"{name} {n}" for n in count())
        self._sockets = sockets
        self._random = choices

    async def run(self, is_over: trio.Event) -> None:
        """Publish until it is over."""
        while not is_over.is_set():
            await self.post()
            await trio.sleep(self._random.uniform(0, 0.03))

    async def post(self) -> str | None:
        """Publish. Return the last ID if it was acknowledged."""
        texts = list(islice(self._texts, self._random.choice((1, 1, 4))))
        body = "\n".join(texts).encode()
        fields = b"Connection: close\r\nContent-Length: %d\r\n" % len(body)
        if len(texts) > 1:
            fields += b"Content-Type: application/x-ndjson\r\n"
        request = b"POST /news HTTP/1.1\r\nHost: a\r\n%b\r\n%b" % (fields, body)
        try:
            answer = await ask(self._random.choice(self._sockets), request, 2)
        except OSError:
            self.refused.update(texts)
            return None
        if answer.startswith(b"HTTP/1.1 201 ") and answer.endswith(b"}\n"):
            self.acknowledged.update(texts)
            id: str = json.loads(_body(answer, 201))["id"]
            self.ids[texts[-1]] = id
            return id
        if answer.startswith(b"HTTP/1.1 503 "):
            so_far = re.search(rb"published so far: (\d)\n$", answer)
            number = int(so_far[1]) if so_far else 0
            self.acknowledged.update(texts[:number])
            is_refused = b"may have been" not in answer
            (self.refused if is_refused else self.unknown).update(texts[number:])
        else:
            self.unknown.update(texts)
        return None


# -- Chaos ----------------------------------------------------------------------------------------


async def fail_redis(redis: RedisServer, is_over: trio.Event, choices: random.Random) -> None:
    """Kill, stop and pause Redis, until it is over; then it runs."""
    while not is_over.is_set():
        await trio.sleep(choices.uniform(0.2, 0.8))
        how = choices.choice(("kill", "stop", "pause"))
        if how == "pause":
            redis.signal(signal.SIGSTOP)
            await trio.sleep(choices.uniform(0, 0.7))
            redis.signal(signal.SIGCONT)
        else:
            await trio.to_thread.run_sync(getattr(redis, how))
            await trio.sleep(choices.uniform(0, 0.3))
            await trio.to_thread.run_sync(redis.start)


async def fail_servers(servers: list[Server], is_over: trio.Event, choices: random.Random) -> None:
    """Kill and drain servers, until it is over; then all of them run."""
    while not is_over.is_set():
        await trio.sleep(choices.uniform(0.5, 1))
        server = choices.choice(servers)
        await server.end(choices.choice((signal.SIGKILL, signal.SIGTERM)))
        server.start()
        await server.listens()


async def test_every_reader_sees_one_sequence_whatever_fails(tmp_path: Path) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    choices = random.Random(seed)
    with redis_server(tmp_path) as redis:
        servers = [Server(redis, tmp_path, n) for n in range(SERVERS)]
        try:
            await _chaos(redis, servers, choices)
        finally:
            for server in servers:
                server.process.kill()
                server.process.wait()


async def _chaos(redis: RedisServer, servers: list[Server], choices: random.Random) -> None:
    def own() -> random.Random:
        return random.Random(choices.getrandbits(32))

    sockets = [server.socket for server in servers]
    readers = [Reader(f"reader{n}", sockets, own()) for n in range(READERS)]
    publishers = [Publisher(f"publisher {n}", sockets, own()) for n in range(PUBLISHERS)]
    is_over, last = trio.Event(), [""]
    with trio.fail_after(SECONDS + PATIENCE):
        for server in servers:
            await server.listens()
        async with trio.open_nursery() as reading:
            for reader in readers:
                reading.start_soon(reader.run, is_over, last)
            async with trio.open_nursery() as nursery:
                for publisher in publishers:
                    nursery.start_soon(publisher.run, is_over)
                nursery.start_soon(fail_redis, redis, is_over, own())
                nursery.start_soon(fail_servers, servers, is_over, own())
                await trio.sleep(SECONDS)
                is_over.set()
            while not (id := await publishers[0].post()):  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(0.01)
            last[0] = id
        await _nobody_is_present(servers[0].socket)

    sequence = readers[0].seen
    epoch = id.partition("-")[0]
    assert [seen for seen in sequence if "gap" in seen] == []
    assert [seen["id"] for seen in sequence] == [f"{epoch}-{n + 1}" for n in range(len(sequence))]
    told = [(seen["id"], seen["data"]) for seen in sequence]
    for reader in readers:
        assert [(seen["id"], seen.get("data")) for seen in reader.seen] == told
    times = Counter(data for _, data in told)
    for publisher in publishers:
        assert publisher.ids.items() <= {data: id for id, data in told}.items()
        assert {times[text] for text in publisher.acknowledged} <= {1}
        assert {times[text] for text in publisher.refused} <= {0}
        assert {times[text] for text in publisher.unknown} <= {0, 1}
    print(
        len(told), "entries;",
        *(f"{len(p.acknowledged)}/{len(p.refused)}/{len(p.unknown)}" for p in publishers),
    )  # fmt: skip


async def _nobody_is_present(socket: str) -> None:
    """Wait until all members have left, those of killed processes too."""
    request = get("/news@presence", b"Accept: application/json\r\nConnection: close\r\n")
    listed: dict[str, Any] = {}
    while listed.get("count") != 0:
        await trio.sleep(0.05)
        with suppress(OSError, ValueError):
            listed = json.loads(_body(await ask(socket, request, 2)))
    assert listed["members"] == {}
