"""A server process for tests: `python redis_app.py URL PATH` serves channels in the Redis at this
URL on a unix socket. It waits shortly for what it waits for."""

from __future__ import annotations

import logging
import sys

import rawstream
from rawstream import Channel, Limits, RedisChannels, Request, serve_channels
from rawstream.redis import link, store


def create(name: str) -> Channel:
    """A channel that holds all that a test publishes: no reader is too late."""
    return Channel(name, entries=1_000_000, size=1 << 30)


def main(url: str, path: str) -> None:
    """Serve until a signal comes."""
    store.RECONNECT_SECONDS = (0.01, 0.1)
    link.ANSWER_SECONDS = 0.3
    link.BLOCK_MILLISECONDS = 200
    logging.getLogger("coredis").setLevel(logging.CRITICAL)
    logging.basicConfig(level=logging.WARNING, format="%(process)d %(asctime)s %(message)s")
    channels = RedisChannels(url, create, lease_seconds=1)

    async def app(request: Request) -> None:
        await serve_channels(request, channels, request.path[1:])

    rawstream.run(app, unix=path, alongside=channels.run, limits=Limits(drain_seconds=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
