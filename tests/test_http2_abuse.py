"""Clients of HTTP/2 that ask for much and send little: each attack ends in GOAWAY, and no honest
client meets the budgets that end it."""

from __future__ import annotations

import gc
import logging
import random
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import httpx
import pytest
import trio
import trio.testing
from frames import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FRAME_SIZE,
    FRAME_SIZE_ERROR,
    HEADERS,
    PREFACE,
    PRIORITY_UPDATE,
    REFUSED_STREAM,
    TABLE_SIZE,
    UNKNOWN,
    WINDOW,
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
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from peers import PATIENCE, Certificate, Connect, Server, Serving

from rawstream import Limits, Request, open_events, open_websocket, serve_stream

BOMB = block([(b"x", b"a" * 4_000)]).replace(b"\0", b"\x40", 1)
"""A field that the table of the connection remembers: from then on it is one byte."""

MUCH = bytes(900_000)


async def app(request: Request) -> None:
    match request.path:
        case "/large":
            await request.respond(200, bytes(10_000_000))
        case _:
            await simple(request)


async def still_serves(server: Server) -> None:
    peer = await FramePeer(await server.connect()).open()
    await peer.is_alive()


def odd(count: int, first: int = 1) -> range:
    """The numbers of so many streams."""
    return range(first, first + 2 * count, 2)


FLOODS: dict[str, Callable[[], bytes]] = {
    "rapid reset": lambda: b"".join(get(s, b"/never") + reset(s) for s in odd(5_000)),
    "rapid reset, all heads first": lambda: b"".join(
        b"".join(get(s, b"/never") for s in odd(50, n)) + b"".join(reset(s) for s in odd(50, n))
        for n in range(1, 10_000, 100)
    ),
    "resets of one stream": lambda: get(1, b"/never") + reset(1) * 5_000,
    # CVE-2025-8671: the client's mistakes have the server reset the streams.
    "made you reset: window by too much": lambda: b"".join(
        get(s, b"/never") + window(s, 2**31 - 1) for s in odd(5_000)
    ),
    "made you reset: DATA after the end": lambda: b"".join(
        get(s, b"/never") + data(s, b"x") for s in odd(5_000)
    ),
    "made you reset: HEADERS after the end": lambda: b"".join(
        get(s, b"/never") + get(s) for s in odd(5_000)
    ),
    "made you reset: malformed": lambda: b"".join(
        head(s, fields(b"/never", b"GET", (b"A", b""))) for s in odd(5_000)
    ),
    "made you reset: malformed bodies": lambda: b"".join(
        post(s, b"/never", (b"content-length", b"0")) + data(s, b"x") for s in odd(5_000)
    ),
    "too many streams": lambda: b"".join(get(s, b"/never") for s in odd(5_000)),
    "CONTINUATION": lambda: (
        head(1, fields(), END_STREAM) + frame(CONTINUATION, 0, 1, b"\0\1a\1b") * 5_000
    ),
    "CONTINUATION, empty": lambda: (
        head(1, fields(), END_STREAM) + frame(CONTINUATION, 0, 1) * 5_000
    ),
    "CONTINUATION, large": lambda: (
        head(1, fields(), END_STREAM)
        + frame(CONTINUATION, 0, 1, block([(b"x", bytes(16_000))])) * 20
    ),
    "SETTINGS": lambda: settings((WINDOW, 1)) * 5_000,
    "SETTINGS, many in a frame": lambda: settings(*[(WINDOW, 1)] * 2_700) * 10,
    "SETTINGS, acknowledged": lambda: settings(flags=1) * 5_000,
    "PING": lambda: ping() * 5_000,
    "PRIORITY": lambda: b"".join(priority(s) for s in odd(5_000)),
    "DATA, empty": lambda: post(1, b"/never") + data(1) * 5_000,
    "DATA, padding alone": lambda: post(1, b"/never") + frame(0, 0x8, 1, b"\0") * 5_000,
    "DATA, empty ends of a closed stream": lambda: get(1) + data(1, last=True) * 5_000,
    "unknown frames": lambda: frame(UNKNOWN) * 5_000,
    "PRIORITY_UPDATE": lambda: frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\1u=1") * 5_000,
    "GOAWAY": lambda: get(1, b"/never") + goaway() * 5_000,
    "WINDOW_UPDATE": lambda: window(0, 1) * 5_000,
    "WINDOW_UPDATE of a stream": lambda: get(1, b"/never") + window(1, 1) * 5_000,
    "WINDOW_UPDATE of a closed stream": lambda: get(1) + window(1, 1) * 5_000,
    "HPACK bomb": lambda: (
        frame(HEADERS, 5, 1, block(fields()) + BOMB)
        + frame(HEADERS, 5, 3, block(fields()) + b"\xbe" * 10_000)
    ),
}
"""Made when they are sent: each worker of pytest imports this."""


