"""Handlers that misuse the API, and clients that misuse the server: it lives on, and never lies."""

from __future__ import annotations

import socket
import zlib
from typing import Any

import pytest
import trio
import trio.testing
from handlers import Watched, or_ok
from peers import Certificate, Connect, Server, Serving, happens
from wire import BINARY, CONTINUATION, DEFLATE, GET, GET_1_0, OK, POST_CHUNKED, frame, handshake

from rawstream import (
    BrokenStream,
    Handler,
    HTTPError,
    Limits,
    Request,
    open_events,
    open_poll,
    open_stream,
    open_websocket,
)

# -- Handlers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [204, 205, 304])
async def test_a_status_without_body_has_none(connect: Connect, status: int) -> None:
    async def handler(request: Request) -> None:
        await request.respond(status, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    peer = connect(or_ok(handler))
    await peer.send(GET + OK)
    answer = await peer.until(b"ok\n")
    assert answer.count(b"HTTP/1.1") == 2


@pytest.mark.parametrize("status", [204, 304])
async def test_a_stream_with_such_a_status_is_cut(connect: Connect, status: int) -> None:
    async def handler(request: Request) -> None:
        async with open_stream(request, "text/plain", status=status) as stream:
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    peer = connect(or_ok(handler))
    await peer.send(GET + OK)
    answer = await peer.to_end()
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b"\r\n\r\n")


async def test_a_content_length_of_the_handlers_own_frames_the_body(connect: Connect) -> None:
    async def handler(request: Request) -> None:
        async with open_stream(request, "text/plain", headers=[("Content-Length", "5")]) as s:
            await s.send(b"hello")

    peer = connect(or_ok(handler))
    await peer.send(GET + OK)
    answer = await peer.until(b"ok\n")
    assert b"\r\nContent-Length: 5\r\n" in answer
    assert b"\r\n\r\nhelloHTTP/1.1 200 OK\r\n" in answer


@pytest.mark.parametrize("status", [299, 499, 599])
async def test_a_status_nobody_knows_has_no_phrase(connect: Connect, status: int) -> None:
    async def handler(request: Request) -> None:
        if status > 400:
            raise HTTPError(status)
        await request.respond(status)

    peer = connect(handler)
    await peer.send(GET)
    assert (await peer.has(b"\r\n\r\n")).startswith(b"HTTP/1.1 %d \r\n" % status)


async def test_responding_twice_is_one_answer_and_a_cut(connect: Connect) -> None:
    async def handler(request: Request) -> None:
        await request.respond(200, b"first\n")
        await request.respond(200, b"second\n")

    peer = connect(handler)
    await peer.send(GET + OK)
    answer = await peer.to_end()
    assert answer.endswith(b"first\n")


async def test_a_late_user_of_an_exchange_is_told_so(connect: Connect) -> None:
    """What a handler leaves behind must not write into the next response."""
    kept: list[Any] = []

    async def handler(request: Request) -> None:
        async with open_stream(request, "text/plain") as stream:
            for old, old_request in kept:
                for late in (old.send(b"STALE"), old_request.respond(200), old_request.body()):
                    with pytest.raises(RuntimeError, match="over"):
                        await late
            kept.append((stream, request))
            await stream.send(b"fresh")

    peer = connect(handler)
    for _ in range(2):
        await peer.send(GET)
        assert (await peer.to_end_of_chunks()).endswith(b"\r\n\r\n5\r\nfresh\r\n0\r\n\r\n")


async def late_reader(
    server: Server, watched: Watched, request: bytes, *, strict: bool = False
) -> bytes:
    """All that a client gets that begins to read when its handler has ended."""
    peer = await server.connect(strict=strict)
    await peer.send(request)
    await happens(watched.ended)
    return await peer.to_end()


async def swallow(request: Request) -> None:
    with trio.move_on_after(0.2):
        await request.respond(200, b"x" * 50_000_000)


async def test_a_torn_response_ends_its_connection(serving_over_each_carrier: Serving) -> None:
    watched = Watched(swallow)
    server = await serving_over_each_carrier(watched)
    answer = await late_reader(server, watched, GET + OK)
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b"x")


async def test_a_swallowed_broken_stream_ends_its_connection(
    serving_over_each_carrier: Serving,
) -> None:
    async def handler(request: Request) -> None:
        try:
            async with open_stream(request, "text/plain") as stream:
                with trio.move_on_after(0.2):
                    await stream.send(b"x" * 50_000_000)
        except BrokenStream:
            pass

    watched = Watched(handler)
    server = await serving_over_each_carrier(watched)
    assert (await late_reader(server, watched, GET + OK)).endswith(b"x")


