"""What HTTP/2 forbids, frame by frame, in the order of RFC 9113 and RFC 7541: the cases of h2spec
(github.com/summerwind/h2spec) as literal bytes, and what must come out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
import trio
import trio.testing
from frames import (
    ACK,
    ALTSVC,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    LIST_SIZE,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PRIORITY_UPDATE,
    PROTOCOL_ERROR,
    PUSH,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    TABLE_SIZE,
    UNKNOWN,
    WINDOW,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    FramePeer,
    block,
    data,
    fields,
    frame,
    get,
    goaway,
    head,
    ping,
    post,
    priority,
    reset,
    settings,
    window,
)
from handlers import simple
from peers import Connect

from rawstream import Request

TAIL = b"\xff" * 3 + ping() * 3
"""What a client may still send behind its mistake."""

A_LOT = 2**31 - 1


async def app(request: Request) -> None:
    match request.path:
        case "/unread":
            await request.respond(200, b"unread\n")
        case "/ok" | "/never" | "/echo":
            await simple(request)
        case _:
            await request.respond(200, b"hello\n", headers=[("X-Path", request.path)])


# What must come out. Where the RFC asks for an error of the stream, one of the connection is allowed
# as well (section 5.4), but ours is the one named here.


class Connection(tuple[int, ...]):
    """GOAWAY with one of these codes, and the connection ends."""


class Stream(tuple[int, ...]):
    """RST_STREAM of stream 1 with one of these codes, and the connection goes on."""


class Fine(tuple[int, ...]):
    """The streams named are answered 200, and the connection goes on."""


BAD = Connection((PROTOCOL_ERROR,))
SIZE = Connection((FRAME_SIZE_ERROR,))
OPEN = post(1, b"/never")
HALF_CLOSED = get(1, b"/never")
LITERAL = block(fields())
STARTED = PREFACE + settings()

CASES: dict[str, tuple[bytes, Connection | Stream | Fine]] = {
    # -- 3.4: the preface ----------------------------------------------------------------------
    "3.4 no SETTINGS": (PREFACE + get(1), BAD),
    "3.4 an ACK at first": (PREFACE + settings(flags=ACK), BAD),
    "3.4 a PING at first": (PREFACE + ping(), BAD),
    "3.4 a bad preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX" + settings(), BAD),
    # -- 4.1: the format of frames ---------------------------------------------------------------
    "4.1 an unknown type": (STARTED + frame(UNKNOWN, 0xFF, 0, b"?" * 8) + get(1), Fine((1,))),
    "4.1 unknown flags": (STARTED + ping(flags=0x16) + get(1), Fine((1,))),
    "4.1 the reserved bit": (STARTED + get(0x8000_0001), Fine((1,))),
    # -- 4.2: the size of frames -----------------------------------------------------------------
    "4.2 DATA of 2^14": (STARTED + post(1) + data(1, bytes(16_384), last=True), Fine((1,))),
    "4.2 DATA too large": (STARTED + OPEN + data(1, bytes(16_385)), SIZE),
    "4.2 only its head": (STARTED + OPEN + data(1, bytes(0xFFFFFF))[:9], SIZE),
    "4.2 HEADERS too large": (
        STARTED + get(1, b"/", *[(b"x%d" % n, bytes(1_000)) for n in range(17)]),
        SIZE,
    ),
    # -- 4.3: field blocks -------------------------------------------------------------------------
    "4.3 not HPACK": (STARTED + frame(HEADERS, 5, 1, b"\xff" * 16), Connection((COMPRESSION_ERROR,))),
    "4.3 PRIORITY within a block": (
        STARTED + head(1, fields(), 1) + priority(1) + frame(CONTINUATION, 4, 1),
        BAD,
    ),
    "4.3 HEADERS of another stream within": (STARTED + head(1, fields(), 1) + get(3), BAD),
    "4.3 GOAWAY within a block": (STARTED + head(1, fields(), 1) + goaway(), BAD),
    "4.3 an unknown frame within a block": (
        STARTED + head(1, fields(), 1) + frame(UNKNOWN, 0, 1) + frame(CONTINUATION, 4, 1),
        BAD,
    ),
    # -- 5.1: the states of streams ------------------------------------------------------------------
    "5.1 idle: DATA": (STARTED + data(1, b"x", last=True), BAD),
    "5.1 idle: RST_STREAM": (STARTED + reset(1), BAD),
    "5.1 idle: RST_STREAM of an even one": (STARTED + get(5) + reset(2), BAD),
    "5.1 idle: WINDOW_UPDATE": (STARTED + window(1, 100), BAD),
    "5.1 idle: WINDOW_UPDATE of an even one": (STARTED + get(5) + window(2, 100), BAD),
    "5.1 idle: CONTINUATION": (STARTED + frame(CONTINUATION, 4, 1, LITERAL), BAD),
    "5.1 idle: PRIORITY": (STARTED + priority(1) + get(1), Fine((1,))),
    "5.1 half-closed: DATA": (STARTED + HALF_CLOSED + data(1, b"x"), Stream((STREAM_CLOSED,))),
    "5.1 half-closed: HEADERS": (STARTED + HALF_CLOSED + get(1), Stream((STREAM_CLOSED,))),
    "5.1 half-closed: CONTINUATION": (STARTED + HALF_CLOSED + frame(CONTINUATION, 4, 1), BAD),
    "5.1 half-closed: WINDOW_UPDATE, PRIORITY": (
        STARTED + get(1) + window(1, 1) + priority(1, 3),
        Fine((1,)),
    ),
    "5.1 reset: DATA": (STARTED + OPEN + reset(1) + data(1, b"x"), Stream((STREAM_CLOSED,))),
    "5.1 reset: HEADERS": (STARTED + OPEN + reset(1) + get(1), Stream((STREAM_CLOSED,))),
    "5.1 reset: CONTINUATION": (STARTED + OPEN + reset(1) + frame(CONTINUATION, 4, 1), BAD),
    "5.1 reset: RST_STREAM, WINDOW_UPDATE": (
        STARTED + OPEN + reset(1) + reset(1) + window(1, 1) + priority(1) + get(3),
        Fine((3,)),
    ),
    # -- 5.1.1: the numbers of streams -----------------------------------------------------------------
    "5.1.1 an even one": (STARTED + get(2), BAD),
    "5.1.1 lower than an earlier one": (STARTED + get(5) + get(3), BAD),
    "5.1.1 lower than one reset": (STARTED + get(5, b"/never") + reset(5) + get(3), BAD),
    "5.1.1 skipped": (STARTED + get(1) + get(77), Fine((1, 77))),
    # -- 5.4, 5.5 -----------------------------------------------------------------------------------------
    "5.5 an unknown setting": (STARTED + settings((0xBEBE, 7)) + get(1), Fine((1,))),
    "5.5 an unknown frame on a stream": (STARTED + OPEN + frame(UNKNOWN, 0, 1) + get(3), Fine((3,))),
    "5.5 ALTSVC": (STARTED + OPEN + frame(ALTSVC, 0, 1, b"\0\0h2=x") + get(3), Fine((3,))),
    "5.5 PRIORITY_UPDATE": (
        STARTED + frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\1u=1") + get(1),
        Fine((1,)),
    ),
    # -- 6.1: DATA --------------------------------------------------------------------------------------
    "6.1 stream 0": (STARTED + OPEN + data(0, b"x"), BAD),
    "6.1 padded": (
        STARTED + post(1) + frame(DATA, PADDED | END_STREAM, 1, b"\3abc\0\0\0"),
        Fine((1,)),
    ),
    "6.1 padded too much": (STARTED + OPEN + frame(DATA, PADDED, 1, b"\6abc"), BAD),
    "6.1 padded, and empty": (STARTED + OPEN + frame(DATA, PADDED, 1), Connection((PROTOCOL_ERROR, FRAME_SIZE_ERROR))),
    # -- 6.2: HEADERS -----------------------------------------------------------------------------------
    "6.2 stream 0": (STARTED + get(0), BAD),
    "6.2 padded too much": (STARTED + frame(HEADERS, 5 | PADDED, 1, b"\xff" + LITERAL), BAD),
    "6.2 padded, with priority": (
        STARTED + frame(HEADERS, 5 | PADDED | WITH_PRIORITY, 1, b"\2\0\0\0\0\7" + LITERAL + bytes(2)),
        Fine((1,)),
    ),
    "6.2 a priority cut off": (STARTED + frame(HEADERS, 5 | WITH_PRIORITY, 1, b"\0\0"), Connection((PROTOCOL_ERROR, FRAME_SIZE_ERROR))),
    "6.2 in pieces": (
        STARTED
        + frame(HEADERS, END_STREAM, 1, LITERAL[:7])
        + frame(CONTINUATION, 0, 1, LITERAL[7:9])
        + frame(CONTINUATION, END_HEADERS, 1, LITERAL[9:]),
        Fine((1,)),
    ),
    # -- 6.3: PRIORITY, of which the rest is deprecated ------------------------------------------------
    "6.3 stream 0": (STARTED + priority(0), BAD),
    "6.3 not five bytes": (STARTED + frame(PRIORITY, 0, 1, b"\0\0\0\0"), SIZE),
    # -- 6.4: RST_STREAM --------------------------------------------------------------------------------
    "6.4 stream 0": (STARTED + reset(0), BAD),
    "6.4 not four bytes": (STARTED + OPEN + frame(RST_STREAM, 0, 1, b"\0\0\0"), SIZE),
    "6.4 an unknown code": (STARTED + OPEN + reset(1, 0xDEAD) + get(3), Fine((3,))),
    # -- 6.5: SETTINGS --------------------------------------------------------------------------------
    "6.5 an ACK with settings": (STARTED + settings((WINDOW, 1), flags=ACK), SIZE),
    "6.5 of a stream": (STARTED + frame(SETTINGS, 0, 1), BAD),
    "6.5 not a multiple of six": (STARTED + frame(SETTINGS, 0, 0, b"\0\3\0"), SIZE),
    "6.5.2 ENABLE_PUSH of 2": (STARTED + settings((PUSH, 2)), BAD),
    "6.5.2 a window too large": (STARTED + settings((WINDOW, 2**31)), Connection((FLOW_CONTROL_ERROR,))),
    "6.5.2 frames too small": (STARTED + settings((FRAME_SIZE, 16_383)), BAD),
    "6.5.2 frames too large": (STARTED + settings((FRAME_SIZE, 2**24)), BAD),
    "6.5.2 the largest": (
        STARTED + settings((WINDOW, A_LOT), (FRAME_SIZE, 2**24 - 1), (TABLE_SIZE, 2**32 - 1), (LIST_SIZE, 2**32 - 1), (PUSH, 1)) + get(1),
        Fine((1,)),
    ),
    "6.5.3 the same twice": (STARTED + settings((WINDOW, 1), (WINDOW, 6)) + get(1), Fine((1,))),
    # -- 6.6: PUSH_PROMISE -------------------------------------------------------------------------
    "6.6 from a client": (STARTED + OPEN + frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2" + LITERAL), BAD),
    # -- 6.7: PING ------------------------------------------------------------------------------------
    "6.7 of a stream": (STARTED + frame(PING, 0, 1, bytes(8)), BAD),
    "6.7 not eight bytes": (STARTED + frame(PING, 0, 0, bytes(7)), SIZE),
    "6.7 an ACK of nothing": (STARTED + ping(flags=ACK) + get(1), Fine((1,))),
    # -- 6.8: GOAWAY -----------------------------------------------------------------------------------
    "6.8 of a stream": (STARTED + goaway(stream=1), BAD),
    "6.8 too short": (STARTED + frame(GOAWAY, 0, 0, bytes(7)), SIZE),
    # -- 6.9: WINDOW_UPDATE ------------------------------------------------------------------------
    "6.9 by 0": (STARTED + window(0, 0), BAD),
    "6.9 by 0 on a stream": (STARTED + OPEN + window(1, 0), BAD),
    "6.9 not four bytes": (STARTED + frame(WINDOW_UPDATE, 0, 0, bytes(3)), SIZE),
    "6.9.1 over 2^31-1": (STARTED + window(0, A_LOT), Connection((FLOW_CONTROL_ERROR,))),
    "6.9.1 over 2^31-1 on a stream": (STARTED + OPEN + window(1, A_LOT), Stream((FLOW_CONTROL_ERROR,))),
    "6.9.1 more than our window": (
        STARTED + OPEN + data(1, bytes(16_384)) * 4,
        Connection((FLOW_CONTROL_ERROR,)),
    ),
    "6.9.2 over 2^31-1 by a setting": (
        STARTED + OPEN + window(1, 2**30) + settings((WINDOW, A_LOT)),
        Connection((FLOW_CONTROL_ERROR,)),
    ),
    # -- 6.10: CONTINUATION ----------------------------------------------------------------------
    "6.10 stream 0": (STARTED + head(1, fields(), 1) + frame(CONTINUATION, 4, 0), BAD),
    "6.10 another stream": (STARTED + head(1, fields(), 1) + frame(CONTINUATION, 4, 3), BAD),
    "6.10 DATA in between": (STARTED + head(1, fields(), 0) + data(1, b"x"), BAD),
    "6.10 after END_HEADERS": (STARTED + get(1) + frame(CONTINUATION, 4, 1), BAD),
    "6.10 after a CONTINUATION with END_HEADERS": (
        STARTED + head(1, fields(), 1) + frame(CONTINUATION, 4, 1) * 2,
        BAD,
    ),
    # -- 8.1: the order of frames -----------------------------------------------------------------------
    "8.1 trailers without END_STREAM": (STARTED + post(1) + head(1, [(b"a", b"b")], 4), BAD),
    "8.1 trailers": (STARTED + post(1) + data(1, b"x") + head(1, [(b"a", b"b")]), Fine((1,))),
    # -- RFC 7541 ----------------------------------------------------------------------------------------
    "2.3.3 an index beyond the tables": (STARTED + frame(HEADERS, 5, 1, LITERAL + b"\xbe"), Connection((COMPRESSION_ERROR,))),
    "2.3.3 a name beyond the tables": (STARTED + frame(HEADERS, 5, 1, LITERAL + b"\x7f\x00\1a"), Connection((COMPRESSION_ERROR,))),
    "4.2 a table size at the end": (STARTED + frame(HEADERS, 5, 1, LITERAL + b"\x20"), Connection((COMPRESSION_ERROR,))),
    "4.2 a table size at the start": (STARTED + frame(HEADERS, 5, 1, b"\x20\x3f\x01" + LITERAL), Fine((1,))),
    "5.1 an integer without end": (STARTED + frame(HEADERS, 5, 1, LITERAL + b"\xff" * 100), Connection((COMPRESSION_ERROR,))),
    "5.2 Huffman padding of more than 7 bits": (STARTED + frame(HEADERS, 5, 1, LITERAL + b"\0\x82\x1f\xff\1a"), Connection((COMPRESSION_ERROR,))),
    "5.2 Huffman padding of zeros": (STARTED + frame(HEADERS, 5, 1, LITERAL + b"\0\x81\x18\1a"), Connection((COMPRESSION_ERROR,))),
    "5.2 Huffman with EOS": (STARTED + frame(HEADERS, 5, 1, LITERAL + b"\0\x84\xff\xff\xff\xff\1a"), Connection((COMPRESSION_ERROR,))),
    "5.2 a string cut off": (STARTED + frame(HEADERS, 5, 1, LITERAL + b"\0\5abc"), Connection((COMPRESSION_ERROR,))),
    "6.1 index 0": (STARTED + frame(HEADERS, 5, 1, LITERAL + b"\x80"), Connection((COMPRESSION_ERROR,))),
    "6.3 a table larger than allowed": (STARTED + frame(HEADERS, 5, 1, b"\x3f\xe2\x1f" + LITERAL), Connection((COMPRESSION_ERROR,))),
    "6.3 in trailers, too": (STARTED + post(1, b"/never") + frame(HEADERS, 5, 1, b"\x80"), Connection((COMPRESSION_ERROR,))),
}  # fmt: skip


def feeds() -> Iterator[tuple[str, str]]:
    for name, (_, expected) in CASES.items():
        yield name, "whole"
        yield name, "byte by byte"
        if isinstance(expected, Connection):
            yield name, "with a tail"


@pytest.mark.parametrize(("name", "feed"), [*feeds()], ids=lambda text: str(text).replace(" ", "-"))
async def test_frames(
    connect: Connect,
    name: str,
    feed: str,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    frames, expected = CASES[name]
    peer = FramePeer(connect(app))
    step = 0
    if feed == "byte by byte":
        step = 1 if len(frames) < 16_000 else 1_000
    with_tail = frames + TAIL * (feed == "with a tail")
    if isinstance(expected, Connection):
        # What it sends behind its mistake may come when the server has closed.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_what_is_taken, peer, with_tail, step)
            await peer.to_end()
            nursery.cancel_scope.cancel()
        assert peer.goaways[-1][1] in expected
        assert peer.goaways[-1][2]  # it says why
    else:
        await peer.send(with_tail, step=step)
        if isinstance(expected, Stream):
            await peer.until(peer.was_reset(1))
            assert peer.resets[1] in expected
        else:
            await peer.over(*expected)
            assert [peer.status(stream) for stream in expected] == [200] * len(expected)
        await peer.is_alive()
    assert "Traceback" not in caplog.text


async def _send_what_is_taken(peer: FramePeer, frames: bytes, step: int) -> None:
    with suppress(trio.BrokenResourceError):
        await peer.send(frames, step=step)


async def test_a_stream_closed_by_its_end_is_closed(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    for late, codes in (
        (get(1), (STREAM_CLOSED,)),
        (frame(CONTINUATION, 4, 1, LITERAL), (PROTOCOL_ERROR, STREAM_CLOSED)),
        (data(1, b"x"), None),  # RST_STREAM
        (window(1, 1) + priority(1) + reset(1), ()),  # which may have crossed the end
    ):
        peer = await FramePeer(connect(app)).open()
        await peer.send(get(1))
        await peer.over(1)
        await peer.send(late)
        if codes:
            await peer.to_end()
            assert peer.goaways[-1][1] in codes
        else:
            if codes is None:
                await peer.until(peer.was_reset(1))
                assert peer.resets[1] == STREAM_CLOSED
            await peer.is_alive()


async def test_the_first_frame_is_settings_which_are_acknowledged(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app)).open((WINDOW, 1))
    await peer.until(lambda: any("ACK" in made.flags for made in peer.frames))
    assert peer.frames[0].type == SETTINGS
    assert "ACK" not in peer.frames[0].flags
    await peer.send(get(1))
    await peer.until(lambda: peer.bodies.get(1, b"") == b"h")
    await peer.send(settings((WINDOW, 3)))
    await peer.until(lambda: peer.bodies[1] == b"hel")
    await peer.send(settings((WINDOW, 0)) + window(1, 2))
    await peer.send(ping())
    await peer.until(lambda: peer.pongs)
    assert peer.bodies[1] == b"hel"  # the window is -1 now (RFC 9113 section 6.9.2)
    await peer.send(window(1, 1))
    await peer.send(window(1, 1))
    await peer.until(lambda: peer.bodies[1] == b"hell")
    await peer.send(settings((WINDOW, 65_535)))
    await peer.over(1)
    assert peer.bodies[1] == b"hello\n"


# -- Malformed requests (RFC 9113 section 8) ------------------------------------------------------


def without(name: bytes, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [*(pair for pair in fields() if pair[0] != name), *more]


def replaced(name: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    return [(found, value if found == name else old) for found, old in fields()]


MALFORMED = {
    "a name in upper case": fields(b"/", b"GET", (b"X-Name", b"x")),
    "an empty name": fields(b"/", b"GET", (b"", b"x")),
    "a name that is a colon": fields(b"/", b"GET", (b":", b"x")),
    "a name with a space": fields(b"/", b"GET", (b"a b", b"x")),
    "a name with a colon": fields(b"/", b"GET", (b"a:", b"x")),
    "a name with CR LF": fields(b"/", b"GET", (b"a\r\nb", b"x")),
    "a name with NUL": fields(b"/", b"GET", (b"a\0", b"x")),
    "a name not in ASCII": fields(b"/", b"GET", (b"\xe4", b"x")),
    "a value with CR LF": fields(b"/", b"GET", (b"a", b"b\r\nc: d")),
    "a value with LF": fields(b"/", b"GET", (b"a", b"b\nc")),
    "a value with NUL": fields(b"/", b"GET", (b"a", b"b\0c")),
    "a value that begins with a space": fields(b"/", b"GET", (b"a", b" b")),
    "a value that ends with a tab": fields(b"/", b"GET", (b"a", b"b\t")),
    "connection": fields(b"/", b"GET", (b"connection", b"close")),
    "keep-alive": fields(b"/", b"GET", (b"keep-alive", b"timeout=5")),
    "proxy-connection": fields(b"/", b"GET", (b"proxy-connection", b"close")),
    "transfer-encoding": fields(b"/", b"GET", (b"transfer-encoding", b"chunked")),
    "upgrade": fields(b"/", b"GET", (b"upgrade", b"websocket")),
    "te: gzip": fields(b"/", b"GET", (b"te", b"trailers, gzip")),
    ":method twice": [(b":method", b"GET"), *fields()],
    ":path twice": [*fields(), (b":path", b"/other")],
    ":status": [*fields(), (b":status", b"200")],
    ":status of 100": [(b":status", b"100"), *fields()],
    ":unknown": [*fields(), (b":unknown", b"x")],
    ":path after a field": [*without(b":path"), (b"a", b"b"), (b":path", b"/")],
    ":path after a cookie": [*without(b":path"), (b"cookie", b"b"), (b":path", b"/")],
    "no :method": without(b":method"),
    "no :scheme": without(b":scheme"),
    "no :path": without(b":path"),
    "no :authority, no host": without(b":authority"),
    "nothing": [],
    "an empty :method": replaced(b":method", b""),
    "an empty :path": replaced(b":path", b""),
    "an empty :scheme": replaced(b":scheme", b""),
    "an empty :authority": replaced(b":authority", b""),
    "a :method with a space": replaced(b":method", b"GET /"),
    "a :path without a slash": replaced(b":path", b"index.html"),
    "an absolute :path": replaced(b":path", b"http://localhost/"),
    "a :path with a space": replaced(b":path", b"/ HTTP/1.1"),
    "a :path with a fragment": replaced(b":path", b"/#a"),
    "a :path of * without OPTIONS": replaced(b":path", b"*"),
    "userinfo": replaced(b":authority", b"me@localhost"),
    "an :authority with a path": replaced(b":authority", b"localhost/a"),
    "another host": fields(b"/", b"GET", (b"host", b"example.com")),
    "host twice": without(b":authority", (b"host", b"localhost"), (b"host", b"localhost")),
    ":protocol without CONNECT": [*fields(), (b":protocol", b"websocket")],
    "CONNECT with :protocol, without :path": [
        (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":authority", b"localhost"),
    ],
    "content-length that is no number": fields(b"/", b"GET", (b"content-length", b"-1")),
    "content-length in other digits": fields(b"/", b"GET", (b"content-length", b"\xb2")),
    "content-length of 5,000 digits": fields(b"/", b"GET", (b"content-length", b"9" * 5_000)),
    "content-length twice": fields(b"/", b"GET", *[(b"content-length", b"0")] * 2),
    "content-length, but no body": fields(b"/", b"GET", (b"content-length", b"3")),
}  # fmt: skip

MALFORMED_BODIES = {
    "longer than its length": post(1, b"/echo", (b"content-length", b"3")) + data(1, b"abcd"),
    "longer, and ended": post(1, b"/echo", (b"content-length", b"3")) + data(1, b"abcd", last=True),
    "shorter than its length": post(1, b"/echo", (b"content-length", b"3"))
    + data(1, b"a")
    + data(1, b"b", last=True),
    "empty": post(1, b"/echo", (b"content-length", b"3")) + data(1, last=True),
    "trailers too early": post(1, b"/echo", (b"content-length", b"3")) + head(1, [(b"a", b"b")]),
    "a pseudo-field in trailers": post(1) + data(1, b"x") + head(1, [(b":path", b"/")]),
    "a name in upper case in trailers": post(1) + data(1, b"x") + head(1, [(b"A", b"b")]),
    "connection in trailers": post(1) + head(1, [(b"connection", b"close")]),
    "while its handler sleeps": post(1, b"/never", (b"content-length", b"3"))
    + data(1, b"abcd", last=True),
}


@pytest.mark.parametrize("step", [0, 1], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("name", [*MALFORMED, *MALFORMED_BODIES])
async def test_malformed_requests_are_answered_and_reset_alone(
    connect: Connect,
    name: str,
    step: int,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if name in MALFORMED:
        ended = head(3, MALFORMED[name])
        if "no body" not in name:
            await _check_malformed(connect, head(1, MALFORMED[name], END_HEADERS), step)
        await _check_malformed(connect, ended.replace(b"\0\0\0\3", b"\0\0\0\1", 1), step)
    else:
        await _check_malformed(connect, MALFORMED_BODIES[name], step)
    assert "Traceback" not in caplog.text


async def _check_malformed(connect: Connect, frames: bytes, step: int) -> None:
    peer = await FramePeer(connect(app)).open()
    if len(frames) > 4_000:
        step = step and 500
    await peer.send(frames + post(11) + data(11, b"neighbour", last=True), step=step)
    await peer.until(peer.was_reset(1))
    await peer.over(11)
    assert peer.status(1) == 400
    assert peer.bodies[1].startswith(b"400 Bad Request: ")
    assert peer.bodies[1].count(b"\n") == 1
    assert peer.resets == {1: PROTOCOL_ERROR}
    assert 1 not in peer.ended
    assert peer.bodies[11] == b"neighbour"
    await peer.is_alive()


async def test_what_follows_a_whole_answer_is_only_dropped(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    ended = trio.Event()

    async def handler(request: Request) -> None:
        if request.path == "/ok":
            await app(request)
        else:
            await request.respond(200, b"early\n")
            await ended.wait()

    for rest in (
        head(1, [(b":path", b"/")]),
        data(1, b"abcd"),
        data(1, b"abcd", last=True),
        data(1, b"a", last=True),
        reset(1),
    ):
        ended = trio.Event()
        peer = await FramePeer(connect(handler)).open()
        await peer.send(post(1, b"/early", (b"content-length", b"3")))
        await peer.over(1)
        await peer.send(rest)
        await trio.testing.wait_all_tasks_blocked()
        ended.set()
        await peer.is_alive()
        assert peer.bodies[1] == b"early\n"


SOUND = {
    "te: trailers": (fields(b"/", b"GET", (b"te", b"trailers")), 200),
    "host alone": (without(b":authority", (b"host", b"localhost")), 200),
    "host in another case": (fields(b"/", b"GET", (b"host", b"LOCALHOST")), 200),
    "OPTIONS *": (fields(b"*", b"OPTIONS"), 200),
    "a scheme of its own": (replaced(b":scheme", b"foo"), 200),
    "a value in Latin-1": (fields(b"/", b"GET", (b"a", b"\xe4 b\tc")), 200),
    "an empty value": (fields(b"/", b"GET", (b"a", b"")), 200),
    "content-length of 0": (fields(b"/", b"GET", (b"content-length", b"0")), 200),
    "cookies in crumbs": (fields(b"/", b"GET", *[(b"cookie", b"a=b")] * 180), 200),
    "100 fields": (fields(b"/", b"GET", *[(b"x%d" % n, b"") for n in range(100)]), 200),
    "101 fields": (fields(b"/", b"GET", *[(b"x%d" % n, b"") for n in range(101)]), 431),
    "a target too long": (fields(b"/" + b"a" * 8_192), 414),
    "CONNECT": ([(b":method", b"CONNECT"), (b":authority", b"localhost:1")], 501),
    "another expectation": (fields(b"/", b"GET", (b"expect", b"more")), 417),
}


@pytest.mark.parametrize("name", SOUND)
async def test_well_formed_requests(
    connect: Connect, name: str, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app)).open()
    pairs, status = SOUND[name]
    await peer.send(head(1, pairs))
    await peer.over(1)
    assert peer.status(1) == status
    assert peer.resets == {}
    await peer.is_alive()


async def test_cookie_crumbs_are_one_field(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> None:
        await request.respond(200, request.headers["cookie"])

    peer = await FramePeer(connect(handler)).open()
    await peer.send(get(1, b"/", (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2")))
    await peer.over(1)
    assert peer.bodies[1] == b"a=1; b=2"


async def test_head_has_no_body_and_100_comes_when_the_body_is_read(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app)).open()
    await peer.send(head(1, fields(b"/", b"HEAD")))
    await peer.over(1)
    assert peer.heads[1][b"content-length"] == b"6"
    assert peer.bodies[1] == b""
    await peer.send(post(3, b"/echo", (b"expect", b"100-continue")))
    await peer.until(lambda: peer.interim == [3])
    await peer.send(data(3, b"at last", last=True))
    await peer.over(3)
    assert peer.bodies[3] == b"at last"
    await peer.send(post(5, b"/unread", (b"expect", b"100-continue")))
    await peer.over(5)
    await peer.until(peer.was_reset(5))
    assert peer.interim == [3]
    assert peer.status(5) == 200


async def test_a_huge_table_of_fields_is_not_made(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> None:
        await request.respond(200, headers=[("x-long", request.path[1:] * 100)])

    peer = await FramePeer(connect(handler)).open((TABLE_SIZE, 2**32 - 1))
    sizes = []
    for number in range(30):
        await peer.send(get(2 * number + 1, b"/%d" % (1_000_000 + number % 15)))
        await peer.over(2 * number + 1)
        sizes.append(len(peer.frames[-1].serialize()))
    # Fields of 700 bytes that come again after 15 others have been forgotten.
    assert min(sizes[15:]) > 300
