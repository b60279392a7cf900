"""Several channels over one connection, with one cursor for all of them.

The cursor is a vector, `a:ID,b:ID`. It differs from reader to reader, so each reader's task
encodes its own entries; only the part of a long entry after the cursor is shared. The entries of
one channel are sent in their order. There is no order between channels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum

import trio

from ..entries.batches import SHARED_FROM
from ..entries.cursors import BEGINNING, fit, make_vector
from ..entries.formats import EntryFormat, Events, Lines, Text
from ..http.fields import Fields
from ..http.json_text import json_text
from ..http.request import Request
from ..limits import KIB
from ..streams.heartbeat import BeatingStream
from ..streams.longpoll import open_poll
from .asked import VARY, Asked, Way
from .channel import Channel
from .readers import Lag, stream_of
from .resume import ResumePoint

BATCH_BYTES = 64 * KIB
"""About what a reader is sent at a time; at least one entry of each channel."""

FORMATS: dict[Way, type[EntryFormat]] = {
    Way.EVENTS: Events,
    Way.LINES: Lines,
    Way.TEXT: Text,
    Way.POLL: Lines,
}


async def read_several(
    request: Request, channels: Sequence[Channel], asked: Asked, *, lag: Lag, headers: Fields
) -> None:
    """Read named channels, at least one, by a poll or as a stream."""
    if asked.way is Way.POLL:
        await _read_by_poll(request, channels, asked, headers)
        return
    vector = _VectorPosition(channels, asked)
    if vector.has_ended and asked.way is Way.EVENTS:
        await request.respond(204, headers=[VARY, *headers])  # as in `readers.read_as_stream`
        return
    async with stream_of(request, asked.way, headers) as stream:
        if isinstance(stream, BeatingStream):
            stream.heartbeat.other = vector
        if asked.cursor in (None, BEGINNING):
            await stream.body.send(vector.format.place(vector.id))
        while not (lag == "close" and vector.has_fallen_out()):
            if parts := _joined(vector.stream_parts()):
                await stream.body.send(*parts)
                vector.last_sent = trio.current_time()
            elif vector.has_ended:
                break
            else:
                await vector.wait()


async def _read_by_poll(
    request: Request, channels: Sequence[Channel], asked: Asked, headers: Fields
) -> None:
    """Answer with a JSON object `{"entries": [...], "next": VECTOR}`. It has "gaps" if entries are
    lost, "ended" with the names of channels that end with these entries, and `"end": true` once all
    have ended."""
    now = make_vector((channel.name, channel.id_of(channel.end)) for channel in channels)
    async with open_poll(request, cursor=now, headers=headers) as poll:
        vector = _VectorPosition(channels, asked)
        poll.cursor = vector.id
        while not (batch := list(vector.batch())) and not vector.has_ended:
            poll.cursor = vector.id  # behind entries that it does not want
            await vector.wait()
        entries, gaps, ended = list[bytes](), list[object](), list[str]()
        for kind, name, parts in batch:
            match kind:
                case _Kind.GAP:
                    gaps.append({"channel": name, **json.loads(b"".join(parts))["gap"]})
                case _Kind.END:
                    ended.append(name)
                case _Kind.ENTRY:
                    entries += [b", " if entries else b"", *parts]
        answer = _joined(entries)
        batch.clear()  # while the answer is sent, which may take long, only it is kept
        entries.clear()
        rest = f'], "next": {json_text(vector.id)}'
        if gaps:
            rest += f', "gaps": {json_text(gaps)}'
        if ended:
            rest += f', "ended": {json_text(ended)}'
        if vector.has_ended:
            rest += ', "end": true'
        await poll.answer(
            b'{"entries": [', *answer, rest + "}\n",
            cursor=vector.id, content_type="application/json",
        )  # fmt: skip


def _joined(parts: Iterable[bytes]) -> list[bytes]:
    """The same bytes with short parts joined. Long parts are shared, so they are not copied."""
    joined: list[bytes] = []
    short = bytearray()
    for part in parts:
        if len(part) < SHARED_FROM:
            short += part
        else:
            joined += [bytes(short), part]
            short.clear()
    return [*joined, bytes(short)] if short else joined


class _Kind(Enum):
    """What a part of a batch tells."""

    ENTRY = "an entry"
    GAP = "entries are lost"
    END = "the channel has ended"


class _Position:
    """Where a reader is in one of its channels."""

    def __init__(self, channel: Channel, point: ResumePoint, format: EntryFormat) -> None:
        self.channel = channel
        self.format = format
        self.position = point.position
        self.lost_from = point.lost_from if point.is_lost else None  # until the gap has been told

    @property
    def id(self) -> str:
        """Its part of the cursor, which stays before a gap until the gap has been told."""
        if self.lost_from is not None:
            return fit(self.lost_from)
        return self.channel.id_of(self.position)


class _VectorPosition:
    """Where a reader is in all of its channels."""

    def __init__(self, channels: Sequence[Channel], asked: Asked) -> None:
        format = FORMATS[asked.way]
        self.format = format(wanted=asked.wanted)
        self.last_sent = trio.current_time()
        points = ResumePoint.of_each(channels, asked.cursor, asked.last)
        self._positions = [
            _Position(channel, point, format(channel.name, asked.wanted))
            for channel, point in zip(channels, points, strict=True)
        ]

    @property
    def id(self) -> str:
        """The cursor."""
        return make_vector((place.channel.name, place.id) for place in self._positions)

    def has_fallen_out(self) -> bool:
        """Whether entries were dropped before they were sent."""
        return any(place.position < place.channel.oldest for place in self._positions)

    @property
    def has_ended(self) -> bool:
        """Whether all channels are closed, and the reader has been told."""
        return all(p.channel.is_closed and p.position == p.channel.end for p in self._positions)

    async def wait(self) -> None:
        """Wait for another batch, after one with nothing in it."""
        channels = [place.channel for place in self._positions]
        if all(place.position == place.channel.end for place in self._positions):
            await Channel.wait_for_entry(*channels)
        else:
            await trio.lowlevel.checkpoint()

    def stream_parts(self) -> Iterator[bytes]:
        """The next batch, as a stream sends it."""
        for kind, _, parts in self.batch():
            yield from parts
            if kind is _Kind.ENTRY:
                yield self.format.end

    def batch(self) -> Iterator[tuple[_Kind, str, list[bytes]]]:
        """The next entries, gaps and ends of all channels, about `BATCH_BYTES`: what it is, of
        which channel, and its bytes in parts. Each yielded item advances the cursor."""
        for place in self._positions:
            channel, format = place.channel, place.format
            if place.position < channel.oldest:
                place.lost_from = place.lost_from or channel.id_of(place.position)
                place.position = channel.oldest
            if place.lost_from is not None:
                lost_from, place.lost_from = place.lost_from, None
                channel.fan_out.count_gap()
                yield _Kind.GAP, channel.name, [format.gap(self.id, lost_from, place.id)]
            left = BATCH_BYTES // len(self._positions)
            for entry in channel.entries_after(place.position):
                place.position = entry.position
                if entry.is_end:
                    yield _Kind.END, channel.name, [format.last(self.id)]
                    break
                if entry.is_gap:
                    gap = format.gap(self.id, entry.data, entry.id)
                    channel.fan_out.count_gap()
                    yield _Kind.GAP, channel.name, [gap]
                    continue
                if not format.has_place_for(entry):
                    continue
                parts = [format.head(self.id, entry), channel.batches.tail_of(entry, format)]
                size = sum(map(len, parts))
                channel.fan_out.count_delivery(size)
                yield _Kind.ENTRY, channel.name, parts
                left -= size
                if left <= 0:
                    break
