"""The copy of a stream in this process, from which its readers are served.

    Redis     [ 7-1 | 7-2 | 7-3 | 7-4 | 7-5 ]     the entries, for all processes
                           |
    mirror    [ 7-1 | 7-2 | 7-3 ]                 follows, and its readers are written to

A mirror adds entries in the order of their numbers, each once. A number that is missing is told as
a gap, and so is a new epoch. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from ..channels.channel import Channel
from ..entries.log import END
from .scripts import Opened, Place, Stored, epoch_text


class Mirror(Channel):
    """A channel whose entries come from a stream. Its limits are those of the channel `like`."""

    place: Place
    """Of the last entry."""
    nonce: str
    """Of the last entry, if it was read here."""
    needs_opening: bool
    """Whether the stream has to be opened again before it is read: what was read does not fit, or
    Redis has refused to open it."""

    def __init__(self, name: str, key: str, like: Channel, opened: Opened) -> None:
        start = _before(opened.entries[0].place) if opened.entries else opened.last
        super().__init__(
            name,
            entries=like.max_entries,
            size=like.max_bytes,
            json=like.is_json,
            epoch=epoch_text(start.epoch),
            start=start.number,
        )
        self.key = key
        self.place = start
        self.nonce = ""
        self.needs_opening = False
        self._follow(opened)

    def publish(self, *_: object, **__: object) -> NoReturn:
        """Raises `RuntimeError`: entries come from Redis."""
        raise RuntimeError(
            f"{self.name} is a channel in Redis: publish with `await channels.publish(...)`"
        )

    def close(self) -> NoReturn:
        """Raises `RuntimeError`: the end comes from Redis, too."""
        raise RuntimeError(
            f"{self.name} is a channel in Redis: close it with `await channels.close(...)`"
        )

    @property
    def is_over(self) -> bool:
        """Whether the channel was closed, and its stream has begun again since then."""
        return self.is_closed and epoch_text(self.place.epoch) != self.epoch

    def disagrees_with(self, last: Place) -> bool:
        """Whether the stream, whose last entry is this, has another epoch, or fewer entries."""
        return last.epoch != self.place.epoch or last.number < self.place.number

    def take(self, entries: Iterable[Stored]) -> None:
        """Add entries of the stream, in their order. Those that are here already are left out."""
        for entry in entries:
            if entry.place.epoch > self.place.epoch:
                self.needs_opening = True
                return
            if entry.place > self.place:
                self._take_one(entry)

    def reopen(self, opened: Opened) -> None:
        """Follow the stream as it is now: it may have begun again with another epoch. Epochs only
        grow, so an older one was read before that, and is left out."""
        if opened.last.epoch < self.place.epoch:
            return
        self.needs_opening = False
        self._follow(opened)

    def _follow(self, opened: Opened) -> None:
        for entry in opened.entries:
            if entry.place.epoch > self.place.epoch:
                self._lose(_before(entry.place))
            self.take([entry])
        if opened.last > self.place:
            self._lose(opened.last)

    def _take_one(self, entry: Stored) -> None:
        number = entry.place.number
        if number > self.place.number + 1:
            self._lose(_before(entry.place))
        if self.is_closed:
            return
        if entry.event == END:
            super().close()
        else:
            try:
                self._append(entry.data, entry.event, number)
            except ValueError:  # other processes have other limits
                self._lose(entry.place)
            self.fan_out.announce()
        self.place, self.nonce = entry.place, entry.nonce

    def _lose(self, to: Place) -> None:
        self.place, self.nonce = to, ""
        if not self.is_closed:
            self.lose(epoch=epoch_text(to.epoch), number=to.number)


def _before(place: Place) -> Place:
    return Place(place.epoch, place.number - 1)
