"""Several channels over one connection, with one cursor for all of them.

The cursor is a vector, `a:ID,b:ID`, so no two readers' bytes are alike, and each reader's task
makes its own. Entries of one channel come in their order; there is no order between channels.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeAlias

from .channel import BATCH_BYTES, Channel, Format
from .cursors import fit, make_vector
from .formats import Events, Lines, Text, as_json
from .longpoll import open_poll
from .reading import VARY, Lag, Start, cursor_of, last_of, stream_type
from .request import Fields, Request
from .sse import open_events
from .stream import open_stream

_Made: TypeAlias = Callable[[str], Events | Lines | Text]
"""A format, from the name of a channel."""

FORMATS: dict[str, _Made] = {
    "text/event-stream": Events,
    "application/x-ndjson": Lines,
    "text/plain": Text,
}


async def read_several(
    request: Request, channels: Sequence[Channel], *, lag: Lag, headers: Fields = ()
) -> None:
    """Read named channels, one at least, as `serve_channel` reads one: by `?wait=`, a poll, or by
    `Accept` a stream."""
    if "wait" in request.query:
        await _read_by_poll(request, channels, headers)
        return
    kind = stream_type(request)
    format = FORMATS[kind]
    places = _Places(channels, cursor_of(request), last_of(request), format)
    fields = [VARY, *headers]
    if format is Events:
        async with open_events(request, headers=fields) as events:
            await _follow(places, events.send_encoded, lag)
    else:
        utf8 = "; charset=utf-8" if format is Text else ""
        fields.insert(0, ("Cache-Control", "no-cache"))
        async with open_stream(request, kind + utf8, headers=fields, endless=True) as stream:
            await _follow(places, stream.send, lag)


async def _follow(places: _Places, send: Callable[[bytes], Awaitable[None]], lag: Lag) -> None:
    if places.is_new:
        await send(places.format.place(places.id))
    while not (lag == "close" and places.have_fallen_out()):
        if data := b"".join(places.batch()):
            await send(data)
        else:
            await Channel.news_of(*places.channels)


async def _read_by_poll(request: Request, channels: Sequence[Channel], headers: Fields) -> None:
    """One JSON object, `{"entries": [...], "next": VECTOR}`, with "gaps" if entries are lost."""
    last = last_of(request)
    now = make_vector((channel.name, channel.id_of(channel.end)) for channel in channels)
    async with open_poll(request, cursor=now, headers=headers) as poll:
        places = _Places(channels, poll.brought or None, last, Lines)
        while not (lines := list(places.batch())):
            await Channel.news_of(*channels)
        objects = [json.loads(line) for line in lines]
        answer = {"entries": [o for o in objects if "gap" not in o], "next": places.id}
        gaps = [{"channel": o["channel"], **o["gap"]} for o in objects if "gap" in o]
        if gaps:
            answer["gaps"] = gaps
        await poll.answer(as_json(answer) + "\n", cursor=places.id, content_type="application/json")


class _Place:
    """Where a reader is in one of its channels."""

    def __init__(self, channel: Channel, start: Start, format: Format) -> None:
        self.channel = channel
        self.format = format
        self.position = start.position
        self.lost_from = start.lost_from if start.is_lost else None  # until the gap is told

    @property
    def id(self) -> str:
        """Its part of the cursor; a gap that has not been told is still before it."""
        if self.lost_from is not None:
            return fit(self.lost_from)
        return self.channel.id_of(self.position)


class _Places:
    """Where a reader is in all of them."""

    def __init__(
        self,
        channels: Sequence[Channel],
        cursor: str | None,
        last: int,
        format: _Made,
    ) -> None:
        self.channels = channels
        self.format = format("")
        self.is_new = cursor is None
        starts = Start.of_each(channels, cursor, last)
        self._places = [
            _Place(channel, start, format(channel.name))
            for channel, start in zip(channels, starts, strict=True)
        ]

    @property
    def id(self) -> str:
        """The cursor."""
        return make_vector((place.channel.name, place.id) for place in self._places)

    def have_fallen_out(self) -> bool:
        """Whether the next batch begins with entries that are gone."""
        return any(place.position < place.channel.start for place in self._places)

    def batch(self) -> Iterator[bytes]:
        """What is next, in all of them, about `BATCH_BYTES`; each thing moves the places on."""
        for place in self._places:
            channel = place.channel
            if place.position < channel.start:
                place.lost_from = place.lost_from or channel.id_of(place.position)
                place.position = channel.start
            if place.lost_from is not None:
                lost_from, place.lost_from = place.lost_from, None
                yield place.format.gap(self.id, lost_from, place.id)
            left = BATCH_BYTES // len(self._places)
            for entry in channel.entries_after(place.position):
                place.position = entry.position
                encoded = place.format.entry(self.id, entry)
                yield encoded
                left -= len(encoded)
                if left <= 0:
                    break