async def flood(peer: FramePeer, frames: bytes) -> None:
    """Send all of it, or as much as is taken, while reading what comes back."""

    async def send() -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await peer.send(frames)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await peer.to_end()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", FLOODS)
async def test_floods_over_memory(
    connect: Connect,
    name: str,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = most = 0

    async def handler(request: Request) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await app(request)
        finally:
            running -= 1

    peer = await FramePeer(connect(handler, limits=Limits(streams=30))).open()
    await flood(peer, FLOODS[name]())
    assert peer.goaways[-1][1] == ENHANCE_YOUR_CALM
    assert peer.goaways[-1][2]
    assert most <= 30
    await trio.testing.wait_all_tasks_blocked()
    assert running == 0
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("name", FLOODS)
async def test_floods_over_sockets(
    serving_over_each_carrier: Serving, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serving_over_each_carrier(app)
    peer = await FramePeer(await server.connect()).open()
    await flood(peer, FLOODS[name]())
    assert peer.goaways[-1][1] == ENHANCE_YOUR_CALM
    await still_serves(server)
    assert "Traceback" not in caplog.text


async def test_streams_reset_in_the_same_read_have_no_handler(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    started = []

    async def handler(request: Request) -> None:
        started.append(request.path)
        await app(request)

    peer = await FramePeer(connect(handler)).open()
    await peer.send(b"".join(get(s, b"/%d" % s) + reset(s) for s in odd(100)))
    await peer.is_alive()
    # Other tasks run after every so many frames, which may be between the two.
    assert len(started) <= 1 + 200 // 64


async def test_a_field_block_held_open_has_the_time_of_a_head(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app, limits=Limits(head_seconds=5))).open()
    await peer.send(get(1))
    await peer.over(1)
    began = trio.current_time()
    await peer.send(head(3, fields(), END_STREAM))

    async def drip() -> None:
        with suppress(trio.BrokenResourceError):
            for _ in range(100):
                await trio.sleep(0.5)
                await peer.send(frame(CONTINUATION, 0, 3, b"\0\1a\1b"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        await peer.to_end(patience=60)
        nursery.cancel_scope.cancel()
    assert 5 <= trio.current_time() - began < 8
    assert peer.goaways == [(1, ENHANCE_YOUR_CALM, b"a field block too slow")]


async def test_a_frame_too_long_is_refused_at_its_head(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app)).open()
    await peer.send(post(1, b"/never") + data(1, bytes(2**24 - 1))[:9])
    await peer.to_end()
    assert peer.goaways[-1][1:] == (FRAME_SIZE_ERROR, b"a frame larger than 16,384 bytes")


@pytest.mark.parametrize(
    ("kilobytes", "status"), [(60, 200), (70, 431), (110, 431), (200, None)], ids=str
)
@pytest.mark.parametrize("tables", [True, False])
async def test_large_heads(
    connect: Connect,
    kilobytes: int,
    status: int | None,
    tables: bool,
    autojump_clock: trio.testing.MockClock,
) -> None:
    peer = await FramePeer(connect(app)).open()
    if tables:  # it grows as it is unfolded
        await peer.send(frame(HEADERS, 5, 1, block(fields()) + BOMB))
        pieces = [block(fields()) + b"\xbe" * (kilobytes // 4)]
    else:
        await peer.send(get(1))
        long = [(b"x%d" % n, b"a" * 9_960) for n in range(kilobytes // 10)]
        whole = block(fields(b"/", b"GET", *long))
        pieces = [whole[n : n + 16_000] for n in range(0, len(whole), 16_000)]
    sent = frame(HEADERS, END_STREAM | END_HEADERS * (len(pieces) == 1), 3, pieces[0])
    for number, piece in enumerate(pieces[1:], 2):
        sent += frame(CONTINUATION, END_HEADERS * (number == len(pieces)), 3, piece)
    if status is None:
        await flood(peer, sent)
        assert peer.goaways[-1][1] == ENHANCE_YOUR_CALM
    else:
        await peer.send(sent)
        await peer.over(3)
        assert peer.status(3) == status
        await peer.is_alive()


async def test_streams_over_the_limit_are_refused_and_the_connection_goes_on(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app, limits=Limits(streams=10))).open()
    await peer.send(b"".join(get(s, b"/never") for s in odd(10)))
    await peer.send(b"".join(get(s) for s in odd(10, 21)))
    await peer.over(*odd(10, 21))
    assert peer.resets == dict.fromkeys(odd(10, 21), REFUSED_STREAM)
    await peer.send(reset(1))
    await peer.is_alive(41)


async def test_a_window_opened_byte_by_byte(
    connect: Connect,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer = await FramePeer(connect(app)).open((WINDOW, 0))
    await peer.send(get(1, b"/large"))

    async def dribble() -> None:
        with suppress(trio.BrokenResourceError):
            while True:
                await peer.send(window(1, 1))
                await trio.sleep(0.001)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dribble)
        await peer.to_end()
        nursery.cancel_scope.cancel()
    assert peer.goaways[-1][1:] == (ENHANCE_YOUR_CALM, b"too many bytes of window at a time")
    assert 200 <= len(peer.bodies[1]) < 400
    assert "Traceback" not in caplog.text


async def test_frames_of_a_byte_each_take_no_more_memory_than_the_window(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app)).open()
    await peer.send(post(1, b"/never"))
    await trio.testing.wait_all_tasks_blocked()
    tiny = data(1, b"x") * 1_000
    tracemalloc.start()
    try:
        for _ in range(20):
            await peer.send(tiny)
            await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()
    await peer.is_alive()


async def test_a_log_that_fails_ends_no_neighbour(
    connect: Connect, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(record: logging.LogRecord) -> bool:
        raise RuntimeError("injected")

    log = logging.getLogger("rawstream.access")
    caplog.set_level(logging.INFO, log.name)
    peer = await FramePeer(connect(app)).open()
    await peer.send(get(1, b"/never"))
    log.addFilter(fail)
    try:
        await peer.send(get(3))
        await peer.over(3)
        await trio.testing.wait_all_tasks_blocked()
    finally:
        log.removeFilter(fail)
    assert "injected" in caplog.text
    await peer.is_alive()
    assert 1 not in peer.resets


async def test_a_client_that_asks_and_never_opens_a_window(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app, limits=Limits(window_seconds=60))).open((WINDOW, 0))
    peer.answers_pings = True
    await peer.send(b"".join(get(s, b"/large") for s in odd(50)))
    await peer.until(lambda: len(peer.heads) == 50)
    gc.collect()
    tracemalloc.start()
    try:
        began = trio.current_time()
        await peer.over(*odd(50), patience=100)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert 59 < trio.current_time() - began < 62
    assert not any(peer.bodies.values())
    assert set(peer.resets) == set(odd(50))
    await peer.send(settings((WINDOW, 100)))
    await peer.is_alive()


async def test_a_client_that_sends_and_never_reads(serving_over_each_carrier: Serving) -> None:
    """What it asks for must not pile up: reading stops."""
    handled = 0

    async def handler(request: Request) -> None:
        nonlocal handled
        handled += 1
        await app(request)

    # What it still sends when the server has given up on it is discarded: here for a moment.
    limits = Limits(send_seconds=1, linger_seconds=0.1)
    server = await serving_over_each_carrier(handler, limits=limits)
    peer = await FramePeer(await server.connect()).open((WINDOW, 2**31 - 1))
    await peer.send(window(0, 2**30) + b"".join(get(s, b"/large") for s in odd(3)))
    await trio.sleep(0.3)  # enough to fill the socket
    with trio.fail_after(15), pytest.raises(trio.BrokenResourceError):
        for first in range(7, 1_000_000, 100):
            # Answers that are heads alone need no window.
            await peer.send(b"".join(head(s, fields(b"/ok", b"HEAD")) for s in odd(50, first)))
    assert handled < 20_000
    await still_serves(server)


# -- Honest clients -------------------------------------------------------------------------------


async def test_thousands_of_small_requests(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    """The clock stands still meanwhile: no budget fills up with time."""
    peer = await FramePeer(connect(app)).open()
    for first in range(1, 6_000, 100):
        many = odd(50, first)
        await peer.send(b"".join(get(s) + priority(s) + window(s, 1_000_000) for s in many))
        await peer.over(*many)
        await peer.send(b"".join(window(s, 6) for s in many) + window(0, 300))
    assert {peer.status(stream) for stream in peer.heads} == {200}


@pytest.mark.parametrize("carrier", ["tls"])  # frames are counted alike
async def test_httpx_meets_no_budget(
    serving_over_each_carrier: Serving, certificate: Certificate
) -> None:
    server = await serving_over_each_carrier(app)
    async with httpx.AsyncClient(
        http1=False, http2=True, verify=certificate.client_context, timeout=PATIENCE * 3
    ) as client:
        found = list[int]()

        async def ask() -> None:
            for _ in range(10):
                found.append((await client.get(server.url)).status_code)

        async with trio.open_nursery() as nursery:
            for _ in range(90):
                nursery.start_soon(ask)
        assert found == [200] * 900
        assert (await client.post(f"{server.url}/echo", content=MUCH)).content == MUCH
        assert len((await client.get(f"{server.url}/large")).content) == 10_000_000
        assert (await client.get(server.url)).http_version == "HTTP/2"


async def test_thousands_of_heads_of_which_each_window_was_opened_first(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app)).open()
    for first in range(1, 6_000, 100):
        many = odd(50, first)
        await peer.send(b"".join(head(s, fields(b"/", b"HEAD")) + window(s, 9) for s in many))
        await peer.over(*many)


async def test_thousands_of_uploads_that_end_with_an_empty_frame(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app)).open()
    for first in range(1, 2_000, 100):
        many = odd(50, first)
        await peer.send(b"".join(post(s) + data(s, b"x") + data(s, last=True) for s in many))
        await peer.over(*many)
        assert {bytes(peer.bodies[stream]) for stream in many} == {b"x"}


async def test_a_proxy_whose_clients_leave(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app)).open()
    for first in range(1, 6_000, 100):
        leaving, many = odd(10, first), odd(40, first + 20)
        await peer.send(b"".join(get(s, b"/never") for s in leaving))
        await peer.send(b"".join(get(s) for s in many))
        await peer.over(*many)
        await peer.send(b"".join(reset(s) for s in leaving))
    await peer.is_alive()


async def test_a_long_event_stream_each_event_acknowledged_twice(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    send, receive = trio.open_memory_channel[str](0)

    async def handler(request: Request) -> None:
        async with open_events(request) as events:
            async for message in receive:
                await events.send(message)

    peer = await FramePeer(connect(handler)).open()
    await peer.send(get(1))
    for number in range(3_000):
        await send.send(str(number))
        expected = b"data: %d\n\n" % number
        await peer.until(lambda expected=expected: peer.bodies.get(1, b"").endswith(expected))  # type: ignore[misc]
        await peer.send(window(1, len(expected)) + window(0, len(expected)))
    assert peer.goaways == []


# -- Anything at all ------------------------------------------------------------------------------

SOUND = [
    get(1), get(3, b"/never"), get(5, b"/large"), post(7), data(7, b"body"), data(7, last=True),
    post(9, b"/never", (b"content-length", b"3")), data(9, b"abc", last=True), data(9, b"abcd"),
    head(11, fields(b"/", b"HEAD")), head(7, [(b"a", b"b")]), head(9, [(b":path", b"/")]),
    head(13, fields(b"/", b"GET", (b"A", b"b"))), head(15, fields(), END_STREAM),
    frame(CONTINUATION, 4, 15), reset(1), reset(3), reset(5), reset(7), reset(9), ping(),
    settings(), settings((WINDOW, 0)), settings((WINDOW, 2**31 - 1)), settings((FRAME_SIZE, 2**20)),
    settings((TABLE_SIZE, 0)), window(0, 1_000), window(5, 1), window(5, 10_000), window(9, 2**31 - 1),
    goaway(), priority(5), frame(UNKNOWN, 0, 5, b"?"), frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\1u=1"),
    post(17, b"/early"), data(17, b"x"), data(17, b"x", last=True), head(17, [(b":a", b"b")]),
    head(19, [(b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"),
              (b":path", b"/ws"), (b":authority", b"localhost")], END_HEADERS),
    data(19, b"\x81\x80abcd"), data(19, b"\x88\x80abcd", last=True), get(21, b"/raise"),
]  # fmt: skip


def damaged(frames: bytes, at: int, value: int) -> bytes:
    at %= len(frames)
    return frames[:at] + bytes([value]) + frames[at + 1 :]


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Frames, some of them cut, repeated or damaged, in pieces."""
    pieces = draw(st.lists(st.sampled_from(SOUND), min_size=1, max_size=40))
    for _ in range(draw(st.integers(0, 3))):
        number = draw(st.integers(0, len(pieces) - 1))
        match draw(st.sampled_from(["cut", "repeated", "damaged", "noise"])):
            case "cut":
                pieces[number] = pieces[number][: draw(st.integers(0, 40))]
            case "repeated":
                pieces[number] *= draw(st.integers(2, 300))
            case "damaged" if pieces[number]:
                at, value = draw(st.integers(0, 100)), draw(st.integers(0, 255))
                pieces[number] = damaged(pieces[number], at, value)
            case "noise":
                pieces[number] = draw(st.binary(max_size=60))
    return pieces


@examples(max_examples=300, suppress_health_check=list(HealthCheck))
@given(pieces=conversations(), together=st.booleans(), choice=st.integers(0, 2**32))
def test_whatever_comes_fails_nothing(pieces: list[bytes], together: bool, choice: int) -> None:
    found = list[str]()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and "injected" not in str(record.exc_info[1]):
                found.append(self.format(record))

    async def handler(request: Request) -> None:
        match request.path:
            case "/raise":
                raise KeyError("injected")
            case "/early":
                await request.respond(200, b"early\n")
                await trio.lowlevel.checkpoint()
            case "/ws":
                async with open_websocket(request) as ws:
                    async for message in ws:
                        await ws.send(message)
            case _:
                await app(request)

    async def talk() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        chance = random.Random(choice)

        async def read() -> None:
            with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
                while await ours.receive_some():
                    pass

        async def send() -> None:
            sent = PREFACE + settings()
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                for piece in pieces:
                    sent += piece
                    if sent and not (together and chance.random() < 0.8):
                        await ours.send_all(sent)
                        await trio.sleep(chance.choice([0, 0, 0.01, 7]))
                        sent = b""
                if sent:
                    await ours.send_all(sent)
                await trio.sleep(1)
                await ours.send_eof()

        with trio.fail_after(2_000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                nursery.start_soon(send)
                await serve_stream(handler, theirs, access_log=False)
                nursery.cancel_scope.cancel()

    listener = Listener()
    log = logging.getLogger("rawstream")
    log.addHandler(listener)
    try:
        trio.run(talk, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        log.removeHandler(listener)
    assert not found, found


async def test_damaged_frames_over_sockets_leave_the_server_serving(
    serving_over_each_carrier: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serving_over_each_carrier(app)
    chance = random.Random(7)
    for _ in range(60):
        sent = b"".join(chance.choices(SOUND, k=20))
        sent = damaged(sent, chance.randrange(10_000), chance.randrange(256))
        peer = await FramePeer(await server.connect()).open()
        with suppress(trio.BrokenResourceError, AssertionError, KeyError, ValueError):
            await peer.send(sent[: chance.randrange(len(sent))])
            with trio.move_on_after(0.01):
                while await peer.read():
                    pass
        await trio.aclose_forcefully(peer.peer.stream)
    await still_serves(server)
    assert "Traceback" not in caplog.text


async def test_cancelling_everything_in_the_midst_fails_nothing(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    for _ in range(50):  # in which order tasks are cancelled is chance
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(serve_stream, app, theirs, access_log=False))
            await ours.send_all(PREFACE + settings() + b"".join(get(s, b"/never") for s in odd(9)))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
