"""Long-polling: a request that is held until there is an answer.

A client asks `GET /poll?after=CURSOR&wait=25`. As soon as something follows its cursor, it is
answered with that, and with the next cursor in `ETag`. When the wait is over, it is answered with
204 and its own cursor. It then asks again with the cursor of the answer. Nothing is lost between
two requests, because each request names what the client has.

The cursor comes as `?after=`, in `If-None-Match` (to which "nothing new" is 304), or in
`Last-Event-ID`. Every answer has `Cache-Control: no-store`: a cache that stored one would answer
the next poll with it, and fetch() would turn a 304 to its own condition into the old body.
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
"""Seconds a poll is held by default: less than half of the 60 after which proxies give up."""

# RFC 9110 section 8.8.3, without the quotes; obs-text is left out.
_CURSOR = re.compile(r"[\x21\x23-\x7e]+")


@asynccontextmanager
async def open_poll(request: Request, *, cursor: str, headers: Fields = ()) -> AsyncIterator[Poll]:
    """Hold a request: `async with open_poll(request, cursor=log.end) as poll:`.

    In the block, wait for what follows `poll.cursor`, and `answer` with it. After the client's
    `?wait=` seconds, at most `Limits.poll_seconds`, the block is cancelled and the request is
    answered with "nothing new". The same happens when the server stops.

    `cursor` is where a client without a cursor starts: visible ASCII without quotes. A client may
    send any cursor. Answer an unknown one with what you have and never with an error, because a
    client in a loop cannot act on it. `headers` are added to every answer. Raises `HTTPError` 400
    if `wait` is not a number of seconds.
    """
    seconds = _seconds(request)
    poll = Poll(request, cursor, headers)
    request.exchange.on_drain(poll.answer_nothing)
    with poll._waiting:
        # Set here, because a scope entered after its deadline is cancelled at once, and `?wait=0`
        # asks for what there is already.
        poll._waiting.deadline = trio.current_time() + seconds
        yield poll
    if not poll._answered:
        await poll.answer_nothing()


class Poll:
    """A request that is being held. Made by `open_poll`."""

    cursor: str
    """Where this client is: its own cursor, or the `cursor` of `open_poll`. It is sent with the
    answer that there is nothing new, so set it if you know better."""
    client_cursor: str
    """The cursor exactly as the client sent it; "" if it sent none."""

    def __init__(self, request: Request, cursor: str, headers: Fields) -> None:
        sent = client_cursor(request)
        _etag(cursor)  # raises now, not when there is something to send
        self.cursor = sent if _CURSOR.fullmatch(sent) else cursor
        self.client_cursor = sent
        self._answered = False
        self._waiting = trio.CancelScope()
        self._request = request
        self._headers = headers

    async def answer(self, *body: bytes | str, cursor: str, content_type: str) -> None:
        """Answer with what is new, in one part or several. The client's next poll starts at
        `cursor`. From here on the end of the wait no longer cancels the block."""
        fields = self._fields(cursor)
        await trio.lowlevel.checkpoint_if_cancelled()
        self._waiting.deadline = inf
        self._request.exchange.on_drain(None)
        self._answered = True
        fields = [("Content-Type", content_type), *fields]
        parts = [part.encode() if isinstance(part, str) else part for part in body]
        await self._request.exchange.respond(200, fields, *parts, label="poll")

    async def answer_nothing(self) -> None:
        """Answer that there is nothing new: 204, or 304 to the client's own If-None-Match."""
        fields = self._fields(self.cursor)
        self._request.exchange.on_drain(None)
        self._answered = True
        status = 304 if self.cursor == _if_none_match(self._request) else 204
        await self._request.exchange.respond(status, fields, label="poll")

    def _fields(self, cursor: str) -> list[tuple[str, str]]:
        return [("ETag", _etag(cursor)), ("Cache-Control", "no-store"), *self._headers]


def client_cursor(request: Request) -> str:
    """The cursor of a poll exactly as the client sent it; "" if it sent none."""
    return request.query.get("after") or _if_none_match(request) or request.last_event_id or ""


def _if_none_match(request: Request) -> str:
    return request.headers.get("if-none-match", "").removeprefix("W/").strip('"')


def _etag(cursor: str) -> str:
    if not isinstance(cursor, str) or not _CURSOR.fullmatch(cursor):
        raise ValueError(f"a cursor is visible ASCII without quotes, not {cursor!r}")
    return f'"{cursor}"'


def _seconds(request: Request) -> float:
    """How many seconds to hold the request. Raises `HTTPError` 400."""
    longest = request.exchange.limits.poll_seconds
    wait = request.query.get("wait")
    try:
        seconds = DEFAULT_WAIT if wait is None else float(wait)
    except ValueError:
        seconds = -1
    if not seconds >= 0:  # nor NaN
        raise HTTPError(400, f"wait is a number of seconds from 0 to {longest:g}")
    return min(seconds, longest)
