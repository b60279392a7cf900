"""A conversation with channels: a WebSocket joins and leaves them, and publishes.

    client                                            server
    {"join": NAME, "after": ID, "last": N}    ->  <-  {"joined": NAME, "id": ID}, then its entries
    {"leave": NAME}                           ->  <-  {"left": NAME}
    {"publish": TEXT, "channel": NAME,
     "event": TYPE}                           ->  <-  {"published": ID, "channel": NAME}
                                                  <-  {"id": ID, "channel": NAME, "data": TEXT}
    anything else                             ->  <-  {"error": STATUS, "text": ...}

A "ref", text or an integer, in what the client sends comes back in the answer. The id is that of
the channel alone, so that all its readers share the bytes; the cursor of several is put together
from the last of each, `?after=a:ID,b:ID`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial

import trio

from ..errors import BrokenStream, HTTPError, WebSocketClosed
from ..http.request import Request
from ..websocket.connection import TRY_AGAIN_LATER, WebSocket
from ..websocket.opening import open_websocket
from .asked import Asked
from .channel import Channel
from .fanout import Reader
from .formats import EntryFormat, Frames
from .presence import SUFFIX
from .publishing import publish_text
from .readers import follow
from .registry import Channels
from .resume import ResumePoint

MAX_JOINED = 32
"""Channels that one connection reads at a time."""


async def serve_conversation(
    request: Request,
    channels: Channels,
    members: Sequence[tuple[str, str | None]],
    asked: Asked,
) -> None:
    """Open a WebSocket that has joined these channels already, each under this name, and do what
    it asks for until it is closed. Raises what `open_websocket` raises."""
    with ExitStack() as stack:
        joined = [stack.enter_context(channels.in_use(name)) for name, _ in members]
        points = ResumePoint.of_each(joined, asked.cursor, asked.last)
        async with open_websocket(request, origins=channels.origins) as ws:
            async with trio.open_nursery() as nursery:
                conversation = _Conversation(request, channels, ws, nursery)
                with conversation.too_slow, suppress(WebSocketClosed, BrokenStream):
                    for (name, member), point in zip(members, points, strict=True):
                        await conversation.join(name, member, point, {})
                    stack.close()  # who has joined uses them
                    async for message in ws:
                        await conversation.take(message)
                if conversation.too_slow.cancelled_caught:
                    with suppress(WebSocketClosed, BrokenStream):
                        await ws.close(TRY_AGAIN_LATER, "too slow")
                nursery.cancel_scope.cancel()


class _Conversation:
    """What one WebSocket has joined, and what it asks for."""

    def __init__(
        self, request: Request, channels: Channels, ws: WebSocket, nursery: trio.Nursery
    ) -> None:
        self._request = request
        self._channels = channels
        self._ws = ws
        self._nursery = nursery
        self._joined: dict[str, tuple[Channel, Reader]] = {}
        self.too_slow = trio.CancelScope()
        """Ends the conversation, if that is what a reader who is too slow gets."""

    async def take(self, message: str | bytes) -> None:
        """Do what a message asks for, and answer it."""
        ref: dict[str, object] = {}
        try:
            command = _command(message)
            if "ref" in command:
                if not isinstance(command["ref"], str | int):
                    raise HTTPError(400, '"ref" is text or an integer')
                ref = {"ref": command["ref"]}
            match command:
                case {"join": str(name)}:
                    member = await self._channels.allow(self._request, name, "read")
                    after, last = _resume_from(command)
                    with self._channels.in_use(name) as channel:
                        await self.join(name, member, ResumePoint(channel, after, last), ref)
                case {"leave": str(name)}:
                    await self._leave(name, ref)
                case {"publish": str(text), "channel": str(name)}:
                    await self._publish(name, text, command.get("event"), ref)
                case _:
                    raise HTTPError(400, 'there is "join", "leave", and "publish" with "channel"')
        except HTTPError as error:
            await self._answer({"error": error.status, "text": error.text, **ref})

    async def join(
        self, name: str, member: str | None, point: ResumePoint, ref: dict[str, object]
    ) -> None:
        """Confirm, and follow the channel from now on. Raises `HTTPError`."""
        if name in self._joined:
            raise HTTPError(409, f"{name} is joined already")
        if len(self._joined) >= MAX_JOINED:
            raise HTTPError(403, f"a connection joins {MAX_JOINED} channels at most")
        with ExitStack() as stack:
            channel = stack.enter_context(self._channels.read(name, member))
            who: dict[str, object] = {}
            if name.endswith(SUFFIX):
                who = self._channels.presence(name).as_json()
                if point.cursor is None:
                    point.position = channel.end  # of which this is the state
            joined = {"joined": name, "id": channel.id_of(point.position)}
            format = Frames(name)
            reader = Reader(self._ws.writer, format, point.position)
            self._joined[name] = channel, reader
            await self._answer({**joined, **who, **ref})
            self._nursery.start_soon(self._follow, channel, reader, format, point, stack.pop_all())

    async def _follow(
        self,
        channel: Channel,
        reader: Reader,
        format: EntryFormat,
        point: ResumePoint,
        reading: ExitStack,
    ) -> None:
        point.cursor = point.cursor or channel.id_of(point.position)  # it has just been told
        with reading, suppress(WebSocketClosed, BrokenStream):
            await follow(channel, reader, format, point, self._channels.lag)
            if not reader.leaving:
                self.too_slow.cancel()

    async def _leave(self, name: str, ref: dict[str, object]) -> None:
        if name not in self._joined:
            raise HTTPError(404, f"{name} is not joined")
        channel, reader = self._joined.pop(name)
        channel.fan_out.remove(reader)
        await self._answer({"left": name, **ref})

    async def _publish(self, name: str, text: str, event: object, ref: dict[str, object]) -> None:
        if not isinstance(event, str | None):
            raise HTTPError(400, '"event" is text')
        member = await self._channels.allow(self._request, name, "publish")
        compose = partial(self._channels.compose, member)
        with self._channels.in_use(name) as channel:
            id = publish_text(channel, compose, text, event)
            await self._answer({"published": id, "channel": name, **ref})
            await channel.keep_pace()

    async def _answer(self, answer: dict[str, object]) -> None:
        await self._ws.send(json.dumps(answer))


def _resume_from(command: dict[str, object]) -> tuple[str | None, int]:
    """The cursor of a client that joins, or how many entries back it begins. Raises `HTTPError`."""
    after, last = command.get("after"), command.get("last", 0)
    if not isinstance(after, str | None) or type(last) is not int or last < 0:
        raise HTTPError(400, '"after" is a cursor, "last" a number of entries')
    return after or None, last


def _command(message: str | bytes) -> dict[str, object]:
    """The object that a message is. Raises `HTTPError` 400 if it is none."""
    try:
        command = json.loads(message) if isinstance(message, str) else None
    except (ValueError, RecursionError):
        command = None
    if not isinstance(command, dict):
        raise HTTPError(400, "a message is one JSON object, as text")
    return command
