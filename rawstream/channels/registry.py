"""Many channels by name: made when first asked for, forgotten when idle, with who reads them.

Each has its `Presence`, read as a channel of its own: `NAME@presence`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import trio

from ..errors import HTTPError, Unavailable
from ..http.request import Request
from .channel import Channel
from .cursors import epoch_of, new_epoch
from .presence import SUFFIX, Presence
from .readers import Lag

MAX_MEMBER_CHARACTERS = 64
"""Characters of the name that a client gives itself."""

_NAME = re.compile("[0-9A-Za-z._~-]{1,64}")

Action = Literal["read", "publish"]
Authorize: TypeAlias = Callable[[Request, str, Action], Awaitable["str | None"]]
"""Asked before a client reads a channel or publishes to it; raises `HTTPError`, 401 or 403, to
refuse. What it returns is the name of the client, which is listed under it; None for none."""
Compose: TypeAlias = Callable[["str | None", str], str]
"""Makes an entry of what a client of this name publishes."""


async def anybody(request: Request, channel: str, action: Action) -> str | None:
    """Let everybody in, under the name of `?name=` if they give one."""
    return request.query.get("name", "")[:MAX_MEMBER_CHARACTERS] or None


def as_it_is(member: str | None, text: str) -> str:
    """The entry is what the client sent."""
    return text


class Channels:
    """Named channels. A name is 1 to 64 letters, digits, `.`, `_`, `~` and `-`.

    `create` makes the channel of a name that has none, by default `Channel(name)`; it may fill it,
    and may raise `HTTPError` 404 for names there shall not be. There are `max_channels` of them
    at a time, the next is refused with 503. One that nobody reads, and that was not asked for in
    `idle_seconds`, is forgotten with its log as soon as any channel is asked for. One that holds
    nothing, and that clients alone have asked for, is forgotten when the last of them has left.
    `compose` makes an entry of what a client sends; it can say who that was, which clients must not
    be left to say themselves. `origins` are the browser origins let in, by default only our own,
    "*" being any. `lag` is as in `serve_channel`.
    """

    def __init__(
        self,
        create: Callable[[str], Channel] | None = None,
        *,
        authorize: Authorize = anybody,
        compose: Compose = as_it_is,
        origins: Collection[str] | None = None,
        max_channels: int = 1000,
        idle_seconds: float = 300,
        lag: Lag = "skip",
    ) -> None:
        self._authorize = authorize
        self.compose = compose
        self.origins = origins
        self.lag: Lag = lag
        self._create = create or self._make
        # A cursor of a channel that was forgotten empty is still good when that is made anew. Once
        # one is forgotten that held something, the next are of another generation.
        self._generation = new_epoch()
        self._max_channels = max_channels
        self._idle_seconds = idle_seconds
        self._registered: dict[str, _Registered] = {}
        self._idle: dict[str, float] = {}  # since when, the longest idle first

    def __len__(self) -> int:
        return len(self._registered)

    async def allow(self, request: Request, name: str, action: Action) -> str | None:
        """Whether a client may do this with the channel of this name: the client's own name.
        Raises `HTTPError`, also 404 for what is no name, and 405 for publishing who is there."""
        if action == "publish" and name.endswith(SUFFIX):
            raise HTTPError(405, "who is there is only read", [("Allow", "GET, HEAD")])
        name = name.removesuffix(SUFFIX)
        if not _NAME.fullmatch(name):
            raise HTTPError(404, "a channel's name is 1 to 64 of A-Z a-z 0-9 . _ ~ -")
        return await self._authorize(request, name, action)

    def get(self, name: str) -> Channel:
        """The channel of this name. Ask anew for each `publish`: an idle one is forgotten.

        Raises `ValueError` for what is no name, `HTTPError` 503 if there are too many, and what
        `create` raises.
        """
        found = self._find(name.removesuffix(SUFFIX))
        found.is_kept = True
        return found.log_of(name)

    def presence(self, name: str) -> Presence:
        """Who reads the channel of this name. Raises as `get`."""
        return self._find(name.removesuffix(SUFFIX)).presence

    @contextmanager
    def in_use(self, name: str) -> Iterator[Channel]:
        """A channel that is not idle for as long as the block lasts. Raises as `get`."""
        asked_for, name = name, name.removesuffix(SUFFIX)
        found = self._find(name)
        found.users += 1
        self._idle.pop(name, None)
        try:
            yield found.log_of(asked_for)
        finally:
            found.users -= 1
            if not found.users:
                if found.is_kept or not found.holds_nothing:
                    self._idle[name] = trio.current_time()
                else:  # clients have only asked for the name
                    self._forget(name)

    @contextmanager
    def read(self, name: str, member: str | None, *, listed: bool = True) -> Iterator[Channel]:
        """As `in_use`, by a reader who is listed; nobody is for reading who is there."""
        with self.in_use(name) as channel:
            if listed and not name.endswith(SUFFIX):
                with self._registered[name].presence.including(member):
                    yield channel
            else:
                yield channel

    def _find(self, name: str) -> _Registered:
        now = trio.current_time()
        while self._idle:
            longest = next(iter(self._idle))
            if now < self._idle[longest] + self._idle_seconds:
                break
            del self._idle[longest]
            self._forget(longest)
        found = self._registered.get(name)
        if found is None:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name for a channel")
            if len(self._registered) >= self._max_channels:
                raise Unavailable("too many channels")
            found = self._registered[name] = _Registered(name, self._create(name), self._generation)
        if not found.users:
            self._idle.pop(name, None)
            self._idle[name] = now
        return found

    def _make(self, name: str) -> Channel:
        return Channel(name, epoch=epoch_of(name, self._generation))

    def _forget(self, name: str) -> None:
        if not self._registered.pop(name).holds_nothing:
            self._generation = new_epoch()


class _Registered:
    """A channel, who reads it, and who uses it."""

    def __init__(self, name: str, channel: Channel, generation: str) -> None:
        channel.name = name
        self.channel = channel
        self.presence = Presence(name, epoch_of(name + SUFFIX, generation))
        self.users = 0
        self.is_kept = False  # until it is idle, though it may be empty

    @property
    def holds_nothing(self) -> bool:
        """Whether nothing was ever published, and nobody was told of who is there."""
        return self.channel.is_empty and self.presence.has_told_nobody

    def log_of(self, name: str) -> Channel:
        """The channel, or that of who is in it."""
        return self.presence.log if name.endswith(SUFFIX) else self.channel
