"""The dissector: whatever h11, wsproto and `EventDecoder` take bytes for, it says, too."""

from __future__ import annotations

import gc
import json
import time
import tracemalloc
import zlib
from collections.abc import Sequence

import h11
import pytest
from dissecting import END, PLACES, Taken, cut, dissect, in_both
from hypothesis import example, given
from hypothesis import strategies as st
from wire import BINARY, HOST, MASK, PING, PONG, TEXT, close, frame, get, handshake
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import RemoteProtocolError

from rawstream import EventDecoder
from rawstream.dissector.connection import Dissector
from rawstream.dissector.scanner import KEPT_BYTES, text_of
from rawstream.dissector.spans import Direction, Piece, Span, Tile

TO_SERVER, TO_CLIENT = Direction

# -- HTTP/1.1 -------------------------------------------------------------------------------------

REQUESTS = (
    get("/"),
    get("/a?b=c&token=secret", b"Cookie: a=b\r\nX-Empty:\r\nX-Spaces:  a \t\r\n"),
    b"POST /p HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello",
    b"POST /p HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n",
    b"POST /c HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n2A;a=b\r\n" + bytes(42) + b"\r\n0\r\nX: y\r\n\r\n",
    b"GET http://a/b?c HTTP/1.1\r\n" + HOST + b"\r\n",
    b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /folded HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
)
BROKEN = (
    b"\x16\x03\x01\x02\x00\x01",
    b"GET /\r\n\r\n",
    b"GET / HTTP/1.1\r\nNo colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
    b"GET  / HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
    bytes(range(256)),
)


def as_h11_reads_requests(data: bytes) -> tuple[list[tuple[bytes, bytes, bytes]], bool]:
    """Method, target and content of each whole request, and whether h11 rejects what follows."""
    machine = h11.Connection(h11.SERVER)
    found: list[tuple[bytes, bytes, bytes]] = []
    machine.receive_data(data)
    machine.receive_data(b"")
    try:
        while type(request := machine.next_event()) is h11.Request:
            content = b""
            while type(event := machine.next_event()) is h11.Data:
                content += event.data
            if type(event) is not h11.EndOfMessage:
                return found, True
            found.append((request.method, request.target, content))
            machine.send(h11.Response(status_code=204, headers=[]))
            machine.send(h11.EndOfMessage())
            if machine.our_state is not h11.DONE or machine.their_state is not h11.DONE:
                return found, False
            machine.start_next_cycle()
    except h11.RemoteProtocolError:
        return found, True
    return found, False


def content_of(span: Span, tiles: Sequence[Tile]) -> bytes:
    """The content that the span of a message carries."""
    names = ("chunk-data", "content")
    inside = [t for t in tiles if span in t.spans[1].enclosing() and t.spans[1].name in names]
    return b"".join(tile.data for tile in inside)


def as_dissected_requests(taken: Taken) -> list[tuple[bytes, bytes, bytes]]:
    tiles = taken.tiles(TO_SERVER)
    requests = []
    for span in taken.completed("request"):
        if span.detail:
            continue  # cut off
        method, _, target = span.value.partition(" ")
        requests.append((method.encode(), target.encode(), content_of(span, tiles)))
    return requests


@given(st.lists(st.sampled_from(REQUESTS), max_size=4), st.sampled_from((b"", *BROKEN)), PLACES)
def test_requests_are_what_h11_takes_them_for(
    whole: list[bytes], broken: bytes, places: list[int]
) -> None:
    data = b"".join(whole) + broken
    expected, rejected = as_h11_reads_requests(data)
    masked = [(m, t.replace(b"=secret", b"=***"), c) for m, t, c in expected]
    taken = dissect(*in_both(cut(data, places), []))
    assert as_dissected_requests(taken)[: len(masked)] == masked
    if rejected:
        assert taken.mistakes() or any(s.detail for s in taken.completed())


@given(st.binary(max_size=300), st.binary(max_size=300), PLACES)
def test_every_byte_lies_in_one_tile_whatever_it_is(
    to_server: bytes, to_client: bytes, places: list[int]
) -> None:
    dissect(*in_both(cut(to_server, places), cut(to_client, places)))


