"""The files of `examples/deploy` with the programs that read them: proxies and systemd's tools."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from deployed import BEHIND, FOLDER, PROXIES, Proxy, deployed, proxy_before_nothing
from documents import ROOT, fenced
from handlers import Watched, hello
from peers import PATIENCE, Peer, Server, Serving, free_port, happens, program
from wire import TEXT, close, frame, get, handshake, unchunked

from rawstream import (
    Channel,
    Request,
    Unavailable,
    open_events,
    open_poll,
    open_stream,
    open_websocket,
    serve_channel,
)

EVENTS = b"Accept: text/event-stream\r\n"


@pytest.fixture(scope="module", params=PROXIES)
def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """Each of the proxies, started once. A test has a server of its own behind it."""
    with proxy_before_nothing(request.param, tmp_path_factory.mktemp("proxy")) as proxy:
        yield proxy


@pytest.fixture
async def front(proxy: Proxy) -> AsyncIterator[Server]:
    """What clients connect to."""
    front = proxy.as_server()
    yield front
    for peer in front.peers:
        await trio.aclose_forcefully(peer.stream)


async def asked(front: Server, request: bytes) -> Peer:
    """A client that has sent this."""
    peer = await front.connect()
    await peer.send(request)
    return peer


async def answered(front: Server, request: bytes) -> bytes:
    """The whole answer, after which the proxy is to close."""
    head, _, body = request.partition(b"\r\n\r\n")
    peer = await asked(front, head + b"\r\nConnection: close\r\n\r\n" + body)
    return await peer.to_end()


# -- Streams --------------------------------------------------------------------------------------

IN_TURN = 10

AT_ONCE = 1.0
"""Seconds for as many pieces, each sent when the one before has come. A proxy that waits whether
more comes takes 0.2 for each; one that buffers passes on none."""


async def one_by_one(
    front: Server, request: bytes, said: trio.Event, told: list[trio.Event]
) -> None:
    """Pieces `<0>`, `<1>` ... come, each before the next is sent."""
    peer = await asked(front, request)
    await happens(said)
    with trio.fail_after(AT_ONCE):
        for n, event in enumerate(told):
            await peer.has(b"<%d>" % n)
            event.set()


@pytest.mark.parametrize("kind", ["events", "stream", "lines", "text"])
async def test_what_is_sent_passes_at_once(
    kind: str, proxy: Proxy, front: Server, serving: Serving
) -> None:
    started, told = trio.Event(), [trio.Event() for _ in range(IN_TURN)]
    channel = Channel()

    async def publish() -> None:
        for n, event in enumerate(told):
            channel.publish(f"<{n}>")
            await event.wait()

    async def app(request: Request) -> None:
        started.set()
        if kind == "events":
            async with open_events(request) as events:
                for n, event in enumerate(told):
                    await events.send(f"<{n}>")
                    await event.wait()
        elif kind == "stream":
            async with open_stream(request, "application/json") as stream:
                for n, event in enumerate(told):
                    await stream.send(b"<%d>" % n)
                    await event.wait()
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(publish)
                await serve_channel(request, channel)
                nursery.cancel_scope.cancel()

    await serving(app, port=proxy.behind)
    accept = {"lines": b"Accept: application/x-ndjson\r\n", "text": b"Accept: text/plain\r\n"}
    await one_by_one(front, get("/?after=0", accept.get(kind, EVENTS)), started, told)


async def test_a_websocket_both_ways(proxy: Proxy, front: Server, serving: Serving) -> None:
    async def app(request: Request) -> None:
        async with open_websocket(request) as ws:
            await ws.send("first")
            async for message in ws:
                await ws.send(message)

    await serving(app, port=proxy.behind)
    peer = await asked(front, handshake())
    assert (await peer.until(b"\x81\x05first")).startswith(b"HTTP/1.1 101 ")
    with trio.fail_after(AT_ONCE):
        for n in range(IN_TURN):
            await peer.send(frame(TEXT, b"<%d>" % n))
            await peer.until(b"\x81\x03<%d>" % n)
    await peer.send(close(4000, b"enough"))
    assert await peer.to_end() == b"\x88\x08\x0f\xa0enough"


async def test_a_poll_is_held_until_there_is_something(
    proxy: Proxy, front: Server, serving: Serving
) -> None:
    asks, news = trio.Event(), trio.Event()

    async def app(request: Request) -> None:
        async with open_poll(request, cursor="1") as poll:
            asks.set()
            await news.wait()
            await poll.answer("news\n", cursor="2", content_type="text/plain")

    await serving(app, port=proxy.behind)
    peer = await asked(front, get("/?wait=20"))
    await happens(asks)
    news.set()
    answer = await peer.until(b"\r\n\r\nnews\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'etag: "2"\r\n' in answer.lower()


# -- Uploads --------------------------------------------------------------------------------------


class Receiver:
    """A handler that takes a body, and says when pieces of it come."""

    def __init__(self) -> None:
        self.body = b""
        self.length: str | None = None
        self.came = trio.Event()

    async def __call__(self, request: Request) -> None:
        self.length = request.headers.get("content-length")
        async for piece in request.stream():
            self.body += piece
            self.came.set()
            self.came = trio.Event()
        await request.respond(200, f"{len(self.body)} bytes\n")

    async def has(self, body: bytes) -> None:
        with trio.fail_after(PATIENCE):
            while not self.body.endswith(body):
                await self.came.wait()


POST = b"POST %b HTTP/1.1\r\nHost: localhost\r\n"


async def test_lines_are_passed_on_as_they_come(
    proxy: Proxy, front: Server, serving: Serving
) -> None:
    receiver = Receiver()
    await serving(receiver, port=proxy.behind)
    head = POST % b"/channels/news" + b"Transfer-Encoding: chunked\r\n\r\n"
    peer = await asked(front, head + b"4\r\none\n\r\n")
    await receiver.has(b"one\n")
    await peer.send(b"4\r\ntwo\n\r\n")
    await receiver.has(b"one\ntwo\n")
    assert receiver.length is None  # each line is an entry
    await peer.send(b"0\r\n\r\n")
    await peer.until(b"8 bytes\n")


async def test_large_uploads(proxy: Proxy, front: Server, serving: Serving) -> None:
    await serving(Receiver(), port=proxy.behind)
    body = b"x" * 2_000_000
    sized = POST % b"/channels/news" + b"Content-Length: %d\r\n\r\n" % len(body) + body
    assert (await answered(front, sized)).endswith(b"2000000 bytes\n")


@pytest.mark.parametrize("proxy", ["nginx"], indirect=True)
async def test_nginx_collects_other_bodies(proxy: Proxy, front: Server, serving: Serving) -> None:
    """As the file says, outside of the folder where lines come."""
    receiver = Receiver()
    await serving(receiver, port=proxy.behind)
    head = POST % b"/upload" + b"Transfer-Encoding: chunked\r\n\r\n"
    peer = await asked(front, head + b"4\r\none\n\r\n")
    await peer.send(b"4\r\ntwo\n\r\n0\r\n\r\n")
    await peer.until(b"8 bytes\n")
    assert receiver.length == "8"
    large = await asked(front, POST % b"/upload" + b"Content-Length: 2000000\r\n\r\n")
    assert (await large.has(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")


# -- Who asks, and who leaves ---------------------------------------------------------------------


LIES = (
    b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n"
    b"X-Forwarded-Host: evil.example\r\nForwarded: for=192.0.2.1\r\n"
)
"""Fields that only a proxy should send."""


async def test_what_clients_say_about_themselves_is_replaced(
    proxy: Proxy, front: Server, serving: Serving
) -> None:
    seen: dict[str, list[str]] = {}

    async def app(request: Request) -> None:
        for name, value in request.headers.items():
            seen.setdefault(name.lower(), []).append(value)
        await request.respond(200, "ok\n")

    await serving(app, port=proxy.behind)
    assert (await answered(front, get("/", LIES))).endswith(b"ok\n")
    assert seen["x-forwarded-for"] == ["127.0.0.1"]
    assert seen["x-forwarded-proto"] == ["http"]
    assert seen["x-forwarded-host"] == seen["host"] == ["localhost"]
    assert "forwarded" not in seen


CLIENT = "127.0.0.2"
"""Of the clients' addresses on loopback: not the proxies'."""


async def seen_from(port: int, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the server answers to a client with an address of its own, and its line of the access
    log, word by word."""
    caplog.set_level("INFO", "rawstream.access")
    stream = await trio.open_tcp_stream("127.0.0.1", port, local_address=CLIENT)
    async with stream:
        await stream.send_all(get("/", LIES + b"Connection: close\r\n"))
        answer = await Peer(stream).to_end()
    [line] = caplog.messages
    return [*answer.partition(b"\r\n\r\n")[2].decode().split(), *line.split()[:1]]


