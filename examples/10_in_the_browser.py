r"""Chapter 10, third part: in the browser, by EventSource and by hand.

A page reads the same event stream twice. On the left is an EventSource. It does everything: it
parses the events, remembers the last event ID, and reconnects. On the right are `fetch`, a
ReadableStream and a parser. They can do what an EventSource cannot: POST, send fields, see the
status.

    $ python examples/10_in_the_browser.py
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8000

Open http://127.0.0.1:8000/ in a browser and press "pieces". The server writes its events in pieces
that end in the middle of a line. The right side shows each network read and each event:

        read: "data: Hel"
        read: "lo\n\ndata: wor"
        event: Hello
        read: "ld\n\n"
        event: world
        read: "data: [DONE]\n\n"
        event: [DONE]

A network read is not a message. Code that parses each read by itself works on the developer's
machine, where a read is often one event, and fails in production.

    $ curl -sN http://127.0.0.1:8000/pieces
    data: Hello

    data: world

    data: [DONE]

Press "ticks", stop the server half-way and start it again: the left side continues where it was.
The right side has ended, because its code does not reconnect.

To see the same pieces on the wire, start the proxy in a third terminal, open http://127.0.0.1:8001/
and press "pieces". A line that is cut says "goes on":

    $ python -m rawstream wire --to http://127.0.0.1:8000 --layer tcp,sse
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire

You can now choose between EventSource and fetch, and parse a stream that is cut anywhere.

Two things to try: let the right side parse each read by itself, and see what is lost. Then let it
reconnect after a second, with the last event ID as a field of its request.
"""

import sys

import trio

import rawstream
from rawstream import Event, HTTPError, Request, open_events, open_stream

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Two readers</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<style>
body { font: 1rem/1.5 system-ui } label { display: block }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1rem }
output { display: block; font: 1rem monospace; white-space: pre-wrap; overflow-wrap: anywhere }
output:empty::before { content: "Nothing yet: press a button." }
</style>
<h1>One stream, two readers</h1>
<button value="/pieces">pieces</button> <button value="/ticks">ticks</button>
<main>
<label>EventSource <output id="left"></output></label>
<label>fetch and a parser <output id="right"></output></label>
</main>
<script>
const show = (side, text) => document.getElementById(side).append(text + "\\n");

function byEventSource(url) {
  const source = new EventSource(url);
  source.onopen = () => show("left", "open");
  source.onmessage = event => {
    show("left", `event: ${event.data}`);
    if (event.data === "[DONE]") source.close();  // else it would reconnect and start again
  };
  source.onerror = () =>  // an answer that is no event stream, such as 404, ends it for good
    show("left", source.readyState === EventSource.CLOSED ? "ended" : "cut off; it will reconnect");
}

async function byHand(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`status ${response.status}`);  // an answer all the same
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";  // the start of a line that has not ended
  let data = [];
  for (;;) {
    const {value, done} = await reader.read();
    if (done) break;
    show("right", `read: ${JSON.stringify(value)}`);
    const lines = (rest + value).split(/\\r\\n|\\n|\\r(?!$)/);  // CR at the end: LF may follow
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
      if (line === "" && data.length) { show("right", `event: ${data.join("\\n")}`); data = []; }
    }
  }
}

for (const button of document.querySelectorAll("button"))
  button.onclick = () => {
    for (const side of document.querySelectorAll("output")) side.textContent = "";
    byEventSource(button.value);
    byHand(button.value).catch(error => show("right", `cut off: ${error.message}`));
  };
</script>"""


async def pieces(request: Request) -> None:
    """Send three events in pieces that end in the middle of a line."""
    async with open_stream(request, "text/event-stream") as stream:
        for piece in (b"data: Hel", b"lo\n\ndata: wor", b"ld\n\n", Event("[DONE]").encode()):
            await stream.send(piece)
            await trio.sleep(0.3)


async def ticks(request: Request) -> None:
    try:
        last = max(0, int(request.last_event_id or ""))
    except ValueError:
        last = 0  # no id, or none of ours
    async with open_events(request, retry=500) as events:
        for n in range(last + 1, 11):
            await events.send(f"tick {n}", id=str(n))
            await trio.sleep(0.5)
        await events.send("[DONE]")


async def app(request: Request) -> None:
    match request.method, request.path:
        case "GET", "/":
            await request.respond(200, PAGE, content_type="text/html; charset=utf-8")
        case "GET", "/pieces":
            await pieces(request)
        case "GET", "/ticks":
            await ticks(request)
        case _:
            raise HTTPError(404)


rawstream.run(app, port=PORT)
