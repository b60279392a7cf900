"""The tables of HPACK: the static one, and what a sender has added (RFC 7541 section 2.3).

The static table and the Huffman code are those of the hpack library, which is not always installed.
The dynamic table is our own: it has to say what it does, and to be bounded whatever is allowed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from ...limits import KIB
from ..scanner import counted

DEFAULT_BYTES = 4096
"""The limit of a dynamic table at first (RFC 9113 section 6.5.2)."""
KEPT_TABLE_BYTES = 64 * KIB
"""However large a table may be, older entries are not kept beyond this: the limit of browsers."""
ENTRY_BYTES = 32
"""What an entry counts beside its name and value (RFC 7541 section 4.1)."""
NEEDS_HPACK = 'to read these fields install hpack: pip install "rawstream[http2]"'


class Entry(NamedTuple):
    """A field in a table."""

    name: bytes
    value: bytes
    shown: str
    """The value with secrets masked."""
    size: int = 0


class Hpack(NamedTuple):
    """What is taken from the hpack library."""

    static: Sequence[tuple[bytes, bytes]]
    """From index 1."""
    huffman: Sequence[tuple[int, int, int]]
    """A state machine: for each state and half a byte the next state, flags, and a character."""
    complete: int
    emits: int
    fails: int
    """The flags: the string may end here; there is a character; there is no such code."""


@lru_cache(maxsize=1)
def hpack() -> Hpack | None:
    """Return the tables, or None if the library is not installed."""
    try:
        from hpack import huffman_table as huffman
        from hpack.table import HeaderTable
    except ImportError:
        return None
    return Hpack(
        HeaderTable.STATIC_TABLE,
        huffman.HUFFMAN_TABLE,
        huffman.HUFFMAN_COMPLETE,
        huffman.HUFFMAN_EMIT_SYMBOL,
        huffman.HUFFMAN_FAIL,
    )


class Table:
    """The dynamic table of one sender. Index 62 is its newest entry."""

    def __init__(self) -> None:
        self.limit = DEFAULT_BYTES
        self.size = 0
        self.is_lost = False
        """Whether a field block could not be read: then nobody knows what the table has."""
        self.entries: deque[Entry] = deque()  # the newest first

    def entry(self, static: Sequence[tuple[bytes, bytes]], index: int) -> Entry | None:
        """Return what stands at an index, from 1."""
        if index <= len(static):
            name, value = static[index - 1]
            return Entry(name, value, value.decode())
        place = index - len(static) - 1
        return self.entries[place] if place < len(self.entries) else None

    @property
    def is_whole(self) -> bool:
        """Whether it has everything that the sender's has."""
        return not self.is_lost and self.limit <= KEPT_TABLE_BYTES

    def add(self, entry: Entry) -> str:
        """Add a field. Return what that does."""
        if self.is_lost:
            return "added to the dynamic table, of which a part is unknown"
        self.entries.appendleft(entry)
        self.size += entry.size
        evicted = self._evict()
        if entry.size > self.limit:
            return "larger than the whole dynamic table, which is empty now"
        says = f"added to the dynamic table as 62 ({self.describe()})"
        return f"{says}; {evicted:,} evicted" if evicted else says

    def resize(self, limit: int) -> str:
        """Set the limit. Return what that does."""
        self.limit = limit
        evicted = self._evict()
        says = f"the dynamic table has {self.describe()}"
        return f"{says}; {evicted:,} evicted" if evicted else says

    def lose(self) -> None:
        """Note that the table is not known any more."""
        self.is_lost = True
        self.entries.clear()
        self.size = 0

    def describe(self) -> str:
        """Say how full it is."""
        count = len(self.entries)
        kept = " kept here" if self.limit > KEPT_TABLE_BYTES else ""
        entries = "entry" if count == 1 else "entries"
        return f"{count:,} {entries}, {counted(self.size, 'byte')}{kept}"

    def _evict(self) -> int:
        """Drop the oldest entries until the rest fits. Return how many."""
        before = len(self.entries)
        while self.size > self.limit or (self.size > KEPT_TABLE_BYTES and len(self.entries) > 1):
            self.size -= self.entries.pop().size
        return before - len(self.entries)