async def torn_stream(request: Request) -> None:
    async with open_stream(request, "text/plain") as stream:
        with trio.move_on_after(0.2):
            await stream.send(b"x" * 50_000_000)


async def double(request: Request) -> None:
    async with open_stream(request, "text/plain") as stream:
        await stream.send(b"part")
        await request.respond(500)


@pytest.mark.parametrize("handler", [torn_stream, double])
async def test_on_http_1_0_what_is_torn_does_not_look_whole(
    serving_over_each_carrier: Serving, handler: Handler
) -> None:
    watched = Watched(handler)
    server = await serving_over_each_carrier(watched)
    with pytest.raises(trio.BrokenResourceError):
        await late_reader(server, watched, GET_1_0, strict=True)


async def test_a_body_read_that_was_given_up_leaves_no_deadline(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> None:
        with trio.move_on_after(1):
            await request.body()
        async with open_stream(request, "text/plain") as stream:
            await trio.sleep(100)
            await stream.send(b"still here")

    peer = connect(handler)
    await peer.send(POST_CHUNKED)
    await peer.has(b"still here\r\n", patience=200)


async def test_http_errors_come_out_of_nurseries(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(request: Request) -> None:
        await trio.lowlevel.checkpoint()
        raise HTTPError(404, "not in here")

    async def handler(request: Request) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(failing, request)
            nursery.start_soon(trio.sleep_forever)

    peer = connect(or_ok(handler))
    await peer.send(GET + OK)
    answer = await peer.until(b"ok\n")
    assert b"404 Not Found: not in here\n" in answer
    assert "Traceback" not in caplog.text


async def test_a_malformed_body_found_late_is_no_failure_of_the_handler(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        async with open_stream(request, "text/plain") as stream:
            async for part in request.stream():
                await stream.send(part)

    peer = connect(handler)
    await peer.send(POST_CHUNKED + b"3\r\nabc\r\nzz\r\n")
    assert (await peer.to_end()).endswith(b"3\r\nabc\r\n")
    assert "too late to answer" in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_malformed_body_stays_malformed(connect: Connect) -> None:
    async def handler(request: Request) -> None:
        for _ in range(3):
            with pytest.raises(HTTPError) as caught:
                await request.body()
            assert caught.value.status == 400
        await request.respond(200, b"done\n")

    peer = connect(handler)
    await peer.send(POST_CHUNKED + b"3\r\nabc\r\nzz\r\n")
    assert (await peer.to_end()).endswith(b"done\n")


async def test_secrets_stay_out_of_the_error_log(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        raise KeyError

    peer = connect(handler)
    await peer.send(GET.replace(b"/ ", b"/?token=t0ps3cret "))
    await peer.to_end()
    assert "/?token=***" in caplog.text
    assert "t0ps3cret" not in caplog.text


async def test_arguments_that_make_no_sense(connect: Connect) -> None:
    async def handler(request: Request) -> None:
        for heartbeat in (0, -1):
            with pytest.raises(ValueError, match="more than 0"):
                open_events(request, heartbeat=heartbeat)
        with pytest.raises(ValueError, match="cannot be endless"):
            open_stream(request, "text/plain", length=3, endless=True)
        with pytest.raises(ValueError, match="cursor"):
            async with open_poll(request, cursor=""):
                pass
        async with open_stream(request, "text/plain") as stream:
            for data in (5, "text"):
                with pytest.raises(TypeError):
                    await stream.send(data)  # type: ignore[arg-type]
            await stream.send(memoryview(b"\1\0\0\0").cast("I"))  # type: ignore[arg-type]

    peer = connect(handler)
    await peer.send(GET)
    assert (await peer.to_end_of_chunks()).endswith(b"\r\n\r\n4\r\n\1\0\0\0\r\n0\r\n\r\n")
    with pytest.raises(ValueError, match="ping_seconds must be more than 0"):
        Limits(ping_seconds=0)


async def test_a_websocket_takes_text_and_bytes_only(connect: Connect) -> None:
    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:
            with pytest.raises(TypeError):
                await ws.send(5)  # type: ignore[arg-type]
            async with ws.open_message() as message:
                await message.send("a")
            with pytest.raises(RuntimeError, match="has ended"):
                await message.send("b")
            await ws.send("c")

    peer = connect(handler)
    await peer.send(handshake())
    assert (await peer.has(b"\x88\x02\x03\xe8")).endswith(
        b"\x01\x01a\x80\x00\x81\x01c\x88\x02\x03\xe8"
    )


# -- The server lives on --------------------------------------------------------------------------


async def test_a_farewell_that_fails_is_no_end_of_the_server(
    serving_over_each_carrier: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        async def farewell() -> None:
            raise KeyError

        async with open_stream(request, "text/plain") as stream:
            request.exchange.on_drain(farewell)
            await stream.send(b"x")
            await trio.sleep_forever()

    server = await serving_over_each_carrier(handler)
    peer = await server.connect()
    await peer.send(GET)
    await peer.has(b"x\r\n")
    server.stop.set()
    await peer.to_end()
    with trio.fail_after(1):
        await server.ended.wait()
    assert "the final response failed" in caplog.text


async def test_a_beat_stuck_below_tls_is_no_end_of_the_server(
    serving: Serving, certificate: Certificate
) -> None:
    async def handler(request: Request) -> None:
        if request.path == "/ok":
            await request.respond(200, b"ok\n")
            return
        async with open_events(request, heartbeat=0.001):
            await trio.sleep_forever()

    server = await serving(
        handler, tls=certificate.server_context, client_context=certificate.client_context
    )
    other = await server.connect()
    await other.send(OK)
    await other.until(b"ok\n")
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    await sock.connect(("127.0.0.1", server.port))
    raw = trio.SocketStream(sock)
    stream = trio.SSLStream(raw, certificate.client_context, server_hostname="127.0.0.1")
    await stream.send_all(GET.replace(b"GET", b"POST")[:-2] + b"Content-Length: 9\r\n\r\n")
    await trio.sleep(1)
    await raw.send_eof()
    await trio.sleep(0.2)
    await trio.aclose_forcefully(stream)
    await other.send(OK)
    assert (await other.until(b"ok\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_handshake_that_never_comes_is_no_end_of_the_server(
    serving: Serving, certificate: Certificate, first: bytes
) -> None:
    server = await serving(
        or_ok(swallow),
        tls=certificate.server_context,
        client_context=certificate.client_context,
        limits=Limits(head_seconds=0.3),
    )
    for leave_early in (True, False):
        raw = await trio.open_tcp_stream("127.0.0.1", server.port)
        await raw.send_all(first or b"")
        if not leave_early:
            with trio.fail_after(3):
                while await raw.receive_some():
                    pass
        await trio.aclose_forcefully(raw)
    peer = await server.connect()
    await peer.send(OK)
    assert (await peer.until(b"ok\n")).startswith(b"HTTP/1.1 200")
    server.stop.set()
    await happens(server.ended)


async def test_beats_do_not_pile_up_behind_a_send(serving_over_each_carrier: Serving) -> None:
    most = 0

    async def handler(request: Request) -> None:
        async with open_events(request, heartbeat=0.01) as events:
            await events.send("x" * 50_000_000)

    server = await serving_over_each_carrier(handler)
    peer = await server.connect()
    await peer.send(GET)
    before = trio.lowlevel.current_statistics().tasks_living
    for _ in range(5):
        await trio.sleep(0.1)
        most = max(most, trio.lowlevel.current_statistics().tasks_living - before)
    assert most < 5


async def test_tls_says_when_all_was_sent(serving: Serving, certificate: Certificate) -> None:
    """A close_notify: a client of HTTP/1.0 has no other way to know a whole body from a torn one."""

    async def handler(request: Request) -> None:
        async with open_stream(request, "text/plain") as stream:
            await stream.send(b"whole")
            if request.path == "/torn":
                raise KeyError

    server = await serving(handler, tls=certificate.server_context)
    for path, whole in ((b"/", True), (b"/torn", False)):
        raw = await trio.open_tcp_stream("127.0.0.1", server.port)
        stream = trio.SSLStream(raw, certificate.client_context, server_hostname="127.0.0.1")
        await stream.send_all(GET_1_0.replace(b"/ ", path + b" ", 1))
        got, ended_well = b"", True
        try:
            while data := await stream.receive_some():
                got += data
        except trio.BrokenResourceError:
            ended_well = False
        assert got.endswith(b"\r\n\r\nwhole")
        assert ended_well is whole
        await trio.aclose_forcefully(stream)


# -- Clients --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"0\r\n\n", b"0\r\nX: y\n\n", b"0\r\nX: y\n\r\n", b"0\r\nX: y\r\n z\r\n\r\n",
        b"3;a\rb\r\nabc\r\n0\r\n\r\n", b"3;a\nb\r\nabc\r\n0\r\n\r\n", b"3;\0\r\nabc\r\n0\r\n\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [0, 1], ids=["whole", "byte by byte"])
async def test_stray_line_ends_between_chunks_are_refused(
    connect: Connect, body: bytes, step: int
) -> None:
    async def handler(request: Request) -> None:
        await request.body()
        await request.respond(200)

    peer = connect(handler)
    try:
        await peer.send(POST_CHUNKED + body + OK, step=step)
    except trio.BrokenResourceError:
        assert step
    answer = await peer.to_end()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


async def test_a_body_behind_a_refused_head_does_not_reset_the_answer(
    serving_over_each_carrier: Serving,
) -> None:
    server = await serving_over_each_carrier(or_ok(swallow))
    for _ in range(5):
        peer = await server.connect()
        await peer.send(GET[:-2] + b"X: y\r\n z\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked(0.01)
        await peer.send(b"x" * 100_000)
        assert (await peer.to_end()).startswith(b"HTTP/1.1 400 ")


async def test_a_stray_empty_line_in_two_pieces_is_no_request(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = connect(or_ok(swallow))
    await peer.send(OK)
    await peer.until(b"ok\n")
    await peer.send(b"\r")
    await trio.sleep(1)
    await peer.send(b"\n")
    await trio.sleep(30)
    await peer.send(OK)
    await peer.until(b"ok\n")
    assert await peer.to_end(patience=100) == b""


async def test_upgrades_nobody_asked_for_are_ignored(connect: Connect) -> None:
    peer = connect(or_ok(swallow))
    for upgrade in (b"h2c", b"websocket"):
        fields = b"Connection: Upgrade\r\nUpgrade: " + upgrade + b"\r\n\r\n"
        await peer.send(OK[:-2] + fields + OK)
        while peer.received.count(b"ok\n") < 2:
            peer.received += await peer.stream.receive_some()
        assert (await peer.until(b"ok\n")).count(b"HTTP/1.1 200 OK") == 2


async def test_a_slow_reader_of_a_large_message_has_not_vanished(
    serving_over_each_carrier: Serving,
) -> None:
    """Its ping waits behind the message: no pong is owed before it was sent."""
    done = trio.Event()

    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:
            await ws.send(b"x" * 12_000_000)
            done.set()

    server = await serving_over_each_carrier(handler, limits=Limits(ping_seconds=0.2))
    peer = await server.connect()
    await peer.send(handshake())
    with trio.fail_after(10):
        while not done.is_set():
            assert await peer.stream.receive_some(65536)
            await trio.sleep(0.005)


async def test_compressed_junk_behind_its_end_is_stopped(connect: Connect) -> None:
    async def handler(request: Request) -> None:
        async with open_websocket(request, compression=True) as ws:
            async for _ in ws:
                pass

    peer = connect(handler)
    await peer.send(handshake(DEFLATE))
    await peer.has(b"\r\n\r\n")
    compressor = zlib.compressobj(wbits=-15)
    ended = compressor.compress(b"a") + compressor.flush(zlib.Z_FINISH)
    await peer.send(frame(BINARY, ended, fin=0, rsv=4))
    await peer.send(frame(CONTINUATION, b"\xff" * 4096, fin=0))
    answer = await peer.to_end()
    assert answer.rpartition(b"\x88")[2][1:3] == b"\x03\xef"  # 1007


async def test_thousands_come_and_go_without_a_trace(
    serving_over_each_carrier: Serving, carrier: str
) -> None:
    server = await serving_over_each_carrier(or_ok(swallow))
    before = trio.lowlevel.current_statistics().tasks_living
    for _ in range(5 if carrier == "tls" else 20):  # handshakes take most of the time
        peers = [await server.connect() for _ in range(50)]
        for number, peer in enumerate(peers):
            await peer.send(OK[: number * 3] if number % 2 else OK)
        for peer in peers:
            await trio.aclose_forcefully(peer.stream)
        server.peers.clear()
    with trio.fail_after(0.5):
        while trio.lowlevel.current_statistics().tasks_living > before:  # noqa: ASYNC110
            await trio.sleep(0.01)
