"""What a page is told of the wire: one JSON object for each piece.

    {"connection": 1, "time": 0.201, "to": "client", "piece": 31, "start": 170, "size": 14,
     "spans": [{"id": 31, "term": 1, "start": 170, "stop": 184}, ...],
     "rows": [{"span": 34, "start": 170, "size": 3, "elements": [[35, 1], [36, 2]], ...}, ...]}

or, when the rest of a connection is not shown, {"connection": 1, "lost": "too much at once"}.

Rows are those of the ladder, and name their spans by number. A term, the same for many spans, is
named by its place in `TERMS`, which the page has from the start.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from math import inf
from typing import Any

from ..dissector import field_terms, terms
from ..dissector.http2 import terms as http2_terms
from ..dissector.spans import Direction, Dissected, Span, Term
from .rows import CONTAINERS, Row, rows_of

KEPT_BYTES = 1024
"""Of one row at most this many bytes are sent."""
KEPT_ROWS = 256
KEPT_TILES = 2048
"""Of one piece at most as much is sent: thousands of tiny frames may lie in one read."""

TERMS: tuple[Term, ...] = (
    *terms.every_term(),
    *field_terms.every_term(),
    *http2_terms.every_term(),
)

_NUMBERS = {term: number for number, term in enumerate(TERMS)}
_NAMES = {Direction.TO_SERVER: "server", Direction.TO_CLIENT: "client"}


def described_terms() -> list[dict[str, Any]]:
    """The table of terms for a page."""
    return [
        {
            "layer": term.layer.value,
            "name": term.name,
            "meaning": term.meaning,
            "section": term.section,
            "container": term in CONTAINERS,
        }
        for term in TERMS
    ]


def piece_record(connection: int, dissected: Dissected) -> dict[str, Any]:
    """The record of a piece. It names each span whose description may have changed since."""
    piece = dissected.span
    tiles = (*dissected.tiles, *dissected.late)
    shown = tiles[:KEPT_TILES]
    end = shown[-1].stop if len(shown) < len(tiles) else inf
    completed = [span for span in dissected.completed if span.stop <= end]
    found = rows_of(piece, shown, completed)
    rows = found[:KEPT_ROWS]
    spans = dict.fromkeys((piece, *_with_enclosing(span for row in rows for span in _named(row))))
    return {
        "connection": connection,
        "time": dissected.time,
        "to": _NAMES[dissected.direction],
        "piece": piece.number,
        "start": piece.start,
        "size": piece.stop - piece.start,
        "spans": [_described(span) for span in spans],
        "rows": [_row(row, piece) for row in rows],
        "more": len(found) - len(rows) + len(tiles) - len(shown),
    }


def _named(row: Row) -> Iterable[Span]:
    yield row.span
    yield from (element.span for element in row.elements)


def _with_enclosing(spans: Iterable[Span]) -> Iterable[Span]:
    for span in spans:
        yield span
        yield from span.enclosing()


def _row(row: Row, piece: Span) -> dict[str, Any]:
    found: dict[str, Any] = {
        "span": row.span.number,
        "start": row.start,
        "size": len(row.data),
        "elements": [[element.span.number, element.size] for element in row.elements],
    }
    if row.is_result:
        found["result"] = True
    elif row.above:
        found["above"] = row.above.value
    else:
        found["bytes"] = row.data[:KEPT_BYTES].decode("latin-1")
        found["elements"] = list(islice(found["elements"], KEPT_BYTES))
    if row.piece is not piece:
        found["piece"] = row.piece.number
    return found


def _described(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": span.number,
        "term": _NUMBERS[span.term],
        "start": span.start,
        "stop": span.stop,
    }
    if span.parent:
        found["parent"] = span.parent.number
    for name in ("value", "detail", "mistake"):
        if text := getattr(span, name):
            found[name] = text
    if span.bits:
        found["bits"] = [[bits.name, bits.width, bits.value, bits.meaning] for bits in span.bits]
    if span.is_open:
        found["open"] = True
    return found
