"""A client that leaves cancels its handler at once; data it sent before is still delivered."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from handlers import Watched
from http2_client import Http2Stream
from peers import Peer, Serving, happens
from wire import CONTINUATION, GET, TEXT, close, frame, handshake

import rawstream.server
from rawstream import (
    Limits,
    Request,
    open_events,
    open_poll,
    open_stream,
    open_websocket,
)
from rawstream.tcp.watching import PeekingWatcher

AT_ONCE = 2.0
"""Seconds. It takes milliseconds, or a look of the fallback's, but this may be a busy machine; no
timer of the server's is as short, so what ends a handler this soon is the client that left."""


@pytest.fixture(params=["tcp", "tls", "unix", "http2"])
def carrier(request: pytest.FixtureRequest) -> str:
    """Unix sockets, too: the kernel reports the end. Over HTTP/2 a client leaves by resetting its
    stream."""
    return str(request.param)


async def leaves(peer: Peer, watched: Watched) -> None:
    """Close the connection, or over HTTP/2 reset the stream: the handler ends at once. Before that
    it gets to where it waits for something: time, its client, or room in the buffers."""
    with trio.fail_after(3):
        await watched.started.wait()
    await trio.testing.wait_all_tasks_blocked(0.01)
    if isinstance(peer.stream, Http2Stream):
        await peer.stream.leave()
    else:
        await trio.aclose_forcefully(peer.stream)
    with trio.fail_after(AT_ONCE):
        await watched.ended.wait()


@asynccontextmanager
async def plain(request: Request) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
    async with open_stream(request, "text/plain") as stream:
        yield stream.send


@asynccontextmanager
async def events(request: Request) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
    async with open_events(request) as stream:

        async def send(data: bytes) -> None:
            await stream.send(data.decode())

        yield send


@asynccontextmanager
async def websocket(request: Request) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
    async with open_websocket(request) as ws:
        yield ws.send


STREAMS = {"stream": (GET, plain), "events": (GET, events), "websocket": (handshake(), websocket)}


