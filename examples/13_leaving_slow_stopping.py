r"""Chapter 13: when the client leaves, when it is slow, when the server stops.

    $ python examples/13_leaving_slow_stopping.py
    listening on http://127.0.0.1:8000

Leaving. When curl leaves after 0.7 seconds, the handler only sleeps, and is still cancelled at
once. This is Trio's own cancellation, so its `finally` runs.

    $ curl -sN -m 0.7 http://127.0.0.1:8000/leave
    data: 1

    data: 2

The server's terminal:

    /leave: sent 2, cancelled

Slow. `send` returns when its bytes have been handed to the kernel. It waits while the kernel has no
room, because the client does not read. This is backpressure, and it bounds the memory. Here the
client stops reading, because nothing reads the pipe that curl writes to. The send waits, and after
`send_seconds` (default 30, here 1) the connection is closed:

    $ curl -sN http://127.0.0.1:8000/slow | sleep 2

The server's terminal:

    /slow: fewer than 50 of 1000 MiB were sent before a send blocked

Stopping. Three clients are connected when the server is told to stop. (`rawstream.run` stops on
SIGTERM and Ctrl-C. `serve`, used here, leaves signals to you; see chapter 14.) An event stream has
no end of its own: the server ends it at once, properly. A finite body may finish. A body that is
not finished after `drain_seconds` (default 10, here 1) is cut, and its client can tell (exit status
18, partial file). `$?` is the exit status of the command before, and `-o` writes to a file:

    $ (curl -sN -o /tmp/a http://127.0.0.1:8000/leave; echo "/leave: exit status $?") & \
      (curl -sN -o /tmp/b http://127.0.0.1:8000/half-a-second; echo "half: exit status $?") & \
      (curl -sN -o /tmp/c http://127.0.0.1:8000/a-minute; echo "a minute: exit status $?") & \
      sleep 0.3; curl -s -X POST http://127.0.0.1:8000/stop; wait
    /leave: exit status 0
    half: exit status 0
    a minute: exit status 18

The server's terminal:

    /leave: sent 1, cancelled
    stopped

Last, the event stream has told its client when to reconnect, at a different time for each client,
so that they do not all come at once:

    $ grep -c '^retry: ' /tmp/a
    1

To see who ends a connection, start the server again, the proxy in a third terminal, and ask port
8001. An arrow with "end" shows each direction that ends:

    $ python examples/13_leaving_slow_stopping.py
    listening on http://127.0.0.1:8000
    $ python -m rawstream wire --to http://127.0.0.1:8000 --layer tcp
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire
    $ curl -sN -m 0.7 -o /tmp/a http://127.0.0.1:8001/leave

The server's terminal:

    /leave: sent 2, cancelled

You can now rely on `finally` when a client leaves, and stop a server without torn answers.

Two things to try: let `leave` catch `trio.Cancelled`, do something else, and not raise it again;
read what Trio says. Then raise `drain_seconds` to 90, and see how long a stop takes now.
"""

import signal
import sys
from functools import partial

import trio

import rawstream
from rawstream import HTTPError, Limits, Request, open_events, open_stream

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000
MIB = bytes(1024 * 1024)


async def leave(request: Request) -> None:
    count = 0
    try:
        async with open_events(request) as events:
            while True:
                count += 1
                await events.send(str(count))
                await trio.sleep(0.5)
    finally:
        print(f"/leave: sent {count}, cancelled")


async def slow(request: Request) -> None:
    sent = 0
    try:
        async with open_stream(request, "application/octet-stream") as stream:
            while sent < 1000:
                await stream.send(MIB)
                sent += 1
    finally:
        few = "fewer than 50" if sent < 50 else "50 and more"
        print(f"/slow: {few} of 1000 MiB were sent before a send blocked")


async def finite(request: Request, seconds: float) -> None:
    async with open_stream(request, "text/plain") as stream:
        await stream.send(b"wait\n")
        await trio.sleep(seconds)
        await stream.send(b"done\n")


async def app(stop: trio.Event, request: Request) -> None:
    match request.method, request.path:
        case "GET", "/leave":
            await leave(request)
        case "GET", "/slow":
            await slow(request)
        case "GET", "/half-a-second":
            await finite(request, 0.5)
        case "GET", "/a-minute":
            await finite(request, 60)
        case "POST", "/stop":
            stop.set()
            await request.respond(204)
        case _:
            raise HTTPError(404)


async def main() -> str | None:
    stop = trio.Event()
    limits = Limits(send_seconds=1, drain_seconds=1)
    serving = partial(rawstream.serve, partial(app, stop), port=PORT, limits=limits, stop=stop)
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(serving)
        except OSError as error:
            other = f"python {sys.argv[0]} {PORT + 1}"
            return f"port {PORT}: {error.strerror}; stop the other chapter (Ctrl-C) or run {other}"
        print(f"listening on http://127.0.0.1:{PORT}")
    print("stopped")
    return None


signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a traceback
sys.exit(trio.run(main))  # with a text: one line on stderr, exit status 1
