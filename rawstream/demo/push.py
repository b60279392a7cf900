"""The ways to push in the demo: chunks, events, a message board to poll, and a WebSocket."""

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
from ..streams.longpoll import client_cursor, open_poll
from ..streams.stream import open_stream
from ..websocket.connection import WebSocket
from ..websocket.opening import open_websocket
from . import channels

TOKEN_SECONDS = 0.15
PULSE_SECONDS = 0.5
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
    """`GET /chunked`: tokens as a language model sends them, one JSON object per chunk."""
    async with open_stream(request, "application/json") as stream:
        for token in ("The", " sky", " is", " blue", "."):
            await stream.send(_token(token))
            await trio.sleep(TOKEN_SECONDS)


def _token(token: str) -> bytes:
    return json.dumps({"token": token}, separators=(",", ":")).encode()


# -- Events ---------------------------------------------------------------------------------------


async def ticks(request: Request) -> None:
    """`GET /ticks?count=10&seconds=1`: numbered ticks, then `[DONE]`.

    The number is the id, so a client that reconnects continues after the last tick it saw, even if
    the server was restarted in between. `[DONE]` is not part of the protocol: this stream and its
    clients have agreed on it, because an EventSource takes the end of a stream for an error, and
    reconnects.
    """
    count = int(number(request, "count", TICKS, MAX_TICKS))
    seconds = number(request, "seconds", 1, 60)
    last = request.last_event_id or ""
    start = int(last) if last.isascii() and last.isdigit() and len(last) < 10 else 0
    async with open_events(request, retry=1000) as events:
        for n in range(start + 1, count + 1):
            tick = {"n": n, "time": time.strftime("%H:%M:%S")}
            await events.send(json=tick, event="tick", id=str(n))
            await trio.sleep(seconds)
        await events.send("[DONE]")


async def pulse(request: Request) -> None:
    """`GET /pulse`: events that say over which version of HTTP they come. Pages of any origin may
    read them."""
    async with open_events(request, headers=[("Access-Control-Allow-Origin", "*")]) as events:
        while True:
            await events.send(f"HTTP/{request.http_version}")
            await trio.sleep(PULSE_SECONDS)


async def generate(request: Request) -> None:
    """`POST /generate` with a prompt: answer with tokens, as events or lines of JSON, by Accept."""
    prompt = (await request.body()).decode("utf-8", "replace").strip()
    if not prompt:
        raise HTTPError(400, "POST a prompt")
    if "text/event-stream" in request.headers.get("accept", ""):
        async with open_events(request) as events:
            for token in _answer(prompt):
                await events.send(json={"token": token})
                await trio.sleep(TOKEN_SECONDS)
            await events.send("[DONE]")
    else:
        async with open_stream(request, "application/x-ndjson") as stream:
            for token in _answer(prompt):
                await stream.send(_token(token) + b"\n")
                await trio.sleep(TOKEN_SECONDS)
            await stream.send(b'{"done":true}\n')


def _answer(prompt: str) -> Iterator[str]:
    """Words at the pace of a model."""
    yield "You said:"
    for word in prompt.split()[:200]:
        yield f" {word}"
    yield "."


# -- Long-polling ---------------------------------------------------------------------------------


BOARD = "board"
"""The channel that is read by polls here: one made by hand, and it has no other ways."""


async def poll(request: Request) -> None:
    """`GET /poll?after=CURSOR&wait=25`: answer with what was posted after the cursor, as soon as
    there is something. "gap" is true if entries may be missing in between, because they have been
    dropped or the cursor is unknown."""
    await channels.channels.ready(BOARD, client_cursor(request))
    with channels.channels.in_use(BOARD) as board:
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
    """`POST /poll`: post a line."""
    check_origin(request)
    await channels.channels.publish(BOARD, (await request.body()).decode("utf-8", "replace"))
    await request.respond(204)


# -- WebSocket ------------------------------------------------------------------------------------


async def echo_and_push(request: Request) -> None:
    """`GET /ws?seconds=1`: echo messages and count seconds, both on one connection."""
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
