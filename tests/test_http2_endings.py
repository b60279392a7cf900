"""How the streams and the connections of HTTP/2 end, frame by frame."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing
from frames import (
    ACK,
    CANCEL,
    DATA,
    END_HEADERS,
    FRAME_SIZE,
    HEADERS,
    INTERNAL_ERROR,
    NO_ERROR,
    REFUSED_STREAM,
    WINDOW,
    WINDOW_UPDATE,
    FramePeer,
    data,
    get,
    goaway,
    head,
    ping,
    post,
    reset,
    settings,
    window,
)
from handlers import Watched, simple
from peers import Connect, Serving, happens
from wire import BINARY, TEXT, close
from wire import PING as WS_PING
from wire import frame as ws_frame

from rawstream import (
    BrokenStream,
    ClientGone,
    Limits,
    Request,
    WebSocketClosed,
    open_events,
    open_stream,
    open_websocket,
)

ANY_STREAM = 2**31 - 1
MUCH = bytes(range(256)) * 1_000


async def app(request: Request) -> None:
    match request.path:
        case "/much":
            await request.respond(200, MUCH)
        case "/endless":
            async with open_events(request) as events:
                await events.send("x")
                await trio.sleep_forever()
        case "/ws":
            async with open_websocket(request) as ws:
                async for message in ws:
                    await ws.send(message)
        case _:
            await simple(request)


# -- The client's end -----------------------------------------------------------------------------


async def test_a_reset_cancels_that_handler_alone(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    ended: list[str] = []

    async def handler(request: Request) -> None:
        try:
            await app(request)
        finally:
            ended.append(request.path)

    peer = await FramePeer(connect(handler)).open()
    await peer.send(get(1, b"/never") + get(3, b"/never") + get(5, b"/endless"))
    await peer.until(lambda: 5 in peer.heads)
    await peer.send(reset(3) + reset(5))
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(ended) == ["/endless", "/never"]
    await peer.is_alive()
    await peer.peer.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(ended) == ["/endless", "/never", "/never", "/ok"]


@pytest.mark.parametrize("how", ["reset", "end of input", "aborted"])
async def test_half_a_body_is_never_taken_for_a_whole_one(
    connect: Connect, how: str, autojump_clock: trio.testing.MockClock
) -> None:
    bodies, pieces = [], []

    async def handler(request: Request) -> None:
        if request.path == "/pieces":
            async for piece in request.stream():
                pieces.append(piece)
            bodies.append(b"".join(pieces))
        elif request.path == "/late":
            with trio.CancelScope(shield=True):
                await trio.sleep(0.5)
                with suppress(ClientGone):
                    bodies.append(await request.body())
        else:
            bodies.append(await request.body())

    peer = await FramePeer(connect(handler)).open()
    for number, path in enumerate((b"/body", b"/pieces", b"/late")):
        await peer.send(post(1 + 2 * number, path) + data(1 + 2 * number, b"half"))
    if how != "aborted":
        await trio.testing.wait_all_tasks_blocked()
    if how == "reset":
        await peer.send(reset(1) + reset(3) + reset(5))
    else:
        await peer.peer.stream.aclose()
    await trio.sleep(5)
    assert bodies == []
    assert pieces in ([b"half"], [])


async def test_goaway_of_the_client_leaves_it_its_responses(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app)).open()
    await peer.send(get(1, b"/much") + post(3) + goaway() + data(3, b"late", last=True))
    await peer.over(3)
    assert 1 not in peer.ended
    await peer.send(window(0, len(MUCH)) + window(1, len(MUCH)))
    await peer.to_end()
    assert peer.bodies == {1: MUCH, 3: b"late"}


# -- The handler's end ----------------------------------------------------------------------------


async def test_how_a_handler_ends(
    connect: Connect, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        match request.path:
            case "/raises":
                raise KeyError("injected")
            case "/raises-late":
                async with open_stream(request, "text/plain") as stream:
                    await stream.send(b"x")
                    raise KeyError("injected")
            case "/nothing":
                pass
            case "/short":
                async with open_stream(request, "text/plain", length=3) as stream:
                    await stream.send(b"x")
            case "/long":
                async with open_stream(request, "text/plain", length=3) as stream:
                    await stream.send(b"xxxx")
            case "/trailers":
                body = await request.exchange.start(200, [], label="x")
                await body.send(b"body")
                await body.end([("X-Sum", "7")])
            case _:
                await app(request)

    peer = await FramePeer(connect(handler)).open()
    paths = [b"/raises", b"/raises-late", b"/nothing", b"/short", b"/long", b"/trailers"]
    streams = range(1, 2 * len(paths), 2)
    for stream, path in zip(streams, paths, strict=True):
        await peer.send(get(stream, path))
    await peer.over(*streams)
    assert [peer.status(stream) for stream in streams] == [500, 200, 500, 200, 200, 200]
    assert peer.resets == {3: INTERNAL_ERROR, 7: INTERNAL_ERROR, 9: INTERNAL_ERROR}
    assert peer.trailers == {11: {b"x-sum": b"7"}}
    assert b"injected" not in b"".join(peer.bodies.values())
    assert caplog.text.count("the handler failed") == 5
    await peer.is_alive()


async def test_an_answer_before_the_body_was_read(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app)).open()
    for stream in range(1, 301, 2):  # more than the windows would hold
        await peer.send(post(stream, b"/early") + data(stream, bytes(16_384)) * 3)
        await peer.until(peer.was_reset(stream))
        assert peer.resets[stream] == NO_ERROR
        assert stream in peer.ended
        assert peer.bodies[stream] == b"hello\n"
        # What was under way when the reset came counts in the window of the connection alone.
        await peer.send(data(stream, bytes(16_384), last=True))
    await peer.is_alive()


async def test_a_send_cancelled_half_way(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    raised: list[type[Exception]] = []

    async def handler(request: Request) -> None:
        if request.path != "/torn":
            await app(request)
            return
        async with open_stream(request, "text/plain") as stream:
            with trio.move_on_after(1):
                await stream.send(MUCH)
            try:
                await stream.send(b"more")
            except BrokenStream as error:
                raised.append(type(error))
                raise

    peer = await FramePeer(connect(handler)).open((WINDOW, 1_000))
    await peer.send(get(1, b"/torn"))
    await peer.over(1)
    assert raised == [BrokenStream]
    assert 1 in peer.resets
    assert peer.bodies[1] == MUCH[:1_000]
    await peer.is_alive()


async def test_a_send_cancelled_before_its_first_byte_has_no_effect(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> None:
        async with open_stream(request, "text/plain") as stream:
            with trio.move_on_after(1):
                await stream.send(b"lost")
            await stream.send(b"kept")

    peer = await FramePeer(connect(handler)).open((WINDOW, 0))
    await peer.send(get(1))
    await trio.sleep(2)
    await peer.send(window(1, 100))
    await peer.over(1)
    assert peer.bodies[1] == b"kept"
    assert peer.resets == {}


async def test_a_late_user_of_a_request_is_told_so(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    kept: list[Any] = []

    async def handler(request: Request) -> None:
        if request.path == "/kept":
            async with open_stream(request, "text/plain") as stream:
                kept.extend((request, stream))
                await stream.send(b"fresh")
        else:
            old, stream = kept
            for late in (stream.send(b"STALE"), old.respond(200)):
                with pytest.raises(RuntimeError):
                    await late
            with pytest.raises(ClientGone):
                await old.body()
            await request.respond(200, b"ok\n")

    for request in (
        post(1, b"/kept") + data(1, b"x"),
        post(1, b"/kept") + data(1, b"x", last=True),
    ):
        kept.clear()
        peer = await FramePeer(connect(handler)).open()
        await peer.send(request)
        await peer.over(1)
        await peer.is_alive()
        assert peer.bodies[1] == b"fresh"


# -- Windows --------------------------------------------------------------------------------------


async def test_a_handler_that_does_not_read_holds_its_own_window_alone(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app)).open()
    for stream in range(1, 100, 2):
        await peer.send(post(stream, b"/never") + data(stream, bytes(16_383)) * 4)
    await peer.send(post(101))
    opened, sent = 65_535, 0

    def has_room() -> bool:
        updates = [made for made in peer.frames if made.type == WINDOW_UPDATE]
        more = sum(made.window_increment for made in updates if made.stream_id == 101)  # type: ignore[attr-defined]
        return opened + more - sent >= 10_000

    for _ in range(40):
        await peer.until(has_room)
        await peer.send(data(101, bytes(10_000)))
        sent += 10_000
    await peer.send(data(101, last=True))
    await peer.send(window(101, 10**6) + window(0, 10**6))
    await peer.over(101)
    assert len(peer.bodies[101]) == 400_000
    assert not any(made.stream_id == 1 for made in peer.frames)


async def test_a_silent_body_is_answered_408(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app)).open()
    peer.answers_pings = True
    await peer.send(post(1) + data(1, b"half"))
    await peer.until(peer.was_reset(1), patience=100)
    assert trio.current_time() == pytest.approx(30, abs=1)
    assert peer.status(1) == 408
    assert peer.resets == {1: NO_ERROR}
    await peer.is_alive()


async def test_a_stream_without_a_window_holds_up_no_other(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app)).open()
    peer.answers_pings = True
    await peer.send(settings((WINDOW, 0)) + get(1, b"/much") + settings((WINDOW, 65_535)))
    await peer.send(settings((WINDOW, 0)) + get(3, b"/much"))
    for stream in range(5, 65, 2):
        await trio.sleep(2)
        await peer.send(get(stream, b"/ok") + window(stream, 3))
        await peer.over(stream)
        assert peer.bodies[stream] == b"ok\n"
    assert peer.bodies.get(3, b"") == b""
    await peer.send(window(3, len(MUCH)) + window(0, 2 * len(MUCH)))
    await peer.over(3)
    assert peer.bodies[3] == MUCH


async def test_frames_are_no_larger_than_all_clients_take(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    """However large they may be: the streams have their turns."""
    for size in (16_384, 20_000):
        peer = await FramePeer(connect(app)).open((WINDOW, 10**6), (FRAME_SIZE, size))
        await peer.send(window(0, 10**6) + get(1, b"/much"))
        await peer.over(1)
        assert peer.bodies[1] == MUCH
        assert max(made.body_len for made in peer.frames if made.type == DATA) == 16_384


async def test_a_window_that_shrinks_below_what_was_sent(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app)).open((WINDOW, 10_000))
    await peer.send(get(1, b"/much"))
    await peer.until(lambda: len(peer.bodies.get(1, b"")) == 10_000)
    await peer.send(settings((WINDOW, 1_000)) + window(1, 8_000))  # -1,000 now
    await peer.send(get(3, b"/ok"))
    await peer.over(3)
    assert len(peer.bodies[1]) == 10_000
    await peer.send(window(1, 1_500))
    await peer.until(lambda: len(peer.bodies[1]) == 10_500)
    await peer.send(settings((WINDOW, 10**6)) + window(0, 10**6))
    await peer.over(1)
    assert peer.bodies[1] == MUCH


# -- Time -----------------------------------------------------------------------------------------


async def test_idle_connections_end_with_goaway(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app)).open()
    await peer.to_end(patience=100)
    assert trio.current_time() == pytest.approx(10, abs=1)  # head_seconds
    assert peer.goaways == [(0, NO_ERROR, b"")]
    began = trio.current_time()
    peer = await FramePeer(connect(app)).open()
    await peer.send(get(1))
    await peer.to_end(patience=100)
    assert trio.current_time() - began == pytest.approx(75, abs=1)
    assert peer.goaways == [(1, NO_ERROR, b"")]


@pytest.mark.parametrize("answers", [True, False])
async def test_pings(
    connect: Connect, answers: bool, autojump_clock: trio.testing.MockClock
) -> None:
    watched = Watched(app)
    peer = await FramePeer(connect(watched)).open()
    peer.answers_pings = answers
    await peer.send(get(1, b"/never"))
    with trio.move_on_after(200) as waiting:
        await peer.to_end(patience=1_000)
    assert waiting.cancelled_caught is answers
    assert watched.ended.is_set() is not answers
    if not answers:
        assert trio.current_time() == pytest.approx(40, abs=2)


async def test_a_client_that_reads_late_has_not_vanished(
    serving_over_each_carrier: Serving,
) -> None:
    """It cannot answer a ping that lies behind everything else."""

    async def handler(request: Request) -> None:
        await request.respond(200, bytes(9_000_000))

    server = await serving_over_each_carrier(handler, limits=Limits(ping_seconds=0.5))
    peer = await FramePeer(await server.connect()).open((WINDOW, 2**30))
    await peer.send(window(0, 2**30) + get(1))
    await trio.sleep(1.5)
    peer.answers_pings = True
    await peer.over(1)
    assert len(peer.bodies[1]) == 9_000_000


# -- The server's end -----------------------------------------------------------------------------


async def test_drain(serving_over_each_carrier: Serving) -> None:
    go_on = trio.Event()

    async def handler(request: Request) -> None:
        if request.path == "/finite":
            await go_on.wait()
            await request.respond(200, b"whole\n")
        else:
            await app(request)

    server = await serving_over_each_carrier(handler)
    idle = await FramePeer(await server.connect()).open()
    await idle.send(get(1))
    await idle.over(1)
    peer = await FramePeer(await server.connect()).open()
    await peer.send(get(1, b"/finite") + get(3, b"/endless"))
    await peer.until(lambda: 3 in peer.heads)
    server.stop.set()
    await peer.until(lambda: peer.goaways)
    assert peer.goaways == [(ANY_STREAM, NO_ERROR, b"")]
    await peer.until(lambda: peer.pings)
    await peer.send(get(5))  # it crosses the GOAWAY
    await peer.over(3, 5)
    assert 3 in peer.ended
    assert peer.bodies[5] == b"hello\n"
    await peer.send(ping(peer.pings[-1], ACK))
    await peer.until(lambda: len(peer.goaways) == 2)
    assert peer.goaways[1] == (5, NO_ERROR, b"")
    await peer.send(get(7))
    await peer.over(7)
    assert peer.resets == {7: REFUSED_STREAM}
    go_on.set()
    await peer.over(1)
    assert peer.bodies[1] == b"whole\n"
    await peer.to_end()
    await idle.to_end()
    assert [code for _, code, _ in idle.goaways] == [NO_ERROR, NO_ERROR]
    await happens(server.ended)


async def test_what_does_not_end_in_time_is_reset(serving: Serving) -> None:
    # Without direct writes everything is cut before the frames are sent; a cut says the same.
    server = await serving(app, limits=Limits(drain_seconds=0.3), shortcuts=True)
    peer = await FramePeer(await server.connect()).open()
    await peer.send(get(1, b"/never") + get(3, b"/much"))
    await peer.until(lambda: 3 in peer.heads)
    server.stop.set()
    await peer.to_end()
    assert peer.resets == {1: CANCEL, 3: CANCEL}
    await happens(server.ended)


async def test_a_client_that_closes_on_goaway_is_not_waited_for(serving: Serving) -> None:
    server = await serving(app)
    peer = await FramePeer(await server.connect()).open()
    await peer.send(get(1))
    await peer.over(1)
    server.stop.set()
    await peer.until(lambda: peer.goaways)
    began = trio.current_time()
    await peer.peer.stream.aclose()
    await happens(server.ended)
    assert trio.current_time() - began < 0.5


# -- WebSocket over extended CONNECT (RFC 8441) ---------------------------------------------------


def websocket(stream: int, *more: tuple[bytes, bytes]) -> bytes:
    return head(
        stream,
        [
            (b":method", b"CONNECT"),
            (b":protocol", b"websocket"),
            (b":scheme", b"https"),
            (b":path", b"/ws"),
            (b":authority", b"localhost"),
            (b"sec-websocket-version", b"13"),
            *more,
        ],
        END_HEADERS,
    )


async def test_websocket(connect: Connect, autojump_clock: trio.testing.MockClock) -> None:
    peer = await FramePeer(connect(app)).open()
    await peer.send(websocket(1, (b"origin", b"https://localhost")))
    await peer.until(lambda: 1 in peer.heads)
    assert peer.status(1) == 200
    assert not {b"upgrade", b"sec-websocket-accept", b"connection"} & set(peer.heads[1])
    await peer.send(data(1, ws_frame(TEXT, b"echo")), step=3)
    await peer.until(lambda: peer.bodies[1] == b"\x81\x04echo")
    await peer.send(data(1, ws_frame(WS_PING, b"?")) + data(1, ws_frame(BINARY, bytes(1_000))))
    await peer.until(lambda: peer.bodies[1].endswith(bytes(1_000)))
    assert b"\x8a\x01?" in peer.bodies[1]
    await peer.send(data(1, close(1000), last=True))
    await peer.over(1)
    assert peer.bodies[1].endswith(b"\x88\x02\x03\xe8")
    assert 1 in peer.ended
    await peer.is_alive()


async def test_a_websocket_of_another_origin_is_refused(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app)).open()
    await peer.send(websocket(1, (b"origin", b"https://evil.example")))
    await peer.over(1)
    assert peer.status(1) == 403
    await peer.is_alive()


@pytest.mark.parametrize("how", ["reset", "END_STREAM", "end of input"])
async def test_a_websocket_that_ends_without_a_close(
    connect: Connect, how: str, autojump_clock: trio.testing.MockClock
) -> None:
    codes: list[Any] = []
    over = trio.Event()

    async def handler(request: Request) -> None:
        if request.path != "/ws":
            await app(request)
            return
        try:
            async with open_websocket(request) as ws:
                try:
                    while True:
                        await ws.receive()
                except WebSocketClosed as error:
                    codes.append(error.code)
                    raise
        finally:
            over.set()

    peer = await FramePeer(connect(handler)).open()
    await peer.send(websocket(1))
    await peer.until(lambda: 1 in peer.heads)
    if how == "reset":
        await peer.send(reset(1))
    elif how == "END_STREAM":
        await peer.send(data(1, last=True))
    else:
        await peer.peer.stream.aclose()
    await happens(over)
    assert codes == [1006]
    if how != "end of input":
        await peer.is_alive()


async def test_a_websocket_is_closed_with_1001_by_the_drain(
    serving_over_each_carrier: Serving,
) -> None:
    server = await serving_over_each_carrier(app)
    peer = await FramePeer(await server.connect()).open()
    peer.answers_pings = True
    await peer.send(websocket(1))
    await peer.until(lambda: 1 in peer.heads)
    server.stop.set()
    await peer.until(lambda: b"\x03\xe9" in peer.bodies[1])
    await peer.send(data(1, close(1001), last=True))
    await peer.over(1)
    assert 1 in peer.ended
    await peer.to_end()
    await happens(server.ended)


async def test_misdirected_requests_on_loopback(serving: Serving) -> None:
    server = await serving(app)
    peer = await FramePeer(await server.connect()).open()
    pairs = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")]
    await peer.send(head(1, [*pairs, (b":authority", b"evil.example")]))
    await peer.over(1)
    assert peer.status(1) == 421
    await peer.is_alive()
    assert any(made.type == HEADERS for made in peer.frames)


async def test_a_connection_too_many_is_answered_503_and_ends(
    serving_over_each_carrier: Serving,
) -> None:
    server = await serving_over_each_carrier(app, limits=Limits(connections=1))
    first = await FramePeer(await server.connect()).open()
    await first.send(get(1))
    await first.over(1)
    second = await FramePeer(await server.connect()).open()
    await second.send(get(1) + get(3, b"/endless"))
    await second.over(1, 3)
    assert (second.status(1), second.status(3)) == (503, 503)
    await second.to_end()
    assert second.goaways[0] == (ANY_STREAM, NO_ERROR, b"")
    await first.is_alive()


async def test_a_body_too_large_is_answered_413(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = await FramePeer(connect(app, limits=Limits(body_bytes=10))).open()
    await peer.send(post(1, b"/echo", (b"content-length", b"11")) + post(3) + data(3, bytes(11)))
    await peer.until(peer.was_reset(1))
    await peer.until(peer.was_reset(3))
    assert (peer.status(1), peer.status(3)) == (413, 413)
    assert peer.resets == {1: NO_ERROR, 3: NO_ERROR}
    await peer.is_alive()
