"""Long-polling: a request that is answered when there is something to answer with.

The client asks, `GET /poll?after=CURSOR&wait=25`, and is answered with what came after its cursor
as soon as there is any, with the next cursor in `ETag`; or, when the wait is over, with 204 and
the cursor it had. It asks again with that cursor. Nothing is lost between two requests because
the server is told each time what the client has, and nothing depends on when it was told.

The cursor may come as `?after=`, in `If-None-Match` (whose answer to nothing new is 304) or in
`Last-Event-ID`. `Cache-Control: no-store` stands on every answer: a cache that stored one would
answer the next poll with it (and fetch() turns a 304 of its own asking into the old body).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf

import trio

from ..errors import HTTPError
from ..http.fields import Fields
from ..http.request import Request

DEFAULT_WAIT = 25
"""Seconds a poll is held when it does not say; half of the 60 after which proxies give up."""

# RFC 9110 section 8.8.3, without the quotes; obs-text is left out.
_CURSOR = re.compile(r"[\x21\x23-\x7e]+")


@asynccontextmanager
async def open_poll(request: Request, *, cursor: str, headers: Fields = ()) -> AsyncIterator[Poll]:
    """Hold a request: `async with open_poll(request, cursor=log.end) as poll:`.

    In the block, wait for what comes after `poll.cursor` and `answer` with it. The block is
    cancelled when the client's `?wait=` seconds, at most `Limits.poll_seconds`, are over, and
    the request then answered with "nothing new"; so it is when the server stops.

    `cursor`, visible ASCII without quotes, is where a client that brings none starts. Whatever
    cursor a client brings is passed on: answer one you do not know with what you have, never
    with an error, for a client in a loop cannot do anything about it. A `wait` that is no number
    of seconds raises `HTTPError` 400. `headers` are added to the answer, whichever it is.
    """
    seconds = _seconds(request)
    poll = Poll(request, cursor, headers)
    request.exchange.on_drain(poll.answer_nothing)
    with poll.waiting:
        # Set here, not before: a scope that is entered behind its deadline is cancelled at once,
        # and `?wait=0` asks for what there is without waiting.
        poll.waiting.deadline = trio.current_time() + seconds
        yield poll
    if not poll.answered:
        await poll.answer_nothing()


class Poll:
    """A request being held. Made by `open_poll`."""

    def __init__(self, request: Request, cursor: str, headers: Fields) -> None:
        sent = client_cursor(request)
        _etag(cursor)  # must be fit to be sent before there is anything to send
        self.cursor = sent if _CURSOR.fullmatch(sent) else cursor
        """Where this client is: its own cursor, or the one `open_poll` was given."""
        self.client_cursor = sent
        """The cursor as the client brought it, which may be anything; "" if it is new here."""
        self.answered = False
        self.waiting = trio.CancelScope()
        self._request = request
        self._headers = headers
        self._conditional = self.cursor == _if_none_match(request)

    async def answer(self, *body: bytes | str, cursor: str, content_type: str) -> None:
        """Answer with what is new, in one part or several; `cursor` is where the client goes on
        from. From here on the wait cannot cancel the block any more."""
        fields = self._fields(cursor)
        await trio.lowlevel.checkpoint_if_cancelled()
        self.waiting.deadline = inf
        self._request.exchange.on_drain(None)
        self.answered = True
        fields = [("Content-Type", content_type), *fields]
        parts = [part.encode() if isinstance(part, str) else part for part in body]
        await self._request.exchange.respond(200, fields, *parts, label="poll")

    async def answer_nothing(self) -> None:
        """Answer that there is nothing new: 204, or 304 to the client's own If-None-Match."""
        fields = self._fields(self.cursor)
        self._request.exchange.on_drain(None)
        self.answered = True
        status = 304 if self._conditional else 204
        await self._request.exchange.respond(status, fields, label="poll")

    def _fields(self, cursor: str) -> list[tuple[str, str]]:
        return [("ETag", _etag(cursor)), ("Cache-Control", "no-store"), *self._headers]


def client_cursor(request: Request) -> str:
    """The cursor that a poll brings, as it is; "" if it brings none."""
    return request.query.get("after") or _if_none_match(request) or request.last_event_id or ""


def _if_none_match(request: Request) -> str:
    return request.headers.get("if-none-match", "").removeprefix("W/").strip('"')


def _etag(cursor: str) -> str:
    if not _CURSOR.fullmatch(cursor):
        raise ValueError(f"a cursor is visible ASCII without quotes, not {cursor!r}")
    return f'"{cursor}"'


def _seconds(request: Request) -> float:
    """How long to hold the request."""
    longest = request.exchange.limits.poll_seconds
    wait = request.query.get("wait")
    try:
        seconds = DEFAULT_WAIT if wait is None else float(wait)
    except ValueError:
        seconds = -1
    if not seconds >= 0:  # nor NaN
        raise HTTPError(400, f"wait is a number of seconds from 0 to {longest:g}")
    return min(seconds, longest)
