"""Writing to all readers of a log that are caught up, at once.

Their tasks are not woken: once in a pass of the scheduler each gets one `try_write`, of bytes
that were encoded once for all, with everything that was published since the last pass. If that
fails for a reader, its task is woken and sends the rest from its position. This file does not
know what a reader is written to through, only that it is a `Sink`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterator
from typing import Protocol
from weakref import WeakSet

import trio

from ..entries.batches import Batches, Format
from ..entries.counts import Counted
from ..entries.log import Log
from ..http.exchange import Frame, TryWrite
from ..limits import KIB, MIB
from ..stderr import logger

YIELD_EVERY_BYTES = 4 * MIB
READER_COSTS = 8 * KIB
"""A flush lets other tasks run after this many bytes, and counts each write as this many more than
its own: about 3 milliseconds, the time of 500 readers of short entries."""


class Sink(Protocol):
    """The destination of a reader's bytes."""

    @property
    def frame(self) -> Frame:
        """Frames the bytes. Sinks with the same framing return the same function."""

    @property
    def try_write(self) -> TryWrite:
        """Takes framed bytes without waiting, if possible."""

    def send_framed(self, framed: bytes) -> Awaitable[None]:
        """Send framed bytes, which other sinks may share; b"" waits until earlier bytes are
        sent."""


