"""One connection, taken apart: pieces in, spans out. No I/O.

Nothing here depends on the server. The layers are found again in the bytes alone, as a stranger on
the wire would find them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial

from . import terms
from .conversation import Conversation
from .http_messages import requests, responses
from .scanner import Scanner, Spans, counted
from .spans import Direction, Dissected, Piece, Span, Tile

PIECE_TERMS = {Direction.TO_SERVER: terms.READ, Direction.TO_CLIENT: terms.WRITE}


class Dissector:
    """Takes the pieces of one connection in the order of time."""

    def __init__(self) -> None:
        self._spans = Spans()
        conversation = Conversation()
        self._client = _Direction(Scanner(partial(requests, conversation), self._spans))
        self._server = _Direction(Scanner(partial(responses, conversation), self._spans))

    @property
    def has_ended(self) -> bool:
        """Whether both directions have ended."""
        return self._client.has_ended and self._server.has_ended

    def feed(self, piece: Piece) -> Dissected:
        """Take a piece. Return what it tells."""
        own, other = self._client, self._server
        if piece.direction is Direction.TO_CLIENT:
            own, other = other, own
        term = PIECE_TERMS[piece.direction] if piece.data else terms.END
        span = self._spans.open(term, own.arrived)
        span.stop += len(piece.data)
        span.value = counted(len(piece.data), "byte") if piece.data else ""
        span.is_open = False
        tiles = own.feed(piece.data, span) if piece.data else own.end()
        if self.has_ended:
            tiles += own.give_up()
        late = other.give_up() if self.has_ended else other.go_on()
        completed = self._spans.take_completed()
        return Dissected(span, piece.time, piece.direction, tuple(tiles), tuple(late), completed)


class _Direction:
    """The bytes of one direction, and the pieces that they came in."""

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner
        self._pieces: deque[Span] = deque()  # those whose bytes have not all been explained
        self.arrived = 0

    @property
    def has_ended(self) -> bool:
        return self._scanner.has_ended

    def feed(self, data: bytes, piece: Span) -> list[Tile]:
        self._pieces.append(piece)
        offset, self.arrived = self.arrived, self.arrived + len(data)
        return list(self._in_pieces(self._scanner.feed(data, offset)))

    def end(self) -> list[Tile]:
        return list(self._in_pieces(self._scanner.end()))

    def go_on(self) -> list[Tile]:
        return list(self._in_pieces(self._scanner.go_on()))

    def give_up(self) -> list[Tile]:
        return list(self._in_pieces(self._scanner.give_up()))

    def _in_pieces(self, tiles: Iterable[Tile]) -> Iterator[Tile]:
        """Add to each tile the piece that it lies in, and cut it where a piece ends."""
        for tile in tiles:
            start, data = tile.start, tile.data
            while data:
                piece = self._pieces[0]
                size = min(len(data), piece.stop - start)
                yield Tile(start, data[:size], (piece, *tile.spans))
                start, data = start + size, data[size:]
                if start == piece.stop:
                    self._pieces.popleft()
