"""Channels: one log, readers on four transports, cursors, gaps, and bytes that never mix."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from conftest import Connect, Peer, Serving
from test_websocket import handshake

from rawstream import Channel, Request, serve_channel
from rawstream.reading import EVENTS, FRAMES, LINES, TEXT

EPOCH = "5eed5eed"


def channel_of(*texts: str, entries: int = 2) -> Channel:
    """A channel of a known epoch, in which these were published."""
    channel = Channel(entries=entries)
    channel.epoch = EPOCH
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
    with pytest.raises(ValueError, match="11 bytes"):
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
    assert EVENTS.entry("i", entry) == b"id: i\ndata: a\ndata: b\ndata: c\ndata: d\n\n"
    assert LINES.entry("i", entry) == b'{"id": "i", "data": "a\\nb\\nc\\nd"}\n'
    assert FRAMES.entry("i", entry) == b'\x81\x21{"id": "i", "data": "a\\nb\\nc\\nd"}'
    assert TEXT.entry("i", entry) == b"a\nb\nc\nd\n"


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
    if gap:
        text = f"event: gap\nid: {EPOCH}-2\ndata: {json.dumps(gap)}\n\n"
    return (text + "".join(f"id: {EPOCH}-{n}\ndata: text {n}\n\n" for n in positions)).encode()


def as_lines(name: str, positions: list[int]) -> bytes:
    gap = gap_of(name)
    objects = [{"gap": gap}] if gap else []
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
    query = "&".join(filter(None, (cursor is not None and f"after={cursor}", extra)))
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


def unchunked(data: bytes) -> bytes:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return body


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
    answer = {"entries": [*map(entry_of, positions)], "next": f"{EPOCH}-{positions[-1]}"}
    gap = gap_of(name)
    if gap:
        answer["gap"] = gap
    head, _, body = (await peer.until(b"}\n")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f'\r\nETag: "{answer["next"]}"\r\nCache-Control: no-store\r\n'.encode() in head
    assert json.loads(body) == answer


async def test_a_long_poll_in_vain(reader_of: Callable[..., Awaitable[Peer]]) -> None:
    peer = await reader_of(channel_of("a"))
    await peer.send(get(f"{EPOCH}-1", b"", extra="wait=0"))
    head = await peer.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert f'\r\nETag: "{EPOCH}-1"\r\n'.encode() in head
    await peer.send(get(None, b'If-None-Match: "%b-1"\r\n' % EPOCH.encode(), extra="wait=0"))
    assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 304 Not Modified\r\n")
