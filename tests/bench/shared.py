"""What the servers, their load and the report share: names, payloads and the query of `/publish`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

RAWSTREAM = "rawstream"
BEFORE = "rawstream before"

PUBLISHER = "rawstream on Redis, the process that publishes"
READER = "rawstream on Redis, another process"
REDIS = "redis-server"
REDIS_URL = "BENCH_REDIS"
"""The variable of the environment that tells the servers where Redis is."""

UVICORN_H11 = "uvicorn (h11)"
UVICORN = "uvicorn (httptools, uvloop)"
HYPERCORN = "hypercorn (Trio)"
AIOHTTP = "aiohttp"
WEBSOCKETS = "websockets (uvloop)"
GRANIAN = "granian (Rust)"
NCHAN = "nginx with nchan (C)"
PEERS = (UVICORN_H11, UVICORN, HYPERCORN, AIOHTTP, GRANIAN, WEBSOCKETS, NCHAN)
WITHOUT_PLAIN_REQUESTS = (WEBSOCKETS, NCHAN)
"""Peers that have no handlers for plain requests."""

LOOP = "h11 in a loop on Trio"
LOOP2 = "h2 in a loop on Trio"
CODEC = "frames by hand"
WAIT = "wait, read and write on Trio"
SEND = "loop of send"
TASK = "Trio task and socket"
FLOORS = (LOOP, LOOP2, CODEC, WAIT, SEND, TASK)
"""Servers that do the same work on Trio with nothing around it."""

HELLO = b"hello\n"
ORDER = {"id": 7, "items": [{"name": "x" * 90, "count": n} for n in range(8)]}
"""The JSON of a POST, about 1 KiB."""
MESSAGE = "x" * 100
PIECE = b"x" * 65536


def publishing(query: Mapping[str, Sequence[str]]) -> tuple[int, float, int]:
    """Return count, rate and burst of a parsed query."""
    count, rate, burst = (float(query[name][0]) for name in ("count", "rate", "burst"))
    return int(count), rate, int(burst)
