"""What passes on connections, on its way to those who look at it. Recording never waits: if nobody
looks in time, the recording of a connection ends, and that is shown."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple, Protocol

import trio

from ..dissector.connection import Dissector
from ..dissector.spans import Direction, Dissected, Piece
from ..limits import MIB

WAITING_BYTES = 16 * MIB
"""Of all connections together at most this much waits to be looked at."""


class Recorded(NamedTuple):
    """A piece of a connection. None: too much was waiting, and no later piece follows."""

    connection: int
    piece: Piece | None


class View(Protocol):
    """Shows what passes."""

    async def show(self, connection: int, dissected: Dissected) -> None:
        """Show a piece. The connections are numbered from 1."""

    async def lose(self, connection: int) -> None:
        """Say that the later pieces of a connection are not shown."""


class WireRecorder:
    """Collects the pieces of all connections in the order of time."""

    def __init__(self) -> None:
        self._began: float | None = None  # when the first connection was accepted
        self._count = 0
        self._waiting = 0  # bytes
        self._sender, self._receiver = trio.open_memory_channel[Recorded](inf)

    def open(self, client: str = "") -> WireTap:
        """Begin to record a connection."""
        if self._began is None:
            self._began = trio.current_time()
        self._count += 1
        return WireTap(self, self._count)

    def add(self, connection: int, direction: Direction, data: bytes) -> bool:
        """Add a piece, which passes now. Return False if there was no room for it."""
        fits = self._waiting + len(data) <= WAITING_BYTES
        self._waiting += len(data) if fits else 0
        time = round(trio.current_time() - (self._began or 0), 6)
        piece = Piece(time, direction, data)
        self._sender.send_nowait(Recorded(connection, piece if fits else None))
        return fits

    async def run(self, views: Sequence[View]) -> None:
        """Take the pieces apart, and show them in all views, until cancelled."""
        dissectors: dict[int, Dissector] = {}
        async for connection, piece in self._receiver:
            if piece is None:
                dissectors.pop(connection, None)
                for view in views:
                    await view.lose(connection)
                continue
            self._waiting -= len(piece.data)
            dissector = dissectors.setdefault(connection, Dissector())
            dissected = dissector.feed(piece)
            if dissector.has_ended:
                del dissectors[connection]
            for view in views:
                await view.show(connection, dissected)


class WireTap:
    """Records one connection."""

    def __init__(self, recorder: WireRecorder, connection: int) -> None:
        self._recorder = recorder
        self._connection = connection
        self._open = set(Direction)
        """The directions that have not ended; none if the recording has."""

    def record(self, direction: Direction, data: bytes) -> None:
        """Record the bytes of one read or write; b"": the direction has ended."""
        if direction not in self._open:
            return
        if not data:
            self._open.discard(direction)
        if not self._recorder.add(self._connection, direction, data):
            self._open.clear()

    def received(self, data: bytes) -> None:
        """As a tap of a server's transport."""
        self.record(Direction.TO_SERVER, data)

    def sent(self, data: bytes) -> None:
        self.record(Direction.TO_CLIENT, data)

    def closed(self) -> None:
        for direction in Direction:
            self.record(direction, b"")
