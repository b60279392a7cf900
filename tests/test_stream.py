"""Chunked streams as literal bytes, and the transport under them."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from peers import Connect, Serving, happens
from wire import DATE, GET, GET_1_0

from rawstream import BrokenStream, ClientGone, Handler, Limits, Request, open_stream
from rawstream.tcp.transport import State, Transport

HEAD_1_1 = (
    b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Type: text/plain\r\nX-Accel-Buffering: no\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)

pytestmark = [pytest.mark.both_versions, pytest.mark.usefixtures("fixed_date")]


def sending(*pieces: bytes, length: int | None = None) -> Handler:
    """A handler that streams these pieces."""

    async def handler(request: Request) -> None:
        async with open_stream(request, "text/plain", length=length) as stream:
            for piece in pieces:
                await stream.send(piece)

    return handler


@pytest.mark.parametrize(
    ("pieces", "chunks"),
    [
        ([b'{"token":"The"}', b'{"token":" sky"}'],
         b'f\r\n{"token":"The"}\r\n10\r\n{"token":" sky"}\r\n0\r\n\r\n'),
        ([b"ping", b":pong!"], b"4\r\nping\r\n6\r\n:pong!\r\n0\r\n\r\n"),
        ([], b"0\r\n\r\n"),
        ([b"", b"a", b""], b"1\r\na\r\n0\r\n\r\n"),
        ([b"x" * 16384], b"4000\r\n" + b"x" * 16384 + b"\r\n0\r\n\r\n"),  # a whole frame
        (["ä".encode()], b"2\r\n\xc3\xa4\r\n0\r\n\r\n"),
    ],
    ids=["tokens", "ping pong", "nothing", "empty pieces", "large", "two bytes, one character"],
)  # fmt: skip
async def test_chunks_to_the_byte(connect: Connect, pieces: list[bytes], chunks: bytes) -> None:
    peer = connect(sending(*pieces))
    for _ in range(2):  # the connection stays good
        await peer.send(GET)
        assert await peer.exactly(len(HEAD_1_1 + chunks)) == HEAD_1_1 + chunks


@pytest.mark.http1
async def test_http_1_0_gets_the_bytes_until_close(connect: Connect) -> None:
    peer = connect(sending(b"ping", b"", b":pong!"))
    await peer.send(GET_1_0)
    assert await peer.to_end() == (
        b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Type: text/plain\r\nX-Accel-Buffering: no\r\n"
        b"Connection: close\r\n\r\nping:pong!"
    )


@pytest.mark.http1
async def test_head_gets_the_head_and_the_handler_ends(connect: Connect) -> None:
    reached = []

    async def handler(request: Request) -> None:
        async with open_stream(request, "text/plain") as stream:
            reached.append(stream)

    peer = connect(handler)
    await peer.send(GET.replace(b"GET", b"HEAD"))
    assert (await peer.to_end()).endswith(
        b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert reached == []


async def test_trailers_follow_the_last_chunk(connect: Connect, version: str) -> None:
    async def handler(request: Request) -> None:
        async with open_stream(request, "text/plain", headers=[("Trailer", "X-Sum")]) as stream:
            await stream.send(b"a")
            stream.trailers = [("X-Sum", "97")]

    peer = connect(handler)
    await peer.send(GET)
    assert (await peer.to_end_of_chunks()).endswith(b"1\r\na\r\n0\r\nX-Sum: 97\r\n\r\n")
    if version == "1.1":
        await peer.send(GET_1_0)
        assert (await peer.to_end()).endswith(b"\r\n\r\na")


async def test_a_known_length_is_not_chunked(connect: Connect) -> None:
    peer = connect(sending(b"ab", b"c", length=3))
    await peer.send(GET)
    assert await peer.until(b"abc") == (
        b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc"
    )


@pytest.mark.parametrize("pieces", [[b"ab"], [b"ab", b"cd"]], ids=["too little", "too much"])
async def test_a_wrong_length_is_cut(
    connect: Connect, pieces: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    peer = connect(sending(*pieces, length=3))
    await peer.send(GET)
    assert (await peer.to_end()).endswith(b"\r\n\r\nab")
    assert "the handler failed" in caplog.text


async def test_each_send_is_on_the_wire_when_it_returns(connect: Connect) -> None:
    go_on = trio.Event()

    async def handler(request: Request) -> None:
        async with open_stream(request, "text/plain") as stream:
            await stream.send(b"first")
            await go_on.wait()
            await stream.send(b"second")

    peer = connect(handler)
    await peer.send(GET)
    await peer.until(b"5\r\nfirst\r\n")
    go_on.set()
    assert await peer.until(b"\r\n0\r\n\r\n") == b"6\r\nsecond\r\n0\r\n\r\n"


# -- Slow readers and torn streams ----------------------------------------------------------------


async def test_send_waits_for_a_slow_reader(serving: Serving) -> None:
    sent = 0

    async def handler(request: Request) -> None:
        nonlocal sent
        async with open_stream(request, "text/plain") as stream:
            for _ in range(1600):
                await stream.send(b"x" * 16384)
                sent += 1

    server = await serving(handler)
    peer = await server.connect()
    await peer.send(GET)
    _, _, begin = (await peer.has(b"\r\n\r\n")).partition(b"\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked(0.05)
    stalled = sent
    assert stalled < 1600
    await trio.sleep(0.1)
    assert sent == stalled
    expected = (b"4000\r\n" + b"x" * 16384 + b"\r\n") * 1600 + b"0\r\n\r\n"
    received = bytearray(begin)
    while len(received) < len(expected):
        received += await peer.exactly(1)
    assert sent == 1600
    assert received == expected


async def test_client_that_never_reads_is_closed_after_the_send_deadline(serving: Serving) -> None:
    ended = trio.Event()

    async def handler(request: Request) -> None:
        try:
            async with open_stream(request, "text/plain") as stream:
                while True:
                    await stream.send(b"x" * 65536)
        finally:
            ended.set()

    server = await serving(handler, limits=Limits(send_seconds=0.5))
    peer = await server.connect()
    await peer.send(GET)
    with trio.fail_after(3):
        await ended.wait()


async def test_a_send_cancelled_half_way_leaves_the_stream_torn(serving: Serving) -> None:
    seen = []
    over = trio.Event()

    async def handler(request: Request) -> None:
        async with open_stream(request, "text/plain") as stream:
            with trio.move_on_after(0.2):
                await stream.send(b"x" * 20_000_000)
            for _ in range(2):
                with pytest.raises(BrokenStream) as caught:
                    await stream.send(b"never")
                seen.append(caught.type)
            over.set()

    server = await serving(handler)
    peer = await server.connect()
    await peer.send(GET)
    await happens(over)
    answer = await peer.to_end()
    assert seen == [BrokenStream, BrokenStream]
    assert answer.endswith((b"x", b"x\r\n"))  # a frame of HTTP/2 is whole
    assert b"never" not in answer


async def test_a_send_cancelled_before_its_first_byte_leaves_nothing(serving: Serving) -> None:
    async def handler(request: Request) -> None:
        async with open_stream(request, "text/plain") as stream:
            with trio.CancelScope() as scope:
                scope.cancel()
                await stream.send(b"never")
            await stream.send(b"whole")

    server = await serving(handler)
    peer = await server.connect()
    await peer.send(GET)
    assert (await peer.to_end_of_chunks()).endswith(b"\r\n\r\n5\r\nwhole\r\n0\r\n\r\n")


class OneByteStream(trio.abc.Stream):
    """Takes one byte a send, so that every cancellation point is met."""

    def __init__(self) -> None:
        self.written = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        for byte in bytes(data):
            await trio.lowlevel.checkpoint()
            self.written += bytes([byte])

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("passes", range(1, 12))
async def test_nothing_follows_a_torn_send(passes: int) -> None:
    stream = OneByteStream()
    transport = Transport(stream, Limits())
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.send, b"4\r\n", b"ping", b"\r\n")
            for _ in range(passes):
                await trio.lowlevel.checkpoint()
            scope.cancel()
    whole = b"4\r\nping\r\n"
    if transport.state is State.TORN:
        assert whole.startswith(stream.written)
        with pytest.raises(BrokenStream):
            await transport.send(b"0\r\n\r\n")
        assert whole.startswith(stream.written)
    else:
        assert stream.written in (b"", whole)
        await transport.send(b"0\r\n\r\n")


async def test_sends_of_several_tasks_do_not_mix() -> None:
    stream = OneByteStream()
    transport = Transport(stream, Limits())
    async with trio.open_nursery() as nursery:
        for letter in b"abcdef":
            nursery.start_soon(transport.send, bytes([letter]) * 5, bytes([letter]) * 3)
    pieces = [stream.written[n : n + 8] for n in range(0, 48, 8)]
    assert sorted(pieces) == [bytes([letter]) * 8 for letter in b"abcdef"]


async def test_a_stuck_send_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    transport = Transport(theirs, Limits(send_seconds=30))
    start = trio.current_time()
    with pytest.raises(ClientGone, match="stopped reading"):
        await transport.send(b"nobody reads this")
    assert trio.current_time() - start == pytest.approx(30)
    with pytest.raises(BrokenStream):
        await transport.send(b"nor this")
    await trio.aclose_forcefully(ours)


async def test_a_sender_lets_other_tasks_run(serving: Serving) -> None:
    """However willing the socket: a reader on the same loop would starve otherwise."""
    passes = 0

    async def handler(request: Request) -> None:
        async with open_stream(request, "text/plain") as stream:
            for _ in range(1000):
                await stream.send(b"x")

    server = await serving(handler)
    peer = await server.connect()
    await peer.send(GET)
    while not peer.received.endswith(b"0\r\n\r\n"):
        peer.received += await peer.stream.receive_some(1000)
        passes += 1
    assert passes > 5
