"""The first bytes of a connection: a head goes out with what follows it, in one write and in order."""

from __future__ import annotations

import pytest
import trio
from peers import Peer, Serving
from wire import GET, PING, frame, get, handshake

from rawstream import (
    Channel,
    Handler,
    Limits,
    Request,
    open_events,
    open_stream,
    open_websocket,
    serve_channel,
)
from rawstream.tcp.transport import Transport

Writes = list[bytes]


async def connected(serving: Serving, handler: Handler, request: bytes, has: bytes) -> Peer:
    server = await serving(handler, shortcuts=True)
    peer = await server.connect()
    await peer.send(request)
    await peer.has(has)
    return peer


async def events(request: Request) -> None:
    async with open_events(request) as stream:
        await stream.send("first")
        await trio.sleep_forever()


async def retrying(request: Request) -> None:
    async with open_events(request, retry=1000):
        await trio.sleep_forever()


async def chunks(request: Request) -> None:
    async with open_stream(request, "text/plain") as stream:
        await stream.send(b"first")
        await trio.sleep_forever()


async def websocket(request: Request) -> None:
    async with open_websocket(request) as ws:
        await ws.send("first")
        await ws.receive()


channel = Channel()


async def place(request: Request) -> None:
    await serve_channel(request, channel)


EVENTS = get("/", b"Accept: text/event-stream\r\n")


@pytest.mark.parametrize(
    ("handler", "request_bytes", "ending"),
    [
        (events, GET, b"data: first\n\n\r\n"),
        (retrying, GET, b"retry: 1000\n\n\r\n"),
        (chunks, GET, b"\r\n\r\n5\r\nfirst\r\n"),
        (websocket, handshake(), b"\r\n\r\n\x81\x05first"),
        (place, EVENTS, b"-0\n\n\r\n"),
        (place, handshake(), b'-0"}'),
    ],
)
async def test_a_head_goes_out_with_the_first_bytes_behind_it(
    serving: Serving, writes: Writes, handler: Handler, request_bytes: bytes, ending: bytes
) -> None:
    await connected(serving, handler, request_bytes, ending)
    [written] = writes
    assert written.startswith((b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 101 Switching Protocols\r\n"))
    assert written.endswith(ending)


async def test_a_head_alone_goes_out_at_once(serving: Serving, writes: Writes) -> None:
    async def handler(request: Request) -> None:
        async with open_stream(request, "text/plain"):
            await trio.sleep_forever()

    await connected(serving, handler, GET, b"\r\n\r\n")
    assert len(writes) == 1


async def test_a_head_goes_out_before_the_handler_fails(serving: Serving) -> None:
    async def handler(request: Request) -> None:
        async with open_stream(request, "text/plain"):
            raise KeyError

    server = await serving(handler, shortcuts=True)
    peer = await server.connect()
    await peer.send(GET)
    assert (await peer.to_end()).endswith(b"\r\nTransfer-Encoding: chunked\r\n\r\n")


async def test_no_direct_write_overtakes_a_head() -> None:
    ours, theirs = trio.socket.socketpair()
    async with trio.SocketStream(ours) as stream, trio.SocketStream(theirs) as peer:
        transport = Transport(stream, Limits())
        assert transport.hold_back(b"head ")
        assert transport.try_write(b"entry") == 0
        await transport.send(b"place")
        assert transport.try_write(b" entry") == 6
        assert await peer.receive_some() == b"head place entry"


async def test_a_head_that_the_socket_does_not_take_is_sent_with_the_next_bytes(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    def full(fd: int, data: bytes) -> int:
        refused.append(data)
        raise BlockingIOError

    server = await serving(events, shortcuts=True)
    peer = await server.connect()
    with monkeypatch.context() as patch:
        patch.setattr("rawstream.tcp.transport.os.write", full)
        await peer.send(GET)
        answer = await peer.has(b"data: first\n\n\r\n")
    assert refused
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_frames_that_come_with_the_handshake_reach_a_reader_that_only_listens(
    serving: Serving,
) -> None:
    server = await serving(place)
    peer = await server.connect()
    await peer.send(handshake() + frame(PING, b"?"))
    await peer.has(b"\x8a\x01?")


# -- Connections that wait together ---------------------------------------------------------------


async def test_connections_that_wait_together_are_all_served(serving: Serving) -> None:
    async def handler(request: Request) -> None:
        await request.respond(200, request.path.encode())

    server = await serving(handler)
    peers = [await server.connect() for _ in range(200)]  # more than are accepted together
    for number, peer in enumerate(peers):
        await peer.send(get(f"/{number}"))
    for number, peer in enumerate(peers):
        await peer.until(b"\r\n\r\n/%d" % number)
