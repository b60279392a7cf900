"""A channel: one bounded log, any number of readers, each at a place of its own in it.

    publish("hello") --> [ entry | entry | entry ]      bounded by count and bytes
                             ^               ^
                        a late reader   readers that are caught up

Publishing appends to the log and never waits. Readers have a position each and nothing else, so
memory is the log's, however many there are and however slowly they read. Who falls behind its
beginning is told so (a gap), never left to guess.

Readers that are caught up are written to directly, without waking their tasks: once in a pass of
the scheduler one `write_now` each, of bytes made once for all of them, with all that was published
since. A reader for whom that does not work is woken and goes on from its position by itself.
Nothing here knows what a reader is written to through, only that it has `write_now`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Protocol

import trio

from .cursors import EPOCH, make_id, new_epoch, position_in
from .limits import KIB, MIB
from .request import WriteNow

HISTORY_ENTRIES = 1000
HISTORY_BYTES = MIB
"""What a channel keeps for readers that come back: 20 seconds of 50 entries a second."""

BATCH_BYTES = 64 * KIB
"""What a reader that is behind is sent at a time, and the most that is written directly."""

BATCHES = 16
"""Batches kept for the next reader at the same place."""

READERS_A_PASS = 500
"""Direct writes after which the other tasks have their turn: about 3 milliseconds."""

_LINE_END = re.compile("\r\n|\r")


class Format(Protocol):
    """How entries look to one kind of reader. Its methods are pure."""

    def entry(self, id: str, entry: Entry) -> bytes:
        """The bytes of an entry, whose id is the cursor behind it."""

    def gap(self, id: str, start: str, end: str) -> bytes:
        """What tells that entries behind `start` are lost, up to `end`; `id` is the cursor now."""

    def place(self, id: str) -> bytes:
        """What tells a client its cursor, before there is anything else to tell."""


class Sink(Protocol):
    """Where a reader's bytes go."""

    @property
    def frame_key(self) -> str:
        """What `frame` depends on."""

    def frame(self, data: bytes) -> bytes:
        """The bytes that `data` is on the wire."""

    @property
    def write_now(self) -> WriteNow:
        """Takes framed bytes without waiting, as `Exchange.write_now` does."""


class Entry:
    """One thing that was published."""

    __slots__ = ("data", "encoded", "event", "position", "size")

    def __init__(self, position: int, data: str, event: str | None) -> None:
        self.position = position
        self.data = data
        self.event = event
        self.size = len(data.encode()) + len((event or "").encode())
        self.encoded: dict[Format, bytes] = {}


class Reader:
    """A reader's place in a channel."""

    __slots__ = (
        "__weakref__", "format", "last_sent", "leaving", "position", "sink", "woken", "write_now",
    )  # fmt: skip

    leaving: bool
    """Set when it shall be sent nothing more; what is being sent is finished."""

    def __init__(self, sink: Sink, format: Format, position: int) -> None:
        self.sink = sink
        self.write_now = sink.write_now
        self.format = format
        self.position = position  # of the last entry it has been sent
        self.last_sent = 0.0
        self.leaving = False
        self.woken = trio.Event()


