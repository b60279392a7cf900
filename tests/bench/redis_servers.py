"""rawstream on Redis, as the benchmark runs it: any number of processes share a channel."""

from __future__ import annotations

import logging
import os
import time
from urllib.parse import parse_qs

from shared import MESSAGE, REDIS_URL, publishing

NAME = "fan"


def on_redis(port: int, *, access_log: bool) -> None:
    """Readers are on `/fan-events`. `/publish`, `/publish-stamped` and `/flood` publish."""
    import trio

    import rawstream

    channels = rawstream.RedisChannels(os.environ[REDIS_URL])
    publisher: trio.Nursery

    async def publish(count: int, rate: float, burst: int) -> None:
        for _ in range(count // burst):
            for _ in range(burst):
                publisher.start_soon(channels.publish, NAME, MESSAGE)
            await trio.sleep(burst / rate)

    async def publish_stamped(count: int, rate: float) -> None:
        for _ in range(count):
            await channels.publish(NAME, f"{time.monotonic_ns():020} {'x' * 79}")
            await trio.sleep(1 / rate)

    async def publish_all(count: int) -> None:
        for _ in range(count):
            await channels.publish(NAME, MESSAGE)

    async def flood(count: int, publishers: int) -> float:
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(publishers):
                nursery.start_soon(publish_all, count // publishers)
        return time.perf_counter() - began

    async def app(request: rawstream.Request) -> None:
        match request.path:
            case "/fan-events":
                await channels.ready(NAME)
                with channels.in_use(NAME) as channel:
                    await rawstream.serve_channel(request, channel)
            case "/publish":
                publisher.start_soon(publish, *publishing(parse_qs(request.query_string)))
                await request.respond(204)
            case "/publish-stamped":
                count, rate = int(request.query["count"]), float(request.query["rate"])
                publisher.start_soon(publish_stamped, count, rate)
                await request.respond(204)
            case "/flood":
                count, publishers = int(request.query["count"]), int(request.query["publishers"])
                await request.respond(200, f"{await flood(count, publishers)}\n")

    async def main() -> None:
        nonlocal publisher
        async with trio.open_nursery() as publisher:
            await publisher.start(channels.run)
            limits = rawstream.Limits(ping_seconds=3600, connections=12_000)
            await rawstream.serve(app, port=port, access_log=access_log, limits=limits)

    logging.disable()
    trio.run(main)
