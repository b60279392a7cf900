"""Several channels over one connection, with one cursor for all of them.

The cursor is a vector, `a:ID,b:ID`, so no two readers' bytes are alike, and each reader's task
makes its own; what follows the cursor of a long entry is shared. Entries of one channel come in
their order; there is no order between channels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

import trio

from ..http.fields import Fields
from ..http.request import Request
from ..limits import KIB
from ..streams.events import EventStream
from ..streams.longpoll import open_poll
from .asked import Asked, Way
from .channel import Channel
from .cursors import fit, make_vector
from .formats import EntryFormat, Events, Lines, Text, as_json
from .log import SHARED_FROM
from .readers import Lag, stream_of
from .resume import ResumePoint

BATCH_BYTES = 64 * KIB
"""What a reader is sent at a time, about; one entry of each channel at least."""

FORMATS: dict[Way, type[EntryFormat]] = {
    Way.EVENTS: Events,
    Way.LINES: Lines,
    Way.TEXT: Text,
    Way.POLL: Lines,
}


async def read_several(
    request: Request, channels: Sequence[Channel], asked: Asked, *, lag: Lag, headers: Fields
) -> None:
    """Read named channels, one at least: by a poll, or as a stream."""
    if asked.way is Way.POLL:
        await _read_by_poll(request, channels, asked, headers)
        return
    vector = _VectorPosition(channels, asked)
    async with stream_of(request, asked.way, headers) as stream:
        if isinstance(stream, EventStream):
            stream.heartbeat.other = vector
        if asked.cursor is None:
            await stream.body.send(vector.format.place(vector.id))
        while not (lag == "close" and vector.has_fallen_out()):
            if parts := _joined(vector.stream_parts()):
                await stream.body.send(*parts)
                vector.last_sent = trio.current_time()
            else:
                await Channel.wait_for_entry(*channels)


async def _read_by_poll(
    request: Request, channels: Sequence[Channel], asked: Asked, headers: Fields
) -> None:
    """One JSON object, `{"entries": [...], "next": VECTOR}`, with "gaps" if entries are lost."""
    now = make_vector((channel.name, channel.id_of(channel.end)) for channel in channels)
    async with open_poll(request, cursor=now, headers=headers) as poll:
        vector = _VectorPosition(channels, asked)
        while not (batch := list(vector.batch())):
            await Channel.wait_for_entry(*channels)
        entries, gaps = list[bytes](), list[object]()
        for is_gap, parts in batch:
            if is_gap:
                told = json.loads(b"".join(parts))
                gaps.append({"channel": told["channel"], **told["gap"]})
            else:
                entries += [b", " if entries else b"", *parts]
        answer = _joined(entries)
        del batch, entries, parts  # a client that does not read the answer keeps this waiting
        rest = f'], "next": {as_json(vector.id)}'
        if gaps:
            rest += f', "gaps": {as_json(gaps)}'
        await poll.answer(
            b'{"entries": [', *answer, rest + "}\n",
            cursor=vector.id, content_type="application/json",
        )  # fmt: skip


def _joined(parts: Iterable[bytes]) -> list[bytes]:
    """The same bytes, short parts joined; long ones are shared, and stay as they are."""
    joined: list[bytes] = []
    short = bytearray()
    for part in parts:
        if len(part) < SHARED_FROM:
            short += part
        else:
            joined += [bytes(short), part]
            short.clear()
    return [*joined, bytes(short)] if short else joined


class _Position:
    """Where a reader is in one of its channels."""

    def __init__(self, channel: Channel, point: ResumePoint, format: EntryFormat) -> None:
        self.channel = channel
        self.format = format
        self.position = point.position
        self.lost_from = point.lost_from if point.is_lost else None  # until the gap is told

    @property
    def id(self) -> str:
        """Its part of the cursor; a gap that has not been told is still before it."""
        if self.lost_from is not None:
            return fit(self.lost_from)
        return self.channel.id_of(self.position)


class _VectorPosition:
    """Where a reader is in all of them."""

    def __init__(self, channels: Sequence[Channel], asked: Asked) -> None:
        format = FORMATS[asked.way]
        self.format = format()
        self.last_sent = trio.current_time()
        points = ResumePoint.of_each(channels, asked.cursor, asked.last)
        self._positions = [
            _Position(channel, point, format(channel.name))
            for channel, point in zip(channels, points, strict=True)
        ]

    @property
    def id(self) -> str:
        """The cursor."""
        return make_vector((place.channel.name, place.id) for place in self._positions)

    def has_fallen_out(self) -> bool:
        """Whether the next batch begins with entries that are gone."""
        return any(place.position < place.channel.start for place in self._positions)

    def stream_parts(self) -> Iterator[bytes]:
        """What is next, as a stream sends it."""
        for is_gap, parts in self.batch():
            yield from parts
            if not is_gap:
                yield self.format.end

    def batch(self) -> Iterator[tuple[bool, list[bytes]]]:
        """What is next, in all of them, about `BATCH_BYTES`: gaps (True) and entries, each in
        parts, moving the position on."""
        for place in self._positions:
            channel = place.channel
            if place.position < channel.start:
                place.lost_from = place.lost_from or channel.id_of(place.position)
                place.position = channel.start
            if place.lost_from is not None:
                lost_from, place.lost_from = place.lost_from, None
                yield True, [place.format.gap(self.id, lost_from, place.id)]
            left = BATCH_BYTES // len(self._positions)
            for entry in channel.entries_after(place.position):
                place.position = entry.position
                parts = [
                    place.format.head(self.id, entry),
                    channel.tail_of(entry, place.format),
                ]
                yield False, parts
                left -= sum(map(len, parts))
                if left <= 0:
                    break
