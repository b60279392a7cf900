r"""Chapter 5: Server-Sent Events, messages in a stream of text.

An event stream is a body of type `text/event-stream`: lines of `field: value`, and an empty line
after each event (WHATWG HTML, section 9.2). Any framing carries it: chunks, HTTP/2, or, as here,
the simplest one, a body that ends with the connection.

    $ python examples/05_sse_by_hand.py
    listening on http://127.0.0.1:8000
    $ curl -sN http://127.0.0.1:8000/example
    data: only data, for onmessage

    id: 2
    event: update
    data: {"for": "addEventListener('update', ...)"}

    data: two lines of data,
    data: one event

The bytes of the second and the third event, through the proxy of chapter 2 in a third terminal.
After the lines of each event stands what a browser makes of them: two `data` lines are one text,
joined by a newline (`\n`). The end marker is one byte, 0a, on a line of its own:

    $ python -m rawstream wire --to http://127.0.0.1:8000 --save /tmp/wire
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire
    $ curl -sN http://127.0.0.1:8001/example | tail -n 3
    data: two lines of data,
    data: one event

    $ python -m rawstream wire /tmp/wire --layer sse | sed -n '/id: 2/,$p'
        sse       line: id: 2
                  69 64 3a 20 32 0a                                id: 2.
        sse       line: event: update
                  65 76 65 6e 74 3a 20 75 70 64 61 74 65 0a        event: update.
        sse       line: data: {"for": "addEventListener('update', ...)"}
                  64 61 74 61 3a 20 7b 22 66 6f 72 22 3a 20 22 61  data: {"for": "a
                  64 64 45 76 65 6e 74 4c 69 73 74 65 6e 65 72 28  ddEventListener(
                  27 75 70 64 61 74 65 27 2c 20 2e 2e 2e 29 22 7d  'update', ...)"}
                  0a                                               .
        sse       blank line
                  0a                                               .
        sse       -> event: {"for": "addEventListener('update', ...)"}
                  type update, id 2
        sse       line: data: two lines of data,
                  64 61 74 61 3a 20 74 77 6f 20 6c 69 6e 65 73 20  data: two lines
                  6f 66 20 64 61 74 61 2c 0a                       of data,.
        sse       line: data: one event
                  64 61 74 61 3a 20 6f 6e 65 20 65 76 65 6e 74 0a  data: one event.
        sse       blank line
                  0a                                               .
        sse       -> event: two lines of data,\none event
                  type message

/ticks sends ten ticks, one a second, each with an id. A client that was cut off sends the last id
it saw, and the stream continues after it, even if the server was restarted in between:

    $ curl -sN -H 'Last-Event-ID: 8' http://127.0.0.1:8000/ticks
    retry: 1000

    id: 9
    event: tick
    data: 09:00:08

    id: 10
    event: tick
    data: 09:00:09

    data: [DONE]

`retry` is the time in milliseconds that a browser waits before it reconnects. `[DONE]` is not part
of the protocol, but an agreement between this server and its page. A browser reconnects whenever a
stream ends, unless the page closes its EventSource.

The server ends a stream at once when its client leaves. While there is no event, it sends a
comment, a line that starts with a colon. This shows the client and all proxies that the connection
is alive. Here the first curl leaves after 1.5 seconds (`-m`):

    $ curl -sN -m 1.5 http://127.0.0.1:8000/ticks | grep data
    data: 09:00:00
    data: 09:00:01
    $ curl -sN http://127.0.0.1:8000/quiet
    : still here

    : still here

    data: at last

In the server's terminal, when curl left:

    the client has left

Chapter 10 reads events in a browser.

You can now push events to any number of browsers, which reconnect and miss nothing.

Two things to try: ask for /ticks, stop the server after the third tick, start it again, and go on
with the right `Last-Event-ID`. Then send text with a line end in `id`, and see an event that the
program never sent.
"""

import re
import signal
import sys
import time
from contextlib import suppress

import trio

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Cache-Control: no-cache\r\nConnection: close\r\n\r\n"
)


def event(data: str, **fields: str | int) -> bytes:
    """Encode an event; each line of its data becomes a `data` field. Do not put text from users
    into the other fields: a line end in it would forge fields and events."""
    text = ""
    for name, value in fields.items():
        text += f"{name}: {value}\n"
    for line in re.split("\r\n|\r|\n", data):  # the three line ends of an event stream
        text += f"data: {line}\n"
    return (text + "\n").encode()  # the empty line


async def ticks(stream: trio.SocketStream, last_event_id: str) -> None:
    await stream.send_all(b"retry: 1000\n\n")
    try:
        last = max(0, int(last_event_id))
    except ValueError:
        last = 0  # no id, or none of ours
    for n in range(last + 1, 11):
        await stream.send_all(event(time.strftime("%H:%M:%S"), id=n, event="tick"))
        await trio.sleep(1)
    await stream.send_all(event("[DONE]"))


async def cancel_when_client_leaves(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    """A client sends nothing after its request. So the end of the stream, and any byte as well,
    counts as leaving."""
    with suppress(trio.BrokenResourceError):
        await stream.receive_some(1)
    print("the client has left")
    scope.cancel()


async def answer(stream: trio.SocketStream, target: str, last_event_id: str) -> None:
    if target not in ("/example", "/ticks", "/quiet"):
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return
    await stream.send_all(HEAD)
    match target:
        case "/example":
            await stream.send_all(event("only data, for onmessage"))
            data = """{"for": "addEventListener('update', ...)"}"""
            await stream.send_all(event(data, id=2, event="update"))
            await stream.send_all(event("two lines of data,\none event"))
        case "/ticks":
            await ticks(stream, last_event_id)
        case "/quiet":
            for _ in range(2):
                await trio.sleep(0.5)  # 15 seconds are more usual
                await stream.send_all(b": still here\n\n")
            await stream.send_all(event("at last"))


async def serve(stream: trio.SocketStream) -> None:
    head = b""
    with trio.move_on_after(10), suppress(trio.BrokenResourceError):
        while b"\r\n\r\n" not in head and len(head) < 16384:
            data = await stream.receive_some(4096)
            if not data:
                return
            head += data
    request_line, *lines = head.decode("latin-1").split("\r\n")
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    if b"\r\n\r\n" not in head or not request_line.startswith("GET /"):
        return
    # Two tasks: one sends the answer, one watches for the client to leave. The one that ends first
    # cancels the other: `nursery.cancel_scope.cancel()` raises `trio.Cancelled` at the `await`
    # where each task of the nursery waits. The block ends when all its tasks have ended.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_when_client_leaves, stream, nursery.cancel_scope)
        with suppress(trio.BrokenResourceError):
            await answer(stream, request_line.split(" ")[1], fields.get("last-event-id", ""))
        nursery.cancel_scope.cancel()


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
