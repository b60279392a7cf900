"""The wire view: our own connections, anybody's behind the proxy, and recordings; on a terminal."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import websockets.sync.client
from documents import fenced
from handlers import or_ok
from http2 import Pair, answering, asking
from peers import COMMAND, PATIENCE, Certificate, Curl, Serving, running
from proxies import Proxying, Shown
from wire import GET, TEXT, close, frame, get, handshake

import rawstream.server
from rawstream import Request, open_events, open_stream, open_websocket
from rawstream.__main__ import main
from rawstream.dissector.connection import Dissector
from rawstream.dissector.spans import Direction, Dissected, Layer, Piece
from rawstream.limits import KIB
from rawstream.tcp.listeners import tls_context
from rawstream.tcp.transport import Transport
from rawstream.wire.capture import BadCapture, CaptureWriter, read_capture
from rawstream.wire.ladder import Ladder
from rawstream.wire.proxy import ClientTls
from rawstream.wire.recorder import WAITING_BYTES, WireRecorder

TO_SERVER, TO_CLIENT = Direction
END = b""
CAPTURES = Path(__file__).parent / "captures"


# -- Our own connections --------------------------------------------------------------------------


async def talkative(request: Request) -> None:
    match request.path:
        case "/":
            await request.respond(200, await request.body() or b"hello\n")
        case "/stream":
            async with open_stream(request, "text/plain") as stream:
                for n in range(3):
                    await stream.send(b"piece %d" % n)
        case "/events":
            async with open_events(request) as events:
                await events.send("one", id="1")
                await events.send("two\nlines", event="tick")
        case "/ws":
            async with open_websocket(request) as ws:
                async for message in ws:
                    await ws.send(message)


POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"

EXCHANGES = {
    "GET": (get("/"), b"hello\n"),
    "POST": (POST, b"hello"),
    "pipelined": (get("/") + POST + get("/stream"), b"0\r\n\r\n"),
    "stream": (get("/stream"), b"0\r\n\r\n"),
    "events": (get("/events"), b"0\r\n\r\n"),
    "websocket": (handshake(head=b"GET /ws HTTP/1.1") + frame(TEXT, b"hi") + close(1000),
                  b"\x88\x02\x03\xe8"),
    "malformed": (b"GET / HTTP/9\r\n\r\n", b"\n"),
}  # fmt: skip


@pytest.mark.parametrize(("request_bytes", "ending"), EXCHANGES.values(), ids=EXCHANGES)
async def test_what_is_recorded_is_what_the_client_sent_and_received(
    serving_over_each_carrier: Serving, nursery: trio.Nursery, request_bytes: bytes, ending: bytes
) -> None:
    recorder, shown = WireRecorder(), Shown()
    server = await serving_over_each_carrier(talkative, recorder=recorder)
    peer = await server.connect()
    await peer.send(request_bytes)
    received = await peer.until(ending)
    await peer.stream.aclose()
    nursery.start_soon(recorder.run, [shown])
    with trio.fail_after(PATIENCE):
        while len([step for _, step in shown.pieces if step.span.name == "end"]) < 2:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert shown.bytes_of(TO_SERVER) == request_bytes
    assert shown.bytes_of(TO_CLIENT) == received


async def test_without_a_recorder_nothing_of_it_is_on_the_path(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Transport] = []

    class Noted(Transport):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr(rawstream.server, "Transport", Noted)
    peer = await (await serving(or_ok(talkative))).connect()
    await peer.send(GET)
    await peer.until(b"hello\n")
    assert [type(transport) for transport in made] == [Noted]
    source = (Path(rawstream.__file__).parent / "tcp" / "transport.py").read_text()
    assert not re.search(r"recorder|recording|\btap\b", source)


async def test_recording_is_bounded_and_says_so() -> None:
    recorder, shown = WireRecorder(), Shown()
    tap, other = recorder.begin(), recorder.begin()
    for _ in range(3):
        tap.received(bytes(WAITING_BYTES // 2 - 4 * KIB))
    other.received(b"")
    with trio.move_on_after(5) as running_views:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(recorder.run, [shown])
            await trio.testing.wait_all_tasks_blocked()
            tap.received(b"later")
            other.sent(b"")
            await trio.testing.wait_all_tasks_blocked()
            running_views.cancel()
    assert shown.lost == [1]
    assert [number for number, _ in shown.pieces] == [1, 1, 2, 2]


class Stuck(Shown):
    """A view that shows one piece, and then waits for ever."""

    async def show(self, connection: int, dissected: Dissected) -> None:
        await super().show(connection, dissected)
        await trio.sleep_forever()


async def test_a_view_that_is_stuck_delays_no_other(nursery: trio.Nursery) -> None:
    recorder, shown, stuck = WireRecorder(), Shown(), Stuck()
    nursery.start_soon(recorder.run, [stuck, shown])
    tap = recorder.begin()
    for _ in range(40):
        tap.received(bytes(WAITING_BYTES // 16))
        await trio.testing.wait_all_tasks_blocked()
    assert (len(stuck.pieces), len(shown.pieces)) == (1, 40)
    assert shown.lost == []


async def test_the_recorder_of_a_demo_rests_while_nobody_looks() -> None:
    """Then it records what is accepted; but nothing any more of a connection that begins to carry
    the recording."""
    recorder, shown = WireRecorder(on_demand=True, left_out="/own"), Shown()
    assert recorder.open() is None
    with recorder.looked_at():
        own = recorder.open()
        assert own is not None
        own.received(get("/before"))
        own.received(get("/own"))
        own.sent(b"the recording")
    assert recorder.open() is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recorder.run, [shown])
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert shown.bytes_of(TO_SERVER, 1) == get("/before")
    assert shown.bytes_of(TO_CLIENT, 1) == b""
    assert shown.lost == [1]


class Failing(Shown):
    """A view that cannot show anything."""

    async def show(self, connection: int, dissected: Dissected) -> None:
        raise OSError("no space left")


async def test_a_view_that_fails_ends_nothing(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    recorder, shown = WireRecorder(), Shown()
    nursery.start_soon(recorder.run, [Failing(), shown])
    tap = recorder.begin()
    for _ in range(3):
        tap.received(GET)
        await trio.testing.wait_all_tasks_blocked()
    assert len(shown.pieces) == 3
    assert caplog.text.count("a view of the wire has failed") == 1


async def test_a_defect_of_the_dissector_ends_nothing(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder, shown = WireRecorder(), Shown()
    nursery.start_soon(recorder.run, [shown])
    tap, other = recorder.begin(), recorder.begin()
    with monkeypatch.context() as patched:
        patched.setattr(Dissector, "feed", lambda *_: 1 // 0)
        tap.received(GET)
        await trio.testing.wait_all_tasks_blocked()
    tap.received(GET)
    other.received(GET)
    await trio.testing.wait_all_tasks_blocked()
    assert shown.lost == [1]
    assert [number for number, _ in shown.pieces] == [2]
    assert "taking a connection apart failed" in caplog.text


def over_http2(*paths: str) -> bytes:
    """Requests of a client of HTTP/2."""
    pair = Pair()
    pair.begin()
    for number, path in enumerate(paths):
        pair.client.send_headers(2 * number + 1, asking(path), end_stream=True)
    pair.flow()
    return pair.sent(TO_SERVER)


@pytest.mark.parametrize(
    "request_bytes",
    [
        get("/own?token=t"),
        get("/before") + get("/own"),
        b"\r\n" + get("/own"),
        get("http://localhost/own"),
        over_http2("/before", "/own?token=t"),
    ],
    ids=["token", "pipelined", "empty line", "whole URL", "HTTP/2"],
)
async def test_the_recording_is_not_recorded_however_it_is_asked_for(
    request_bytes: bytes, nursery: trio.Nursery
) -> None:
    recorder, shown = WireRecorder(left_out="/own"), Shown()
    nursery.start_soon(recorder.run, [shown])
    tap = recorder.begin()
    for n in range(len(request_bytes)):
        tap.received(request_bytes[n : n + 1])
    await trio.testing.wait_all_tasks_blocked()
    seen = len(shown.pieces)
    tap.sent(b"the recording")
    await trio.testing.wait_all_tasks_blocked()
    assert (len(shown.pieces), shown.lost) == (seen, [1])


async def test_the_server_prints_its_wire(curl: Curl) -> None:
    async with running("--port", "0", "--wire", "--layer", "http,sse") as server:
        assert b"id: 1\n" in (await curl("-N", "-m", "1.5", f"{server.url}/ticks"))[1]
        assert server.process.stdout is not None
        text = ""
        with trio.fail_after(PATIENCE):
            while "-> event" not in text:
                text += (await server.process.stdout.receive_some()).decode()
    assert "    http      request-line: GET /ticks\n" in text
    assert "client" not in text.partition("request-line")[2].partition("status-line")[0]
    assert max(map(len, text.partition("request-line")[2].splitlines())) <= 80


# -- Anybody's ------------------------------------------------------------------------------------


@asynccontextmanager
async def plain_server(
    serve: Callable[[trio.SocketStream], Awaitable[None]],
) -> AsyncIterator[str]:
    """A TCP server of the test's own. Yields its URL."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def test_the_proxy_passes_on_every_byte_as_it_came(proxying: Proxying) -> None:
    got: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        while data := await stream.receive_some():
            got.append(data)
            await stream.send_all(bytes(reversed(data)))

    async with plain_server(serve) as url:
        port, shown = await proxying(url)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        for piece in (b"\x00", bytes(range(256)), b"GET / HTTP/1.1\r\n", b"x" * 200_000):
            await stream.send_all(piece)
            answer = b""
            with trio.fail_after(PATIENCE):
                while len(answer) < len(piece):
                    answer += await stream.receive_some()
            if len(piece) < 60_000:
                assert answer == bytes(reversed(piece))
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.05)
    assert got[:3] == [b"\x00", bytes(range(256)), b"GET / HTTP/1.1\r\n"]
    assert shown.bytes_of(TO_SERVER) == b"".join(got)


