"""WebSocket as literal bytes: handshake, frames, closing, limits; what Autobahn teaches, kept."""

from __future__ import annotations

import struct
import zlib

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from peers import PATIENCE, Connect, Peer, Serving, connect_over_memory, happens
from wire import BINARY, CONTINUATION, DEFLATE, MASK, PING, PONG, TEXT, close, frame, handshake

from rawstream import (
    Handler,
    Limits,
    Request,
    WebSocketClosed,
    open_websocket,
    serve_stream,
)
from rawstream.websocket import receiving
from rawstream.websocket.reader import FrameReader

pytestmark = pytest.mark.both_versions


async def echo(request: Request) -> None:
    async with open_websocket(request, compression=True) as ws:
        async for message in ws:
            await ws.send(message)


async def opened(connect: Connect, handler: Handler = echo, *fields: bytes) -> Peer:
    peer = connect(handler, Limits(message_bytes=1000))
    await peer.send(handshake(*fields))
    assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    return peer


# -- The handshake --------------------------------------------------------------------------------


async def test_the_handshake_of_the_rfc(connect: Connect) -> None:
    peer = connect(echo)
    await peer.send(handshake(), step=1)
    assert await peer.until(b"\r\n\r\n") == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )


REFUSED = {
    "no upgrade": (426, handshake(without=b"Upgrade")),
    "upgrade to something else": (426, handshake(b"Upgrade: h2c")),
    "no connection": (426, handshake(without=b"Connection")),
    "connection without upgrade": (426, handshake(b"Connection: keep-alive")),
    "no version": (426, handshake(without=b"Sec-WebSocket-Version")),
    "old version": (426, handshake(b"Sec-WebSocket-Version: 8")),
    "no key": (400, handshake(without=b"Sec-WebSocket-Key")),
    "short key": (400, handshake(b"Sec-WebSocket-Key: c2hvcnQ=")),
    "key not base64": (400, handshake(b"Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==")),
    "post": (405, handshake(head=b"POST / HTTP/1.1")),
    "head": (405, handshake(head=b"HEAD / HTTP/1.1")),
    "http/1.0": (400, handshake(head=b"GET / HTTP/1.0")),
    "body": (400, handshake(b"Content-Length: 4") + b"ping"),
    "chunked body": (400, handshake(b"Transfer-Encoding: chunked") + b"0\r\n\r\n"),
}


@pytest.mark.http1
@pytest.mark.parametrize(("status", "request_bytes"), REFUSED.values(), ids=REFUSED)
async def test_refused_handshakes(connect: Connect, status: int, request_bytes: bytes) -> None:
    peer = connect(echo)
    await peer.send(request_bytes)
    answer = await peer.has(b"\n", 10)
    if not request_bytes.startswith(b"HEAD"):
        answer += await peer.until(b"\n") if not answer.endswith(b"\n") else b""
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    if status == 426:
        assert b"\r\nSec-WebSocket-Version: 13\r\n" in answer
        assert b"\r\nUpgrade: websocket\r\n" in answer


OTHER_ORIGINS = {
    "foreign origin": b"http://evil.example",
    "null origin": b"null",
    "origin with another port": b"http://localhost:81",
    "origin that is no URL": b"http://[",
}


@pytest.mark.parametrize("origin", OTHER_ORIGINS.values(), ids=OTHER_ORIGINS)
async def test_other_origins_are_refused(connect: Connect, origin: bytes) -> None:
    peer = connect(echo)
    await peer.send(handshake(b"Origin: " + origin))
    answer = await peer.has(b"localhost")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert origin in answer


@pytest.mark.parametrize(
    "origin",
    [b"http://localhost", b"https://localhost", b"http://localhost:80", b"HTTP://LOCALHOST"],
)
async def test_the_same_origin_is_let_in(connect: Connect, origin: bytes) -> None:
    await opened(connect, echo, b"Origin: " + origin)


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        (["https://a.example"], b"https://a.example", b"101"),
        (["https://a.example"], b"http://localhost", b"403"),
        (["*"], b"https://b.example", b"101"),
        ([], b"http://localhost", b"403"),
    ],
)
async def test_origins_on_a_list(
    connect: Connect, origins: list[str], origin: bytes, status: bytes
) -> None:
    async def handler(request: Request) -> None:
        async with open_websocket(request, origins=origins):
            pass

    peer = connect(handler)
    await peer.send(handshake(b"Origin: " + origin))
    assert (await peer.has(b"\r\n\r\n")).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(("offered", "chosen"), [(b"b, a", b"a"), (b"c", None), (b"x, b", b"b")])
