"""A log file that others write to, truncate and rotate: what is new in it.

Rotated:    the path leads to another file. The old one is read until it is silent, then the new
            one.
Truncated:  the file is shorter than what was read, or begins otherwise. It is read anew.

The number of a line is the offset behind it. The epoch is made of what distinguishes the file from
others that had its place: its device and inode, and its first line.
"""

from __future__ import annotations

import os
from hashlib import blake2s
from pathlib import Path
from typing import NamedTuple

from ..limits import KIB, MIB
from .lines import Line, LineSplitter

BLOCK_BYTES = 64 * KIB
"""Read at a time."""
GRACE_SECONDS = 1.0
"""A file that was renamed may still be written to, until its program opens the new one. It is read
until it has been silent for this long."""
FIRST_BYTES = KIB
"""The first line tells files apart by at most this much."""
LOOK_BACK_BYTES = 256 * MIB
"""A reader that asks for more lines than this begins here."""


class News(NamedTuple):
    """What one look at the file has brought."""

    epoch: str | None
    """Not None: another file begins here, with this epoch."""
    is_lost: bool
    """Whether something before it was lost."""
    lines: list[Line]


class LogFile:
    """A path, and the file that it leads to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._first = b""  # the first line, or its beginning
        self._lines = LineSplitter()
        self._renamed_since: float | None = None  # and silent

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def look(self, now: float) -> News | None:
        """Return what is new, at most `BLOCK_BYTES` of it; None if there is nothing. `now` is the
        time in seconds, by any clock. Raises `OSError` if the file cannot be read."""
        if self._fd < 0:
            return self._open(is_lost=False)
        if self._was_truncated():
            self.close()
            return self._open(is_lost=True) or News(None, True, [])
        data = os.pread(self._fd, BLOCK_BYTES, self._lines.offset)
        if data:
            self._renamed_since = None
            return News(None, False, self._lines.feed(data))
        if self._is_the_file():
            return None
        if self._renamed_since is None:
            self._renamed_since = now
        if now - self._renamed_since < GRACE_SECONDS:
            return None
        rest = self._lines.end()  # rotated: nobody writes to it any more
        self.close()
        return News(None, False, rest) if rest else self._open(is_lost=False)

    def end_line(self) -> News | None:
        """Return a last line without a line end. Call this when it has been silent for a while."""
        rest = self._lines.end()
        return News(None, False, rest) if rest else None

    # -- Which file it is

    def _open(self, *, is_lost: bool) -> News | None:
        """Begin with the file that the path leads to now, if it has a whole line."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            first, end, _ = os.pread(fd, FIRST_BYTES, 0).partition(b"\n")
        except OSError as error:  # a folder
            os.close(fd)
            error.filename = str(self.path)
            raise
        if not end and len(first) < FIRST_BYTES:
            os.close(fd)
            return None
        self._fd, self._first, self._renamed_since = fd, first + end, None
        self._lines = LineSplitter()
        return News(self.epoch, is_lost, [])

    @property
    def epoch(self) -> str:
        """The epoch of the lines of this file."""
        found = os.fstat(self._fd)
        name = f"{found.st_dev}:{found.st_ino}:".encode() + self._first
        return blake2s(name, digest_size=8).hexdigest()

    def _is_the_file(self) -> bool:
        """Whether the path still leads to it, or to nothing: then another one is to come."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except FileNotFoundError:
            return True

    def _was_truncated(self) -> bool:
        begins = os.pread(self._fd, len(self._first), 0)
        return begins != self._first or os.fstat(self._fd).st_size < self._lines.offset

    # -- What is older

    def skip_to_the_last(self, count: int) -> int:
        """Before lines of a file are read: skip all but the last ones. Return the offset at which
        reading begins."""
        offset = self.offset_before(os.fstat(self._fd).st_size, count)
        self._lines = LineSplitter(offset)
        return offset

    def is_line_start(self, offset: int) -> bool:
        """Whether a line begins at an offset."""
        return offset == 0 or os.pread(self._fd, 1, offset - 1) == b"\n"

    def lines_after(self, offset: int) -> list[Line]:
        """Return some lines from an offset on, at which one begins; at least one."""
        splitter = LineSplitter(offset)
        lines: list[Line] = []
        while not lines and (data := os.pread(self._fd, BLOCK_BYTES, splitter.offset)):
            lines = splitter.feed(data)
        return lines or splitter.end()

    def offset_before(self, offset: int, count: int) -> int:
        """Return where the line begins that is this many lines before an offset; 0 if there are
        fewer."""
        left = count
        stop = offset - 1  # the line end of the last line does not count
        while stop > 0:
            start = max(0, stop - BLOCK_BYTES)
            data = os.pread(self._fd, stop - start, start)
            found = data.count(b"\n")
            if found < left:
                left -= found
                stop = start
                continue
            place = len(data)
            for _ in range(left):
                place = data.rfind(b"\n", 0, place)
            return start + place + 1
        return 0
