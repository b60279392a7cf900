"""The lines of a log, from its bytes. No I/O."""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple

from ..limits import KIB, MIB

LONGEST_LINE = 64 * KIB
"""Of a line at most this many bytes are shown."""
LONGEST_SPAN = 16 * MIB
"""A line that is longer is taken for several, so that nobody has to look for its end any
further."""

PATIENCE_SECONDS = 1.0
"""After this silence the last line is shown, although it has no line end."""

CHECKS = 1000
CHECKED_BYTES = 31
"""The number of a line has in it, beside the offset, a check of the last bytes of the line. So a
place in a file that was rewritten is told from one in the old file."""

_CONTROL = re.compile("[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]")  # all but TAB, LF and ESC


class Line(NamedTuple):
    """A line of a log."""

    number: int
    """The number of the place behind it: see `number_of`."""
    text: str


def number_of(offset: int, tail: bytes) -> int:
    """The number of the place at an offset. `tail` is what stands before it, without a line end;
    of the last line, the last `CHECKED_BYTES` count."""
    return offset * CHECKS + zlib.crc32(tail[-CHECKED_BYTES:]) % CHECKS


def offset_of(number: int) -> int:
    """The offset of the place with a number."""
    return number // CHECKS


class LineSplitter:
    """Bytes in, lines out. Of a long line only the beginning is kept."""

    def __init__(self, offset: int = 0, *, is_inside: bool = False) -> None:
        """`is_inside`: the bytes before the offset have been a line already, without its end."""
        self.offset = offset
        """The offset behind the last byte."""
        self._is_inside = is_inside
        self._kept = bytearray()
        self._tail = b""
        self._length = 0  # of the line that has not ended

    @property
    def has_begun(self) -> bool:
        """Whether there is a line that has not ended."""
        return self._length > 0

    def feed(self, data: bytes) -> list[Line]:
        """Take bytes. Return the lines that they end."""
        if self._is_inside and data:  # a line end that came late is none of another line
            self._is_inside = False
            late = 2 if data.startswith(b"\r\n") else 1 if data.startswith(b"\n") else 0
            self.offset += late
            data = data[late:]
        *ended, rest = data.split(b"\n")
        lines = []
        for part in ended:
            self.offset += len(part) + 1
            self._keep(part)
            lines.append(self._line())
        self.offset += len(rest)
        self._keep(rest)
        if self._length >= LONGEST_SPAN:
            lines += self.end()
        return lines

    def end(self) -> list[Line]:
        """Take the end of the bytes, or of the patience: a line without its line end is one."""
        if not self.has_begun:
            return []
        self._is_inside = True
        return [self._line()]

    def _keep(self, part: bytes) -> None:
        self._kept += part[: LONGEST_LINE - len(self._kept)]
        self._tail = (
            part[-CHECKED_BYTES:] if not self._length else (self._tail + part)[-CHECKED_BYTES:]
        )
        self._length += len(part)

    def _line(self) -> Line:
        text = readable(bytes(self._kept).removesuffix(b"\r"))
        if self._length > LONGEST_LINE:
            text += f" ... ({self._length - LONGEST_LINE:,} more bytes)"
        self._kept.clear()
        self._length = 0
        return Line(number_of(self.offset, self._tail), text)


def readable(data: bytes) -> str:
    """The text of a line. What is not UTF-8, and control characters, are escaped. ESC is not: it
    begins colors, which readers render or show."""
    text = data.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
