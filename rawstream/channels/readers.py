"""The ways to read one channel.

A reader that is behind is sent batches by its own task. A reader that is caught up is parked, and
the channel writes to it. A client without a cursor is first told where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from enum import Enum
from typing import Literal

import trio

from ..entries.formats import (
    EVENTS,
    LINES,
    POLLS,
    TEXT,
    EntryFormat,
    Frames,
    Lines,
    place_again,
    text_message,
)
from ..errors import BrokenStream, HTTPError, WebSocketClosed
from ..http.exchange import as_it_is
from ..http.fields import Fields
from ..http.json_text import json_text
from ..http.request import Request
from ..streams.events import open_events
from ..streams.heartbeat import BeatingStream
from ..streams.lines import open_lines
from ..streams.longpoll import open_poll
from ..streams.stream import Stream, open_stream
from ..websocket.connection import TRY_AGAIN_LATER, WebSocket
from ..websocket.opening import open_websocket
from .asked import VARY, Asked, Way, what_is_asked
from .channel import Channel
from .fanout import Reader, Sink
from .resume import ResumePoint

Lag = Literal["skip", "close"]
"""What happens to a reader that is so slow that the channel has dropped entries before they were
sent: "skip" tells it of a gap and goes on, "close" ends its stream (a WebSocket with 1013)."""

FORMATS: dict[Way, EntryFormat] = {Way.EVENTS: EVENTS, Way.LINES: LINES, Way.TEXT: TEXT}


class Followed(Enum):
    """Why a reader stopped to follow a channel."""

    LEFT = "it was told to leave"
    TOO_SLOW = "entries were dropped before they were sent, and its stream is to be ended"
    ENDED = "the channel was closed"


async def serve_channel(
    request: Request,
    channel: Channel,
    *,
    last: int = 0,
    lag: Lag = "skip",
    origins: Collection[str] | None = None,
    headers: Fields = (),
) -> None:
    """Let a client read a channel in the way it asks for: with `Upgrade: websocket`, with
    `?wait=SECONDS` (a long-poll), or by `Accept` and its q-values as `text/event-stream`,
    `application/x-ndjson` or `text/plain`, which is also the default.

    The client resumes at its cursor: `Last-Event-ID`, `?after=` or `If-None-Match`; `?after=0` is
    the first entry there is. Without a cursor it starts at the present, or as many entries before
    it as `?last=` says, by default `last`. A WebSocket is opened only to pages of our own origin
    and of `origins`. `headers` are added to the response.

    Returns when the client has left, the channel is closed, or `lag` ends the stream. Raises
    `HTTPError` 405 for methods other than GET, 406 if no way is acceptable, and as
    `open_websocket`.
    """
    if request.method != "GET":
        raise HTTPError(405, "a channel is read with GET", [("Allow", "GET, HEAD")])
    asked = what_is_asked(request, last=last)
    match asked.way:
        case Way.WEBSOCKET:
            await _read_by_websocket(request, channel, asked, lag, origins)
        case Way.POLL:
            await read_by_poll(request, channel, asked, headers)
        case _:
            await read_as_stream(request, channel, asked, lag, headers)


# -- Streams --------------------------------------------------------------------------------------


def stream_of(request: Request, way: Way, headers: Fields) -> BeatingStream | Stream:
    """The stream for one of the ways to stream. Text has no heartbeat: people would see it."""
    fields = [VARY, *headers]
    match way:
        case Way.EVENTS:
            return open_events(request, headers=fields)
        case Way.LINES:
            return open_lines(request, headers=fields)
        case _:
            fields.insert(0, ("Cache-Control", "no-cache"))
            kind = f"{way.value}; charset=utf-8"
            return open_stream(request, kind, headers=fields, endless=True)


async def read_as_stream(
    request: Request, channel: Channel, asked: Asked, lag: Lag, headers: Fields
) -> None:
    """Read a channel as events, lines or text."""
    point = ResumePoint(channel, asked.cursor, asked.last)
    if channel.is_closed and point.position == channel.end and asked.way is Way.EVENTS:
        # An EventSource that has seen the end reconnects all the same, unless it is told 204
        # (WHATWG HTML section 9.2.1).
        await request.respond(204, headers=[VARY, *headers])
        return
    async with stream_of(request, asked.way, headers) as stream:
        format = replace(FORMATS[asked.way], wanted=asked.wanted)
        reader = Reader(stream.body, format, point.position)
        if isinstance(stream, BeatingStream):
            stream.heartbeat.other = reader
            if asked.wanted is not None or channel.feed is not None:
                stream.heartbeat.beat = _Beat(channel, reader, format, stream.heartbeat.beat)
        await follow(channel, reader, format, point, lag)


class _Beat:
    """The heartbeat of a reader for whom an empty one does not say enough."""

    def __init__(
        self,
        channel: Channel,
        reader: Reader,
        format: EntryFormat,
        empty: bytes | Callable[[], bytes],
    ) -> None:
        self._channel = channel
        self._reader = reader
        self._format = format
        self._empty = empty

    def __call__(self) -> bytes:
        id = self._channel.id_of(self._reader.position)
        feed = self._channel.feed
        if feed is not None and not feed.is_connected:
            return self._format.delayed(id)
        if self._format.wanted is not None:  # its cursor moves, too, where nothing is sent
            return self._format.place(id)
        return self._empty() if callable(self._empty) else self._empty


async def follow(
    channel: Channel, reader: Reader, format: EntryFormat, point: ResumePoint, lag: Lag
) -> Followed:
    """Send what the channel holds after the reader's position, and then what is published. Return
    why it ended."""
    if reader.leaving:
        return Followed.LEFT
    fan_out = channel.fan_out
    fan_out.following += 1
    try:
        start = reader.position
        id = channel.id_of(start)
        if point.is_lost:
            await _tell(reader, format.gap(id, point.lost_from, id))
            fan_out.count_gap()
            point.is_lost = False
        elif point.cursor is None:
            await _tell(reader, place_again(format, id))
        while not reader.leaving:
            if reader.position < channel.oldest:
                if lag == "close":
                    return Followed.TOO_SLOW
                lost_from, reader.position = channel.id_of(reader.position), channel.oldest
                id = channel.id_of(reader.position)
                await _tell(reader, format.gap(id, lost_from, id))
                fan_out.count_gap()
                continue
            framed, position = channel.batches.after(reader.position, format, reader.frame)
            if framed:
                await reader.sink.send_framed(framed)
                reader.position = position
                reader.last_sent = trio.current_time()
                fan_out.count_delivery(len(framed))
            elif position != reader.position:  # it wants none of them
                reader.position = position
                await trio.lowlevel.checkpoint()
            elif position < channel.oldest:
                continue  # what it was to be sent is gone
            elif channel.is_closed:
                if start == channel.end:  # it had seen the end before, but did not know that
                    await _tell(reader, format.last(channel.id_of(start)))
                return Followed.ENDED
            else:
                await fan_out.park(reader)
                await reader.sink.send_framed(b"")  # the rest of a direct write
        return Followed.LEFT
    finally:
        fan_out.following -= 1


async def _tell(reader: Reader, data: bytes) -> None:
    if data:
        await reader.sink.send_framed(reader.frame(data))
        reader.last_sent = trio.current_time()


# -- WebSockets -----------------------------------------------------------------------------------


class _BatchSink:
    """A WebSocket as the destination of batches, each of which becomes one message. A browser takes
    a long message in the time of a short one."""

    def __init__(self, ws: WebSocket) -> None:
        self.frame = text_message
        self.try_write = ws.writer.try_write
        self.send_framed = ws.writer.send_framed


def in_messages(ws: WebSocket, asked: Asked, name: str = "") -> tuple[Sink, EntryFormat]:
    """How the entries of a channel are sent over a WebSocket that has asked for this. `name` is the
    name to tell."""
    if asked.in_batches:
        return _BatchSink(ws), Lines(name, asked.wanted)
    return ws.writer, Frames(name, asked.wanted)


async def _read_by_websocket(
    request: Request,
    channel: Channel,
    asked: Asked,
    lag: Lag,
    origins: Collection[str] | None,
) -> None:
    """Read a channel as WebSocket messages. Messages of the client are ignored."""
    point = ResumePoint(channel, asked.cursor, asked.last)
    async with open_websocket(request, origins=origins) as ws:
        ws.drop_messages()
        sink, format = in_messages(ws, asked)
        reader = Reader(sink, format, point.position)
        try:
            if await follow(channel, reader, format, point, lag) is Followed.TOO_SLOW:
                await ws.close(TRY_AGAIN_LATER, "too slow")
        except (WebSocketClosed, BrokenStream):
            pass


# -- Long-polls -----------------------------------------------------------------------------------


async def read_by_poll(request: Request, channel: Channel, asked: Asked, headers: Fields) -> None:
    """Answer with the entries after the client's cursor, as soon as there are any, as a JSON
    object `{"entries": [...], "next": ID}`. It has a "gap" if entries are lost, and `"end": true`
    if the channel is closed."""
    async with open_poll(request, cursor=channel.id_of(channel.end), headers=headers) as poll:
        point = ResumePoint(channel, asked.cursor, asked.last)
        position, lost_from = point.position, point.lost_from if point.is_lost else None
        poll.cursor = channel.id_of(position)
        format = replace(POLLS, wanted=asked.wanted)
        while True:
            if position < channel.oldest:
                position, lost_from = channel.oldest, lost_from or channel.id_of(position)
            entry = channel.entry_after(position)
            if entry is not None and entry.is_gap:
                position, lost_from = entry.position, lost_from or entry.data
            answer, end = channel.batches.after(position, format, as_it_is)
            if answer or lost_from is not None or (channel.is_closed and end == position):
                break
            if end != position:  # it wants none of them
                position = end
                poll.cursor = channel.id_of(position)
                await trio.lowlevel.checkpoint()
            elif position == channel.end:
                await Channel.wait_for_entry(channel)
        next_id = channel.id_of(end)
        if answer:
            channel.fan_out.count_delivery(len(answer))
        answer = answer or b'{"entries": [], "next": "%b"' % next_id.encode()
        rest = ""
        if lost_from is not None:
            rest = f', "gap": {json_text({"from": lost_from, "to": channel.id_of(position)})}'
            channel.fan_out.count_gap()
        if channel.is_closed and end == channel.end:
            rest += ', "end": true'
        await poll.answer(answer, rest + "}\n", cursor=next_id, content_type="application/json")
