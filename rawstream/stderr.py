"""Logging to stderr. Control characters from clients are escaped, to protect terminals, and the
server never waits for the reader of the log."""

from __future__ import annotations

import logging
import os
import select
import sys

logger = logging.getLogger("rawstream")

PIPE_BUF = 4096
"""A pipe with any room takes this many bytes without waiting (Linux; POSIX promises 512)."""

_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}


def _tame_traceback(record: logging.LogRecord) -> bool:
    """Escape control characters in a traceback, since it may quote what a client sent. Indent its
    lines, so that none looks like a line of the log."""
    if record.exc_info and not record.exc_text:
        text = logging.Formatter().formatException(record.exc_info).translate(_CONTROLS)
        record.exc_text = "\n".join(f"  {line}" for line in text.splitlines())
    return True


logger.addFilter(_tame_traceback)


def log_to_stderr(level: int | str, format: str) -> None:
    """Log to stderr, unless logging is already set up."""
    handler: logging.Handler
    try:
        handler = StderrHandler()
    except (AttributeError, OSError, ValueError):  # Windows; or stderr is not a file
        handler = logging.StreamHandler()
    handler.addFilter(_is_told)
    logging.basicConfig(level=level, format=format, handlers=[handler])


def _is_told(record: logging.LogRecord) -> bool:
    """Whether a record is for people who run a server. coredis reports each attempt to connect with
    a traceback; that Redis is away is told once, in one line, by us."""
    return record.name.partition(".")[0] != "coredis"


class StderrHandler(logging.Handler):
    """Writes the lines that stderr takes without waiting. Others are dropped and counted: a pipe
    that nobody reads must not stop the server."""

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
        """Write a line; return False if there is no room. Beyond `PIPE_BUF` bytes it may be cut."""
        data = f"{line}\n".encode(errors="backslashreplace")
        for start in range(0, len(data), PIPE_BUF):
            if not self._room.poll(0):
                return False
            os.write(self._fd, data[start : start + PIPE_BUF])
        return True
