"""A request body over HTTP/2. What its handler has not read yet is bounded by the window: a client
may send more only for what has been read (RFC 9113 section 5.2). Its length must be the declared
one (section 8.1.1)."""

from __future__ import annotations

from collections import deque

import trio

from ..limits import KIB
from ..tcp.keepalive import SECOND_LOOK, is_late
from .request_head import MalformedRequest

JOINED_BYTES = KIB
"""Pieces are joined up to this size. Frames of a byte each would else take a hundred times the
memory that the window allows."""


YIELD_EVERY_PIECES = 32
"""Pieces after which other tasks may run, even if more have arrived."""


class RequestBody:
    """The DATA of a request, as it arrives."""

    __slots__ = ("_arrived", "_missing", "_pieces", "_taken", "has_ended", "is_awaited", "is_cut")

    def __init__(self, length: int | None) -> None:
        """`length` is what the client has declared; None if nothing."""
        self.has_ended = False
        self.is_cut = False
        """Its end never comes, or is in the wrong place: what has arrived is not all."""
        self.is_awaited = False
        """Whether the client waits for a 100 before it sends any of it."""
        self._taken = 0  # pieces
        self._missing = length
        self._pieces = deque[tuple[bytes, int]]()
        self._arrived: trio.Event | None = None

    def add(self, data: bytes, size: int) -> None:
        """A piece has arrived, which counts `size` bytes in the window. Raises `MalformedRequest`
        for what is more than was declared."""
        if self._missing is not None:
            self._missing -= len(data)
        pieces = self._pieces
        if pieces and len(pieces[-1][0]) + len(data) <= JOINED_BYTES:
            before, its_size = pieces.pop()
            data, size = before + data, its_size + size
        pieces.append((data, size))
        if self._missing is not None and self._missing < 0:
            raise MalformedRequest("a body longer than its Content-Length")
        self._wake()

    def end(self) -> None:
        """There is no more. Raises `MalformedRequest` if that is less than was declared."""
        self.has_ended = True
        if self._missing:
            raise MalformedRequest("a body shorter than its Content-Length")
        self._wake()

    def cut(self) -> None:
        """There will be no more, and what there is is not all."""
        self.is_cut = True
        self._wake()

    def take(self) -> tuple[bytes, int] | None:
        """Return the next piece, and what it counts in the window; None if there is none yet."""
        if not self._pieces:
            return None
        self._taken += 1
        return self._pieces.popleft()

    @property
    def others_may_run(self) -> bool:
        """Whether the handler has taken so many pieces that other tasks should run."""
        return self._taken % YIELD_EVERY_PIECES == 0

    def drop(self) -> int:
        """Drop what has not been read, for good. Return what it counts in the window."""
        self.is_cut = True
        size = sum(size for _, size in self._pieces)
        self._pieces.clear()
        return size

    async def wait(self, seconds: float) -> bool:
        """Wait until something has arrived. Return False if that took too long."""
        self._arrived = trio.Event()
        try:
            with trio.move_on_after(seconds) as waiting:
                await self._arrived.wait()
                return True
            if is_late(waiting.deadline):
                with trio.move_on_after(SECOND_LOOK):
                    await self._arrived.wait()
                    return True
            return False
        finally:
            self._arrived = None

    def _wake(self) -> None:
        if self._arrived is not None:
            self._arrived.set()
