r"""Chapter 17, second part: the same handlers over HTTP/2, and what the six connections were.

This handler does not know which HTTP carries it: pieces become chunks in one, DATA frames in the
other. `request.http_version` tells, for those who ask. Make a certificate as in chapter 14:

    $ python -m trustme -q -d /tmp
    $ python examples/17_http2_for_the_same_handlers.py /tmp
    2026-11-21 09:00:00,000 rawstream serving on https://127.0.0.1:8000
    $ curl -s --cacert /tmp/client.pem https://localhost:8000/
    hello over HTTP/2
    $ curl -s --cacert /tmp/client.pem --http1.1 https://localhost:8000/
    hello over HTTP/1.1
    $ curl -sN --cacert /tmp/client.pem https://localhost:8000/events
    data: tick 1

    data: tick 2

The first message of TLS names the protocols that the client knows, and the server chooses one of
them (ALPN, RFC 7301). Browsers speak HTTP/2 only like this. Without TLS a client has to know that
the server can: `curl --http2-prior-knowledge`.

Twelve event streams at the same time: curl counts the connections that it opened. Over HTTP/1.1
each stream has one of its own:

    $ curl -Z --no-progress-meter --parallel-immediate --http1.1 --cacert /tmp/client.pem \
      -o /dev/null -w '%{num_connects}\n' 'https://localhost:8000/events?[1-12]' \
      | awk '{ opened += $1 } END { print opened, "opened for", NR, "streams" }'
    12 opened for 12 streams
    $ curl -Z --no-progress-meter --cacert /tmp/client.pem \
      -o /dev/null -w '%{num_connects}\n' 'https://localhost:8000/events?[1-12]' \
      | awk '{ opened += $1 } END { print opened, "opened for", NR, "streams" }'
    1 opened for 12 streams

curl opens as many connections as it likes. A browser opens at most six to one server, so that pages
with many pictures do not flood it. Event streams never end, so six of them leave no connection for
anything else: in two tabs of a page with three streams, a third tab does not even load. Over HTTP/2
a server allows a hundred streams on a connection or so, and all tabs share it.

A WebSocket over HTTP/2 is a stream, too. The request is CONNECT, the answer 200, and the frames of
chapter 7 travel in DATA frames (RFC 8441). `open_websocket` is the same.

To see it in a browser, start the demo with a certificate for this machine, and open its page over
https, then start it without and open it over http. Its fifty event streams are all open in one case
and six in the other:

        python -m rawstream --dev-cert
        python -m rawstream

To see the frames, start it without a certificate, the proxy in a third terminal, and ask port 8001:

    $ python examples/17_http2_for_the_same_handlers.py
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8000
    $ python -m rawstream wire --to http://127.0.0.1:8000 --layer http2,sse
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire
    $ curl -sN --http2-prior-knowledge http://127.0.0.1:8001/events
    data: tick 1

    data: tick 2

You can now serve what you have written over HTTP/2, without a line changed.

Two things to try: give `/events` a `Last-Event-ID` as in chapter 5, and see with `curl -v` that
nothing about it is new. Then ask the server without a certificate with `--http2`: curl asks by an
upgrade that RFC 9113 has given up, and the server goes on in HTTP/1.1.
"""

import sys

import trio

import rawstream
from rawstream import Request, open_events

arguments = sys.argv[1:]
PORT = int(arguments.pop()) if arguments and arguments[-1].isdigit() else 8000
CERTFILE = f"{arguments[0]}/server.pem" if arguments else None
KEYFILE = f"{arguments[0]}/server.key" if arguments else None


async def app(request: Request) -> None:
    match request.path:
        case "/":
            await request.respond(200, f"hello over HTTP/{request.http_version}\n")
        case "/events":
            async with open_events(request) as events:
                for n in (1, 2):
                    await events.send(f"tick {n}")
                    await trio.sleep(0.3)
        case _:
            await request.respond(404)


rawstream.run(app, port=PORT, certfile=CERTFILE, keyfile=KEYFILE)
