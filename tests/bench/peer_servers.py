"""The other servers: ASGI on uvicorn, hypercorn and granian, aiohttp, websockets, and nginx with
nchan."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from shared import HELLO, MESSAGE, PIECE, publishing

# -- ASGI -----------------------------------------------------------------------------------------


class OnAsyncio:
    """The queues, timers and tasks of an application on asyncio."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def queue(self) -> tuple[Callable[[str], None], Callable[[], Awaitable[str]]]:
        queue = asyncio.Queue[str]()
        return queue.put_nowait, queue.get

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class OnTrio:
    """The same on Trio."""

    def queue(self) -> tuple[Callable[[str], None], Callable[[], Awaitable[str]]]:
        import trio

        into, out = trio.open_memory_channel[str](2**30)
        return into.send_nowait, out.receive

    async def sleep(self, seconds: float) -> None:
        import trio

        await trio.sleep(seconds)

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        import trio

        trio.lowlevel.spawn_system_task(work)


runs_on: OnAsyncio | OnTrio = OnAsyncio()
queues: set[Callable[[str], None]] = set()


@contextmanager
def subscribed() -> Iterator[Callable[[], Awaitable[str]]]:
    put, get = runs_on.queue()
    queues.add(put)
    try:
        yield get
    finally:
        queues.discard(put)


async def publish_to_queues(count: int, rate: float, burst: int) -> None:
    for _ in range(count // burst):
        for _ in range(burst):
            for put in queues:
                put(MESSAGE)
        await runs_on.sleep(burst / rate)


def start_publishing(query: Mapping[str, Any]) -> None:
    runs_on.start(partial(publish_to_queues, *publishing(query)))


def counted(body: bytes) -> str:
    """The answer to a POST of an order."""
    order = json.loads(body)
    return json.dumps({"id": order["id"], "count": len(order["items"])}) + "\n"


async def asgi(
    scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]
) -> None:
    async def start(kind: bytes, *headers: tuple[bytes, bytes]) -> None:
        fields = [(b"content-type", kind), *headers]
        await send({"type": "http.response.start", "status": 200, "headers": fields})

    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/fan-ws":
            with subscribed() as get:
                while True:
                    await send({"type": "websocket.send", "text": await get()})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": message["bytes"]})
        return
    if scope["path"] == "/" or scope["path"].startswith("/hello/"):
        await start(b"text/plain", (b"content-length", b"6"))
        await send({"type": "http.response.body", "body": HELLO})
    elif scope["path"] == "/order":
        body = b""
        more = True
        while more:
            message = await receive()
            body += message["body"]
            more = message.get("more_body", False)
        answer = counted(body).encode()
        await start(b"application/json", (b"content-length", b"%d" % len(answer)))
        await send({"type": "http.response.body", "body": answer})
    elif scope["path"] == "/stream":
        await start(b"text/plain")
        for _ in range(int(parse_qs(scope["query_string"])[b"count"][0])):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    elif scope["path"] == "/publish":
        start_publishing(parse_qs(scope["query_string"].decode()))
        await start(b"text/plain", (b"content-length", b"0"))
        await send({"type": "http.response.body", "body": b""})
    elif scope["path"] == "/fan-events":
        await start(b"text/event-stream")
        with subscribed() as get:
            present = True

            async def watch() -> None:  # `send` does not report that the client has left
                nonlocal present
                while (await receive())["type"] != "http.disconnect":
                    pass
                present = False

            runs_on.start(watch)
            while present:
                event = b"data: %b\n\n" % (await get()).encode()
                await send({"type": "http.response.body", "body": event, "more_body": True})
    else:
        await start(b"text/event-stream")
        await send({"type": "http.response.body", "body": b"data: hello\n\n", "more_body": True})
        await receive()
        await receive()


def uvicorn_h11(port: int, *, access_log: bool) -> None:
    import uvicorn

    uvicorn.run(
        asgi, port=port, http="h11", loop="asyncio", access_log=access_log,
        log_level="info" if access_log else "error", ws_ping_interval=None,
    )  # fmt: skip


def uvicorn_uvloop(port: int, *, access_log: bool) -> None:
    import uvicorn

    uvicorn.run(
        asgi, port=port, http="httptools", loop="uvloop", access_log=access_log,
        log_level="info" if access_log else "error", ws_per_message_deflate=False,
        ws_ping_interval=None,
    )  # fmt: skip


def granian_server(port: int, *, access_log: bool) -> None:
    """It serves in a worker process of its own."""
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces

    Granian(
        "peer_servers:asgi", port=port, interface=Interfaces.ASGI, http=HTTPModes.http1,
        log_enabled=access_log, log_access=access_log, backlog=65535,
    ).serve()  # fmt: skip


