"""A channel: one bounded log, and any number of readers, each at its own place in it.

    publish("hello") --> [ entry | entry | entry ]      bounded by count and bytes
                             ^               ^
                        a late reader   readers that are caught up

Publishing appends to the log and never waits. A reader has a position and nothing else, so the
memory is that of the log, however many readers there are and however slowly they read. A reader
that falls behind the start of the log is told so, by a gap.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import trio

from ..entries.batches import Batches
from ..entries.log import HISTORY_BYTES, HISTORY_ENTRIES, Entry, Log
from ..http.json_text import json_text, on_one_line
from .fanout import FanOut


class Feed(Protocol):
    """What brings the entries of a channel, if the program itself does not publish them."""

    @property
    def is_connected(self) -> bool:
        """Whether entries come as soon as they are published."""


class Channel(Log):
    """A bounded log of published entries, and the readers that wait for more.

    It keeps the last `entries` entries, or fewer if their encoded text is larger than `size` bytes.
    IDs are `EPOCH-POSITION`: the epoch distinguishes this log from any other, and the position only
    grows. `name` distinguishes the channel from others that are read over the same connection.

    A channel with `json=True` takes only JSON. Its readers get each entry as JSON inside the JSON
    of lines, WebSocket messages and polls, not as a string that has to be parsed again.

    To continue a log that is stored elsewhere, give its `epoch` (letters and digits), and as
    `start` the position before the first entry that is published to fill it again.
    """

    def __init__(
        self,
        name: str = "",
        *,
        entries: int = HISTORY_ENTRIES,
        size: int = HISTORY_BYTES,
        json: bool = False,
        epoch: str | None = None,
        start: int = 0,
    ) -> None:
        super().__init__(entries=entries, size=size, epoch=epoch, start=start, json=json)
        self.name = name
        self.batches = Batches(self)
        self.fan_out = FanOut(self, self.batches)
        self.feed: Feed | None = None

    def publish(
        self,
        data: str | None = None,
        event: str | None = None,
        *,
        json: object = ...,
        number: int | None = None,
    ) -> str:
        """Append an entry, and return its ID. `json` is a value whose JSON text is the data.
        `number` is the number in the ID, by default that of the last entry and one.

        Publishing never waits. Call it in the Trio thread; when publishing in bulk, await
        `keep_pace` now and then. CR and CRLF in `data` become LF, the only line end that all
        transports carry.

        Raises `TypeError` for data that is not a `str`; `ValueError` for CR, LF or NUL in `event`,
        for the reserved types "gap" and "end", for lone surrogates, for an entry larger than the
        channel, and for anything but JSON in a channel of JSON; `RuntimeError` once it is closed.
        """
        entry = self._append(self.text_of(data, json), event, number)
        self.fan_out.announce()
        return entry.id

    def text_of(self, data: str | None, json: object) -> str | None:
        """The data of an entry that is published with these arguments. Raises as `publish`."""
        if json is not ...:
            if data is not None:
                raise TypeError("an entry has data or json=, not both")
            return json_text(json)
        return on_one_line(data) if self.is_json and isinstance(data, str) else data

    def lose(self, *, epoch: str | None = None, number: int | None = None) -> None:
        """Tell readers of a gap here: entries are lost that were never published, up to the one
        with this `number` in this `epoch`, by default one. Older ones can be read no longer, except
        those that the channel holds."""
        self._append_gap(epoch, number)
        self.fan_out.announce()

    def close(self) -> None:
        """End the channel. Readers are sent what it holds and then its end: an event "end", a
        line or message `{"id": ID, "end": true}`, a poll with `"end": true`, and then the end of
        the stream or close code 1000. Later readers get the same at once. Closing twice does
        nothing.
        """
        if not self.is_closed:
            self._append_end()
            self.fan_out.announce()

    def entries(self, after: str | None = None, *, last: int = 0) -> AsyncIterator[Entry | Gap]:
        """Read the channel inside the program: `async for entry in channel.entries():`.

        It starts after the cursor `after` ("0": at the first entry there is), or without one at
        the present, or `last` entries before it. A `Gap` takes the place of entries that were
        lost. The iteration ends when the channel is closed. It holds up neither publishers nor
        other readers, and when it is cancelled no entry is lost: the ID of the last entry is
        where to start again.
        """
        entries = _Entries(self, after, last)
        self.fan_out.iterators.add(entries)
        return entries

    async def keep_pace(self) -> None:
        """Call when publishing in bulk: waits until caught-up readers have kept up. Returns at once
        unless they are about to lose entries. Cancelling it loses nothing."""
        await self.fan_out.keep_pace()

    @staticmethod
    async def wait_for_entry(*channels: Channel) -> None:
        """Wait for the next entry, or the end, of any of these channels."""
        news = trio.Event()
        for channel in channels:
            channel.fan_out.wake_with_next_entry(news)
        try:
            await news.wait()
        finally:
            for channel in channels:
                channel.fan_out.forget(news)


@dataclass(frozen=True, slots=True)
class Gap:
    """Entries are lost."""

    start: str
    """The cursor after which they are lost, as it was given."""
    end: str
    """The cursor after the last lost entry."""


class _Entries:
    """A channel as an iterator. It is no async generator, so it may be left half read."""

    def __init__(self, channel: Channel, after: str | None, last: int) -> None:
        self._channel = channel
        self._position, is_lost = channel.resume(after, last)
        self._lost_from = after if is_lost else None

    def __aiter__(self) -> AsyncIterator[Entry | Gap]:
        return self

    async def __anext__(self) -> Entry | Gap:
        channel = self._channel
        await trio.lowlevel.checkpoint()
        while True:
            if self._position < channel.oldest:
                self._lost_from = self._lost_from or channel.id_of(self._position)
                self._position = channel.oldest
            if self._lost_from is not None:
                gap = Gap(self._lost_from, channel.id_of(self._position))
                self._lost_from = None
                return gap
            entry = channel.entry_after(self._position)
            if entry is None:
                if self._position < channel.oldest:
                    continue
                if channel.is_closed:
                    raise StopAsyncIteration
                await Channel.wait_for_entry(channel)
                continue
            self._position = entry.position
            if entry.is_gap:
                return Gap(entry.data, entry.id)
            if not entry.is_end:
                return entry
