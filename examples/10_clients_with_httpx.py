r"""Chapter 10, second part: the same streams with httpx, an ordinary Python client.

httpx does HTTP. It does not know where a message ends: `iter_bytes` yields what a read brought,
half an event or three. `rawstream.EventDecoder` takes bytes that are cut anywhere and returns
complete events, by the rules of a browser. (For lines of JSON, httpx has `iter_lines`. It splits
lines like `str.splitlines`, also at U+2028.) Start the server of chapter 9 first.

    $ python examples/09_on_rawstream.py
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8000
    $ python examples/10_clients_with_httpx.py
    at once: {"token":"The"}
    after a pause: {"token":" sky"}
    at once: tick 9
    after a pause: tick 10
    after a pause: [DONE]

Do not ask for the whole body (`httpx.get(url).text`): it returns only when the stream has ended,
which an endless stream never does. Set `timeout`: by default httpx gives up after 5 seconds without
a byte, less than the time between two heartbeats of most servers.

To see which bytes each piece has, start the proxy in a third terminal, and type
`python examples/10_clients_with_httpx.py 8001`:

    $ python -m rawstream wire --to http://127.0.0.1:8000 --layer tcp,sse
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire

You can now read a stream in an ordinary program, whatever the network does to its reads.

Two things to try: take `read=30` away and let the server pause for six seconds. Then print each
piece of `iter_bytes` beside the events that `feed` returns for it.
"""

import sys
import time

import httpx

from rawstream import EventDecoder

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000
SERVER = f"http://127.0.0.1:{PORT}"


class Clock:
    """Print what has arrived, and whether it took long."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def show(self, text: str) -> None:
        now = time.monotonic()
        print(f"{'after a pause' if now - self.last > 0.1 else 'at once'}: {text}")
        self.last = now


def read_stream(client: httpx.Client) -> None:
    with client.stream("GET", f"{SERVER}/tokens") as response:
        clock = Clock()
        for piece in response.iter_bytes():
            clock.show(piece.decode())


def read_events(client: httpx.Client) -> None:
    with client.stream("GET", f"{SERVER}/ticks", headers={"Last-Event-ID": "8"}) as response:
        clock = Clock()
        decoder = EventDecoder(last_event_id="8")
        for piece in response.iter_bytes():
            for event in decoder.feed(piece):
                clock.show(f"tick {event.id}" if event.event == "tick" else event.data or "")


try:
    with httpx.Client(timeout=httpx.Timeout(5, read=30)) as client:
        read_stream(client)
        read_events(client)
except httpx.ConnectError:
    sys.exit(f"no server on port {PORT}: first start python examples/09_on_rawstream.py")
