"""Field blocks that come again (HPACK, RFC 7541).

What a block means depends on the dynamic table, and most blocks change it only once: a request or a
response that comes again is then a few numbers of entries, which hpack works out anew each time. As
long as the table stays as it was, the result does, too, and is kept here.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

from h2.errors import ErrorCodes
from hpack import Decoder, Encoder, HeaderTuple
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from .guard import BrokenProtocol

K = TypeVar("K")
V = TypeVar("V")

KEPT_BLOCKS = 16
KEPT_BYTES = 512
"""Of each connection and direction so many blocks are kept, up to this size."""

REASON = 100
"""Characters of an error that the client is told: some quote the whole block."""

SIZE_UPDATE, SIZE_UPDATE_MASK = 0x20, 0xE0
"""The first bits of a block that resizes the table (RFC 7541 section 6.3)."""


class _Kept(dict[K, V]):
    """Results that hold for one state of a table."""

    def __init__(self, table: HeaderTable) -> None:
        self._table = table
        self._state = self._state_now()

    def _state_now(self) -> tuple[int, object]:
        """The number of entries, and the newest: each new one is another object."""
        entries = self._table.dynamic_entries
        return len(entries), entries[0] if entries else None

    def is_valid(self) -> bool:
        """Whether the table is as it was. If not, everything kept is dropped."""
        count, newest = self._state_now()
        if count == self._state[0] and newest is self._state[1]:
            return True
        self._state = count, newest
        self.clear()
        return False

    def keep(self, key: K, value: V) -> None:
        """Keep a result, if working it out has not changed the table."""
        if self.is_valid():
            if len(self) == KEPT_BLOCKS:
                del self[next(iter(self))]
            self[key] = value


class BlockEncoder(Encoder):
    """Compresses fields."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = _Kept[tuple[tuple[bytes, bytes], ...], bytes](self.header_table)

    def encode(self, headers: Any, huffman: bool = True) -> bytes:
        """Return the block of these fields, pairs of name and value."""
        fields = tuple(headers)
        kept = self._kept
        if self.header_table.resized:
            # The smallest and the last size are told (RFC 7541 section 4.2); hpack tells all.
            *_, last = changes = self.table_size_changes
            self.table_size_changes = list(dict.fromkeys((min(changes), last)))
            return super().encode(fields, huffman)
        if kept.is_valid() and fields in kept:
            return kept[fields]
        block = super().encode(fields, huffman)
        if len(block) <= KEPT_BYTES:
            kept.keep(fields, block)
        return block


class BlockDecoder(Decoder):
    """Finds the fields of a block again.

    It hands all of them through h2 as one. h2 would look for mistakes in them, and end the
    connection where only a stream must end.
    """

    def __init__(self, largest: int) -> None:
        """`largest` is the size of the fields of a block, in bytes, above which it is refused."""
        super().__init__(largest)
        self._kept = _Kept[bytes, "list[HeaderTuple]"](self.header_table)

    def decode(self, data: bytes, raw: bool = False) -> list[HeaderTuple]:
        """Raises `BrokenProtocol`: what cannot be unfolded leaves the two sides with different
        tables (RFC 9113 section 4.3)."""
        kept = self._kept
        if kept.is_valid() and (found := kept.get(data)) is not None:
            return found
        try:
            fields = super().decode(data, raw=True)
        except OversizedHeaderListError as error:
            raise BrokenProtocol(ErrorCodes.ENHANCE_YOUR_CALM, str(error)) from error
        except HPACKError as error:
            raise BrokenProtocol(ErrorCodes.COMPRESSION_ERROR, str(error)[:REASON]) from error
        found = [HeaderTuple(b"", cast(bytes, fields))]
        if len(data) <= KEPT_BYTES and data and data[0] & SIZE_UPDATE_MASK != SIZE_UPDATE:
            kept.keep(bytes(data), found)
        return found
