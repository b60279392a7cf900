"""The four ways to read a channel, and the choice between them.

One cursor goes with all of them, so a client may change from one to another half way; one that
brings none is first told where it is. How entries look is in formats.py; a poll is answered with

    {"entries": [{"id": ID, "event": TYPE, "data": DATA}, ...], "next": ID, "gap": ...}
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Literal

import trio

from .channel import Channel, Format, Reader
from .cursors import make_vector, own_part, position_in
from .errors import BrokenStream, HTTPError, WebSocketClosed
from .formats import EVENTS, FRAMES, LINES, TEXT, as_json
from .longpoll import open_poll
from .negotiation import preferred
from .request import Fields, Request
from .sse import EventStream, open_events
from .stream import open_stream
from .websocket import TRY_AGAIN_LATER, WebSocket, open_websocket

MOST_CURSOR = 200
"""Characters of a cursor that are said back in a gap."""

STREAM_TYPES = ("text/plain", "application/x-ndjson", "text/event-stream")
VARY = ("Vary", "Accept")

Lag = Literal["skip", "close"]
"""What happens to a reader so slow that the channel has dropped what it has not yet been sent:
it is told of a gap and goes on, or its stream is ended (a WebSocket with 1013)."""


# -- The choice -----------------------------------------------------------------------------------


async def serve_channel(
    request: Request, channel: Channel, *, lag: Lag = "skip", headers: Fields = ()
) -> None:
    """Let a client read a channel, in the way it asks for: `Upgrade: websocket`; `?wait=SECONDS`
    (a long-poll); or by `Accept`, with its q-values, `text/event-stream`, `application/x-ndjson`
    or `text/plain`, which is also what whoever does not care gets.

    It goes on from the client's cursor (`Last-Event-ID`, `?after=`, `If-None-Match`), or without
    one from the present, or `?last=N` entries before it. `headers` are added to the response.
    Returns when the client has left, or by `lag`. Raises `HTTPError` 405 for methods other than
    GET, 406 if nothing is acceptable, and what `open_websocket` raises.
    """
    if request.method != "GET":
        raise HTTPError(405, "a channel is read with GET", [("Allow", "GET, HEAD")])
    if "websocket" in request.headers.tokens("upgrade"):
        await read_by_websocket(request, channel, lag=lag)
    elif "wait" in request.query:
        await read_by_poll(request, channel, headers=headers)
    else:
        match stream_type(request):
            case "text/event-stream":
                await read_as_events(request, channel, lag=lag, headers=headers)
            case "application/x-ndjson":
                await read_as_lines(request, channel, lag=lag, headers=headers)
            case _:
                await read_as_text(request, channel, lag=lag, headers=headers)


def stream_type(request: Request) -> str:
    """The one of `STREAM_TYPES` that the client prefers. Raises `HTTPError` 406 if none will do."""
    found = preferred(request.headers.get("accept") or "*/*", STREAM_TYPES)
    if found is None:
        raise HTTPError(406, "there is " + ", ".join(STREAM_TYPES), [VARY])
    return found


# -- Where it begins ------------------------------------------------------------------------------


class Start:
    """Where a client goes on from in a channel. To be found before it is answered: whatever is
    published after it has seen the head of its answer must reach it."""

    def __init__(self, channel: Channel, cursor: str | None, last: int = 0) -> None:
        """`cursor` is as the client brought it; without one it begins `last` entries back."""
        self.cursor = cursor and own_part(cursor, channel.name)
        self.position, self.is_lost = channel.place_of(self.cursor)
        if self.cursor is None:
            self.position = max(channel.start, self.position - last)

    @classmethod
    def of(cls, request: Request, channel: Channel) -> Start:
        """Where the request says. Raises `HTTPError` 400 for a `last` that is no number."""
        return cls(channel, cursor_of(request), last_of(request))

    @classmethod
    def of_each(cls, channels: Sequence[Channel], cursor: str | None, last: int) -> list[Start]:
        """The same in several channels, whose cursor is a vector. One that is the first's alone is
        of a client that has read nothing but that until now."""
        if cursor and channels and position_in(cursor, channels[0].epoch) is not None:
            cursor = make_vector([(channels[0].name, cursor)])
        return [cls(channel, cursor, last) for channel in channels]

    @property
    def lost_from(self) -> str:
        """The cursor behind which entries are lost, fit to be said back."""
        return (self.cursor or "")[:MOST_CURSOR].encode("utf-8", "replace").decode()


def cursor_of(request: Request) -> str | None:
    """The cursor that a request for a stream brings, as it is."""
    # An EventSource that comes back adds its Last-Event-ID to the URL it was given at first.
    return request.last_event_id or request.query.get("after") or None


def last_of(request: Request) -> int:
    """How many entries back a client without a cursor begins. Raises `HTTPError` 400."""
    text = request.query.get("last", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise HTTPError(400, "last is a number of entries")
    return int(text)


# -- Streams --------------------------------------------------------------------------------------


class _PacedReader(Reader):
    """A reader of events, with the pulse of its stream: what is written directly counts."""

    __slots__ = ("_events", "beating", "interval")

    def __init__(self, request: Request, events: EventStream, position: int) -> None:
        super().__init__(request.exchange, EVENTS, position)
        self.beating = True
        self.interval = request.exchange.limits.heartbeat_seconds
        self.last_sent = trio.current_time()
        self._events = events

    async def beat(self) -> None:
        await self._events.beat()


async def read_as_events(
    request: Request,
    channel: Channel,
    *,
    lag: Lag = "skip",
    retry: int | None = None,
    headers: Fields = (),
) -> None:
    """Read a channel as Server-Sent Events; the parameters are those of `open_events` and
    `serve_channel`. An entry of no type of its own is a "message", a gap an event "gap"."""
    start = Start.of(request, channel)
    fields = [VARY, *headers]
    async with open_events(request, heartbeat=inf, retry=retry, headers=fields) as events:
        reader = _PacedReader(request, events, start.position)
        request.exchange.pacemaker.pace(reader)
        await follow(channel, reader, events.send_encoded, start, lag)


async def read_as_lines(
    request: Request, channel: Channel, *, lag: Lag = "skip", headers: Fields = ()
) -> None:
    """Read a channel as JSON objects, one a line."""
    await _read_as(LINES, "application/x-ndjson", request, channel, lag, headers)


async def read_as_text(
    request: Request, channel: Channel, *, lag: Lag = "skip", headers: Fields = ()
) -> None:
    """Read a channel as plain text, for human eyes: data alone, so that there is no telling where
    an entry ends, or what is missing."""
    await _read_as(TEXT, "text/plain; charset=utf-8", request, channel, lag, headers)


async def _read_as(
    format: Format,
    content_type: str,
    request: Request,
    channel: Channel,
    lag: Lag,
    headers: Fields,
) -> None:
    start = Start.of(request, channel)
    fields = [("Cache-Control", "no-cache"), VARY, *headers]
    async with open_stream(request, content_type, headers=fields, endless=True) as stream:
        reader = Reader(request.exchange, format, start.position)
        await follow(channel, reader, stream.send, start, lag)


async def read_by_websocket(
    request: Request,
    channel: Channel,
    *,
    lag: Lag = "skip",
    origins: Collection[str] | None = None,
    compression: bool = False,
) -> None:
    """Read a channel as WebSocket messages; `origins` and `compression` are `open_websocket`'s.
    What the client sends is ignored."""
    start = Start.of(request, channel)
    async with open_websocket(request, origins=origins, compression=compression) as ws:
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as reading, suppress(WebSocketClosed, BrokenStream):
                nursery.start_soon(_ignore_messages, ws, reading)
                reader = Reader(ws, FRAMES if ws.shared_frames else LINES, start.position)
                await follow_by_websocket(ws, channel, reader, start, lag)
            if not reading.cancelled_caught:
                with suppress(WebSocketClosed, BrokenStream):
                    await ws.close(TRY_AGAIN_LATER, "too slow")
            nursery.cancel_scope.cancel()


async def _ignore_messages(ws: WebSocket, reading: trio.CancelScope) -> None:
    async for _ in ws:
        pass
    reading.cancel()


async def follow_by_websocket(
    ws: WebSocket, channel: Channel, reader: Reader, start: Start, lag: Lag
) -> None:
    """As `follow`; the format makes frames if the WebSocket can share them, else lines."""
    send = ws.send_frames if ws.shared_frames else partial(_send_lines, ws)
    await follow(channel, reader, send, start, lag)


async def _send_lines(ws: WebSocket, lines: bytes) -> None:
    for line in lines.splitlines():
        await ws.send(line.decode())


async def follow(
    channel: Channel,
    reader: Reader,
    send: Callable[[bytes], Awaitable[None]],
    start: Start,
    lag: Lag,
) -> None:
    """Send what the channel holds and will hold behind the reader's position. Returns when it
    leaves, or if it is too slow and `lag` ends it."""
    format = reader.format
    id = channel.id_of(reader.position)
    if reader.leaving:
        return
    if start.is_lost:
        await send(format.gap(id, start.lost_from, id))
    elif start.cursor is None:
        await send(format.place(id))
    while not reader.leaving:
        if reader.position < channel.start:
            if lag == "close":
                return
            lost_from, reader.position = channel.id_of(reader.position), channel.start
            id = channel.id_of(reader.position)
            await send(format.gap(id, lost_from, id))
            continue
        data, position = channel.batch_after(reader.position, format)
        if data:
            await send(data)
            reader.position = position
            reader.last_sent = trio.current_time()
        else:
            await channel.written_to(reader)
            await send(b"")  # what a direct write has left over


# -- Long-polls -----------------------------------------------------------------------------------


async def read_by_poll(request: Request, channel: Channel, *, headers: Fields = ()) -> None:
    """Read what a channel holds behind the client's cursor, as soon as there is any: one JSON
    object, `{"entries": [...], "next": ID}`, with "gap" if entries are lost."""
    last = last_of(request)
    async with open_poll(request, cursor=channel.id_of(channel.end), headers=headers) as poll:
        start = Start(channel, poll.brought or None, last)
        position, lost_from = start.position, start.lost_from if start.is_lost else None
        while position == channel.end and lost_from is None:
            await Channel.news_of(channel)
        if position < channel.start:
            position, lost_from = channel.start, channel.id_of(position)
        lines, end = channel.batch_after(position, LINES)
        answer: dict[str, object] = {
            "entries": [json.loads(line) for line in lines.splitlines()],
            "next": channel.id_of(end),
        }
        if lost_from is not None:
            answer["gap"] = {"from": lost_from, "to": channel.id_of(position)}
        body = as_json(answer) + "\n"
        await poll.answer(body, cursor=channel.id_of(end), content_type="application/json")
