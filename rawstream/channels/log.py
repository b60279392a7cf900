"""A log: entries in the order they were published, bounded by their count and their bytes.

Batches of entries are made as bytes once for all readers that are at the same place. Entries lie in
segments, and no batch goes over the end of one: wherever readers begin, they soon ask for the same
batches, which may be kept since a full segment never changes. No I/O, no waiting.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from ..limits import KIB, MIB
from .cursors import EPOCH, make_id, new_epoch, position_in

HISTORY_ENTRIES = 1000
HISTORY_BYTES = MIB
"""What a log keeps for readers that come back: 20 seconds of 50 entries a second."""

SEGMENT_BYTES = 64 * KIB
"""What a reader that is behind is sent at a time, about; one entry at least."""

SHARED_FROM = 4 * KIB
"""Bytes of an entry from which on its bytes are kept, for readers who cannot share a batch."""

OPEN_BATCHES = 16
"""Batches of the last segment that are kept, until the next entry."""

_LINE_END = re.compile("\r\n|\r")
_CONTROLS = bytes(range(32))


@dataclass(slots=True, eq=False)
class Entry:
    """One thing that was published."""

    position: int
    data: str
    event: str | None
    size: int
    """Bytes of it in the format that takes most of them, but for ids and names."""
    starts_segment: bool


class Format(Protocol):
    """How entries look to one kind of reader. Its methods are pure, and it can be hashed."""

    def batch(self, log: Log, entries: Iterator[Entry]) -> tuple[bytes, int]:
        """The bytes of entries, one at least, and the position of the last of them."""

    def tail(self, entry: Entry) -> bytes:
        """What is the same of an entry for all readers, whatever id stands before it."""


Frame = Callable[[bytes], bytes]
"""What makes bytes of a batch that are fit for the wire."""


class Log:
    """A bounded log. Ids are `EPOCH-POSITION`: the epoch tells this log from any other, the
    position only grows."""

    def __init__(self, *, entries: int, size: int, epoch: str | None, start: int) -> None:
        if epoch is not None and not EPOCH.fullmatch(epoch):
            raise ValueError(f"an epoch is 1 to 64 letters and digits, not {epoch!r}")
        self.epoch = epoch or new_epoch()
        self.end = start
        """The position of the last entry."""
        self._first_end = start
        self.max_entries = entries
        self.max_bytes = size
        self.bytes_ever = 0
        """Bytes of all that was ever published."""
        self._entries = deque[Entry]()
        self._bytes = 0
        self._segment_bytes = 0
        # Bytes that do not change any more, bounded by their size, the oldest first; and batches of
        # the last segment.
        self._kept: dict[tuple[Format, object, int], tuple[bytes, int]] = {}
        self._kept_bytes = 0
        self._open_batches: dict[tuple[Format, object, int], tuple[bytes, int]] = {}

    # -- Writing --------------------------------------------------------------------------------

    def append(self, data: str, event: str | None) -> Entry:
        """Add an entry. Line ends in `data` become LF, the only one that every transport carries.

        Raises `ValueError` for CR, LF or NUL in `event`, for text that is no Unicode (lone
        surrogates) and for an entry larger than the log.
        """
        if event is not None and any(forbidden in event for forbidden in "\r\n\0"):
            raise ValueError(f"CR, LF or NUL in the event type {event!r}")
        if event == "gap":
            raise ValueError('an event "gap" is what tells readers that entries are lost')
        if "\r" in data:
            data = _LINE_END.sub("\n", data)
        size = encoded_size(data) + len((event or "").encode())
        if size > self.max_bytes:
            raise ValueError(f"an entry of {size} bytes, encoded; the log holds {self.max_bytes}")
        self._segment_bytes += size
        starts_segment = self._segment_bytes > SEGMENT_BYTES or not self._entries
        if starts_segment:
            self._segment_bytes = size
        entry = Entry(self.end + 1, data, event, size, starts_segment)
        self.end = entry.position
        self._entries.append(entry)
        self._bytes += size
        self.bytes_ever += size
        while len(self._entries) > self.max_entries or self._bytes > self.max_bytes:
            self._bytes -= self._entries.popleft().size
        self._open_batches.clear()
        return entry

    # -- Cursors --------------------------------------------------------------------------------

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
        return self.end == self._first_end

    def resume(self, cursor: str | None) -> tuple[int, bool]:
        """The position that a cursor means, and whether entries behind it are lost. Without a
        cursor: behind the last entry. One that this log does not know, or no longer, or not yet,
        means all there is, and a gap."""
        if cursor is None:
            return self.end, False
        position = position_in(cursor, self.epoch)
        if position is not None and self.start <= position <= self.end:
            return position, False
        return self.start, True

    # -- Reading --------------------------------------------------------------------------------

    def entries_after(self, position: int) -> Iterator[Entry]:
        """The entries behind a position that is not before `start`."""
        return islice(self._entries, position - self.start, None)

    def batch_after(self, position: int, format: Format, frame: Frame) -> tuple[bytes, int]:
        """Entries behind a position, not before `start`, as framed bytes that readers share, and
        the position behind them. b"" if there are none."""
        if position == self.end:
            return b"", position
        key = format, frame, position
        batch = self._open_batches.get(key) or self._kept.get(key)
        if batch is None:
            data, end = format.batch(self, self._rest_of_segment(position))
            batch = frame(data) if data else b"", end
            if end < self.end or self._segment_bytes > SEGMENT_BYTES:
                self._keep(key, batch)
            else:
                if len(self._open_batches) == OPEN_BATCHES:
                    self._open_batches.clear()  # readers that come back are at the same few places
                self._open_batches[key] = batch
        return batch

    def tail_of(self, entry: Entry, format: Format) -> bytes:
        """The tail of an entry; if it is long, readers share it."""
        if entry.size < SHARED_FROM:
            return format.tail(entry)
        key = format, "tail", entry.position
        tail = self._kept.get(key)
        if tail is None:
            tail = format.tail(entry), entry.position
            self._keep(key, tail)
        return tail[0]

    def _rest_of_segment(self, position: int) -> Iterator[Entry]:
        for number, entry in enumerate(self.entries_after(position)):
            if number and entry.starts_segment:
                return
            yield entry

    def _keep(self, key: tuple[Format, object, int], made: tuple[bytes, int]) -> None:
        self._kept[key] = made
        self._kept_bytes += len(made[0])
        while self._kept_bytes > self.max_bytes and len(self._kept) > 1:
            oldest = next(iter(self._kept))
            self._kept_bytes -= len(self._kept.pop(oldest)[0])


def encoded_size(data: str) -> int:
    """Bytes of data in the format that takes most: a line of an event has six more, a control
    character in JSON five, a quotation mark one. Raises `UnicodeEncodeError`."""
    text = data.encode()
    controls = len(text) - len(text.translate(None, _CONTROLS))
    lines = text.count(b"\n")
    return len(text) + 5 * controls + lines + text.count(b'"') + text.count(b"\\")
