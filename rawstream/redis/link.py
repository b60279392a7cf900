"""The connections to Redis, with a deadline for every answer.

A read that waits for entries holds its connection, so it has one of its own. Everything else goes
over a second one, whose answers come in the order of the calls. No call is ever repeated: one whose
answer was lost may have been carried out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import trio
from coredis import Redis
from coredis.exceptions import RedisError
from coredis.retry import NoRetryPolicy

from .scripts import MEMBERS, OPEN, PUBLISH, RENEW, Arguments, Stored, stored

ANSWER_SECONDS = 5
"""The longest that Redis may take for an answer. A save to a slow disk takes most of a second."""

BLOCK_MILLISECONDS = 1000
"""How long a read waits for entries inside Redis."""

ENTRIES_AT_A_TIME = 500
"""Entries of each stream that one read returns."""


class RedisAway(Exception):
    """Redis cannot be reached, or has not answered in time."""


class Link:
    """A connection that reads streams, and one that runs scripts."""

    def __init__(self, reader: Redis[bytes], writer: Redis[bytes]) -> None:
        self._reader = reader
        self._scripts = {
            script: writer.register_script(script) for script in (PUBLISH, OPEN, MEMBERS, RENEW)
        }

    async def run(self, script: str, keys: Sequence[str], arguments: Arguments) -> Any:
        """Run one of our scripts, and return what it returns. Raises `RedisAway`. Cancelled, it
        may have been run all the same."""
        with _answering(ANSWER_SECONDS):
            return await self._scripts[script].execute(keys, arguments)

    async def read(self, places: Mapping[str, str]) -> dict[str, list[Stored]]:
        """Wait up to `BLOCK_MILLISECONDS` for entries of streams behind an ID in each, and return
        those of each key. Raises `RedisAway`."""
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

    def client() -> Redis[bytes]:
        return Redis.from_url(
            url, max_connections=1, connect_timeout=ANSWER_SECONDS, retry_policy=NoRetryPolicy()
        )

    async with client() as reader, client() as writer:
        yield Link(reader, writer)


@contextmanager
def _answering(seconds: float) -> Iterator[None]:
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise RedisAway(f"no answer for {seconds} seconds") from None
    except (RedisError, OSError, TimeoutError) as error:
        raise RedisAway(str(error) or type(error).__name__) from None


def checked_url(url: str) -> str:
    """The URL as it may be logged, without user and password. Raises `ValueError` for a URL that
    is not one of Redis."""
    split = urlsplit(url)
    if split.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("a URL of Redis begins with redis://, rediss:// or unix://")
    split.port  # noqa: B018 - raises if it is no number
    return split._replace(netloc=split.netloc.rpartition("@")[2], query="").geturl()