async def who(request: Request) -> None:
    await request.respond(200, f"{request.client} {request.scheme} {request.authority}\n")


async def test_the_server_believes_a_trusted_proxy(
    proxy: Proxy, serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    await serving(who, port=proxy.behind, trusted_proxies=["127.0.0.1"])
    assert await seen_from(proxy.port, caplog) == [CLIENT, "http", "localhost", CLIENT]


async def test_nginx_before_a_unix_socket(
    serving: Serving, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    lines = {
        f"server {BEHIND};": f"server {BEHIND} down;",
        "# server unix:/run/rawstream.sock;": f"server unix:{path};",
    }
    with proxy_before_nothing("nginx", tmp_path, lines) as nginx:
        await serving(who, unix=str(path), trusted_proxies=["unix"])
        assert await seen_from(nginx.port, caplog) == [CLIENT, "http", "localhost", CLIENT]


async def test_haproxy_speaks_the_proxy_protocol(
    serving: Serving, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    line = f"server one {BEHIND}"
    lines = {f"    {line}\n": f"    {line} send-proxy-v2\n"}
    with proxy_before_nothing("haproxy", tmp_path, lines) as haproxy:
        trusted = {"trusted_proxies": ["127.0.0.1"], "proxy_protocol": True}
        await serving(who, port=haproxy.behind, **trusted)
        assert await seen_from(haproxy.port, caplog) == [CLIENT, "http", "localhost", CLIENT]


@pytest.mark.parametrize("is_silent", [False, True])
async def test_the_server_notices_a_client_that_leaves(
    is_silent: bool, proxy: Proxy, front: Server, serving: Serving
) -> None:
    async def app(request: Request) -> None:
        if is_silent:  # nothing has been answered yet
            await trio.sleep_forever()
        async with open_events(request) as events:
            await events.send("hello")
            await trio.sleep_forever()

    watched = Watched(app)
    await serving(watched, port=proxy.behind)
    peer = await asked(front, get("/", EVENTS))
    await (happens(watched.started) if is_silent else peer.has(b"data: hello\n\n"))
    await peer.stream.aclose()
    await happens(watched.ended)


# -- A server that stops, is away, and is back ----------------------------------------------------


async def pushing(request: Request) -> None:
    """A WebSocket or an event stream that says hello; a page for anything else."""
    if "upgrade" in request.headers:
        async with open_websocket(request) as ws:
            await ws.send("hello")
            await trio.sleep_forever()
    elif "event-stream" in request.headers.get("accept", ""):
        async with open_events(request) as events:
            await events.send("hello")
            await trio.sleep_forever()
    else:
        await hello(request)


async def test_a_restart_seen_by_clients(
    proxy: Proxy, front: Server, serving: Serving, nursery: trio.Nursery
) -> None:
    server = await serving(pushing, port=proxy.behind)
    stream, ws = await asked(front, get("/", EVENTS)), await asked(front, handshake())
    begun = await stream.has(b"data: hello\n\n\r\n")
    await ws.has(b"hello")
    server.stop.set()
    whole = begun + await stream.to_end_of_chunks()
    body = unchunked(whole.partition(b"\r\n\r\n")[2])
    assert re.fullmatch(rb"data: hello\n\nretry: \d{4}\n\n", body)
    assert (await ws.until(b"the server is stopping"))[:4] == b"\x88\x18\x03\xe9"
    await ws.send(close(1001))
    assert await ws.to_end() == b""
    await happens(server.ended)

    await tells_event_sources_to_come_back(front)

    await serving(pushing, port=proxy.behind)
    await (await asked(front, get("/", EVENTS))).has(b"data: hello\n\n")
    assert (await answered(front, get("/"))).endswith(b"hello\n")


async def tells_event_sources_to_come_back(front: Server) -> None:
    """A proxy that has no answer from the server."""
    answers: dict[bytes, bytes] = {}

    async def ask(request: bytes) -> None:
        answers[request] = await answered(front, request)

    event_source, page = get("/", EVENTS), get("/")
    post = POST % b"/" + EVENTS + b"Content-Length: 1\r\n\r\nx"  # not an EventSource
    async with trio.open_nursery() as asking:
        for request in (event_source, page, post):
            asking.start_soon(ask, request)
    head, _, body = answers[event_source].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"content-type: text/event-stream" in head.lower()
    assert re.fullmatch(rb"retry: [1-5]\d{3}\n\n", body)
    for request in (page, post):
        assert re.match(rb"HTTP/1.1 50[23] ", answers[request])
        assert b"event-stream" not in answers[request].lower()


async def test_a_server_that_is_killed_before_it_answers(
    proxy: Proxy, front: Server, nursery: trio.Nursery
) -> None:
    async def cut(stream: trio.SocketStream) -> None:
        await stream.receive_some()

    serve = partial(trio.serve_tcp, cut, proxy.behind, host="127.0.0.1")
    await nursery.start(serve)
    await tells_event_sources_to_come_back(front)


async def test_errors_of_the_server_itself_are_passed_on(
    proxy: Proxy, front: Server, serving: Serving
) -> None:
    async def app(request: Request) -> None:
        raise Unavailable("full")

    await serving(app, port=proxy.behind)
    page, events = [await answered(front, get("/", accept)) for accept in (b"", EVENTS)]
    assert page.startswith(b"HTTP/1.1 503 ")
    assert page.endswith(b"503 Service Unavailable: full\n")
    assert events.startswith(b"HTTP/1.1 200 ")
    assert re.search(rb"\r\n\r\nretry: \d{4,5}\n\n\Z", events)


# -- systemd --------------------------------------------------------------------------------------

UNITS = ("rawstream.socket", "rawstream.service", "rawstream@.service")


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    paths = {"=/opt/app/.venv/bin": f"={Path(sys.executable).parent}", "=/opt/app\n": f"={ROOT}\n"}
    for name in UNITS:
        (tmp_path / name).write_text(deployed(name, paths if "service" in name else {}))
    verify = (program("systemd-analyze"), "verify", "--man=no")
    names = (str(tmp_path / name.replace("@", "@2")) for name in UNITS)
    done = subprocess.run([*verify, *names], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_process_is_started_in_the_same_way() -> None:
    one, further = ((FOLDER / name).read_text().partition("[Service]\n")[2] for name in UNITS[1:])
    assert further == "Sockets=rawstream.socket\n" + one
    assert f"ListenStream={BEHIND}\n" in (FOLDER / UNITS[0]).read_text()


SYSTEMD = """
keep() { while (LISTEN_PID=$BASHPID exec "$@"); do :; done; }
keep "$@" & keep "$@" & wait
"""
"""What systemd does with two services: both have the socket, and each is started again when it has
ended well."""

PIDS = """
import os

async def app(request):
    await request.respond(200, str(os.getpid()))
"""


@contextmanager
def two_processes(folder: Path, port: int) -> Iterator[None]:
    """Two servers on a socket that systemd's tool has opened."""
    (folder / "pids.py").write_text(PIDS)
    server = (sys.executable, "-m", "rawstream", "pids:app", "--no-access-log")
    activate = (program("systemd-socket-activate"), "-l", f"127.0.0.1:{port}")
    process = subprocess.Popen(
        [*activate, "-E", "PATH", "-E", "PYTHONPATH", "bash", "-c", SYSTEMD, "bash", *server],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    try:
        assert b"Listening on" in process.stderr.readline()
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()


async def test_restarts_lose_no_client_while_systemd_keeps_the_socket(tmp_path: Path) -> None:
    port = free_port()
    answers: list[int] = []
    came = trio.Condition()

    def question() -> socket.socket:
        """Both at once: a server that stops gives a client that it has accepted a moment to ask."""
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        return sock

    async def ask() -> None:
        """One client after the other. None of them may be refused, reset, or left without."""
        while True:
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(question()))
            async with stream:
                with trio.fail_after(PATIENCE * 2):
                    answer = b"".join([data async for data in stream])
            answers.append(int(answer.partition(b"\r\n\r\n")[2]))
            async with came:
                came.notify_all()

    async def others_answer(than: set[int]) -> set[int]:
        """Two processes that are not these, once both have answered."""
        async with came:
            while len(found := set(answers) - than) < 2:
                await came.wait()
        return found

    with two_processes(tmp_path, port):
        async with trio.open_nursery() as clients:
            for _ in range(8):
                clients.start_soon(ask)
            first = await others_answer(set())
            for pid in first:  # both at once: nobody accepts for a while
                os.kill(pid, signal.SIGTERM)
            count = len(answers)
            second = await others_answer(first)
            os.kill(min(second), signal.SIGTERM)  # one after the other
            await others_answer(first | {min(second)})
            clients.cancel_scope.cancel()
    assert len(answers) > count


# -- The documents --------------------------------------------------------------------------------


def test_the_files_are_described() -> None:
    linked = re.findall(r"\]\(([^)]*)\)", (FOLDER / "README.md").read_text())
    assert {*UNITS, "nginx.conf", "haproxy.cfg", "Caddyfile"} <= set(linked)
    assert all((FOLDER / name).exists() for name in linked)


def test_the_readme_shows_nginx_as_it_is() -> None:
    [lines] = fenced((ROOT / "README.md").read_text(), "nginx")
    [server] = re.findall(
        r"^    server \{\n(.*?)^    \}", (FOLDER / "nginx.conf").read_text(), re.M | re.S
    )
    assert lines in textwrap.dedent(server)
