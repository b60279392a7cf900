"""Channels: one log, readers on four transports, cursors, gaps, and bytes that never mix."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import PATIENCE, VERSIONS, Connect, Peer, Serving, connected
from wire import (
    PING,
    close,
    frame,
    handshake,
    objects_in_frames,
    objects_in_lines,
    unchunked,
    unchunked_so_far,
)

from rawstream import Channel, EventDecoder, Limits, Request, serve_channel
from rawstream.channels.fanout import YIELD_EVERY_BYTES, Reader
from rawstream.entries.formats import EVENTS, LINES, TEXT, Frames
from rawstream.entries.log import SEGMENT_BYTES, Entry
from rawstream.http.exchange import Frame, as_it_is
from rawstream.http.negotiation import preferred

pytestmark = pytest.mark.both_versions

EPOCH = "5eed5eed"


def channel_of(*texts: str, entries: int = 2) -> Channel:
    """A channel of a known epoch, in which these were published."""
    channel = Channel(entries=entries, epoch=EPOCH)
    for text in texts:
        channel.publish(text)
    return channel


# -- The log --------------------------------------------------------------------------------------


async def test_ids_are_epoch_and_position() -> None:
    channel = channel_of()
    assert [channel.publish("a"), channel.publish("b")] == [f"{EPOCH}-1", f"{EPOCH}-2"]
    assert Channel().epoch != Channel().epoch


async def test_the_log_is_bounded_by_count_and_by_bytes() -> None:
    channel = Channel(entries=3, size=10)
    for text in ("aaaa", "bbb", "cc", "d"):
        channel.publish(text)
    assert [entry.data for entry in channel.entries_after(channel.start)] == ["bbb", "cc", "d"]
    channel.publish("123456789")
    assert [entry.data for entry in channel.entries_after(channel.start)] == ["d", "123456789"]
    with pytest.raises(ValueError, match="this one has 11"):
        channel.publish("12345678901")
    assert channel.end == 5


@pytest.mark.parametrize("event", ["a\nb", "a\rb", "a\0b"])
async def test_event_types_cannot_forge_fields(event: str) -> None:
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        Channel().publish("x", event)


async def test_text_that_is_no_unicode_is_refused() -> None:
    channel = Channel()
    with pytest.raises(ValueError, match="surrogate"):
        channel.publish("\ud800")
    assert channel.end == 0


async def test_line_ends_are_the_same_on_every_transport() -> None:
    channel = channel_of("a\r\nb\rc\nd")
    [entry] = channel.entries_after(0)
    assert entry.data == "a\nb\nc\nd"
    entry.id = "i"
    assert EVENTS.entry(entry) == b"id: i\ndata: a\ndata: b\ndata: c\ndata: d\n\n"
    assert LINES.entry(entry) == b'{"id": "i", "data": "a\\nb\\nc\\nd"}\n'
    assert Frames().entry(entry) == b'\x81\x21{"id": "i", "data": "a\\nb\\nc\\nd"}'
    assert TEXT.entry(entry) == b"a\nb\nc\nd\n"


# -- Cursors, on each transport -------------------------------------------------------------------

CURSORS = {
    "none": None,
    "tail": f"{EPOCH}-4",
    "old": f"{EPOCH}-3",
    "the oldest": f"{EPOCH}-2",
    "evicted": f"{EPOCH}-1",
    "future": f"{EPOCH}-9",
    "another epoch's": "0ddba11a-3",
    "garbage": "%22%0Adata%3A",
}
HELD = {"none": [], "tail": [], "old": [4]}  # the others get all there is: 3 and 4
LOST = ["evicted", "future", "another epoch's", "garbage"]
AS_BROUGHT = {"garbage": '"\ndata:'}


def gap_of(name: str) -> dict[str, str] | None:
    if name not in LOST:
        return None
    return {"from": AS_BROUGHT.get(name) or CURSORS[name] or "", "to": f"{EPOCH}-2"}


def entry_of(position: int) -> dict[str, str]:
    return {"id": f"{EPOCH}-{position}", "data": f"text {position}"}


def as_events(name: str, positions: list[int]) -> bytes:
    gap, text = gap_of(name), ""
    if name == "none":
        text = f"id: {EPOCH}-4\n\n"
    if gap:
        text = f"event: gap\nid: {EPOCH}-2\ndata: {json.dumps(gap)}\n\n"
    return (text + "".join(f"id: {EPOCH}-{n}\ndata: text {n}\n\n" for n in positions)).encode()


def as_lines(name: str, positions: list[int]) -> bytes:
    gap = gap_of(name)
    objects = [{"id": f"{EPOCH}-2", "gap": gap}] if gap else []
    if name == "none":
        objects = [{"id": f"{EPOCH}-4"}]
    return b"".join(json.dumps(o).encode() + b"\n" for o in [*objects, *map(entry_of, positions)])


def as_text(name: str, positions: list[int]) -> bytes:
    return b"".join(b"text %d\n" % n for n in positions)


def as_frames(name: str, positions: list[int]) -> bytes:
    lines = as_lines(name, positions).splitlines()
    return b"".join(bytes((0x81, len(line))) + line for line in lines)


STREAMS = {
    "events": (b"Accept: text/event-stream\r\n", as_events),
    "lines": (b"Accept: application/x-ndjson\r\n", as_lines),
    "text": (b"", as_text),
    "websocket": (handshake().partition(b"\r\n")[2][:-2], as_frames),
}


def get(cursor: str | None, fields: bytes, *, extra: str = "") -> bytes:
    query = "&".join(filter(None, ("" if cursor is None else f"after={cursor}", extra)))
    host = b"" if b"Host" in fields else b"Host: localhost\r\n"
    return f"GET /?{query} HTTP/1.1\r\n".encode() + host + fields + b"\r\n"


@pytest.fixture(params=["memory", "tcp"])
async def reader_of(
    request: pytest.FixtureRequest, connect: Connect, serving: Serving
) -> Callable[..., Awaitable[Peer]]:
    """`peer = await reader_of(channel)`: over memory, where nothing is written directly, and over
    TCP, where nearly everything is."""

    async def reader_of(channel: Channel, **options: object) -> Peer:
        async def handler(request: Request) -> None:
            await serve_channel(request, channel, **options)  # type: ignore[arg-type]

        if request.param == "memory":
            return connect(handler)
        return await (await serving(handler)).connect()

    return reader_of


@pytest.mark.parametrize("name", CURSORS)
@pytest.mark.parametrize("stream", STREAMS)
async def test_cursors_on_streams(
    reader_of: Callable[..., Awaitable[Peer]], stream: str, name: str
) -> None:
    channel = channel_of("text 1", "text 2", "text 3", "text 4")
    peer = await reader_of(channel)
    fields, expected = STREAMS[stream]
    await peer.send(get(CURSORS[name], fields))
    head, _, received = (await peer.has(b"\r\n\r\n")).partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 101 Switching Protocols\r\n"))
    if stream != "websocket":
        assert b"\r\nVary: Accept\r\n" in head + b"\r\n"
    await trio.testing.wait_all_tasks_blocked(0.01)
    channel.publish("text 5")
    while not received.endswith(
        (b"text 5\n\n\r\n", b'text 5"}\n\r\n', b"text 5\n\r\n", b'text 5"}')
    ):
        received += await peer.exactly(1)
    body = received if stream == "websocket" else unchunked(received)
    assert body == expected(name, [*HELD.get(name, [3, 4]), 5])


@pytest.mark.parametrize("name", CURSORS)
async def test_cursors_on_a_long_poll(reader_of: Callable[..., Awaitable[Peer]], name: str) -> None:
    channel = channel_of("text 1", "text 2", "text 3", "text 4")
    peer = await reader_of(channel)
    await peer.send(get(CURSORS[name], b"", extra="wait=20"))
    positions = HELD.get(name, [3, 4])
    if not positions and name not in LOST:
        await trio.testing.wait_all_tasks_blocked(0.01)
        channel.publish("text 5")
        positions = [5]
    answer: dict[str, Any] = {
        "entries": [*map(entry_of, positions)],
        "next": f"{EPOCH}-{positions[-1]}",
    }
    gap = gap_of(name)
    if gap:
        answer["gap"] = gap
    head, _, body = (await peer.until(b"}\n")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f'\r\nETag: "{answer["next"]}"\r\nCache-Control: no-store\r\n'.encode() in head
    assert json.loads(body) == answer


async def test_a_long_poll_that_does_not_wait(
    reader_of: Callable[..., Awaitable[Peer]],
) -> None:
    peer = await reader_of(channel_of("text 1"))
    await peer.send(get(f"{EPOCH}-0", b"", extra="wait=0"))
    assert (await peer.until(b"}\n")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_long_poll_in_vain(reader_of: Callable[..., Awaitable[Peer]]) -> None:
    peer = await reader_of(channel_of("a"))
    await peer.send(get(f"{EPOCH}-1", b"", extra="wait=0"))
    head = await peer.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert f'\r\nETag: "{EPOCH}-1"\r\n'.encode() in head
    await peer.send(get(None, b'If-None-Match: "%b-1"\r\n' % EPOCH.encode(), extra="wait=0"))
    assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 304 Not Modified\r\n")


# -- What one client gets over any mix of transports ----------------------------------------------


def objects_in_events(body: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for event in EventDecoder().feed(body):
        if event.event == "gap":
            found.append({"id": event.id, "gap": json.loads(event.data or "")})
        else:
            found.append({"id": event.id, "data": event.data})
    return found


DECODE = {
    "events": lambda data: objects_in_events(unchunked_so_far(data)),
    "lines": lambda data: objects_in_lines(unchunked_so_far(data)),
    "websocket": objects_in_frames,
}


class Client:
    """A client that reads a channel over one connection after another and records what it has seen."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.cursor = channel.id_of(0)
        self.seen = 0
        self.missed = 0

    def take(self, objects: list[dict[str, Any]]) -> None:
        for found in objects:
            if "gap" in found:
                assert found["gap"]["from"] == self.cursor
                after = int(found["gap"]["to"].partition("-")[2])
                assert after > self.position
                self.missed += after - self.position
                self.cursor = found["id"]
                assert self.cursor == found["gap"]["to"]
            else:
                assert found["id"] == self.channel.id_of(self.position + 1)
                assert found["data"].startswith(f"text {self.position + 1} ")
                self.seen += 1
                self.cursor = found["id"]

    @property
    def position(self) -> int:
        return int(self.cursor.partition("-")[2])


