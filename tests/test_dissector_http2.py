"""HTTP/2 in the dissector: whatever h2 and hpack take bytes for, it says, too."""

from __future__ import annotations

import gc
import re
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence

import pytest
from dissecting import END, PLACES, Taken, cut, dissect, in_both
from h2.connection import H2Connection
from h2.events import (
    InformationalResponseReceived,
    PushedStreamReceived,
    RequestReceived,
    ResponseReceived,
    TrailersReceived,
)
from h2.settings import SettingCodes
from hpack import Encoder
from http2 import Fields, Pair, answering, asking, frame
from hypothesis import example, given
from hypothesis import strategies as st
from wire import BINARY, PING, TEXT
from wire import frame as websocket_frame

from rawstream import EventDecoder
from rawstream.dissector.connection import Dissector
from rawstream.dissector.http2 import table
from rawstream.dissector.http2.frames import PREFACE
from rawstream.dissector.http2.state import MOST_STREAMS
from rawstream.dissector.spans import Direction, Layer, Piece, Span, Tile
from rawstream.http.access_log import masked

TO_SERVER, TO_CLIENT = Direction
Pieces = list[tuple[Direction, bytes]]

SETTINGS = frame(4)
ACK = frame(4, flags=1)
DATA, HEADERS, RST_STREAM, PUSH_PROMISE, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 5, 7, 8, 9
END_STREAM, END_HEADERS, PADDED, PRIORITY = 1, 4, 8, 32


def in_pieces(pair: Pair, places: Sequence[int]) -> Pieces:
    """What both sides have written, with each write cut at these places."""
    return [(d, piece) for d, data in pair.pieces for piece in cut(data, places)]


def byte_by_byte(pieces: Pieces) -> Pieces:
    return [(direction, data[n : n + 1]) for direction, data in pieces for n in range(len(data))]


def in_layer(tile: Tile, layer: Layer) -> Span | None:
    """The innermost span of this layer."""
    return next((span for span in tile.spans if span.layer is layer), None)


def spans_of(tiles: Sequence[Tile], *names: str) -> list[Span]:
    """The spans with these names over some tiles, in order."""
    found: dict[Span, None] = {}
    for tile in tiles:
        for span in tile.spans:
            for around in reversed((span, *span.enclosing())):
                if around.name in names:
                    found[around] = None
    return list(found)


def fields_in(taken: Taken, direction: Direction) -> list[str]:
    return [s.value for s in spans_of(taken.tiles(direction), "field-line", "pseudo-header")]


def content_in(taken: Taken, direction: Direction, stream: int) -> bytes:
    """The content of a stream."""
    found = b""
    for tile in taken.tiles(direction):
        http, http2 = in_layer(tile, Layer.HTTP), in_layer(tile, Layer.HTTP2)
        if http is not None and http.name == "content" and http2 is not None:
            assert http2.parent is not None
            if http2.parent.value == f"DATA, stream {stream}":
                found += tile.data
    return found


def windows_in(taken: Taken) -> dict[tuple[Direction, str], int]:
    """The last that is said of each window, by the direction of the content."""
    found: dict[tuple[Direction, str], int] = {}
    for step in taken.steps:
        for span in spans_of(step.tiles, "DATA", "window size increment", "SETTINGS"):
            direction = step.direction
            if span.name == "window size increment":
                direction = TO_CLIENT if direction is TO_SERVER else TO_SERVER
            for whose, after in re.findall(
                r"(stream \d+|connection) \S+ -> (-?[\d,]*\d)", span.detail
            ):
                found[direction, whose] = int(after.replace(",", ""))
    return found


# -- Whatever h2 sends ----------------------------------------------------------------------------

PATHS = ("/", "/a?b=c", "/ticks?token=hunter2hunter2&count=3", "/x?key=&y=1", "/%20?a=b?c=d&=&&")
KNOWN = (
    (b"accept", b"*/*"),
    (b"x-new", b"\xe2\x98\x83 \xff"),
    (b"authorization", b"Bearer hunter2hunter2"),
    (b"referer", b"http://a/b?password=hunter2hunter2"),
    (b"x-empty", b""),
    (b"x-long", b"abcdefghij" * 3000),
    (b"cookie", b"s=hunter2hunter2"),
)
HEADS = (
    RequestReceived, InformationalResponseReceived, ResponseReceived, TrailersReceived,
    PushedStreamReceived,
)  # fmt: skip
ACTIONS = st.tuples(
    st.sampled_from(
        ("open", "open", "answer", "answer", "data", "data", "data", "end", "reset", "grant",
         "settings", "ping", "early hints", "trailers", "push")
    ),
    st.sampled_from(Direction),
    st.integers(0, 7),
    st.integers(0, 40_000),
)  # fmt: skip


def short(fields: Fields) -> Fields:
    """Without what fills a frame: h2 leaves no room for a weight or the number of a promise."""
    return [(name, value) for name, value in fields if len(value) < 1000]


