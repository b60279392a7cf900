"""Many channels by name: made when first asked for, forgotten when idle.

Each has its `Presence`, which is read as a channel of its own: `NAME@presence`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

import trio

from ..channels.channel import Channel
from ..channels.readers import Lag
from ..entries.counts import Counts
from ..entries.cursors import epoch_of, new_epoch
from ..entries.formats import Wanted
from ..entries.log import check_last
from ..errors import HTTPError, Unavailable
from ..http.context import port_is_shared
from ..http.request import Request
from ..stderr import logger
from .presence import SUFFIX, Presence

YIELD_EVERY_TEXTS = 64
"""Published texts after which other tasks may run."""

MAX_MEMBER_CHARACTERS = 64
"""Characters of a name that a client gives itself."""

_NAME = re.compile("[0-9A-Za-z._~-]{1,64}")


def check_name(name: str) -> None:
    """Raise `ValueError` unless a channel may have this name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid name for a channel")


Action = Literal["read", "publish"]
Authorize: TypeAlias = Callable[[Request, str, Action], Awaitable["str | None"]]
"""Called before a client reads a channel or publishes to it. It raises `HTTPError` 401 or 403 to
refuse, and returns the name under which the client is listed as present, or None."""
Compose: TypeAlias = Callable[["str | None", str], str]
"""Makes the text of an entry, from the name of a client and the text that it publishes."""
Select: TypeAlias = Callable[[str], Wanted]
"""Tells which entries a client wants that asks for `?only=TEXT`. Raises `ValueError` for text that
means nothing. For the same text it returns the same function: readers with the same function share
encoded bytes."""


async def anybody(request: Request, channel: str, action: Action) -> str | None:
    """Allow everything, under the name of `?name=` if there is one."""
    return request.query.get("name", "")[:MAX_MEMBER_CHARACTERS] or None


def as_it_is(member: str | None, text: str) -> str:
    """Publish what the client sent."""
    return text


@dataclass(slots=True)
class Published:
    """What was published of the texts of a client."""

    last: str
    """The ID of the last one; at first that of the last entry before them."""
    count: int = 0


