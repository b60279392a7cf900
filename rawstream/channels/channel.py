"""A channel: one bounded log, any number of readers, each at a place of its own in it.

    publish("hello") --> [ entry | entry | entry ]      bounded by count and bytes
                             ^               ^
                        a late reader   readers that are caught up

Publishing appends to the log and never waits. Readers have a position each and nothing else, so
memory is the log's, however many there are and however slowly they read. Who falls behind its
beginning is told so (a gap), never left to guess.
"""

from __future__ import annotations

import trio

from .fanout import FanOut
from .log import HISTORY_BYTES, HISTORY_ENTRIES, Log


class Channel(Log):
    """A bounded log of what was published, and those who are waiting for more.

    It keeps the last `entries` entries, or fewer when their text, encoded, is more than `size`
    bytes. Ids are `EPOCH-POSITION`: the epoch tells this log from any other, the position only
    grows. The `name` tells it from others that are read over the same connection.

    A log that is kept elsewhere, too, goes on under its old ids if it is given its `epoch`
    (letters and digits), and as `start` the position before the first entry that is published to
    fill it again.
    """

    def __init__(
        self,
        name: str = "",
        *,
        entries: int = HISTORY_ENTRIES,
        size: int = HISTORY_BYTES,
        epoch: str | None = None,
        start: int = 0,
    ) -> None:
        super().__init__(entries=entries, size=size, epoch=epoch, start=start)
        self.name = name
        self.fan_out = FanOut(self)

    def publish(self, data: str, event: str | None = None) -> str:
        """Append an entry and return its id. It never waits; call it in the Trio thread, and await
        `keep_pace` now and then if there are hundreds at a time.

        Line ends in `data` become LF, the only one that every transport carries. Raises
        `ValueError` for CR, LF or NUL in `event`, for text that is no Unicode (lone surrogates)
        and for an entry that is larger than the channel, encoded.
        """
        entry = self.append(data, event)
        self.fan_out.announce()
        return self.id_of(entry.position)

    async def keep_pace(self) -> None:
        """To be called by who publishes much at a time: wait, if otherwise those who are caught up
        would lose their place, until they have what was published so far."""
        await self.fan_out.keep_pace()

    @staticmethod
    async def wait_for_entry(*channels: Channel) -> None:
        """Wait for the next entry of any of them."""
        news = trio.Event()
        for channel in channels:
            channel.fan_out.wake_with_next_entry(news)
        try:
            await news.wait()
        finally:
            for channel in channels:
                channel.fan_out.forget(news)
