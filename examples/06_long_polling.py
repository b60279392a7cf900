r"""Chapter 6: long-polling, a request that is answered when there is something to say.

An old way to push, which needs nothing but HTTP: the client asks, the server keeps the request open
until there is news, answers, and the client asks again. It passes every proxy, if the wait is
shorter than the proxy's time-out. (To repeat the commands, restart the server: it counts entries.)

    $ python examples/06_long_polling.py
    listening on http://127.0.0.1:8000

A poll that finds something is answered at once. One that does not is held: below, the first curl
waits (beside the second, `&`) until the second one publishes something.

    $ curl -s -d 'one' http://127.0.0.1:8000/publish
    $ curl -s 'http://127.0.0.1:8000/poll?after=0'
    {"entries": ["one"], "next": 1}
    $ curl -s 'http://127.0.0.1:8000/poll?after=1' & \
      curl -s -d 'two' http://127.0.0.1:8000/publish; wait
    {"entries": ["two"], "next": 2}

`after` is a cursor: it tells what this client already has. Here is the same client without one and
with one. Time goes down:

        client            server                    client            server
           | GET /next       |                         | GET /poll?after=0
           |---------------->| waits                   |---------------->| waits
           |                 |<-- publish "a"          |                 |<-- publish "a"
           |<---------- "a" -|                         |<-- "a", next 1 -| keeps "a"
           |                 |                         |                 |
           |                 |<-- publish "b"          |                 |<-- publish "b"
           |                 | nobody waits: lost      |                 | keeps "a", "b"
           | GET /next       |                         | GET /poll?after=1
           |---------------->| waits                   |---------------->| has one after 1
           |                 |                         |<-- "b", next 2 -|
           |                 |<-- publish "c"          |                 |
           |<---------- "c" -|                         |                 |

Between an answer and the next poll, no request of this client is open, so the server has nowhere to
send "b". On the left it forgets "b", and nobody notices. On the right it keeps its entries, and the
cursor tells it that "b" is missing. The time between two polls is short, but it comes each time.

The left side: /next waits for the next entry, here one moment too late (204 is No Content):

    $ curl -s -d 'three' http://127.0.0.1:8000/publish
    $ curl -s -w '%{http_code}\n' 'http://127.0.0.1:8000/next?wait=0.5'
    204

The right side: nothing is lost, however long the client was away. If the wait ends without news,
the answer is 204, and the client asks again with the same cursor:

    $ curl -s 'http://127.0.0.1:8000/poll?after=2'
    {"entries": ["three"], "next": 3}
    $ curl -s -w '%{http_code}\n' 'http://127.0.0.1:8000/poll?after=3&wait=0.5'
    204

Two things can still go wrong, and the client must be told. The server keeps only the last entries
(here 4), so a cursor may be older than all of them. After a restart it counts from 0 again, so a
cursor may be ahead of it. In both cases the answer holds all entries and says that there is a gap:

    $ for text in four five six; do curl -s -d $text http://127.0.0.1:8000/publish; done
    $ curl -s 'http://127.0.0.1:8000/poll?after=1'
    {"entries": ["three", "four", "five", "six"], "next": 6, "gap": true}
    $ curl -s 'http://127.0.0.1:8000/poll?after=77'
    {"entries": ["three", "four", "five", "six"], "next": 6, "gap": true}

After a restart, an old cursor may be small enough to look valid. So real cursors carry an epoch, a
random number that is new after each start: chapter 9. Left out: this server does not notice when
the client of a poll leaves; chapter 5 does.

You can now push where only plain requests get through, and lose no message.

Two things to try: publish four entries, one a second, beside a loop that asks for /next and pauses
two seconds after each answer; then beside one that polls with a cursor. Then restart the server,
publish two entries, and poll with `after=1`: the answer looks valid. What did this client miss?
"""

import json
import signal
import sys
from collections import deque
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

import h11
import trio

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000
HEADERS = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]

entries = deque[str](maxlen=4)
end = 0  # how many there have been; the cursor of a client that has them all
# Something to wait for: `await news.wait()` returns once another task has called `news.set()`.
news = trio.Event()


def publish(text: str) -> None:
    global end, news
    entries.append(text)
    end += 1
    news.set()  # wakes every poll that waits
    news = trio.Event()  # an event is set once; this one is for the next entry


async def poll(after: int) -> dict[str, object]:
    """Return the entries after this cursor, once there is one."""
    while after == end:
        await news.wait()
    first = end - len(entries)
    if first <= after < end:
        return {"entries": list(entries)[after - first :], "next": end}
    return {"entries": list(entries), "next": end, "gap": True}


async def answer(method: str, target: str, body: bytes) -> tuple[int, bytes]:
    try:
        url = urlsplit(target)  # ValueError for the likes of "//["
        query = dict(parse_qsl(url.query))
        wait = float(query.get("wait", 25))
        after = int(query.get("after", end))
    except ValueError:
        return 400, b""
    if not 0 <= wait <= 60:
        return 400, b""
    if method == "POST" and url.path == "/publish":
        publish(body.decode("utf-8", "replace"))
        return 204, b""
    if method == "GET" and url.path in ("/poll", "/next"):
        if url.path == "/next":
            after = end  # as if the client had all there is
        with trio.move_on_after(wait):
            found = await poll(after)
            return 200, json.dumps(found).encode() + b"\n"
        return 204, b""  # nothing new within that time
    return 404, b""


async def serve(stream: trio.SocketStream) -> None:
    """One request a connection, read as in chapter 3."""
    connection = h11.Connection(h11.SERVER)
    with suppress(trio.TooSlowError, trio.BrokenResourceError, h11.RemoteProtocolError):
        body, request = b"", None
        with trio.fail_after(10):
            while connection.their_state in (h11.IDLE, h11.SEND_BODY) and len(body) < 65536:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some(4096))
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += event.data
        if request is None or connection.their_state in (h11.SEND_BODY, h11.CLOSED):
            return
        status, text = await answer(request.method.decode(), request.target.decode(), body)
        headers = [*HEADERS, ("Connection", "close")]
        if status != 204:
            headers.append(("Content-Length", str(len(text))))
        head = h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase)
        await stream.send_all(connection.send(head) + text)


async def main() -> None:
    try:
        listeners = await trio.open_tcp_listeners(PORT, host="127.0.0.1")
    except OSError as error:
        other = f"python {sys.argv[0]} {PORT + 1}"
        sys.exit(f"port {PORT}: {error.strerror}; stop the other chapter (Ctrl-C) or run {other}")
    print(f"listening on http://127.0.0.1:{PORT}")
    await trio.serve_listeners(serve, listeners)


signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a traceback
trio.run(main)
