"""Heartbeats, pings and idle time: one clock for all, so that none needs a task of its own.

What is silent for its interval is given a beat: a short-lived task that sends a comment or a
ping, or ends an idle connection. Between beats that costs one entry in a heap, which does not
keep alive what it stands for.
"""

from __future__ import annotations

import heapq
import logging
from itertools import count
from math import inf
from typing import Protocol
from weakref import ref

import trio

SECOND_LOOK = 0.05
"""Seconds for which a peer is waited for once more, if the process itself stood still."""


def is_late(deadline: float) -> bool:
    """Whether a deadline is found out so late that the process must have stood still: stopped,
    suspended, or starved. A peer may have been in time and only not been seen."""
    return trio.current_time() > deadline + 0.5


logger = logging.getLogger("rawstream")


class Beating(Protocol):
    """What has a pulse."""

    interval: float
    """Seconds of silence until the next beat is due, more than 0; infinite for never."""
    last_sent: float
    """When it was last not silent, by `trio.current_time()`; moved on by its owner."""

    @property
    def beating(self) -> bool:
        """False once it has ended. It is asked, and forgotten, when its entry comes up."""

    async def beat(self) -> None:
        """Send a sign of life. Must end when its connection closes."""


class Pacemaker:
    """Beats for any number of streams, from one task."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, ref[Beating]]] = []
        self._tie = count()
        self._earlier = trio.Event()

    def pace(self, stream: Beating) -> None:
        """From now on give `stream` a beat whenever it has been silent for its interval."""
        self._push(stream.last_sent + stream.interval, stream)

    async def run(self) -> None:
        """Beat until cancelled; the beats under way are cancelled too."""
        async with trio.open_nursery() as nursery:
            while True:
                now = trio.current_time()
                if self._due and is_late(self._due[0][0]):
                    await trio.sleep(SECOND_LOOK)
                    now = trio.current_time()
                while self._due and self._due[0][0] <= now:
                    stream = heapq.heappop(self._due)[2]()
                    if stream is None or not stream.beating:
                        continue
                    # It may have sent since its entry was made: then it is due later.
                    due = stream.last_sent + stream.interval
                    if due <= now:
                        nursery.start_soon(_beat, stream)
                        due = now + stream.interval
                    self._push(due, stream)
                with trio.move_on_at(self._due[0][0] if self._due else inf):
                    await self._earlier.wait()
                    self._earlier = trio.Event()

    def _push(self, due: float, stream: Beating) -> None:
        if due == inf:
            return
        if not self._due or due < self._due[0][0]:
            self._earlier.set()
        heapq.heappush(self._due, (due, next(self._tie), ref(stream)))


async def _beat(stream: Beating) -> None:
    """A beat, whose failure is nobody else's."""
    try:
        await stream.beat()
    except Exception:
        logger.exception("a heartbeat failed")
