"""The wire of other people's servers, through the proxy: what is seen is what they sent."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
import trio.testing
import websockets.sync.client
from peers import NGINX, PATIENCE, Curl, Serving, free_port, program
from proxies import Proxying, Shown

from rawstream import Request, open_events
from rawstream.dissector.spans import Direction

UVICORN = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        message = await receive()
        await send({"type": "websocket.send", "text": message["text"]})
        await send({"type": "websocket.close", "code": 4000, "reason": "enough"})
    elif scope["type"] == "http":
        fields = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        for n in range(3):
            body = b"data: %d\\n\\n" % n
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.sleep(0.01)
        await send({"type": "http.response.body"})
"""

AIOHTTP = """
import asyncio, sys
from aiohttp import web

async def answer(request):
    if request.headers.get("Upgrade"):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.send_str(await ws.receive_str())
        await ws.close(code=4000, message=b"enough")
        return ws
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for n in range(3):
        await response.write(b"data: %d\\n\\n" % n)
        await asyncio.sleep(0.01)
    return response

app = web.Application()
app.router.add_get("/", answer)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""


async def reached(port: int) -> None:
    """Wait until a server listens."""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
            except OSError:
                await trio.sleep(0.02)
            else:
                return


@asynccontextmanager
async def program_on(port: int, *command: str, folder: Path) -> AsyncIterator[None]:
    """A server in a process of its own; killed at the end."""
    with (folder / "log").open("wb") as log:
        process = await trio.lowlevel.open_process(command, cwd=folder, stdout=log, stderr=log)
        try:
            await reached(port)
            yield
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


async def talks_to(url: str, proxying: Proxying, curl: Curl) -> None:
    """Read events and use a WebSocket through the proxy; all of it is understood."""
    port, shown = await proxying(url)
    assert await curl("-N", f"http://127.0.0.1:{port}/") == (
        0,
        b"data: 0\n\ndata: 1\n\ndata: 2\n\n",
    )

    def talk() -> int | None:
        with websockets.sync.client.connect(f"ws://127.0.0.1:{port}/") as ws:
            ws.send("hello " * 50)
            assert ws.recv() == "hello " * 50
            try:
                ws.recv()
            except websockets.exceptions.ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else None
        return None

    assert await trio.to_thread.run_sync(talk) == 4000
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert shown.completed("event") == ["0", "1", "2"]
    assert shown.completed("message") == ["hello " * 50] * 2
    assert all(value.startswith("4000") for value in shown.completed("close"))
    assert not [s for _, step in shown.pieces for s in step.completed if s.mistake]


async def test_uvicorn(proxying: Proxying, curl: Curl, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(UVICORN)
    port = free_port()
    command = (sys.executable, "-m", "uvicorn", "served:app", "--port", str(port))
    async with program_on(port, *command, folder=tmp_path):
        await talks_to(f"http://127.0.0.1:{port}", proxying, curl)


async def test_aiohttp(proxying: Proxying, curl: Curl, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(AIOHTTP)
    port = free_port()
    async with program_on(port, sys.executable, "served.py", str(port), folder=tmp_path):
        await talks_to(f"http://127.0.0.1:{port}", proxying, curl)


async def three_events(request: Request) -> None:
    async with open_events(request) as events:
        for n in range(3):
            await events.send(str(n))
            await trio.sleep(0.15)


def times_of_events(shown: Shown) -> list[float]:
    """When the bytes of each event passed."""
    return [
        step.time
        for _, step in shown.pieces
        if step.direction is Direction.TO_CLIENT
        for span in step.completed
        if span.name == "event"
    ]


async def through_nginx(
    buffering: str, proxying: Proxying, serving: Serving, curl: Curl, folder: Path
) -> tuple[list[float], list[float]]:
    """When events pass behind nginx, and when before it."""
    nginx = program("nginx")
    server = await serving(three_events)
    behind, seen_behind = await proxying(server.url)
    port = free_port()
    more = f"proxy_buffering {buffering}; proxy_ignore_headers X-Accel-Buffering;"
    config = NGINX.format(port=port, behind=behind, more=more)
    (folder / "nginx.conf").write_text(config)
    command = (nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"))
    os.chmod(folder, 0o755)
    async with program_on(port, *command, folder=folder):
        before, seen_before = await proxying(f"http://127.0.0.1:{port}")
        status, body = await curl("-N", f"http://127.0.0.1:{before}/")
        assert (status, body.count(b"data:")) == (0, 3), (folder / "log").read_text()
        await trio.testing.wait_all_tasks_blocked(0.05)
    return times_of_events(seen_behind), times_of_events(seen_before)


async def test_nginx_holds_events_back_and_the_view_shows_where(
    proxying: Proxying, serving: Serving, curl: Curl, tmp_path: Path
) -> None:
    behind, before = await through_nginx("on", proxying, serving, curl, tmp_path)
    assert behind[-1] - behind[0] > 0.2, "our server sends them one by one"
    assert before[-1] - before[0] < 0.1, "the client gets them all at once"
    assert before[0] - behind[0] > 0


async def test_nginx_without_buffering_holds_nothing_back(
    proxying: Proxying, serving: Serving, curl: Curl, tmp_path: Path
) -> None:
    behind, before = await through_nginx("off", proxying, serving, curl, tmp_path)
    assert behind[-1] - behind[0] > 0.2
    assert before[-1] - before[0] > 0.2


async def test_http2_between_curl_and_nginx(
    proxying: Proxying, serving: Serving, curl: Curl, tmp_path: Path
) -> None:
    server, port = await serving(three_events), free_port()
    _, behind = server.url.rsplit(":", 1)
    config = NGINX.format(port=f"{port} http2", behind=behind, more="proxy_buffering off;")
    (tmp_path / "nginx.conf").write_text(config)
    command = (program("nginx"), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"))
    os.chmod(tmp_path, 0o755)
    async with program_on(port, *command, folder=tmp_path):
        before, shown = await proxying(f"http://127.0.0.1:{port}")
        url = f"http://127.0.0.1:{before}/?token=hunter2hunter2"
        status, body = await curl("-N", "--http2-prior-knowledge", url)
        assert (status, body.count(b"data:")) == (0, 3), (tmp_path / "log").read_text()
        await trio.testing.wait_all_tasks_blocked(0.05)
    assert shown.completed("event") == ["0", "1", "2"]
    assert shown.completed("header section") == ["GET /?token=***", "200"]
    assert not [s for _, step in shown.pieces for s in step.completed if s.mistake]
