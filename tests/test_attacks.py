"""What breaks servers: each of these once broke this one, over TCP and over TLS."""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import logging
import re
import signal
import socket
import stat
import time
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from handlers import hello
from peers import PATIENCE, Certificate, Peer, Server, Serving, happens, running
from wire import BINARY, GET, PONG, TEXT, close, frame, get, handshake, objects_in_frames

from rawstream import (
    Channel,
    Channels,
    Headers,
    HTTPError,
    Limits,
    Request,
    open_websocket,
    serve_channel,
    serve_channels,
)
from rawstream.http.lifetime import Ended
from rawstream.http.negotiation import preferred
from rawstream.tcp.keepalive import KeepAliveScheduler

# -- What ends a connection ends no other ---------------------------------------------------------


async def still_serves(server: Server) -> None:
    peer = await server.connect()
    await peer.send(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await peer.until(b"hello\n")


async def test_a_client_that_answers_close_notify_ends_only_its_own_connection(
    serving: Serving, certificate: Certificate
) -> None:
    server = await serving(
        hello, tls=certificate.server_context, client_context=certificate.client_context
    )

    def talk(request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
            tls = certificate.client_context.wrap_socket(sock, server_hostname="127.0.0.1")
            tls.sendall(request)
            answer = tls.recv(65536)
            tls.unwrap().close()
            return answer

    waiting = await server.connect()
    for request in (
        b"GET / HTTP/1.1\r\n\r\n",  # no Host: 400, and a close in stages
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n",
    ):
        answer = await trio.to_thread.run_sync(talk, request)
        assert answer.startswith(b"HTTP/1.1 ")
    await waiting.send(GET)
    await waiting.until(b"hello\n")


STEPS = [
    (trio.SocketStream, "send_eof"),
    (trio.SocketStream, "receive_some"),
    (trio.SocketStream, "aclose"),
    (trio.SSLStream, "unwrap"),
    (trio.SSLStream, "aclose"),
    (trio.socket.SocketType, "getpeername"),
]


@pytest.mark.parametrize(("owner", "step"), STEPS, ids=[name for _, name in STEPS])
@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["closed", "closed in stages"],
)
async def test_whatever_fails_at_the_end_of_a_connection_ends_only_that(
    serving_over_each_carrier: Serving,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    step: str,
    request_bytes: bytes,
) -> None:
    server = await serving_over_each_carrier(hello)
    waiting = await server.connect()
    await waiting.send(GET)
    await waiting.until(b"hello\n")
    failing = await server.connect()

    real = getattr(owner, step)
    failures = [RuntimeError("injected")]

    def fail(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*args)  # Trio closes the socket that we have failed to close

    with monkeypatch.context() as patch:
        if step != "receive_some":  # which brings the request
            patch.setattr(owner, step, fail)
        await failing.send(request_bytes)
        await failing.has(b"\r\n\r\n")
        if step == "receive_some":
            patch.setattr(owner, step, fail)
        await trio.testing.wait_all_tasks_blocked(0.01)
    await waiting.send(GET)
    await waiting.until(b"hello\n")
    await still_serves(server)


@pytest.mark.parametrize("words", ["last words", "access line", "answer to an error"])
async def test_whatever_is_said_at_the_end_may_fail(
    serving_over_each_carrier: Serving, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rawstream.access")

    def fail(*args: object) -> Any:
        raise RuntimeError("injected")

    async def handler(request: Request) -> None:
        match request.path:
            case "/hello":
                await hello(request)
            case _ if words == "answer to an error":
                raise HTTPError(400, headers=[("no\nname", "")])
            case _ if words == "last words":
                request.exchange.on_drain(fail)
                request.exchange.cancel(Ended.DRAINED)
                await trio.sleep_forever()
            case _:
                logging.getLogger("rawstream.access").addFilter(fail)
                await request.respond(200)

    server = await serving_over_each_carrier(handler)
    waiting = await server.connect()
    failing = await server.connect()
    await failing.send(GET)
    try:
        await failing.to_end()
    finally:
        logging.getLogger("rawstream.access").removeFilter(fail)
    assert "injected" in caplog.text or words == "answer to an error"
    await waiting.send(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await waiting.until(b"hello\n")


# -- Answers that were lost -----------------------------------------------------------------------


async def test_an_early_response_reaches_a_client_that_sends_everything_before_reading(
    serving_over_each_carrier: Serving, certificate: Certificate
) -> None:
    async def refuse(request: Request) -> None:
        raise HTTPError(403, "not here")

    server = await serving_over_each_carrier(refuse)

    def upload() -> tuple[int, bytes]:
        client: http.client.HTTPConnection = (
            http.client.HTTPSConnection(
                "127.0.0.1", server.port, timeout=PATIENCE, context=certificate.client_context
            )
            if server.tls
            else http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        )
        with contextlib.closing(client):
            client.request("POST", "/", body=bytes(5_000_000))
            response = client.getresponse()
            return response.status, response.read()

    for _ in range(5):
        assert await trio.to_thread.run_sync(upload) == (403, b"403 Forbidden: not here\n")


async def test_only_so_many_connections_linger(serving: Serving) -> None:
    async def refuse(request: Request) -> None:
        raise HTTPError(403)

    server = await serving(refuse, limits=Limits(lingering=1, linger_seconds=1000))
    post = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    lingering = await server.connect()
    await lingering.send(post)
    await lingering.to_end()
    await lingering.send(bytes(10))  # is still read
    dropped = await server.connect()
    await dropped.send(post)
    await dropped.to_end()
    with pytest.raises(trio.BrokenResourceError):
        while True:
            await dropped.send(bytes(10))
            await trio.testing.wait_all_tasks_blocked(0.01)
    await lingering.send(bytes(10))


async def test_a_half_close_right_behind_a_request_finds_a_busy_server(serving: Serving) -> None:
    """TCP alone: TLS has no half-close here."""
    clients: list[socket.socket] = []

    async def handler(request: Request) -> None:
        if request.path == "/busy":
            for client in clients:
                client.sendall(GET)
                client.shutdown(socket.SHUT_WR)
        time.sleep(0.01)  # noqa: ASYNC251
        await trio.sleep(0.001)
        await request.respond(200, b"answered\n")

    server = await serving(handler)
    clients += [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10)]
    await trio.testing.wait_all_tasks_blocked(0.01)
    busy = await server.connect()
    await busy.send(b"GET /busy HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await busy.until(b"answered\n")
    for client in clients:
        with client:
            peer = Peer(trio.SocketStream(trio.socket.from_stdlib_socket(client)))
            assert (await peer.to_end()).endswith(b"answered\n")


# -- Fairness -------------------------------------------------------------------------------------


async def test_a_client_that_pipelines_lets_others_in(serving_over_each_carrier: Serving) -> None:
    order: list[str] = []

    async def handler(request: Request) -> None:
        order.append(request.path)
        await request.respond(200)

    server = await serving_over_each_carrier(handler)
    greedy, other = await server.connect(), await server.connect()
    for peer in (greedy, other):  # past the handshake
        await peer.send(GET)
        await peer.until(b"\r\n\r\n")
    order.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(greedy.send, b"GET /greedy HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)
        nursery.start_soon(other.send, b"GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await other.until(b"\r\n\r\n")
    assert order.index("/other") < 20


# -- Sends that are cancelled ---------------------------------------------------------------------


async def test_a_cancelled_answer_to_the_second_of_two_messages_tears_nothing(
    serving_over_each_carrier: Serving,
) -> None:
    much = "x" * 8_000_000
    waited = trio.Event()

    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:
            assert await ws.receive() == "1"
            await ws.send("first")
            assert await ws.receive() == "2"
            with trio.move_on_after(0.1) as gave_up:
                await ws.send(much)
            assert gave_up.cancelled_caught
            waited.set()
            await ws.send("third")

    server = await serving_over_each_carrier(handler)
    peer = await server.connect()
    await peer.send(handshake())
    await peer.has(b"\r\n\r\n")
    await peer.send(frame(TEXT, b"1") + frame(TEXT, b"2"))
    with trio.fail_after(PATIENCE):
        await waited.wait()
    first = bytes([0x81, 5]) + b"first"
    second = bytes([0x81, 127]) + len(much).to_bytes(8, "big") + much.encode()
    third = bytes([0x81, 5]) + b"third"
    assert (await peer.has(third)).startswith(first + second + third)
    await peer.send(close(1000))


# -- WebSockets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "times"), [(10, 10), (3_000_000, 3)])
async def test_a_close_is_answered_while_the_handler_pushes(
    serving_over_each_carrier: Serving, size: int, times: int
) -> None:
    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:
            while True:
                await ws.send(b"x" * size)
                await trio.lowlevel.checkpoint()

    server = await serving_over_each_carrier(handler)
    for _ in range(times):
        peer = await server.connect()
        await peer.send(handshake())
        await peer.has(b"\r\n\r\n")
        await peer.send(close(4000, b"enough"))
        received = await peer.to_end()
        assert received.endswith(b"\x88\x08" + (4000).to_bytes(2, "big") + b"enough")


async def test_what_is_left_at_once_tells_no_gap(serving_over_each_carrier: Serving) -> None:
    channels = Channels()

    async def handler(request: Request) -> None:
        await serve_channels(request, channels)

    server = await serving_over_each_carrier(handler)
    peer = await server.connect()
    await peer.send(handshake())
    await peer.has(b"\r\n\r\n")
    join = b'{"join": "a", "after": "old-7"}'
    await peer.send(frame(TEXT, join) + frame(TEXT, b'{"leave": "a"}') + close(1000))
    told = objects_in_frames(await peer.to_end())
    assert [next(iter(thing)) for thing in told] == ["joined", "left"]


async def test_nothing_is_pushed_behind_a_close(serving_over_each_carrier: Serving) -> None:
    channels = Channels()
    asked = trio.Event()

    async def slowly(request: Request, name: str, action: str) -> str | None:
        if action == "publish":
            asked.set()
            await trio.sleep(0.3)
        return None

    channels = Channels(authorize=slowly)

    async def handler(request: Request) -> None:
        await serve_channels(request, channels, "a")

    server = await serving_over_each_carrier(handler)
    peer = await server.connect()
    await peer.send(handshake())
    await peer.has(b'"joined": "a"')
    await peer.send(frame(TEXT, b'{"publish": "x", "channel": "a"}'))
    with trio.fail_after(PATIENCE):
        await asked.wait()
    await peer.send(close(1000))
    async with trio.open_nursery() as nursery:

        async def publish() -> None:
            while True:
                channels.get("a").publish("behind")
                await trio.sleep(0.01)

        nursery.start_soon(publish)
        received = await peer.to_end()
        nursery.cancel_scope.cancel()
    assert received.endswith(b"\x88\x02\x03\xe8")


async def test_a_drain_with_senders_in_line_ends_with_a_close(
    serving_over_each_carrier: Serving,
) -> None:
    waiting = 0

    async def handler(request: Request) -> None:
        async def send() -> None:
            nonlocal waiting
            waiting += 1
            await ws.send(b"x" * 2_000_000)

        async with open_websocket(request) as ws, trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(send)
            await trio.sleep_forever()

    server = await serving_over_each_carrier(handler)
    peer = await server.connect()
    await peer.send(handshake())
    await peer.has(b"\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert waiting == 3
    server.stop.set()
    assert (await peer.to_end()).endswith(b"\x88\x18\x03\xe9the server is stopping")


async def test_what_is_called_after_a_moment_fails_alone_and_holds_up_nobody(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = KeepAliveScheduler()
    called: list[int] = []
    thousand = trio.Event()
    others = 0  # turns of another task, while many functions are due

    def function(number: int) -> None:
        called.append(number)
        if number == 999:
            thousand.set()
        if number == 1:
            raise ValueError("one of them fails")

    async def other() -> None:
        nonlocal others
        while True:
            await trio.lowlevel.checkpoint()
            others += 0 < len(called) < 1000

    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.run)
        for number in range(1000):
            scheduler.after_a_moment(partial(function, number))
        await trio.sleep(0.1)
        scheduler.after_a_moment(partial(function, 1000))
        await trio.sleep(0.15 - 0.01)
        assert not called
        await trio.sleep(0.01)  # the first are due
        nursery.start_soon(other)
        await happens(thousand)
        nursery.cancel_scope.cancel()
    assert called == list(range(1000))
    assert others >= 10
    assert "one of them fails" in caplog.text


# -- A process that stands still ------------------------------------------------------------------


async def test_no_deadline_is_enforced_for_a_pause_of_the_server(
    carrier: str, certificate: Certificate
) -> None:
    limits = ("head_seconds=2", "body_seconds=2", "send_seconds=2", "ping_seconds=1")
    options = [option for limit in limits for option in ("--limit", limit)]
    if carrier == "tls":
        files = str(certificate.certfile), str(certificate.keyfile)
        options += ["--certfile", files[0], "--keyfile", files[1]]
    async with running("--port", "0", *options) as program:
        host, _, port = program.url.partition("://")[2].partition(":")

        async def connected(data: bytes) -> Peer:
            stream: trio.abc.Stream = await trio.open_tcp_stream(host, int(port))
            if carrier == "tls":
                context = certificate.client_context
                stream = trio.SSLStream(stream, context, server_hostname=host)
            peer = Peer(stream)
            await peer.send(data)
            return peer

        head = await connected(GET[:20])
        body = await connected(
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nha"
        )
        download = await connected(
            b"GET /download?size=20000000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        await download.has(b"\r\n\r\n")
        pinged = await connected(handshake(head=b"GET /ws?seconds=60 HTTP/1.1"))
        await pinged.has(b"\x89\x00")  # meanwhile the download has come to a stop
        program.process.send_signal(signal.SIGSTOP)
        await head.send(GET[20:])
        await body.send(b"lf")
        await pinged.send(frame(PONG))
        await trio.sleep(3.5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(download.exactly, 10_000_000)  # there is room now
            await trio.sleep(0.1)
            program.process.send_signal(signal.SIGCONT)
            await pinged.send(frame(TEXT, b"still here"))
            await pinged.has(b"still here")
            assert (await head.until(b"</html>\n")).startswith(b"HTTP/1.1 200 OK\r\n")
            assert (await body.has(b"half")).startswith(b"HTTP/1.1 200 OK\r\n")
        for peer in (head, body, download, pinged):
            await trio.aclose_forcefully(peer.stream)


# -- Small ones -----------------------------------------------------------------------------------


async def test_a_log_that_nobody_reads_stops_nobody() -> None:
    async with running("--port", "0") as program:
        host, _, port = program.url.removeprefix("http://").partition(":")
        peer = Peer(await trio.open_tcp_stream(host, int(port)))
        for _ in range(50):  # a pipe takes 64 KiB
            await peer.send(GET.replace(b"/ ", b"/hello ") * 50)
            with trio.fail_after(PATIENCE):
                while peer.received.count(b"hello\n") < 50:
                    peer.received += await peer.stream.receive_some()
            peer.received.clear()
        assert program.process.stderr is not None
        assert b'"GET /hello" 200' in await program.process.stderr.receive_some(100_000)
        await peer.send(GET)
        await peer.until(b"</html>\n")
        await trio.aclose_forcefully(peer.stream)
        log = b""
        with trio.fail_after(PATIENCE):
            while b'"GET /" 200' not in log:
                log += await program.process.stderr.receive_some()
        assert re.search(rb"[0-9]+ lines of log were dropped here\n", log)


async def test_bytes_of_a_client_cannot_control_the_terminal_that_shows_the_log(
    serving_over_each_carrier: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        raise KeyError((await request.body()).decode(), ValueError("\x1b[2J\x9b31m\nforged"))

    server = await serving_over_each_carrier(handler)
    peer = await server.connect()
    await peer.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\n\x1b[2Jx\r\n")
    await peer.to_end()
    assert "KeyError" in caplog.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", caplog.text)


@pytest.mark.parametrize(
    "greeting",
    [b"SSH-2.0-OpenSSH_9.2\r\n", bytes(1024), b"\x16\x03\x01\x02\x00\x01", b"GET\r\n", b"{}"],
)
async def test_another_protocol_is_answered_at_once(
    serving_over_each_carrier: Serving, greeting: bytes
) -> None:
    server = await serving_over_each_carrier(hello)
    peer = await server.connect()
    await peer.send(greeting)
    assert (await peer.to_end()).startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize(
    ("status", "head"),
    [
        (501, b"A" * 10_000 + b" / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: %zz\r\n\r\n"),
        (200, b"GET / HTTP/1.1\r\nHost: %61\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + b"," * 1000 + b"\r\n\r\n"),
    ],
)
async def test_hostile_heads(serving_over_each_carrier: Serving, status: int, head: bytes) -> None:
    server = await serving_over_each_carrier(hello)
    peer = await server.connect()
    await peer.send(head)
    assert (await peer.has(b"\r\n\r\n")).startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize("name", ["Accept", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"])
def test_a_list_of_many_elements_is_read_quickly(name: str) -> None:
    headers = Headers([(name.lower(), "a," * 30_000)])
    assert headers.elements(name) == ["a"] * 100
    many = "text/plain;q=0.1," * 4_000 + "text/event-stream"
    assert preferred(many, ["text/plain", "text/event-stream"]) == "text/plain"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"Sec-Fetch-Site: cross-site\r\n", 403),
        (b"Sec-Fetch-Site: same-site\r\n", 403),
        (b"Sec-Fetch-Site: same-origin\r\n", 204),
        (b"Sec-Fetch-Site: none\r\n", 204),
        (b"Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n", 204),
        (b"", 204),
    ],
)
async def test_a_page_of_another_site_without_an_origin(
    serving_over_each_carrier: Serving, fields: bytes, status: int
) -> None:
    channels = Channels()

    async def handler(request: Request) -> None:
        await serve_channels(request, channels, "a")

    server = await serving_over_each_carrier(handler)
    peer = await server.connect()
    await peer.send(b"GET /a?wait=0 HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n")
    assert (await peer.has(b"\r\n\r\n")).startswith(b"HTTP/1.1 %d " % status)


async def test_lines_are_lines_to_every_reader(serving_over_each_carrier: Serving) -> None:
    channel = Channel()
    channel.publish("a\u2028b\u2029c\u0085d")

    async def handler(request: Request) -> None:
        await serve_channel(request, channel)

    server = await serving_over_each_carrier(handler)
    peer = await server.connect()
    await peer.send(get("/?last=1", b"Accept: application/x-ndjson\r\n"))
    lines = (await peer.has(b'd"}\n\r\n')).decode().splitlines()
    objects = [json.loads(line) for line in lines if line.startswith("{")]
    assert [thing.get("data") for thing in objects] == [None, "a\u2028b\u2029c\u0085d"]


@pytest.mark.parametrize("mode", [None, 0o600])
async def test_permissions_of_a_unix_socket(
    serving: Serving, tmp_path: Path, mode: int | None
) -> None:
    path = tmp_path / "socket"
    await serving(hello, unix=str(path), **({} if mode is None else {"unix_mode": mode}))
    assert stat.S_IMODE(path.stat().st_mode) == (mode or 0o666)


async def test_names_that_clients_only_ask_for_are_forgotten(
    serving_over_each_carrier: Serving,
) -> None:
    channels = Channels(max_channels=3)

    async def handler(request: Request) -> None:
        await serve_channels(request, channels, request.path[1:])

    server = await serving_over_each_carrier(handler)
    peer = await server.connect()
    for n in range(10):
        await peer.send(get(f"/poll{n}?wait=0"))
        assert b" 204 " in await peer.until(b"\r\n\r\n")
        await peer.send(get(f"/here{n}@presence", b"Accept: application/json\r\n"))
        assert b" 200 " in await peer.has(b"}\n")
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert len(channels) == 0


async def test_members_that_came_unseen_are_a_gap_for_earlier_readers_of_presence(
    serving_over_each_carrier: Serving,
) -> None:
    channels = Channels()

    async def handler(request: Request) -> None:
        await serve_channels(request, channels, request.path[1:])

    server = await serving_over_each_carrier(handler)
    peer = await server.connect()
    await peer.send(get("/a@presence", b"Accept: application/json\r\n"))
    who = json.loads((await peer.has(b"}\n")).rpartition(b"\r\n")[2])
    reader = await server.connect()
    await reader.send(get("/a"))
    await reader.has(b"\r\n\r\n")
    await peer.send(get(f"/a@presence?wait=0&after={who['next']}"))
    answer = json.loads((await peer.has(b"}\n")).rpartition(b"\r\n")[2])
    assert answer["gap"]["from"] == who["next"]


async def test_a_channel_of_an_empty_entry_is_no_empty_channel(
    serving_over_each_carrier: Serving,
) -> None:
    channels = Channels()

    async def handler(request: Request) -> None:
        await serve_channels(request, channels, request.path[1:])

    server = await serving_over_each_carrier(handler)
    peer = await server.connect()
    for name in "ab":
        await peer.send(
            b"POST /%b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" % name.encode()
        )
        published = json.loads((await peer.has(b"}\n")).rpartition(b"\r\n")[2])
    assert len(channels) == 2
    # And a cursor of another channel is none of this one.
    await peer.send(get(f"/a?wait=0&after={published['id']}"))
    answer = json.loads((await peer.has(b"}\n")).rpartition(b"\r\n")[2])
    assert answer["gap"]["from"] == published["id"]


# -- Memory ---------------------------------------------------------------------------------------

STALLING = {
    "events": get("/a?last=1000", b"Accept: text/event-stream\r\n"),
    "lines": get("/a?last=1000", b"Accept: application/x-ndjson\r\n"),
    "websocket": handshake(head=b"GET /a?last=1000 HTTP/1.1"),
    "poll": get("/a?last=1000&wait=10"),
    "several": get("/a?last=1000&channel=b", b"Accept: text/event-stream\r\n"),
    "a poll of several": get("/a?last=1000&channel=b&wait=10"),
}


@pytest.mark.parametrize("request_bytes", STALLING.values(), ids=STALLING)
async def test_readers_that_stall_share_what_they_wait_for(
    serving_over_each_carrier: Serving, request_bytes: bytes
) -> None:
    channels = Channels()
    for name in "ab":
        channels.get(name).publish("y" * 1_000_000)
        for _ in range(100):
            channels.get(name).publish("x" * 20)

    async def handler(request: Request) -> None:
        await serve_channels(request, channels, request.path[1:])

    def stall() -> socket.socket:
        sock = server.open_socket()
        sock.sendall(request_bytes)
        return sock

    count = 20
    server = await serving_over_each_carrier(handler)
    with contextlib.ExitStack() as stack:
        stack.enter_context(await trio.to_thread.run_sync(stall))  # fills what is kept for all
        await trio.testing.wait_all_tasks_blocked(0.05)
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        for _ in range(count):
            stack.enter_context(await trio.to_thread.run_sync(stall))
        await trio.testing.wait_all_tasks_blocked(0.1)
        held, _ = tracemalloc.get_traced_memory()
    assert held / count < 300_000, "it holds a copy of its own"


async def test_an_inbox_is_bounded_by_bytes(serving_over_each_carrier: Serving) -> None:
    async def handler(request: Request) -> None:
        async with open_websocket(request) as ws:
            await ws.send(await ws.receive())
            await trio.sleep_forever()

    server = await serving_over_each_carrier(handler)
    peer = await server.connect()
    await peer.send(handshake())
    await peer.has(b"\r\n\r\n")
    await peer.send(frame(TEXT, b"ready"))
    await peer.has(b"ready")
    message = frame(BINARY, bytes(1 << 20))
    sent = 0
    with trio.move_on_after(2):
        for _ in range(20):
            await peer.send(message)
            sent += 1
    assert sent < 12, "what the kernel holds, and one or two in the inbox"
    await trio.aclose_forcefully(peer.stream)


@pytest.mark.parametrize("text", ["\n" * 1_000_000, "\0" * 200_000, '"' * 600_000])
async def test_an_entry_is_bounded_as_it_is_encoded(text: str) -> None:
    channel = Channel()
    with pytest.raises(ValueError, match="encoded"):
        channel.publish(text)


async def test_encodings_of_a_channel_are_bounded(serving_over_each_carrier: Serving) -> None:
    channel = Channel(size=100_000)

    async def handler(request: Request) -> None:
        await serve_channel(request, channel)

    server = await serving_over_each_carrier(handler)
    for n in range(1000):
        channel.publish(f"{n:090}")
    tracemalloc.start()
    try:
        for accept in ("text/event-stream", "application/x-ndjson", "text/plain"):
            peer = await server.connect()
            await peer.send(get("/?last=1000", f"Accept: {accept}\r\n".encode()))
            await peer.has(b"%090d" % 999)
            await trio.aclose_forcefully(peer.stream)
        peer = await server.connect()
        await peer.send(handshake(head=b"GET /?last=1000 HTTP/1.1"))
        await peer.has(b"%090d" % 999)
        await trio.aclose_forcefully(peer.stream)
        del peer
        server.peers.clear()
        await trio.testing.wait_all_tasks_blocked(0.05)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 400_000
