r"""Chapter 16, second part: the same live logs with channels and follow.js.

A deployment is a channel. The program publishes lines, and the rest is `serve_channel` and
`follow.js`: who reads over what, who comes back, and from where. The page reads each log twice,
over events and over a WebSocket, only to show that both get the same lines.

    $ python examples/16_live_logs_with_channels.py
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8000
    $ curl -s -X POST http://127.0.0.1:8000/logs/shop-1
    deploying shop-1
    $ curl -sN -m 2.5 'http://127.0.0.1:8000/logs/shop-1?after=0'
    fetching the source
    installing 41 packages
    running 120 tests
    it is live

The same log as lines for programs. `jq` or a script takes them one by one:

    $ curl -sN -m 0.5 -H 'Accept: application/x-ndjson' 'http://127.0.0.1:8000/logs/shop-1?last=1'
    {"id": "5f3a9c01-3"}
    {"id": "5f3a9c01-4", "data": "it is live"}

Open http://127.0.0.1:8000/ in two tabs, and deploy in one. Both sides of both tabs show the same
lines. Stop the server and start it again: both sides come back by themselves. This time they are
told that entries are missing, because these channels live in the memory of the server.

    $ python -m rawstream wire --to http://127.0.0.1:8000 --layer tcp,sse,message
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire

You can now put live logs on a page, in few lines, and need not choose how they travel.

Two things to try: leave `ways` out, and see in the wire view what `follow` chooses. Then give
`serve_channels` an `authorize` function, so that not everybody reads each log (chapter 15).
"""

import sys

import trio

import rawstream
from rawstream import FOLLOW_JS, Channels, Request, serve_channels

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000
STEPS = ("fetching the source", "installing 41 packages", "running 120 tests", "it is live")
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Live logs</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<style>main { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; font: 1rem/1.5 system-ui }
pre { white-space: pre-wrap }</style>
<button id="deploy">Deploy</button>
<main><section><h2>Events</h2><pre id="events"></pre></section>
<section><h2>WebSocket</h2><pre id="websocket"></pre></section></main>
<script type="module">
import { follow } from "/follow.js";
async function show(way, name) {
  for await (const entry of follow(`/logs/${name}`, { ways: [way], after: "0" }))
    document.getElementById(way).append(`${entry.gap ? "(lines are missing)" : entry.data}\\n`);
}
const watch = name => { show("events", name); show("websocket", name); };
document.getElementById("deploy").onclick = () => {
  localStorage.log = `shop-${Date.now()}`;  // tells the other tabs
  fetch(`/logs/${localStorage.log}`, { method: "POST" });
  watch(localStorage.log);
};
window.onstorage = event => { if (event.key === "log") watch(event.newValue); };
</script>
"""

channels = Channels()
asked, to_do = trio.open_memory_channel[str](100)


async def deploy(name: str) -> None:
    for step in STEPS:
        channels.get(name).publish(step)
        await trio.sleep(0.5)


async def deploy_all() -> None:
    """Runs beside the server: a deployment goes on when the client that asked for it has left."""
    async with trio.open_nursery() as nursery:
        async for name in to_do:
            nursery.start_soon(deploy, name)


async def app(request: Request) -> None:
    match request.method, request.path.split("/")[1:]:
        case "GET", [""]:
            await request.respond(200, PAGE, content_type="text/html; charset=utf-8")
        case "GET", ["follow.js"]:
            await request.respond(200, FOLLOW_JS, content_type="text/javascript")
        case "POST", ["logs", name]:
            asked.send_nowait(name)
            await request.respond(202, f"deploying {name}\n")
        case "GET", ["logs", name]:
            await serve_channels(request, channels, name)
        case _:
            await request.respond(404)


if __name__ == "__main__":
    rawstream.run(app, port=PORT, alongside=deploy_all)
