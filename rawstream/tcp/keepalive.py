"""Heartbeats, pings and idle time: one clock for all streams and connections, without a task each.

A stream or connection that has been silent for its interval comes due: a short-lived task sends a
comment or a ping, or ends an idle connection. Until then it costs one entry in a heap, which holds
a weak reference. What is due in a moment, as for every WebSocket that opens, waits in a queue,
which is cheaper.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import count
from math import inf
from typing import Protocol, TypeVar
from weakref import ref

import trio

from ..stderr import logger

MOMENT = 0.25
"""Seconds after which `after_a_moment` calls."""

CALLED_TOGETHER = 64
"""Functions that `after_a_moment` calls before other tasks run."""

SECOND_LOOK = 0.05
"""Seconds to wait once more for a peer if the process itself stood still."""

T = TypeVar("T")


def is_late(deadline: float) -> bool:
    """Return whether a deadline is noticed so late that the process must have stood still:
    stopped, suspended or starved. The peer may have been in time, unnoticed."""
    return trio.current_time() > deadline + 0.5


class Timed(Protocol):
    """A stream or connection that comes due when it has been silent for its interval."""

    interval: float
    """Seconds of silence until it is due, more than 0; infinite for never."""

    @property
    def last_active(self) -> float:
        """When it was last active, by `trio.current_time()`."""

    @property
    def active(self) -> bool:
        """False once it has ended. Checked when its entry comes up, which is then dropped."""

    def on_due(self) -> Awaitable[None] | None:
        """End an idle connection; or return what sends a heartbeat or a ping, which is awaited in a
        task of its own and must end when the connection closes."""


class KeepAliveScheduler:
    """Calls `on_due` for any number of streams and connections, from one task."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, ref[Timed]]] = []
        self._moments = deque[tuple[float, Callable[[], None]]]()
        self._tie = count()
        self._earlier = trio.Event()
        self._nursery: trio.Nursery | None = None

    def start_soon(self, function: Callable[[], Awaitable[None]]) -> None:
        """Run a function in a task of its own, unless everything is being cancelled. It must end
        when the connection that it works for closes. Its failure affects nothing else."""
        if self._nursery is not None:
            self._nursery.start_soon(self._contain, function())

    def after_a_moment(self, function: Callable[[], None]) -> None:
        """Call a function after `MOMENT`. It must not block."""
        if not self._moments:
            self._earlier.set()
        self._moments.append((trio.current_time() + MOMENT, function))

    def add(self, timed: Timed) -> None:
        """From now on, call `on_due` whenever `timed` has been silent for its interval.

        That ends when it is not active as it comes due, or after its `on_due`. Only then may
        it be added again.
        """
        self._push(timed.last_active + timed.interval, timed)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled, which also cancels all tasks that it has started."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            try:
                await self._call_all_due()
            finally:
                self._nursery = None  # it takes no more tasks from here on

    async def _call_all_due(self) -> None:
        while True:
            now = trio.current_time()
            if self._entries and is_late(self._entries[0][0]):
                await trio.sleep(SECOND_LOOK)
                now = trio.current_time()
            while self._entries and self._entries[0][0] <= now:
                timed = heapq.heappop(self._entries)[2]()
                if timed is None or not timed.active:
                    continue
                # It may have been active since its entry was made, and is then due later.
                due = timed.last_active + timed.interval
                if due <= now:
                    self._call(timed, now)
                else:
                    self._push(due, timed)
            for _ in range(CALLED_TOGETHER):
                if not self._moments or self._moments[0][0] > now:
                    break
                self._call_contained(self._moments.popleft()[1])
            next_entry = self._entries[0][0] if self._entries else inf
            next_moment = self._moments[0][0] if self._moments else inf
            with trio.move_on_at(min(next_entry, next_moment)):
                await self._earlier.wait()
                self._earlier = trio.Event()

    def _push(self, due: float, timed: Timed) -> None:
        if due == inf:
            return
        if not self._entries or due < self._entries[0][0]:
            self._earlier.set()
        heapq.heappush(self._entries, (due, next(self._tie), ref(timed)))

    def _call(self, timed: Timed, now: float) -> None:
        work = self._call_contained(timed.on_due)
        if work is not None:
            assert self._nursery is not None
            self._nursery.start_soon(self._attend, work, timed, now)
        elif timed.active:
            self._push(now + timed.interval, timed)

    def _call_contained(self, function: Callable[[], T]) -> T | None:
        """Call `function`. Its failure affects nothing else."""
        try:
            return function()
        except Exception:
            logger.exception("%r failed", function)
            return None

    async def _attend(self, work: Awaitable[None], timed: Timed, began: float) -> None:
        await self._contain(work)
        if timed.active:
            self._push(began + timed.interval, timed)

    async def _contain(self, work: Awaitable[None]) -> None:
        """Await `work`. Its failure affects nothing else."""
        try:
            await work
        except Exception:
            logger.exception("a heartbeat, a ping or other work for a connection failed")