@given(st.sampled_from(REQUESTS), st.integers(0, 400), st.binary(min_size=1, max_size=2), PLACES)
def test_requests_with_a_few_bytes_changed(
    data: bytes, place: int, change: bytes, places: list[int]
) -> None:
    place %= len(data)
    data = data[:place] + change + data[place + len(change) :]
    expected, _ = as_h11_reads_requests(data)
    found = as_dissected_requests(dissect(*in_both(cut(data, places), [])))
    for method, target, content in expected[:1]:
        assert found
        assert found[0][0] == method
        assert found[0][2] == content
        assert b"=***" in found[0][1] or found[0][1] == target


RESPONSES = (
    (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b""),
    (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", b""),
    (b"GET", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nContent-Length: 1\r\n\r\n!", b"!"),
    (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n" + bytes(15)
     + b"\r\n0\r\n\r\n", bytes(15)),
)  # fmt: skip


@given(st.lists(st.sampled_from(RESPONSES), min_size=1, max_size=4), PLACES)
def test_each_response_answers_its_request(
    exchanges: list[tuple[bytes, bytes, bytes]], places: list[int]
) -> None:
    asked = b"".join(method + b" / HTTP/1.1\r\n" + HOST + b"\r\n" for method, _, _ in exchanges)
    answered = b"".join(response for _, response, _ in exchanges)
    taken = dissect(*in_both([asked], cut(answered, places)))
    assert not taken.mistakes()
    tiles = taken.tiles(TO_CLIENT)
    final = [span for span in taken.completed("response") if not span.value.startswith("100")]
    assert [content_of(span, tiles) for span in final] == [content for _, _, content in exchanges]


def test_an_empty_line_before_a_request_is_skipped() -> None:
    taken = dissect(*in_both([b"\r\n" + get("/")], []))
    assert [span.name for span in taken.completed("empty line", "request")] == [
        "empty line",
        "request",
    ]
    assert not taken.mistakes()


def test_json_that_is_too_deep_is_a_mistake() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
    taken = dissect(*in_both([get("/")], [head + b"[" * 3000 + b"\n"]))
    [mistake] = taken.mistakes()
    assert "too deep" in mistake


def test_smuggling_is_called_a_mistake() -> None:
    """Both framings in one head; and a second response that no request has asked for."""
    both = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    taken = dissect(*in_both([b"POST / HTTP/1.1\r\n" + HOST + both], [ok, ok]))
    [mistake] = taken.mistakes()
    assert "finds the end elsewhere" in mistake
    lines = taken.completed("status-line")
    assert [line.detail for line in lines] == ["", "no request is waiting for this response"]


def test_content_without_a_length_ends_with_the_connection() -> None:
    taken = dissect(*in_both([get("/")], [b"HTTP/1.1 200 OK\r\n\r\nall ", b"the rest"]))
    [content] = taken.completed("content")
    assert content.value == "all the rest"
    assert content.detail == "it has no length: it ends when the connection closes"


def test_secrets_are_masked_in_bytes_and_values() -> None:
    secret = b"hunter2hunter2"
    fields = b"Authorization: Bearer %b\r\nCookie: s=%b\r\n" % (secret, secret)
    fields += b"Referer: http://a/b?token=%b&c=d\r\n" % secret
    answer = b"HTTP/1.1 204 No Content\r\nSet-Cookie: s=%b\r\n\r\n" % secret
    taken = dissect(
        *in_both(cut(get("/?api_key=hunter2hunter2&a=b", fields), range(0, 300, 7)), [answer])
    )
    for direction in Direction:
        tiles = taken.tiles(direction)
        assert b"hunter" not in b"".join(tile.data for tile in tiles)
        for tile in tiles:
            assert all("hunter" not in span.value + span.detail for span in tile.spans)
    assert taken.completed("request")[0].value == "GET /?api_key=***&a=b"
    assert not [span for span in taken.completed() if "hunter" in span.value + span.detail]


# -- Server-Sent Events ---------------------------------------------------------------------------

EVENT_LINES = st.sampled_from(
    ("data: a", "data", "data:", "data:  two spaces", "event: tick", "id: 7", "id", "retry: 10",
     ": comment", "unknown: x", "", "", "data: \N{SNOWMAN}", ":")
)  # fmt: skip
LINE_ENDS = st.sampled_from(("\n", "\r\n", "\r"))


@given(
    st.lists(st.tuples(EVENT_LINES, LINE_ENDS), max_size=20),
    st.booleans(),
    PLACES,
    st.lists(st.integers(0, 10_000), max_size=4),
)
@example([("data: a", "\r"), ("", "\r")], False, [], [])
def test_events_are_what_the_decoder_dispatches(
    lines: list[tuple[str, str]], bom: bool, chunked_at: list[int], places: list[int]
) -> None:
    stream = ("\N{BYTE ORDER MARK}" if bom else "").encode()
    stream += "".join(line + end for line, end in lines).encode()
    expected = EventDecoder().feed(stream)
    chunks = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in cut(stream, chunked_at)]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    answer = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks)
    taken = dissect((TO_SERVER, get("/")), *((TO_CLIENT, data) for data in cut(answer, places)))
    assert dispatched(taken) == [(event.event or "message", event.data) for event in expected]