async def test_a_half_close_is_passed_on_as_one(proxying: Proxying) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        body = b""
        while data := await stream.receive_some():
            body += data
        await stream.send_all(b"%d" % len(body))

    async with plain_server(serve) as url:
        port, _ = await proxying(url)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"four")
        await stream.send_eof()
        with trio.fail_after(PATIENCE):
            assert await stream.receive_some() == b"4"
            assert await stream.receive_some() == b""
        await stream.aclose()


@pytest.mark.parametrize("by_client", [True, False])
async def test_a_reset_is_passed_on_as_one(proxying: Proxying, by_client: bool) -> None:
    reset = struct.pack("ii", 1, 0)
    outcome: list[str] = []
    done = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        if not by_client:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            return
        try:
            outcome.append(repr(await stream.receive_some()))
        except trio.BrokenResourceError:
            outcome.append("reset")
        done.set()

    async with plain_server(serve) as url:
        port, _ = await proxying(url)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"x")
        with trio.fail_after(PATIENCE):
            if by_client:
                await trio.sleep(0.1)
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                await stream.aclose()
                await done.wait()
                assert outcome == ["reset"]
            else:
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
                await stream.aclose()


async def test_an_unreachable_server_resets_the_client(
    proxying: Proxying, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port, _ = await proxying(f"http://127.0.0.1:{unused.getsockname()[1]}")
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await stream.aclose()
    assert "connecting to 127.0.0.1" in caplog.text


def tls_for(certificate: Certificate, *protocols: str) -> ssl.SSLContext:
    chain, key = str(certificate.certfile), str(certificate.keyfile)
    return tls_context(chain, key, protocols=protocols)


def client_tls(certificate: Certificate) -> ClientTls:
    return ClientTls(tls_for(certificate, "http/1.1"), tls_for(certificate, "h2", "http/1.1"))


@pytest.mark.parametrize(
    ("server_speaks", "client_speaks", "spoken"),
    [
        (("http/1.1",), "--http2", "1.1"),
        (("h2", "http/1.1"), "--http1.1", "1.1"),
        (("h2", "http/1.1"), "--http2", "2"),
    ],
)
async def test_tls_on_both_sides(
    server_speaks: tuple[str, ...],
    client_speaks: str,
    spoken: str,
    serving: Serving,
    proxying: Proxying,
    certificate: Certificate,
    curl: Curl,
) -> None:
    server = await serving(
        talkative,
        tls=tls_for(certificate, *server_speaks),
        client_context=certificate.client_context,
    )
    port, shown = await proxying(server.url, tls=client_tls(certificate), verify=False)
    options = ("--cacert", str(certificate.ca), "-w", "HTTP/%{http_version}", client_speaks)
    status, output = await curl(*options, f"https://127.0.0.1:{port}/events")
    events = "id: 1\ndata: one\n\nevent: tick\ndata: two\ndata: lines\n\n"
    assert (status, output) == (0, f"{events}HTTP/{spoken}".encode())
    assert shown.completed("event") == ["one", "two\nlines"]


async def test_a_server_whose_certificate_is_not_trusted(
    serving: Serving, proxying: Proxying, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serving(
        talkative, tls=certificate.server_context, client_context=certificate.client_context
    )
    port, _ = await proxying(server.url)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    await stream.aclose()
    assert "certificate verify failed" in caplog.text


async def test_a_client_that_speaks_no_tls_ends_alone(
    serving: Serving, proxying: Proxying, certificate: Certificate, curl: Curl
) -> None:
    server = await serving(talkative)
    port, _ = await proxying(server.url, tls=client_tls(certificate))
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(GET)
    with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass
    await stream.aclose()
    assert (await curl("-k", f"https://127.0.0.1:{port}/"))[1] == b"hello\n"


async def test_compressed_websocket_messages_of_another_library(
    serving: Serving, proxying: Proxying
) -> None:
    async def compressing(request: Request) -> None:
        async with open_websocket(request, compression=True) as ws:
            async for message in ws:
                await ws.send(message)

    server = await serving(compressing)
    port, shown = await proxying(server.url)

    def talk() -> None:
        with websockets.sync.client.connect(f"ws://127.0.0.1:{port}/") as ws:
            for text in ("hello " * 100, "again " * 100, ""):
                ws.send(text)
                assert ws.recv() == text

    await trio.to_thread.run_sync(talk)
    await trio.testing.wait_all_tasks_blocked(0.05)
    sent = ["hello " * 100, "again " * 100, ""]
    assert sorted(shown.completed("message")) == sorted(sent * 2)
    assert not [s for _, step in shown.pieces for s in step.completed if s.mistake]


# -- Recordings -----------------------------------------------------------------------------------


def replayed(*arguments: str) -> str:
    done = subprocess.run(
        [*COMMAND, "wire", *arguments], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("capture", sorted(CAPTURES.glob("*.jsonl")), ids=lambda path: path.stem)
def test_the_ladder_of_a_recording(capture: Path) -> None:
    text = replayed(str(capture))
    assert text == capture.with_suffix(".txt").read_text()
    assert max(map(len, text.splitlines())) <= 80
    assert text.isascii()


def test_a_reader_that_leaves_is_no_failure() -> None:
    process = subprocess.Popen(
        [*COMMAND, "wire", str(CAPTURES / "websocket.jsonl")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(20) == 0
    process.stderr.close()


async def test_the_server_goes_on_when_nobody_reads_its_wire(curl: Curl) -> None:
    async with running("--port", "0", "--wire") as server:
        assert server.process.stdout is not None
        assert await curl(f"{server.url}/hello") == (0, b"hello\n")
        printed = b""
        with trio.fail_after(PATIENCE):
            while b" end -" not in printed:  # behind the announcement, which has to be read
                printed += await server.process.stdout.receive_some()
        await server.process.stdout.aclose()
        for _ in range(3):
            assert await curl(f"{server.url}/hello") == (0, b"hello\n")


def test_the_readme_shows_an_event_in_its_chunk_and_in_its_frame() -> None:
    chunk, frame = fenced((CAPTURES.parent.parent / "README.md").read_text(), "text")
    assert chunk.strip("\n") in (CAPTURES / "events.txt").read_text()
    assert frame.strip("\n") in (CAPTURES / "http2-events.txt").read_text()


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    pieces = [
        Piece(0, TO_SERVER, handshake(b"Cookie: secret")),
        Piece(0.25, TO_SERVER, frame(TEXT, b"ea")[:3]),  # before the answer
        Piece(0.5, TO_SERVER, frame(TEXT, b"ea")[3:]),
        Piece(1, TO_CLIENT, b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n\x81\x01\xff"),
        Piece(2, TO_CLIENT, b""),
        Piece(3, TO_SERVER, b""),
    ]
    dissector = Dissector()
    with open(tmp_path / "saved", "w", encoding="utf-8") as file:
        writer = CaptureWriter(file)
        for piece in pieces:
            trio.run(writer.show, 1, dissector.feed(piece))
    with open(tmp_path / "saved", encoding="utf-8") as file:
        read = sorted(read_capture(file), key=lambda read: read[1].time)
    masked = pieces[0].data.replace(b"secret", b"******")
    assert read == [(1, Piece(0, TO_SERVER, masked)), *((1, piece) for piece in pieces[1:])]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "line 1: a recording begins with"),
        (["{}"], "line 1: a recording begins with"),
        (["not JSON"], "line 2: not a piece"),
        (['{"connection": 1, "time": 0, "to": "nobody", "bytes": ""}'], "line 2: not a piece"),
        (['{"connection": 1, "time": 0, "to": "client", "bytes": "\\u0100"}'], "line 2: not a"),
        (["[]"], "line 2: not a piece"),
    ],
)
def test_what_is_no_recording(lines: list[str], says: str) -> None:
    first = ['{"rawstream-wire": 1}'] if lines and lines != ["{}"] else []
    with pytest.raises(BadCapture) as caught:
        list(read_capture(StringIO("\n".join([*first, *lines]))))
    [line] = str(caught.value).splitlines()
    assert line.startswith(says)


def test_to_print_what_is_no_recording_is_one_line_and_status_1(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    path.write_text('{"rawstream-wire": 1}\n[]')
    done = subprocess.run(
        [*COMMAND, "wire", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"rawstream: {path}: line 2: not a piece")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name a server (--to URL) or a recording (FILE)"),
        (["a", "--to", "http://b"], "name a server (--to URL) or a recording (FILE)"),
        (["--to", "localhost:5000"], "is no URL of a server"),
        (["--to", "http://a/path"], "leave out what follows the port"),
        (["--to", "http://a", "--layer", "smtp"], "smtp"),
        (["--to", "http://a", "--keyfile", "x"], "--keyfile needs --certfile"),
        (["--to", "http://a", "--certfile", "x", "--dev-cert"], "not allowed with argument"),
        (["--to", "http://a", "--port", "99999"], "a port is a number"),
    ],
)
def test_bad_options(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["wire", *arguments])
    assert caught.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such-file"], "no-such-file: No such file or directory"),
        (["--to", "http://a", "--certfile", "no-such-file"], "no-such-file: No such file"),
        (["--to", "http://a", "--save", "/no/folder/x"], "/no/folder/x: No such file"),
    ],
)
def test_what_cannot_be_opened(arguments: list[str], says: str) -> None:
    done = subprocess.run(
        [*COMMAND, "wire", *arguments], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 1
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


async def test_a_proxy_that_saves_and_prints(curl: Curl, serving: Serving, tmp_path: Path) -> None:
    server = await serving(talkative)
    saved = str(tmp_path / "saved.jsonl")
    process = await trio.lowlevel.open_process(
        [*COMMAND, "wire", "--to", server.url, "--port", "0", "--save", saved], stdout=-1, stderr=-1
    )
    try:
        assert process.stdout is not None
        text = ""
        with trio.fail_after(PATIENCE * 2):
            while not (found := re.search(r"wire on (http\S+), to", text)):
                text += (await process.stdout.receive_some()).decode()
            assert (await curl(f"{found[1]}/stream"))[1] == b"piece 0piece 1piece 2"
            while text.count("- end -") < 2:
                text += (await process.stdout.receive_some()).decode()
        process.terminate()
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
    printed = text.split("\n", 2)[2]
    assert "http      chunk-size: 7\n" in printed
    assert replayed(saved) == printed


# -- The ladder -----------------------------------------------------------------------------------


def ladder_of(*pieces: Piece, **options: Any) -> str:
    ladder, dissector = Ladder(**options), Dissector()
    lines = [line for piece in pieces for line in ladder.lines(1, dissector.feed(piece))]
    return "\n".join(lines)


def test_layers_pauses_and_sentences() -> None:
    asked = Piece(0, TO_SERVER, GET)
    answered = Piece(2.5, TO_CLIENT, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    both = ladder_of(asked, answered)
    assert "... 2.5 s later" in both
    only_tcp = ladder_of(asked, answered, layers=(Layer.TCP,))
    assert re.findall(r"client (\S+) (.*?) (\S+) server", only_tcp) == [
        ("----------", "35 bytes", "---------->"),
        ("<----------", "40 bytes", "----------"),
    ]
    explained = ladder_of(asked, answered, explain=True)
    assert "What the client wants done with the resource." not in explained  # it has no row
    assert explained.count("The first line of a request") == 1
    assert "\033[" not in both
    assert "\033[34m" in ladder_of(asked, color=True)


def test_http2_on_the_ladder() -> None:
    """One row for each head of a frame, then its fields or its data in the layers above."""
    pair = Pair()
    pair.begin()
    pair.client.send_headers(1, asking("/ticks?token=secret"), end_stream=True)
    pair.flow()
    pair.server.send_headers(1, answering(200, b"text/event-stream"))
    pair.server.send_data(1, b"data: one\n\n", end_stream=True)
    pair.flow()
    pieces = [Piece(0, *piece) for piece in pair.pieces]
    text = ladder_of(*pieces)
    assert "http2     HEADERS: stream 1, END_HEADERS, END_STREAM, " in text
    assert ".......1 END_STREAM: its sender sends nothing more on this stream" in text
    assert "http      -> header section: GET /ticks?token=***\n" in text
    assert "windows: stream 1 65,535 -> 65,524, connection 65,535 -> 65,524\n" in text
    assert "sse       -> event: one\n" in text
    assert max(map(len, text.splitlines())) <= 80
    without = ladder_of(*pieces, layers=(Layer.HTTP, Layer.EVENTS))
    assert "http      content: 11 bytes, which follow\n" in without
    assert "HEADERS" not in without
    assert "Carries the fields of a message" not in text
    explained = ladder_of(*pieces, explain=True)
    assert explained.count("RFC 9113 section 6.2)") == 1


def test_an_event_that_the_end_cuts_off_is_shown_with_the_end() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    pieces = (Piece(0, TO_SERVER, GET), Piece(0, TO_CLIENT, head + b"data: half\n"))
    text = ladder_of(*pieces, Piece(0, TO_CLIENT, END))
    assert "-> event\n" in text.partition("- end -")[2]
    assert text.endswith("cut off: the bytes end here")


def test_control_characters_do_not_reach_the_terminal() -> None:
    text = ladder_of(Piece(0, TO_SERVER, b"GET /\x1b]0;title\x07 HTTP/1.1\r\nX: \x9b31m\r\n\r\n"))
    assert text.replace("\n", "").isprintable()


def test_long_content_is_shortened_unless_asked_for() -> None:
    pieces = (
        Piece(0, TO_SERVER, GET),
        Piece(0, TO_CLIENT, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + bytes(1000)),
    )
    assert "... 936 more bytes" in ladder_of(*pieces)
    assert ladder_of(*pieces, all_bytes=True).count("00 00 00") > 60
