"""What this process writes to Redis: entries, and the members that read here.

One call is under way at a time. What comes in the meantime waits, and goes together with the next
call: the more is published, the less each entry costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import islice

import trio

from ..errors import Unavailable
from ..http.json_text import json_text
from ..limits import MIB
from .link import Link, RedisAway, RedisRefuses
from .scripts import (
    MEMBERS,
    PUBLISH,
    Lease,
    Place,
    Publication,
    Refused,
    appended,
    members_arguments,
    publish_arguments,
)

MOST_WAITING = 10_000
MOST_WAITING_BYTES = 16 * MIB
"""Entries that wait for Redis, and their size; the next is refused with 503."""

ENTRIES_AT_A_TIME = 500
BYTES_AT_A_TIME = MIB
"""Entries in one call: Redis does nothing else while it runs."""


class _Waiting:
    """Entries that are published together, until all of them have an ID."""

    __slots__ = ("done", "is_lost", "left", "places", "why")

    def __init__(self, count: int) -> None:
        self.done = trio.Event()
        self.left = count
        self.places: list[Place | None] = []
        self.why = ""  # they do not all have one
        self.is_lost = False  # the answer

    def add(self, place: Place | Refused | None) -> None:
        self.left -= 1
        if isinstance(place, Refused):
            self.why = place.why
        else:
            self.places.append(place)
        if not self.left:
            self.done.set()

    def fail(self, why: str) -> None:
        """Those that have no ID yet are not published."""
        self.why = why
        self.done.set()

    def lose(self) -> None:
        """The answer to a call is lost."""
        self.is_lost = True
        self.fail("Redis was lost")

    def result(self) -> list[Place | None]:
        if not self.why:
            return self.places
        if self.is_lost or self.places:
            raise Unavailable(f"{self.why}; it may have been published")
        raise Unavailable(f"not published: {self.why}")


class Writer:
    """Writes to Redis, a batch at a time."""

    def __init__(self, lease: Lease, keep_seconds: float) -> None:
        self._lease = lease
        self._keep_seconds = keep_seconds
        self._entries: list[tuple[Publication, _Waiting | None]] = []
        self._bytes = 0
        self._members: dict[tuple[str, str], int] = {}  # that are to be told
        self._told = set[tuple[str, str]]()  # of whom Redis may know connections
        self._news = trio.Event()

    async def publish(self, entries: Sequence[Publication]) -> list[Place | None]:
        """Publish entries in their order, and return their places; None for one whose channel is
        closed. Raises `Unavailable`; they may have been published all the same, as also when this
        is cancelled."""
        size = sum(entry.size for entry in entries)
        count = len(self._entries)
        is_much = count + len(entries) > MOST_WAITING or self._bytes + size > MOST_WAITING_BYTES
        if is_much and count:  # a channel may be larger than what may wait
            raise Unavailable("not published: too much waits for Redis")
        waiting = _Waiting(len(entries))
        self._entries += [(entry, waiting) for entry in entries]
        self._bytes += size
        self._news.set()
        await waiting.done.wait()
        return waiting.result()

    def wake(self, key: str) -> None:
        """Append to a stream that holds nothing else, so that a read of it returns."""
        self._entries.append((Publication(key, "", "", 0, 1, 1), None))
        self._news.set()

    def tell_members(self, key: str, member: str | None, connections: int) -> None:
        """Tell how many connections a member of the channel with this key has in this process."""
        found = key, json_text(member)
        if connections or found in self._told:
            self._members[found] = connections
            self._news.set()
        else:
            self._members.pop(found, None)  # it came and went before it was told

    async def run(self, link: Link) -> None:
        """Write what there is to write, until Redis is lost: raises `RedisAway`."""
        while True:
            self._news = trio.Event()
            with suppress(RedisRefuses):  # they are told with what comes next
                await self.write_members(link)
            while self._entries:
                await self._write_entries(link)
            await self._news.wait()

    def try_again(self) -> None:
        """Tell the members that Redis has refused."""
        self._news.set()

    async def write_members(self, link: Link) -> None:
        """Tell the members that are to be told. Raises `RedisAway` and `RedisRefuses`; then they
        still are."""
        while batch := dict(islice(self._members.items(), ENTRIES_AT_A_TIME)):
            self._told.update(batch)
            for member in batch:
                del self._members[member]
            try:
                arguments = members_arguments(self._lease, self._keep_seconds, batch)
                await link.run(MEMBERS, *arguments)
            except BaseException:
                self._members = {**batch, **self._members}
                raise
            self._told -= {member for member, connections in batch.items() if not connections}

    def fail_all(self, why: str) -> None:
        """Redis is lost: publish nothing of what waits. Members are told when it is back."""
        entries, self._entries, self._bytes = self._entries, [], 0
        for _, waiting in entries:
            if waiting is not None and not waiting.done.is_set():
                waiting.fail(why)

    async def _write_entries(self, link: Link) -> None:
        count = size = 0
        for entry, _ in self._entries[:ENTRIES_AT_A_TIME]:
            size += entry.size
            if count and size > BYTES_AT_A_TIME:
                break
            count += 1
        batch = self._entries[:count]
        del self._entries[:count]
        self._bytes -= sum(entry.size for entry, _ in batch)
        keys, arguments = publish_arguments([entry for entry, _ in batch], self._keep_seconds)
        try:
            places = list(appended(await link.run(PUBLISH, keys, arguments)))
        except BaseException:
            for _, waiting in batch:
                if waiting is not None:
                    waiting.lose()
            raise
        for (_, waiting), place in zip(batch, places, strict=True):
            if waiting is not None:
                waiting.add(place)
        for place in places:
            if isinstance(place, Refused) and place.is_read_only:
                raise RedisAway(place.why)  # the primary is elsewhere now
