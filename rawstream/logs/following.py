"""A log file as a channel: its lines are published as they are written, and older ones are read
back from the file."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import islice
from operator import attrgetter
from pathlib import Path

import trio

from ..channels.channel import Channel
from ..entries.log import Entry, encoded_size
from ..limits import MIB
from ..stderr import logger
from .file import LogFile, News
from .lines import Line

RING_ENTRIES = 10_000
RING_BYTES = MIB
"""What readers share; older lines are read back from the file for each of them."""

SOON_SECONDS = 0.02
LATER_SECONDS = 0.1
"""How often a file is looked at that was written to just now, and one that is silent."""
PATIENCE_SECONDS = 1.0
"""After this silence the last line is shown, although it has no line end."""


class FollowedFile:
    """A log file and its channel."""

    def __init__(self, name: str, path: Path) -> None:
        """Raises `OSError` if the file exists and cannot be read."""
        self._file = LogFile(path)
        self._truncated = 0  # how often
        self._is_readable = True
        first = self._file.look(0)
        start = self._file.skip_to_the_last(RING_ENTRIES) if first else 0
        epoch = first.epoch if first else None
        self.channel = Channel(
            name, entries=RING_ENTRIES, size=RING_BYTES, epoch=epoch, start=start
        )
        if first:
            self.channel.archive = _Archive(self.channel, self._file, base=0)
            # Cursors of clients that come back must be known from the first request on.
            while (news := self._file.look(0)) is not None:
                self._publish(news)

    async def run(self) -> None:
        """Publish what is written, until cancelled."""
        silent_since = trio.current_time()
        try:
            while True:
                silence = trio.current_time() - silent_since
                news = self._look(silence)
                if news is None:
                    await trio.sleep(min(max(SOON_SECONDS, silence / 50), LATER_SECONDS))
                    continue
                silent_since = trio.current_time()
                self._publish(news)
                await self.channel.keep_pace()
                await trio.lowlevel.checkpoint()
        finally:
            self._file.close()

    def _look(self, silence: float) -> News | None:
        try:
            news = self._file.look(trio.current_time())
        except OSError as error:
            if self._is_readable:
                logger.warning("%s: %s", self._file.path, error.strerror)
            self._is_readable = False
            return None
        self._is_readable = True
        if news is None and silence > PATIENCE_SECONDS:
            news = self._file.end_line()
        return news

    def _publish(self, news: News) -> None:
        channel = self.channel
        if news.is_lost:
            self._truncated += 1
            channel.lose()
        if news.epoch is not None:
            # Truncated, it may begin as it did before; its old IDs must not be taken for new ones.
            channel.go_on_as(news.epoch + f"x{self._truncated}" * bool(self._truncated))
            channel.archive = _Archive(channel, self._file, base=channel.end)
        for line in news.lines:
            channel.publish(line.text, number=line.end)


class _Archive:
    """What is older than the history of the channel, in the file."""

    def __init__(self, channel: Channel, file: LogFile, base: int) -> None:
        self.start = base
        self._channel = channel
        self._file = file
        self._kept: list[Entry] = []  # those that were read last
        self._kept_from = -1  # the position before them

    def entries_after(self, position: int) -> Iterable[Entry]:
        if not (self._kept and self._kept_from <= position < self._kept[-1].position):
            lines = self._file.lines_after(position - self.start)
            entries = [self._entry(line) for line in lines]
            end = self._channel.end
            self._kept = [entry for entry in entries if entry.position <= end]
            self._kept_from = position
        index = bisect_right(self._kept, position, key=attrgetter("position"))
        return islice(self._kept, index, None)

    def holds(self, position: int) -> bool:
        return self._file.is_line_start(position - self.start)

    def position_before(self, position: int, count: int) -> int:
        return self.start + self._file.offset_before(position - self.start, count)

    def _entry(self, line: Line) -> Entry:
        position = self.start + line.end
        id = self._channel.id_of(position)
        return Entry(id, line.text, None, position, False, encoded_size(line.text), False)
