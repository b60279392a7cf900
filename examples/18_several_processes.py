r"""Chapter 18: several processes behind nginx, with their channels in Redis.

One process uses one core, and its channels live in its memory. Start a second one, in a terminal of
its own or behind `&`, and publish in one of them:

    $ python examples/18_several_processes.py 8003
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8003
    $ python examples/18_several_processes.py 8004 &
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8004
    $ curl -s -d 'tea' http://127.0.0.1:8003/channels/news
    {"id": "5f3a9c01-1", "entries": 1}
    $ curl -s 'http://127.0.0.1:8003/channels/news?after=0&wait=5'
    {"entries": [{"id": "5f3a9c01-1", "data": "tea"}], "next": "5f3a9c01-1"}
    $ curl -s -w '%{http_code}\n' 'http://127.0.0.1:8004/channels/news?after=0&wait=1'
    204

The reader of the second process waits in vain, and nothing tells it so: each process has a channel
"news" of its own. This mistake is not seen with one process, as on the machine of a developer. Stop
both, and start them with a log that they share, a stream in Redis (`apt install redis-server`):

    $ kill $(curl -s http://127.0.0.1:8004/pid)
    $ redis-server --port 6380 --save '' > /dev/null &
    $ /usr/sbin/nginx -e stderr -p /tmp -c $PWD/examples/18_nginx.conf &
    $ python examples/18_several_processes.py redis://127.0.0.1:6380 8003
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8003
    2026-11-21 09:00:00,000 rawstream Redis at redis://127.0.0.1:6380 is connected
    $ python examples/18_several_processes.py redis://127.0.0.1:6380 8004 &
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8004
    2026-11-21 09:00:00,000 rawstream Redis at redis://127.0.0.1:6380 is connected
    $ curl -s -d 'tea' http://127.0.0.1:8003/channels/news
    {"id": "19abe5d2c7a0f3c1-1", "entries": 1}
    $ curl -s 'http://127.0.0.1:8004/channels/news?after=0&wait=5'
    {"entries": [{"id": "19abe5d2c7a0f3c1-1", "data": "tea"}], "next": "19abe5d2c7a0f3c1-1"}

An entry has the same id in all processes. So a reader may lose its process, and go on in another
one from its cursor. nginx (`apt install nginx`) makes one server of them: it gives each request on
port 8000 to a process that runs.

    $ curl -s 'http://127.0.0.1:8000/channels/news?after=0&wait=5'
    {"entries": [{"id": "19abe5d2c7a0f3c1-1", "data": "tea"}], "next": "19abe5d2c7a0f3c1-1"}

Start a third one on port 8005 in the same way, and open http://127.0.0.1:8000/ in a browser. Each
process counts, and publishes its numbers to the channel "count", twenty a second. Four readers
follow it in the page, each in its own way, and look for numbers that are missing or come twice.
Kill a process by its button, as `kill -9` does. Its readers are cut off, and come back by way of
another process. "lost", "repeated" and "gaps" stay at 0. Start the process again, and kill the next
one. (nginx tries a process that was away again after ten seconds.)

The page learns from the presence of "count" which process serves a reader. A process that is killed
cannot say that its readers have left. Redis forgets them after `lease_seconds`, here 2, and until
then a reader is listed with two processes. Polls are not members: each may go to another process.

What was published in the moment of the kill is in the log or is not; here the count of a process
ends with it. A client that publishes, and gets no answer, does not know which. Nor may nginx send a
POST a second time, and it does not.

The second part, 18_several_processes_readers.py, is the page as a program for a terminal. There you
also see the requests with which readers come back.

You can now run a service in several processes, and let one of them die without a reader noticing.

Two things to try: stop Redis and start it again. Where does the page show that it began anew? Then
take `hash $uri$arg_name` out of 18_nginx.conf, and see the polls wander.
"""

import itertools
import os
import secrets
import signal
import sys
from pathlib import Path

import trio

import rawstream
from rawstream import (
    FOLLOW_JS,
    Channels,
    RedisChannels,
    Request,
    Unavailable,
    serve_channels,
)

*URL, PORT = sys.argv[1:] or ["8000"]
PAUSE = 0.05  # seconds between two numbers
PAGE = Path(__file__).with_suffix(".html").read_text()


async def who(request: Request, channel: str, action: str) -> str | None:
    """A reader is present under its name and the port of the process that serves it."""
    name = request.query.get("name")
    return f"{name} {PORT}" if name else None


def shared(url: str) -> Channels:
    return RedisChannels(url, authorize=who, lease_seconds=2)


channels = shared(*URL) if URL else Channels(authorize=who)


async def count() -> None:
    """Publish 1, 2, 3 and so on. A number whose publication failed may be in the log or not, so
    another series begins then."""
    while True:
        series = f"{PORT}-{secrets.token_hex(4)}"
        try:
            for n in itertools.count(1):
                await channels.publish("count", f"{series} {n}")
                await trio.sleep(PAUSE)
        except Unavailable:  # Redis is away
            await trio.sleep(1)


async def work() -> None:
    """Runs beside the server."""
    async with trio.open_nursery() as nursery:
        if isinstance(channels, RedisChannels):
            await nursery.start(channels.run)
        nursery.start_soon(count)


async def app(request: Request) -> None:
    match request.method, request.path.split("/")[1:]:
        case "GET", [""]:
            await request.respond(200, PAGE, content_type="text/html; charset=utf-8")
        case "GET", ["follow.js"]:
            await request.respond(200, FOLLOW_JS, content_type="text/javascript")
        case "GET", ["pid"]:
            await request.respond(200, f"{os.getpid()}\n")
        case "POST", ["kill", _]:
            os.kill(os.getpid(), signal.SIGKILL)
        case _, ["channels", name]:
            await serve_channels(request, channels, name)
        case _:
            await request.respond(404)


if __name__ == "__main__":
    rawstream.run(app, port=int(PORT), alongside=work, access_log=False)
