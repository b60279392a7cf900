"""The servers that the benchmark compares, one a process: `python servers.py NAME PORT`.

All answer alike: `/` with "hello", `/stream?count=N` with N pieces of 64 KiB, `/events` with one
event and silence, and a WebSocket echo on `/ws`. Those that fan out have their readers on
`/fan-events` and `/fan-ws`, and send each of them `count` messages of 100 bytes when asked for
`/publish?count=N&rate=N&burst=N`: so many a second, in bursts. (To nginx messages are posted, one by
one.)
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

PIECE = b"x" * 65536
HELLO = b"hello\n"
MESSAGE = "x" * 100


# -- Floors: what Trio and h11 cost with no server around them ------------------------------------


def bare(port: int) -> None:
    import h11
    import trio

    date = (b"Date", formatdate(usegmt=True).encode())  # made once: a floor does no more

    async def serve(stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            while (event := connection.next_event()) is h11.NEED_DATA:
                try:
                    connection.receive_data(await stream.receive_some(65536))
                except trio.BrokenResourceError:
                    return
            if type(event) is not h11.Request:
                return
            while type(connection.next_event()) is not h11.EndOfMessage:
                pass
            path, _, query = event.target.partition(b"?")
            if path == b"/":
                head = [date, (b"Content-Type", b"text/plain"), (b"Content-Length", b"6")]
                answer = connection.send(h11.Response(status_code=200, headers=head))
                answer += connection.send(h11.Data(data=HELLO))
                answer += connection.send(h11.EndOfMessage())
                await stream.send_all(answer)
            elif path == b"/stream":
                # The floor of a stream is a loop of `send_all`, without chunks.
                count = int(query.partition(b"=")[2])
                length = (b"Content-Length", b"%d" % (count * len(PIECE)))
                await stream.send_all(
                    connection.send(h11.Response(status_code=200, headers=[date, length]))
                )
                for _ in range(count):
                    await stream.send_all(PIECE)
                return
            else:
                return
            connection.start_next_cycle()

    async def serve_safely(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await serve(stream)

    trio.run(partial(trio.serve_tcp, serve_safely, port, host="127.0.0.1", backlog=65535))


def hand_codec(port: int) -> None:
    """An echo of frames cut, unmasked and made by hand, nothing checked: what a message costs at
    the least."""
    import trio
    from wsproto.utilities import generate_accept_token

    async def serve(stream: trio.SocketStream) -> None:
        head = await stream.receive_some(65536)
        key = next((x for x in head.split(b"\r\n") if x.startswith(b"Sec-WebSocket-Key:")), b": ")
        token = generate_accept_token(key.partition(b": ")[2])
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % token
        )
        buffer = b""
        while data := await stream.receive_some(65536):
            buffer = buffer + data if buffer else data
            start, answers = 0, []
            while len(buffer) - start >= 6 and len(buffer) - start >= buffer[start + 1] - 122:
                size = buffer[start + 1] & 0x7F  # messages of less than 126 bytes
                mask = int.from_bytes(buffer[start + 2 : start + 6] * (size // 4 + 1), "little")
                start += 6
                masked = int.from_bytes(buffer[start : start + size], "little")
                mask &= (1 << 8 * size) - 1
                answers.append(bytes((0x82, size)) + (masked ^ mask).to_bytes(size, "little"))
                start += size
            buffer = buffer[start:]
            await stream.send_all(b"".join(answers))

    async def serve_safely(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await serve(stream)

    trio.run(partial(trio.serve_tcp, serve_safely, port, host="127.0.0.1", backlog=65535))


def socket_only(port: int) -> None:
    """A task and its socket: the least that an idle client costs on Trio."""
    import trio

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        await trio.sleep_forever()

    trio.run(partial(trio.serve_tcp, serve, port, host="127.0.0.1", backlog=65535))


def bare_fan_out(port: int) -> None:
    """A loop of `send` over the sockets: what a message to each of them costs at the least."""
    import socket

    import trio

    sockets: list[socket.socket] = []
    # The bytes of an event in a chunk; the kernel does not mind which ones they are.
    data = b"6e\r\ndata: %b\n\n\r\n" % MESSAGE.encode()

    async def publish(count: int, rate: float, burst: int) -> None:
        for _ in range(count // burst):
            for _ in range(burst):
                for sock in sockets:
                    sock.send(data)
            await trio.sleep(burst / rate)

    async def serve(nursery: trio.Nursery, stream: trio.SocketStream) -> None:
        head = await stream.receive_some(65536)
        if not head:
            return
        target = head.split(b" ")[1].decode()
        if target.startswith("/publish"):
            nursery.start_soon(publish, *publishing(parse_qs(target.partition("?")[2])))
            await stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            return
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with socket.socket(fileno=os.dup(stream.socket.fileno())) as sock:
            sock.setblocking(False)
            sockets.append(sock)
            with suppress(trio.BrokenResourceError):
                await stream.receive_some(1)
            sockets.remove(sock)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            serving = partial(serve, nursery)
            await trio.serve_tcp(serving, port, host="127.0.0.1", backlog=65535)

    trio.run(main)


def publishing(query: Mapping[str, Any]) -> tuple[int, float, int]:
    """Count, rate and burst of a query."""
    count, rate, burst = (float(query[name][0]) for name in ("count", "rate", "burst"))
    return int(count), rate, int(burst)


# -- Ours -----------------------------------------------------------------------------------------


def rawstream_server(port: int, *, access_log: bool = False) -> None:
    import logging

    import trio

    import rawstream

    channel = rawstream.Channel()
    publisher: trio.Nursery

    async def publish(count: int, rate: float, burst: int) -> None:
        for _ in range(count // burst):
            for _ in range(burst):
                channel.publish(MESSAGE)
            await trio.sleep(burst / rate)

    async def publish_stamped(count: int, rate: float) -> None:
        for _ in range(count):
            channel.publish(f"{time.monotonic_ns():020} {'x' * 79}")
            await trio.sleep(1 / rate)

    async def app(request: rawstream.Request) -> None:
        match request.path:
            case "/fan-events" | "/fan-ws":
                await rawstream.serve_channel(request, channel)
            case "/publish":
                publisher.start_soon(publish, *publishing(parse_qs(request.query_string)))
                await request.respond(204)
            case "/publish-stamped":
                count, rate = int(request.query["count"]), float(request.query["rate"])
                publisher.start_soon(publish_stamped, count, rate)
                await request.respond(204)
            case "/":
                await request.respond(200, HELLO, content_type="text/plain")
            case "/stream":
                async with rawstream.open_stream(request, "text/plain") as stream:
                    for _ in range(int(request.query["count"])):
                        await stream.send(PIECE)
            case "/events":
                async with rawstream.open_events(request) as events:
                    await events.send("hello")
                    await trio.sleep_forever()
            case "/ws":
                async with rawstream.open_websocket(request) as ws:
                    async for message in ws:
                        await ws.send(message)

    async def main() -> None:
        nonlocal publisher
        async with trio.open_nursery() as publisher:
            # The load answers no pings, and 10,000 readers are not all of it.
            limits = rawstream.Limits(ping_seconds=3600, connections=12_000)
            await rawstream.serve(app, port=port, access_log=access_log, limits=limits)

    if access_log:
        logging.basicConfig(level=logging.INFO)
    else:
        logging.disable()
    trio.run(main)


# -- ASGI -----------------------------------------------------------------------------------------


class OnAsyncio:
    """What the ASGI application needs of what it runs on."""

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
    """The same for Trio."""

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
    if scope["path"] == "/":
        await start(b"text/plain", (b"content-length", b"6"))
        await send({"type": "http.response.body", "body": HELLO})
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

            async def watch() -> None:  # a send to who has left says nothing
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


def uvicorn_h11(port: int) -> None:
    import uvicorn

    uvicorn.run(
        asgi, port=port, http="h11", loop="asyncio", log_level="error", access_log=False,
        ws_ping_interval=None,
    )  # fmt: skip


def uvicorn_uvloop(port: int) -> None:
    import uvicorn

    uvicorn.run(
        asgi, port=port, http="httptools", loop="uvloop", log_level="error", access_log=False,
        ws_per_message_deflate=False, ws_ping_interval=None,
    )  # fmt: skip


def hypercorn_trio(port: int) -> None:
    import trio
    from hypercorn.config import Config
    from hypercorn.trio import serve

    global runs_on
    runs_on = OnTrio()
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.errorlog = None
    config.backlog = 65535
    config.keep_alive_max_requests = 10**9
    trio.run(lambda: serve(asgi, config))


def aiohttp_server(port: int) -> None:
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=HELLO, content_type="text/plain")

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
    app.router.add_get("/stream", stream)
    app.router.add_get("/events", events)
    app.router.add_get("/ws", echo)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None, backlog=65535)


def websockets_uvloop(port: int) -> None:
    """An echo, and websockets' own fan-out, which drops messages for who is slow."""
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

