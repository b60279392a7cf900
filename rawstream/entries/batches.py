"""Batches: the encoded bytes of entries, which readers at the same place share.

A batch ends at the end of a segment. Wherever readers start, they therefore soon ask for the same
batches. Those of a full segment never change and are kept; those of the last segment are kept until
the next entry. No I/O, no waiting.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ..http.exchange import Frame
from ..limits import KIB
from .log import Entry, Log

SHARED_FROM = 4 * KIB
"""From this size on the encoded bytes of an entry are kept, for readers that cannot share a
batch."""

OPEN_BATCHES = 16
"""Batches of the last segment that are kept."""


class Format(Protocol):
    """The encoding of entries for one kind of reader. Its methods are pure, and it is hashable."""

    def batch(self, entries: Iterator[Entry]) -> tuple[bytes, int]:
        """The bytes of entries, and the position of the last of them; -1 if there is none."""

    def tail(self, entry: Entry) -> bytes:
        """The part of an entry after its id, which is the same for all readers."""


class Batches:
    """The batches of one log, in all formats. Memory: the log's `max_bytes`, and `OPEN_BATCHES`."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kept: dict[tuple[Format, object, int], tuple[bytes, int]] = {}  # the oldest first
        self._kept_bytes = 0
        self._open: dict[tuple[Format, object, int], tuple[bytes, int]] = {}
        self._open_end = log.end  # the end of the log that `_open` is of

    def after(self, position: int, format: Format, frame: Frame) -> tuple[bytes, int]:
        """Entries after a position, not before `log.oldest`, as framed bytes that readers share,
        and the position after them. The bytes are empty if there is nothing to send."""
        log = self._log
        if position == log.end:
            return b"", position
        if self._open_end != log.end:
            self._open_end = log.end
            self._open.clear()
        if position < log.start:  # of the archive: kept nowhere else
            data, end = format.batch(log.entries_after(position))
            return frame(data) if data else b"", max(position, end)
        key = format, frame, position
        batch = self._open.get(key) or self._kept.get(key)
        if batch is None:
            data, end = format.batch(log.rest_of_segment(position))
            batch = frame(data) if data else b"", max(position, end)
            if end < log.end or log.last_segment_is_full:
                self._keep(key, batch)
            else:
                if len(self._open) == OPEN_BATCHES:
                    self._open.clear()  # readers that reconnect are at the same few places
                self._open[key] = batch
        return batch

    def tail_of(self, entry: Entry, format: Format) -> bytes:
        """The tail of an entry of this log. Readers share it if it is long."""
        if entry.size < SHARED_FROM:
            return format.tail(entry)
        key = format, "tail", entry.position
        tail = self._kept.get(key)
        if tail is None:
            tail = format.tail(entry), entry.position
            self._keep(key, tail)
        return tail[0]

    def _keep(self, key: tuple[Format, object, int], made: tuple[bytes, int]) -> None:
        self._kept[key] = made
        self._kept_bytes += len(made[0])
        while self._kept_bytes > self._log.max_bytes and len(self._kept) > 1:
            oldest = next(iter(self._kept))
            self._kept_bytes -= len(self._kept.pop(oldest)[0])
