"""A log file that others write to, truncate and rotate: what is new in it.

Rotated:    the path leads to another file. The old one is read until it is silent, then the new
            one.
Truncated:  the file is shorter than what was read, or its bytes are others. It is read anew.

The number of a line is the offset behind it, with a check of its bytes. The epoch is made of what
distinguishes the file from others that had its place: its device and inode, and its first line.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from hashlib import blake2s
from pathlib import Path
from typing import NamedTuple

from ..limits import KIB, MIB
from .lines import CHECKED_BYTES, PATIENCE_SECONDS, Line, LineSplitter, number_of

BLOCK_BYTES = 64 * KIB
"""Read at a time."""
FIRST_BYTES = KIB
"""The first line tells files apart by at most this much."""
LOOK_BACK_BYTES = 64 * MIB
"""A reader that asks for more lines than this begins here."""
GRACE_SECONDS = 1.0
"""A file that was renamed may still be written to, until its program opens the new one. It is read
until it has been silent for this long."""
MOST_WAITING = 100
"""Files of one path that are open at a time: the one that is read, and those that have taken its
place since."""


class OpenLog:
    """An open file."""

    def __init__(self, path: Path) -> None:
        """Raises `OSError` if it cannot be opened, or is no file."""
        # Without O_NONBLOCK it would wait for somebody to write to a named pipe.
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        mode = os.fstat(self._fd).st_mode
        if not stat.S_ISREG(mode):
            self.close()
            why = "Is a directory" if stat.S_ISDIR(mode) else "Not a regular file"
            raise OSError(errno.EINVAL, why, str(path))
        self.first = b""
        """The first line, or its beginning."""

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
        self._fd = -1

    def read(self, offset: int, size: int = BLOCK_BYTES) -> bytes:
        """What stands at an offset."""
        return os.pread(self._fd, size, offset)

    def status(self) -> os.stat_result:
        """The status of the file."""
        return os.fstat(self._fd)

    @property
    def size(self) -> int:
        """Its size now."""
        return self.status().st_size

    def find_first(self, *, whole: bool) -> bool:
        """Look for the first line; if not `whole`, its beginning will do. Return whether there is
        one."""
        self.first = b""
        first, end, _ = self.read(0, FIRST_BYTES).partition(b"\n")
        if end or len(first) == FIRST_BYTES or (first and not whole):
            self.first = first + end
        return bool(self.first)

    @property
    def epoch(self) -> str:
        """The epoch of its lines."""
        found = self.status()
        name = f"{found.st_dev}:{found.st_ino}:".encode() + self.first
        return blake2s(name, digest_size=8).hexdigest()

    @property
    def begins_as_before(self) -> bool:
        """Whether its first line is still the same."""
        return self.read(0, len(self.first)) == self.first

    def number_at(self, offset: int) -> int:
        """The number of the place at an offset, by the bytes before it."""
        start = max(0, offset - CHECKED_BYTES - 1)
        before = self.read(start, offset - start)
        return number_of(offset, before.removesuffix(b"\n").rpartition(b"\n")[2])

    def lines_after(self, offset: int) -> list[Line]:
        """Some lines from an offset on, at least one unless there are no more bytes."""
        is_inside = offset > 0 and self.read(offset - 1, 1) != b"\n"
        splitter = LineSplitter(offset, is_inside=is_inside)
        lines: list[Line] = []
        while not lines and (data := self.read(splitter.offset)):
            lines = splitter.feed(data)
        return lines or splitter.end()

    def offset_before(self, offset: int, count: int) -> int:
        """Where the line begins that is this many lines before an offset, or the first one if there
        are fewer. It looks back `LOOK_BACK_BYTES`."""
        left = count
        stop = offset - 1  # the line end of the last line does not count
        found_at = None
        while stop > 0 and offset - stop < LOOK_BACK_BYTES:
            start = max(0, stop - BLOCK_BYTES)
            data = self.read(start, stop - start)
            found = data.count(b"\n")
            if found >= left:
                place = len(data)
                for _ in range(left):
                    place = data.rfind(b"\n", 0, place)
                return start + place + 1
            left -= found
            stop = start
            if found:
                found_at = start + data.index(b"\n") + 1
        if stop <= 0:
            return 0
        return stop if found_at is None else found_at


class News(NamedTuple):
    """What one look at a path has brought."""

    begun: OpenLog | None
    """Not None: its lines begin here, or those of the same file anew."""
    is_lost: bool
    """Whether something before it was lost."""
    lines: list[Line]


class LogFile:
    """A path, and the files that it leads to, one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.gone_since: float | None = None
        """Since when the path has led nowhere."""
        self._open: OpenLog | None = None
        self._has_begun = False
        self._waiting = deque[OpenLog]()  # that have taken its place
        self._seen: tuple[int, int, int] | None = None  # of the newest file, when last looked at
        self._lines = LineSplitter()
        self._tail = b""  # the last bytes that were read
        self._is_read = False  # up to its end, as far as is known
        self._silent_since = 0.0

    def close(self) -> None:
        """Close all files."""
        for file in (self._open, *self._waiting):
            if file is not None:
                file.close()
        self._open = None
        self._waiting.clear()

    def look(self, now: float) -> News | None:
        """Return what is new, about `BLOCK_BYTES` of it; None if there is nothing. `now` is the
        time in seconds, by any clock. A file that is returned stays open until another one is.
        Raises `OSError` if the path cannot be read."""
        has_changed = self._look_at_path(now)
        if self._open is None:
            return None
        if not has_changed and not self._waiting and self._is_read:
            return self._end_line(now)
        if not self._has_begun:
            return self._begin(now)
        if self._was_rewritten():
            self._lines = LineSplitter()
            self._tail = b""
            self._has_begun = False
            begun = self._begin(now)
            return News(begun.begun if begun else None, True, [])
        if data := self._open.read(self._lines.offset):
            self._silent_since = now
            self._tail = (self._tail + data)[-CHECKED_BYTES:]
            self._is_read = len(data) < BLOCK_BYTES
            return News(None, False, self._lines.feed(data))
        self._is_read = True
        return self._next(now) if self._waiting else self._end_line(now)

    def _look_at_path(self, now: float) -> bool:
        """Open what the path leads to, if it is another file. Return whether something has
        changed."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            if self.gone_since is None:
                self.gone_since = now
            return self._open is not None  # it may still be written to
        self.gone_since = None
        newest = self._waiting[-1] if self._waiting else self._open
        if newest is None or not os.path.samestat(found, newest.status()):
            if len(self._waiting) < MOST_WAITING:
                file = OpenLog(self.path)
                if self._open is None:
                    self._open = file
                else:
                    self._waiting.append(file)
            self._silent_since = now
        seen = found.st_ino, found.st_size, found.st_mtime_ns
        has_changed, self._seen = seen != self._seen, seen
        return has_changed

    def _begin(self, now: float) -> News | None:
        """Begin with the file that is open, once it has a line."""
        assert self._open is not None
        is_patient = now - self._silent_since < PATIENCE_SECONDS
        if not self._open.find_first(whole=is_patient):
            self._is_read = False
            return None
        self._has_begun, self._is_read = True, False
        self._lines, self._tail = LineSplitter(), b""
        self._silent_since = now
        return News(self._open, False, [])

    def _was_rewritten(self) -> bool:
        assert self._open is not None
        end = self._lines.offset
        before = self._open.read(end - len(self._tail), len(self._tail))
        return before != self._tail or not self._open.begins_as_before

    def _next(self, now: float) -> News | None:
        """Go on with the next file, once nobody writes to the old one any more. Where there are two
        to come, nobody does."""
        assert self._open is not None
        following = self._waiting[0]
        if len(self._waiting) == 1:
            if now - self._silent_since < GRACE_SECONDS:
                return None
            if not following.find_first(whole=now - self._silent_since < 2 * PATIENCE_SECONDS):
                return None  # lines may still come to the old one
        rest = self._lines.end()
        if rest:
            return News(None, False, rest)
        old, self._open = self._open, self._waiting.popleft()
        self._has_begun = False
        self._silent_since = now - PATIENCE_SECONDS
        begun = self._begin(now)
        old.close()
        return begun or News(None, False, [])

    def _end_line(self, now: float) -> News | None:
        """Return a last line without a line end, when it has been silent for a while."""
        if now - self._silent_since < PATIENCE_SECONDS or not self._has_begun:
            return None
        rest = self._lines.end()
        return News(None, False, rest) if rest else None

    def skip_to_the_last(self, count: int) -> int:
        """Before lines of a file are read: skip all but the last ones. Return the number of the
        place where reading begins."""
        assert self._open is not None
        offset = self._open.offset_before(self._open.size, count)
        self._lines = LineSplitter(offset)
        start = max(0, offset - CHECKED_BYTES)
        self._tail = self._open.read(start, offset - start)
        return self._open.number_at(offset) if offset else 0