class Talk(Pair):
    """A connection, on which both sides do whatever they may."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[int] = []
        self.open: dict[Direction, list[int]] = {direction: [] for direction in Direction}
        """The streams that this side may send content on."""
        self._resized: list[H2Connection] = []
        self.begin()

    def do(self, what: str, direction: Direction, which: int, size: int) -> None:
        """Do one thing, if it may be done."""
        side = self.client if direction is TO_SERVER else self.server
        sending = self.open[direction]
        stream = sending[which % len(sending)] if sending else 0
        fields = [KNOWN[which % len(KNOWN)], KNOWN[size % len(KNOWN)]]
        if what == "open":
            self._open(fields, which, size)
        elif what in ("answer", "early hints"):
            self._answer(what, fields, which, size)
        elif what == "data" and stream:
            size = min(size % 16_000, side.local_flow_control_window(stream))
            padding = which * 20 if size + 200 < side.local_flow_control_window(stream) else None
            side.send_data(stream, bytes(size), pad_length=padding)
        elif what in ("end", "trailers") and stream:
            sending.remove(stream)
            if what == "end":
                side.end_stream(stream)
            else:
                side.send_headers(stream, fields, end_stream=True)
        elif what == "reset" and stream and stream in self.opened:
            side.reset_stream(stream, 8)
            self.opened.remove(stream)
            for streams in self.open.values():
                streams[:] = [other for other in streams if other != stream]
        elif what == "grant":
            side.increment_flow_control_window(size + 1, stream or None)
        elif what == "settings":
            # The second size of a table confuses hpack if no fields come in between.
            resizes = which % 2 and side not in self._resized
            self._resized += [side] * resizes
            code = SettingCodes.HEADER_TABLE_SIZE if resizes else SettingCodes.INITIAL_WINDOW_SIZE
            side.update_settings({code: size})
        elif what == "ping":
            side.ping(size.to_bytes(8, "big"))
        elif what == "push" and (asked_for := [n for n in self.opened if n % 2]):
            promised = self.server.get_next_available_stream_id()
            asked = asking(PATHS[size % len(PATHS)], *short(fields))
            self.server.push_stream(asked_for[which % len(asked_for)], promised, asked)
            self.opened.append(promised)
        self.flow()

    def _open(self, fields: Fields, which: int, size: int) -> None:
        stream = self.client.get_next_available_stream_id()
        ends = size % 3 == 0
        head = asking(PATHS[which % len(PATHS)], *fields)
        weight = 7 if size % 5 == 0 and fields == short(fields) else None
        self.client.send_headers(stream, head, end_stream=ends, priority_weight=weight)
        self.opened.append(stream)
        if not ends:
            self.open[TO_SERVER].append(stream)

    def _answer(self, what: str, fields: Fields, which: int, size: int) -> None:
        waiting = [n for n in self.opened if n not in self.open[TO_CLIENT]]
        if not waiting:
            return
        stream = waiting[which % len(waiting)]
        if what == "early hints" and stream % 2:
            self.server.send_headers(stream, answering(103, b"", *fields))
            return
        self.server.send_headers(stream, answering(200, b"text/plain", *fields))
        self.opened.remove(stream)
        self.open[TO_CLIENT].append(stream)


def as_h2_reads_fields(pair: Pair, direction: Direction) -> list[str]:
    found = []
    for towards, event in pair.events:
        if towards is direction and isinstance(event, HEADS):
            for name, value in event.headers or ():
                text = value.decode("utf-8", "replace")
                if name in (b":path", b"referer"):
                    text = masked(text)
                secret = name in (b"authorization", b"cookie")
                found.append(f"{name.decode()}: {'***' if secret else text}")
    return found


@given(st.lists(ACTIONS, max_size=14), PLACES)
def test_a_connection_is_what_h2_takes_it_for(
    actions: list[tuple[str, Direction, int, int]], places: list[int]
) -> None:
    talk = Talk()
    for action in actions:
        talk.do(*action)
    taken = dissect(*in_pieces(talk, places))
    assert taken.mistakes() == []
    for direction in Direction:
        assert fields_in(taken, direction) == as_h2_reads_fields(talk, direction)
        for stream in range(1, 30, 2):
            assert content_in(taken, direction, stream) == talk.content(direction, stream)
        everything = b"".join(tile.data for tile in taken.tiles(direction))
        assert len(everything) == len(talk.sent(direction))
    assert not any("hunter2" in span.value + span.detail for span in taken.completed())
    windows = windows_in(taken)
    for direction, side in ((TO_SERVER, talk.client), (TO_CLIENT, talk.server)):
        connection = windows.get((direction, "connection"), 65_535)
        assert connection == side.outbound_flow_control_window
        for stream in talk.open[direction]:
            own = windows.get((direction, f"stream {stream}"))
            if own is not None:
                assert min(own, connection) == side.local_flow_control_window(stream)


@pytest.mark.parametrize("size", [1, 24_000])
def test_a_head_cut_anywhere(size: int) -> None:
    """A long one lies in two frames."""
    pair = Pair()
    pair.begin()
    fields = [(b"x-" + b"a" * (size // 8), b"1"), (b"x-b", b"2" * size)]
    pair.client.send_headers(1, asking("/?a=b&auth=hunter2", *fields), end_stream=True)
    pair.flow()
    whole = dissect(*pair.pieces)
    assert whole.mistakes() == []
    assert spans_of(whole.tiles(TO_SERVER), "header section")[0].value == "GET /?a=b&auth=***"
    slow = dissect(*byte_by_byte(pair.pieces))
    for direction in Direction:
        assert described(whole.tiles(direction)) == described(slow.tiles(direction))


def described(tiles: Sequence[Tile]) -> tuple[bytes, list[tuple[str, str, str, str]]]:
    """Bytes as they are shown, and what is said of them above the reads and writes."""
    spans = dict.fromkeys(s for t in tiles for top in t.spans[1:] for s in (top, *top.enclosing()))
    said = [(s.name, f"{s.start}-{s.stop}", s.value, s.detail) for s in spans]
    return b"".join(tile.data for tile in tiles), said


# -- What streams carry ---------------------------------------------------------------------------

EVENT_LINES = st.sampled_from(
    (
        "data: a\n",
        "data: \N{SNOWMAN}\r\n",
        "event: tick\n",
        "id: 7\r",
        ": comment\n",
        "\n",
        "\n",
        "\r\n",
    )
)


@given(
    st.lists(st.lists(EVENT_LINES, max_size=12).map("".join), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), max_size=40),
    PLACES,
)
def test_events_of_several_streams_are_what_the_decoder_dispatches(
    texts: list[str], order: list[tuple[int, int]], places: list[int]
) -> None:
    pair = Pair()
    pair.begin()
    left = {2 * n + 1: text.encode() for n, text in enumerate(texts)}
    for stream in left:
        pair.client.send_headers(stream, asking("/ticks"), end_stream=True)
        pair.flow()
        pair.server.send_headers(stream, answering(200, b"text/event-stream"))
    for place, size in [*order, *((n, 10_000) for n in range(len(texts)))]:
        stream = 2 * (place % len(texts)) + 1
        pair.server.send_data(stream, left[stream][:size])
        left[stream] = left[stream][size:]
    for stream in left:
        pair.server.end_stream(stream)
    pair.flow()
    taken = dissect(*in_pieces(pair, places))
    assert taken.mistakes() == []
    expected = sorted(
        (event.event or "message", event.data)
        for text in texts
        for event in EventDecoder().feed(text.encode())
    )
    found = [
        span for span in taken.completed("event") if re.match("type [a-z]+(, id 7)?$", span.detail)
    ]
    assert (
        sorted((s.detail.split(",")[0].removeprefix("type "), s.value) for s in found) == expected
    )


def test_an_event_in_two_data_frames_between_those_of_another_stream() -> None:
    pair = Pair()
    pair.begin()
    for stream in (1, 3):
        pair.client.send_headers(stream, asking("/ticks"), end_stream=True)
        pair.flow()
        pair.server.send_headers(stream, answering(200, b"text/event-stream"))
    for stream, data in ((1, b"data: Hel"), (3, b"data: other\n\n"), (1, b"lo\n\n")):
        pair.server.send_data(stream, data)
        pair.flow()
    taken = dissect(*pair.pieces)
    assert [event.value for event in taken.completed("event")] == ["other", "Hello"]
    event = taken.completed("event")[1]
    inside = [t for t in taken.tiles(TO_CLIENT) if event in t.innermost.enclosing()]
    assert b"".join(tile.data for tile in inside) == b"data: Hello\n\n"
    assert len({tile.spans[1] for tile in inside}) == 2  # data of frames
    assert len({tile.spans[2] for tile in inside}) == 1  # content


def test_lines_of_json() -> None:
    pair = Pair()
    pair.begin()
    pair.client.send_headers(
        1, asking("/", (b"content-type", b"application/x-ndjson"), method="POST")
    )
    pair.client.send_data(1, b'{"a":1}\n{"b"')
    pair.client.send_data(1, b":2}\nnope\n", end_stream=True)
    pair.flow()
    taken = dissect(*pair.pieces)
    assert [span.value for span in taken.completed("record")] == ['{"a":1}', '{"b":2}', "nope"]
    assert len(taken.mistakes()) == 1


@pytest.mark.parametrize("accepted", [200, 403])
def test_websocket_frames_over_extended_connect(accepted: int) -> None:
    pair = Pair()
    pair.server.local_settings.enable_connect_protocol = 1
    pair.begin()
    head = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *asking("/chat")[1:]]
    pair.client.send_headers(1, head)
    pair.flow()
    pair.server.send_headers(1, answering(accepted))
    pair.flow()
    sent = websocket_frame(TEXT, b"hi", fin=0) + websocket_frame(PING) + websocket_frame(0, b"!")
    pair.client.send_data(1, sent[:9])
    pair.client.send_data(1, sent[9:] + websocket_frame(BINARY, b"\xff"))
    pair.server.send_data(1, b"\x81\x02yo")
    pair.flow()
    taken = dissect(*pair.pieces)
    assert taken.mistakes() == []
    messages = ["hi!", "ff", "yo"] if accepted == 200 else []
    assert [span.value for span in taken.completed("message")] == messages
    assert spans_of(taken.tiles(TO_SERVER), "header section")[0].value == "CONNECT /chat"


def test_another_protocol_over_connect_is_left_alone() -> None:
    pair = Pair()
    pair.begin()
    pair.client.send_headers(1, [(b":method", b"CONNECT"), (b":authority", b"a:25")])
    pair.server.initiate_connection()
    pair.flow()
    pair.server.send_headers(1, answering(200))
    pair.server.send_data(1, b"220 a ESMTP\r\n")
    pair.flow()
    taken = dissect(*pair.pieces)
    assert taken.mistakes() == []
    assert [s.value for s in spans_of(taken.tiles(TO_SERVER), "header section")] == ["CONNECT a:25"]
    assert len(spans_of(taken.tiles(TO_CLIENT), "other protocol")) == 1


# -- Secrets --------------------------------------------------------------------------------------

SECRET = b"hunter2hunter2"


def with_secrets(*, huffman: bool) -> Pieces:
    """Secrets in fields and in queries, twice: the second time from the table."""
    encoder = Encoder()
    fields = asking(
        "/ticks?a=1&token=hunter2hunter2&count=3",
        (b"authorization", b"Bearer " + SECRET),
        (b"cookie", SECRET),
        (b"x-after", b"seen"),
    )
    blocks = [encoder.encode([(*field, False) for field in fields], huffman) for _ in range(2)]
    heads = [
        frame(HEADERS, block, flags=END_HEADERS | END_STREAM, stream=2 * n + 1)
        for n, block in enumerate(blocks)
    ]
    return [(TO_SERVER, PREFACE + SETTINGS + b"".join(heads)), (TO_CLIENT, SETTINGS)]


@pytest.mark.parametrize("huffman", [True, False])
@pytest.mark.parametrize("slowly", [True, False])
def test_secrets_are_masked_in_bytes_and_values(huffman: bool, slowly: bool) -> None:
    pieces = with_secrets(huffman=huffman)
    taken = dissect(*byte_by_byte(pieces) if slowly else pieces)
    assert taken.mistakes() == []
    shown = b"".join(tile.data for tile in taken.tiles(TO_SERVER))
    for secret in (SECRET, Encoder().huffman_coder.encode(SECRET)[1:-1]):
        assert secret not in shown
        for span in taken.completed():
            said = span.value + span.detail
            assert "hunter" not in said
            assert secret.hex(" ") not in said
    fields = fields_in(taken, TO_SERVER)
    assert fields[: len(fields) // 2] == fields[len(fields) // 2 :]
    assert fields[-4:] == [
        ":path: /ticks?a=1&token=***&count=3", "authorization: ***", "cookie: ***", "x-after: seen",
    ]  # fmt: skip
    if not huffman:
        assert b"/ticks?a=1&token=**************&count=3" in shown


@pytest.mark.parametrize("huffman", [True, False])
def test_a_masked_recording_can_be_read_again(huffman: bool) -> None:
    first = dissect(*with_secrets(huffman=huffman))
    masked_pieces = [
        (direction, b"".join(tile.data for tile in first.tiles(direction)))
        for direction in Direction
    ]
    again = dissect(*masked_pieces)
    assert again.mistakes() == []
    path, *others = fields_in(again, TO_SERVER)[-4:]
    assert others == ["authorization: ***", "cookie: ***", "x-after: seen"]
    assert re.fullmatch(r":path: /ticks\?a=1&toke.*\*\*\*.*", path)
    shown = b"".join(tile.data for tile in again.tiles(TO_SERVER))
    assert all(a in (b, ord("*")) for a, b in zip(shown, masked_pieces[0][1], strict=True))


def test_without_hpack_frames_are_taken_apart_and_fields_are_masked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("hpack", "hpack.huffman_table", "hpack.table"):
        monkeypatch.setitem(sys.modules, name, None)
    table.hpack.cache_clear()
    try:
        answer = frame(HEADERS, b"\x88", flags=END_HEADERS, stream=1)
        answer += frame(DATA, b"hello", flags=END_STREAM, stream=1)
        taken = dissect(*with_secrets(huffman=False), (TO_CLIENT, answer))
    finally:
        table.hpack.cache_clear()
    assert taken.mistakes() == []
    assert SECRET not in b"".join(tile.data for tile in taken.tiles(TO_SERVER))
    fragments = taken.completed("field block fragment")
    assert {(span.value, span.detail) for span in fragments} == {
        ("***", 'to read these fields install hpack: pip install "rawstream[http2]"')
    }
    assert content_in(taken, TO_CLIENT, 1) == b"hello"


# -- Byte by byte ---------------------------------------------------------------------------------

FRAMES_BYTE_BY_BYTE = {
    "SETTINGS": (
        frame(4, b"\x00\x04\x00\x00\xff\xff"),
        [
            ("000006", "length", "6"), ("04", "type", "4: SETTINGS"), ("00", "flags", "none"),
            ("00000000", "stream identifier", "0"),
            ("0004", "identifier", "4: SETTINGS_INITIAL_WINDOW_SIZE"), ("0000ffff", "value", "65,535"),
        ],
    ),
    "PING": (
        frame(6, b"12345678", flags=1),
        [
            ("000008", "length", "8"), ("06", "type", "6: PING"), ("01", "flags", "ACK"),
            ("00000000", "stream identifier", "0"),
            ("3132333435363738", "opaque data", "31 32 33 34 35 36 37 38"),
        ],
    ),
    "GOAWAY": (
        frame(7, b"\x80\x00\x00\x05\x00\x00\x00\x0bcalm"),
        [
            ("00000c", "length", "12"), ("07", "type", "7: GOAWAY"), ("00", "flags", "none"),
            ("00000000", "stream identifier", "0"), ("80000005", "last stream", "5"),
            ("0000000b", "error code", "11: ENHANCE_YOUR_CALM"), ("63616c6d", "debug data", "calm"),
        ],
    ),
    "PRIORITY": (
        frame(2, b"\x80\x00\x00\x03\x0f", stream=1),
        [
            ("000005", "length", "5"), ("02", "type", "2: PRIORITY"), ("00", "flags", "none"),
            ("00000001", "stream identifier", "1"),
            ("80000003", "stream dependency", "stream 3, alone"), ("0f", "weight", "15: 16 of 256"),
        ],
    ),
    "unknown": (
        frame(0x10, b"u=1", flags=0x81, stream=0),
        [
            ("000003", "length", "3"), ("10", "type", "16: PRIORITY_UPDATE"), ("81", "flags", "10000001"),
            ("00000000", "stream identifier", "0"), ("753d31", "payload", "u=1"),
        ],
    ),
    "HEADERS": (
        frame(HEADERS, b"\x02\x00\x00\x00\x00\xff\x82\x00\x00", flags=0x2d, stream=1),
        [
            ("000009", "length", "9"), ("01", "type", "1: HEADERS"),
            ("2d", "flags", "PRIORITY, PADDED, END_HEADERS, END_STREAM"),
            ("00000001", "stream identifier", "1"), ("02", "pad length", "2"),
            ("00000000", "stream dependency", "stream 0"), ("ff", "weight", "255: 256 of 256"),
            ("82", "indexed field", "2"), ("0000", "padding", ""),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMES_BYTE_BY_BYTE)
def test_the_parts_of_a_frame(name: str) -> None:
    sent, expected = FRAMES_BYTE_BY_BYTE[name]
    taken = dissect((TO_SERVER, PREFACE + SETTINGS + sent))
    tiles = taken.tiles(TO_SERVER)[-len(expected) :]
    assert [(t.data.hex(), t.innermost.name, t.innermost.value) for t in tiles] == expected


def test_the_bits_of_a_head() -> None:
    taken = dissect((TO_SERVER, PREFACE + SETTINGS + frame(HEADERS, flags=0x45, stream=2**31 + 1)))
    flags, stream = (tile.innermost for tile in taken.tiles(TO_SERVER)[-2:])
    assert [(b.name, b.width, b.value, b.meaning) for b in flags.bits] == [
        ("unused", 1, "0", "not set"), ("unused", 1, "1", "ignored"), ("PRIORITY", 1, "0", "not set"),
        ("unused", 1, "0", "not set"), ("PADDED", 1, "0", "not set"),
        ("END_HEADERS", 1, "1", "the field block is complete"), ("unused", 1, "0", "not set"),
        ("END_STREAM", 1, "1", "its sender sends nothing more on this stream"),
    ]  # fmt: skip
    assert [(b.name, b.width, b.value) for b in stream.bits] == [("R", 1, "1"), ("", 7, "0000000")]
    assert stream.value == "1"


FIELDS_BYTE_BY_BYTE = {
    # RFC 7541 appendix C
    "400a637573746f6d2d6b65790d637573746f6d2d686561646572": (
        "custom-key: custom-header",
        "literal with incremental indexing; added to the dynamic table as 62 (1 entry, 55 bytes)",
    ),
    "040c2f73616d706c652f70617468": (
        ":path: /sample/path", "literal without indexing; its name is 4 of the static table",
    ),
    "100870617373776f726406736563726574": ("password: secret", "literal never indexed"),
    "82": (":method: GET", "indexed: 2 of the static table"),
    "418cf1e3c2e5f23a6ba0ab90f4ff": (
        ":authority: www.example.com",
        "literal with incremental indexing; its name is 1 of the static table; added to the dynamic "
        "table as 62 (1 entry, 57 bytes)",
    ),
    "3fe11f": ("4,096 bytes", "the dynamic table has 0 entries, 0 bytes"),
    "20": ("0 bytes", "the dynamic table has 0 entries, 0 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("block", FIELDS_BYTE_BY_BYTE)
def test_a_field(block: str) -> None:
    sent = frame(HEADERS, bytes.fromhex(block), flags=END_HEADERS, stream=1)
    taken = dissect((TO_SERVER, PREFACE + SETTINGS + sent))
    [field] = spans_of(taken.tiles(TO_SERVER), "field-line", "pseudo-header", "table size update")
    assert (field.value, field.detail) == FIELDS_BYTE_BY_BYTE[block]


def test_an_integer_of_several_bytes() -> None:
    """RFC 7541 section C.1.2: 1337 in 5 bits, here as the size of the table."""
    sent = frame(HEADERS, bytes.fromhex("3f9a0a"), flags=END_HEADERS, stream=1)
    taken = dissect((TO_SERVER, PREFACE + SETTINGS + sent))
    tiles = taken.tiles(TO_SERVER)[-3:]
    assert [(t.data.hex(), t.innermost.name, t.innermost.value) for t in tiles] == [
        ("3f", "new table size", "1,337"), ("9a", "integer, continued", "57 so far"),
        ("0a", "integer, continued", "1,337"),
    ]  # fmt: skip
    assert [bits.meaning for bits in tiles[1].innermost.bits] == [
        "another byte follows",
        "26 times 1",
    ]


def test_what_is_added_drives_out_what_is_old() -> None:
    """A table of 100 bytes has room for two small entries; a large one empties it."""
    small = [b"\x40\x01%c\x01x" % name for name in b"abc"]
    large = b"\x40\x01d\x7f\x09" + b"x" * 136
    block = b"\x3f\x45" + b"".join(small) + b"\xbf" + large
    sent = frame(HEADERS, block, flags=END_HEADERS, stream=1)
    taken = dissect((TO_SERVER, PREFACE + SETTINGS + sent))
    details = [
        span.detail.partition("; ")[2] for span in spans_of(taken.tiles(TO_SERVER), "field-line")
    ]
    assert details == [
        "added to the dynamic table as 62 (1 entry, 34 bytes)",
        "added to the dynamic table as 62 (2 entries, 68 bytes)",
        "added to the dynamic table as 62 (2 entries, 68 bytes); 1 evicted",
        "",
        "larger than the whole dynamic table, which is empty now",
    ]
    assert fields_in(taken, TO_SERVER)[3] == "b: x"


def test_windows_shrink_and_grow() -> None:
    head = frame(HEADERS, b"\x82\x84\x86", flags=END_HEADERS | END_STREAM, stream=1)
    answer = frame(HEADERS, b"\x88", flags=END_HEADERS, stream=1)
    small = frame(4, b"\x00\x04\x00\x00\x00\x0a")
    taken = dissect(
        (TO_SERVER, PREFACE + small + head),
        (TO_CLIENT, SETTINGS + answer + frame(DATA, b"hello", stream=1)),
        (TO_CLIENT, ACK + frame(DATA, b"\x02hello!\0\0", flags=PADDED, stream=1)),
        (TO_SERVER, frame(WINDOW_UPDATE, b"\0\0\0\x64", stream=1)),
        (TO_SERVER, frame(WINDOW_UPDATE, b"\0\0\0\x01")),
        (TO_CLIENT, frame(DATA, bytes(96), stream=1)),
    )
    said = [
        s
        for step in taken.steps
        for s in spans_of(step.tiles, "DATA", "window size increment", "SETTINGS")
    ]
    assert [span.detail for span in said if span.detail] == [
        "windows: stream 1 65,535 -> 65,530, connection 65,535 -> 65,530",
        "windows: a new stream 10, stream 1 65,530 -> 5",
        "windows: stream 1 5 -> -4, connection 65,530 -> 65,521",
        "window: stream 1 -4 -> 96",
        "window: connection 65,521 -> 65,522",
        "windows: stream 1 96 -> 0, connection 65,522 -> 65,426",
    ]
    assert taken.mistakes() == ["the window of stream 1 has only 5 bytes left"]


def test_a_setting_changes_the_windows_of_all_streams() -> None:
    opened = b"".join(head(GET, stream=number) for number in range(1, 11, 2))
    less = frame(4, b"\0\4\0\0\0\x0a")
    taken = dissect((TO_SERVER, PREFACE + SETTINGS + opened), (TO_CLIENT, less), (TO_SERVER, ACK))
    assert spans_of(taken.tiles(TO_SERVER), "SETTINGS")[1].detail == (
        "windows: a new stream 10, stream 1 65,535 -> 10, stream 3 65,535 -> 10, "
        "stream 5 65,535 -> 10, likewise 2 other streams"
    )


def test_an_acknowledgement_of_nothing() -> None:
    taken = dissect((TO_SERVER, PREFACE + SETTINGS + ACK))
    assert spans_of(taken.tiles(TO_SERVER), "SETTINGS")[1].detail == "no SETTINGS waits for this"


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304)])
def test_an_answer_without_the_content_that_its_head_announces(method: str, status: int) -> None:
    pair = Pair()
    pair.begin()
    pair.client.send_headers(1, asking("/", method=method), end_stream=True)
    pair.flow()
    pair.server.send_headers(1, answering(status, b"", (b"content-length", b"5")), end_stream=True)
    pair.flow()
    assert dissect(*pair.pieces).mistakes() == []


def test_a_table_larger_than_what_is_kept_of_it() -> None:
    """Old entries are forgotten before their sender forgets them, and are not guessed."""
    begin: Pieces = [
        (TO_SERVER, PREFACE + SETTINGS),
        (TO_CLIENT, frame(4, b"\0\1\x7f\xff\xff\xff")),
        (TO_SERVER, ACK + head(b"\x3f\xe1\xff\xff\x7f" + GET)),
    ]
    added = literal(b"x-name", b"y" * 100).replace(b"\0", b"\x40", 1) * 100
    more = [(TO_SERVER, head(GET + added, stream=number)) for number in range(3, 41, 2)]
    unknown = b"\x7f\xcf\x07\x03one" + b"\x7e\x03two" + b"\xbe"  # its name is 1038, then 62 twice
    taken = dissect(
        *begin, *more, (TO_SERVER, head(GET + unknown + b"\xc0\xff\x8f\x07", stream=41))
    )
    assert taken.mistakes() == []
    assert fields_in(taken, TO_SERVER)[-5:-2] == ["(unknown name): ***"] * 3
    assert fields_in(taken, TO_SERVER)[-2:] == [
        "x-name: " + "y" * 100,
        "what 1038 stands for is not known",
    ]
    last_added = spans_of(taken.tiles(TO_SERVER), "field-line")[-6]
    assert "(474 entries, 65,412 bytes kept here)" in last_added.detail


# -- Mistakes -------------------------------------------------------------------------------------

GET = b"\x82\x84\x86"
OPENED = frame(HEADERS, GET, flags=END_HEADERS, stream=1)
ENDED = frame(HEADERS, GET, flags=END_HEADERS | END_STREAM, stream=1)


def literal(name: bytes, value: bytes) -> bytes:
    return bytes((0, len(name))) + name + bytes((len(value),)) + value


def head(block: bytes, *, stream: int = 1) -> bytes:
    return frame(HEADERS, block, flags=END_HEADERS, stream=stream)


MISTAKES_OF_A_CLIENT = {
    "no SETTINGS first": (frame(6, bytes(8)), "the first frame of each side is SETTINGS"),
    "too large": (SETTINGS + frame(DATA, bytes(16_385), stream=1), "takes frames up to 16,384 bytes"),
    "SETTINGS on a stream": (SETTINGS + frame(4, stream=1), "its stream is 0"),
    "half a setting": (SETTINGS + frame(4, bytes(7)), "no multiple of it"),
    "ACK with settings": (SETTINGS + frame(4, bytes(6), flags=1), "carries nothing"),
    "a setting too large": (frame(4, b"\0\5\0\0\0\1"), "it is from 16,384 to 16,777,215"),
    "a short PING": (SETTINGS + frame(6, bytes(7)), "the payload of PING has 8 bytes"),
    "a short GOAWAY": (SETTINGS + frame(7, bytes(7)), "8 bytes at least"),
    "HEADERS on stream 0": (SETTINGS + frame(HEADERS, GET, flags=4), "HEADERS belongs to a stream"),
    "DATA on stream 0": (SETTINGS + frame(DATA, b"x"), "DATA belongs to a stream"),
    "an even number": (SETTINGS + head(GET, stream=2), "odd numbers"),
    "DATA on an idle stream": (SETTINGS + frame(DATA, b"x", stream=1), "stream 1 is idle"),
    "RST_STREAM of an idle one": (SETTINGS + frame(RST_STREAM, bytes(4), stream=1), "is idle"),
    "WINDOW_UPDATE of an idle one": (SETTINGS + frame(WINDOW_UPDATE, b"\0\0\0\1", stream=1), "is idle"),
    "a window that does not grow": (SETTINGS + frame(WINDOW_UPDATE, bytes(4)), "by 1 byte at least"),
    "a window too large": (SETTINGS + frame(WINDOW_UPDATE, b"\x7f\xff\xff\xff"), "at most 2,147,483,647"),
    "DATA after the end": (SETTINGS + ENDED + frame(DATA, b"x", stream=1), "has ended stream 1 already"),
    "HEADERS after the end": (SETTINGS + ENDED + ENDED, "has ended stream 1 already"),
    "CONTINUATION alone": (SETTINGS + frame(CONTINUATION, GET, flags=4, stream=1), "to go on with"),
    "another frame inside": (
        SETTINGS + frame(HEADERS, GET, stream=1) + frame(6, bytes(8)),
        "here should be CONTINUATION of stream 1",
    ),
    "a block cut off": (SETTINGS + head(GET + b"\x40"), "ends inside a field"),
    "padding too long": (SETTINGS + OPENED + frame(DATA, b"\x05x", flags=8, stream=1), "longer than the payload"),
    "no room for the pad length": (SETTINGS + OPENED + frame(DATA, flags=8, stream=1), "before its pad length"),
    "padding that says something": (
        SETTINGS + OPENED + frame(DATA, b"\x01xy", flags=8, stream=1), "padding consists of zeros",
    ),
    "its own parent": (SETTINGS + frame(2, b"\0\0\0\1\0", stream=1), "cannot depend on itself"),
    "a push by a client": (
        SETTINGS + frame(PUSH_PROMISE, b"\0\0\0\2" + GET, flags=4, stream=1), "a client cannot push",
    ),
    "trailers that go on": (SETTINGS + OPENED + head(literal(b"a", b"b")), "trailers end the stream"),
    "no such entry": (SETTINGS + head(b"\xbe"), "entries 1 to 61, and none 62"),
    "index 0": (SETTINGS + head(b"\x80"), "none 0"),
    "a number too long": (SETTINGS + head(b"\xff" + b"\xff" * 9), "more than 32 bits"),
    "a table too large": (SETTINGS + head(b"\x3f\xe2\x1f"), "a table of 4,096 bytes only"),
    "a late size": (SETTINGS + head(GET + b"\x20"), "before the first field"),
    "bad Huffman code": (SETTINGS + head(b"\x00\x81\xff\x00"), "filled up to a byte with bits that are 1"),
    "no Huffman code": (SETTINGS + head(b"\x00\x84\xff\xff\xff\xff\x00"), "no such Huffman code"),
    "no path": (SETTINGS + head(b"\x82\x86"), "a request needs :path"),
    "a capital": (SETTINGS + head(GET + literal(b"A", b"b")), "in lower case"),
    "a space in a name": (SETTINGS + head(GET + literal(b"a b", b"c")), "a field name is a token"),
    "a line end in a value": (SETTINGS + head(GET + literal(b"a", b"b\r\n")), "no line ends"),
    "a space around a value": (SETTINGS + head(GET + literal(b"a", b" b")), "begin or end with a space"),
    "Connection": (SETTINGS + head(GET + literal(b"connection", b"close")), "about the connection"),
    "a late pseudo-header": (SETTINGS + head(literal(b"a", b"b") + GET), "before all other fields"),
    "two methods": (SETTINGS + head(GET + b"\x83"), "comes once"),
    "a status": (SETTINGS + head(GET + b"\x88"), "a request has no such pseudo-header"),
    "a pseudo-header in trailers": (
        SETTINGS + OPENED + frame(HEADERS, b"\x82", flags=5, stream=1), "has no pseudo-headers",
    ),
    "a wrong content-length": (
        SETTINGS + head(GET + literal(b"content-length", b"5")) + frame(DATA, b"x", flags=1, stream=1),
        "content-length is 5, and the content has 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES_OF_A_CLIENT)
def test_a_mistake_is_named_and_what_follows_is_read(name: str) -> None:
    sent, says = MISTAKES_OF_A_CLIENT[name]
    ping = frame(6, b"still ok")
    taken = dissect((TO_SERVER, PREFACE + sent + ping))
    assert any(says in mistake for mistake in taken.mistakes()), taken.mistakes()
    if name != "too large":
        assert taken.tiles(TO_SERVER)[-1].innermost.name == "opaque data"


MISTAKES_OF_A_SERVER = {
    "no request": (head(b"\x88", stream=3), "no request has opened stream 3"),
    "no status": (head(literal(b"a", b"b")), "a response has a :status"),
    "no head": (frame(DATA, b"x", stream=1), "the head of the message has to come first"),
    "an odd promise": (
        frame(PUSH_PROMISE, b"\0\0\0\3" + GET, flags=4, stream=1), "a new, even number",
    ),
    "a window overrun": (
        head(b"\x88") + frame(DATA, bytes(16_384), stream=1) * 4, "has only 16,383 bytes left",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES_OF_A_SERVER)
def test_a_mistake_of_a_server_is_named(name: str) -> None:
    sent, says = MISTAKES_OF_A_SERVER[name]
    taken = dissect((TO_SERVER, PREFACE + SETTINGS + ENDED), (TO_CLIENT, SETTINGS + sent))
    assert any(says in mistake for mistake in taken.mistakes()), taken.mistakes()


def test_a_table_that_has_to_shrink() -> None:
    """The server allows no table any more: the client says so before its next field."""
    none = frame(4, b"\0\1\0\0\0\0")
    begin: Pieces = [(TO_SERVER, PREFACE + SETTINGS), (TO_CLIENT, none), (TO_SERVER, ACK)]
    assert dissect(*begin, (TO_SERVER, head(b"\x20" + GET))).mistakes() == []
    [mistake] = dissect(*begin, (TO_SERVER, head(GET))).mistakes()
    assert mistake == "before this the table has to shrink to 0 bytes"


def test_what_is_not_known_after_a_mistake_is_not_guessed() -> None:
    """The table is lost: a name in it may be that of a secret."""
    lost = head(literal(b"a", b"b") + b"\xff" * 10)
    taken = dissect(
        (TO_SERVER, PREFACE + SETTINGS + lost + head(GET + b"\xbe\x0f\x2f\x03abc", stream=3))
    )
    assert fields_in(taken, TO_SERVER)[-2:] == [
        "what 62 stands for is not known",
        "(unknown name): ***",
    ]
    assert taken.tiles(TO_SERVER)[-1].data == b"***"


def test_a_reset_stream_is_cut_off() -> None:
    answer = frame(
        HEADERS, b"\x88" + literal(b"content-type", b"text/event-stream"), flags=4, stream=1
    )
    reset = frame(RST_STREAM, b"\0\0\0\x08", stream=1)
    taken = dissect(
        (TO_SERVER, PREFACE + SETTINGS + ENDED),
        (TO_CLIENT, SETTINGS + answer + frame(DATA, b"data: half\n", stream=1)),
        (TO_SERVER, reset),
        (TO_CLIENT, frame(DATA, b"under way", stream=1)),
    )
    assert taken.mistakes() == []
    [event] = taken.completed("event")
    assert event.detail == "cut off: the bytes end here"
    [response] = taken.completed("response")
    assert response.detail == "cut off: the stream was reset"
    assert spans_of(taken.tiles(TO_SERVER), "error code")[0].value == "8: CANCEL"


# -- Which protocol it is -------------------------------------------------------------------------


@pytest.mark.parametrize("slowly", [True, False])
def test_a_server_may_begin(slowly: bool) -> None:
    pieces: Pieces = [(TO_CLIENT, SETTINGS), (TO_SERVER, PREFACE + SETTINGS), (TO_CLIENT, ACK)]
    taken = dissect(*byte_by_byte(pieces) if slowly else pieces)
    assert taken.mistakes() == []
    assert len(taken.completed("SETTINGS")) == 3


def test_a_server_of_http_1_answers_the_preface_as_a_request() -> None:
    refusal = b"HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Length: 0\r\n\r\n"
    taken = dissect((TO_SERVER, PREFACE + SETTINGS), *byte_by_byte([(TO_CLIENT, refusal)]))
    assert [s.value for s in taken.completed("status-line")] == ["505 HTTP Version Not Supported"]


@pytest.mark.parametrize("method", [b"P", b"PRI", b"PRINT", b"POST"])
def test_what_only_begins_like_the_preface_is_a_request(method: bytes) -> None:
    request = method + b" /x HTTP/1.1\r\nHost: a\r\n\r\n"
    taken = dissect(*byte_by_byte([(TO_SERVER, request)]), (TO_SERVER, END), (TO_CLIENT, END))
    assert [span.value for span in taken.completed("request")] == [f"{method.decode()} /x"]
    assert b"".join(tile.data for tile in taken.tiles(TO_SERVER)) == request


def test_half_a_preface_is_no_request() -> None:
    taken = dissect(*in_both([PREFACE[:10]], []))
    assert b"".join(tile.data for tile in taken.tiles(TO_SERVER)) == PREFACE[:10]
    assert taken.completed("request")[0].detail == "cut off: the bytes end here"


# -- Garbage, and bounds --------------------------------------------------------------------------

ANY_FRAME = st.builds(
    frame,
    st.integers(0, 10),
    st.one_of(
        st.binary(max_size=40), st.sampled_from((GET, b"\x88", b"\x40\x01a\x01b\xbe", bytes(8)))
    ),
    flags=st.one_of(st.sampled_from((0, 1, 4, 5, 8, 0x20)), st.integers(0, 255)),
    stream=st.integers(0, 5),
)


@given(
    st.lists(st.tuples(st.sampled_from(Direction), st.lists(ANY_FRAME, max_size=6)), max_size=4),
    st.binary(max_size=40),
    PLACES,
    st.booleans(),
)
@example([(TO_SERVER, [frame(HEADERS, b"\x40\x01", stream=1)]), (TO_CLIENT, [])], b"", [], True)
def test_any_frames_and_garbage_lie_in_tiles(
    turns: list[tuple[Direction, list[bytes]]], garbage: bytes, places: list[int], ends: bool
) -> None:
    pieces: Pieces = [(TO_SERVER, PREFACE + SETTINGS), (TO_CLIENT, SETTINGS)]
    for direction, frames in turns:
        pieces += [(direction, piece) for piece in cut(b"".join(frames), places)]
    pieces += [(direction, garbage) for direction in Direction if garbage]
    if ends:
        pieces += [(TO_SERVER, END), (TO_CLIENT, END)]
    dissect(*pieces)


@given(st.lists(ACTIONS, max_size=6), st.integers(0), st.binary(min_size=1, max_size=3), PLACES)
def test_a_connection_with_a_few_bytes_changed(
    actions: list[tuple[str, Direction, int, int]], place: int, change: bytes, places: list[int]
) -> None:
    talk = Talk()
    for action in actions:
        talk.do(*action)
    which = place % len(talk.pieces)
    direction, data = talk.pieces[which]
    place %= len(data)
    talk.pieces[which] = (direction, data[:place] + change + data[place + len(change) :])
    dissect(*in_pieces(talk, places), (TO_SERVER, END), (TO_CLIENT, END))


def test_more_streams_than_are_followed() -> None:
    """All frames are taken apart, but nobody remembers what the last streams carry."""
    numbers = range(1, 2 * MOST_STREAMS + 5, 2)
    opened = b"".join(head(GET, stream=number) for number in numbers)
    sent = frame(DATA, b"x", stream=numbers[-1]) + frame(DATA, b"y", stream=1)
    taken = dissect((TO_SERVER, PREFACE + SETTINGS + opened + sent))
    assert taken.mistakes() == []
    assert content_in(taken, TO_SERVER, numbers[-1]) == b""
    assert content_in(taken, TO_SERVER, 1) == b"y"
    heads = taken.completed("HEADERS")
    assert [span.detail for span in heads].count(heads[-1].detail) == 2
    assert heads[-1].detail == "more than 256 streams are open: this one is not followed"


def endless_heads() -> Iterator[bytes]:
    for number in range(1, 2**20, 2):
        yield head(GET + literal(b"x", b"y" * 100), stream=number)


EVENTS = head(b"\x88" + literal(b"content-type", b"text/event-stream"))
GROWS = frame(WINDOW_UPDATE, b"\0\x10\0\0", stream=1)


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"", frame(6, bytes(8)) * 40),
        (b"", frame(4, b"\0\4\0\0\0\1") * 40),
        (b"", ACK * 40),
        (b"", frame(0x55, bytes(1000))),
        (EVENTS, frame(DATA, b"data: x\n\n" * 10, stream=1)),
        (EVENTS, frame(DATA, b"data: " + b"x" * 1000, stream=1)),
        (head(b"\x88"), frame(DATA, bytes(1000), stream=1)),
        (head(b"\x88"), frame(DATA, bytes(1000), stream=9)),
        (
            frame(HEADERS, b"\x88", stream=1),
            frame(CONTINUATION, literal(b"a", b"b") * 100, stream=1),
        ),
        (
            frame(HEADERS, b"\x88\x00\x7f\xff\xff\xff\x7f", stream=1),
            frame(CONTINUATION, b"x" * 1000, stream=1),
        ),
        (
            frame(HEADERS, b"\x88", stream=1),
            frame(CONTINUATION, b"\x40\x02ab\x50" + bytes(80), stream=1),
        ),
    ],
)
def test_endless_frames_take_no_more_memory_with_time(first: bytes, more: bytes) -> None:
    dissector = Dissector()
    dissector.feed(Piece(0, TO_SERVER, PREFACE + SETTINGS + ENDED))
    dissector.feed(Piece(0, TO_CLIENT, SETTINGS + first))

    def size_after(pieces: int) -> int:
        for _ in range(pieces):
            dissector.feed(Piece(0, TO_CLIENT, more))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    size_after(100)  # until what is kept of one element, and the tables, are full
    tracemalloc.start()
    try:
        before = size_after(8)
        # 24 * 40 frames: one object kept of each is more than this.
        assert size_after(24) < before + 20_000
    finally:
        tracemalloc.stop()


def test_endless_streams_take_no_more_memory_with_time() -> None:
    dissector = Dissector()
    dissector.feed(Piece(0, TO_SERVER, PREFACE + SETTINGS))
    heads = endless_heads()

    def size_after(pieces: int) -> int:
        for _ in range(pieces):
            dissector.feed(Piece(0, TO_SERVER, next(heads)))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    size_after(2 * MOST_STREAMS)
    tracemalloc.start()
    try:
        before = size_after(100)
        assert size_after(1000) < before + 20_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", [b":path", b"content-type", b"x"])
def test_a_bomb_of_fields_is_not_shown_whole(name: bytes) -> None:
    """Each byte stands for 4,000: 4 KB for 16 MB."""
    size = b"\x7f\xa1\x1e"  # 4,000
    large = b"\x40" + bytes((len(name),)) + name + size + b"?" + b"y" * 3999
    bomb = head(GET + large) + frame(HEADERS, b"\xbe" * 4_000, flags=END_HEADERS, stream=3)
    dissector = Dissector()
    dissector.feed(Piece(0, TO_SERVER, PREFACE + SETTINGS))
    began = time.process_time()
    tracemalloc.start()
    try:
        dissector.feed(Piece(0, TO_SERVER, bomb))
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 2.5
