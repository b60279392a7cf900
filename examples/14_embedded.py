r"""Chapter 14: inside a Trio program of your own, with TLS and on a unix socket.

`rawstream.serve` is one task among your others. It does not handle signals, and it ends when the
event `stop` is set and all exchanges have ended. Start it once for each address. Here one handler
is served to everybody over TLS. A second handler, which may stop the program, is served on a unix
socket. Only its owner may open it (`unix_mode`; the default lets every user of the machine).

Make a certificate to try it with trustme, a library for tests. Clients trust /tmp/client.pem:

    $ python -m trustme -q -d /tmp
    $ python examples/14_embedded.py /tmp
    listening on ['/tmp/admin.socket']
    listening on [('127.0.0.1', 8000)]

    $ curl -s --cacert /tmp/client.pem https://localhost:8000/
    the work was done 0 times
    $ curl -s --unix-socket /tmp/admin.socket -X POST http://admin/work
    $ curl -s --cacert /tmp/client.pem https://localhost:8000/
    the work was done 1 times

Without TLS there is no answer. A stop through the unix socket ends the whole program, streams
first:

    $ curl -s http://localhost:8000/; echo "exit status $?"
    exit status 52
    $ (curl -sN --cacert /tmp/client.pem https://localhost:8000/watch | grep data) & \
      sleep 0.5; curl -s --unix-socket /tmp/admin.socket -X POST http://admin/stop; wait
    data: 1

The program's terminal:

    stopping
    stopped

To see the bytes inside TLS, start the program again, and in a third terminal the proxy, which has a
certificate of its own, here the same one. (`--insecure` accepts any certificate of the server.) Ask
https://localhost:8001/:

    $ python examples/14_embedded.py /tmp
    listening on ['/tmp/admin.socket']
    listening on [('127.0.0.1', 8000)]
    $ python -m rawstream wire --to https://localhost:8000 --insecure \
      --certfile /tmp/server.pem --keyfile /tmp/server.key
    rawstream wire on https://127.0.0.1:8001, to https://localhost:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire
    $ curl -s --cacert /tmp/client.pem https://localhost:8001/
    the work was done 0 times

You can now put a server into a program that does other work, and decide who reaches what.

Two things to try: serve `admin` on a third address, a port of ::1. Then let a task raise an error
while a client watches, and see how the nursery ends the others.
"""

import signal
import ssl
import sys
from functools import partial

import trio

from rawstream import HTTPError, Request, open_events, serve

if len(sys.argv) < 2:
    sys.exit("usage: python examples/14_embedded.py FOLDER [PORT]")
FOLDER = sys.argv[1]
PORT = int(sys.argv[2]) if sys.argv[2:] else 8000


class Program:
    """A program with work to do, served to be watched and to be stopped."""

    def __init__(self) -> None:
        self.done = 0
        self.stop = trio.Event()

    async def world(self, request: Request) -> None:
        match request.method, request.path:
            case "GET", "/":
                await request.respond(200, f"the work was done {self.done} times\n")
            case "GET", "/watch":
                async with open_events(request) as events:
                    await events.send(str(self.done))
                    await trio.sleep_forever()  # until the client leaves, or the server stops
            case _:
                raise HTTPError(404)

    async def admin(self, request: Request) -> None:
        match request.method, request.path:
            case "POST", "/work":
                self.done += 1
                await request.respond(204)
            case "POST", "/stop":
                print("stopping")
                self.stop.set()
                await request.respond(204)
            case _:
                raise HTTPError(404)

    async def run(self) -> str | None:
        problem = None
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            tls.load_cert_chain(f"{FOLDER}/server.pem", f"{FOLDER}/server.key")
        except FileNotFoundError:
            return f"no certificate in {FOLDER}: make one with python -m trustme -q -d {FOLDER}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.watch_signals, nursery.cancel_scope)
            async with trio.open_nursery() as servers:
                path = f"{FOLDER}/admin.socket"
                admin = partial(serve, self.admin, unix=path, unix_mode=0o600, stop=self.stop)
                world = partial(serve, self.world, port=PORT, tls=tls, stop=self.stop)
                try:
                    print("listening on", await servers.start(admin))
                    print("listening on", await servers.start(world))
                except OSError as error:
                    self.stop.set()  # ends the other server
                    taken = error.filename or f"port {PORT}"
                    other = f"python {sys.argv[0]} OTHER_FOLDER {PORT + 1}"
                    problem = f"{taken}: {error.strerror}; stop the other chapter or run {other}"
            # Both have drained: end everything else.
            nursery.cancel_scope.cancel()
        return problem

    async def watch_signals(self, everything: trio.CancelScope) -> None:
        """Drain at the first Ctrl-C or SIGTERM, end at once at the second."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                if self.stop.is_set():
                    everything.cancel()
                self.stop.set()


problem = trio.run(Program().run)
if problem:
    sys.exit(problem)
print("stopped")