class Reader:
    """One reader of a log: its position, and its sink."""

    __slots__ = (
        "__weakref__", "_task", "format", "frame", "last_sent", "leaving", "position", "sink",
        "try_write",
    )  # fmt: skip

    leaving: bool
    """Set when nothing more is to be sent; a send under way is finished."""

    def __init__(self, sink: Sink, format: Format, position: int) -> None:
        self.sink = sink
        self.frame = sink.frame
        self.try_write = sink.try_write
        self.format = format
        self.position = position  # of the last entry that was sent
        self.last_sent = trio.current_time()
        self.leaving = False
        self._task: trio.lowlevel.Task | None = None  # while it waits

    async def wait(self) -> None:
        """Wait until it is woken."""
        # An event would be a tenth of all objects that a parked reader consists of.
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._on_cancelled)

    def _on_cancelled(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def wake(self) -> None:
        """Wake its task, if it waits."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)


class FanOut(Counted):
    """The readers that are caught up with a log, and the tasks that wait for its next entry."""

    def __init__(self, log: Log, batches: Batches) -> None:
        super().__init__(log)
        self._batches = batches
        self._parked: dict[tuple[Format, Frame], dict[Reader, None]] = {}
        self._waiting = set[trio.Event]()  # set with the next entry
        self.iterators = WeakSet[object]()  # of `Channel.entries`
        self._flushing: Iterator[None] | None = None
        self._flush_ended = trio.Event()
        self._flushed_to = log.end  # all parked readers have been sent what is up to here
        self._kept_pace = 0, 0  # entries and bytes ever, when `keep_pace` last waited
        self.following = 0  # readers that follow the log, parked ones among them

    def announce(self) -> None:
        """Note that there is a new entry, without waiting."""
        for event in self._waiting:
            event.set()
        self._waiting.clear()
        if self.counts is not None:
            self.count_entries(self.counts)
        if self._parked and self._flushing is None:
            self._flushing = self._flush()
            self._flush_ended = trio.Event()
            trio.lowlevel.current_trio_token().run_sync_soon(self._flush_on)

    @property
    def has_readers(self) -> bool:
        """Whether a reader is parked, a task waits for the next entry, or an iterator is alive."""
        return bool(self._parked or self._waiting or self.iterators)

    # -- For metrics ----------------------------------------------------------------------------

    @property
    def parked(self) -> int:
        """The number of readers that are caught up."""
        return sum(map(len, self._parked.values()))

    @property
    def waiting(self) -> int:
        """The number of tasks that wait for the next entry: polls, readers of several channels, and
        those in the program."""
        return len(self._waiting)

    # -- Readers --------------------------------------------------------------------------------

    async def park(self, reader: Reader) -> None:
        """Write to a caught-up reader directly, for as long as that works. Returns when it does
        not, or when the log has ended."""
        key = reader.format, reader.frame
        group = self._parked.setdefault(key, {})
        group[reader] = None
        try:
            await reader.wait()
        finally:
            group.pop(reader, None)
            if not group and self._parked.get(key) is group:
                del self._parked[key]

    def remove(self, reader: Reader) -> None:
        """Stop writing to a reader directly, and wake its task, which ends."""
        reader.leaving = True
        for group in self._parked.values():
            group.pop(reader, None)
        reader.wake()

    def wake_with_next_entry(self, event: trio.Event) -> None:
        """Set this event with the next entry."""
        self._waiting.add(event)

    def forget(self, event: trio.Event) -> None:
        """Do not set this event any more."""
        self._waiting.discard(event)

    # -- Publishers -----------------------------------------------------------------------------

    async def keep_pace(self) -> None:
        """See `Channel.keep_pace`."""
        log = self._log
        entries, size = self._kept_pace
        entries, size = log.count_ever - entries, log.bytes_ever - size
        if 2 * entries >= log.max_entries or 2 * size >= log.max_bytes:
            goal = log.end
            await trio.lowlevel.checkpoint()
            while self._flushing is not None and self._flushed_to < goal:
                await self._flush_ended.wait()
            await trio.lowlevel.checkpoint()  # for readers that could not be written to directly
            self._kept_pace = log.count_ever, log.bytes_ever

    # -- The flush ------------------------------------------------------------------------------

    def _flush_on(self) -> None:
        """Continue the flush until it pauses or ends."""
        assert self._flushing is not None
        counts = self.counts
        began = time.perf_counter() if counts is not None else 0.0
        try:
            paused = next(self._flushing, self) is None
        except Exception:
            logger.exception("writing to the readers of a channel failed")
            paused = False
        if counts is not None:
            counts.flush_seconds += time.perf_counter() - began
            counts.flushes += not paused
        if paused:
            trio.lowlevel.current_trio_token().run_sync_soon(self._flush_on)
        else:
            self._flushing = None
            self._flush_ended.set()
            if self._log.is_closed:
                # Only now, when the flush has sent the end: tasks may be cancelled before they
                # send.
                for group in list(self._parked.values()):
                    for reader in list(group):
                        self._wake(reader, group)

    def _flush(self) -> Iterator[None]:
        """Write to all parked readers until none of them is behind. Yields when other tasks should
        run.

        It is one loop with everything in it, because it runs for every entry and reader: calls
        between objects, each of which the cache had to fetch, were a third of its cost.
        """
        log, encoded = self._log, self._batches
        left = YIELD_EVERY_BYTES  # until other tasks run
        behind = True
        while behind:
            behind = False
            goal = log.end
            for (format, frame), group in list(self._parked.items()):
                batches: dict[int, tuple[bytes, int]] = {}
                size = position = last_place = -1
                data = b""
                others_ran = False
                now, start, end = trio.current_time(), log.start, log.end
                readers = list(group)
                # What was delivered is found from `left`, so that nothing is counted for each
                # reader: those that were sent nothing, or only a part, are few.
                visited, unsent, budget = len(readers), 0, left
                for reader in readers:
                    if left <= 0:
                        budget += YIELD_EVERY_BYTES - left
                        left = YIELD_EVERY_BYTES
                        yield
                        now, start, end = trio.current_time(), log.start, log.end
                        others_ran = True
                    place = reader.position
                    if place == end or (others_ran and reader not in group):
                        visited -= 1
                        continue  # it was parked, or has left, in the meantime
                    if place != last_place:  # nearly all readers are at the same place
                        if place < start:
                            self._wake(reader, group)
                            visited -= 1
                            continue
                        if place not in batches:
                            batches[place] = encoded.after(place, format, frame)
                        last_place = place
                        data, position = batches[place]
                        size = len(data)
                    written = reader.try_write(data)
                    if written:
                        reader.position = position
                        reader.last_sent = now
                    elif not size:  # it wants none of them
                        reader.position = position
                        unsent += 1
                    if written < size:
                        self._wake(reader, group)
                        if written:
                            budget += size - written  # which its task sends
                        else:
                            unsent += 1
                    elif position != end:
                        behind = True
                    left -= written + READER_COSTS
                if self.counts is not None:
                    self.counts.deliveries += visited - unsent
                    self.counts.delivered_bytes += budget - left - visited * READER_COSTS
            self._flushed_to = goal
            # An entry published while other tasks ran has not reached the readers served before.
            behind = behind or goal != log.end

    def _wake(self, reader: Reader, group: dict[Reader, None]) -> None:
        del group[reader]
        reader.wake()
