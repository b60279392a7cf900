"""A log: entries in the order they were published, bounded by their count and their bytes.

Entries lie in segments, which batches of entries do not cross (see batches.py). No I/O, no waiting.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from math import inf
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from ..limits import KIB, MIB
from .cursors import BEGINNING, EPOCH, make_id, new_epoch, position_in

HISTORY_ENTRIES = 1000
HISTORY_BYTES = MIB
"""What a log keeps for readers that reconnect: 20 seconds at 50 entries a second."""

SEGMENT_BYTES = 64 * KIB
"""About what a reader that is behind is sent at a time, in at least one entry."""

GAP, END = "gap", "end"
"""Event types of the log itself: entries are lost here; nothing follows. Others cannot have
them."""

_LINE_END = re.compile("\r\n|\r")
_CONTROLS = bytes(range(32))


@dataclass(slots=True, eq=False)
class Entry:
    """One entry of a log."""

    id: str
    """Its ID, which is also the cursor after it."""
    data: str
    """The text that was published, with LF as its line end. In a channel of JSON, one line of
    it."""
    event: str | None
    """Its type, if it has one."""
    position: int
    """Its place in the log. Positions grow from entry to entry; unless they are given, by one."""
    is_json: bool
    """Whether the channel takes only JSON."""
    size: int  # upper bound of its encoded bytes in any format, without ids and names
    starts_segment: bool

    @property
    def is_end(self) -> bool:  # of a log that was closed
        return self.event == END

    @property
    def is_gap(self) -> bool:  # entries before it were never published; `data` is the last ID
        return self.event == GAP

    def json(self) -> Any:
        """The value whose JSON is `data`. Raises `ValueError` if it is not JSON."""
        return json.loads(self.data)


class _Reel(NamedTuple):
    """A part of a log with an epoch of its own."""

    epoch: str
    base: int
    """What is added to the numbers of its IDs to get positions of the log."""
    start: int
    """The position before its first entry."""


class ChannelClosed(RuntimeError):
    """Nothing can be published to a channel that was closed."""

    def __init__(self) -> None:
        super().__init__("the channel is closed; nothing can be published to it")


class EntryTooLarge(ValueError):
    """An entry is larger than its log."""

    def __init__(self, size: int, most: int) -> None:
        super().__init__(f"an entry is at most {most} bytes, encoded; this one has {size}")


class Archive(Protocol):
    """Older entries of a log, which are kept elsewhere. They end where the log starts."""

    @property
    def start(self) -> int:
        """The position before the first of them."""

    def entries_after(self, position: int) -> Iterable[Entry]:
        """Some entries after a position that is in the archive; none if they can be read no
        longer."""

    def holds(self, position: int) -> bool:
        """Whether this is the position of an entry, or of the start."""

    def position_before(self, position: int, count: int) -> int:
        """The position this many entries before another one; `start` if there are fewer."""


class Log:
    """A bounded log. IDs are `EPOCH-NUMBER`: the epoch distinguishes this log from any other, and
    the number only grows. A log can go on with another epoch, as a log file does when it is
    rotated; its positions grow all the same."""

    def __init__(
        self, *, entries: int, size: int, epoch: str | None, start: int, json: bool
    ) -> None:
        if epoch is not None and not EPOCH.fullmatch(epoch):
            raise ValueError(f"an epoch is 1 to 64 letters and digits, not {epoch!r}")
        if not (isinstance(entries, int) and entries > 0 and isinstance(size, int) and size > 0):
            raise ValueError("entries and size are numbers of entries and bytes, more than 0")
        self._reels = [_Reel(epoch or new_epoch(), 0, start)]  # the newest last
        self.start = start
        """The position before the first entry that is still held."""
        self.end = start
        """The position of the last entry."""
        self.archive: Archive | None = None
        self.is_closed = False
        self.is_json = json
        self.max_entries = entries
        self.max_bytes = size
        self.count_ever = self.bytes_ever = 0
        """All entries that were ever published, and their bytes."""
        self._first_end = start
        self._entries = deque[Entry]()
        self._bytes = 0
        self._segment_bytes = 0

    # -- Writing --------------------------------------------------------------------------------

    def _append(self, data: str | None, event: str | None, number: int | None = None) -> Entry:
        """Add an entry; in a log of JSON, `data` is one line of it. `number` is that of its ID,
        by default the next one. Raises as `Channel.publish`."""
        if self.is_closed:
            raise ChannelClosed
        data, size = self.checked(data, event)
        position = self.end + 1 if number is None else self._reels[-1].base + number
        if position <= self.end:
            raise ValueError(f"the numbers of IDs grow: {number} is not behind the last one")
        return self._add(data, event, size, position)

    def checked(self, data: str | None, event: str | None) -> tuple[str, int]:
        """The data of an entry with LF as its line end, and the bytes for which it counts. Raises
        as `Channel.publish` for what cannot be an entry of this log."""
        if not isinstance(data, str):
            raise TypeError(f"data is a str, not {type(data).__name__}; json= takes other values")
        if event is not None:
            if not isinstance(event, str):
                raise TypeError(f"event is a str, not {type(event).__name__}")
            if any(forbidden in event for forbidden in "\r\n\0"):
                raise ValueError(f"CR, LF or NUL in the event type {event!r}")
            if event in (GAP, END):
                raise ValueError(f"the event type {event!r} is reserved for the channel itself")
        if "\r" in data:
            data = _LINE_END.sub("\n", data)
        size = encoded_size(data) + len((event or "").encode())
        if size > self.max_bytes:
            raise EntryTooLarge(size, self.max_bytes)
        return data, size

    def _append_end(self) -> None:
        """Mark the end, which takes a position of its own: a cursor tells whether its reader has
        seen it."""
        self.is_closed = True
        self._add("", END, 0, self.end + 1)

    @property
    def last_segment_is_full(self) -> bool:  # so that the next entry starts another
        return self._segment_bytes > SEGMENT_BYTES

    def _add(self, data: str, event: str | None, size: int, position: int) -> Entry:
        self._segment_bytes += size
        starts_segment = self._segment_bytes > SEGMENT_BYTES or not self._entries
        if starts_segment:
            self._segment_bytes = size
        self.end = position
        id = self.id_of(self.end)
        entry = Entry(id, data, event, self.end, self.is_json, size, starts_segment)
        self._entries.append(entry)
        self._bytes += size
        self.count_ever += 1
        self.bytes_ever += size
        most = self.max_entries + self.is_closed  # the end does not displace an entry
        while len(self._entries) > most or self._bytes > self.max_bytes:
            dropped = self._entries.popleft()
            self._bytes -= dropped.size
            self.start = dropped.position
        return entry

    def _append_gap(self, epoch: str | None = None, number: int | None = None) -> None:
        """Mark that entries are lost here which were never published, up to the one with this
        number in this epoch; by default one entry."""
        lost_from, position = self.id_of(self.end), self.end + 1
        if epoch is not None and epoch != self.epoch:
            self._add_reel(_Reel(epoch, position - (number or 0), self.end))
        elif number is not None:
            position = max(position, self._reels[-1].base + number)
        self._add(lost_from, GAP, 0, position)
        self.archive = None  # a file that lost some of its entries

    def go_on_as(self, epoch: str) -> None:
        """From now on IDs have this epoch, and numbers from 0."""
        self._add_reel(_Reel(epoch, self.end, self.end))

    def _add_reel(self, reel: _Reel) -> None:
        self._reels.append(reel)
        while len(self._reels) > 1 and self._reels[1].start < self.oldest:
            del self._reels[0]  # none of its entries can be read

    @property
    def held(self) -> int:
        """The number of entries that are held."""
        return len(self._entries)

    @property
    def held_bytes(self) -> int:
        """Upper bound of their bytes, as each is encoded."""
        return self._bytes

    # -- Cursors --------------------------------------------------------------------------------

    @property
    def epoch(self) -> str:
        """The epoch of the next entry."""
        return self._reels[-1].epoch

    @property
    def oldest(self) -> int:
        """The position before the first entry that can be read."""
        return min(self.start, self.archive.start) if self.archive else self.start

    def id_of(self, position: int) -> str:
        """The ID of the entry at this position."""
        for reel in reversed(self._reels):
            if position > reel.start or reel is self._reels[0]:
                break
        return make_id(reel.epoch, position - reel.base)

    def position_of(self, cursor: str) -> int | None:
        """The position of the entry with this ID, past or future, if it is an ID of this log; None
        if not."""
        end: float = inf
        for reel in reversed(self._reels):
            number = position_in(cursor, reel.epoch)
            if number is not None:
                return reel.base + number if reel.base + number <= end else None
            end = reel.start
        return None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever published."""
        return self.end == self._first_end

    def resume(self, cursor: str | None, last: int = 0) -> tuple[int, bool]:
        """The position that a cursor stands for, and whether entries after it are lost.

        Without a cursor it is `last` entries before the end. An unknown, expired or future cursor
        stands for the oldest entry, with entries lost.
        """
        check_last(last)
        if cursor is None:
            # The end of a closed log is no news that a reader may miss.
            return self.position_before(self.end, last + self.is_closed), False
        if not isinstance(cursor, str):
            raise TypeError(f"a cursor is a str, not {type(cursor).__name__}: {cursor!r}")
        if cursor == BEGINNING:
            return self.oldest, False
        position = self.position_of(cursor)
        if position is not None and self.oldest <= position <= self.end and self._holds(position):
            return position, False
        return self.oldest, True

    def position_before(self, position: int, count: int) -> int:
        """The position this many entries before another one, or `oldest` if there are fewer."""
        archive = self.archive if self.archive and self.archive.start < self.start else None
        if position < self.start and archive:
            return archive.position_before(position, count)
        index = self._index_after(position) - count
        if index > 0:
            return self._entries[index - 1].position
        if index < 0 and archive:
            return archive.position_before(self.start, -index)
        return self.start

    def _holds(self, position: int) -> bool:
        if position < self.start and self.archive:
            return self.archive.holds(position)
        index = self._index_after(position)
        return position == (self._entries[index - 1].position if index else self.start)

    def _index_after(self, position: int) -> int:
        return bisect_right(self._entries, position, key=attrgetter("position"))

    # -- Reading --------------------------------------------------------------------------------

    def entry_after(self, position: int) -> Entry | None:
        """The entry after a position that is not before `oldest`; None if there is none yet."""
        return next(self.entries_after(position), None)

    def entries_after(self, position: int) -> Iterator[Entry]:
        """The entries after a position that is not before `oldest`; some of them if they are in the
        archive."""
        if position < self.start and self.archive:
            found = next(older := iter(self.archive.entries_after(position)), None)
            if found is not None:
                return chain((found,), older)
            self.archive = None  # they are gone: `oldest` has moved
            return iter(())
        return islice(self._entries, self._index_after(position), None)

    def rest_of_segment(self, position: int) -> Iterator[Entry]:  # after it, which a batch takes
        for number, entry in enumerate(self.entries_after(position)):
            if number and entry.starts_segment:
                return
            yield entry


def check_last(last: object) -> None:
    """Raise `ValueError` unless this is a number of entries."""
    if not isinstance(last, int) or last < 0:
        raise ValueError(f"last is a number of entries, 0 or more, not {last!r}")


def encoded_size(data: str) -> int:
    """Upper bound of the bytes of data in any format: a line of an event takes six more, a control
    character in JSON five, a quotation mark one, U+0085, U+2028 and U+2029 become escapes of six.
    Raises `UnicodeEncodeError`."""
    text = data.encode()
    controls = len(text) - len(text.translate(None, _CONTROLS))
    size = len(text) + 5 * controls + text.count(b"\n") + text.count(b'"') + text.count(b"\\")
    if len(text) > len(data):
        size += 4 * data.count("\u0085") + 3 * (data.count("\u2028") + data.count("\u2029"))
    return size
