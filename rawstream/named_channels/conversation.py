"""A conversation with channels: a WebSocket joins and leaves channels, and publishes to them.

    client                                            server
    {"join": NAME, "after": ID, "last": N}    ->  <-  {"joined": NAME, "id": ID}, then its entries
    {"leave": NAME}                           ->  <-  {"left": NAME}
    {"pause": NAME}                           ->  <-  {"paused": NAME, "id": ID}
    {"resume": NAME}                          ->  <-  {"resumed": NAME, "id": ID}, then the rest
    {"filter": NAME, "only": TEXT}            ->  <-  {"filtered": NAME, "id": ID}
    {"publish": DATA, "channel": NAME,
     "event": TYPE}                           ->  <-  {"published": ID, "channel": NAME}
                                                  <-  {"id": ID, "channel": NAME, "data": DATA}
    anything else                             ->  <-  {"error": STATUS, "text": ...}

A string that is published is the text of the entry; for any other JSON value it is its JSON text.
If the client adds a "ref", a string or an integer, the reply repeats it.

With `?batch=1` a message from the server may hold several of these objects, each on a line.

`"only"` of a "join" or "filter" is that of `Channels(select=...)`; null stands for all entries.

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

from ..channels.asked import Asked
from ..channels.channel import Channel
from ..channels.fanout import Reader
from ..channels.readers import Followed, follow, in_messages
from ..channels.resume import ResumePoint
from ..entries.formats import EntryFormat, Wanted
from ..errors import BrokenStream, HTTPError, WebSocketClosed
from ..http.json_text import json_text
from ..http.request import Request
from ..websocket.connection import TRY_AGAIN_LATER, WebSocket
from ..websocket.opening import open_websocket
from .presence import SUFFIX
from .publishing import publish_texts
from .registry import Channels, Published

MAX_JOINED = 32
"""The most channels that one connection reads at a time."""

COMMANDS = 'commands are "join", "leave", "pause", "resume", "filter", "publish" with "channel"'


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
                conversation = _Conversation(request, channels, ws, nursery, asked)
                try:
                    with conversation.scope, suppress(WebSocketClosed, BrokenStream):
                        for (name, member), point in zip(members, points, strict=True):
                            await conversation.join(name, member, point, asked.wanted, {})
                        stack.close()  # the joined channels are in use now
                        async for message in ws:
                            await conversation.take(message)
                    if conversation.is_too_slow:
                        with suppress(WebSocketClosed, BrokenStream):
                            await ws.close(TRY_AGAIN_LATER, "too slow")
                finally:
                    conversation.leave_all()
                nursery.cancel_scope.cancel()


class _Joined:
    """A channel that a WebSocket has joined."""

    def __init__(self, channel: Channel, wanted: Wanted | None, point: ResumePoint) -> None:
        self.channel = channel
        self.wanted = wanted
        self.point = point
        """Where it begins."""
        self.place = channel.id_of(point.position)
        """The cursor where it has to go on, once it was stopped."""
        self.use = ExitStack()
        """Closed when it is left: until then the channel is in use, and the member present."""
        self.reader: Reader | None = None  # None while it is paused
        self.has_stopped = trio.Event()  # the reader, when it was told to leave

    async def stop(self) -> None:
        """Let the reader finish what it is sending, and remember its place."""
        if self.reader is not None:
            self.channel.fan_out.remove(self.reader)
            await self.has_stopped.wait()
            if not self.point.is_lost:  # else it has not been told yet
                self.place = self.channel.id_of(self.reader.position)
            self.reader = None


class _Conversation:
    """The channels that one WebSocket has joined, and its commands."""

    def __init__(
        self,
        request: Request,
        channels: Channels,
        ws: WebSocket,
        nursery: trio.Nursery,
        asked: Asked,
    ) -> None:
        self._request = request
        self._channels = channels
        self._ws = ws
        self._asked = asked
        self._nursery = nursery
        self._joined: dict[str, _Joined] = {}
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
                    wanted = self._channels.wanted(command.get("only"))
                    await self._channels.ready(name, after)
                    with self._channels.in_use(name) as channel:
                        point = ResumePoint(channel, after, last)
                        await self.join(name, member, point, wanted, ref)
                case {"leave": str(name)}:
                    await self._leave(name, ref)
                case {"pause": str(name)}:
                    joined = await self._stopped(name)
                    await self._answer({"paused": name, "id": joined.place, **ref})
                case {"resume": str(name)}:
                    joined = await self._stopped(name)
                    await self._answer({"resumed": name, "id": joined.place, **ref})
                    self._go_on(joined)
                case {"filter": str(name)}:
                    wanted = self._channels.wanted(command.get("only"))
                    is_paused = self._find(name).reader is None
                    joined = await self._stopped(name)
                    joined.wanted = wanted
                    await self._answer({"filtered": name, "id": joined.place, **ref})
                    if not is_paused:
                        self._go_on(joined)
                case {"publish": data, "channel": str(name)}:
                    await self._publish(name, _text_of(data), command.get("event"), ref)
                case {"publish": _}:
                    raise HTTPError(400, '"publish" needs "channel", the name of one')
                case _:
                    raise HTTPError(400, COMMANDS)
        except HTTPError as error:
            await self._answer({"error": error.status, "text": error.text, **ref})

    async def join(
        self,
        name: str,
        member: str | None,
        point: ResumePoint,
        wanted: Wanted | None,
        ref: dict[str, object],
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
            joined = self._joined[name] = _Joined(channel, wanted, point)
            joined.use.push(stack.pop_all())
        self._last_ended = False
        await self._answer({"joined": name, "id": joined.place, **members, **ref})
        point.cursor = point.cursor or joined.place  # already told: "joined"
        self._start(joined)

    def _go_on(self, joined: _Joined) -> None:
        """Follow a channel from where it was stopped."""
        if not joined.point.is_lost:
            joined.point = ResumePoint(joined.channel, joined.place)
        self._start(joined)

    def _start(self, joined: _Joined) -> None:
        """Follow a channel from where it begins."""
        asked = self._asked._replace(wanted=joined.wanted)
        sink, format = in_messages(self._ws, asked, joined.channel.name)
        joined.reader = Reader(sink, format, joined.point.position)
        joined.has_stopped = trio.Event()
        self._nursery.start_soon(self._follow, joined, joined.reader, format)

    async def _follow(self, joined: _Joined, reader: Reader, format: EntryFormat) -> None:
        channel = joined.channel
        try:
            match await follow(channel, reader, format, joined.point, self._channels.lag):
                case Followed.TOO_SLOW:
                    self.is_too_slow = True
                    self.scope.cancel()
                case Followed.ENDED:
                    if self._joined.get(channel.name) is joined:
                        self._forget(channel.name)
                    self._last_ended = not self._joined
                    self._end_if_over()
        except (WebSocketClosed, BrokenStream):
            pass
        finally:
            joined.has_stopped.set()

    def _end_if_over(self) -> None:
        """End the conversation with 1000 if its last channel was closed, and no command is under
        way that might join another."""
        if self._last_ended and not self._joined and not self._is_busy:
            self.scope.cancel()

    def _find(self, name: str) -> _Joined:
        if name not in self._joined:
            raise HTTPError(404, f"{name} is not joined")
        return self._joined[name]

    async def _stopped(self, name: str) -> _Joined:
        """A joined channel, which is followed no longer. Raises `HTTPError` 404."""
        await self._find(name).stop()
        return self._find(name)  # it may have ended with what it was sending

    def _forget(self, name: str) -> None:
        self._joined.pop(name).use.close()

    def leave_all(self) -> None:
        """The channels are in use no longer."""
        for name in list(self._joined):
            self._forget(name)

    async def _leave(self, name: str, ref: dict[str, object]) -> None:
        joined = self._find(name)
        if joined.reader is not None:
            joined.channel.fan_out.remove(joined.reader)
        self._forget(name)
        await self._answer({"left": name, **ref})

    async def _publish(self, name: str, text: str, event: object, ref: dict[str, object]) -> None:
        if not isinstance(event, str | None):
            raise HTTPError(400, '"event" is a string')
        member = await self._channels.allow(self._request, name, "publish")
        compose = partial(self._channels.compose, member)
        await self._channels.ready(name)
        with self._channels.in_use(name) as channel:
            published = Published(channel.id_of(channel.end))
            await publish_texts(self._channels, channel, compose, [text], event, published)
            await self._answer({"published": published.last, "channel": name, **ref})

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
