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
    """Whether what was read does not fit: the stream has to be opened again."""

    def __init__(self, name: str, key: str, like: Channel, opened: Opened) -> None:
        epoch = opened.last.epoch
        entries = [entry for entry in opened.entries if entry.place.epoch == epoch]
        start = entries[0].place.number - 1 if entries else opened.last.number
        super().__init__(
            name,
            entries=like.max_entries,
            size=like.max_bytes,
            json=like.is_json,
            epoch=epoch_text(epoch),
            start=start,
        )
        self.key = key
        self.place = Place(epoch, start)
        self.nonce = ""
        self.needs_opening = False
        self.take(entries)

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

    def disagrees_with(self, last: Place) -> bool:
        """Whether the stream, whose last entry is this, has another epoch, or fewer entries."""
        return last.epoch != self.place.epoch or last.number < self.place.number

    def take(self, entries: Iterable[Stored]) -> None:
        """Add entries of the stream, in their order. Those that are here already are left out."""
        for entry in entries:
            if entry.place.epoch != self.place.epoch:
                self.needs_opening = True
                return
            if entry.place.number > self.place.number:
                self._take_one(entry)

    def reopen(self, opened: Opened) -> None:
        """Follow the stream as it is now: it may have begun again with another epoch."""
        self.needs_opening = False
        epoch = opened.last.epoch
        entries = [entry for entry in opened.entries if entry.place.epoch == epoch]
        if epoch != self.place.epoch:
            before = entries[0].place.number - 1 if entries else opened.last.number
            self._lose(Place(epoch, before))
        self.take(entries)
        if self.place.number < opened.last.number:
            self._lose(opened.last)

    def _take_one(self, entry: Stored) -> None:
        number = entry.place.number
        if number > self.place.number + 1:
            self._lose(Place(self.place.epoch, number - 1))
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
