"""The servers that the benchmark compares, one a process: `python servers.py NAME PORT [access-log]`.

All of them answer the same requests:

    / and /hello/...    "hello"
    /order              the JSON of a POST, its items counted
    /stream?count=N     N pieces of 64 KiB
    /events             one event, then silence
    /ws                 a WebSocket that echoes messages

Servers that fan out have their readers on `/fan-events` and `/fan-ws`. On
`/publish?count=N&rate=N&burst=N` they send each reader N messages of 100 bytes, at this rate a
second and in such bursts. (nchan has no such request: the load posts messages to it.)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from urllib.parse import parse_qs

import floors
import peer_servers
import redis_servers
import shared
from shared import HELLO, MESSAGE, PIECE, publishing


def ours(port: int, *, access_log: bool) -> None:
    import json
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
            case "/order":
                order = json.loads(await request.body())
                await request.respond(200, json={"id": order["id"], "count": len(order["items"])})
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
            case _:
                await request.respond(200, HELLO, content_type="text/plain")

    async def main() -> None:
        nonlocal publisher
        async with trio.open_nursery() as publisher:
            # The load answers no pings, and opens more than 10,000 connections.
            limits = rawstream.Limits(ping_seconds=3600, connections=12_000)
            await rawstream.serve(app, port=port, access_log=access_log, limits=limits)

    if access_log:
        logging.basicConfig(level=logging.INFO)
    else:
        logging.disable()
    trio.run(main)


SERVERS: dict[str, Callable[..., None]] = {
    shared.LOOP: floors.loop,
    shared.LOOP2: floors.h2_loop,
    shared.CODEC: floors.codec,
    shared.WAIT: floors.wait,
    shared.SEND: floors.send,
    shared.TASK: floors.task,
    shared.RAWSTREAM: ours,
    shared.BEFORE: ours,
    shared.PUBLISHER: redis_servers.on_redis,
    shared.READER: redis_servers.on_redis,
    shared.UVICORN_H11: peer_servers.uvicorn_h11,
    shared.UVICORN: peer_servers.uvicorn_uvloop,
    shared.HYPERCORN: peer_servers.hypercorn_trio,
    shared.AIOHTTP: peer_servers.aiohttp_server,
    shared.GRANIAN: peer_servers.granian_server,
    shared.WEBSOCKETS: peer_servers.websockets_uvloop,
    shared.NCHAN: peer_servers.nginx_nchan,
}

if __name__ == "__main__":
    name, port, *options = sys.argv[1:]
    if name in shared.FLOORS:
        SERVERS[name](int(port))
    else:
        SERVERS[name](int(port), access_log="access-log" in options)