async def test_subprotocols(connect: Connect, offered: bytes, chosen: bytes | None) -> None:
    async def handler(request: Request) -> None:
        async with open_websocket(request, subprotocols=["a", "b"]) as ws:
            assert ws.subprotocol == (chosen.decode() if chosen else None)

    peer = connect(handler)
    await peer.send(handshake(b"Sec-WebSocket-Protocol: " + offered))
    answer = await peer.has(b"\r\n\r\n")
    assert (
        (b"Sec-WebSocket-Protocol: %b\r\n" % chosen in answer)
        if chosen
        else (b"Sec-WebSocket-Protocol" not in answer)
    )


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        (b"permessage-deflate", b"permessage-deflate"),
        (b"x-unknown, permessage-deflate", b"permessage-deflate"),
        (b"permessage-deflate; client_max_window_bits",
         b"permessage-deflate; client_max_window_bits=15"),
        (b"permessage-deflate; server_max_window_bits=10",
         b"permessage-deflate; server_max_window_bits=10"),
        (b"permessage-deflate; server_no_context_takeover",
         b"permessage-deflate; server_no_context_takeover"),
        (b"permessage-deflate; server_max_window_bits=8, permessage-deflate",
         b"permessage-deflate"),
        (b"permessage-deflate; server_max_window_bits=16", None),
        (b"permessage-deflate; server_max_window_bits", None),
        (b"permessage-deflate; unknown=1", None),
        (b"permessage-deflate; client_no_context_takeover=1", None),
        (b"permessage-deflate; client_no_context_takeover; client_no_context_takeover", None),
        (b"permessage-deflate; client_max_window_bits=x", None),
        (b"permessage-deflatex", None),
    ],
)  # fmt: skip
async def test_offers_of_compression(connect: Connect, offer: bytes, answer: bytes | None) -> None:
    peer = connect(echo)
    await peer.send(handshake(b"Sec-WebSocket-Extensions: " + offer))
    head = await peer.until(b"\r\n\r\n")
    if answer is None:
        assert b"Sec-WebSocket-Extensions" not in head
    else:
        assert b"\r\nSec-WebSocket-Extensions: " + answer + b"\r\n" in head


async def test_bytes_right_behind_the_handshake_are_not_lost(connect: Connect) -> None:
    peer = connect(echo)
    await peer.send(handshake() + frame(TEXT, b"early") + frame(TEXT, b"bird")[:5])
    await peer.send(frame(TEXT, b"bird")[5:])
    assert (await peer.has(b"bird")).endswith(b"\r\n\r\n\x81\x05early\x81\x04bird")


# -- Frames ---------------------------------------------------------------------------------------

UTF8 = "Hello-µ@ßöäüàá-UTF-8!!".encode()
BAD_UTF8 = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"

