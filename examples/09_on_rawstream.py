r"""Chapter 9: a stream, events, a poll and a WebSocket on rawstream, in a handler of 40 lines.

A handler is an async function that is called with a request. The library does everything between
it and TCP, including what the chapters before left out.

    $ python examples/09_on_rawstream.py
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8000
    $ curl -sN --raw http://127.0.0.1:8000/tokens
    f
    {"token":"The"}
    10
    {"token":" sky"}
    0

    $ curl -sN -H 'Last-Event-ID: 9' http://127.0.0.1:8000/ticks
    retry: 1000

    event: tick
    id: 10
    data: 09:00:00

    data: [DONE]

    $ curl -s -d 'one' http://127.0.0.1:8000/publish
    $ curl -si 'http://127.0.0.1:8000/poll?after=0'
    HTTP/1.1 200 OK
    Date: Sat, 21 Nov 2026 09:00:00 GMT
    Content-Type: application/json
    ETag: "5f3a9c01-1"
    Cache-Control: no-store
    Content-Length: 34

    {"entries": ["one"], "gap": true}

The ETag is the cursor for the next poll. The cursor "0" has no epoch of this server, so earlier
entries may be missing: this is the gap.

    $ curl -s http://127.0.0.1:8000/echo
    426 Upgrade Required: this is a WebSocket

The request that was two in chapter 2 and one in chapter 3 is rejected: to send both framings is a
mistake or an attack.

    $ printf '%b' 'POST /publish HTTP/1.1\r\nHost: a\r\n' \
        'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n' \
        '2a\r\nGET /admin HTTP/1.1\r\nConnection: close\r\n\r\n\r\n0\r\n\r\n' \
      | nc -w 1 127.0.0.1 8000 | tail -n 1
    400 Bad Request: both Content-Length and Transfer-Encoding

Each exchange is logged in one line: the request, the status, the kind of response, the bytes sent,
the time taken, and how it ended.

    2026-11-21 09:00:00,000 rawstream.access 127.0.0.1 "GET /tokens" 200 stream 186B 0.403s done
    2026-11-21 09:00:00,000 rawstream.access 127.0.0.1 "GET /ticks" 200 sse 262B 0.201s done
    2026-11-21 09:00:00,000 rawstream.access 127.0.0.1 "POST /publish" 204 plain 64B 0.002s done
    2026-11-21 09:00:00,000 rawstream.access 127.0.0.1 "GET /poll?after=0" 200 poll 187B 0.001s done
    2026-11-21 09:00:00,000 rawstream.access 127.0.0.1 "GET /echo" 426 plain 241B 0.000s done
    2026-11-21 09:00:00,000 rawstream.access 127.0.0.1 "- -" 400 plain 204B 0.000s done

To see the bytes of any of these, put the proxy of chapter 2 before the server, in a third terminal,
and ask port 8001. `--layer` chooses what it prints, here lines and events, and the chunks around:

    $ python -m rawstream wire --to http://127.0.0.1:8000 --layer http,sse
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire
    $ curl -sN -H 'Last-Event-ID: 10' http://127.0.0.1:8001/ticks
    retry: 1000

    data: [DONE]

For a handler in a module of your own, `python -m rawstream --wire module:handler` serves it and
prints the same, without a proxy.

You can now write in a handler of a few lines what the chapters before wrote in a hundred each.

Two things to try: restart the server and poll with the old cursor, as at the end of chapter 6: now
the answer says "gap": true. Then add a target that sends the numbers 1 to 3 as a stream.
"""

import json
import secrets
import sys
import time

import trio

import rawstream
from rawstream import HTTPError, Request, open_events, open_poll, open_stream, open_websocket

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000
EPOCH = secrets.token_hex(4)  # new after each start, so that older cursors are noticed
entries: list[str] = []
news = trio.Event()


def number_in(text: str | None) -> int:
    """Return the number that this text is; 0 if it is none."""
    try:
        return max(0, int(text or ""))
    except ValueError:
        return 0


async def app(request: Request) -> None:
    global news
    match request.method, request.path:
        case "GET", "/tokens":
            async with open_stream(request, "application/json") as stream:
                for token in (b'{"token":"The"}', b'{"token":" sky"}'):
                    await stream.send(token)
                    await trio.sleep(0.2)
        case "GET", "/ticks":
            last = number_in(request.last_event_id)
            async with open_events(request, retry=1000) as events:
                for n in range(last + 1, 11):
                    await events.send(time.strftime("%H:%M:%S"), event="tick", id=str(n))
                    await trio.sleep(0.2)
                await events.send("[DONE]")
        case "GET", "/poll":
            async with open_poll(request, cursor=f"{EPOCH}-{len(entries)}") as poll:
                epoch, _, position = poll.cursor.partition("-")
                known = epoch == EPOCH and number_in(position) <= len(entries)
                start = number_in(position) if known else 0
                while start == len(entries):
                    await news.wait()
                answer = {"entries": entries[start:], "gap": not known}
                await poll.answer(
                    json.dumps(answer) + "\n",
                    cursor=f"{EPOCH}-{len(entries)}",
                    content_type="application/json",
                )
        case "POST", "/publish":
            if len(entries) == 1000:
                raise HTTPError(507, "the board is full")
            entries.append((await request.body()).decode("utf-8", "replace"))
            news.set()
            news = trio.Event()
            await request.respond(204)
        case "GET", "/echo":
            async with open_websocket(request) as ws:
                async for message in ws:
                    await ws.send(message)
        case _:
            raise HTTPError(404)


rawstream.run(app, port=PORT)