async def visit(
    channel: Channel,
    client: Client,
    transport: str,
    during: list[int],
    most: int,
    version: str = "1.1",
) -> None:
    """One connection: it comes with its cursor, so many entries are published, it reads at most so
    many bytes, and is gone."""

    async def handler(request: Request) -> None:
        await serve_channel(request, channel)

    async with connected(handler, version=version) as (peer, _):
        if transport == "poll":
            await peer.send(get(client.cursor, b"", extra="wait=0"))
            head = await peer.has(b"\r\n\r\n")
            if head.startswith(b"HTTP/1.1 200"):
                head, _, body = head.partition(b"\r\n\r\n")
                match = re.search(rb"Content-Length: (\d+)", head)
                assert match
                if len(body) < int(match[1]):
                    body += await peer.exactly(int(match[1]) - len(body))
                answer = json.loads(body)
                gap = [{"id": answer["gap"]["to"], "gap": answer["gap"]}] if "gap" in answer else []
                client.take(gap + answer["entries"])
                assert client.cursor == answer["next"]
        else:
            fields, _ = STREAMS[transport]
            await peer.send(get(client.cursor, fields))
            _, _, received = (await peer.has(b"\r\n\r\n")).partition(b"\r\n\r\n")
            for size in during:
                channel.publish(f"text {channel.end + 1} " + "x" * size)
                await trio.lowlevel.checkpoint()
            with trio.move_on_after(0.02):
                while len(received) < most:
                    received += await peer.stream.receive_some(most - len(received))
            client.take(DECODE[transport](received))


