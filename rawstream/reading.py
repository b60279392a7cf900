"""The four ways to read a channel, and the choice between them.

One cursor goes with all of them, so a client may change from one to another half way. What an
entry, and a gap, looks like on each (`ID` is the cursor behind the entry):

    events       id: ID, event: TYPE, data: DATA      event: gap, data: {"from": .., "to": ..}
    lines        {"id": ID, "event": TYPE, "data": DATA}           {"gap": {"from": .., "to": ..}}
    WebSocket    the same, each in a message of its own
    long-poll    {"entries": [the same ...], "next": ID, "gap": ..}
    text         DATA alone, for human eyes: no ids, no gaps, nothing to resume from
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from functools import partial
from math import inf
from typing import Literal

import trio

from .channel import Channel, Entry, Format, Reader
from .errors import BrokenStream, HTTPError, WebSocketClosed
from .frames import data_frame
from .longpoll import open_poll
from .negotiation import preferred
from .request import Request
from .sse import Event, EventStream, open_events
from .stream import open_stream
from .websocket import TRY_AGAIN_LATER, WebSocket, open_websocket

MOST_CURSOR = 200
"""Characters of a cursor that are said back in a gap."""


# -- Formats --------------------------------------------------------------------------------------


class Events:
    """Server-Sent Events."""

    def entry(self, id: str, entry: Entry) -> bytes:
        return Event(entry.data, entry.event, id).encode()

    def gap(self, start: str, end: str) -> bytes:
        return Event(json.dumps({"from": start, "to": end}), "gap", end).encode()


class Lines:
    """One JSON object a line."""

    def entry(self, id: str, entry: Entry) -> bytes:
        return json.dumps(as_json(id, entry), ensure_ascii=False).encode() + b"\n"

    def gap(self, start: str, end: str) -> bytes:
        return json.dumps({"gap": {"from": start, "to": end}}).encode() + b"\n"


class Frames:
    """One JSON object a WebSocket message."""

    def entry(self, id: str, entry: Entry) -> bytes:
        return data_frame(LINES.entry(id, entry)[:-1].decode())

    def gap(self, start: str, end: str) -> bytes:
        return data_frame(LINES.gap(start, end)[:-1].decode())


class Text:
    """The data, and nothing else."""

    def entry(self, id: str, entry: Entry) -> bytes:
        return entry.data.encode() + b"\n"

    def gap(self, start: str, end: str) -> bytes:
        return b""


EVENTS, LINES, FRAMES, TEXT = Events(), Lines(), Frames(), Text()


def as_json(id: str, entry: Entry) -> dict[str, str]:
    """An entry as lines, WebSocket messages and answers to polls have it."""
    event = {} if entry.event is None else {"event": entry.event}
    return {"id": id, **event, "data": entry.data}


# -- The choice -----------------------------------------------------------------------------------

Lag = Literal["skip", "close"]
"""What happens to a reader so slow that the channel has dropped what it has not yet been sent:
it is told of a gap and goes on, or its stream is ended (a WebSocket with 1013)."""


async def serve_channel(request: Request, channel: Channel, *, lag: Lag = "skip") -> None:
    """Let a client read a channel, in the way it asks for: `Upgrade: websocket`; `?wait=SECONDS`
    (a long-poll); or by `Accept`, with its q-values, `text/event-stream`, `application/x-ndjson`
    or `text/plain`, which is also what whoever does not care gets.

    It goes on from the client's cursor (`Last-Event-ID`, `?after=`, `If-None-Match`), or without
    one from the present. Returns when the client has left, or by `lag`. Raises `HTTPError` 405
    for methods other than GET, 406 if nothing is acceptable, and what `open_websocket` raises.
    """
    if request.method != "GET":
        raise HTTPError(405, "a channel is read with GET", [("Allow", "GET, HEAD")])
    if "websocket" in request.headers.tokens("upgrade"):
        await read_by_websocket(request, channel, lag=lag)
    elif "wait" in request.query:
        await read_by_poll(request, channel)
    else:
        accepted = ", ".join(request.headers.get_all("accept")) or "*/*"
        match preferred(accepted, ("text/plain", "application/x-ndjson", "text/event-stream")):
            case "text/event-stream":
                await read_as_events(request, channel, lag=lag)
            case "application/x-ndjson":
                await read_as_lines(request, channel, lag=lag)
            case "text/plain":
                await read_as_text(request, channel, lag=lag)
            case _:
                raise HTTPError(406, "text/event-stream, application/x-ndjson or text/plain", VARY)


# -- Streams --------------------------------------------------------------------------------------

VARY = [("Vary", "Accept")]


class _Start:
    """Where a client goes on from. To be asked before it is answered: whatever is published after
    it has seen the head of its answer must reach it."""

    def __init__(self, request: Request, channel: Channel) -> None:
        # An EventSource that comes back adds its Last-Event-ID to the URL it was given at first.
        cursor = request.last_event_id or request.query.get("after") or None
        self.position, lost = channel.place_of(cursor)
        self.lost = cursor if lost else None
        """The cursor with which nothing could be done, if so."""


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
    request: Request, channel: Channel, *, lag: Lag = "skip", retry: int | None = None
) -> None:
    """Read a channel as Server-Sent Events; the parameters are those of `open_events` and
    `serve_channel`. An entry of no type of its own is a "message", a gap an event "gap"."""
    start = _Start(request, channel)
    async with open_events(request, heartbeat=inf, retry=retry, headers=VARY) as events:
        reader = _PacedReader(request, events, start.position)
        request.exchange.pacemaker.pace(reader)
        await _follow(channel, reader, events.send_encoded, start.lost, lag)


async def read_as_lines(request: Request, channel: Channel, *, lag: Lag = "skip") -> None:
    """Read a channel as JSON objects, one a line."""
    await _read_as(LINES, "application/x-ndjson", request, channel, lag)


async def read_as_text(request: Request, channel: Channel, *, lag: Lag = "skip") -> None:
    """Read a channel as plain text, for human eyes: data alone, so that there is no telling where
    an entry ends, or what is missing."""
    await _read_as(TEXT, "text/plain; charset=utf-8", request, channel, lag)


async def _read_as(
    format: Format, content_type: str, request: Request, channel: Channel, lag: Lag
) -> None:
    start = _Start(request, channel)
    async with open_stream(request, content_type, headers=VARY, endless=True) as stream:
        reader = Reader(request.exchange, format, start.position)
        await _follow(channel, reader, stream.send, start.lost, lag)


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
    start = _Start(request, channel)
    async with open_websocket(request, origins=origins, compression=compression) as ws:
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as reading, suppress(WebSocketClosed, BrokenStream):
                nursery.start_soon(_ignore_messages, ws, reading)
                if ws.shared_frames:
                    reader, send = Reader(ws, FRAMES, start.position), ws.send_frames
                else:
                    reader, send = Reader(ws, LINES, start.position), partial(_send_lines, ws)
                await _follow(channel, reader, send, start.lost, lag)
            if not reading.cancelled_caught:
                with suppress(WebSocketClosed, BrokenStream):
                    await ws.close(TRY_AGAIN_LATER, "too slow")
            nursery.cancel_scope.cancel()


async def _ignore_messages(ws: WebSocket, reading: trio.CancelScope) -> None:
    async for _ in ws:
        pass
    reading.cancel()


async def _send_lines(ws: WebSocket, lines: bytes) -> None:
    for line in lines.splitlines():
        await ws.send(line.decode())


async def _follow(
    channel: Channel,
    reader: Reader,
    send: Callable[[bytes], Awaitable[None]],
    lost: str | None,
    lag: Lag,
) -> None:
    """Send what the channel holds and will hold behind the reader's position, `lost` being as in
    `_Start`. Returns if the reader is too slow and `lag` ends it."""
    format = reader.format
    if lost is not None:
        await send(format.gap(lost[:MOST_CURSOR], channel.id_of(reader.position)))
    while True:
        if reader.position < channel.start:
            if lag == "close":
                return
            start, reader.position = reader.position, channel.start
            await send(format.gap(channel.id_of(start), channel.id_of(reader.position)))
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


async def read_by_poll(request: Request, channel: Channel) -> None:
    """Read what a channel holds behind the client's cursor, as soon as there is any: one JSON
    object, `{"entries": [...], "next": ID}`, with "gap" if entries are lost."""
    async with open_poll(request, cursor=channel.id_of(channel.end)) as poll:
        position, lost = channel.place_of(poll.brought or None)
        while position == channel.end and not lost:
            await channel.news()
        if position < channel.start:
            position, lost = channel.start, True
        lines, end = channel.batch_after(position, LINES)
        answer: dict[str, object] = {
            "entries": [json.loads(line) for line in lines.splitlines()],
            "next": channel.id_of(end),
        }
        if lost:
            start = (poll.brought or channel.id_of(position))[:MOST_CURSOR]
            answer["gap"] = {"from": start, "to": channel.id_of(position)}
        body = json.dumps(answer, ensure_ascii=False) + "\n"
        await poll.answer(body, cursor=channel.id_of(end), content_type="application/json")
