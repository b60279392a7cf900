"""The wire as text: a ladder in the order of time, the client on the left, the server on the right.

    0.201 s  #1  client <--------- 14 bytes --------- server
      http      chunk-size: 9
                39 0d 0a                                         9..
      sse       line: data: Hel (goes on)
                64 61 74 61 3a 20 48 65 6c                       data: Hel

A row is one line of a head, a chunk, an event; `rows.py` finds them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator

from ..dissector import terms
from ..dissector.scanner import counted
from ..dissector.spans import Bits, Direction, Dissected, Layer, Span, Term
from .rows import Row, rows_of

WIDTH = 80
BYTES_A_LINE = 16
DUMPED_BYTES = 64
"""Of one row at most this many bytes are printed, unless all are asked for."""
VALUE_LENGTH = 200
PAUSE_SECONDS = 1.0
"""A pause as long as this gets a line of its own."""

_MARGIN = " " * 14
_RED, _DIM, _PLAIN = "\033[31m", "\033[2m", "\033[0m"
_COLORS = {
    Layer.TCP: "\033[1m",
    Layer.HTTP2: "\033[36m",
    Layer.HTTP: "\033[34m",
    Layer.EVENTS: "\033[32m",
    Layer.LINES: "\033[32m",
    Layer.WEBSOCKET: "\033[35m",
    Layer.MESSAGES: "\033[32m",
}


class Ladder:
    """Prints what dissectors say, as lines."""

    def __init__(
        self,
        *,
        layers: Collection[Layer] = tuple(Layer),
        color: bool = False,
        explain: bool = False,
        all_bytes: bool = False,
    ) -> None:
        """`explain` adds its sentence to each term where it first appears."""
        self._layers = layers
        self._color = color
        self._explain = explain
        self._most = None if all_bytes else DUMPED_BYTES
        self._explained: set[Term] = set()
        self._times: dict[int, float] = {}  # of the latest piece of each connection

    def lines(self, connection: int, dissected: Dissected) -> Iterator[str]:
        """Yield the lines for one piece."""
        last = self._times.get(connection, dissected.time)
        if dissected.time - last >= PAUSE_SECONDS:
            yield self._colored(_DIM, f"{'':{len(_MARGIN)}}... {dissected.time - last:.1f} s later")
        self._times[connection] = dissected.time
        if dissected.span.term is terms.END:
            del self._times[connection]  # the last piece of a connection is one
        if Layer.TCP in self._layers:
            yield self._colored(_COLORS[Layer.TCP], _rung(connection, dissected))
            yield from self._sentence(dissected.span.term)
        piece = dissected.span
        for row in rows_of(piece, (*dissected.tiles, *dissected.late), dissected.completed):
            if row.layer in self._layers:
                if row.piece is not piece:
                    piece = row.piece
                    yield f"{_MARGIN}The bytes of an earlier {piece.name}, which waited for this:"
                yield from self._row(row)

    def _row(self, row: Row) -> Iterator[str]:
        yield from self._headline(row)
        yield from self._sentence(row.span.term)
        if not row.is_result and row.above not in self._layers:
            yield from self._dump(bytes(row.data))
        for span in dict.fromkeys((row.span, *(element.span for element in row.elements))):
            yield from self._remarks(span)

    def _headline(self, row: Row) -> Iterator[str]:
        span = row.span
        what = span.name
        if row.is_result:
            what = f"-> {what}"
        if row.is_continued and not row.is_result:
            what += " (continued)"
        value = f": {_shortened(span.value)}" if span.value.strip() else ""
        if row.above in self._layers:
            value = f": {counted(len(row.data), 'byte')}, which follow"
        goes_on = " (goes on)" if span.is_open else ""
        first, *others = _wrapped(f"{what}{value}{goes_on}")
        layer = f"{row.layer.value:9}"
        yield f"    {self._colored(_COLORS[row.layer], layer)} {first}"
        yield from (f"{_MARGIN}{line}" for line in others)

    def _sentence(self, term: Term) -> Iterator[str]:
        if self._explain and term not in self._explained:
            self._explained.add(term)
            for line in _wrapped(f"{term.meaning} ({term.section})"):
                yield self._colored(_DIM, f"{_MARGIN}{line}")

    def _dump(self, data: bytes) -> Iterator[str]:
        shown = data[: self._most]
        for start in range(0, len(shown), BYTES_A_LINE):
            line = shown[start : start + BYTES_A_LINE]
            digits = line.hex(" ")
            yield f"{_MARGIN}{digits:{3 * BYTES_A_LINE}} {_printable(line)}".rstrip()
        if len(shown) < len(data):
            yield f"{_MARGIN}... {counted(len(data) - len(shown), 'more byte')}"

    def _remarks(self, span: Span) -> Iterator[str]:
        place = 0
        for bits in span.bits:
            if bits.is_notable:
                yield f"{_MARGIN}{_picture(bits, place)} {bits.name}: {bits.meaning}"
            place += bits.width
        for line in _wrapped(span.detail):
            yield f"{_MARGIN}{line}"
        for line in _wrapped(f"mistake: {span.mistake}" if span.mistake else ""):
            yield self._colored(_RED, f"{_MARGIN}{line}")

    def _colored(self, color: str, text: str) -> str:
        return f"{color}{text}{_PLAIN}" if self._color else text


def _rung(connection: int, dissected: Dissected) -> str:
    label = f" {dissected.span.value or dissected.span.name} "
    line = f"{label:-^30}"
    arrow = f"{line}>" if dissected.direction is Direction.TO_SERVER else f"<{line}"
    return f"{dissected.time:9.3f} s  #{connection}  client {arrow} server"


def _picture(bits: Bits, place: int) -> str:
    """Where the bits lie in their byte, as in "1......."."""
    return f"{'.' * place}{bits.value:0>{bits.width}}{'.' * (8 - place - bits.width)}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH - len(_MARGIN))


def _printable(data: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)


def _shortened(value: str) -> str:
    """The value in one line, without control characters."""
    short = value if len(value) <= VALUE_LENGTH else f"{value[:VALUE_LENGTH]}..."
    return short if short.isprintable() else ascii(short)[1:-1]
