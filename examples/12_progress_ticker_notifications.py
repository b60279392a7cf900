r"""Chapter 12: three everyday uses of events: progress, a ticker, notifications.

They look alike on the wire, and differ in what a client that was away must be told.

    $ python examples/12_progress_ticker_notifications.py
    listening on http://127.0.0.1:8000

Progress. A POST starts the job, which goes on, watched or not. Its state is all that counts: who
comes late gets the present state and what follows (here, if you type slowly, `data: 100` alone).

    $ curl -si -X POST http://127.0.0.1:8000/jobs | grep -e HTTP -e Location
    HTTP/1.1 202 Accepted
    Location: /jobs/1
    $ curl -sN http://127.0.0.1:8000/jobs/1 | grep data
    data: 0
    data: 25
    data: 50
    data: 75
    data: 100

A ticker. Only the latest price is worth anything. While a send waits, because the kernel's buffers
for a slow reader are full, prices are skipped, not piled up; after a break it starts with the
present one.

    $ curl -sN http://127.0.0.1:8000/ticker | grep -m 1 -o data:
    data:

Notifications. Here each one counts: each has an id, and 100 are kept for those who come back. (Who
was away for more ought to be told of the gap, as in chapter 6.)

    $ curl -s -d 'from Ada' http://127.0.0.1:8000/notify/mail
    $ curl -s -d 'disk full' http://127.0.0.1:8000/notify/alert
    $ curl -sN -m 0.5 -H 'Last-Event-ID: 1' http://127.0.0.1:8000/notifications
    event: alert
    id: 2
    data: disk full

http://127.0.0.1:8000/ in a browser shows all three.
"""

import random
import signal
import sys
from collections import deque
from functools import partial

import trio

import rawstream
from rawstream import HTTPError, Request, open_events

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000
PAGE = """<!doctype html><meta charset="utf-8"><title>Events</title>
<p><button>Start a job</button> <b id="job"></b> <p>Price: <b id="price"></b> <pre></pre>
<script>
const show = (id, text) => document.getElementById(id).textContent = text;
document.querySelector("button").onclick = async () => {
  const response = await fetch("/jobs", {method: "POST"});
  const source = new EventSource(response.headers.get("Location"));
  source.onmessage = event => {
    show("job", `${event.data} %`);
    if (event.data === "100") source.close();
  };
};
new EventSource("/ticker").onmessage = event => show("price", event.data);
const notifications = new EventSource("/notifications");
for (const type of ["mail", "alert"])
  notifications.addEventListener(type, event =>
    document.querySelector("pre").append(`${type}: ${event.data}\\n`));
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


jobs: list[Changing] = []
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
    """The value, and each later one, as fast as this client reads and no faster: what was set
    while a send was waiting is skipped, all but the newest."""
    async with open_events(request) as events:
        while True:
            value, changed = source.value, source.changed
            await events.send(str(value))
            if value == last:
                return
            await changed.wait()


async def send_each(request: Request) -> None:
    last = request.last_event_id or ""
    position = int(last) if last in map(str, range(count.value + 1)) else count.value
    async with open_events(request) as events:
        while True:
            changed = count.changed
            for number, kind, text in [entry for entry in kept if entry[0] > position]:
                await events.send(text, event=kind, id=str(number))
                position = number
            if position == count.value:
                await changed.wait()


async def app(nursery: trio.Nursery, request: Request) -> None:
    match request.method, request.path.split("/")[1:]:
        case "GET", [""]:
            await request.respond(200, PAGE, content_type="text/html; charset=utf-8")
        case "POST", ["jobs"] if len(jobs) < 1000:
            jobs.append(Changing(0))
            nursery.start_soon(work, jobs[-1])  # its owner is the program, not this request
            await request.respond(202, headers=[("Location", f"/jobs/{len(jobs)}")])
        case "GET", ["jobs", number] if number in map(str, range(1, len(jobs) + 1)):
            await send_latest(request, jobs[int(number) - 1], last=100)
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


async def main() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trade)
        await nursery.start(partial(rawstream.serve, partial(app, nursery), port=PORT))
        print(f"listening on http://127.0.0.1:{PORT}")


signal.signal(signal.SIGINT, signal.SIG_DFL)  # chapter 13 stops a server in a better way
trio.run(main)
