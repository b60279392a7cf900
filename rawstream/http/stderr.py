"""Logs to stderr: without what a client could do to a terminal, and without ever waiting for who
reads them."""

from __future__ import annotations

import logging
import os
import select
import sys

logger = logging.getLogger("rawstream")

PIPE_BUF = 4096
"""A pipe that has room at all takes so many bytes without waiting (Linux; POSIX promises 512)."""

_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}


def _tame_traceback(record: logging.LogRecord) -> bool:
    """An exception may quote what a client sent: escape its control characters, and indent its
    lines, so that none looks like a line of the log."""
    if record.exc_info and not record.exc_text:
        text = logging.Formatter().formatException(record.exc_info).translate(_CONTROLS)
        record.exc_text = "\n".join(f"  {line}" for line in text.splitlines())
    return True


logger.addFilter(_tame_traceback)


def log_to_stderr(level: int | str, format: str) -> None:
    """Log to stderr, unless logging has been set up already."""
    handler: logging.Handler
    try:
        handler = StderrHandler()
    except (AttributeError, OSError, ValueError):  # Windows; or stderr is no file
        handler = logging.StreamHandler()
    logging.basicConfig(level=level, format=format, handlers=[handler])


class StderrHandler(logging.Handler):
    """Writes what stderr takes at once. Lines that it does not take are dropped and counted: a
    pipe that nobody reads must not stop the server."""

    def __init__(self) -> None:
        super().__init__()
        self._fd = sys.stderr.fileno()
        self._room = select.poll()
        self._room.register(self._fd, select.POLLOUT)
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if self._dropped and self._write(f"{self._dropped} lines of log were dropped here"):
                self._dropped = 0
            if self._dropped or not self._write(line):
                self._dropped += 1
        except Exception:
            self.handleError(record)

    def _write(self, line: str) -> bool:
        """Write a line; False if there is no room. One longer than `PIPE_BUF` may be cut."""
        data = f"{line}\n".encode(errors="backslashreplace")
        for start in range(0, len(data), PIPE_BUF):
            if not self._room.poll(0):
                return False
            os.write(self._fd, data[start : start + PIPE_BUF])
        return True
