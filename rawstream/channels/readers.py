"""The ways to read one channel.

A reader that is behind is sent batches by its own task; one that is caught up is parked, and
written to by the channel. One that brings no cursor is first told where it is.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Literal

import trio

from ..errors import BrokenStream, HTTPError, WebSocketClosed
from ..http.exchange import as_it_is
from ..http.fields import Fields
from ..http.request import Request
from ..streams.events import EventStream, open_events
from ..streams.longpoll import open_poll
from ..streams.stream import Stream, open_stream
from ..websocket.connection import TRY_AGAIN_LATER, WebSocket
from ..websocket.opening import open_websocket
from .asked import VARY, Asked, Way, what_is_asked
from .channel import Channel
from .fanout import Reader
from .formats import EVENTS, FRAMES, LINES, POLLS, TEXT, EntryFormat, as_json
from .resume import ResumePoint

Lag = Literal["skip", "close"]
"""What happens to a reader so slow that the channel has dropped what it has not yet been sent:
it is told of a gap and goes on, or its stream is ended (a WebSocket with 1013)."""

FORMATS: dict[Way, EntryFormat] = {Way.EVENTS: EVENTS, Way.LINES: LINES, Way.TEXT: TEXT}


async def serve_channel(
    request: Request,
    channel: Channel,
    *,
    lag: Lag = "skip",
    origins: Collection[str] | None = None,
    headers: Fields = (),
) -> None:
    """Let a client read a channel, in the way it asks for: `Upgrade: websocket`; `?wait=SECONDS`
    (a long-poll); or by `Accept`, with its q-values, `text/event-stream`, `application/x-ndjson`
    or `text/plain`, which is also what whoever does not care gets.

    It goes on from the client's cursor (`Last-Event-ID`, `?after=`, `If-None-Match`), or without
    one from the present, or `?last=N` entries before it. A WebSocket is opened to pages of our own
    origin, and of `origins`. `headers` are added to the response. Returns when the client has left,
    or by `lag`. Raises `HTTPError` 405 for methods other than GET, 406 if nothing is acceptable,
    and what `open_websocket` raises.
    """
    if request.method != "GET":
        raise HTTPError(405, "a channel is read with GET", [("Allow", "GET, HEAD")])
    asked = what_is_asked(request)
    match asked.way:
        case Way.WEBSOCKET:
            await _read_by_websocket(request, channel, asked, lag, origins)
        case Way.POLL:
            await read_by_poll(request, channel, asked, headers)
        case _:
            await read_as_stream(request, channel, asked, lag, headers)


# -- Streams --------------------------------------------------------------------------------------


def stream_of(request: Request, way: Way, headers: Fields) -> EventStream | Stream:
    """The stream that is one of the ways to stream."""
    fields = [VARY, *headers]
    if way is Way.EVENTS:
        return open_events(request, headers=fields)
    utf8 = "; charset=utf-8" if way is Way.TEXT else ""
    fields.insert(0, ("Cache-Control", "no-cache"))
    return open_stream(request, way.value + utf8, headers=fields, endless=True)


async def read_as_stream(
    request: Request, channel: Channel, asked: Asked, lag: Lag, headers: Fields
) -> None:
    """Read a channel as events, lines or text."""
    point = ResumePoint(channel, asked.cursor, asked.last)
    async with stream_of(request, asked.way, headers) as stream:
        reader = Reader(stream.body, FORMATS[asked.way], point.position)
        if isinstance(stream, EventStream):
            stream.heartbeat.other = reader
        await follow(channel, reader, FORMATS[asked.way], point, lag)


async def follow(
    channel: Channel, reader: Reader, format: EntryFormat, point: ResumePoint, lag: Lag
) -> None:
    """Send what the channel holds and will hold behind the reader's position. Returns when it
    leaves, or if it is too slow and `lag` ends it."""
    if reader.leaving:
        return
    id = channel.id_of(reader.position)
    if point.is_lost:
        await _tell(reader, format.gap(id, point.lost_from, id))
    elif point.cursor is None:
        await _tell(reader, format.place(id))
    while not reader.leaving:
        if reader.position < channel.start:
            if lag == "close":
                return
            lost_from, reader.position = channel.id_of(reader.position), channel.start
            id = channel.id_of(reader.position)
            await _tell(reader, format.gap(id, lost_from, id))
            continue
        framed, position = channel.batch_after(reader.position, format, reader.frame)
        if framed:
            await reader.sink.send_framed(framed)
            reader.position = position
            reader.last_sent = trio.current_time()
        else:
            await channel.fan_out.park(reader)
            await reader.sink.send_framed(b"")  # what a direct write has left over


async def _tell(reader: Reader, data: bytes) -> None:
    if data:
        await reader.sink.send_framed(reader.frame(data))
        reader.last_sent = trio.current_time()


# -- WebSockets -----------------------------------------------------------------------------------


async def _read_by_websocket(
    request: Request,
    channel: Channel,
    asked: Asked,
    lag: Lag,
    origins: Collection[str] | None,
) -> None:
    """Read a channel as WebSocket messages. What the client sends is ignored."""
    point = ResumePoint(channel, asked.cursor, asked.last)
    async with open_websocket(request, origins=origins) as ws:
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as reading, suppress(WebSocketClosed, BrokenStream):
                nursery.start_soon(_ignore_messages, ws, reading)
                reader = Reader(ws.writer, FRAMES, point.position)
                await follow(channel, reader, FRAMES, point, lag)
            if not reading.cancelled_caught:
                with suppress(WebSocketClosed, BrokenStream):
                    await ws.close(TRY_AGAIN_LATER, "too slow")
            nursery.cancel_scope.cancel()


async def _ignore_messages(ws: WebSocket, reading: trio.CancelScope) -> None:
    async for _ in ws:
        pass
    reading.cancel()


# -- Long-polls -----------------------------------------------------------------------------------


async def read_by_poll(request: Request, channel: Channel, asked: Asked, headers: Fields) -> None:
    """Read what a channel holds behind the client's cursor, as soon as there is any: one JSON
    object, `{"entries": [...], "next": ID}`, with "gap" if entries are lost."""
    async with open_poll(request, cursor=channel.id_of(channel.end), headers=headers) as poll:
        point = ResumePoint(channel, asked.cursor, asked.last)
        position, lost_from = point.position, point.lost_from if point.is_lost else None
        while position == channel.end and lost_from is None:
            await Channel.wait_for_entry(channel)
        if position < channel.start:
            position, lost_from = channel.start, channel.id_of(position)
        answer, end = channel.batch_after(position, POLLS, as_it_is)
        next_id = channel.id_of(end)
        answer = answer or b'{"entries": [], "next": "%b"' % next_id.encode()
        rest = "}\n"
        if lost_from is not None:
            gap = {"from": lost_from, "to": channel.id_of(position)}
            rest = f', "gap": {as_json(gap)}}}\n'
        await poll.answer(answer, rest, cursor=next_id, content_type="application/json")
