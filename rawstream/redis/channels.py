"""Channels by name whose entries are in Redis: any number of processes and machines share them.

    publish -> Writer -> XADD -> [ stream in Redis ] -> XREAD -> Mirror -> readers
                                        |
                                        +--> XREAD in other processes

Readers are served from mirrors, in memory. While Redis is away they wait; nobody publishes then, so
they miss nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice

import trio

from ..channels.channel import Channel
from ..channels.readers import Lag
from ..entries.cursors import own_part
from ..entries.log import END, ChannelClosed
from ..errors import Unavailable
from ..named_channels.presence import SUFFIX, Presence
from ..named_channels.registry import (
    Authorize,
    Channels,
    Compose,
    Published,
    Select,
    anybody,
    as_it_is,
    check_name,
)
from .mirror import Mirror
from .presence import PresenceMirror, SharedPresence
from .scripts import Lease, Place, Publication, epoch_in
from .store import Store

KEEP_SECONDS = 24 * 60 * 60
"""How long Redis keeps a channel that no process uses."""

LEASE_SECONDS = 15
"""How long the members of a process that has died are listed as present."""

TEXTS_AT_A_TIME = 500
"""Texts of one client that are published together."""


class RedisChannels(Channels):
    """Named channels that any number of processes share, with their entries in Redis 7 or later.

    `url` is `redis://HOST:PORT/DATABASE`, `rediss://` over TLS, or `unix://PATH`. With
    `redis+sentinel://HOST:PORT,HOST:PORT/SERVICE?db=DATABASE`, sentinels at these addresses tell
    which server is the primary. A user and a password stand before the host, as `USER:PASSWORD@`,
    percent-encoded; sentinels are asked without.

    The keys begin with `prefix`. Redis forgets a channel `keep_seconds` after it was last published
    to or in use. The members of a process that dies are removed from presence within
    `lease_seconds`. All other options are those of `Channels`: what `create` makes tells the limits
    of a channel, and it may not hold entries. All processes have to agree on them.

    Nothing works before `run` does: `await nursery.start(channels.run)`, or
    `rawstream.run(app, alongside=channels.run)`.

    While Redis is away, readers stay connected, and heartbeats go on. Publishing raises
    `Unavailable` (503), and so does reading what this process has not read yet. When it is back,
    readers continue after their last entry. A Redis that has lost entries makes a gap, and so does
    a replica that has become the primary before it got them. A Redis that refuses to write, for
    example because memory is short, is read all the same.
    """

    def __init__(
        self,
        url: str,
        create: Callable[[str], Channel] | None = None,
        *,
        prefix: str = "rawstream:",
        keep_seconds: float = KEEP_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
        authorize: Authorize = anybody,
        compose: Compose = as_it_is,
        select: Select | None = None,
        origins: Collection[str] | None = None,
        max_channels: int = 1000,
        idle_seconds: float = 300,
        last: int = 0,
        lag: Lag = "skip",
    ) -> None:
        super().__init__(
            self._take_opened,
            authorize=authorize,
            compose=compose,
            select=select,
            origins=origins,
            max_channels=max_channels,
            idle_seconds=idle_seconds,
            last=last,
            lag=lag,
        )
        self._like = create or Channel
        self._prefix = prefix
        process = secrets.token_hex(8)
        lease = Lease(f"{prefix}@process:", process, lease_seconds)
        self._store = Store(url, f"{prefix}@wake:{process}", lease, keep_seconds)
        self._opened: Mirror | None = None  # which is about to be registered

    @property
    def is_connected(self) -> bool:
        """Whether Redis is there."""
        return self._store.is_connected

    # -- Reading --------------------------------------------------------------------------------

    async def ready(self, name: str, cursor: str | None = None) -> None:
        """Wait until this process has what the channel of this name holds, and what comes before
        the cursor: another process may have read further. Raises `Unavailable` if Redis is away,
        and what `create` raises."""
        mirror = self._store.mirrors.get(self._key(name))
        if mirror is not None and mirror.is_over:
            self.forget(name)
            mirror = None
        if mirror is None:
            await (self._open_presence if name.endswith(SUFFIX) else self._open)(name)
        elif cursor is not None and _is_ahead(own_part(cursor, name), mirror):
            mirror.reopen(await self._store.open(mirror.key, mirror))

    async def _open(self, name: str) -> None:
        check_name(name)
        like = self._like(name)
        key = self._key(name)
        opened = await self._store.open(key)
        if mirror := self._store.mirrors.get(key):  # it was opened for somebody else, maybe earlier
            mirror.reopen(opened)
            return
        self._opened = Mirror(name, key, like, opened)
        try:
            self._find(name)
        finally:
            self._opened = None

    def _take_opened(self, name: str) -> Channel:
        """The channel that is registered under a name."""
        mirror = self._opened
        if mirror is None or mirror.name != name:
            raise Unavailable(f"{name} was not read from Redis yet")
        self._store.follow(mirror)
        return mirror

    async def _open_presence(self, name: str) -> None:
        await self.ready(name.removesuffix(SUFFIX))
        key = self._key(name)
        opened = await self._store.open(key)
        presence = self._store.presences.get(key.removesuffix(SUFFIX))
        if presence is None:  # the channel was forgotten meanwhile
            await self.ready(name)
        elif mirror := self._store.mirrors.get(key):
            mirror.reopen(opened)
        else:
            self._store.follow(PresenceMirror(key, presence, opened))

    def _make_presence(self, name: str) -> Presence:
        key = self._key(name)
        presence = SharedPresence(name, partial(self._store.writer.tell_members, key))
        self._store.presences[key] = presence
        return presence

    def _forget(self, name: str) -> None:
        super()._forget(name)
        self._store.forget(self._key(name))

    def _key(self, name: str) -> str:
        return self._prefix + name

    # -- Publishing -----------------------------------------------------------------------------

    async def publish(
        self,
        name: str,
        data: str | None = None,
        event: str | None = None,
        *,
        json: object = ...,
    ) -> str:
        """Publish to the channel of this name, and return the ID of the entry. The arguments are
        those of `Channel.publish`; raises as that, and `Unavailable` if Redis is away. The text of
        that error says whether the entry may have been published all the same, which is also so
        when this is cancelled."""
        check_name(name)
        channel = self._store.mirrors.get(self._key(name)) or self._like(name)
        entry = self._publication(self._key(name), channel, channel.text_of(data, json), event)
        [place] = await self._publish([entry])
        return place.id

    async def publish_texts(
        self, channel: Channel, texts: Iterable[str], event: str | None, published: Published
    ) -> None:
        """Publish texts to one of the channels, as `Channels.publish_texts` does, many of them
        together."""
        left = iter(texts)
        while some := list(islice(left, TEXTS_AT_A_TIME)):
            entries, error = list[Publication](), None
            try:
                for text in some:
                    data = channel.text_of(text, ...)
                    entries.append(self._publication(self._key(channel.name), channel, data, event))
            except ValueError as raised:
                error = raised
            for place in await self._publish(entries):
                published.last = place.id
                published.count += 1
            if error is not None:
                raise error

    async def close(self, name: str) -> None:
        """End the channel of this name in all processes, as `Channel.close` does. Raises
        `Unavailable` if Redis is away."""
        check_name(name)
        like = self._like(name)
        end = Publication(self._key(name), "", END, 0, like.max_entries, like.max_bytes)
        with suppress(ChannelClosed):
            await self._publish([end])

    def _publication(
        self, key: str, channel: Channel, data: str | None, event: str | None
    ) -> Publication:
        data, size = channel.checked(data, event)
        return Publication(key, data, event or "", size, channel.max_entries, channel.max_bytes)

    async def _publish(self, entries: Sequence[Publication]) -> Sequence[Place]:
        if not self._store.is_connected:
            raise Unavailable("not published: Redis is away")
        places = await self._store.writer.publish(entries)
        found = [place for place in places if place is not None]
        if len(found) < len(places):
            raise ChannelClosed
        return found

    # -- Redis ----------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read and write the streams, until cancelled. `started` is called after the first attempt
        to reach Redis, which need not be there. Cancelled, it removes the members of this process
        from presence, which takes a second at most."""
        await self._store.run(task_status=task_status)


def _is_ahead(cursor: str | None, mirror: Mirror) -> bool:
    """Whether a cursor may be that of an entry which the mirror does not have yet."""
    if cursor is None:
        return False
    position = mirror.position_of(cursor)
    if position is not None:
        return position > mirror.end
    epoch = epoch_in(cursor)
    return epoch is not None and epoch > mirror.place.epoch
