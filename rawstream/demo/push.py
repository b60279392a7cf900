"""The demo's ways to push: chunks, events, a board to poll, a socket both ways."""

from __future__ import annotations

import json
import secrets
import time
from collections import deque
from collections.abc import Iterator

import trio

from ..errors import HTTPError
from ..handshake import check_origin
from ..longpoll import open_poll
from ..request import Request
from ..sse import open_events
from ..stream import open_stream
from ..websocket import WebSocket, open_websocket

TOKEN_SECONDS = 0.15
TICKS = 10
MAX_TICKS = 1_000_000
BOARD_SIZE = 1000


def number(request: Request, name: str, default: float, most: float) -> float:
    """A query parameter from 0 to `most`. Raises `HTTPError` 400."""
    text = request.query.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= most:  # nor NaN
        raise HTTPError(400, f"{name} is a number from 0 to {most:g}")
    return value


# -- Chunked --------------------------------------------------------------------------------------


async def tokens_in_chunks(request: Request) -> None:
    """`GET /chunked`: what a language model sends, one JSON object a chunk."""
    async with open_stream(request, "application/json") as stream:
        for token in ("The", " sky", " is", " blue", "."):
            await stream.send(_token(token))
            await trio.sleep(TOKEN_SECONDS)


def _token(token: str) -> bytes:
    return json.dumps({"token": token}, separators=(",", ":")).encode()


# -- Events ---------------------------------------------------------------------------------------


async def ticks(request: Request) -> None:
    """`GET /ticks?count=10&seconds=1`: numbered ticks, then `[DONE]`.

    The number is the id, so a client that comes back goes on behind the last tick it saw,
    though the server was stopped in between and remembers nothing. `[DONE]` is no part of the
    protocol: it is what this stream and its readers have agreed on, for an EventSource would
    take a mere end for an accident, and come back.
    """
    count = int(number(request, "count", TICKS, MAX_TICKS))
    seconds = number(request, "seconds", 1, 60)
    last = request.last_event_id or ""
    start = int(last) if last.isascii() and last.isdigit() and len(last) < 10 else 0
    async with open_events(request, retry=1000) as events:
        for n in range(start + 1, count + 1):
            data = json.dumps({"n": n, "time": time.strftime("%H:%M:%S")})
            await events.send(data, event="tick", id=str(n))
            await trio.sleep(seconds)
        await events.send("[DONE]")


async def generate(request: Request) -> None:
    """`POST /generate` with a prompt: tokens come back as events or as lines of JSON, by Accept."""
    prompt = (await request.body()).decode("utf-8", "replace").strip()
    if not prompt:
        raise HTTPError(400, "POST a prompt")
    if "text/event-stream" in request.headers.get("accept", ""):
        async with open_events(request) as events:
            for token in _answer(prompt):
                await events.send(_token(token).decode())
                await trio.sleep(TOKEN_SECONDS)
            await events.send("[DONE]")
    else:
        async with open_stream(request, "application/x-ndjson") as stream:
            for token in _answer(prompt):
                await stream.send(_token(token) + b"\n")
                await trio.sleep(TOKEN_SECONDS)
            await stream.send(b'{"done":true}\n')


def _answer(prompt: str) -> Iterator[str]:
    """No model, but the pace of one."""
    yield "You said:"
    for word in prompt.split()[:200]:
        yield f" {word}"
    yield "."


# -- Long-polling ---------------------------------------------------------------------------------


class Board:
    """The last entries that were posted, each at a position that only grows. A cursor is the
    epoch, which tells one run of the server from the next, and a position."""

    def __init__(self) -> None:
        self._epoch = secrets.token_hex(4)
        self._entries: deque[str] = deque(maxlen=BOARD_SIZE)
        self._end = 0  # the position behind the last entry
        self._posted = trio.Event()

    @property
    def cursor(self) -> str:
        """Behind the last entry."""
        return f"{self._epoch}-{self._end}"

    def post(self, text: str) -> None:
        """Add an entry, and wake all who wait for one."""
        self._entries.append(text)
        self._end += 1
        self._posted.set()
        self._posted = trio.Event()

    async def after(self, cursor: str) -> tuple[list[str], bool]:
        """The entries behind `cursor`, waiting until there are any; and whether some may be
        missing between, because they are gone or the cursor is none of ours."""
        epoch, _, position = cursor.rpartition("-")
        known = epoch == self._epoch and position.isdecimal() and len(position) < 19
        start = int(position) if known else -1
        first = self._end - len(self._entries)
        if not first <= start <= self._end:
            return list(self._entries), True
        while start == self._end:
            await self._posted.wait()
        first = self._end - len(self._entries)
        return list(self._entries)[max(0, start - first) :], start < first


board = Board()


async def poll(request: Request) -> None:
    """`GET /poll?after=CURSOR&wait=25`: what was posted behind the cursor, as soon as it is."""
    async with open_poll(request, cursor=board.cursor) as held:
        entries, gap = await board.after(held.cursor)
        answer = {"entries": entries, "next": board.cursor, "gap": gap}
        body = json.dumps(answer) + "\n"
        await held.answer(body, cursor=board.cursor, content_type="application/json")


async def post(request: Request) -> None:
    """`POST /poll`: put a line on the board."""
    check_origin(request)
    board.post((await request.body()).decode("utf-8", "replace"))
    await request.respond(204)


# -- WebSocket ------------------------------------------------------------------------------------


async def echo_and_push(request: Request) -> None:
    """`GET /ws?seconds=1`: echoes what comes and counts the seconds, both on one socket."""
    seconds = max(0.01, number(request, "seconds", 1, 60))
    async with open_websocket(request) as ws, trio.open_nursery() as nursery:
        nursery.start_soon(_count, ws, seconds)
        async for message in ws:
            await ws.send(message)
        nursery.cancel_scope.cancel()


async def _count(ws: WebSocket, seconds: float) -> None:
    n = 0
    while True:
        await trio.sleep(seconds)
        n += 1
        await ws.send(json.dumps({"push": n}))