@settings(max_examples=60, deadline=None)
@given(
    visits=st.lists(
        st.tuples(
            st.sampled_from(["events", "lines", "websocket", "poll"]),
            st.lists(st.integers(0, 9000), max_size=12),  # published while it is here
            st.integers(0, 20_000),  # bytes it reads
            st.integers(0, 6),  # published while it is away
            st.sampled_from(VERSIONS),
        ),
        max_size=8,
    )
)
async def test_every_reader_sees_one_sequence_without_silent_gaps(
    visits: list[tuple[str, list[int], int, int, str]],
) -> None:
    channel = Channel(entries=8)
    client = Client(channel)
    for transport, during, most, away, version in visits:
        await visit(channel, client, transport, during, most, version)
        for _ in range(away):
            channel.publish(f"text {channel.end + 1} ")
    for _ in range(10):  # and now in peace
        await visit(channel, client, "poll", [], 0)
    assert client.seen + client.missed == channel.end == client.position


# -- Bytes never mix ------------------------------------------------------------------------------


LAST = {
    ("events", "drain"): b"\r\n0\r\n\r\n",
    ("events", "close"): b"text 30\n\n\r\n",  # a client does not end it but by leaving
    ("websocket", "drain"): b"\x88\x18\x03\xe9the server is stopping",
    ("websocket", "close"): b"\x88\x02\x03\xe8",
}
FIRST = {"events": b"id: ", "websocket": b"\x81"}
"""With what an entry begins."""


