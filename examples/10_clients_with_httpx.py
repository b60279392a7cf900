r"""Chapter 10, second part: the same streams with httpx, an ordinary Python client.

The library does HTTP. What it cannot do for you is to know where a message ends: `iter_bytes`
gives what a read gave, be it half an event or three. `rawstream.EventDecoder` is told bytes, cut
anywhere, and gives whole events, by the rules that a browser follows. (For lines of JSON there is
`iter_lines`; mind that it also splits at U+2028 and the like, as str.splitlines does.) Start
the server of chapter 9 first; httpx comes with `pip install httpx`.

    $ python examples/09_on_rawstream.py
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8000
    $ python examples/10_clients_with_httpx.py
    at once: {"token":"The"}
    after a pause: {"token":" sky"}
    at once: tick 9
    after a pause: tick 10
    after a pause: [DONE]

Ask for the body at once (`httpx.get(url).text`), and nothing is seen until the stream has ended,
which an endless one never does. And give `timeout` some thought: httpx's default gives up after
5 seconds without a byte, fewer than most servers take between two heartbeats.
"""

import sys
import time

import httpx

from rawstream import EventDecoder

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000
SERVER = f"http://127.0.0.1:{PORT}"


class Clock:
    """Prints what has come, and whether it was long in coming."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def show(self, text: str) -> None:
        now = time.monotonic()
        print(f"{'after a pause' if now - self.last > 0.1 else 'at once'}: {text}")
        self.last = now


with httpx.Client(timeout=httpx.Timeout(5, read=30)) as client:
    with client.stream("GET", f"{SERVER}/tokens") as response:
        clock = Clock()
        for piece in response.iter_bytes():
            clock.show(piece.decode())

    with client.stream("GET", f"{SERVER}/ticks", headers={"Last-Event-ID": "8"}) as response:
        clock = Clock()
        decoder = EventDecoder(last_event_id="8")
        for piece in response.iter_bytes():
            for event in decoder.feed(piece):
                clock.show(f"tick {event.id}" if event.event == "tick" else event.data or "")
