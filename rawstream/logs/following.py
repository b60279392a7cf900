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
from .file import LogFile, News, OpenLog
from .lines import Line, offset_of

RING_ENTRIES = 10_000
RING_BYTES = MIB
"""What readers share; older lines are read back from the file for each of them."""

READ_BACK_ENTRIES = 2000
"""Lines that are read back at a time, at most."""

SOON_SECONDS = 0.01
LATER_SECONDS = 0.1
SELDOM_SECONDS = 0.5
"""How often a file is looked at that was written to just now, one that is silent, and one that has
been silent for `LONG_SECONDS`."""
LONG_SECONDS = 300

GONE_SECONDS = 60
"""After this time a file that was removed is followed no longer, if a pattern has found it."""


class FollowedFile:
    """A log file and its channel."""

    def __init__(self, name: str, path: Path) -> None:
        """Raises `OSError` if the file exists and cannot be read."""
        self.path = path
        self._file = LogFile(path)
        self._is_readable = True
        first = self._file.look(0)
        begun = first.begun if first else None
        start = self._file.skip_to_the_last(RING_ENTRIES) if begun else 0
        self.channel = Channel(
            name,
            entries=RING_ENTRIES,
            size=RING_BYTES,
            epoch=begun.epoch if begun else None,
            start=start,
        )
        if begun:
            self.channel.archive = _Archive(self.channel, begun, base=0)
            # Cursors of clients that come back must be known from the first request on.
            while (news := self._file.look(0)) is not None:
                self._publish(news)

    async def run(self, *, until_gone: bool) -> None:
        """Publish what is written, until cancelled; or until the file is gone for good. Whatever
        is wrong with it is logged, and concerns no other file."""
        silent_since = trio.current_time()
        try:
            while True:
                now = trio.current_time()
                gone_since = self._file.gone_since
                if until_gone and gone_since is not None and now - gone_since > GONE_SECONDS:
                    return
                news = self._look(now)
                if news is None:
                    await trio.sleep(_pause(now - silent_since))
                    continue
                silent_since = now
                self._publish(news)
                await self.channel.keep_pace()
                await trio.lowlevel.checkpoint()
        except Exception:
            logger.exception("%s is followed no longer", self.path)
        finally:
            self.channel.archive = None
            self._file.close()

    def _look(self, now: float) -> News | None:
        try:
            news = self._file.look(now)
        except OSError as error:
            if self._is_readable:
                logger.warning("%s: %s", self.path, error.strerror)
            self._is_readable = False
            return None
        self._is_readable = True
        return news

    def _publish(self, news: News) -> None:
        channel = self.channel
        if news.is_lost:
            channel.lose()
        if news.begun is not None:
            channel.go_on_as(news.begun.epoch)
            channel.archive = _Archive(channel, news.begun, base=channel.end)
        for line in news.lines:
            channel.publish(line.text, number=line.number)


def _pause(silence: float) -> float:
    """How long to wait before a file is looked at again."""
    if silence > LONG_SECONDS:
        return SELDOM_SECONDS
    return min(max(SOON_SECONDS, silence / 50), LATER_SECONDS)


class _Archive:
    """What is older than the history of the channel, in the file."""

    def __init__(self, channel: Channel, file: OpenLog, base: int) -> None:
        self.start = base
        self._channel = channel
        self._file = file
        self._kept: list[Entry] = []  # those that were read last
        self._kept_from = -1  # the position before them

    def entries_after(self, position: int) -> Iterable[Entry]:
        if not (self._kept and self._kept_from <= position < self._kept[-1].position):
            self._kept = self._read_back(position)
            self._kept_from = position
        index = bisect_right(self._kept, position, key=attrgetter("position"))
        return islice(self._kept, index, None)

    def _read_back(self, position: int) -> list[Entry]:
        try:
            if not self._file.begins_as_before:
                return []
            lines = self._file.lines_after(offset_of(position - self.start))
        except OSError:  # it was closed
            return []
        end = self._channel.end
        entries = map(self._entry, lines[:READ_BACK_ENTRIES])
        return [entry for entry in entries if position < entry.position <= end]

    def holds(self, position: int) -> bool:
        number = position - self.start
        return self._file.number_at(offset_of(number)) == number

    def position_before(self, position: int, count: int) -> int:
        offset = self._file.offset_before(offset_of(position - self.start), count)
        return self.start + (self._file.number_at(offset) if offset else 0)

    def _entry(self, line: Line) -> Entry:
        position = self.start + line.number
        id = self._channel.id_of(position)
        return Entry(id, line.text, None, position, False, encoded_size(line.text), False)
