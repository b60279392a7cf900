"""Connections taken apart, and what is true of every one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from rawstream.dissector.connection import Dissector
from rawstream.dissector.spans import Direction, Dissected, Layer, Piece, Span, Tile
from rawstream.wire.rows import rows_of

TO_SERVER, TO_CLIENT = Direction
END = b""


@dataclass
class Taken:
    """What a dissector has said of a connection."""

    steps: list[Dissected]

    def tiles(self, direction: Direction) -> list[Tile]:
        """In the order of their offsets, as they became known."""
        found: list[Tile] = []
        for step in self.steps:
            found += step.tiles if step.direction is direction else step.late
        return found

    def completed(self, *names: str) -> list[Span]:
        return [s for step in self.steps for s in step.completed if not names or s.name in names]

    def mistakes(self) -> list[str]:
        tiles = [*self.tiles(TO_SERVER), *self.tiles(TO_CLIENT)]
        spans = [s for t in tiles for top in t.spans for s in (top, *top.enclosing())]
        return [s.mistake for s in dict.fromkeys((*spans, *self.completed())) if s.mistake]


def dissect(*pieces: tuple[Direction, bytes]) -> Taken:
    """Take these pieces, and check what is true of all pieces: each byte lies in one tile, and is
    shown in one row."""
    dissector = Dissector()
    taken = Taken([dissector.feed(Piece(n / 10, *piece)) for n, piece in enumerate(pieces)])
    for step in taken.steps:
        known_now = (*step.tiles, *step.late)
        shown = [r for r in rows_of(step.span, known_now, step.completed) if not r.above]
        assert b"".join(row.data for row in shown) == b"".join(tile.data for tile in known_now)
    ended = {direction for direction, data in pieces if not data}
    for direction in Direction:
        sent = b"".join(data for towards, data in pieces if towards is direction)
        tiles = taken.tiles(direction)
        at = 0
        for tile in tiles:
            assert tile.start == at
            assert tile.data
            at = tile.stop
            for span in tile.spans:
                for around in (span, *span.enclosing()):
                    assert around.start <= tile.start
                    assert around.stop >= tile.stop
                    assert around.layer is span.layer
            layers = [span.layer for span in tile.spans]
            assert layers == sorted(set(layers), key=list(Layer).index)
            assert layers[0] is Layer.TCP
        known = b"".join(tile.data for tile in tiles)
        if ended == set(Direction):
            assert at == len(sent)
        assert len(known) <= len(sent)
        assert all(a in (b, ord("*")) for a, b in zip(known, sent, strict=False))
    return taken


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The data in pieces, cut at these places."""
    marks = sorted({place % len(data) for place in places} - {0}) if data else []
    return [data[a:b] for a, b in zip([0, *marks], [*marks, len(data)], strict=True) if a < b]


def in_both(
    to_server: Sequence[bytes], to_client: Sequence[bytes]
) -> list[tuple[Direction, bytes]]:
    pieces = [(TO_SERVER, data) for data in to_server] + [(TO_CLIENT, data) for data in to_client]
    return [*pieces, (TO_SERVER, END), (TO_CLIENT, END)]


PLACES = st.lists(st.integers(0, 10_000), max_size=12)