FRAMES = {
    "text": (frame(TEXT, b"Hello"), b"\x81\x05Hello"),
    "the masked frame of the rfc": (
        b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", b"\x81\x05Hello"),
    "empty text": (frame(TEXT), b"\x81\x00"),
    "binary": (frame(BINARY, b"\x00\xff"), b"\x82\x02\x00\xff"),
    "126 bytes": (frame(BINARY, b"x" * 126), b"\x82\x7e\x00\x7e" + b"x" * 126),
    "fragments": (
        frame(TEXT, b"Hel", fin=0) + frame(CONTINUATION, b"lo"), b"\x81\x05Hello"),
    "empty fragments": (
        frame(TEXT, b"", fin=0) + frame(CONTINUATION, b"", fin=0) + frame(CONTINUATION),
        b"\x81\x00"),
    "a ping between fragments": (
        frame(TEXT, b"Hel", fin=0) + frame(PING, b"p") + frame(CONTINUATION, b"lo"),
        b"\x8a\x01p\x81\x05Hello"),
    "ping": (frame(PING, b"Hello"), b"\x8a\x05Hello"),
    "ping of 125 bytes": (frame(PING, b"x" * 125), b"\x8a\x7d" + b"x" * 125),
    "a pong nobody asked for": (frame(PONG, b"x") + frame(TEXT, b"a"), b"\x81\x01a"),
    "a character cut by fragments": (
        frame(TEXT, UTF8[:7], fin=0) + frame(CONTINUATION, UTF8[7:]),
        b"\x81" + bytes([len(UTF8)]) + UTF8),
    "the largest message": (frame(BINARY, b"x" * 1000), b"\x82\x7e\x03\xe8" + b"x" * 1000),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "answer"), FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("step", [0, 1], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("tail", [b"", frame(TEXT, b"tail")], ids=["alone", "with a tail"])
async def test_frames_to_the_byte(
    connect: Connect, sent: bytes, answer: bytes, step: int, tail: bytes
) -> None:
    peer = await opened(connect)
    await peer.send(sent + tail, step=step)
    answer += b"\x81\x04tail" if tail else b""
    assert await peer.exactly(len(answer)) == answer
    await peer.send(close(1000))
    assert await peer.to_end() == b"\x88\x02\x03\xe8"


# Autobahn's groups 2 to 7: what must end the connection, and with which code; what came whole
# before it is answered first.
FATAL = {
    "rsv bit": (1002, frame(TEXT, b"a", rsv=1)),
    "rsv bit on a close": (1002, frame(8, rsv=2)),
    "reserved opcode 3": (1002, frame(3, b"a")),
    "reserved opcode 11": (1002, frame(11)),
    "ping of 126 bytes": (1002, frame(PING, b"x" * 126)),
    "fragmented ping": (1002, frame(PING, b"x", fin=0)),
    "continuation of nothing": (1002, frame(CONTINUATION, b"x")),
    "text inside a message": (1002, frame(TEXT, b"a", fin=0) + frame(TEXT, b"b")),
    "not masked": (1002, b"\x81\x01a"),
    "length longer than needed": (1002, b"\x81\xfe\x00\x05" + MASK + b"xxxxx"),
    "length over 63 bits": (1002, b"\x82\xff" + b"\xff" * 8 + MASK),
    "bad utf-8": (1007, frame(TEXT, BAD_UTF8)),
    "bad utf-8 over fragments": (
        1007, frame(TEXT, BAD_UTF8[:12], fin=0) + frame(CONTINUATION, BAD_UTF8[12:])),
    "utf-8 that ends too early": (1007, frame(TEXT, b"\xce")),
    "bad utf-8 in an unfinished frame": (1007, frame(TEXT, BAD_UTF8 + b"x" * 50)[: 6 + 14]),
    "too large": (1009, frame(BINARY, b"x" * 1001)),
    "too large, in fragments": (
        1009, frame(TEXT, b"x" * 600, fin=0) + frame(CONTINUATION, b"x" * 401)),
    "too large, in two-byte characters": (1009, frame(TEXT, "ä".encode() * 501)),
    "too large, announced": (1009, b"\x82\xff" + struct.pack("!Q", 2**40) + MASK + b"x" * 1001),
    "close with one byte": (1002, frame(8, b"x")),
    "close with bad utf-8": (1007, close(1000, b"\xff")),
    "close of 126 bytes": (1002, close(1000, b"x" * 124)),
    **{f"close {code}": (1002, close(code))
       for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535)},
}  # fmt: skip


@pytest.mark.http1
@pytest.mark.parametrize(("code", "sent"), FATAL.values(), ids=FATAL)
@pytest.mark.parametrize("step", [0, 1], ids=["whole", "byte by byte"])
async def test_bad_frames_end_the_connection(
    connect: Connect, code: int, sent: bytes, step: int
) -> None:
    peer = await opened(connect)
    await peer.send(frame(TEXT, b"before"))
    try:
        await peer.send(sent + frame(TEXT, b"never"), step=step)
    except trio.BrokenResourceError:
        assert step  # it was closed half way
    answer = await peer.to_end()
    assert answer.startswith(b"\x81\x06before\x88")
    assert answer[10:12] == struct.pack("!H", code)
    assert len(answer) == 10 + answer[9]


CLOSES = {
    "no code": (close(), b"\x88\x00", 1005, ""),
    "1000": (close(1000), b"\x88\x02\x03\xe8", 1000, ""),
    "with a reason": (close(1001, b"bye"), b"\x88\x05\x03\xe9bye", 1001, "bye"),
    "3000": (close(3000), b"\x88\x02\x0b\xb8", 3000, ""),
    "4999": (close(4999), b"\x88\x02\x13\x87", 4999, ""),
    "the longest reason": (close(1000, b"r" * 123), b"\x88\x7d\x03\xe8" + b"r" * 123, 1000, "r" * 123),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "answer", "code", "reason"), CLOSES.values(), ids=CLOSES)
