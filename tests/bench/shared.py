"""What the servers, their load and the report share: names, payloads and the query of `/publish`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

RAWSTREAM = "rawstream"
ACCESS_LOG = "rawstream with access log"
BEFORE = "rawstream before"
OURS = (RAWSTREAM, ACCESS_LOG)

UVICORN_H11 = "uvicorn (h11)"
UVICORN = "uvicorn (httptools, uvloop)"
HYPERCORN = "hypercorn (Trio)"
AIOHTTP = "aiohttp"
WEBSOCKETS = "websockets (uvloop)"
NCHAN = "nginx with nchan (C)"
PEERS = (UVICORN_H11, UVICORN, HYPERCORN, AIOHTTP, WEBSOCKETS, NCHAN)

LOOP = "h11 in a loop on Trio"
CODEC = "frames by hand"
SEND = "loop of send"
TASK = "Trio task and socket"
FLOORS = (LOOP, CODEC, SEND, TASK)
"""Servers that do the same work on Trio with nothing around it."""

HELLO = b"hello\n"
MESSAGE = "x" * 100
PIECE = b"x" * 65536


def publishing(query: Mapping[str, Sequence[str]]) -> tuple[int, float, int]:
    """Return count, rate and burst of a parsed query."""
    count, rate, burst = (float(query[name][0]) for name in ("count", "rate", "burst"))
    return int(count), rate, int(burst)
