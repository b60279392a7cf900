"""The channels of the demo, and a way to cut the connection of a reader."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from ..errors import HTTPError
from ..http.exchange import Exchange
from ..http.origin import check_origin
from ..http.request import Request
from ..named_channels.registry import Channels
from ..named_channels.serving import serve_channels

MAX_CHANNELS = 100
IDLE_SECONDS = 3600

channels = Channels(max_channels=MAX_CHANNELS, idle_seconds=IDLE_SECONDS)
readers: dict[str, Exchange] = {}


def share(url: str) -> Callable[[], Awaitable[None]]:
    """Keep the channels in the Redis at this URL, and return what has to run beside the server.
    Raises `ImportError` without the extra `[redis]`, and `ValueError` for another kind of URL."""
    global channels
    from ..redis.channels import RedisChannels

    channels = shared = RedisChannels(url, max_channels=MAX_CHANNELS, idle_seconds=IDLE_SECONDS)
    return shared.run


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