@pytest.mark.parametrize("ending", ["drain", "leave", "close"])
@pytest.mark.parametrize("stream", ["events", "websocket"])
async def test_nothing_comes_into_the_middle_of_a_frame(
    stream: str, ending: str, version: str
) -> None:
    channel = channel_of(entries=1000)
    # A connection of HTTP/2 is pinged, too, and a client that is slower to answer has vanished.
    ping_seconds = 0.001 if version == "1.1" else 0.1
    limits = Limits(heartbeat_seconds=0.001, ping_seconds=ping_seconds)

    async def handler(request: Request) -> None:
        await serve_channel(request, channel)

    async with connected(handler, dribble=True, limits=limits, version=version) as (peer, served):
        fields, _ = STREAMS[stream]
        await peer.send(get(f"{EPOCH}-0", fields))
        head, end_of_head, received = (await peer.has(b"\r\n\r\n")).partition(b"\r\n\r\n")
        head += end_of_head
        for n in range(1, 31):
            channel.publish(f"text {n}")
            if stream == "websocket" and n % 5 == 0:
                await peer.send(frame(PING, b"ping %d" % n))
            for _ in range(n % 7):
                await trio.lowlevel.checkpoint()
            if ending == "leave" and n == 20:
                return  # nothing to see but that nothing is raised
        on_the_wire = 0  # bytes of the stream, when the server stopped
        if ending == "drain":
            on_the_wire = served.transport.bytes_sent - len(head)
            served.drain()
        elif stream == "websocket":
            on_the_wire = served.transport.bytes_sent - len(head)
            await peer.send(close(1000))
        with trio.fail_after(PATIENCE):
            while LAST[stream, ending] not in received:
                data = await peer.stream.receive_some()
                assert data
                received += data
        if stream == "events":
            for event in unchunked_so_far(received).split(b"\n\n")[:-1]:
                assert re.fullmatch(rb":|retry: \d+|id: 5eed5eed-\d+\ndata: text \d+", event)
        else:
            assert_whole_frames(received)
        got = [o["data"] for o in DECODE[stream](received)]
        if on_the_wire:
            # An entry that was begun is finished; then comes the end, and nothing behind it.
            assert received.endswith(LAST[stream, ending])
            assert len(got) >= received[:on_the_wire].count(FIRST[stream]) > 0
            assert got == [f"text {n}" for n in range(1, len(got) + 1)]
        else:
            assert got == [f"text {n}" for n in range(1, 31)]


