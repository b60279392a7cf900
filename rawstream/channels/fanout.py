"""Writing to all readers of a log that are caught up, at once.

They are written to directly, without waking their tasks: once in a pass of the scheduler one
`try_write` each, of bytes made once for all of them, with all that was published since. A reader
for whom that does not work is woken, and goes on from its position by itself. Nothing here knows
what a reader is written to through, only that it is a `Sink`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterator
from typing import Protocol

import trio

from ..http.exchange import Frame, TryWrite
from ..limits import KIB, MIB
from .log import Format, Log

YIELD_EVERY_BYTES = 4 * MIB
READER_COSTS = 8 * KIB
"""Bytes written directly after which the other tasks have their turn, and what a write costs beside
its own: 500 readers of short entries, about 3 milliseconds."""

logger = logging.getLogger("rawstream")


class Sink(Protocol):
    """Where a reader's bytes go."""

    @property
    def frame(self) -> Frame:
        """How they are framed; the same function wherever they are framed alike."""

    @property
    def try_write(self) -> TryWrite:
        """Takes framed bytes without waiting, if that can be done."""

    def send_framed(self, framed: bytes) -> Awaitable[None]:
        """Send framed bytes that others may be sent, too; b"" to wait for what is under way."""


class Reader:
    """A reader's place in a log."""

    __slots__ = (
        "__weakref__", "format", "frame", "last_sent", "leaving", "position", "sink", "try_write",
        "woken",
    )  # fmt: skip

    leaving: bool
    """Set when it shall be sent nothing more; what is being sent is finished."""

    def __init__(self, sink: Sink, format: Format, position: int) -> None:
        self.sink = sink
        self.frame = sink.frame
        self.try_write = sink.try_write
        self.format = format
        self.position = position  # of the last entry it has been sent
        self.last_sent = trio.current_time()
        self.leaving = False
        self.woken = trio.Event()


class FanOut:
    """Who is caught up with a log, and those who wait for its next entry."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._parked: dict[tuple[Format, Frame], dict[Reader, None]] = {}
        self._waiting = set[trio.Event]()  # to be set by the next entry
        self._flushing: Iterator[None] | None = None
        self._flush_ended = trio.Event()
        self._flushed_to = log.end  # all who are parked have been written to, up to here
        self._kept_pace = log.end, 0  # position, and bytes ever, when all had their turn

    def announce(self) -> None:
        """There is a new entry. Never waits."""
        for event in self._waiting:
            event.set()
        self._waiting.clear()
        if self._parked and self._flushing is None:
            self._flushing = self._flush()
            self._flush_ended = trio.Event()
            trio.lowlevel.current_trio_token().run_sync_soon(self._flush_on)

    # -- Readers --------------------------------------------------------------------------------

    async def park(self, reader: Reader) -> None:
        """Have a reader that is caught up written to directly, for as long as that works."""
        key = reader.format, reader.frame
        group = self._parked.setdefault(key, {})
        group[reader] = None
        reader.woken = trio.Event()
        try:
            await reader.woken.wait()
        finally:
            group.pop(reader, None)
            if not group and self._parked.get(key) is group:
                del self._parked[key]

    def remove(self, reader: Reader) -> None:
        """Let a reader go: nothing more is written to it directly, and its task is told."""
        reader.leaving = True
        for group in self._parked.values():
            group.pop(reader, None)
        reader.woken.set()

    def wake_with_next_entry(self, event: trio.Event) -> None:
        """Set this event when there is a new entry."""
        self._waiting.add(event)

    def forget(self, event: trio.Event) -> None:
        """Nobody waits for it any more."""
        self._waiting.discard(event)

    # -- Publishers -----------------------------------------------------------------------------

    async def keep_pace(self) -> None:
        """To be called by who publishes much at a time: wait, if otherwise those who are caught up
        would lose their place, until they have what was published so far."""
        log = self._log
        position, size = self._kept_pace
        entries, size = log.end - position, log.bytes_ever - size
        if 2 * entries >= log.max_entries or 2 * size >= log.max_bytes:
            goal = log.end
            await trio.lowlevel.checkpoint()
            while self._flushing is not None and self._flushed_to < goal:
                await self._flush_ended.wait()
            await trio.lowlevel.checkpoint()  # for those who could not be written to directly
            self._kept_pace = log.end, log.bytes_ever

    # -- The flush ------------------------------------------------------------------------------

    def _flush_on(self) -> None:
        """Go on with the flush, and give way to the other tasks now and then."""
        assert self._flushing is not None
        try:
            paused = next(self._flushing, self) is None
        except Exception:
            logger.exception("writing to the readers of a channel failed")
            paused = False
        if paused:
            trio.lowlevel.current_trio_token().run_sync_soon(self._flush_on)
        else:
            self._flushing = None
            self._flush_ended.set()

    def _flush(self) -> Iterator[None]:
        """Write to all that are parked, until there is nothing new for anybody; yields when
        others should have their turn.

        One loop with everything in it: it runs for every entry and reader, and calls between
        objects that a cold cache has to fetch were a third of what it cost.
        """
        log = self._log
        left = YIELD_EVERY_BYTES  # until the others have their turn
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
                for reader in list(group):
                    if left <= 0:
                        left = YIELD_EVERY_BYTES
                        yield
                        now, start, end = trio.current_time(), log.start, log.end
                        others_ran = True
                    place = reader.position
                    if place == end or (others_ran and reader not in group):
                        continue  # it has come, or left, in the meantime
                    if place != last_place:  # nearly always they are all at the same
                        if place < start:
                            self._wake(reader, group)
                            continue
                        if place not in batches:
                            batches[place] = log.batch_after(place, format, frame)
                        last_place = place
                        data, position = batches[place]
                        size = len(data)
                    written = reader.try_write(data)
                    if written:
                        reader.position = position
                        reader.last_sent = now
                    if written < size:
                        self._wake(reader, group)
                    elif position != end:
                        behind = True
                    left -= written + READER_COSTS
            self._flushed_to = goal
            # Published while others had their turn: not all that were served before have it.
            behind = behind or goal != log.end

    def _wake(self, reader: Reader, group: dict[Reader, None]) -> None:
        del group[reader]
        reader.woken.set()
