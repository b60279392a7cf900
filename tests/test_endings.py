"""How connections end: truncated bodies, late responses, and whether the handler learns of it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from handlers import or_ok
from peers import PATIENCE, Certificate, Connect, Server, Serving, happens
from wire import (
    BINARY,
    CONTINUATION,
    DEFLATE,
    GET,
    GET_1_0,
    OK,
    PONG,
    POST_CHUNKED,
    TEXT,
    close,
    frame,
    handshake,
)

from rawstream import (
    Limits,
    Request,
    WebSocketClosed,
    open_events,
    open_stream,
    open_websocket,
    serve,
)
from rawstream.tcp.admission import unmapped

MUCH = bytes(3_000_000)


async def to_end(server: Server, *pieces: bytes, sent: trio.Event | None = None) -> bytes:
    """All that a client gets that sends these pieces, each when the server has taken up the one
    before, and reads only when the server has done all that it can. `sent` is set in between.
    Raises `ConnectionResetError`, or `ssl.SSLEOFError` if TLS ends without close_notify."""

    def talk() -> bytes:
        with server.open_socket() as sock:
            for piece in pieces:
                sock.sendall(piece)
                trio.from_thread.run(trio.testing.wait_all_tasks_blocked, 0.01)
            if sent is not None:
                trio.from_thread.run_sync(sent.set)
                trio.from_thread.run(trio.testing.wait_all_tasks_blocked, 0.01)
            answer = b""
            while data := sock.recv(65536):
                answer += data
            return answer

    return await trio.to_thread.run_sync(talk)


# -- Whole, or told apart from whole --------------------------------------------------------------


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_late_bytes_do_not_cut_an_answer(
    serving_over_each_carrier: Serving, version: bytes
) -> None:
    sent = trio.Event()

    async def handler(request: Request) -> None:
        await sent.wait()
        await request.respond(200, MUCH)

    server = await serving_over_each_carrier(handler)
    head = b"GET / HTTP/%b\r\nHost: localhost\r\nConnection: close\r\n\r\n" % version
    answer = await to_end(server, head, b"\r\n", sent=sent)
    assert len(answer.partition(b"\r\n\r\n")[2]) == len(MUCH)


async def test_cancelling_serve_resets_bodies_that_look_whole(
    serving_over_each_carrier: Serving,
) -> None:
    async def handler(request: Request) -> None:
        async with open_stream(request, "text/plain") as stream:
            await stream.send(b"half")
            await trio.sleep_forever()

    for _ in range(20):  # in which order tasks are cancelled is chance
        async with trio.open_nursery() as nursery:
            server = await serving_over_each_carrier(handler, nursery=nursery)
            peer = await server.connect(strict=True)
            await peer.send(GET_1_0)
            await peer.until(b"half")
            nursery.cancel_scope.cancel()
        with pytest.raises(trio.BrokenResourceError):
            await peer.stream.receive_some()


async def test_tls_says_goodbye_also_when_bytes_lie_unread(
    serving: Serving, certificate: Certificate
) -> None:
    async def handler(request: Request) -> None:
        await request.respond(200, b"whole")

    server = await serving(
        handler, tls=certificate.server_context, client_context=certificate.client_context
    )

    def talk() -> bytes:
        with server.open_socket() as sock:
            sock.sendall(GET_1_0 + b"\r\n")
            answer = b""
            while data := sock.recv(65536):  # raises `SSLEOFError` without a close_notify
                answer += data
            return answer

    assert (await trio.to_thread.run_sync(talk)).endswith(b"\r\n\r\nwhole")


async def test_a_handler_that_chose_chunks_itself_gets_their_end(connect: Connect) -> None:
    async def handler(request: Request) -> None:
        await request.respond(200, b"12345", headers=[("Transfer-Encoding", "chunked")])

    peer = connect(or_ok(handler))
    await peer.send(GET)
    assert (await peer.to_end_of_chunks()).endswith(b"\r\n\r\n5\r\n12345\r\n0\r\n\r\n")
    await peer.send(OK)
    assert (await peer.until(b"ok\n")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_failed_handler_says_that_the_connection_closes(connect: Connect) -> None:
    async def handler(request: Request) -> None:
        raise KeyError

    peer = connect(or_ok(handler))
    await peer.send(GET + OK)
    assert b"\r\nConnection: close\r\n" in await peer.to_end()


# -- The handler ----------------------------------------------------------------------------------


@pytest.mark.parametrize("requests", [1, 3])
async def test_a_half_close_that_comes_with_a_request(serving: Serving, requests: int) -> None:
    # Over TCP only: over TLS there is no half-close.
    async def handler(request: Request) -> None:
        await trio.sleep(0.02)
        await request.respond(200, b"answer\n")

    server = await serving(handler)
    for _ in range(10):
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        received = b""
        for number in range(requests):
            is_last = number == requests - 1
            # The kernel sends the last request together with the FIN, however busy the machine is.
            more = getattr(socket, "MSG_MORE", 0) if is_last else 0
            assert await stream.socket.send(GET, more) == len(GET)
            if is_last:
                await stream.send_eof()
            while received.count(b"answer") <= number:
                data = await stream.receive_some()
                assert data
                received += data
        await stream.aclose()


async def test_what_another_connection_raised_is_a_failure_here(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        raise WebSocketClosed(1000, "")  # as of a WebSocket it was sending to

    peer = connect(handler)
    await peer.send(GET)
    assert (await peer.to_end()).startswith(b"HTTP/1.1 500 ")
    assert "WebSocketClosed" in caplog.text


@pytest.mark.parametrize("kind", ["events", "websocket"])
async def test_a_stream_torn_from_outside_is_closed(
    serving_over_each_carrier: Serving, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    opened = trio.Event()
    streams: list[Callable[[str], Awaitable[None]]] = []

    async def handler(request: Request) -> None:
        if kind == "events":
            async with open_events(request) as events:
                streams.append(events.send)
                opened.set()
                await trio.sleep_forever()
        else:
            async with open_websocket(request) as ws:
                streams.append(ws.send)
                opened.set()
                async for _ in ws:
                    pass

    caplog.set_level(logging.INFO, "rawstream.access")
    server = await serving_over_each_carrier(
        handler, limits=Limits(heartbeat_seconds=0.05, ping_seconds=0.05)
    )
    peer = await server.connect()
    await peer.send(GET if kind == "events" else handshake())
    await happens(opened)
    with trio.move_on_after(0.5):
        await streams[0]("x" * 20_000_000)
    with trio.fail_after(PATIENCE):
        while "torn" not in caplog.text:  # noqa: ASYNC110
            await trio.sleep(0.01)


# -- Everybody has a turn -------------------------------------------------------------------------

TINY = {
    "chunks": (POST_CHUNKED, b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n"),
    "pongs": (handshake(), frame(PONG) * 5000 + close()),
    "fragments": (handshake(), frame(TEXT, fin=0) + frame(CONTINUATION, fin=0) * 5000 + close()),
    "compressed": (handshake(DEFLATE), frame(TEXT, b"\0", rsv=4) * 5000 + close()),
}


@pytest.mark.parametrize("kind", TINY)
async def test_tiny_pieces_do_not_keep_others_waiting(connect: Connect, kind: str) -> None:
    async def handler(request: Request) -> None:
        if kind == "chunks":
            async for _ in request.stream():
                pass
        else:
            async with open_websocket(request, compression=True) as ws:
                async for _ in ws:
                    pass
        taken.set()

    turns = 0
    taken = trio.Event()

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    peer = connect(handler)
    head, pieces = TINY[kind]
    await peer.send(head)
    if kind != "chunks":
        await peer.has(b"\r\n\r\n")
    async with trio.open_nursery() as nursery:
        await peer.send(pieces)
        nursery.start_soon(count_turns)
        await happens(taken)
        nursery.cancel_scope.cancel()
    # It is not how long this takes that counts, but that the pieces are not taken in one go.
    assert turns > 50


# -- Deflate streams that end within messages (RFC 7692 section 7.2.3) ----------------------------


@pytest.mark.parametrize(
    ("frames", "messages"),
    [
        ([b"\xf2\x48\xcd\xc9\xc9\x07\x00"], [b"Hello"]),
        ([b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"], [b"Hello"]),  # BFINAL, as in section 7.2.3.5
        ([b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"], [b"Hello"]),
        ([b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00"], [b"HelloHello"]),
        ([b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"\xf2\x48\xcd\xc9\xc9\x07\x00"], [b"Hello"] * 2),
        ([b"\x00"] * 100 + [b"\xf2\x48\xcd\xc9\xc9\x07\x00"], [b""] * 100 + [b"Hello"]),
    ],
    ids=["one block", "final", "two blocks", "final inside", "final before", "empty"],
)
async def test_deflate(connect: Connect, frames: list[bytes], messages: list[bytes]) -> None:
    received = []

    async def handler(request: Request) -> None:
        async with open_websocket(request, compression=True) as ws:
            async for message in ws:
                received.append(message)

    peer = connect(handler)
    await peer.send(handshake(DEFLATE))
    await peer.has(b"\r\n\r\n")
    await peer.send(b"".join(frame(BINARY, data, rsv=4) for data in frames), step=5)
    await trio.testing.wait_all_tasks_blocked()
    assert received == messages


# -- At start -------------------------------------------------------------------------------------


async def test_allowed_hosts_are_names_in_any_case(serving_over_each_carrier: Serving) -> None:
    async def handler(request: Request) -> None:
        await request.respond(200, b"ok\n")

    server = await serving_over_each_carrier(handler, allowed_hosts=["WWW.Example.com"])
    for host, status in ((b"www.example.com", b"200"), (b"Www.Example.Com:80", b"200")):
        answer = await to_end(server, b"GET / HTTP/1.0\r\nHost: %b\r\n\r\n" % host)
        assert answer.startswith(b"HTTP/1.1 " + status)
    assert (await to_end(server, b"GET / HTTP/1.0\r\nHost: example.com\r\n\r\n"))[9:12] == b"421"
    for wrong in ("www.example.com:8080", "http://www.example.com", ""):
        with pytest.raises(ValueError, match="is not a host name"):
            await serve(handler, port=0, allowed_hosts=[wrong])


@pytest.mark.parametrize("options", [{"origins": "https://a.example"}, {"subprotocols": "chat"}])
async def test_a_string_is_no_collection_of_names(
    connect: Connect, options: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        async with open_websocket(request, **options):  # type: ignore[arg-type]
            pass

    peer = connect(handler)
    await peer.send(handshake(b"Origin: https://a"))
    assert (await peer.to_end()).startswith(b"HTTP/1.1 500 ")
    assert "TypeError" in caplog.text


def test_addresses_of_sockets_of_both_families() -> None:
    assert unmapped("::ffff:127.0.0.1") == "127.0.0.1"
    assert unmapped("::1") == "::1"
    assert unmapped("192.0.2.1") == "192.0.2.1"
