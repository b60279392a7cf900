"""The demo's ways to push: chunks, events, a board to poll, a socket both ways."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import trio

from ..channels.channel import Channel
from ..errors import HTTPError
from ..http.origin import check_origin
from ..http.request import Request
from ..streams.events import open_events
from ..streams.longpoll import open_poll
from ..streams.stream import open_stream
from ..websocket.connection import WebSocket
from ..websocket.opening import open_websocket

TOKEN_SECONDS = 0.15
TICKS = 10
MAX_TICKS = 1_000_000


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


board = Channel()


async def poll(request: Request) -> None:
    """`GET /poll?after=CURSOR&wait=25`: what was posted behind the cursor, as soon as it is; with
    a gap if entries may be missing between, because they are gone or the cursor is none of ours."""
    async with open_poll(request, cursor=board.id_of(board.end)) as held:
        start, gap = board.resume(held.cursor)
        while start == board.end and not gap:
            await Channel.wait_for_entry(board)
        entries = [entry.data for entry in board.entries_after(max(start, board.start))]
        now = board.id_of(board.end)
        answer = {"entries": entries, "next": now, "gap": gap or start < board.start}
        body = json.dumps(answer) + "\n"
        await held.answer(body, cursor=now, content_type="application/json")


async def post(request: Request) -> None:
    """`POST /poll`: put a line on the board."""
    check_origin(request)
    board.publish((await request.body()).decode("utf-8", "replace"))
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
