r"""Chapter 12: progress, a ticker, notifications. What must a client that was away receive?

    $ python examples/12_progress_ticker_notifications.py
    listening on http://127.0.0.1:8000

Progress: the present state. A POST starts a job, which runs whether anybody watches it or not. A
client that connects late receives the state and its later changes (maybe only `data: 100` here).

    $ curl -si -X POST http://127.0.0.1:8000/jobs | grep -e HTTP -e Location
    HTTP/1.1 202 Accepted
    Location: /jobs/1
    $ curl -sN http://127.0.0.1:8000/jobs/1 | grep data
    data: 0
    data: 25
    data: 50
    data: 75
    data: 100

A ticker: the latest price, also after a break. While a send waits for a slow reader, prices are
skipped, not queued.

    $ curl -sN http://127.0.0.1:8000/ticker | grep -m 1 -o data:
    data:

Notifications: every one. Each has an id, and the last 100 are kept for clients that come back. (A
client that missed more should be told of the gap, as in chapter 6.)

    $ curl -s -d 'from Ada' http://127.0.0.1:8000/notify/mail
    $ curl -s -d 'disk full' http://127.0.0.1:8000/notify/alert
    $ curl -sN -m 0.5 -H 'Last-Event-ID: 1' http://127.0.0.1:8000/notifications
    event: alert
    id: 2
    data: disk full

Open http://127.0.0.1:8000/ in a browser: the page shows all three. To see its three streams on the
wire, start the proxy in a third terminal, and open http://127.0.0.1:8001/:

    $ python -m rawstream wire --to http://127.0.0.1:8000 --layer http,sse
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire

You can now decide what a client that was away receives: the state, the latest, or all of it.

Two things to try: watch one job from two terminals, the second one late. Then stop a reader of
/notifications, send two notifications, and let it come back with its last id.
"""

import random
import signal
import sys
from collections import deque
from functools import partial

import trio

from rawstream import HTTPError, Request, open_events, serve

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Three uses of events</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<style>output { white-space: pre-wrap } output:empty::before { content: "none yet" }</style>
<p><button>Start a job</button> <label>Progress: <output id="job"></output></label>
<p><label>Price: <output id="price"></output></label>
<p><label>Notifications:<br><output id="notes"></output></label>
<script>
document.querySelector("button").onclick = async () => {
  const response = await fetch("/jobs", {method: "POST"});
  const source = new EventSource(response.headers.get("Location"));
  source.onmessage = event => {
    job.textContent = `${event.data} %`;
    if (event.data === "100") source.close();
  };
};
new EventSource("/ticker").onmessage = event => price.textContent = event.data;
const notifications = new EventSource("/notifications");
for (const type of ["mail", "alert"])
  notifications.addEventListener(type, event => notes.append(`${type}: ${event.data}\\n`));
</script>"""


class Changing:
    """A value that changes, and the wait for its next change."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.changed = trio.Event()

    def set(self, value: int) -> None:
        self.value = value
        self.changed.set()
        self.changed = trio.Event()


jobs: dict[str, Changing] = {}  # by number
price = Changing(100)
count = Changing(0)  # of notifications, ever
kept = deque[tuple[int, str, str]](maxlen=100)


async def work(job: Changing) -> None:
    while job.value < 100:
        await trio.sleep(0.5)
        job.set(job.value + 25)


async def trade() -> None:
    while True:
        await trio.sleep(0.2)
        price.set(price.value + random.choice((-1, 1)))


async def send_latest(request: Request, source: Changing, last: int | None = None) -> None:
    """Send the value and its changes; while a send waits, all but the newest are skipped."""
    async with open_events(request) as events:
        while True:
            value, changed = source.value, source.changed
            await events.send(str(value))
            if value == last:
                return
            await changed.wait()


async def send_each(request: Request) -> None:
    try:
        position = min(int(request.last_event_id or ""), count.value)
    except ValueError:
        position = count.value  # no id, or none of ours: only what comes from now on
    async with open_events(request) as events:
        while True:
            changed = count.changed
            for number, kind, text in list(kept):  # a copy: `kept` may change while a send waits
                if number > position:
                    await events.send(text, event=kind, id=str(number))
                    position = number
            if position == count.value:
                await changed.wait()


async def app(nursery: trio.Nursery, request: Request) -> None:
    match request.method, request.path.split("/")[1:]:
        case "GET", [""]:
            await request.respond(200, PAGE, content_type="text/html; charset=utf-8")
        case "POST", ["jobs"] if len(jobs) < 1000:
            number, job = str(len(jobs) + 1), Changing(0)
            jobs[number] = job
            nursery.start_soon(work, job)  # its owner is the program, not this request
            await request.respond(202, headers=[("Location", f"/jobs/{number}")])
        case "GET", ["jobs", number] if number in jobs:
            await send_latest(request, jobs[number], last=100)
        case "GET", ["ticker"]:
            await send_latest(request, price)
        case "POST", ["notify", "mail" | "alert" as kind]:
            text = (await request.body(limit=1000)).decode("utf-8", "replace")
            kept.append((count.value + 1, kind, text))
            count.set(count.value + 1)
            await request.respond(204)
        case "GET", ["notifications"]:
            await send_each(request)
        case _:
            raise HTTPError(404)


async def main() -> str | None:
    async with trio.open_nursery() as nursery:
        try:
            # `start` is `start_soon`, and waits until the task says that it is ready: a server is
            # when it listens. Both pass on positional arguments only; `partial` adds the others.
            await nursery.start(partial(serve, partial(app, nursery), port=PORT))
        except OSError as error:
            other = f"python {sys.argv[0]} {PORT + 1}"
            return f"port {PORT}: {error.strerror}; stop the other chapter (Ctrl-C) or run {other}"
        print(f"listening on http://127.0.0.1:{PORT}")
        nursery.start_soon(trade)
    return None


signal.signal(signal.SIGINT, signal.SIG_DFL)  # chapter 13 stops a server in a better way
sys.exit(trio.run(main))
