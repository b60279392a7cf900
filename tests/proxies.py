"""The proxy of the wire view in a test's own process, and a view that keeps what it is shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from rawstream.dissector.spans import Direction, Dissected
from rawstream.wire.proxy import Target, serve_proxy
from rawstream.wire.recorder import WireRecorder


class Shown:
    """A view that keeps everything."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, Dissected]] = []
        self.lost: list[int] = []

    async def show(self, connection: int, dissected: Dissected) -> None:
        self.pieces.append((connection, dissected))

    async def lose(self, connection: int, why: str) -> None:
        self.lost.append(connection)

    def bytes_of(self, direction: Direction, connection: int = 1) -> bytes:
        """All bytes of one direction."""
        tiles = [
            tile
            for number, step in self.pieces
            for tile in (step.tiles if step.direction is direction else step.late)
            if number == connection
        ]
        return b"".join(tile.data for tile in tiles)

    def completed(self, name: str) -> list[str]:
        return [s.value for _, step in self.pieces for s in step.completed if s.name == name]


Proxying = Callable[..., Awaitable[tuple[int, Shown]]]


async def proxy_to(nursery: trio.Nursery, url: str, **options: Any) -> tuple[int, Shown]:
    """Start a proxy to this URL. Return its port, and what it shows."""
    recorder, shown = WireRecorder(), Shown()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = partial(serve_proxy, listeners, Target.parse(url), recorder, **options)
    nursery.start_soon(proxy)
    nursery.start_soon(recorder.run, [shown])
    port: int = listeners[0].socket.getsockname()[1]
    return port, shown