NGINX = """
load_module {module};
daemon off;
master_process off;
worker_rlimit_nofile 20000;
error_log stderr crit;
pid {folder}/pid;
events {{ worker_connections 16000; }}
http {{
    access_log off;
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


def nginx_nchan(port: int) -> None:
    """Debian's nginx with its module nchan, one process, which takes the place of this one."""
    folder = tempfile.mkdtemp()
    module = "/usr/lib/nginx/modules/ngx_nchan_module.so"
    config = Path(folder, "nginx.conf")
    config.write_text(NGINX.format(module=module, folder=folder, port=port))
    os.execvp("nginx", ["nginx", "-p", folder, "-c", str(config)])


SERVERS: dict[str, Callable[[int], None]] = {
    "bare loop of send": bare_fan_out,
    "codec by hand on Trio": hand_codec,
    "websockets on uvloop": websockets_uvloop,
    "bare Trio + h11 loop": bare,
    "bare Trio task": socket_only,
    "rawstream": rawstream_server,
    "rawstream, before": rawstream_server,
    "rawstream, access log on": lambda port: rawstream_server(port, access_log=True),
    "uvicorn, h11": uvicorn_h11,
    "uvicorn, httptools + uvloop": uvicorn_uvloop,
    "hypercorn on Trio": hypercorn_trio,
    "aiohttp": aiohttp_server,
    "nginx + nchan (C)": nginx_nchan,
}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](int(sys.argv[2]))