class Channels:
    """Named channels. A name is 1 to 64 letters, digits, `.`, `_`, `~` and `-`.

    `create` makes a channel when its name is first asked for, by default `Channel(name)`. It may
    fill the channel, and may raise `HTTPError` 404 for a name that does not exist. At most
    `max_channels` exist at a time; then a new name is refused with 503.

    A channel is forgotten, with its log, when nobody reads it and it was not asked for in
    `idle_seconds`; a closed one earlier, if its place is needed. A channel that holds nothing, and
    that only clients have asked for, is forgotten when the last of them has left.

    `authorize` decides who may read and publish. `compose` makes an entry of what a client
    publishes; it can add the client's name, which clients must not be trusted to give. `select`
    makes filters of `?only=TEXT`, which without it has no meaning. `origins`
    lists the browser origins that are allowed, by default only our own ("*": any). `last` and
    `lag` are those of `serve_channel`.
    """

    def __init__(
        self,
        create: Callable[[str], Channel] | None = None,
        *,
        authorize: Authorize = anybody,
        compose: Compose = as_it_is,
        select: Select | None = None,
        origins: Collection[str] | None = None,
        max_channels: int = 1000,
        idle_seconds: float = 300,
        last: int = 0,
        lag: Lag = "skip",
    ) -> None:
        check_last(last)
        self._authorize = authorize
        self.compose = compose
        self._select = select
        self.origins = origins
        self.last = last
        self.lag: Lag = lag
        self._create = create or self._make
        # A channel that was forgotten while empty gets the same epoch when it is made again, so
        # that cursors stay valid. Once one with entries is forgotten, a new generation of epochs
        # begins.
        self._generation = new_epoch()
        self._has_warned = False
        self._max_channels = max_channels
        self._idle_seconds = idle_seconds
        self._registered: dict[str, _Registered] = {}
        self._idle: dict[str, float] = {}  # idle since when; the longest idle first
        self._counts: Counts | None = None

    def __len__(self) -> int:
        return len(self._registered)

    def __iter__(self) -> Iterator[Channel]:
        return iter([found.channel for found in self._registered.values()])

    @property
    def is_connected(self) -> bool:
        """Whether what keeps the entries is there. Memory always is."""
        return True

    def count_into(self, counts: Counts) -> None:
        """From now on count what becomes of the entries of all channels, together."""
        self._counts = counts
        for channel in self:
            channel.fan_out.count_into(counts)

    async def allow(self, request: Request, name: str, action: Action) -> str | None:
        """Return the client's name if it may do this with the channel of this name. Raises
        `HTTPError`: what `authorize` raises, 404 for an invalid name, and 405 for publishing to a
        presence channel."""
        if action == "publish" and name.endswith(SUFFIX):
            raise HTTPError(405, "presence can only be read", [("Allow", "GET, HEAD")])
        name = name.removesuffix(SUFFIX)
        if not _NAME.fullmatch(name):
            raise HTTPError(404, "a channel's name is 1 to 64 of A-Z a-z 0-9 . _ ~ -")
        return await self._authorize(request, name, action)

    def wanted(self, only: object) -> Wanted | None:
        """The entries that a client wants that asks for only these; None or "": all of them.
        Raises `HTTPError` 400."""
        if not (self._select and only):
            return None
        try:
            if isinstance(only, str):
                return self._select(only)
            raise ValueError("only is a string")
        except ValueError as error:
            raise HTTPError(400, str(error)) from None

    def get(self, name: str) -> Channel:
        """The channel of this name. Call this for each `publish`, because idle channels are
        forgotten.

        Raises `ValueError` for an invalid name, `HTTPError` 503 if there are too many channels, and
        what `create` raises.
        """
        found = self._find(name.removesuffix(SUFFIX))
        found.is_kept = True
        return found.log_of(name)

    async def ready(self, name: str, cursor: str | None = None) -> None:
        """Wait until the channel of this name can be read from a cursor. Channels in memory always
        can; others raise `Unavailable` while what holds them is away."""

    async def publish(
        self,
        name: str,
        data: str | None = None,
        event: str | None = None,
        *,
        json: object = ...,
    ) -> str:
        """Publish to the channel of this name, wait until its readers keep pace, and return the ID
        of the entry. The arguments are those of `Channel.publish`; raises as that and as `get`."""
        channel = self.get(name)
        id = channel.publish(data, event, json=json)
        await channel.keep_pace()
        return id

    async def close(self, name: str) -> None:
        """End the channel of this name, as `Channel.close` does. Raises as `get`."""
        self.get(name).close()

    async def publish_texts(
        self, channel: Channel, texts: Iterable[str], event: str | None, published: Published
    ) -> None:
        """Publish texts to one of the channels. Raises as `Channel.publish` for the first that
        cannot be published; those before it are, as `published` tells."""
        for text in texts:
            published.last = channel.publish(text, event)
            published.count += 1
            await channel.keep_pace()
            if published.count % YIELD_EVERY_TEXTS == 0:
                await trio.lowlevel.checkpoint()

    def presence(self, name: str) -> Presence:
        """The presence of the channel of this name. Raises as `get`."""
        return self._find(name.removesuffix(SUFFIX)).presence

    def forget(self, name: str) -> None:
        """Forget the channel of this name. Clients that read it go on; for others it is made anew
        when they ask for it."""
        if self._registered.get(name):
            self._idle.pop(name, None)
            self._forget(name)

    @contextmanager
    def in_use(self, name: str) -> Iterator[Channel]:
        """A channel that is not idle while the block lasts. Raises as `get`."""
        asked_for, name = name, name.removesuffix(SUFFIX)
        found = self._find(name)
        found.users += 1
        self._idle.pop(name, None)
        try:
            yield found.log_of(asked_for)
        finally:
            found.users -= 1
            if not found.users and self._registered.get(name) is found:
                if found.is_kept or not found.holds_nothing:
                    self._idle[name] = trio.current_time()
                else:  # only clients have asked for it
                    self._forget(name)

    @contextmanager
    def read(self, name: str, member: str | None, *, listed: bool = True) -> Iterator[Channel]:
        """Like `in_use`, for a reader that is listed as present. Readers of presence are not."""
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
            if self._registered[longest].has_readers:
                self._idle[longest] = now  # read by the program itself, or by `serve_channel`
            else:
                self._forget(longest)
        found = self._registered.get(name)
        if found is None:
            check_name(name)
            is_full = len(self._registered) >= self._max_channels
            replaced = self._closed_and_idle() if is_full else None
            channel = self._create(name)
            if not isinstance(channel, Channel):
                raise TypeError(f"create must return a Channel, not {channel!r}")
            if replaced is not None:
                del self._idle[replaced]
                self._forget(replaced)
            channel.name = name
            self._warn_if_split(channel)
            found = self._registered[name] = _Registered(channel, self._make_presence(name))
            if self._counts is not None:
                channel.fan_out.count_into(self._counts)
        if not found.users:
            self._idle.pop(name, None)
            self._idle[name] = now
        return found

    def _closed_and_idle(self) -> str:
        """The closed channel that has been idle longest. Raises `HTTPError` 503 if there is
        none."""
        for name in self._idle:
            if self._registered[name].channel.is_closed:
                return name
        raise Unavailable("too many channels")

    def _make(self, name: str) -> Channel:
        return Channel(name, epoch=epoch_of(name, self._generation))

    def _warn_if_split(self, channel: Channel) -> None:
        if channel.feed is None and not self._has_warned and port_is_shared.get():
            self._has_warned = True
            logger.warning(
                "channel %r is in the memory of this process, and other processes share its port: "
                "their clients do not see what is published here; RedisChannels joins them",
                channel.name,
            )

    def _make_presence(self, name: str) -> Presence:
        return Presence(name, epoch_of(name + SUFFIX, self._generation))

    def _forget(self, name: str) -> None:
        if not self._registered.pop(name).holds_nothing:
            self._generation = new_epoch()


class _Registered:
    """A channel, its presence, and the number of its users."""

    def __init__(self, channel: Channel, presence: Presence) -> None:
        self.channel = channel
        self.presence = presence
        self.users = 0
        self.is_kept = False  # kept until it is idle, even if it is empty

    @property
    def has_readers(self) -> bool:
        """Whether the channel or its presence is being read."""
        return self.channel.fan_out.has_readers or self.presence.has_readers

    @property
    def holds_nothing(self) -> bool:
        """Whether nothing was ever published, and no presence was told."""
        return self.channel.is_empty and self.presence.is_untold

    def log_of(self, name: str) -> Channel:
        """The channel, or the log of its presence."""
        return self.presence.log if name.endswith(SUFFIX) else self.channel
