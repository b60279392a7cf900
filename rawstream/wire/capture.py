r"""Recordings as files: one JSON object a line.

    {"rawstream-wire": 1}
    {"connection": 1, "time": 0.0, "to": "server", "bytes": "GET / HTTP/1.1\r\n..."}
    {"connection": 1, "time": 0.002, "to": "client", "bytes": "HTTP/1.1 200 OK\r\n..."}
    {"connection": 1, "time": 0.002, "to": "client", "bytes": ""}

Each line but the first is one read or write. Each character of "bytes" is one byte, from U+0000 to
U+00FF; none means that the direction has ended. Secrets have been replaced by asterisks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TextIO

from ..dissector.spans import Direction, Dissected, Piece, Span

HEADER = '{"rawstream-wire": 1}'

_DIRECTIONS = {"server": Direction.TO_SERVER, "client": Direction.TO_CLIENT}
_NAMES = {direction: name for name, direction in _DIRECTIONS.items()}


class BadCapture(ValueError):
    """A file that is no recording."""


class CaptureWriter:
    """A view that writes a file."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._masked: dict[Span, tuple[int, Piece]] = {}  # pieces that are not yet known whole
        self._write(HEADER)

    async def show(self, connection: int, dissected: Dissected) -> None:
        """Write each piece once it is known which of its bytes are secret."""
        span = dissected.span
        empty = Piece(dissected.time, dissected.direction, b"")
        if span.start == span.stop:
            self._write(_line(connection, empty))
        else:
            self._masked[span] = (connection, empty)
        for tile in (*dissected.tiles, *dissected.late):
            span = tile.spans[0]
            number, piece = self._masked[span]
            piece = Piece(piece.time, piece.direction, piece.data + tile.data)
            self._masked[span] = (number, piece)
            if tile.stop == span.stop:
                del self._masked[span]
                self._write(_line(number, piece))

    async def lose(self, connection: int, why: str) -> None:
        """The file has no mark for it: the connection just does not go on."""

    def _write(self, line: str) -> None:
        self._file.write(f"{line}\n")
        self._file.flush()


def _line(connection: int, piece: Piece) -> str:
    return json.dumps(
        {
            "connection": connection,
            "time": piece.time,
            "to": _NAMES[piece.direction],
            "bytes": piece.data.decode("latin-1"),
        }
    )


def read_capture(lines: Iterable[str]) -> Iterator[tuple[int, Piece]]:
    """Yield the pieces of a recording, and the number of the connection of each, in the order of
    the file. Raises `BadCapture`, which says
    where."""
    numbered = enumerate(lines, 1)
    if next(numbered, (1, ""))[1].strip() != HEADER:
        raise BadCapture(f"line 1: a recording begins with {HEADER}")
    for number, line in numbered:
        try:
            fields = json.loads(line)
            direction = _DIRECTIONS[fields["to"]]
            data = fields["bytes"].encode("latin-1")
            yield int(fields["connection"]), Piece(float(fields["time"]), direction, data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadCapture(f"line {number}: not a piece of a recording ({error!r})") from None