async def test_the_client_closes(
    connect: Connect, sent: bytes, answer: bytes, code: int, reason: str
) -> None:
    seen: list[object] = []

    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:
            seen.extend([message async for message in ws])
            seen.extend([ws.close_code, ws.close_reason])
            with pytest.raises(WebSocketClosed) as caught:
                await ws.send("too late")
            assert (caught.value.code, caught.value.reason) == (code, reason)
            with pytest.raises(WebSocketClosed):
                await ws.receive()

    peer = await opened(connect, handler)
    await peer.send(frame(TEXT, b"last") + sent + frame(TEXT, b"ignored"))
    assert await peer.to_end() == answer
    assert seen == ["last", code, reason]


async def test_the_server_closes_and_waits_for_the_answer(connect: Connect) -> None:
    codes = []

    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:
            await ws.close(4001, "enough")
            codes.append((ws.close_code, ws.close_reason))

    peer = await opened(connect, handler)
    assert await peer.until(b"enough") == b"\x88\x08\x0f\xa1enough"
    await peer.send(frame(TEXT, b"on its way") + frame(PING, b"p"))
    await trio.testing.wait_all_tasks_blocked()
    assert codes == []
    await peer.send(close(4001, b"fine"))
    await peer.to_end()
    assert codes == [(4001, "fine")]


async def test_a_close_nobody_answers_ends_after_its_deadline(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> None:
        async with open_websocket(request):
            pass

    peer = await opened(connect, handler)
    start = trio.current_time()
    assert await peer.to_end() == b"\x88\x02\x03\xe8"
    assert trio.current_time() - start == pytest.approx(5)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 5000])
async def test_codes_that_may_not_be_sent(connect: Connect, code: int) -> None:
    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:
            with pytest.raises(ValueError, match="may not be sent"):
                await ws.close(code)

    peer = await opened(connect, handler)
    assert await peer.exactly(4) == b"\x88\x02\x03\xe8"


