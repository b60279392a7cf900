"""Chapter 10, fourth part: a reader that never loses its place, with httpx on Trio.

What `follow.js` does in a browser, takes a program thirty lines: remember the cursor, connect again
after a pause that grows, and ask for what follows the cursor. The lines of a channel are JSON
objects. Each has an id, which is the cursor; an empty line is a heartbeat.

Start the live logs of chapter 16 first. (What a channel is, is told there and in chapter 15.)

    $ python examples/16_live_logs_with_channels.py
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8000
    $ curl -s -X POST http://127.0.0.1:8000/logs/shop-1
    deploying shop-1
    $ python examples/10_never_losing_the_place.py http://127.0.0.1:8000/logs/shop-1 4
    fetching the source
    installing 41 packages
    running 120 tests
    it is live

Leave the 4 out, and it reads for ever. Stop the server while it runs, and start it again: the
reader comes back by itself. It is told of a gap, because these channels live in the memory of the
server.

To see each request with its cursor, start the proxy in a third terminal, and read through port
8001:

    $ python -m rawstream wire --to http://127.0.0.1:8000 --layer http,ndjson
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire

You can now follow a channel from a program, across restarts of the server and of the network.

Two things to try: save the cursor in a file, so that it outlives the program, too. Then read a log
that `python -m rawstream logs` serves: its cursors outlive the server.
"""

import json
import random
import sys
from collections.abc import Callable
from typing import Any

import httpx
import trio

if len(sys.argv) < 2:
    sys.exit("usage: 10_never_losing_the_place.py URL [COUNT]")
URL = sys.argv[1]
COUNT = int(sys.argv[2]) if sys.argv[2:] else 0
JSON_LINES = {"Accept": "application/x-ndjson"}
HEARTBEAT = 30  # seconds: longer than the pause between two heartbeats
LONGEST_PAUSE = 30


async def follow(url: str, take: Callable[[dict[str, Any]], None], cursor: str = "0") -> None:
    """Give each entry and each gap to `take`, until the channel ends. "0" is its oldest entry."""
    pause = 0.5
    async with httpx.AsyncClient(timeout=httpx.Timeout(10, read=HEARTBEAT)) as client:
        while True:
            try:
                asked = {"after": cursor}
                async with client.stream("GET", url, params=asked, headers=JSON_LINES) as response:
                    if response.is_server_error:  # passes; other errors do not
                        raise httpx.RemoteProtocolError(f"status {response.status_code}")
                    response.raise_for_status()
                    async for line in response.aiter_lines():
                        if not line:
                            continue
                        entry = json.loads(line)
                        if "data" in entry or "gap" in entry:
                            take(entry)
                        cursor, pause = entry["id"], 0.5
                        if entry.get("end"):
                            return
            except httpx.TransportError as error:
                if cursor == "0":
                    raise  # it was never there
                print(f"({error}; again in a moment)", file=sys.stderr)
            await trio.sleep(pause * random.uniform(0.5, 1.5))  # not all clients at once
            pause = min(2 * pause, LONGEST_PAUSE)


async def main() -> None:
    left = COUNT

    with trio.CancelScope() as enough:

        def show(entry: dict[str, Any]) -> None:
            nonlocal left
            print("(lines are missing)" if "gap" in entry else entry["data"], flush=True)
            left -= 1
            if left == 0:
                enough.cancel()

        await follow(URL, show)


try:
    trio.run(main)
except httpx.ConnectError:
    port = httpx.URL(URL).port
    sys.exit(f"no server on port {port}: first start python examples/16_live_logs_with_channels.py")
except KeyboardInterrupt:
    sys.exit(130)
