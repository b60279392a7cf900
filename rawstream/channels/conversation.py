"""A conversation with channels: a WebSocket joins and leaves channels, and publishes to them.

    client                                            server
    {"join": NAME, "after": ID, "last": N}    ->  <-  {"joined": NAME, "id": ID}, then its entries
    {"leave": NAME}                           ->  <-  {"left": NAME}
    {"publish": DATA, "channel": NAME,
     "event": TYPE}                           ->  <-  {"published": ID, "channel": NAME}
                                                  <-  {"id": ID, "channel": NAME, "data": DATA}
    anything else                             ->  <-  {"error": STATUS, "text": ...}

A string that is published is the text of the entry; for any other JSON value it is its JSON text.
If the client adds a "ref", a string or an integer, the reply repeats it.

An entry may arrive before the reply to its "publish". The "id" is the ID in that one channel, so
that all readers of the channel share the bytes. A client makes its cursor for several channels of
the last ID of each: `?after=a:ID,b:ID`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial

import trio

from ..errors import BrokenStream, HTTPError, WebSocketClosed
from ..http.json_text import json_text
from ..http.request import Request
from ..websocket.connection import TRY_AGAIN_LATER, WebSocket
from ..websocket.opening import open_websocket
from .asked import Asked
from .channel import Channel
from .fanout import Reader
from .formats import EntryFormat, Frames
from .presence import SUFFIX
from .publishing import publish_text
from .readers import Followed, follow
from .registry import Channels
from .resume import ResumePoint

MAX_JOINED = 32
"""The most channels that one connection reads at a time."""


async def serve_conversation(
    request: Request,
    channels: Channels,
    members: Sequence[tuple[str, str | None]],
    asked: Asked,
) -> None:
    """Open a WebSocket that has already joined these channels, each as this member, and carry out
    its commands until it is closed. Raises as `open_websocket`."""
    with ExitStack() as stack:
        joined = [stack.enter_context(channels.in_use(name)) for name, _ in members]
        points = ResumePoint.of_each(joined, asked.cursor, asked.last)
        async with open_websocket(request, origins=channels.origins) as ws:
            async with trio.open_nursery() as nursery:
                conversation = _Conversation(request, channels, ws, nursery)
                with conversation.scope, suppress(WebSocketClosed, BrokenStream):
                    for (name, member), point in zip(members, points, strict=True):
                        await conversation.join(name, member, point, {})
                    stack.close()  # the joined channels are in use now
                    async for message in ws:
                        await conversation.take(message)
                if conversation.is_too_slow:
                    with suppress(WebSocketClosed, BrokenStream):
                        await ws.close(TRY_AGAIN_LATER, "too slow")
                nursery.cancel_scope.cancel()


class _Conversation:
    """The channels that one WebSocket has joined, and its commands."""

    def __init__(
        self, request: Request, channels: Channels, ws: WebSocket, nursery: trio.Nursery
    ) -> None:
        self._request = request
        self._channels = channels
        self._ws = ws
        self._nursery = nursery
        self._joined: dict[str, tuple[Channel, Reader]] = {}
        self.scope = trio.CancelScope()
        """Cancelled to end the conversation."""
        self.is_too_slow = False
        self._is_busy = False  # with a command
        self._last_ended = False  # the last joined channel was closed

    async def take(self, message: str | bytes) -> None:
        """Carry out one command, and reply to it."""
        self._is_busy = True
        try:
            await self._carry_out(message)
        finally:
            self._is_busy = False
        self._end_if_over()

    async def _carry_out(self, message: str | bytes) -> None:
        ref: dict[str, object] = {}
        try:
            command = _command(message)
            if "ref" in command:
                if not isinstance(command["ref"], str | int):
                    raise HTTPError(400, '"ref" is a string or an integer')
                ref = {"ref": command["ref"]}
            match command:
                case {"join": str(name)}:
                    member = await self._channels.allow(self._request, name, "read")
                    after, last = _resume_from(command, self._channels.last)
                    with self._channels.in_use(name) as channel:
                        await self.join(name, member, ResumePoint(channel, after, last), ref)
                case {"leave": str(name)}:
                    await self._leave(name, ref)
                case {"publish": data, "channel": str(name)}:
                    await self._publish(name, _text_of(data), command.get("event"), ref)
                case {"publish": _}:
                    raise HTTPError(400, '"publish" needs "channel", the name of one')
                case _:
                    raise HTTPError(400, 'commands are "join", "leave", "publish" with "channel"')
        except HTTPError as error:
            await self._answer({"error": error.status, "text": error.text, **ref})

    async def join(
        self, name: str, member: str | None, point: ResumePoint, ref: dict[str, object]
    ) -> None:
        """Join a channel: confirm it, then follow the channel. Raises `HTTPError`."""
        if name in self._joined:
            raise HTTPError(409, f"{name} is joined already")
        if len(self._joined) >= MAX_JOINED:
            raise HTTPError(403, f"a connection joins at most {MAX_JOINED} channels")
        with ExitStack() as stack:
            channel = stack.enter_context(self._channels.read(name, member))
            members: dict[str, object] = {}
            if name.endswith(SUFFIX):
                members = self._channels.presence(name).as_json()
                if point.cursor is None:
                    point.position = channel.end  # which is the position of these members
            joined = {"joined": name, "id": channel.id_of(point.position)}
            format = Frames(name)
            reader = Reader(self._ws.writer, format, point.position)
            self._joined[name] = channel, reader
            self._last_ended = False
            await self._answer({**joined, **members, **ref})
            self._nursery.start_soon(self._follow, channel, reader, format, point, stack.pop_all())

    async def _follow(
        self,
        channel: Channel,
        reader: Reader,
        format: EntryFormat,
        point: ResumePoint,
        reading: ExitStack,
    ) -> None:
        point.cursor = point.cursor or channel.id_of(point.position)  # already told: "joined"
        with reading, suppress(WebSocketClosed, BrokenStream):
            match await follow(channel, reader, format, point, self._channels.lag):
                case Followed.TOO_SLOW:
                    self.is_too_slow = True
                    self.scope.cancel()
                case Followed.ENDED:
                    if self._joined.get(channel.name) == (channel, reader):
                        del self._joined[channel.name]
                    self._last_ended = not self._joined
                    self._end_if_over()

    def _end_if_over(self) -> None:
        """End the conversation with 1000 if its last channel was closed, and no command is under
        way that might join another."""
        if self._last_ended and not self._joined and not self._is_busy:
            self.scope.cancel()

    async def _leave(self, name: str, ref: dict[str, object]) -> None:
        if name not in self._joined:
            raise HTTPError(404, f"{name} is not joined")
        channel, reader = self._joined.pop(name)
        channel.fan_out.remove(reader)
        await self._answer({"left": name, **ref})

    async def _publish(self, name: str, text: str, event: object, ref: dict[str, object]) -> None:
        if not isinstance(event, str | None):
            raise HTTPError(400, '"event" is a string')
        member = await self._channels.allow(self._request, name, "publish")
        compose = partial(self._channels.compose, member)
        with self._channels.in_use(name) as channel:
            id = publish_text(channel, compose, text, event)
            await self._answer({"published": id, "channel": name, **ref})
            await channel.keep_pace()

    async def _answer(self, answer: dict[str, object]) -> None:
        await self._ws.send(json.dumps(answer))


def _resume_from(command: dict[str, object], default: int) -> tuple[str | None, int]:
    """The cursor of a "join", and how many entries before the present it starts without one. Raises
    `HTTPError` 400."""
    after, last = command.get("after"), command.get("last", default)
    if not isinstance(after, str | None) or type(last) is not int or last < 0:
        raise HTTPError(400, '"after" is a cursor, "last" is a number of entries')
    return after or None, last


def _text_of(data: object) -> str:
    """The text of an entry that a "publish" carries. Raises `HTTPError` 400."""
    try:
        return data if isinstance(data, str) else json_text(data)
    except ValueError as error:
        raise HTTPError(400, str(error)) from None


def _command(message: str | bytes) -> dict[str, object]:
    """The JSON object of a message. Raises `HTTPError` 400."""
    try:
        command = json.loads(message) if isinstance(message, str) else None
    except (ValueError, RecursionError):
        command = None
    if not isinstance(command, dict):
        raise HTTPError(400, "a message is one JSON object, sent as text")
    return command
