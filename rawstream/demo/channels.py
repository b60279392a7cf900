"""The channels of the demo, and a way to cut the connection of a reader."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..channels.registry import Channels
from ..channels.serving import serve_channels
from ..errors import HTTPError
from ..http.exchange import Exchange
from ..http.origin import check_origin
from ..http.request import Request

channels = Channels(max_channels=100, idle_seconds=3600)
readers: dict[str, Exchange] = {}


async def channel(request: Request, name: str) -> None:
    """`/channels/NAME`: everything `serve_channels` does. `?reader=KEY` names the connection for
    `cut`."""
    with _named(request, request.query.get("reader", "")):
        await serve_channels(request, channels, name)


@contextmanager
def _named(request: Request, key: str) -> Iterator[None]:
    readers[key] = request.exchange
    try:
        yield
    finally:
        if readers.get(key) is request.exchange:
            del readers[key]


async def cut(request: Request) -> None:
    """`POST /cut?reader=KEY`: cut the connection of a reader without warning, as a network
    might."""
    check_origin(request)
    exchange = readers.get(request.query.get("reader") or "-")
    if exchange is None:
        raise HTTPError(404, "there is no reader with this key")
    exchange.cancel("cut")
    await request.respond(204)
