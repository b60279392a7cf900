"""The ladder on a terminal, or in a pipe."""

from __future__ import annotations

import os
from typing import TextIO

import trio

from ..dissector.spans import Dissected
from .ladder import Ladder


def wants_color(file: TextIO) -> bool:
    """Return whether to color what is written to this file: on terminals that can, unless NO_COLOR
    is set."""
    return file.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class TerminalView:
    """Writes the ladder to a file. A slow terminal delays nobody but this view: the writing is
    done in a thread."""

    def __init__(self, ladder: Ladder, file: TextIO, connection: int | None = None) -> None:
        """Shows all connections, or the one with this number."""
        self._ladder = ladder
        self._file = file
        self._connection = connection

    async def show(self, connection: int, dissected: Dissected) -> None:
        """Write the rows of a piece."""
        if self._connection in (None, connection):
            await self._write("".join(f"{x}\n" for x in self._ladder.lines(connection, dissected)))

    async def lose(self, connection: int, why: str) -> None:
        """Write that the connection is not shown any further."""
        if self._connection in (None, connection):
            await self._write(f"#{connection}  is not shown any further: {why}\n")

    async def _write(self, text: str) -> None:
        def write() -> None:
            self._file.write(text)
            self._file.flush()

        if text:
            try:
                await trio.to_thread.run_sync(write)
            except OSError:
                # Nobody reads any more, as behind `| head`. The traffic goes on; the rest, also
                # what is still in the buffer, is dropped.
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())
