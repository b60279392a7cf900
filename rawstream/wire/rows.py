"""The tiles of a piece as rows: bytes that are explained together, such as a line of a head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..dissector import terms
from ..dissector.http2 import terms as http2_terms
from ..dissector.spans import Layer, Span, Tile

JOINED = (terms.CHUNK_SIZE, terms.CHUNK_EXTENSION)
"""The end of the line is shown in the same row."""

RESULTS = (terms.EVENT, terms.MESSAGE, http2_terms.HEADER_SECTION)
"""At their end they get a row without bytes, which tells what an application receives."""

CONTAINERS = terms.CONTAINERS | http2_terms.CONTAINERS
"""They consist of elements that are shown one by one."""


class Element(NamedTuple):
    """A part of a row: the innermost span of some of its bytes."""

    span: Span
    size: int


@dataclass(slots=True)
class Row:
    """Some bytes of one layer, or a result."""

    span: Span
    piece: Span
    start: int
    """The offset of the first byte."""
    data: bytearray = field(default_factory=bytearray)
    elements: list[Element] = field(default_factory=list)
    """In order."""
    is_result: bool = False
    above: Layer | None = None
    """The layer whose rows show the same bytes again."""

    @property
    def layer(self) -> Layer:
        return self.span.layer

    @property
    def is_continued(self) -> bool:
        """Whether the span began before this row."""
        return self.span.start < self.start


def rows_of(piece: Span, tiles: Sequence[Tile], completed: Sequence[Span]) -> list[Row]:
    """Return the rows that `piece` tells of, in the order of their bytes, lower layers first. A row
    ends where the row of the layer below ends."""
    results: dict[int, list[Span]] = {}  # by their ends
    for span in completed:
        if span.term in RESULTS:
            results.setdefault(span.stop, []).append(span)
    rows: list[Row] = []
    current: list[Row] = []  # one of each layer, from the lowest up
    for tile in tiles:
        spans = [span for span in tile.spans[1:] if span.term not in RESULTS]
        for number, span in enumerate(spans):
            shown = _shown(span)
            if number < len(current) and _goes_on(current[number], shown):
                row = current[number]
            else:
                row = Row(shown, tile.spans[0], tile.start)
                current[number:] = [row]
                rows.append(row)
            row.data += tile.data
            row.elements.append(Element(span, len(tile.data)))
            row.above = spans[number + 1].layer if number + 1 < len(spans) else None
        del current[len(spans) :]
        around = (*tile.spans, *tile.innermost.enclosing())
        for result in [span for span in results.get(tile.stop, ()) if span in around]:
            rows.append(Row(result, tile.spans[0], tile.stop, is_result=True))
            results[tile.stop].remove(result)
            current.clear()
    # Messages without bytes, and events that the end of the connection cuts off.
    left = [span for ended in results.values() for span in ended]
    last = tiles[-1].spans[0] if tiles else piece
    rows += (Row(span, last, span.stop, is_result=True) for span in left)
    return rows


def _goes_on(row: Row, shown: Span) -> bool:
    return shown is row.span or (shown.term is terms.CRLF and row.span.term in JOINED)


def _shown(span: Span) -> Span:
    """The outermost span around this one that is no container."""
    shown = span
    for around in span.enclosing():
        if around.term in CONTAINERS:
            break
        shown = around
    return shown
