"""The lane that whole WebSocket frames take: the same as wsproto in every case, and nobody waits."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from peers import PATIENCE, Connect, Peer, Serving, connected, happens
from wire import BINARY, CONTINUATION, PING, PONG, TEXT, close, frame, handshake
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from rawstream import Request, WebSocketClosed, open_websocket
from rawstream.websocket.frames import data_frame, decode_simple_frame, frame_bounds
from rawstream.websocket.machine import FrameMachine
from rawstream.websocket.reader import FrameReader

# -- Frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
@pytest.mark.parametrize("kind", [str, bytes])
def test_frames_are_those_of_wsproto(kind: type, size: int) -> None:
    text = "x" * size
    event: Any = TextMessage(text) if kind is str else BytesMessage(text.encode())
    wsproto = Connection(ConnectionType.SERVER)
    assert data_frame(event.data) == wsproto.send(event)


@pytest.mark.parametrize(
    ("data", "borders"),
    [
        (b"", None),
        (b"\x82", None),
        (b"\x82\x85", None),
        (b"\x82\x85abc", None),
        (b"\x82\x85abcd", (6, 11)),
        (b"\x82\x05", (2, 7)),
        (b"\x82\x80abcd", (6, 6)),
        (b"\x82\xfe\x01\x00abc", None),
        (b"\x82\xfe\x01\x00abcd", (8, 264)),
        (b"\x82\x7e\x01\x00", (4, 260)),
        (b"\x82\xff" + bytes(11), None),
        (b"\x82\xff" + bytes(7) + b"\x01abcd", (14, 15)),
        (b"\x82\xff" + b"\xff" * 8 + b"abcd", (14, 14 + 2**64 - 1)),
    ],
)
def test_where_a_frame_is_cut(data: bytes, borders: tuple[int, int] | None) -> None:
    assert frame_bounds(data, 0) == borders
    moved = borders and (borders[0] + 3, borders[1] + 3)
    assert frame_bounds(b"abc" + data, 3) == moved


WHOLE = {
    "text": (frame(TEXT, "ä".encode()), "ä"),
    "binary": (frame(BINARY, b"\xff\x00"), b"\xff\x00"),
    "empty": (frame(TEXT), ""),
    "126 bytes": (frame(BINARY, b"x" * 126), b"x" * 126),
    "65536 bytes": (frame(BINARY, b"x" * 65536), b"x" * 65536),
    "not all there": (frame(TEXT, b"hello")[:-1], None),
    "a fragment": (frame(TEXT, b"hello", fin=0), None),
    "the last fragment": (frame(CONTINUATION, b"hello"), None),
    "a ping": (frame(PING, b"hello"), None),
    "a close": (close(1000), None),
    "a reserved bit": (frame(TEXT, b"hello", rsv=4), None),
    "a reserved opcode": (frame(3, b"hello"), None),
    "not masked": (b"\x82\x05hello", None),
    "not UTF-8": (frame(TEXT, b"\xed\xa0\x80"), None),
    "length in more bytes than it needs": (b"\x82\xfe\x00\x05" + bytes(9), None),
    "length in eight bytes": (b"\x82\xff" + struct.pack("!Q", 65535) + bytes(65539), None),
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_takes_the_lane(name: str) -> None:
    data, message = WHOLE[name]
    borders = frame_bounds(data, 0)
    assert borders
    assert decode_simple_frame(data, 0, *borders) == message
    if name != "not all there":  # something before it, and something behind
        around = b"ab" + data + frame(TEXT, b"next")
        assert decode_simple_frame(around, 2, borders[0] + 2, borders[1] + 2) == message


def happenings(pieces: list[bytes], max_size: int, *, lane: bool) -> list[Any]:
    """What pieces of input amount to, up to the end."""
    incoming = FrameReader(FrameMachine(None), max_size, deflating=False, shortcuts=lane)
    found: list[Any] = []
    for piece in [*pieces, b""]:
        incoming.feed(piece)
        for happening in incoming.take():
            if isinstance(happening, str | bytes):
                found.append(happening)
            elif isinstance(happening, Ping):
                found.append(("ping", bytes(happening.payload)))
            elif isinstance(happening, CloseConnection):
                return [*found, ("close", int(happening.code))]
    raise AssertionError("it has no end")


frames = st.one_of(
    st.builds(frame, st.sampled_from([TEXT, BINARY]), st.binary(max_size=300)),
    st.builds(lambda text: frame(TEXT, text.encode()), st.text(max_size=100)),
    st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=130)),
    st.builds(
        frame,
        st.integers(0, 15),
        st.binary(max_size=20),
        fin=st.integers(0, 1),
        rsv=st.sampled_from([0, 0, 0, 0, 1, 4]),
    ),
    st.binary(max_size=12),
)


@given(
    stream=st.lists(frames, max_size=8).map(b"".join),
    cuts=st.lists(st.integers(1, 60), max_size=30),
    max_size=st.sampled_from([0, 50, 10_000]),
)
def test_the_lane_and_wsproto_agree_on_everything(
    stream: bytes, cuts: list[int], max_size: int
) -> None:
    pieces = []
    rest = stream
    for size in cuts:
        if rest:
            pieces.append(rest[:size])
            rest = rest[size:]
    pieces += [rest] if rest else []
    assert happenings(pieces, max_size, lane=True) == happenings(pieces, max_size, lane=False)


# -- Which task reads ---------------------------------------------------------------------------------


async def opened(peer: Peer) -> Peer:
    await peer.send(handshake())
    await peer.until(b"\r\n\r\n")
    return peer


async def echo(request: Request) -> None:
    async with open_websocket(request) as ws:
        async for message in ws:
            await ws.send(message)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts segments")
async def test_answers_to_what_came_together_go_out_together(
    serving: Serving, pytestconfig: pytest.Config
) -> None:
    server = await serving(echo)
    peer = await opened(await server.connect())
    await peer.send(frame(TEXT, b"one"))
    assert await peer.exactly(5) == b"\x81\x03one"  # from here on the handler reads
    before = segments_with_data(peer)
    await peer.send(b"".join(frame(TEXT, b"%03d" % n) for n in range(30)))
    assert await peer.exactly(150) == b"".join(b"\x81\x03%03d" % n for n in range(30))
    if not pytestconfig.getoption("--without-shortcuts"):
        assert segments_with_data(peer) == before + 1


def segments_with_data(peer: Peer) -> int:
    """How many have come: `tcpi_data_segs_in` of Linux."""
    assert isinstance(peer.stream, trio.SocketStream)
    information = peer.stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    return int.from_bytes(information[152:156], sys.byteorder)


@pytest.mark.parametrize("first", [b"one", None])
async def test_an_answer_does_not_wait_for_what_the_handler_does_next(
    serving: Serving, first: bytes | None
) -> None:
    async def answer_and_sleep(request: Request) -> None:
        async with open_websocket(request) as ws:
            if first:
                await ws.send(await ws.receive())
            await ws.send(await ws.receive())
            await trio.sleep_forever()

    server = await serving(answer_and_sleep)
    peer = await opened(await server.connect())
    if first:
        await peer.send(frame(TEXT, first))
        await peer.exactly(5)
    await peer.send(frame(TEXT, b"two") + frame(TEXT, b"three"))
    with trio.fail_after(2):
        assert await peer.exactly(5) == b"\x81\x03two"


async def test_a_busy_handler_is_read_for(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    """Pings are answered and a Close seen, though the handler has been reading and has stopped."""
    ended = []

    async def busy(request: Request) -> None:
        async with open_websocket(request) as ws:
            await ws.receive()
            await ws.receive()
            try:
                await trio.sleep_forever()
            finally:
                ended.append(trio.current_time())

    peer = await opened(connect(busy))
    await peer.send(frame(TEXT, b"one"), step=3)
    await peer.send(frame(TEXT, b"two"))
    await trio.testing.wait_all_tasks_blocked()
    began = trio.current_time()
    await peer.send(frame(PING, b"there?"))
    assert await peer.exactly(8) == b"\x8a\x06there?"
    assert trio.current_time() - began < 0.3
    await peer.send(close(1000))
    assert await peer.to_end() == b"\x88\x02\x03\xe8"
    [end] = ended
    assert end - began < 2


async def test_receives_that_are_cancelled_lose_nothing(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    async def impatient(request: Request) -> None:
        async with open_websocket(request) as ws:
            while True:
                with trio.move_on_after(0.1):
                    await ws.send(await ws.receive())

    peer = await opened(connect(impatient))
    sent = b"".join(frame(TEXT, b"%03d" % n) for n in range(100))
    received = b""
    for start in range(0, len(sent), 7):
        await peer.send(sent[start : start + 7])
        await trio.sleep(0.07)
    while len(received) < 500:
        received += await peer.exactly(1)
    assert received == b"".join(b"\x81\x03%03d" % n for n in range(100))


async def test_two_tasks_that_receive_have_their_turns(connect: Connect) -> None:
    got: list[Any] = []

    async def receive(ws: Any) -> None:
        try:
            got.append(await ws.receive())
        except WebSocketClosed as error:
            got.append(error.code)

    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws, trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(receive, ws)
                await trio.testing.wait_all_tasks_blocked()

    peer = await opened(connect(handler))
    await trio.testing.wait_all_tasks_blocked(0.01)
    await peer.send(frame(TEXT, b"one") + frame(TEXT, b"two") + close(4000))
    await peer.to_end()
    assert got == ["one", "two", 4000]


async def test_one_task_may_close_while_another_receives(connect: Connect) -> None:
    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws, trio.open_nursery() as nursery:
            nursery.start_soon(reader, ws)
            await trio.testing.wait_all_tasks_blocked()
            await ws.close(4000, "enough")

    async def reader(ws: Any) -> None:
        got.extend([message async for message in ws])
        got.append("end")

    got: list[Any] = []
    peer = await opened(connect(handler))
    await peer.send(frame(TEXT, b"one"))
    assert await peer.exactly(10) == b"\x88\x08\x0f\xa0enough"
    await peer.send(frame(TEXT, b"too late") + close(4000))
    with trio.fail_after(2):
        await peer.to_end()
    assert got == ["one", "end"]


async def test_a_receive_ends_with_a_close_that_nobody_answers(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    ended = []

    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws, trio.open_nursery() as nursery:
            nursery.start_soon(reader, ws)
            await trio.sleep(1)
            await ws.close(4000)

    async def reader(ws: Any) -> None:
        async for _ in ws:
            pass
        ended.append(trio.current_time())

    began = trio.current_time()
    peer = await opened(connect(handler))
    await peer.send(frame(TEXT, b"one"))
    await peer.to_end(patience=60)
    [end] = ended
    assert end - began < 1.1


async def test_others_have_their_turn_between_many_messages(serving: Serving) -> None:
    turns = []

    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws, trio.open_nursery() as nursery:
            nursery.start_soon(other)
            count = 0
            async for _ in ws:
                count += 1
                turns.append(count)
                if count == 5000:
                    break
            nursery.cancel_scope.cancel()

    async def other() -> None:
        while True:
            turns.append(0)
            await trio.lowlevel.checkpoint()

    server = await serving(handler)
    peer = await opened(await server.connect())
    await peer.send(frame(BINARY))
    await peer.send(frame(BINARY) * 5000)
    await peer.has(b"\x88")
    longest = max(len(run) for run in "".join("m" if n else " " for n in turns).split())
    assert longest <= 128  # a pass of the scheduler has no order


LARGE = b"\x82\x7f" + struct.pack("!Q", 200_000) + b"x" * 200_000
"""A message that fills the small sockets, as a frame."""


async def test_what_was_sent_goes_out_though_a_later_send_is_cancelled() -> None:
    """The socket is full, and nobody sends: a joined answer waits for room by itself."""
    full, given_up = trio.Event(), trio.Event()
    count = 0

    async def handler(request: Request) -> None:
        nonlocal count
        async with open_websocket(request) as ws, trio.open_nursery() as nursery:
            await ws.receive()
            while not full.is_set():
                with trio.move_on_after(0.05) as in_time:
                    await ws.send("x")
                    count += 1
                if in_time.cancelled_caught:
                    full.set()
            await ws.receive()
            nursery.start_soon(ws.send, "A1")
            await trio.testing.wait_all_tasks_blocked(0.01)
            await ws.receive()
            with trio.move_on_after(0.1) as in_time:
                await ws.send("A2")
            assert in_time.cancelled_caught
            given_up.set()
            await trio.sleep_forever()

    async with connected(handler) as (peer, _):
        await opened(peer)
        await peer.send(frame(TEXT, b"one"))
        with trio.fail_after(PATIENCE):
            await full.wait()
            await peer.send(frame(TEXT, b"two") + frame(TEXT, b"three"))
            await given_up.wait()
        sent = b"\x81\x01x" * count + b"\x81\x02A1"  # of A2 nothing is left behind
        assert await peer.exactly(len(sent)) == sent


async def test_a_send_cancelled_while_it_waits_tears_no_other_message() -> None:
    given_up = trio.Event()

    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws, trio.open_nursery() as nursery:
            await ws.receive()
            nursery.start_soon(ws.send, b"x" * 200_000)
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.start_soon(impatient, ws)
            await trio.testing.wait_all_tasks_blocked(0.01)
            async with ws.open_message() as message:
                await message.send("frag")
                await message.send("ments")

    async def impatient(ws: Any) -> None:
        with trio.move_on_after(0.1):
            await ws.send("never")
        given_up.set()

    async with connected(handler) as (peer, _):
        await opened(peer)
        await peer.send(frame(TEXT, b"go"))
        await happens(given_up)
        sent = LARGE + b"\x01\x04frag\x00\x05ments\x80\x00\x88\x02\x03\xe8"
        assert await peer.exactly(len(sent)) == sent


async def test_a_client_that_does_not_read_is_waited_for() -> None:
    """Also by a handler that does something else between the messages of one read."""
    sent = 0

    async def handler(request: Request) -> None:
        nonlocal sent
        async with open_websocket(request) as ws:
            async for _ in ws:
                await trio.lowlevel.checkpoint()
                await ws.send(b"x" * 60_000)
                sent += 1

    async with connected(handler) as (peer, _):
        await opened(peer)
        await peer.send(frame(TEXT, b"one"))
        await peer.exactly(60_000)
        await peer.send(frame(TEXT) * 600)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert sent < 10


async def test_answers_keep_their_order_on_a_full_socket_and_at_the_end() -> None:
    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:
            async for message in ws:
                await ws.send(message)
                await trio.lowlevel.checkpoint()

    async with connected(handler) as (peer, served), trio.open_nursery() as nursery:
        await opened(peer)
        sent = b"".join(frame(TEXT, b"%03d" % n * 500) for n in range(40))
        nursery.start_soon(peer.send, sent)
        await trio.testing.wait_all_tasks_blocked(0.01)
        served.drain()
        received = b""
        while b"\x88" not in received:
            received += await peer.exactly(1)
        answers, start = [], 0
        while received[start] == 0x81:
            answers.append(int(received[start + 4 : start + 7]))
            start += 4 + 1500
        assert answers == list(range(len(answers)))
        assert received[start] == 0x88
        nursery.cancel_scope.cancel()


async def test_an_echo_whose_client_reads_late_keeps_the_order() -> None:
    """The socket is full: part of a joined write goes out, the rest when there is room."""
    async with connected(echo) as (peer, _):
        await opened(peer)
        sent = b"".join(frame(TEXT, b"%05d" % n) for n in range(4000))
        received = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send, sent)
            await trio.testing.wait_all_tasks_blocked(0.05)
            while len(received) < 4000 * 7:
                received += await peer.exactly(1)
        assert received == b"".join(b"\x81\x05%05d" % n for n in range(4000))


async def test_a_drain_sends_what_waits_to_be_joined(serving: Serving) -> None:
    async def answer_and_stop(request: Request) -> None:
        async with open_websocket(request) as ws:
            await ws.receive()
            await ws.send(await ws.receive())
            server.stop.set()
            await trio.sleep_forever()

    server = await serving(answer_and_stop)
    peer = await opened(await server.connect())
    await peer.send(frame(TEXT, b"one"))
    await trio.testing.wait_all_tasks_blocked(0.01)
    await peer.send(frame(TEXT, b"two") + frame(TEXT, b"three"))
    assert (await peer.has(b"\x88"))[:5] == b"\x81\x03two"