def assert_whole_frames(data: bytes) -> None:
    while len(data) > 1:
        first, size, start = data[0], data[1], 2
        payload = data[start : start + size]
        assert size < 126
        if len(payload) < size:
            return
        if first == 0x81:
            assert set(json.loads(payload)) == {"id", "data"}
        elif first == 0x8A:
            assert re.fullmatch(rb"ping \d+", payload)
        else:
            assert first in (0x89, 0x88)
        data = data[start + size :]


class Recorder:
    """A reader's sink that takes everything."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.got = b""

    def try_write(self, data: bytes) -> int:
        self.got += data
        return len(data)

    async def send_framed(self, framed: bytes) -> None:
        raise AssertionError("everything was taken")


@pytest.mark.parametrize("sizes", [(500, 1), (501, 0), (730, 40), (1000, 3)])
async def test_what_is_published_while_the_flush_pauses_reaches_all(
    nursery: trio.Nursery, sizes: tuple[int, int]
) -> None:
    channel = channel_of(entries=100)
    readers = [
        Reader(Recorder(frame), TEXT, 0)
        for frame, size in zip((lambda data: data, lambda data: data), sizes, strict=True)
        for _ in range(size)
    ]
    for reader in readers:
        nursery.start_soon(channel.fan_out.park, reader)
    await trio.testing.wait_all_tasks_blocked()
    channel.publish("1")
    for n in range(2, 6):
        await trio.lowlevel.checkpoint()
        channel.publish(str(n))
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert {reader.sink.got for reader in readers} == {b"1\n2\n3\n4\n5\n"}  # type: ignore[attr-defined]
    nursery.cancel_scope.cancel()


async def test_a_flush_gives_way_by_bytes(nursery: trio.Nursery) -> None:
    passes = 0
    seen = []

    async def count() -> None:
        nonlocal passes
        while True:
            await trio.lowlevel.checkpoint()
            passes += 1

    class Noting(Recorder):
        def try_write(self, data: bytes) -> int:
            seen.append(passes)
            return len(data)

    channel = channel_of()
    for _ in range(50):
        reader = Reader(Noting(as_it_is), TEXT, 0)
        nursery.start_soon(channel.fan_out.park, reader)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(count)
    channel.publish("x" * 1_000_000)
    while len(seen) < 50:
        await trio.lowlevel.checkpoint()
    assert len(set(seen)) >= 50 * 1_000_000 // (2 * YIELD_EVERY_BYTES)
    nursery.cancel_scope.cancel()


# -- The choice -----------------------------------------------------------------------------------

OFFERS = ("text/plain", "application/x-ndjson", "text/event-stream")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("*/*", "text/plain"),
        ("text/event-stream", "text/event-stream"),
        ("Text/Event-Stream;q=0.5", "text/event-stream"),
        ("text/plain;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("text/*, application/x-ndjson;q=0.9", "text/plain"),
        ("text/event-stream, */*", "text/event-stream"),
        ("*/*;q=0.1, text/plain;q=0", "application/x-ndjson"),
        ("application/*", "application/x-ndjson"),
        ("text/html", None),
        ("text/plain;q=0", None),
        ("text/plain;q=much", None),
        ("text/plain;q=1.001", None),
        ("", None),
    ],
)
def test_accept_and_its_q_values(accept: str, chosen: str | None) -> None:
    assert preferred(accept, OFFERS) == chosen


async def test_what_cannot_be_served(connect: Connect) -> None:
    async def handler(request: Request) -> None:
        await serve_channel(request, channel_of())

    for head, status, field in [
        (get(None, b"Accept: text/html\r\n"), b"406", b"\r\nVary: Accept\r\n"),
        (b"DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"405", b"\r\nAllow: GET, HEAD\r\n"),
        (get(None, handshake(b"Origin: http://a").partition(b"\r\n")[2][:-2]), b"403", b"\r\n"),
    ]:
        peer = connect(handler)
        await peer.send(head)
        answer = await peer.has(b"\r\n\r\n")
        assert answer[9:12] == status
        assert field in answer


async def test_upgrade_goes_before_wait_and_wait_before_accept(connect: Connect) -> None:
    async def handler(request: Request) -> None:
        await serve_channel(request, channel_of("a"))

    upgrade = handshake(b"Accept: text/event-stream").partition(b"\r\n")[2][:-2]
    peer = connect(handler)
    await peer.send(get(None, upgrade, extra="wait=1"))
    assert (await peer.has(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    peer = connect(handler)
    await peer.send(get("x", b"Accept: text/event-stream\r\n", extra="wait=1"))
    assert b"\r\nContent-Type: application/json\r\n" in await peer.has(b"\r\n\r\n")


# -- Slow readers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", ["events", "lines", "websocket"])
async def test_a_reader_too_slow_is_closed_if_asked(stream: str, version: str) -> None:
    channel = channel_of(entries=2)

    async def handler(request: Request) -> None:
        await serve_channel(request, channel, lag="close")

    async with connected(handler, version=version) as (peer, _):
        await peer.send(get(None, STREAMS[stream][0]))
        _, _, received = (await peer.has(b"\r\n\r\n")).partition(b"\r\n\r\n")
        for _ in range(200):
            channel.publish("x" * 1000)
            await trio.lowlevel.checkpoint()
        if stream == "websocket":
            await peer.has(b"\x88\x0a\x03\xf5too slow")
        else:
            received += await peer.until(b"0\r\n\r\n")
            assert len(received) < 100_000


async def test_memory_is_that_of_the_log_however_many_read(version: str) -> None:
    """Readers that never read hold a position, and by reference one write at the most."""
    of_others = [o for o in gc.get_objects() if type(o) is Entry]  # the demo's channels are kept
    channel = Channel(entries=100)

    async def handler(request: Request) -> None:
        await serve_channel(request, channel)

    async with AsyncExitStack() as stack:
        for _ in range(20):
            peer, _ = await stack.enter_async_context(connected(handler, version=version))
            await peer.send(get(None, STREAMS["events"][0]))
            await peer.has(b"\r\n\r\n")
        for n in range(2000):
            channel.publish(f"{n:06}" * 200)
            await trio.lowlevel.checkpoint()
        gc.collect()
        alive = {id(o) for o in gc.get_objects() if type(o) is Entry} - set(map(id, of_others))
        assert len(alive) <= 100
        batches = [o for o in gc.get_objects() if type(o) is tuple and len(o) == 2]
        kept = {id(o[0]): len(o[0]) for o in batches if type(o[0]) is bytes and b"000" in o[0]}
        assert sum(kept.values()) < channel.max_bytes + 2 * SEGMENT_BYTES


async def test_a_channel_outlives_readers_that_leave(serving: Serving) -> None:
    channel = channel_of(entries=10)

    async def handler(request: Request) -> None:
        await serve_channel(request, channel)

    server = await serving(handler)
    for number in range(40):
        peer = await server.connect()
        await peer.send(get(None, list(STREAMS.values())[number % 4][0]))
        await peer.has(b"\r\n\r\n")
        channel.publish("a")
        await trio.aclose_forcefully(peer.stream)
        channel.publish("b")
    server.peers.clear()
    await trio.testing.wait_all_tasks_blocked(0.05)
    gc.collect()
    assert not [o for o in gc.get_objects() if type(o) is Reader]
