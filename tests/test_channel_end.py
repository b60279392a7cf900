"""Channels that end, where readers start, channels of JSON, and reading inside the program."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from peers import Connect, Peer, Serving
from wire import (
    TEXT,
    close,
    frame,
    handshake,
    objects_in_frames,
    objects_in_lines,
    unchunked,
)

from rawstream import (
    Channel,
    Channels,
    Entry,
    Gap,
    HTTPError,
    Request,
    serve_channel,
    serve_channels,
)
from rawstream.entries.log import encoded_size
from rawstream.http.json_text import json_text

pytestmark = pytest.mark.both_versions

EPOCH = "5eed5eed"
LINES = b"Accept: application/x-ndjson\r\n"
EVENTS = b"Accept: text/event-stream\r\n"
UPGRADE = handshake().partition(b"\r\n")[2][:-2]


def channel_of(*texts: str, **options: Any) -> Channel:
    channel = Channel(epoch=EPOCH, **options)
    for text in texts:
        channel.publish(text)
    return channel


def get(target: str, fields: bytes = b"") -> bytes:
    host = b"" if b"Host" in fields else b"Host: localhost\r\n"
    return f"GET {target} HTTP/1.1\r\n".encode() + host + fields + b"\r\n"


def body_of(response: bytes) -> bytes:
    return unchunked(response.partition(b"\r\n\r\n")[2])


ReaderOf = Callable[..., Awaitable[Peer]]


@pytest.fixture(params=["memory", "tcp"])
async def reader_of(request: pytest.FixtureRequest, connect: Connect, serving: Serving) -> ReaderOf:
    """`peer = await reader_of(channel)`: over memory, where nothing is written directly, and over
    TCP, where nearly everything is."""

    async def reader_of(channel: Channel, **options: Any) -> Peer:
        async def handler(request: Request) -> None:
            await serve_channel(request, channel, **options)

        if request.param == "memory":
            return connect(handler)
        return await (await serving(handler)).connect()

    return reader_of


# -- A channel ends -------------------------------------------------------------------------------

ENDS = {
    "events": (
        EVENTS,
        b"id: 5eed5eed-1\n\nid: 5eed5eed-2\ndata: two\n\nevent: end\nid: 5eed5eed-3\ndata: {}\n\n",
    ),
    "lines": (
        LINES,
        b'{"id": "5eed5eed-1"}\n{"id": "5eed5eed-2", "data": "two"}\n'
        b'{"id": "5eed5eed-3", "end": true}\n',
    ),
    "text": (b"", b"two\n"),
}


@pytest.mark.parametrize("way", ENDS)
async def test_a_stream_ends_with_its_channel(reader_of: ReaderOf, way: str) -> None:
    channel = channel_of("one")
    peer = await reader_of(channel)
    fields, body = ENDS[way]
    await peer.send(get("/", fields))
    head = await peer.has(b"\r\n\r\n")
    for _ in range(5):  # until it is caught up
        await trio.testing.wait_all_tasks_blocked()
    channel.publish("two")
    channel.close()
    assert body_of(head + await peer.to_end_of_chunks()) == body


async def test_a_websocket_ends_with_its_channel(reader_of: ReaderOf) -> None:
    channel = channel_of("one")
    peer = await reader_of(channel)
    await peer.send(get("/?after=0", UPGRADE))
    await peer.has(b'"one"}')
    channel.publish("two")
    channel.close()
    told = objects_in_frames(await peer.has(b"\x88\x02\x03\xe8"))
    assert told == [{"id": f"{EPOCH}-2", "data": "two"}, {"id": f"{EPOCH}-3", "end": True}]


async def test_a_poll_is_told_of_the_end(reader_of: ReaderOf) -> None:
    channel = channel_of("one")
    peer = await reader_of(channel)
    await peer.send(get("/?wait=9"))
    await trio.testing.wait_all_tasks_blocked()
    channel.close()
    answer = (await peer.until(b"}\n")).partition(b"\r\n\r\n")[2]
    assert json.loads(answer) == {"entries": [], "next": f"{EPOCH}-2", "end": True}
    for after in (f"{EPOCH}-2", f"{EPOCH}-1"):
        await peer.send(get(f"/?wait=9&after={after}"))
        answer = (await peer.until(b"}\n")).partition(b"\r\n\r\n")[2]
        assert json.loads(answer) == {"entries": [], "next": f"{EPOCH}-2", "end": True}
    await peer.send(get("/?wait=9&after=0"))
    answer = (await peer.until(b"}\n")).partition(b"\r\n\r\n")[2]
    one = {"id": f"{EPOCH}-1", "data": "one"}
    assert json.loads(answer) == {"entries": [one], "next": f"{EPOCH}-2", "end": True}


async def test_a_later_reader_gets_the_same_at_once(reader_of: ReaderOf) -> None:
    channel = channel_of("one", "two")
    channel.close()
    end = {"id": f"{EPOCH}-3", "end": True}
    two = {"id": f"{EPOCH}-2", "data": "two"}
    for target, told in {
        f"/?after={EPOCH}-1": [two, end],
        f"/?after={EPOCH}-3": [end],
        "/": [{"id": f"{EPOCH}-2"}, end],
        "/?last=1": [{"id": f"{EPOCH}-1"}, two, end],
    }.items():
        peer = await reader_of(channel)
        await peer.send(get(target, LINES))
        assert objects_in_lines(body_of(await peer.to_end_of_chunks())) == told, target


async def test_an_event_source_that_has_seen_the_end_is_told_not_to_come_back(
    reader_of: ReaderOf,
) -> None:
    channel = channel_of("one")
    channel.close()
    peer = await reader_of(channel)
    await peer.send(get("/", EVENTS + f"Last-Event-ID: {EPOCH}-2\r\n".encode()))
    assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
    await peer.send(get("/", EVENTS + f"Last-Event-ID: {EPOCH}-1\r\n".encode()))
    assert b"event: end\n" in await peer.to_end_of_chunks()


async def test_the_end_displaces_no_entry() -> None:
    channel = channel_of("result", entries=1)
    channel.close()
    assert [entry.data for entry in channel.entries_after(0)] == ["result", ""]


async def test_a_closed_channel_takes_no_entry(connect: Connect) -> None:
    channels = Channels()
    channels.get("a").publish("x")
    channels.get("a").close()
    channels.get("a").close()
    with pytest.raises(RuntimeError, match="closed"):
        channels.get("a").publish("y")
    peer = connect(lambda request: serve_channels(request, channels, "a"))
    await peer.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\ny")
    assert (await peer.until(b"\n")).startswith(b"HTTP/1.1 409 ")


async def test_lines_that_are_being_published_when_the_channel_closes(connect: Connect) -> None:
    channels = Channels()
    peer = connect(lambda request: serve_channels(request, channels, "a"))
    await peer.send(
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nx\n\r\n"
    )
    await trio.testing.wait_all_tasks_blocked()
    assert not channels.get("a").is_empty
    channels.get("a").close()
    await peer.send(b"2\r\ny\n\r\n")
    answer = await peer.until(b"1\n")
    assert answer.startswith(b"HTTP/1.1 409 ")
    assert b"the channel is closed; published so far: 1\n" in answer


async def test_closed_channels_make_room(autojump_clock: trio.testing.MockClock) -> None:
    channels = Channels(max_channels=2, idle_seconds=60)
    first, second = channels.get("a"), channels.get("b")
    second.publish("x")
    second.close()
    channels.get("c")
    assert channels.get("a") is first
    assert len(channels) == 2
    await trio.sleep(60)
    first.close()
    assert channels.get("a") is not first, "forgotten when it was idle, closed or not"


SEVERAL = {
    "events": (EVENTS, b'event: end\nid: a:aa-1,b:bb-2\ndata: {"channel": "b"}\n\n'),
    "lines": (LINES, b'{"id": "a:aa-1,b:bb-2", "channel": "b", "end": true}\n'),
    "text": (b"", b"b: b1\n"),
}


def two_channels() -> Channels:
    def create(name: str) -> Channel:
        return Channel(name, epoch=name * 2)

    channels = Channels(create)
    channels.get("a")
    channels.get("b").publish("b1")
    return channels


@pytest.mark.parametrize("way", SEVERAL)
async def test_a_stream_of_several_ends_with_the_last(connect: Connect, way: str) -> None:
    channels = two_channels()
    peer = connect(lambda request: serve_channels(request, channels))
    fields, last = SEVERAL[way]
    await peer.send(get("/?channel=a&channel=b&after=0", fields))
    received = await peer.has(b"b1")
    channels.get("a").close()
    for _ in range(5):
        await trio.testing.wait_all_tasks_blocked()
    channels.get("b").close()
    received += await peer.until(b"0\r\n\r\n")
    assert body_of(received).endswith(last)
    if way == "events":
        cursor = b"Last-Event-ID: a:aa-1,b:bb-2\r\n"
        await peer.send(get("/?channel=a&channel=b", EVENTS + cursor))
        assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")


async def test_a_poll_of_several_names_those_that_have_ended(connect: Connect) -> None:
    channels = two_channels()
    peer = connect(lambda request: serve_channels(request, channels))

    async def poll(after: str) -> Any:
        await peer.send(get(f"/?channel=a&channel=b&wait=9&after={after}"))
        return json.loads((await peer.until(b"}\n")).partition(b"\r\n\r\n")[2])

    channels.get("a").close()
    entry = {"id": "a:aa-1,b:bb-1", "channel": "b", "data": "b1"}
    assert await poll("0") == {"entries": [entry], "next": "a:aa-1,b:bb-1", "ended": ["a"]}
    channels.get("b").close()
    ended = {"entries": [], "next": "a:aa-1,b:bb-2", "end": True}
    assert await poll("a:aa-1,b:bb-1") == {**ended, "ended": ["b"]}
    assert await poll("a:aa-1,b:bb-2") == ended


async def test_a_conversation_ends_with_the_last_channel(connect: Connect) -> None:
    channels = two_channels()
    peer = connect(lambda request: serve_channels(request, channels))
    await peer.send(get("/?channel=a&channel=b", UPGRADE))
    await peer.has(b'{"joined": "b", "id": "bb-1"}')
    channels.get("a").close()
    frames = await peer.has(b"true}")
    assert objects_in_frames(frames)[-1] == {"id": "aa-1", "channel": "a", "end": True}
    channels.get("b").publish("b2")
    await peer.has(b'"b2"}')
    channels.get("b").close()
    frames = await peer.has(b"\x88\x02\x03\xe8")
    assert objects_in_frames(frames)[-1] == {"id": "bb-3", "channel": "b", "end": True}


# -- Where readers start --------------------------------------------------------------------------


async def test_the_beginning_is_no_gap(reader_of: ReaderOf) -> None:
    channel = channel_of("one", "two", "three", entries=2)
    channel.close()
    peer = await reader_of(channel)
    await peer.send(get("/?after=0", LINES))
    told = objects_in_lines(body_of(await peer.to_end_of_chunks()))
    assert [entry.get("data", "end") for entry in told] == ["two", "three", "end"]


@pytest.mark.parametrize(
    ("query", "start"), [("", 1), ("?last=0", 3), ("?last=9", 0), (f"?after={EPOCH}-2", 2)]
)
async def test_the_server_says_where_newcomers_start(
    reader_of: ReaderOf, query: str, start: int
) -> None:
    channel = channel_of("1", "2", "3")
    channel.close()
    peer = await reader_of(channel, last=2)
    await peer.send(get("/" + query))
    assert body_of(await peer.to_end_of_chunks()) == b"".join([b"1\n", b"2\n", b"3\n"][start:])


async def test_channels_say_where_newcomers_start(connect: Connect) -> None:
    channels = Channels(last=1)
    for text in ("one", "two"):
        channels.get("a").publish(text)
    peer = connect(lambda request: serve_channels(request, channels, "a"))
    await peer.send(get("/", UPGRADE))
    await peer.has(b'"two"}')
    peer = connect(lambda request: serve_channels(request, channels, "b"))
    await peer.send(get("/", UPGRADE))
    await peer.until(b"\r\n\r\n")


# -- Inside the program ---------------------------------------------------------------------------


async def test_a_program_reads_a_channel(autojump_clock: trio.testing.MockClock) -> None:
    channel = channel_of("one")
    seen: list[Entry | Gap] = []

    async def read() -> None:
        async for entry in channel.entries(after="0"):
            seen.append(entry)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.sleep(1)
        channel.publish("two", "note")
        await trio.sleep(1)
        channel.close()
    assert [(e.id, e.data, e.event) for e in seen if isinstance(e, Entry)] == [
        (f"{EPOCH}-1", "one", None),
        (f"{EPOCH}-2", "two", "note"),
    ]


async def test_a_program_is_told_of_gaps() -> None:
    channel = channel_of("one", "two", entries=2)
    entries = channel.entries(after="0ddba11a-7")
    assert await anext(entries) == Gap("0ddba11a-7", f"{EPOCH}-0")
    for text in ("three", "four", "five"):
        channel.publish(text)
    assert await anext(entries) == Gap(f"{EPOCH}-0", f"{EPOCH}-3")
    entry = await anext(entries)
    assert isinstance(entry, Entry)
    assert entry.data == "four"


async def test_where_a_program_starts() -> None:
    channel = channel_of("one", "two")
    for options, first in (
        ({"last": 1}, "two"),
        ({"after": f"{EPOCH}-1"}, "two"),
        ({"after": "0"}, "one"),
        ({}, "three"),
    ):
        entries = channel.entries(**options)
        if not options:
            channel.publish("three")
        entry = await anext(entries)
        assert isinstance(entry, Entry)
        assert entry.data == first


async def test_cancelling_a_program_that_reads_loses_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    channel = channel_of()
    entries = channel.entries()
    with trio.move_on_after(1):
        await anext(entries)
    channel.publish("one")
    with trio.move_on_after(0):
        await anext(entries)
    entry = await anext(entries)
    assert isinstance(entry, Entry)
    assert entry.data == "one"


# -- JSON -----------------------------------------------------------------------------------------


async def test_json_is_not_wrapped_in_a_string(reader_of: ReaderOf) -> None:
    channel = channel_of(json=True)
    channel.publish(json={"price": 1.5, "note": "a\u2028b"}, event="tick")
    channel.publish('[1,\n 2, "\u0085"]')
    channel.close()
    tick, pair = '{"price": 1.5, "note": "a\\u2028b"}', '[1,  2, "\\u0085"]'
    for fields, body in {
        EVENTS: f"event: tick\nid: {EPOCH}-1\ndata: {tick}\n\nid: {EPOCH}-2\ndata: {pair}\n\n"
        f"event: end\nid: {EPOCH}-3\ndata: {{}}\n\n",
        LINES: f'{{"id": "{EPOCH}-1", "event": "tick", "data": {tick}}}\n'
        f'{{"id": "{EPOCH}-2", "data": {pair}}}\n{{"id": "{EPOCH}-3", "end": true}}\n',
        b"": f"[tick] {tick}\n{pair}\n",
    }.items():
        peer = await reader_of(channel)
        await peer.send(get("/?after=0", fields))
        assert body_of(await peer.to_end_of_chunks()).decode() == body
    peer = await reader_of(channel)
    await peer.send(get("/?after=0&wait=0"))
    answer = json.loads((await peer.until(b"}\n")).partition(b"\r\n\r\n")[2])
    assert answer["entries"][1]["data"] == [1, 2, "\x85"]


async def test_json_of_several_channels(connect: Connect) -> None:
    channels = Channels(lambda name: Channel(name, epoch="aa", json=True))
    channels.get("a").publish(json=[1])
    channels.get("a").close()
    peer = connect(lambda request: serve_channels(request, channels))
    await peer.send(get("/?channel=a&after=0", EVENTS))
    body = body_of(await peer.to_end_of_chunks())
    assert body.startswith(b'id: a:aa-0\n\nid: a:aa-1\ndata: {"channel": "a", "data": [1]}\n\n')


@pytest.mark.parametrize("text", ["", "{", "NaN", '"\ud800"', "[" * 100_000, '"a\nb"', "1 2"])
async def test_only_json_is_published_in_a_channel_of_json(connect: Connect, text: str) -> None:
    channels = Channels(lambda name: Channel(name, json=True))
    with pytest.raises(ValueError):  # noqa: PT011 - the text is the JSON library's
        channels.get("a").publish(text)
    peer = connect(lambda request: serve_channels(request, channels, "a"))
    body = text.encode("utf-8", "surrogatepass")
    length = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    await peer.send(length.encode() + body)
    assert (await peer.until(b"\n")).startswith(b"HTTP/1.1 400 ")
    assert channels.get("a").is_empty


async def test_a_websocket_publishes_json(connect: Connect) -> None:
    channels = Channels(lambda name: Channel(name, epoch="aa", json=True))
    channels.get("a").publish(json={"text": "hello"})
    peer = connect(lambda request: serve_channels(request, channels, "a"))
    await peer.send(get("/?last=1", UPGRADE))
    frames = await peer.has(b'"hello"}}')
    told = objects_in_frames(frames.partition(b"\r\n\r\n")[2])
    assert told[-1] == {"id": "aa-1", "channel": "a", "data": {"text": "hello"}}


async def test_a_channel_without_json_takes_a_value_as_its_text() -> None:
    channel = channel_of()
    channel.publish(json={"a": 1})
    [entry] = channel.entries_after(0)
    assert (entry.data, entry.is_json) == ('{"a": 1}', False)


# -- Corner cases ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["events", "lines", "text"])
async def test_the_last_entry_and_the_end_are_sent_before_a_drain(
    serving_over_each_carrier: Serving, way: str
) -> None:
    channel = channel_of()

    async def handler(request: Request) -> None:
        await serve_channel(request, channel)

    server = await serving_over_each_carrier(handler)
    peer = await server.connect()
    fields, _ = ENDS[way]
    await peer.send(get("/", fields))
    await peer.has(b"\r\n\r\n")
    for _ in range(5):  # until it is caught up
        await trio.testing.wait_all_tasks_blocked(0.01)
    channel.publish("goodbye")
    channel.close()
    server.stop.set()
    received = await peer.to_end_of_chunks()
    assert b"goodbye" in received
    assert b"end" in received or way == "text"


async def test_a_channel_that_a_program_reads_is_not_forgotten(
    autojump_clock: trio.testing.MockClock,
) -> None:
    channels = Channels(idle_seconds=60)
    entries = channels.get("a").entries()
    channels.get("a").publish("one")
    await anext(entries)
    await trio.sleep(61)
    channels.get("b")
    channels.get("a").publish("two")
    entry = await anext(entries)
    assert isinstance(entry, Entry)
    assert entry.data == "two"
    del entries
    await trio.sleep(61)
    channels.get("b")
    assert len(channels) == 1


async def test_presence_goes_on_when_its_log_is_closed(connect: Connect) -> None:
    channels = Channels()
    channels.get("a@presence").close()
    for _ in range(2):
        peer = connect(lambda request: serve_channels(request, channels, "a"))
        await peer.send(get("/?name=ann", UPGRADE))
        await peer.has(b'"joined"')
        await peer.send(close(1000))
        await peer.to_end()
    assert channels.presence("a").count == 0


async def test_a_poll_that_began_at_the_beginning_knows_its_place(connect: Connect) -> None:
    channel = channel_of(entries=2)
    peer = connect(lambda request: serve_channel(request, channel))
    await peer.send(get("/?wait=0&after=0"))
    answer = await peer.until(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 204 ")
    assert f'ETag: "{EPOCH}-0"'.encode() in answer
    await peer.send(get("/?wait=0", f'If-None-Match: "{EPOCH}-0"\r\n'.encode()))
    assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 304 ")


async def test_a_stream_that_begins_at_the_beginning_of_nothing_is_told_its_place(
    reader_of: ReaderOf,
) -> None:
    peer = await reader_of(channel_of())
    await peer.send(get("/?after=0", EVENTS))
    await peer.has(f"id: {EPOCH}-0\n\n".encode())


async def test_a_command_under_way_outlives_the_last_channel(connect: Connect) -> None:
    asked, answer = trio.Event(), trio.Event()

    async def authorize(request: Request, name: str, action: str) -> None:
        if name == "b":
            asked.set()
            await answer.wait()

    channels = Channels(authorize=authorize)
    peer = connect(lambda request: serve_channels(request, channels, "a"))
    await peer.send(get("/", UPGRADE))
    await peer.has(b'"joined"')
    await peer.send(frame(TEXT, b'{"join": "b"}'))
    await asked.wait()
    channels.get("a").close()
    await peer.has(b"true}")
    answer.set()
    await peer.has(b'{"joined": "b"')
    await peer.send(frame(TEXT, b'{"leave": "b"}') + frame(TEXT, b'{"join": "c"}'))
    await peer.has(b'{"joined": "c"')  # a channel that was left has not ended
    channels.get("c").close()
    await peer.has(b"\x88\x02\x03\xe8")


async def test_joining_a_channel_behind_its_end_is_told_the_end(connect: Connect) -> None:
    channels = two_channels()
    channels.get("b").close()
    peer = connect(lambda request: serve_channels(request, channels, "a"))
    await peer.send(get("/", UPGRADE))
    await peer.has(b'"joined"')
    await peer.send(frame(TEXT, b'{"join": "b", "after": "bb-2"}'))
    await peer.has(b'{"id": "bb-2", "channel": "b", "end": true}')


async def test_an_error_that_is_raised_again_and_again_stays_what_it_was(
    connect: Connect,
) -> None:
    refusal = HTTPError(403, "members only")

    async def authorize(request: Request, name: str, action: str) -> None:
        raise refusal

    channels = Channels(authorize=authorize, origins=["https://a.example"])
    peer = connect(lambda request: serve_channels(request, channels, "a"))
    answers = []
    for _ in range(2):
        await peer.send(get("/", b"Origin: https://a.example\r\n"))
        answers.append(await peer.until(b"members only\n"))
    assert answers[0] == answers[1]
    assert refusal.headers == ()


async def test_a_name_that_does_not_exist_displaces_no_channel(connect: Connect) -> None:
    def create(name: str) -> Channel:
        if name == "none":
            raise HTTPError(404)
        return Channel(name)

    channels = Channels(create, max_channels=1)
    kept = channels.get("a")
    kept.close()
    with pytest.raises(HTTPError):
        channels.get("none")
    assert channels.get("a") is kept
    channels.get("b")
    assert len(channels) == 1


@pytest.mark.parametrize(("text", "status"), [("\u2028" * 100, 413), ("\r\n" * 20, 201)])
async def test_what_counts_is_the_size_of_what_is_published(
    connect: Connect, text: str, status: int
) -> None:
    channels = Channels(lambda name: Channel(name, size=320))
    peer = connect(lambda request: serve_channels(request, channels, "a"))
    body = text.encode()
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    await peer.send(head.encode() + body)
    assert (await peer.until(b"\n")).startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize("text", ["\x85\u2028\u2029", '"\\\n\x01', "é\n\n", "a"])
def test_the_size_of_an_entry_is_an_upper_bound(text: str) -> None:
    assert len(json.dumps(text, ensure_ascii=False)) - 2 <= encoded_size(text)
    assert len(json_text(text).encode()) - 2 <= encoded_size(text)


async def test_empty_lines_between_json_are_skipped(connect: Connect) -> None:
    channels = Channels(lambda name: Channel(name, json=True))
    peer = connect(lambda request: serve_channels(request, channels, "a"))
    await peer.send(
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        b"Content-Length: 9\r\n\r\n[1]\n\n[2]\n"
    )
    assert b'"entries": 2}' in await peer.until(b"}\n")
