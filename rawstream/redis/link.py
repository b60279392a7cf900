"""The connections to Redis, with a deadline for every answer.

A read that waits for entries holds its connection, so it has one of its own. Everything else goes
over a second one, whose answers come in the order of the calls. No call is ever repeated: one whose
answer was lost may have been carried out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import trio
from coredis import Redis, Sentinel
from coredis.connection import TCPLocation
from coredis.exceptions import ReadOnlyError, ResponseError, WrongTypeError
from coredis.retry import NoRetryPolicy

from .scripts import MEMBERS, OPEN, PUBLISH, RENEW, Arguments, Stored, stored

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
    """A connection that reads streams, and one that runs scripts."""

    def __init__(self, reader: Redis[bytes], writer: Redis[bytes]) -> None:
        self._reader = reader
        self._scripts = {
            script: writer.register_script(script) for script in (PUBLISH, OPEN, MEMBERS, RENEW)
        }

    async def run(self, script: str, keys: Sequence[str], arguments: Arguments) -> Any:
        """Run one of our scripts, and return what it returns. Raises `RedisAway` and
        `RedisRefuses`. Cancelled, it may have been run all the same."""
        with _answering(ANSWER_SECONDS):
            return await self._scripts[script].execute(keys, arguments)

    async def read(self, places: Mapping[str, str]) -> dict[str, list[Stored]]:
        """Wait up to `BLOCK_MILLISECONDS` for entries of streams behind an ID in each, and return
        those of each key. Raises `RedisAway`, and `RedisRefuses` if one of the keys does not hold
        a stream."""
        with _answering(BLOCK_MILLISECONDS / 1000 + ANSWER_SECONDS):
            found: Any = await self._reader.xread(
                dict(places), count=ENTRIES_AT_A_TIME, block=BLOCK_MILLISECONDS
            )
        return {
            str(key, "utf-8"): [stored(entry.identifier, entry.field_values) for entry in entries]
            for key, entries in (found or {}).items()
        }


@asynccontextmanager
async def open_link(url: str) -> AsyncIterator[Link]:
    """Two connections to the Redis at this URL. They are made by the first calls."""
    options: dict[str, Any] = {"connect_timeout": ANSWER_SECONDS, "retry_policy": NoRetryPolicy()}
    watched = Watched.at(url)
    if watched is None:
        client = partial(Redis.from_url, url, decode_components=True, max_connections=1, **options)
        async with client() as reader, client() as writer:
            yield Link(reader, writer)
    else:
        async with Sentinel(watched.sentinels, **options, **watched.options) as sentinel:
            primary: Callable[[], Redis[bytes]] = partial(
                sentinel.primary_for, watched.service, max_connections=1
            )
            async with primary() as reader, primary() as writer:
                yield Link(reader, writer)


@contextmanager
def _answering(seconds: float) -> Iterator[None]:
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise RedisAway(f"no answer for {seconds} seconds") from None
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
