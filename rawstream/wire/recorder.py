"""What passes on connections, on its way to those who look at it. Recording never waits: if nobody
looks in time, the recording of a connection ends, and that is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import NamedTuple, Protocol

import trio

from ..dissector import terms
from ..dissector.connection import Dissector
from ..dissector.http2.terms import HEADER_SECTION
from ..dissector.spans import Direction, Dissected, Piece
from ..limits import KIB, MIB
from ..stderr import logger

WAITING_BYTES = 16 * MIB
"""Of all connections together at most this much waits to be looked at."""
PIECE_BYTES = KIB
"""What a piece counts beside its bytes: its spans."""

_REQUESTS = (terms.REQUEST_LINE, HEADER_SECTION)
"""What says which path a request is for, over HTTP/1.1 and over HTTP/2."""


class Recorded(NamedTuple):
    """A piece of a connection. None: the recording ends here, before the connection does."""

    connection: int
    piece: Piece | None
    why: str = ""


class View(Protocol):
    """Shows what passes."""

    async def show(self, connection: int, dissected: Dissected) -> None:
        """Show a piece. The connections are numbered from 1."""

    async def lose(self, connection: int, why: str) -> None:
        """Say that the later pieces of a connection are not shown."""


class WireRecorder:
    """Collects the pieces of all connections in the order of time."""

    def __init__(self, *, on_demand: bool = False, left_out: str | None = None) -> None:
        """`on_demand`: only connections are recorded that are accepted while somebody looks; others
        do not even know of it. A connection is not recorded any further once it has carried a
        request for the path `left_out`: the one that the recording itself is sent over."""
        self._on_demand = on_demand
        self._looking = 0
        self._left_out = left_out
        self._ended = set[int]()  # connections that are not recorded any further
        self._began: float | None = None  # when the first connection was recorded
        self._count = 0
        self._waiting = 0  # bytes
        self._sender, self._receiver = trio.open_memory_channel[Recorded](inf)

    @contextmanager
    def looked_at(self) -> Iterator[None]:
        """Record, if it is done on demand, as long as this is open."""
        self._looking += 1
        try:
            yield
        finally:
            self._looking -= 1

    def open(self, client: str = "") -> WireTap | None:
        """A connection was accepted. Return its tap if it is to be recorded."""
        return None if self._on_demand and not self._looking else self.begin()

    def begin(self) -> WireTap:
        """Begin to record a connection."""
        if self._began is None:
            self._began = trio.current_time()
        self._count += 1
        return WireTap(self, self._count)

    def add(self, connection: int, direction: Direction, data: bytes) -> bool:
        """Add a piece, which passes now. Return False if no more of its connection is recorded."""
        if connection in self._ended:
            return False
        size = len(data) + PIECE_BYTES
        if self._waiting + size > WAITING_BYTES:
            self._ended.add(connection)
            self._sender.send_nowait(Recorded(connection, None, "too much at once"))
            return False
        self._waiting += size
        time = round(trio.current_time() - (self._began or 0), 6)
        self._sender.send_nowait(Recorded(connection, Piece(time, direction, data)))
        return True

    async def run(self, views: Sequence[View]) -> None:
        """Take the pieces apart, and show them in all views, until cancelled."""
        dissectors: dict[int, Dissector] = {}
        over = set[int]()  # connections of which no later piece is shown
        async with trio.open_nursery() as nursery:
            outlets = [_Outlet(view) for view in views]
            for outlet in outlets:
                nursery.start_soon(outlet.run)
            async for connection, piece, why in self._receiver:
                if piece is not None:
                    self._waiting -= len(piece.data) + PIECE_BYTES
                    if connection in over:
                        continue
                    dissector = dissectors.setdefault(connection, Dissector())
                    dissected, why = self._dissected(dissector, piece)
                    if dissected is not None:
                        for outlet in outlets:
                            outlet.show(connection, dissected)
                    if dissector.has_ended:
                        del dissectors[connection]
                if why and connection not in over:
                    over.add(connection)
                    self._ended.add(connection)
                    dissectors.pop(connection, None)
                    for outlet in outlets:
                        outlet.lose(connection, why)

    def _dissected(self, dissector: Dissector, piece: Piece) -> tuple[Dissected | None, str]:
        """What a piece tells; and if no later piece is to be shown, why. A defect of the dissector
        must not end the server."""
        try:
            dissected = dissector.feed(piece)
        except Exception:
            logger.exception("taking a connection apart failed")
            return None, "it could not be taken apart"
        if self._left_out is not None:
            asked = [span.value for span in dissected.completed if span.term in _REQUESTS]
            if any(value.partition("?")[0].endswith(self._left_out) for value in asked):
                return None, "from here on it carries this recording itself"
        return dissected, ""


class _Outlet:
    """What waits for one view. A view that is slow, such as a terminal behind a pager, delays no
    other."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._sender, self._receiver = trio.open_memory_channel[tuple[int, Dissected | str, int]](
            inf
        )  # a string: why the rest of the connection is not shown
        self._waiting = 0  # bytes
        self._lost = set[int]()

    def show(self, connection: int, dissected: Dissected) -> None:
        size = dissected.span.stop - dissected.span.start + PIECE_BYTES
        if connection in self._lost:
            return
        if self._waiting + size > WAITING_BYTES:
            self.lose(connection, "too much at once")
            return
        self._waiting += size
        self._sender.send_nowait((connection, dissected, size))

    def lose(self, connection: int, why: str) -> None:
        if connection in self._lost:
            return
        self._lost.add(connection)
        self._sender.send_nowait((connection, why, 0))

    async def run(self) -> None:
        try:
            async for connection, shown, size in self._receiver:
                self._waiting -= size
                if isinstance(shown, str):
                    await self._view.lose(connection, shown)
                else:
                    await self._view.show(connection, shown)
        except Exception:  # a full disk, for example: the traffic goes on
            logger.exception("a view of the wire has failed, and shows nothing any more")
            async for _ in self._receiver:
                pass


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