def hypercorn_trio(port: int, *, access_log: bool) -> None:
    import trio
    from hypercorn.config import Config
    from hypercorn.trio import serve

    global runs_on
    runs_on = OnTrio()
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.errorlog = None
    config.accesslog = "-" if access_log else None
    config.backlog = 65535
    config.keep_alive_max_requests = 10**9
    trio.run(lambda: serve(asgi, config))


def aiohttp_server(port: int, *, access_log: bool) -> None:
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=HELLO, content_type="text/plain")

    async def order(request: web.Request) -> web.Response:
        return web.Response(text=counted(await request.read()), content_type="application/json")

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for _ in range(int(request.query["count"])):
            await response.write(PIECE)
        return response

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"data: hello\n\n")
        await asyncio.Event().wait()
        return response

    async def echo(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        async for message in ws:
            await ws.send_bytes(message.data)
        return ws

    async def publish(request: web.Request) -> web.Response:
        start_publishing(parse_qs(request.query_string))
        return web.Response(status=204)

    async def fan_events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        with subscribed() as get:
            while True:
                await response.write(b"data: %b\n\n" % (await get()).encode())

    async def fan_ws(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        with subscribed() as get:
            while True:
                await ws.send_str(await get())

    app = web.Application()
    app.router.add_get("/publish", publish)
    app.router.add_get("/fan-events", fan_events)
    app.router.add_get("/fan-ws", fan_ws)
    app.router.add_get("/", hello)
    app.router.add_get("/hello/{name}", hello)
    app.router.add_post("/order", order)
    app.router.add_get("/stream", stream)
    app.router.add_get("/events", events)
    app.router.add_get("/ws", echo)
    log = None
    if access_log:
        logging.basicConfig(level=logging.INFO)
        log = logging.getLogger("aiohttp.access")
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=log, backlog=65535)


def websockets_uvloop(port: int, *, access_log: bool) -> None:
    """Echo, and fan out with `broadcast`, which drops messages for slow readers."""
    import uvloop
    from websockets.asyncio.server import ServerConnection, broadcast, serve
    from websockets.http11 import Request, Response

    readers: set[ServerConnection] = set()

    async def publish(count: int, rate: float, burst: int) -> None:
        for _ in range(count // burst):
            for _ in range(burst):
                broadcast(readers, MESSAGE)
            await asyncio.sleep(burst / rate)

    async def handler(connection: ServerConnection) -> None:
        assert connection.request
        if connection.request.path == "/ws":
            async for message in connection:
                await connection.send(message)
            return
        readers.add(connection)
        try:
            await connection.wait_closed()
        finally:
            readers.discard(connection)

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        if not request.path.startswith("/publish"):
            return None
        runs_on.start(partial(publish, *publishing(parse_qs(request.path.partition("?")[2]))))
        return connection.respond(200, "")

    async def main() -> None:
        serving = serve(
            handler, "127.0.0.1", port, process_request=answer, compression=None, ping_interval=None
        )
        async with serving as server:
            await server.serve_forever()

    uvloop.run(main())


# -- nginx ----------------------------------------------------------------------------------------

NCHAN_MODULE = "/usr/lib/nginx/modules/ngx_nchan_module.so"
NGINX = """
load_module {module};
daemon off;
master_process off;
worker_rlimit_nofile 20000;
error_log stderr crit;
pid {folder}/pid;
events {{ worker_connections 16000; }}
http {{
    access_log {log};
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    nchan_shared_memory_size 512M;
    nchan_message_buffer_length 1000;
    server {{
        listen 127.0.0.1:{port} backlog=65535;
        location = /publish {{ nchan_publisher; nchan_channel_id all; }}
        location = /fan-events {{ nchan_subscriber eventsource; nchan_channel_id all; nchan_subscriber_first_message newest; }}
        location = /fan-ws {{ nchan_subscriber websocket; nchan_channel_id all; nchan_subscriber_first_message newest; }}
        location = /fan-all {{ nchan_subscriber eventsource; nchan_channel_id all; nchan_subscriber_first_message oldest; }}
    }}
}}
"""


def nginx_nchan(port: int, *, access_log: bool) -> None:
    """Replace this process with Debian's nginx and its module nchan, in one process."""
    folder = tempfile.mkdtemp()
    config = Path(folder, "nginx.conf")
    log = "/dev/stderr" if access_log else "off"
    config.write_text(NGINX.format(module=NCHAN_MODULE, folder=folder, port=port, log=log))
    os.execvp("nginx", ["nginx", "-p", folder, "-c", str(config)])
