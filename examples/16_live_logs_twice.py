r"""Chapter 16: live logs, twice. Over Server-Sent Events and over a WebSocket, side by side.

A service deploys programs, and each deployment writes a log. (The deployments are simulated: the
name of one tells when it began, and from that follow its lines. So the logs outlive the server.)

    $ python examples/16_live_logs_twice.py
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8000
    $ curl -s -X POST http://127.0.0.1:8000/deployments | cut -c 1-15
    {"name": "shop-

Over events, a deployment has a URL, and each line has its number as its id. A client that comes
back sends the last one it has seen, and misses nothing. Here is the log of an old deployment, which
is whole, from its line 6 on:

    $ curl -sN -H 'Last-Event-ID: 6' http://127.0.0.1:8000/deployments/shop-1700000000000/events
    retry: 500

    id: 7
    data: {"name": "shop-1700000000000", "n": 7, "level": "info", "text": "120 tests passed"}

    id: 8
    data: {"name": "shop-1700000000000", "n": 8, "level": "info", "text": "it is live"}

    event: done
    data: 8 lines

Over a WebSocket, one connection serves all deployments. The client says which it watches and from
which line on, which it leaves, and which levels it wants. Open http://127.0.0.1:8000/ in two tabs,
and deploy in one. All lines come in both tabs, on both sides. Choose "error" on the right: the
server sends this tab only errors, and those only to the WebSocket. (Lines that it has not sent do
not come later.)

Now stop the server while a deployment runs, and start it again. On the left, EventSource comes back
by itself. On the right the page (16_live_logs_twice.html) has code for that, which waits longer
after each failure; "Connect" connects at once. Neither side misses a line or shows one twice.

What did each cost to write? The lines of both ends, without blank lines and comments:

    $ awk '/-- by/ {way = $4} /-- both/ {way = ""} way && NF && !/^ *(#|\/\/)/ {lines[way]++} \
        END {print "events:", lines["events,"], "WebSocket:", lines["WebSocket,"]}' \
        examples/16_live_logs_twice.html examples/16_live_logs_twice.py
    events: 18 WebSocket: 68

The difference is in what EventSource does for the page: it reconnects, and resumes. The WebSocket
has what events have not: commands on the same connection, and one connection for all. With channels
neither side needs any of this: see the second part, 16_live_logs_with_channels.py.

The bytes of both are to be seen through the proxy, at http://127.0.0.1:8001/ (chapter 2):

    $ python -m rawstream wire --to http://127.0.0.1:8000 --layer tcp,sse,message
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire

You can now stream a log in two ways, and say what each of them takes.

Two things to try: let EventSource filter by level, too (its URL may have a query). Then stop the
server for a minute, and look at how long the right side waits.
"""

import json
import sys
import time
from pathlib import Path

import trio

import rawstream
from rawstream import HTTPError, Request, WebSocket, open_events, open_websocket

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000
SECONDS = 0.5  # from one line to the next
STEPS = (
    ("info", "fetching the source"),
    ("info", "installing 41 packages"),
    ("warning", "one of them is deprecated"),
    ("info", "running 120 tests"),
    ("error", "test_login failed"),
    ("info", "running it again"),
    ("info", "120 tests passed"),
    ("info", "it is live"),
)
PAGE = Path(__file__).with_suffix(".html").read_text()


def began(name: str) -> float:
    """When a deployment began, in seconds. Raises `HTTPError` 404 if there was none."""
    milliseconds = name.removeprefix("shop-")
    if not (milliseconds.isascii() and milliseconds.isdigit() and len(milliseconds) == 13):
        raise HTTPError(404)
    return int(milliseconds) / 1000


async def line_of(name: str, n: int) -> dict[str, object]:
    """Wait until a deployment has written its line `n`, and return it."""
    await trio.sleep(max(0, began(name) + n * SECONDS - time.time()))
    level, text = STEPS[n - 1]
    return {"name": name, "n": n, "level": level, "text": text}


# -- by events, the server
async def by_events(request: Request, name: str) -> None:
    began(name)  # 404 before the stream begins
    last = request.last_event_id or "0"
    seen = int(last) if last in map(str, range(len(STEPS))) else 0
    async with open_events(request, retry=500) as events:
        for n in range(seen + 1, len(STEPS) + 1):
            await events.send(json=await line_of(name, n), id=str(n))
        await events.send(f"{len(STEPS)} lines", event="done")


# -- by WebSocket, the server
LEVELS = ("info", "warning", "error")


class Watcher:
    def __init__(self, ws: WebSocket, nursery: trio.Nursery) -> None:
        self.ws = ws
        self.nursery = nursery
        self.level = "info"
        self.watched: dict[str, trio.CancelScope] = {}

    def carry_out(self, command: object) -> None:
        match command:
            case {"watch": str(name), "after": int(seen)} if name not in self.watched:
                began(name)
                self.watched[name] = trio.CancelScope()
                self.nursery.start_soon(self.push, name, max(seen, 0))
            case {"leave": str(name)} if name in self.watched:
                self.watched.pop(name).cancel()
            case {"level": str(level)} if level in LEVELS:
                self.level = level

    async def push(self, name: str, seen: int) -> None:
        with self.watched[name]:
            for n in range(seen + 1, len(STEPS) + 1):
                line = await line_of(name, n)
                if LEVELS.index(str(line["level"])) < LEVELS.index(self.level):
                    line = {"name": name, "n": n}  # only how far it is
                await self.ws.send(json.dumps(line))


async def by_websocket(request: Request) -> None:
    async with open_websocket(request) as ws, trio.open_nursery() as nursery:
        watcher = Watcher(ws, nursery)
        async for message in ws:
            try:
                watcher.carry_out(json.loads(message))
            except (ValueError, HTTPError):
                await ws.close(1008, "not a command")
        nursery.cancel_scope.cancel()


# -- both
async def app(request: Request) -> None:
    match request.method, request.path.split("/")[1:]:
        case "GET", [""]:
            await request.respond(200, PAGE, content_type="text/html; charset=utf-8")
        case "POST", ["deployments"]:
            await request.respond(201, json={"name": f"shop-{time.time_ns() // 1_000_000}"})
        case "GET", ["deployments", name, "events"]:
            await by_events(request, name)
        case "GET", ["logs"]:
            await by_websocket(request)
        case _:
            raise HTTPError(404)


if __name__ == "__main__":
    rawstream.run(app, port=PORT)