def dispatched(taken: Taken) -> list[tuple[str, str | None]]:
    events = [span for span in taken.completed("event") if "nothing is disp" not in span.detail]
    return [(span.detail.removeprefix("type ").partition(",")[0], span.value) for span in events]


def test_an_event_may_lie_in_three_chunks_and_a_chunk_in_two_reads() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    reads = [head + b"\r\n9\r\ndata: Hel\r\n3\r\nl", b"o\n\r\n1\r\n\n\r\n"]
    taken = dissect((TO_SERVER, get("/")), *((TO_CLIENT, data) for data in reads))
    [event] = taken.completed("event")
    assert event.value == "Hello"[:3] + "lo"
    inside = [t for t in taken.tiles(TO_CLIENT) if event in t.innermost.enclosing()]
    assert b"".join(tile.data for tile in inside) == b"data: Hello\n\n"
    assert len({tile.spans[0] for tile in inside}) == 2  # reads
    assert len({tile.spans[1] for tile in inside}) == 3  # chunks


def test_records_of_newline_delimited_json() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
    taken = dissect(*in_both([get("/")], [head + b'{"a":1}\n\n{"b"', b":2}\nnope\n"]))
    assert [json.loads(s.value) for s in taken.completed("record")[:2]] == [{"a": 1}, {"b": 2}]
    assert len(taken.mistakes()) == 1


# -- WebSocket ------------------------------------------------------------------------------------

SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)
DEFLATE_ACCEPTED = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"

FRAMES = st.one_of(
    st.builds(frame, st.just(TEXT), st.text(max_size=70).map(str.encode)),
    st.builds(frame, st.sampled_from((TEXT, BINARY, PING)), st.binary(max_size=125)),
    st.sampled_from(
        (
            frame(TEXT, b"a", fin=0) + frame(0, b"b", fin=0) + frame(PING, b"!") + frame(0, b"c"),
            frame(BINARY, b"a" * 126),
            frame(PONG),
            frame(TEXT),
            frame(TEXT, fin=0) + frame(0),
            frame(TEXT, b"\xe2\x98", fin=0) + frame(0, b"\x83"),  # one character in two frames
        )
    ),
)
LAST_FRAMES = st.sampled_from(
    (
        b"", close(1000), close(1001, b"bye"), close(4000), close(), close(1005),
        frame(8, b"\x03"), frame(3), frame(TEXT, rsv=4), frame(TEXT, rsv=2), frame(0, b"of nothing"),
        frame(TEXT, fin=0) + frame(TEXT), frame(PING, fin=0), frame(PING, bytes(126)),
        frame(TEXT, b"\xff"), b"\x81\x02hi", b"\x82\xfe\x00\x05", b"\x82\xff" + bytes(8),
    )
)  # fmt: skip


def switched(*fields: bytes) -> list[tuple[Direction, bytes]]:
    """The pieces of a handshake."""
    return [(TO_SERVER, handshake()), (TO_CLIENT, SWITCH + b"".join(fields) + b"\r\n")]


def as_wsproto_reads(data: bytes) -> tuple[list[tuple[str, str]], bool]:
    """Messages, pings, pongs and the Close, and whether wsproto rejects what follows."""
    machine = Connection(ConnectionType.SERVER)
    found: list[tuple[str, str]] = []
    message = b""
    for n in range(len(data)):  # one by one, so that what precedes a mistake is reported
        machine.receive_data(data[n : n + 1])
        try:
            for event in machine.events():
                if isinstance(event, TextMessage | BytesMessage):
                    piece = event.data
                    message += piece.encode() if isinstance(piece, str) else bytes(piece)
                    if event.message_finished:
                        found.append(("message", text_of(message[:KEPT_BYTES])))
                        message = b""
                elif isinstance(event, Ping | Pong):
                    found.append((type(event).__name__.lower(), text_of(bytes(event.payload))))
                elif isinstance(event, CloseConnection):
                    if machine.state is ConnectionState.OPEN:  # a Close to be sent: a mistake
                        return found, True
                    return [*found, ("close", str(int(event.code)))], False
        except RemoteProtocolError:
            return found, True
    return found, False


