"""The connections to Redis, with a deadline for every answer.

A read that waits for entries holds its connection, so it has one of its own. Everything else goes
over a second one, whose answers come in the order of the calls. No call is ever repeated: one whose
answer was lost may have been carried out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import trio
from coredis import ConnectionPool, Sentinel
from coredis.connection import BaseConnection, TCPLocation
from coredis.exceptions import ReadOnlyError, ResponseError, WrongTypeError
from coredis.retry import NoRetryPolicy

from .scripts import MEMBERS, OPEN, PUBLISH, RENEW, Arguments, Stored, pairs, stored

ANSWER_SECONDS = 5.0
"""The longest that Redis may take for an answer. A save to a slow disk takes most of a second."""

BLOCK_MILLISECONDS = 1000
"""How long a read waits for entries inside Redis."""

ENTRIES_AT_A_TIME = 500
"""Entries of each stream that one read returns."""


SENTINEL_PORT = 26379
"""Where a sentinel listens unless its address says otherwise."""


class RedisAway(Exception):
    """Redis cannot be reached, or has not answered in time."""


class RedisRefuses(Exception):
    """Redis is there, but refuses this call: a key holds something else, or memory is short."""


class Link:
    """A connection that reads streams, and one that runs scripts. When one of them ends, every
    later call fails."""

    _reader: BaseConnection
    _writer: BaseConnection

    def __init__(self, pools: Sequence[ConnectionPool[Any]]) -> None:
        self._pools = pools
        self._digests: dict[str, bytes] = {}

    async def connect(self) -> None:
        """Connect, and make the scripts known: before any other call. Raises `RedisAway`."""
        self._reader, self._writer = [
            await _answer(ANSWER_SECONDS, pool.get_connection) for pool in self._pools
        ]
        ask = self._writer.create_request
        for script in (PUBLISH, OPEN, MEMBERS, RENEW):
            self._digests[script] = await _answer(ANSWER_SECONDS, ask, b"SCRIPT LOAD", script)

    async def run(self, script: str, keys: Sequence[str], arguments: Arguments) -> Any:
        """Run one of our scripts, and return what it returns. Raises `RedisAway` and
        `RedisRefuses`. Cancelled, it may have been run all the same."""
        words = (b"EVALSHA", self._digests[script], len(keys), *keys, *arguments)
        return await _answer(ANSWER_SECONDS, self._writer.create_request, *words)

    async def read(self, places: Mapping[str, str]) -> dict[str, list[Stored]]:
        """Wait up to `BLOCK_MILLISECONDS` for entries of streams behind an ID in each, and return
        those of each key. Raises `RedisAway`, and `RedisRefuses` if one of the keys does not hold
        a stream."""
        seconds = BLOCK_MILLISECONDS / 1000 + ANSWER_SECONDS
        words = (b"XREAD", b"COUNT", ENTRIES_AT_A_TIME, b"BLOCK", BLOCK_MILLISECONDS, b"STREAMS")
        streams = (*places.keys(), *places.values())
        found = await _answer(seconds, self._reader.create_request, *words, *streams)
        return {
            str(key, "utf-8"): [stored(id, pairs(fields)) for id, fields, *_ in entries]
            for key, entries in (found or {}).items()
        }


@asynccontextmanager
async def open_link(url: str) -> AsyncIterator[Link]:
    """A link to the Redis at this URL, which is still to be connected."""
    options: dict[str, Any] = {"connect_timeout": ANSWER_SECONDS}
    watched = Watched.at(url)
    async with AsyncExitStack() as stack:
        make: Callable[[], ConnectionPool[Any]]
        if watched is None:
            options |= {"decode_components": True, "max_connections": 1}
            make = partial(ConnectionPool.from_url, url, **options)
        else:
            options |= {"retry_policy": NoRetryPolicy(), **watched.options}
            sentinel = await stack.enter_async_context(Sentinel(watched.sentinels, **options))
            make = partial(_pool_of_primary, sentinel, watched.service)
        yield Link([await stack.enter_async_context(make()) for _ in range(2)])


def _pool_of_primary(sentinel: Sentinel[bytes], service: str) -> ConnectionPool[Any]:
    pool: ConnectionPool[Any] = sentinel.primary_for(service, max_connections=1).connection_pool
    return pool


async def _answer(seconds: float, ask: Callable[..., Awaitable[Any]], *words: Any) -> Any:
    """The answer to a question, which may take this long. Raises `RedisAway`, `RedisRefuses`."""
    try:
        with trio.CancelScope(deadline=trio.current_time() + seconds):
            return await ask(*words)
    except ResponseError as error:
        text, of_script, _ = str(error).partition(" script: ")
        # A replica refuses everything: the primary is elsewhere now.
        is_of_call = of_script or isinstance(error, WrongTypeError)
        if is_of_call and not isinstance(error, ReadOnlyError):
            raise RedisRefuses(text) from None
        raise RedisAway(text) from None
    except Exception as error:
        # Apart from its own errors, coredis lets those of anyio and RuntimeErrors through, from
        # calls that were waiting while the connection ended.
        raise RedisAway(str(error) or type(error).__name__) from None
    raise RedisAway(f"no answer for {seconds} seconds")


# -- URLs -----------------------------------------------------------------------------------------


class Watched(NamedTuple):
    """A Redis that sentinels watch. They tell which of its servers is the primary."""

    sentinels: list[TCPLocation]
    service: str
    options: dict[str, Any]
    """Of the connections to the primary."""

    @classmethod
    def at(cls, url: str) -> Watched | None:
        """From a URL `redis+sentinel://HOST:PORT,HOST:PORT/SERVICE`; None if it is another. Raises
        `ValueError`."""
        split = urlsplit(url)
        if split.scheme != "redis+sentinel":
            return None
        login, _, hosts = split.netloc.rpartition("@")
        service = unquote(split.path.removeprefix("/"))
        if not service:
            raise ValueError("the path of redis+sentinel:// is the name of the service")
        options: dict[str, Any] = {"db": int(parse_qs(split.query).get("db", ["0"])[0])}
        user, _, password = map(unquote, login.partition(":"))
        options |= {k: v for k, v in (("username", user), ("password", password)) if v}
        return cls([_location(host) for host in hosts.split(",")], service, options)


def _location(host: str) -> TCPLocation:
    split = SplitResult("", host, "", "", "")
    if not split.hostname:
        raise ValueError(f"{host!r} is not the address of a sentinel")
    return TCPLocation(split.hostname, split.port or SENTINEL_PORT)


def checked_url(url: str) -> str:
    """The URL as it may be logged, without user and password. Raises `ValueError` for a URL that
    is not one of Redis."""
    split = urlsplit(url)
    if Watched.at(url) is None:
        if split.scheme not in ("redis", "rediss", "unix"):
            raise ValueError(
                "a URL of Redis begins with redis://, rediss://, redis+sentinel:// or unix://"
            )
        split.port  # noqa: B018 - raises if it is no number
    return f"{split.scheme}://{split.netloc.rpartition('@')[2]}{split.path}"
