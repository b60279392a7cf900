"""Redis as one process sees it: the mirrors are kept in step with their streams, and Redis is
reached again after it was away."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import trio

from ..errors import Unavailable
from ..named_channels.presence import SUFFIX
from ..stderr import logger
from .link import Link, RedisAway, RedisRefuses, checked_url, open_link
from .mirror import Mirror
from .presence import SharedPresence
from .scripts import (
    OPEN,
    RENEW,
    Known,
    Lease,
    Opened,
    known,
    open_arguments,
    opened,
    renew_arguments,
)
from .writer import Writer

RENEWALS = 3
"""How often a lease is renewed in its time."""

RECONNECT_SECONDS = (0.05, 2.0)
"""Between two attempts to reach Redis: a random time, whose upper bound doubles from the first to
the second."""

LEAVE_SECONDS = 1
"""The longest that telling Redis of the end of this process may take."""

CHANNELS_AT_A_TIME = 100
"""In one call of a script: other processes wait for it."""


class Store:
    """What this process has from Redis, and what it tells it. Keys are those of channels, or of
    their presence."""

    writer: Writer

    def __init__(self, url: str, wake_key: str, lease: Lease, keep_seconds: float) -> None:
        """Raises `ValueError` for a URL that is not one of Redis."""
        self._shown_url = checked_url(url)
        self._url = url
        self._wake_key = wake_key
        self._lease = lease
        self._keep_seconds = keep_seconds
        self.writer = Writer(lease, keep_seconds)
        self.mirrors: dict[str, Mirror] = {}
        self.presences: dict[str, SharedPresence] = {}
        self._link: Link | None = None  # while Redis is there
        self._why: str | None = None  # it was lost
        self._is_away_noted = False
        self._refusal = ""  # the last one that was logged

    @property
    def is_connected(self) -> bool:
        """Whether Redis is there."""
        return self._link is not None

    def follow(self, mirror: Mirror) -> None:
        """Keep this mirror in step with its stream."""
        self.mirrors[mirror.key] = mirror
        mirror.feed = self
        self.writer.wake(self._wake_key)

    def forget(self, key: str) -> None:
        """Follow neither the channel with this key nor its presence any longer."""
        self.presences.pop(key, None)
        self.mirrors.pop(key, None)
        self.mirrors.pop(key + SUFFIX, None)

    async def open(self, key: str, mirror: Mirror | None = None) -> Opened:
        """Open a stream, and read it from the place of its mirror or the beginning. Raises
        `Unavailable`."""
        if self._link is None:
            raise Unavailable("Redis is away")
        try:
            return await self._open(self._link, key, mirror)
        except RedisAway:
            raise Unavailable("Redis is away") from None
        except RedisRefuses as error:
            self._note_refusal(key, error)
            raise Unavailable("Redis refuses to read this") from None

    async def _open(self, link: Link, key: str, mirror: Mirror | None) -> Opened:
        place, nonce = (mirror.place, mirror.nonce) if mirror else (None, "")
        arguments = open_arguments(self._lease, self._keep_seconds, place, nonce)
        reply = await link.run(OPEN, [key, key.removesuffix(SUFFIX)], arguments)
        try:
            return opened(reply)
        except ValueError:
            raise RedisRefuses("there are members which no script of ours has written") from None

    async def _reopen(self, link: Link, mirror: Mirror) -> None:
        """Open the stream of a mirror again. If Redis refuses that, it is tried with each renewal,
        and the readers wait."""
        try:
            mirror.reopen(await self._open(link, mirror.key, mirror))
        except RedisRefuses as error:
            mirror.needs_opening = True
            self._note_refusal(mirror.key, error)

    def _note_refusal(self, key: str, error: RedisRefuses) -> None:
        if str(error) != self._refusal:  # clients may ask for it any number of times
            self._refusal = str(error)
            logger.warning("Redis at %s refuses %s: %s", self._shown_url, key, error)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read and write the streams, until cancelled. `started` is called after the first attempt
        to reach Redis, which need not be there. Cancelled, it removes the members of this process
        from presence, which takes at most `LEAVE_SECONDS`."""
        report: Callable[[], None] = task_status.started

        def attempted() -> None:
            nonlocal report
            report()
            report = _nothing

        least, most = RECONNECT_SECONDS
        delay = least
        try:
            while True:
                self._why = None
                async with open_link(self._url) as link:
                    await self._until_lost(self._begin, link)
                    attempted()
                    if self._why is None:
                        delay = least
                        await self._use(link)
                self._note_lost()
                await trio.sleep(random.uniform(0, delay))
                delay = min(2 * delay, most)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LEAVE_SECONDS):
                await self._leave()

    async def _until_lost(self, work: Callable[[Link], Awaitable[None]], link: Link) -> None:
        """Do something until it is done or Redis is lost; then `_why` says why."""
        try:
            await work(link)
        except RedisAway as error:
            self._why = self._why or str(error)

    async def _begin(self, link: Link) -> None:
        """Connect, bring the mirrors up to date, and tell who is here."""
        await link.connect()
        for mirror in list(self.mirrors.values()):
            await self._reopen(link, mirror)
        for presence in self.presences.values():
            presence.tell_all()
        await self._renew_all(link)  # also the first call, if there is no channel
        self._link, self._is_away_noted, self._refusal = link, False, ""
        logger.info("Redis at %s is connected", self._shown_url)

    async def _use(self, link: Link) -> None:
        """Read and write until Redis is lost."""
        async with trio.open_nursery() as nursery:

            async def work(function: Callable[[Link], Awaitable[None]]) -> None:
                await self._until_lost(function, link)
                nursery.cancel_scope.cancel()

            for function in (self._read, self._renew, self.writer.run):
                nursery.start_soon(work, function)

    def _note_lost(self) -> None:
        why = self._why or "the connection ended"
        if self._link is not None or not self._is_away_noted:
            logger.warning(
                "Redis at %s is away: %s; readers wait, publishing is refused", self._shown_url, why
            )
        self._is_away_noted = True
        self._link = None
        self.writer.fail_all(why)

    async def _read(self, link: Link) -> None:
        """Follow the streams of all mirrors. A new mirror wakes this by another stream."""
        woken = "0-0"
        while True:
            places = {
                key: mirror.place.in_redis
                for key, mirror in self.mirrors.items()
                if not (mirror.needs_opening or mirror.is_closed)
            }
            try:
                found = await link.read({self._wake_key: woken, **places})
            except RedisRefuses as error:
                await self._find_refused(link, error)
                continue
            for key, entries in found.items():
                mirror = self.mirrors.get(key)
                if key == self._wake_key:
                    woken = entries[-1].place.in_redis
                elif mirror is not None:
                    mirror.take(entries)
                    if mirror.needs_opening:
                        await self._reopen(link, mirror)

    async def _find_refused(self, link: Link, error: RedisRefuses) -> None:
        """Find the mirrors whose keys hold no stream any longer: the others are to be read."""
        for mirror in list(self.mirrors.values()):
            await self._reopen(link, mirror)
        if not any(mirror.needs_opening for mirror in self.mirrors.values()):
            raise RedisAway(str(error))

    async def _renew(self, link: Link) -> None:
        """Renew the lease now and then, and compare the mirrors with their streams."""
        while True:
            await trio.sleep(self._lease.seconds / RENEWALS)
            await self._renew_all(link)
            self.writer.try_again()

    async def _renew_all(self, link: Link) -> None:
        keys = list(self.presences)
        for start in range(0, max(1, len(keys)), CHANNELS_AT_A_TIME):
            some = keys[start : start + CHANNELS_AT_A_TIME]
            try:
                reply = await self._run_renew(link, some)
            except RedisRefuses as error:
                self._note_refusal(self._lease.key, error)
                continue
            for key, found in zip(some, known(reply), strict=True):
                await self._compare(link, key, found)

    async def _compare(self, link: Link, key: str, found: Known) -> None:
        """Tell a channel in Redis what it does not know, and read again what differs."""
        if not found.is_member and key in self.presences:
            self.presences[key].tell_all()
        for stream, last in ((key, found.last), (key + SUFFIX, found.last_of_presence)):
            mirror = self.mirrors.get(stream)
            if mirror is not None and (
                last is None or mirror.needs_opening or mirror.disagrees_with(last)
            ):
                await self._reopen(link, mirror)

    async def _leave(self) -> None:
        """End the lease, and remove the members of this process, over a new connection: that of
        `run` was cancelled with it."""
        keys = list(self.presences)
        async with open_link(self._url) as link:
            with suppress(RedisAway, RedisRefuses):  # inside, where it is in no group
                await link.connect()
                await self.writer.write_members(link)
                for start in range(0, len(keys), CHANNELS_AT_A_TIME):
                    some = keys[start : start + CHANNELS_AT_A_TIME]
                    await self._run_renew(link, some, ends=True)

    async def _run_renew(self, link: Link, keys: Sequence[str], *, ends: bool = False) -> Any:
        renewal = renew_arguments(self._lease, self._keep_seconds, keys, ends=ends)
        return await link.run(RENEW, *renewal)


def _nothing() -> None:
    """The first attempt was reported."""