def as_dissected(taken: Taken) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    payload = ""
    for span in taken.completed("message", "ping", "pong", "close", "payload data", "frame"):
        if span.mistake or span.detail.startswith("cut off"):
            break
        if span.name == "payload data":
            payload = span.value
            continue
        if span.name == "message":
            found.append(("message", span.value))
        elif span.name == "close":
            found.append(("close", span.value.partition(":")[0].partition(",")[0]))
            break
        elif span.name != "frame":
            found.append((span.name, payload))
        payload = ""
    return found


@given(st.lists(FRAMES, max_size=5), LAST_FRAMES, PLACES)
def test_frames_are_what_wsproto_takes_them_for(
    whole: list[bytes], last: bytes, places: list[int]
) -> None:
    data = b"".join(whole) + last
    expected, rejected = as_wsproto_reads(data)
    taken = dissect(*switched(), *((TO_SERVER, piece) for piece in cut(data, places)))
    found = as_dissected(taken)
    assert found == [(kind, "close" if value == "1005" else value) for kind, value in expected]
    assert bool(taken.mistakes()) == rejected


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536, 200_000])
def test_a_frame_of_any_length(size: int) -> None:
    sent = frame(BINARY, bytes(range(250)) * (size // 250) + bytes(size % 250))
    taken = dissect(*switched(), *((TO_SERVER, piece) for piece in cut(sent, range(0, size, 9999))))
    [message] = taken.completed("message")
    assert message.detail == f"binary, {size:,} bytes, in 1 frame"
    assert not taken.mistakes()


@given(st.binary(max_size=60), PLACES)
def test_garbage_instead_of_frames(data: bytes, places: list[int]) -> None:
    taken = dissect(*switched(), *((TO_SERVER, piece) for piece in cut(data, places)))
    expected, _ = as_wsproto_reads(data)
    assert as_dissected(taken)[: len(expected)] == expected


@given(
    st.lists(st.tuples(st.text(max_size=40), st.integers(0, 5)), min_size=1, max_size=5),
    st.booleans(),
    PLACES,
)
def test_compressed_messages_are_inflated(
    messages: list[tuple[str, int]], takes_over: bool, places: list[int]
) -> None:
    deflater, data = zlib.compressobj(wbits=-15), b""
    for text, at in messages:
        if not takes_over:
            deflater = zlib.compressobj(wbits=-15)
        packed = deflater.compress(text.encode()) + deflater.flush(zlib.Z_SYNC_FLUSH)
        packed = packed.removesuffix(b"\x00\x00\xff\xff")
        data += frame(TEXT, packed[:at], fin=0, rsv=4) + frame(PING) + frame(0, packed[at:])
    field = b"Sec-WebSocket-Extensions: permessage-deflate"
    field += b"\r\n" if takes_over else b"; client_no_context_takeover\r\n"
    taken = dissect(*switched(field), *((TO_SERVER, piece) for piece in cut(data, places)))
    assert not taken.mistakes()
    assert [s.value for s in taken.completed("message")] == [text for text, _ in messages]


def test_the_accept_key_is_computed() -> None:
    taken = dissect(*switched())
    [accept] = [s for s in taken.completed("field-value") if s.value.endswith("xOo=")]
    assert "b37a4f2cc0624f1690f64606cf385945b2bec4ea" in accept.detail
    wrong = SWITCH.replace(b"s3pP", b"AAAA") + b"\r\n"
    assert dissect((TO_SERVER, handshake()), (TO_CLIENT, wrong)).mistakes() == [
        "it should be s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    ]


def test_bits_of_a_frame() -> None:
    taken = dissect(*switched(), (TO_SERVER, frame(TEXT, b"Hello")))
    tiles = taken.tiles(TO_SERVER)[-4:]
    assert [tile.data for tile in tiles] == [b"\x81", b"\x85", MASK, b"\x7f\x9f\x4d\x51\x58"]
    first, second, key, payload = (tile.spans[1] for tile in tiles)
    assert [(b.name, b.width, b.value) for b in first.bits] == [
        ("FIN", 1, "1"), ("RSV1", 1, "0"), ("RSV2", 1, "0"), ("RSV3", 1, "0"), ("opcode", 4, "0001"),
    ]  # fmt: skip
    assert [(b.name, b.width, b.value) for b in second.bits] == [
        ("MASK", 1, "1"), ("payload length", 7, "0000101"),
    ]  # fmt: skip
    assert key.value == "37 fa 21 3d"
    assert (payload.value, payload.detail) == (
        "Hello", "the first byte is 7f, and 7f XOR 37 is 48"
    )  # fmt: skip


def test_frames_behind_an_unanswered_handshake_wait_for_the_answer() -> None:
    dissector = Dissector()
    early = frame(TEXT, b"early")
    asked = dissector.feed(Piece(0, TO_SERVER, handshake() + early[:3]))
    assert sum(len(tile.data) for tile in asked.tiles) == len(handshake())
    assert not dissector.feed(Piece(0, TO_SERVER, early[3:])).tiles
    answered = dissector.feed(Piece(0, TO_CLIENT, SWITCH + b"\r\n"))
    assert b"".join(tile.data for tile in answered.late) == early
    assert [span.value for span in answered.completed if span.name == "message"] == ["early"]
    assert len({tile.spans[0] for tile in answered.late}) == 2


def test_a_refused_handshake_is_followed_by_requests() -> None:
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    taken = dissect((TO_SERVER, handshake() + get("/next")), (TO_CLIENT, refusal), (TO_SERVER, END))
    assert [span.value for span in taken.completed("request")] == ["GET /", "GET /next"]


def test_another_protocol_is_left_alone() -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n"
    asked = get("/", b"Connection: Upgrade\r\nUpgrade: other\r\n")
    taken = dissect(*in_both([asked, b"\0\1"], [switch, b"\2\3"]))
    assert [span.name for span in taken.completed()].count("other protocol") == 2
    assert not taken.mistakes()


# -- Bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "endless",
    [
        [b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 10_000],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n", b"x" * 10_000],
        [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: ", b"x" * 10_000],
        [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", b"data: x\n\n" * 100],
        [
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
            b"data: %b\n" % (b"x" * 1000),
        ],
        [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", b"id: 12345\n" * 100],
        [b"HTTP/1.1 200 OK\r\nX: ", b"x" * 10_000],
        [b"HTTP/1.1 200 OK\r\n", b"Connection: %b\r\n" % (b"x" * 1000)],
        [b"HTTP/1.1 200 OK\r\nLocation: /?", b"a=%b&" % (b"x" * 1000)],
        [SWITCH + b"\r\n\x82\x7f\0\0\0\1\0\0\0\0", b"x" * 10_000],
        [SWITCH + b"\r\n", b"\x82\x04abcd" * 40],
        [SWITCH + DEFLATE_ACCEPTED + b"\r\n", b"\xc2\x04\x4a\x04\x00\x00" * 40],
    ],
)
def test_endless_streams_take_no_more_memory_with_time(endless: list[bytes]) -> None:
    first, more = endless
    dissector = Dissector()
    dissector.feed(Piece(0, TO_SERVER, handshake()))
    dissector.feed(Piece(0, TO_CLIENT, first))

    def size_after(pieces: int) -> int:
        for _ in range(pieces):
            dissector.feed(Piece(0, TO_CLIENT, more))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    for _ in range(60):  # until what is kept of one element is full
        dissector.feed(Piece(0, TO_CLIENT, more))
    tracemalloc.start()
    try:
        before = size_after(8)
        # At least 24 * 40 short elements: one object kept of each is more than this.
        assert size_after(24) < before + 20_000
    finally:
        tracemalloc.stop()


def test_a_bomb_is_not_inflated_for_ever() -> None:
    deflater = zlib.compressobj(wbits=-15)
    packed = deflater.compress(bytes(200_000_000)) + deflater.flush(zlib.Z_SYNC_FLUSH)
    began = time.process_time()
    taken = dissect(*switched(DEFLATE_ACCEPTED), (TO_SERVER, frame(BINARY, packed, rsv=4)))
    assert time.process_time() - began < 2
    [message] = taken.completed("message")
    assert "inflated no further" in message.detail