async def test_a_failing_handler_closes_with_1011_and_its_own_exception(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = []

    async def handler(request: Request) -> None:
        try:
            async with open_websocket(request):
                raise KeyError("inside")
        except KeyError as error:
            kinds.append(type(error))
            raise

    peer = await opened(connect, handler)
    assert await peer.exactly(4) == b"\x88\x02\x03\xf3"
    await peer.send(close(1011))
    await peer.to_end()
    assert kinds == [KeyError]
    assert "the handler failed" in caplog.text


# -- Sending --------------------------------------------------------------------------------------


async def test_any_number_of_tasks_may_send(connect: Connect) -> None:
    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws, trio.open_nursery() as nursery:
            for letter in "abcdefgh":
                nursery.start_soon(ws.send, letter * 70)

    peer = await opened(connect, handler)
    got = await peer.exactly(8 * 72)
    assert sorted(got[n : n + 72] for n in range(0, len(got), 72)) == [
        b"\x81\x46" + letter.encode() * 70 for letter in "abcdefgh"
    ]


async def test_a_long_message_in_fragments(connect: Connect) -> None:
    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws, trio.open_nursery() as nursery:
            async with ws.open_message() as message:
                await message.send("one ")
                nursery.start_soon(ws.send, "between")
                await trio.testing.wait_all_tasks_blocked()
                await message.send("two")

    peer = await opened(connect, handler)
    await peer.send(frame(PING, b"p"))
    got = await peer.until(b"between")
    assert got.replace(b"\x8a\x01p", b"") == b"\x01\x04one \x00\x03two\x80\x00\x81\x07between"


async def test_a_message_left_by_an_exception_is_never_ended(connect: Connect) -> None:
    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:
            async with ws.open_message() as message:
                await message.send(b"half")
                raise KeyError

    peer = await opened(connect, handler)
    assert await peer.exactly(6 + 4) == b"\x02\x04half\x88\x02\x03\xf3"


# -- Pings ----------------------------------------------------------------------------------------


async def idle(request: Request) -> None:
    async with open_websocket(request) as ws:
        async for message in ws:
            await ws.send(message)


async def deaf(request: Request) -> None:
    async with open_websocket(request):
        await trio.sleep_forever()


async def test_pings_that_are_answered_keep_it_open(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await opened(connect, idle)
    start = trio.current_time()
    for n in range(1, 6):
        assert await peer.has(b"\x89\x00", patience=30) == b"\x89\x00"
        assert trio.current_time() - start == pytest.approx(20 * n)
        await peer.send(frame(PONG))


async def test_a_ping_nobody_answers_ends_it(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await opened(connect, idle)
    start = trio.current_time()
    assert await peer.to_end(patience=50) == b"\x89\x00"
    assert trio.current_time() - start == pytest.approx(40)


async def test_a_handler_that_lets_messages_pile_up_is_no_dead_client(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    async def busy(request: Request) -> None:
        async with open_websocket(request) as ws:
            await trio.sleep(310)
            for _ in range(40):
                await ws.send(await ws.receive())

    peer = await opened(connect, busy)
    await peer.send(frame(TEXT, b"x") * 40)
    got = await peer.has(b"\x81\x01x" * 40, patience=1000)
    assert got.replace(b"\x89\x00", b"") == b"\x81\x01x" * 40


# -- Compression ----------------------------------------------------------------------------------


def deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


async def test_compressed_messages_to_the_byte(connect: Connect) -> None:
    peer = await opened(connect, echo, DEFLATE)
    # "Hello" of RFC 7692 section 7.2.3.1, and the same in two fragments (7.2.3.1 again).
    await peer.send(frame(TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00", rsv=4))
    assert await peer.exactly(9) == b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"
    await peer.send(
        frame(TEXT, b"\xf2\x48\xcd", fin=0, rsv=4) + frame(CONTINUATION, b"\xc9\xc9\x07\x00")
    )
    assert await peer.exactly(9) == b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"
    # Control frames come between, and are not compressed.
    await peer.send(
        frame(PING, b"p")
        + frame(TEXT, b"\xf2\x48\xcd", fin=0, rsv=4)
        + frame(PING, b"q")
        + frame(CONTINUATION, b"\xc9\xc9\x07\x00")
    )
    assert await peer.exactly(15) == b"\x8a\x01p\x8a\x01q\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"
    # Uncompressed messages may still come.
    await peer.send(frame(TEXT, b"Hello"))
    assert await peer.exactly(9) == b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        (1009, frame(BINARY, deflated(b"\0" * 1001), rsv=4)),
        (1009, frame(BINARY, deflated(b"\0" * 10_000_000), rsv=4)),
        (1007, frame(BINARY, b"\xff\xff\xff\xff", rsv=4)),
        (1002, frame(TEXT, b"a", fin=0) + frame(CONTINUATION, b"b", rsv=4)),
        (1002, frame(PING, b"a", rsv=4)),
        (1007, frame(TEXT, deflated(BAD_UTF8), rsv=4)),
    ],
    ids=["too large", "bomb", "no deflate data", "rsv1 on a continuation", "rsv1 on a ping", "utf-8"],
)  # fmt: skip
async def test_bad_compressed_frames(connect: Connect, code: int, sent: bytes) -> None:
    peer = await opened(connect, echo, DEFLATE)
    await peer.send(sent)
    answer = await peer.to_end()
    assert answer[:1] + answer[2:4] == b"\x88" + struct.pack("!H", code)


@given(messages=st.lists(st.binary(max_size=300) | st.text(max_size=100), min_size=1, max_size=5),
       cuts=st.lists(st.integers(1, 50), max_size=20), fragment=st.integers(1, 400))  # fmt: skip
def test_messages_are_the_same_wherever_they_are_cut(
    messages: list[str | bytes], cuts: list[int], fragment: int
) -> None:
    """Frame borders and read borders are unrelated, and neither is visible in the messages."""
    sent = b""
    for message in messages:
        opcode = TEXT if isinstance(message, str) else BINARY
        payload = message.encode() if isinstance(message, str) else message
        starts = range(0, max(1, len(payload)), fragment)
        for start in starts:
            sent += frame(
                CONTINUATION if start else opcode,
                payload[start : start + fragment],
                fin=int(start == starts[-1]),
            )

    got: list[str | bytes] = []

    async def collect(request: Request) -> None:
        async with open_websocket(request) as ws:
            got.extend([message async for message in ws])

    async def main() -> None:
        nonlocal sent
        async with trio.open_nursery() as nursery:
            peer = connect_over_memory(nursery, collect)
            await peer.send(handshake())
            await peer.until(b"\r\n\r\n")
            for cut in [*cuts, len(sent)]:
                await peer.send(sent[:cut])
                sent = sent[cut:]
                await trio.testing.wait_all_tasks_blocked()
            await peer.send(close(1000))
            await peer.to_end()
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert got == messages


async def test_reading_stops_while_messages_wait(serving: Serving) -> None:
    """A client that floods a handler which does not listen is held up by TCP, not by our memory."""

    server = await serving(deaf, limits=Limits(message_queue=4))
    peer = await server.connect()
    await peer.send(handshake())
    await peer.until(b"\r\n\r\n")
    sent = 0

    async def flood() -> None:
        nonlocal sent
        flooding = frame(BINARY, b"x" * 60000)
        while sent < 200_000_000:
            await peer.send(flooding)
            sent += 60000

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert sent < 100_000_000
        nursery.cancel_scope.cancel()


async def test_pings_oftener_than_a_handler_is_looked_after(
    serving_over_each_carrier: Serving,
) -> None:
    """A handler that only pushes is away from the beginning: its pongs are read all the same."""
    ended = trio.Event()

    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:
            await trio.sleep(0.6)
            assert ws.close_code is None
        ended.set()

    server = await serving_over_each_carrier(handler, limits=Limits(ping_seconds=0.02))
    peer = await server.connect()
    await peer.send(handshake())
    await peer.until(b"\r\n\r\n")
    pinged = 0
    with trio.fail_after(PATIENCE):
        while not ended.is_set():
            data = await peer.stream.receive_some()
            pinged += data.count(b"\x89\x00")
            answer = frame(PONG) * data.count(b"\x89\x00")
            if b"\x88\x02\x03\xe8" in data:
                answer += close(1000)
            await peer.send(answer)
    assert pinged > 5


@pytest.mark.http1
async def test_many_frames_while_the_handler_is_away(serving_over_each_carrier: Serving) -> None:
    """What comes in one read is handled in steps, and nothing of it is left lying."""
    got = []

    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:
            await trio.sleep(0.5)
            got.extend([await ws.receive() for _ in range(3)])

    server = await serving_over_each_carrier(handler, limits=Limits(message_queue=2))
    peer = await server.connect()
    await peer.send(handshake())
    await peer.until(b"\r\n\r\n")
    pings = b"".join(frame(PING, b"%d" % n) for n in range(1000))
    split = len(pings) // 2 + 1
    await peer.send(pings[:split])
    await trio.sleep(0.3)  # now it is away
    await peer.send(pings[split:] + frame(TEXT, b"a") + frame(TEXT, b"b") + frame(TEXT, b"c"))
    assert (await peer.has(b"\x88\x02\x03\xe8")).count(b"\x8a") == 1000
    assert got == ["a", "b", "c"]


@pytest.mark.http1
async def test_a_slow_handler_with_many_messages_has_no_dead_client(
    serving_over_each_carrier: Serving,
) -> None:
    """While messages wait in front of the pong, nobody can know that it has not come."""

    async def slow(request: Request) -> None:
        async with open_websocket(request) as ws:
            async for _ in ws:
                await trio.sleep(0.03)

    server = await serving_over_each_carrier(slow, limits=Limits(ping_seconds=0.1))
    peer = await server.connect()
    await peer.send(handshake() + frame(TEXT, b"x") * 1000)
    await peer.until(b"\r\n\r\n")
    with trio.move_on_after(1.5):
        while data := await peer.stream.receive_some():
            await peer.send(frame(PONG) * data.count(b"\x89\x00"))
        raise AssertionError("the server has closed")


async def test_a_pong_that_comes_before_the_ping_has_been_sent_counts(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Over TLS a send may end after the peer has answered."""
    ours, theirs = trio.testing.memory_stream_pair()

    deliver = theirs.send_stream.send_all_hook
    assert deliver is not None

    async def sent_late() -> None:
        await deliver()
        await trio.sleep(1)

    theirs.send_stream.send_all_hook = sent_late
    nursery.start_soon(serve_stream, deaf, theirs)
    peer = Peer(ours)
    await peer.send(handshake())
    await peer.until(b"\r\n\r\n")
    for _ in range(4):
        await peer.has(b"\x89\x00", patience=30)
        await peer.send(frame(PONG))


@pytest.mark.http1
async def test_a_flood_that_nobody_reads_is_read_in_turns(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the watch tells of bytes, there is about one read in a pass of the scheduler,
    so that other tasks run."""
    reads, most = 0, 0
    take_in = receiving.ReceivingHalf._take_in
    ended = trio.Event()

    def counted(ws: receiving.ReceivingHalf, data: bytes) -> None:
        nonlocal reads
        reads += 1
        take_in(ws, data)

    monkeypatch.setattr(receiving.ReceivingHalf, "_take_in", counted)

    async def handler(request: Request) -> None:
        nonlocal reads, most
        async with open_websocket(request) as ws:
            ws.drop_messages()
            with trio.move_on_after(0.5):
                while True:
                    await trio.lowlevel.checkpoint()
                    for _ in range(10):
                        ws._on_bytes()
                    most, reads = max(most, reads), 0
            ended.set()
            await trio.sleep_forever()

    peer = await (await serving(handler)).connect()
    await peer.send(handshake())
    await peer.until(b"\r\n\r\n")
    flood = frame(BINARY, b"x" * 30000) * 20
    with trio.fail_after(PATIENCE):
        while not ended.is_set():
            await peer.send(flood)
    assert 1 <= most <= 4


@pytest.mark.http1
async def test_of_two_tasks_that_receive_one_goes_away(serving_over_each_carrier: Serving) -> None:
    got = []

    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:

            async def once() -> None:
                got.append(await ws.receive())
                await trio.sleep_forever()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(once)
                nursery.start_soon(once)

    peer = await (await serving_over_each_carrier(handler)).connect()
    await peer.send(handshake() + frame(TEXT, b"one"))
    await peer.until(b"\r\n\r\n")
    await trio.sleep(0.5)
    await peer.send(frame(TEXT, b"two") + close(4000))
    assert await peer.to_end() == b"\x88\x02\x0f\xa0"
    assert got == ["one", "two"]


async def test_several_tasks_learn_of_the_close(serving_over_each_carrier: Serving) -> None:
    codes = []
    ended = trio.Event()

    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:

            async def receive() -> None:
                with pytest.raises(WebSocketClosed):
                    await ws.receive()
                codes.append(ws.close_code)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                nursery.start_soon(receive)
        ended.set()

    peer = await (await serving_over_each_carrier(handler)).connect()
    await peer.send(handshake())
    await peer.until(b"\r\n\r\n")
    await peer.send(close(4000))
    await happens(ended)
    assert codes == [4000, 4000]


async def test_a_failure_of_the_pump_fails_alone(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Unreadable(FrameReader):
        def feed(self, data: bytes) -> None:
            raise ValueError("cannot be fed")

    monkeypatch.setattr(receiving, "FrameReader", Unreadable)
    server = await serving(deaf)
    peer = await server.connect()
    await peer.send(handshake())
    await peer.until(b"\r\n\r\n")
    await trio.sleep(0.3)
    await peer.send(frame(TEXT, b"a"))
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert "cannot be fed" in caplog.text
    monkeypatch.undo()
    other = await server.connect()
    await other.send(handshake())
    assert await other.until(b"\r\n\r\n")


async def test_the_pump_does_not_start_once_the_block_has_ended(connect: Connect) -> None:
    ended = trio.Event()

    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:
            pass
        # As if the pump had been about to start when the block was left.
        with trio.move_on_after(PATIENCE) as reading:
            await ws._read_while_away()
        assert not reading.cancelled_caught
        ended.set()

    peer = connect(handler, Limits(close_seconds=0.01))
    await peer.send(handshake())
    await happens(ended)