@pytest.mark.parametrize(("opening", "opened"), STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("pipelined", [b"", GET], ids=["", "bytes unread"])
async def test_while_the_handler_sleeps(
    serving_over_each_carrier: Serving, opening: bytes, opened: Any, pipelined: bytes
) -> None:
    async def handler(request: Request) -> None:
        async with opened(request):
            await trio.sleep_forever()

    if pipelined and opened is websocket:
        pipelined = frame(TEXT, b"unread")
    watched = Watched(handler)
    peer = await (await serving_over_each_carrier(watched)).connect()
    await peer.send(opening + pipelined)
    await peer.has(b"\r\n\r\n")
    await leaves(peer, watched)


@pytest.mark.parametrize(("opening", "opened"), STREAMS.values(), ids=STREAMS)
async def test_while_the_handler_sends_to_a_full_buffer(
    serving_over_each_carrier: Serving, opening: bytes, opened: Any
) -> None:
    async def handler(request: Request) -> None:
        async with opened(request) as send:
            while True:
                await send(b"x" * 65536)

    watched = Watched(handler)
    peer = await (await serving_over_each_carrier(watched)).connect()
    await peer.send(opening)
    await peer.has(b"\r\n\r\n")
    await leaves(peer, watched)


async def test_while_a_poll_is_held(serving_over_each_carrier: Serving) -> None:
    async def handler(request: Request) -> None:
        async with open_poll(request, cursor="e-0"):
            await trio.sleep_forever()

    watched = Watched(handler)
    peer = await (await serving_over_each_carrier(watched)).connect()
    await peer.send(GET)
    await leaves(peer, watched)


@pytest.mark.parametrize("more", [b"", GET], ids=["", "bytes unread"])
async def test_while_a_plain_handler_sleeps(
    serving_over_each_carrier: Serving, more: bytes
) -> None:
    async def handler(request: Request) -> None:
        await trio.sleep_forever()

    watched = Watched(handler)
    peer = await (await serving_over_each_carrier(watched)).connect()
    await peer.send(GET + more)
    await leaves(peer, watched)


async def test_while_the_handler_waits_for_a_body(serving_over_each_carrier: Serving) -> None:
    parts = []

    async def handler(request: Request) -> None:
        async for part in request.stream():
            parts.append(part)

    watched = Watched(handler)
    peer = await (await serving_over_each_carrier(watched)).connect()
    await peer.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf")
    await leaves(peer, watched)
    assert parts == [b"half"]


async def test_while_the_handler_waits_for_a_message(serving_over_each_carrier: Serving) -> None:
    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:
            await ws.receive()

    watched = Watched(handler)
    peer = await (await serving_over_each_carrier(watched)).connect()
    await peer.send(handshake())
    await peer.until(b"\r\n\r\n")
    await leaves(peer, watched)


# -- What came before -----------------------------------------------------------------------------


async def test_the_last_message_and_the_close_code_are_delivered(
    serving_over_each_carrier: Serving,
) -> None:
    got: list[object] = []
    gone = trio.Event()

    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:
            async for message in ws:
                await gone.wait()
                got.append(message)
            got.append(ws.close_code)
            await trio.sleep(0.05)
            got.append("tidied up")

    watched = Watched(handler)
    peer = await (await serving_over_each_carrier(watched)).connect()
    await peer.send(handshake())
    await peer.until(b"\r\n\r\n")
    await peer.send(frame(TEXT, b"a", fin=0) + frame(CONTINUATION, b"b") + frame(TEXT, b"last"))
    await peer.send(close(4001, b"bye"))
    await trio.aclose_forcefully(peer.stream)
    await trio.testing.wait_all_tasks_blocked(0.01)
    gone.set()
    with trio.fail_after(3):
        await watched.ended.wait()
    assert got == ["ab", "last", 4001, "tidied up"]


async def test_a_handler_that_only_pushes_knows_the_close_code_at_its_end(
    serving_over_each_carrier: Serving,
) -> None:
    codes = []

    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:
            try:
                await trio.sleep_forever()
            finally:
                codes.append(ws.close_code)

    watched = Watched(handler)
    peer = await (await serving_over_each_carrier(watched)).connect()
    await peer.send(handshake())
    await peer.until(b"\r\n\r\n")
    await peer.send(close(4001))
    await trio.aclose_forcefully(peer.stream)
    with trio.fail_after(3):
        await watched.ended.wait()
    assert codes == [4001]


async def test_a_body_that_came_whole_before_its_client_left_is_delivered(
    serving_over_each_carrier: Serving,
) -> None:
    bodies = []

    async def handler(request: Request) -> None:
        body = b""
        async for part in request.stream():
            await trio.sleep(0.01)
            body += part
        bodies.append(body)

    watched = Watched(handler)
    server = await serving_over_each_carrier(watched)
    peer = await server.connect()
    body = bytes(range(256)) * 1024
    await peer.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 262144\r\n\r\n" + body)
    await happens(watched.started)
    await trio.aclose_forcefully(peer.stream)
    with trio.fail_after(3):
        await watched.ended.wait()
    assert bodies == [body]


async def test_requests_whole_before_a_half_close_are_answered(serving: Serving) -> None:
    # Over TCP only: over TLS there is no half-close.
    async def handler(request: Request) -> None:
        await trio.sleep(0.02)
        await request.respond(200, b"answer\n")

    server = await serving(handler)
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(GET)
        sock.shutdown(socket.SHUT_WR)  # before the server has accepted
        answer = await trio.to_thread.run_sync(sock.makefile("rb").read)
    assert answer.endswith(b"\r\n\r\nanswer\n")


async def test_a_client_gone_before_its_handler_began_does_not_keep_it(
    serving_over_each_carrier: Serving,
) -> None:
    async def handler(request: Request) -> None:
        await trio.sleep_forever()

    watched = Watched(handler)
    server = await serving_over_each_carrier(watched, limits=Limits(leave_seconds=0.2))

    def come_and_go() -> None:
        with server.open_socket() as sock:
            sock.sendall(GET)

    if server.tls is None:
        come_and_go()  # the server has no turn meanwhile
    else:
        await trio.to_thread.run_sync(come_and_go)  # it has to take part in the handshake
    with trio.fail_after(2):
        await watched.ended.wait()


async def test_a_reset_is_leaving_too(serving: Serving) -> None:
    # Over TCP only: it is TCP that resets.
    async def handler(request: Request) -> None:
        async with open_events(request):
            await trio.sleep_forever()

    watched = Watched(handler)
    server = await serving(watched)
    peer = await server.connect()
    await peer.send(GET)
    await peer.has(b"\r\n\r\n")
    linger = struct.pack("ii", 1, 0)
    assert isinstance(peer.stream, trio.SocketStream)
    peer.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    await leaves(peer, watched)


async def test_a_handler_may_shield_its_tidying_up(serving_over_each_carrier: Serving) -> None:
    done = trio.Event()

    async def handler(request: Request) -> None:
        async with open_events(request) as stream:
            try:
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(1, shield=True):
                    await trio.sleep(0.05)
                    done.set()
                    await stream.send("nobody hears this")

    server = await serving_over_each_carrier(handler)
    peer = await server.connect()
    await peer.send(GET)
    await peer.has(b"\r\n\r\n")
    await trio.aclose_forcefully(peer.stream)
    with trio.fail_after(2):
        await done.wait()


async def test_the_fallback_notices_too(
    serving_over_each_carrier: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rawstream.server, "socket_watcher", PeekingWatcher)

    async def handler(request: Request) -> None:
        async with open_events(request):
            await trio.sleep_forever()

    watched = Watched(handler)
    server = await serving_over_each_carrier(watched)
    peer = await server.connect()
    await peer.send(GET)
    await peer.has(b"\r\n\r\n")
    await trio.sleep(0.25)
    assert not watched.ended.is_set()
    await leaves(peer, watched)


async def test_one_client_leaving_is_no_matter_to_the_others(
    serving_over_each_carrier: Serving,
) -> None:
    async def handler(request: Request) -> None:
        async with open_events(request, heartbeat=0.1):
            await trio.sleep_forever()

    server = await serving_over_each_carrier(handler)
    peers = [await server.connect() for _ in range(20)]
    for peer in peers:
        await peer.send(GET)
        await peer.has(b"\r\n\r\n")
    for peer in peers[::2]:
        await trio.aclose_forcefully(peer.stream)
    for peer in peers[1::2]:
        for _ in range(2):
            await peer.has(b"3\r\n:\n\n\r\n")
