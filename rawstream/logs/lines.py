"""The lines of a log, from its bytes. No I/O."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..limits import KIB

LONGEST_LINE = 64 * KIB
"""Of a line at most this many bytes are shown."""

_CONTROL = re.compile("[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]")  # all but TAB, LF and ESC


class Line(NamedTuple):
    """A line of a log."""

    end: int
    """The offset behind it, and behind its line end."""
    text: str


class LineSplitter:
    """Bytes in, lines out. Of a long line only the beginning is kept."""

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset
        """The offset behind the last byte."""
        self._kept = bytearray()
        self._length = 0  # of the line that has not ended

    @property
    def has_begun(self) -> bool:
        """Whether there is a line that has not ended."""
        return self._length > 0

    def feed(self, data: bytes) -> list[Line]:
        """Take bytes. Return the lines that they end."""
        *ended, rest = data.split(b"\n")
        lines = []
        for part in ended:
            self.offset += len(part) + 1
            self._keep(part)
            lines.append(self._line())
        self.offset += len(rest)
        self._keep(rest)
        return lines

    def end(self) -> list[Line]:
        """Take the end of the bytes, or of the patience: a line without its line end is one."""
        return [self._line()] if self.has_begun else []

    def _keep(self, part: bytes) -> None:
        self._kept += part[: LONGEST_LINE - len(self._kept)]
        self._length += len(part)

    def _line(self) -> Line:
        text = readable(bytes(self._kept).removesuffix(b"\r"))
        if self._length > LONGEST_LINE:
            text += f" ... ({self._length - LONGEST_LINE:,} more bytes)"
        self._kept.clear()
        self._length = 0
        return Line(self.offset, text)


def readable(data: bytes) -> str:
    """The text of a line. What is not UTF-8, and control characters, are escaped. ESC is not: it
    begins colors, which readers render or show."""
    text = data.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
