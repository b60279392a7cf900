"""The scripts that run inside Redis: what they are given, and what they return. Pure functions.

Redis runs a script as one step, so what a script reads is still true when it writes. All numbers
of entries come from there.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..entries.cursors import make_id
from ..entries.log import HISTORY_BYTES, HISTORY_ENTRIES

FOLDER = Path(__file__).parent

Arguments = list["str | int"]


def _script(name: str) -> str:
    return "".join((FOLDER / f"{file}.lua").read_text("utf-8") for file in ("stream", name))


PUBLISH, OPEN, MEMBERS, RENEW = map(_script, ("publish", "open", "members", "renew"))

PRESENCE_LIMITS = HISTORY_ENTRIES, HISTORY_BYTES
"""Entries and bytes that the stream of a presence holds."""

KEEP_EMPTY_SECONDS = 60
"""How long Redis keeps a stream without any entry that no process uses: a client may ask for any
number of names."""

BEGINNING = "-"
"""The place in a stream before its first entry."""


class Place(NamedTuple):
    """The ID of an entry in its stream: Redis writes both parts in decimal."""

    epoch: int
    number: int

    @classmethod
    def of(cls, id: bytes) -> Place:
        """A place, from an ID that Redis gave."""
        epoch, _, number = id.partition(b"-")
        return cls(int(epoch), int(number))

    @property
    def in_redis(self) -> str:
        """The ID in Redis."""
        return f"{self.epoch}-{self.number}"

    @property
    def id(self) -> str:
        """The ID that clients see."""
        return make_id(epoch_text(self.epoch), self.number)


class Stored(NamedTuple):
    """An entry of a stream."""

    place: Place
    data: str
    event: str | None
    nonce: str


class Opened(NamedTuple):
    """What `OPEN` returns."""

    last: Place
    entries: list[Stored]
    members: dict[str, int]
    """Of presence: the connections of each member, which is written as JSON; "" for all."""


class Known(NamedTuple):
    """What `RENEW` returns for a channel."""

    is_member: bool
    """Whether this process has connections there, as far as Redis knows."""
    last: Place | None
    last_of_presence: Place | None


class Refused(NamedTuple):
    """Why Redis has not appended an entry."""

    why: str
    is_read_only: bool
    """Whether it is a replica now, which refuses everything."""


class Lease(NamedTuple):
    """What tells the other processes that this one is alive."""

    prefix: str
    """Of the keys of all leases."""
    process: str
    seconds: float

    @property
    def key(self) -> str:
        """The key that exists as long as the lease."""
        return self.prefix + self.process


class Publication(NamedTuple):
    """An entry to be published."""

    key: str
    data: str
    event: str
    size: int
    """Bytes for which it counts."""
    entries: int
    most_bytes: int
    """What the stream holds at most."""


def new_epoch(after: int = 0) -> int:
    """An epoch that is later than all that were made before, on any machine: by the clock, in
    milliseconds, with 20 random bits."""
    return max(time.time_ns() // 1_000_000 << 20 | secrets.randbits(20), after + 1)


def epoch_text(epoch: int) -> str:
    """An epoch as it is in the IDs that clients see."""
    return f"{epoch:x}"


def epoch_in(id: str) -> int | None:
    """The epoch in an ID that a client sent; None if there is none."""
    with suppress(ValueError):
        return int(id.partition("-")[0], 16)
    return None


def new_nonce() -> str:
    """A text that no other entry has."""
    return secrets.token_hex(6)


def publish_arguments(
    batch: Sequence[Publication], keep_seconds: float
) -> tuple[list[str], Arguments]:
    """Keys and arguments of `PUBLISH`."""
    numbers: dict[str, int] = {}
    nonce = new_nonce()
    arguments: Arguments = [new_epoch(), _milliseconds(keep_seconds)]
    for n, entry in enumerate(batch):
        number = numbers.setdefault(entry.key, len(numbers) + 1)
        arguments += (number, entry.data, entry.event, entry.size, f"{nonce}:{n}")
        arguments += (entry.entries, entry.most_bytes)
    return list(numbers), arguments


def appended(reply: Iterable[bytes]) -> Iterable[Place | Refused | None]:
    """The reply of `PUBLISH`: None for an entry whose channel is closed."""
    for id in reply:
        if id.startswith(b"!"):
            why = id[1:].decode("utf-8", "replace")
            yield Refused(why, is_read_only=why.startswith("READONLY"))
        else:
            yield Place.of(id) if id else None


def open_arguments(lease: Lease, keep_seconds: float, place: Place | None, nonce: str) -> Arguments:
    """Arguments of `OPEN`, to read behind the entry at this place, whose nonce is this one, or
    from the beginning."""
    epoch = new_epoch(after=place.epoch if place else 0)
    after = place.in_redis if place else BEGINNING
    arguments: Arguments = [epoch, _milliseconds(keep_seconds), after, nonce, lease.prefix]
    return [*arguments, new_nonce(), *PRESENCE_LIMITS, _empty_milliseconds(lease, keep_seconds)]


def members_arguments(
    lease: Lease, keep_seconds: float, connections: Mapping[tuple[str, str], int]
) -> tuple[list[str], Arguments]:
    """Keys and arguments of `MEMBERS`. The connections of a member are found by the key of its
    channel and its name as JSON."""
    numbers: dict[str, int] = {}
    arguments: Arguments = [new_epoch(), _milliseconds(keep_seconds), lease.process]
    arguments += (_milliseconds(lease.seconds), new_nonce(), *PRESENCE_LIMITS)
    arguments.append(_empty_milliseconds(lease, keep_seconds))
    for (key, member), count in connections.items():
        arguments += (numbers.setdefault(key, len(numbers) + 2), member, count)
    return [lease.key, *numbers], arguments


def renew_arguments(
    lease: Lease, keep_seconds: float, keys: Sequence[str], *, ends: bool = False
) -> tuple[list[str], Arguments]:
    """Keys and arguments of `RENEW` for the channels with these keys."""
    milliseconds: int | str = "" if ends else _milliseconds(lease.seconds)
    arguments: Arguments = [new_epoch(), _milliseconds(keep_seconds), lease.process, milliseconds]
    arguments += (new_nonce(), *PRESENCE_LIMITS, lease.prefix)
    arguments.append(_empty_milliseconds(lease, keep_seconds))
    return [lease.key, *keys], arguments


def stored(id: bytes, fields: Mapping[bytes, bytes]) -> Stored:
    """An entry, from its ID and its fields."""
    data, event, nonce = (fields.get(n, b"").decode("utf-8", "replace") for n in (b"d", b"e", b"n"))
    return Stored(Place.of(id), data, event or None, nonce)


def opened(reply: Sequence[Any]) -> Opened:
    """The reply of `OPEN`."""
    last, entries, members = reply
    return Opened(
        Place.of(last),
        [stored(id, pairs(fields)) for id, fields in entries],
        {name.decode("utf-8", "replace"): int(count) for name, count in pairs(members).items()},
    )


def pairs(array: Sequence[bytes]) -> dict[bytes, bytes]:
    """A mapping, which Redis returns from a script as an array."""
    return dict(zip(array[::2], array[1::2], strict=True))


def known(reply: Sequence[Any]) -> Iterable[Known]:
    """The reply of `RENEW`."""
    for is_member, last, of_presence in zip(reply[::3], reply[1::3], reply[2::3], strict=True):
        yield Known(
            bool(is_member),
            Place.of(last) if last else None,
            Place.of(of_presence) if of_presence else None,
        )


def _empty_milliseconds(lease: Lease, keep_seconds: float) -> int:
    # Longer than the time between two renewals.
    return _milliseconds(min(keep_seconds, max(KEEP_EMPTY_SECONDS, lease.seconds)))


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
