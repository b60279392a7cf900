"""Heartbeats, pings and idle time: one clock for all, so that none needs a task of its own.

What has been silent for its interval comes due: a short-lived task sends a comment or a ping, or
ends an idle connection. In between that costs one entry in a heap, which does not keep alive what
it stands for.
"""

from __future__ import annotations

import heapq
import logging
from itertools import count
from math import inf
from typing import Protocol
from weakref import ref

import trio

logger = logging.getLogger("rawstream")

SECOND_LOOK = 0.05
"""Seconds for which a peer is waited for once more, if the process itself stood still."""


def is_late(deadline: float) -> bool:
    """Whether a deadline is found out so late that the process must have stood still: stopped,
    suspended, or starved. A peer may have been in time and only not been seen."""
    return trio.current_time() > deadline + 0.5


class Timed(Protocol):
    """What comes due when it has been silent for too long."""

    interval: float
    """Seconds of silence until it is due, more than 0; infinite for never."""

    @property
    def last_active(self) -> float:
        """When it was last not silent, by `trio.current_time()`."""

    @property
    def active(self) -> bool:
        """False once it has ended. It is asked, and forgotten, when its entry comes up."""

    async def on_due(self) -> None:
        """Send a sign of life, or end what is idle. Must end when its connection closes."""


class KeepAliveScheduler:
    """Keeps any number of streams alive, from one task."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, ref[Timed]]] = []
        self._tie = count()
        self._earlier = trio.Event()

    def add(self, timed: Timed) -> None:
        """From now on call `on_due` whenever it has been silent for its interval, until it is not
        active when its time comes, or behind its `on_due`. To be added again only after that."""
        self._push(timed.last_active + timed.interval, timed)

    async def run(self) -> None:
        """Run until cancelled; the calls under way are cancelled too."""
        async with trio.open_nursery() as nursery:
            while True:
                now = trio.current_time()
                if self._entries and is_late(self._entries[0][0]):
                    await trio.sleep(SECOND_LOOK)
                    now = trio.current_time()
                while self._entries and self._entries[0][0] <= now:
                    timed = heapq.heappop(self._entries)[2]()
                    if timed is None or not timed.active:
                        continue
                    # It may have been active since its entry was made: then it is due later.
                    due = timed.last_active + timed.interval
                    if due <= now:
                        nursery.start_soon(self._call, timed)
                    else:
                        self._push(due, timed)
                with trio.move_on_at(self._entries[0][0] if self._entries else inf):
                    await self._earlier.wait()
                    self._earlier = trio.Event()

    def _push(self, due: float, timed: Timed) -> None:
        if due == inf:
            return
        if not self._entries or due < self._entries[0][0]:
            self._earlier.set()
        heapq.heappush(self._entries, (due, next(self._tie), ref(timed)))

    async def _call(self, timed: Timed) -> None:
        """`on_due`, whose failure is nobody else's."""
        began = trio.current_time()
        try:
            await timed.on_due()
        except Exception:
            logger.exception("keeping %r alive failed", timed)
        if timed.active:
            self._push(began + timed.interval, timed)
