"""Server-Sent Events: encoding and decoding to the byte, and the stream over HTTP."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from peers import Connect
from wire import GET

from rawstream import Event, EventDecoder, Request, open_events

pytestmark = pytest.mark.both_versions

ENCODED = {
    "data": (Event("hello"), b"data: hello\n\n"),
    "two lines": (Event("a\nb"), b"data: a\ndata: b\n\n"),
    "all line ends": (Event("a\r\nb\rc\nd"), b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
    "empty data": (Event(""), b"data: \n\n"),
    "ends with a line end": (Event("a\n"), b"data: a\ndata: \n\n"),
    "leading space": (Event(" a"), b"data:  a\n\n"),
    "colon": (Event("a: b"), b"data: a: b\n\n"),
    "all fields": (
        Event('{"a":1}', event="update", id="2", retry=1000, comment="note"),
        b': note\nevent: update\nid: 2\nretry: 1000\ndata: {"a":1}\n\n',
    ),
    "not ascii": (Event("ä€😀", event="é"), "event: é\ndata: ä€😀\n\n".encode()),
    "nul in data": (Event("a\0b"), b"data: a\0b\n\n"),
    "comment only": (Event(comment="a\nb"), b": a\n: b\n\n"),
    "id reset": (Event(id=""), b"id: \n\n"),
    "nothing": (Event(), b"\n"),
}


@pytest.mark.parametrize(("event", "encoded"), ENCODED.values(), ids=ENCODED)
def test_events_are_encoded_to_the_byte(event: Event, encoded: bytes) -> None:
    assert event.encode() == encoded


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\r\nb", "a\0b", "\n", "data: x\n\n"])
@pytest.mark.parametrize("name", ["event", "id"])
def test_injection_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"in the {name} of an event"):
        Event("x", **{name: text}).encode()  # type: ignore[arg-type]


def test_negative_retry_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        Event(retry=-1).encode()


# The streams of WHATWG HTML section 9.2.6, and what else its section 9.2.5 demands.
DECODED = {
    "two events and a comment": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [Event("first event", id="1"), Event("second event"), Event(" third event")],
    ),
    "lines joined": (
        b"data: YHOO\ndata: +2\ndata: 10\n\n",
        [Event("YHOO\n+2\n10")],
    ),
    "empty data": (b"data\n\ndata\ndata\n\ndata:\n", [Event(""), Event("\n")]),
    "optional space": (b"data:test\n\ndata: test\n\n", [Event("test"), Event("test")]),
    "no blank line, no event": (b"data: lost\n", []),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [Event("a")]),
    "only one byte order mark": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
    "cr": (b"data: a\r\rdata: b\r\r", [Event("a"), Event("b")]),
    "crlf": (b"data: a\r\n\r\ndata: b\r\n\r\n", [Event("a"), Event("b")]),
    "mixed line ends": (b"data: a\ndata: b\rdata: c\r\n\r\ndata: d\n\r\n", [Event("a\nb\nc"), Event("d")]),
    "type": (b"event: add\ndata: 1\n\ndata: 2\n\n", [Event("1", event="add"), Event("2")]),
    "type without data": (b"event: add\n\ndata: 1\n\n", [Event("1")]),
    "id sticks": (b"id: 7\ndata: a\n\ndata: b\n\n", [Event("a", id="7"), Event("b", id="7")]),
    "id without data": (b"id: 7\n\ndata: b\n\n", [Event("b", id="7")]),
    "nul in id": (b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", [Event("a", id="1"), Event("b", id="1")]),
    "unknown field": (b"data: a\nfoo: bar\nDATA: b\n\n", [Event("a")]),
    "line starts with a space": (b" data: a\n\n", []),
    "bad utf-8": (b"data: a\xffb\n\n", [Event("a\ufffdb")]),
}  # fmt: skip


@pytest.mark.parametrize(("stream", "events"), DECODED.values(), ids=DECODED)
@pytest.mark.parametrize("step", [0, 1, 2, 3, 7])
def test_streams_are_decoded_wherever_they_are_cut(
    stream: bytes, events: list[Event], step: int
) -> None:
    decoder = EventDecoder()
    step = step or len(stream)
    got = [e for n in range(0, len(stream), step) for e in decoder.feed(stream[n : n + step])]
    assert got == events


def test_network_reads_are_not_messages() -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"data: Hel") == []
    assert decoder.feed(b"lo\n\ndata: world\n\n") == [Event("Hello"), Event("world")]


@pytest.mark.parametrize(
    ("field", "retry"),
    [
        (b"1000", 1000),
        (b"1e3", None),
        (b"-1", None),
        (b"", None),
        (b"\xd9\xa1", None),
        (b"9" * 5000, None),
    ],
)
def test_retry_is_digits(field: bytes, retry: int | None) -> None:
    decoder = EventDecoder()
    decoder.feed(b"retry: " + field + b"\n")
    assert decoder.retry == retry


def test_an_empty_read_between_cr_and_lf_changes_nothing() -> None:
    decoder = EventDecoder()
    reads = (b"data: a\r", b"", b"\ndata: b\r\n\r\n")
    assert [event for read in reads for event in decoder.feed(read)] == [Event("a\nb")]


def test_last_event_id_counts_from_the_blank_line_on() -> None:
    decoder = EventDecoder(last_event_id="1")
    decoder.feed(b"id: 2\ndata: x\n")
    assert decoder.last_event_id == "1"
    decoder.feed(b"\n")
    assert decoder.last_event_id == "2"


def test_an_endless_event_is_refused() -> None:
    decoder = EventDecoder(max_bytes=100)
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        for _ in range(20):
            decoder.feed(b"data: 12345\n")
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        EventDecoder(max_bytes=100).feed(b"d" * 101)


text = st.text(st.characters(codec="utf-8"))
name = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1)
events = st.builds(
    Event, data=text, event=st.none() | name, id=name, retry=st.none() | st.integers(0, 10**6)
)


@given(events=st.lists(events, max_size=5), cuts=st.lists(st.integers(1, 40), max_size=20))
def test_what_is_encoded_is_decoded(events: list[Event], cuts: list[int]) -> None:
    stream = b"".join(event.encode() for event in events)
    decoder, got = EventDecoder(), []
    for cut in [*cuts, len(stream)]:
        got += decoder.feed(stream[:cut])
        stream = stream[cut:]
    lines = [e.data.replace("\r\n", "\n").replace("\r", "\n") for e in events if e.data is not None]
    assert [e.data for e in got] == lines
    assert [e.event for e in got] == [e.event for e in events]
    assert [e.id for e in got] == [e.id for e in events]


# -- Over HTTP ------------------------------------------------------------------------------------


async def test_an_event_stream_to_the_byte(connect: Connect) -> None:
    async def handler(request: Request) -> None:
        async with open_events(request, retry=2000) as events:
            await events.send("hello")
            await events.send('{"a":1}', event="update", id="2")
            await events.send("two\nlines")

    peer = connect(handler)
    await peer.send(GET)
    head, _, body = (await peer.to_end_of_chunks()).partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[2:] == [
        b"Content-Type: text/event-stream",
        b"Cache-Control: no-cache, no-transform",
        b"X-Accel-Buffering: no",
        b"Transfer-Encoding: chunked",
    ]
    assert body == (
        b"d\r\nretry: 2000\n\n\r\n"
        b"d\r\ndata: hello\n\n\r\n"
        b'23\r\nevent: update\nid: 2\ndata: {"a":1}\n\n\r\n'
        b"17\r\ndata: two\ndata: lines\n\n\r\n"
        b"0\r\n\r\n"
    )


async def test_heartbeats_only_while_the_stream_is_silent(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> None:
        async with open_events(request, heartbeat=15) as events:
            for pause in (14, 14, 31, 14):
                await trio.sleep(pause)
                await events.send("x")

    peer = connect(handler)
    await peer.send(GET)
    body = (await peer.to_end_of_chunks(patience=100)).partition(b"\r\n\r\n")[2]
    event, beat = b"9\r\ndata: x\n\n\r\n", b"3\r\n:\n\n\r\n"
    assert body == event * 2 + beat * 2 + event * 2 + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("field", "seen"),
    [(b"7", "7"), (b"", None), ("ä€".encode(), "ä€"), (b"\xff", "\ufffd")],
)
async def test_last_event_id_is_utf_8(connect: Connect, field: bytes, seen: str | None) -> None:
    ids = []

    async def handler(request: Request) -> None:
        ids.append(request.last_event_id)
        await request.respond(204)

    peer = connect(handler)
    await peer.send(GET[:-2] + b"Last-Event-ID: " + field + b"\r\n\r\n")
    await peer.until(b"\r\n\r\n")
    assert ids == [seen]


async def test_a_refused_event_leaves_the_stream_sound(connect: Connect) -> None:
    async def handler(request: Request) -> None:
        async with open_events(request) as events:
            with pytest.raises(ValueError, match="id"):
                await events.send("x", id="1\n2")
            await events.send("y")

    peer = connect(handler)
    await peer.send(GET)
    assert (await peer.to_end_of_chunks()).endswith(b"\r\n\r\n9\r\ndata: y\n\n\r\n0\r\n\r\n")