class Channel:
    """A bounded log of what was published, and those who are waiting for more.

    It keeps the last `entries` entries, or fewer when their text is more than `size` bytes. Ids
    are `EPOCH-POSITION`: the epoch tells this log from any other, the position only grows. The
    `name` tells it from others that are read over the same connection.

    A log that is kept elsewhere, too, goes on under its old ids if it is given its `epoch`
    (letters and digits), and as `start` the position before the first entry that is published to
    fill it again.
    """

    def __init__(
        self,
        name: str = "",
        *,
        entries: int = HISTORY_ENTRIES,
        size: int = HISTORY_BYTES,
        epoch: str | None = None,
        start: int = 0,
    ) -> None:
        if epoch is not None and not EPOCH.fullmatch(epoch):
            raise ValueError(f"an epoch is 1 to 64 letters and digits, not {epoch!r}")
        self.name = name
        self.epoch = epoch or new_epoch()
        self.end = start
        """The position of the last entry."""
        self._most_entries = entries
        self.most_bytes = size
        self._entries = deque[Entry]()
        self._bytes = 0
        self._published_bytes = self._flushed_bytes = 0  # ever; and when all had their turn
        self._flushed = start
        self._batches: dict[tuple[Format, int], tuple[bytes, int]] = {}
        self._caught_up: dict[tuple[Format, str], dict[Reader, None]] = {}
        self._awaited = set[trio.Event]()  # to be set by the next entry
        self._flushing: Iterator[None] | None = None
        self._flushed_to = start  # all who are caught up have been written to, up to here

    # -- Writing ------------------------------------------------------------------------------

    def publish(self, data: str, event: str | None = None) -> str:
        """Append an entry and return its id. It never waits; call it in the Trio thread, and await
        `keep_pace` now and then if there are hundreds at a time.

        Line ends in `data` become LF, the only one that every transport carries. Raises
        `ValueError` for CR, LF or NUL in `event`, for text that is no Unicode (lone surrogates)
        and for an entry larger than the channel.
        """
        if event is not None and any(forbidden in event for forbidden in "\r\n\0"):
            raise ValueError(f"CR, LF or NUL in the event type {event!r}")
        if event == "gap":
            raise ValueError('an event "gap" is what tells readers that entries are lost')
        entry = Entry(self.end + 1, _LINE_END.sub("\n", data), event)
        if entry.size > self.most_bytes:
            raise ValueError(f"an entry of {entry.size} bytes; the channel holds {self.most_bytes}")
        self.end = entry.position
        self._entries.append(entry)
        self._bytes += entry.size
        self._published_bytes += entry.size
        while len(self._entries) > self._most_entries or self._bytes > self.most_bytes:
            self._bytes -= self._entries.popleft().size
        self._batches.clear()
        for news in self._awaited:
            news.set()
        self._awaited.clear()
        if self._caught_up and self._flushing is None:
            self._flushing = self._flush()
            trio.lowlevel.current_trio_token().run_sync_soon(self._flush_on)
        return self.id_of(entry.position)

    # -- Cursors ------------------------------------------------------------------------------

    def id_of(self, position: int) -> str:
        """The cursor behind the entry at this position."""
        return make_id(self.epoch, position)

    @property
    def start(self) -> int:
        """The position before the first entry there is."""
        return self.end - len(self._entries)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever published."""
        return not self._published_bytes

    def place_of(self, cursor: str | None) -> tuple[int, bool]:
        """The position that a cursor means, and whether entries behind it are lost. Without a
        cursor: behind the last entry. One that this log does not know, or no longer, or not yet,
        means all there is, and a gap."""
        if cursor is None:
            return self.end, False
        position = position_in(cursor, self.epoch)
        if position is not None and self.start <= position <= self.end:
            return position, False
        return self.start, True

    # -- Reading ------------------------------------------------------------------------------

    def entries_after(self, position: int) -> Iterator[Entry]:
        """The entries behind a position that is not before `start`."""
        return islice(self._entries, position - self.start, None)

    def batch_after(self, position: int, format: Format) -> tuple[bytes, int]:
        """Entries behind a position, not before `start`, as bytes, and the position behind them;
        as many as fit in `BATCH_BYTES`, but one at least. b"" if there are none."""
        batch = self._batches.get((format, position))
        if batch is None:
            parts = list[bytes]()
            size, end = 0, position
            for entry in self.entries_after(position):
                encoded = entry.encoded.get(format)
                if encoded is None:
                    encoded = format.entry(self.id_of(entry.position), entry)
                    entry.encoded[format] = encoded
                if parts and size + len(encoded) > BATCH_BYTES:
                    break
                parts.append(encoded)
                size += len(encoded)
                end = entry.position
            if len(self._batches) == BATCHES:
                self._batches.clear()  # readers that come back are at the same few places
            batch = self._batches[format, position] = b"".join(parts), end
        return batch

    async def written_to(self, reader: Reader) -> None:
        """Have a reader that is caught up written to directly, for as long as that works."""
        key = reader.format, reader.sink.frame_key
        group = self._caught_up.setdefault(key, {})
        group[reader] = None
        reader.woken = trio.Event()
        try:
            await reader.woken.wait()
        finally:
            group.pop(reader, None)
            if not group and self._caught_up.get(key) is group:
                del self._caught_up[key]

    @staticmethod
    async def news_of(*channels: Channel) -> None:
        """Wait for the next entry of any of them."""
        news = trio.Event()
        for channel in channels:
            channel._awaited.add(news)
        try:
            await news.wait()
        finally:
            for channel in channels:
                channel._awaited.discard(news)

    def dismiss(self, reader: Reader) -> None:
        """Let a reader go: nothing more is written to it directly, and its task is told."""
        reader.leaving = True
        for group in self._caught_up.values():
            group.pop(reader, None)
        reader.woken.set()

    async def keep_pace(self) -> None:
        """To be called by who publishes much at a time: wait, if otherwise those who are caught up
        would lose their place, until they have what was published so far."""
        entries, size = self.end - self._flushed, self._published_bytes - self._flushed_bytes
        if 2 * entries >= self._most_entries or 2 * size >= self.most_bytes:
            goal = self.end
            await trio.lowlevel.checkpoint()
            while self._flushing is not None and self._flushed_to < goal:
                await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()  # for those who could not be written to directly
            self._flushed, self._flushed_bytes = self.end, self._published_bytes

    # -- The flush ----------------------------------------------------------------------------

    def _flush_on(self) -> None:
        """Go on with the flush, and give way to the other tasks now and then."""
        assert self._flushing is not None
        for _ in self._flushing:
            trio.lowlevel.current_trio_token().run_sync_soon(self._flush_on)
            return
        self._flushing = None

    def _flush(self) -> Iterator[None]:
        """Write to all that are caught up, until there is nothing new for anybody; yields when
        others should have their turn."""
        count = 0  # since the others had their turn
        behind = True
        while behind:
            behind = False
            goal = self.end
            for (format, _), group in list(self._caught_up.items()):
                framed: dict[int, tuple[bytes, int]] = {}
                size = position = last_place = -1
                data = b""
                others_ran = False
                now, start, end = trio.current_time(), self.start, self.end
                for reader in list(group):
                    if count == READERS_A_PASS:
                        count = 0
                        yield
                        now, start, end = trio.current_time(), self.start, self.end
                        others_ran = True
                    place = reader.position
                    if place == end or (others_ran and reader not in group):
                        continue  # it has come, or left, in the meantime
                    if place != last_place:  # nearly always they are all at the same
                        if place < start:
                            self._wake(reader, group)
                            continue
                        if place not in framed:
                            data, position = self.batch_after(place, format)
                            framed[place] = reader.sink.frame(data), position
                        last_place = place
                        data, position = framed[place]
                        size = len(data)
                    written = reader.write_now(data)
                    if written:
                        reader.position = position
                        reader.last_sent = now
                    if written < size:
                        self._wake(reader, group)
                    elif position != end:
                        behind = True
                    count += 1
            self._flushed_to = goal
            # Published while others had their turn: not all that were served before have it.
            behind = behind or goal != self.end

    def _wake(self, reader: Reader, group: dict[Reader, None]) -> None:
        del group[reader]
        reader.woken.set()
