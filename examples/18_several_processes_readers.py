r"""Chapter 18, second part: four readers that count what they miss, while a process is killed.

The page of the first part as a program for a terminal. It reads "count" in four ways until each
reader has 90 entries, and prints what each has seen. When all have a third of them, it kills the
process whose number is its last argument. A reader that is cut off does what `follow.js` does: it
comes back after a moment, with its cursor.

    $ redis-server --port 6380 --save '' > /dev/null &
    $ /usr/sbin/nginx -e stderr -p /tmp -c $PWD/examples/18_nginx.conf &
    $ python examples/18_several_processes.py redis://127.0.0.1:6380 8003
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8003
    2026-11-21 09:00:00,000 rawstream Redis at redis://127.0.0.1:6380 is connected
    $ python examples/18_several_processes.py redis://127.0.0.1:6380 8004 &
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8004
    2026-11-21 09:00:00,000 rawstream Redis at redis://127.0.0.1:6380 is connected
    $ python examples/18_several_processes.py redis://127.0.0.1:6380 8005 &
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8005
    2026-11-21 09:00:00,000 rawstream Redis at redis://127.0.0.1:6380 is connected
    $ python examples/18_several_processes_readers.py http://127.0.0.1:8000 90 \
      $(curl -s http://127.0.0.1:8004/pid)
    reader     entries  lost  repeated  gaps  cut off  served by
    websocket       90     0         0     0        1  8004 8003
    events          90     0         0     0        0  8005
    lines           90     0         0     0        0  8003
    poll            90     0         0     0        0  8004 8005

The last column tells which processes have served a reader. The killed one served two of them. A
poll is not cut off: nginx asks the next process, because the first had not begun to answer.

How do they know? Each number belongs to the count of one process. Within it, a number that is not
one more than the last was lost or has come again. (A gap is what the server itself tells of.) If
a reader came back without its cursor, it would lose what was published in the meantime.

To see a reader come back, start the proxy in a third terminal, and read through port 8001:

    $ python -m rawstream wire --to http://127.0.0.1:8000 --layer http,ndjson
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire

You can now test a service of several processes as its readers see it.

Two things to try: forget the cursor when a reader is cut off, and see how many numbers it loses.
Then restart the processes one after the other with `kill` alone, which lets them end their streams.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

if len(sys.argv) < 3:
    sys.exit("usage: 18_several_processes_readers.py URL COUNT [PID]")
URL, COUNT = f"{sys.argv[1]}/channels/count", int(sys.argv[2])
VICTIM = int(sys.argv[3]) if sys.argv[3:] else None
CUT_OFF = (httpx.HTTPError, WebSocketException, OSError)
HEARTBEAT = 30  # seconds: longer than the pause between two heartbeats
POLL_SECONDS = 20
CLIENT = httpx.Client(timeout=httpx.Timeout(10, read=HEARTBEAT))

Item = dict[str, Any]  # an entry, a gap, or only a new cursor


@dataclass
class Reader:
    name: str
    cursor: str = ""
    entries: int = 0
    lost: int = 0
    repeated: int = 0
    gaps: int = 0
    cut_off: int = 0
    served_by: list[str] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)  # number of each series

    def run(self, way: "Callable[[Reader], Iterator[Item]]") -> None:
        while self.entries < COUNT:
            try:
                for item in way(self):
                    self.take(item)
                    if self.entries == COUNT:
                        break
            except CUT_OFF:
                self.cut_off += 1
                time.sleep(random.uniform(0.1, 0.5))  # not all readers at once

    def take(self, item: Item) -> None:
        self.gaps += "gap" in item
        if "data" in item:
            self.entries += 1
            series, n = item["data"].split()[0], int(item["data"].split()[1])
            last = self.last.setdefault(series, n - 1)
            self.repeated += n <= last
            self.lost += max(0, n - last - 1)
            self.last[series] = max(n, last)
        self.cursor = item["id"]

    def query(self, **more: Any) -> Item:
        return {"name": self.name, **({"after": self.cursor} if self.cursor else {}), **more}

    def answered(self, addresses: str) -> None:
        """Take note of who has answered. nginx names all that it asked; the last one is it."""
        port = addresses.rpartition(":")[2]
        if self.served_by[-1:] != [port]:
            self.served_by.append(port)


# -- Four ways to read. Each ends when its connection ends, or raises one of CUT_OFF


def by_websocket(reader: Reader) -> Iterator[Item]:
    url = httpx.URL(URL.replace("http", "ws", 1), params=reader.query())
    with connect(str(url)) as ws:
        assert ws.response is not None
        reader.answered(ws.response.headers["X-Served-By"])
        for message in ws:
            yield json.loads(message)


def lines(reader: Reader, media_type: str) -> Iterator[str]:
    accept = {"Accept": media_type}
    with CLIENT.stream("GET", URL, params=reader.query(), headers=accept) as response:
        response.raise_for_status()
        reader.answered(response.headers["X-Served-By"])
        yield from response.iter_lines()


def by_events(reader: Reader) -> Iterator[Item]:
    event: dict[str, str] = {}
    for line in lines(reader, "text/event-stream"):
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        elif "data" in event:
            kind = "gap" if event.get("event") == "gap" else "data"
            yield {"id": event["id"], kind: event["data"]}
            event = {}


def by_lines(reader: Reader) -> Iterator[Item]:
    for line in lines(reader, "application/x-ndjson"):
        if line:  # not a heartbeat
            yield json.loads(line)


def by_polls(reader: Reader) -> Iterator[Item]:
    wait = POLL_SECONDS if reader.cursor else 0  # the first one asks where the present is
    response = CLIENT.get(URL, params=reader.query(wait=wait))
    response.raise_for_status()
    reader.answered(response.headers["X-Served-By"])
    answer = response.json() if response.status_code == 200 else {"entries": []}
    cursor = response.headers["ETag"].strip('"')
    yield {"id": cursor, "gap": answer["gap"]} if "gap" in answer else {"id": reader.cursor}
    yield from answer["entries"]
    yield {"id": cursor}


WAYS = {"websocket": by_websocket, "events": by_events, "lines": by_lines, "poll": by_polls}
ROW = "{:<10}{:>8}{:>6}{:>10}{:>6}{:>9}  {}"


def show(readers: list[Reader]) -> None:
    print(ROW.format("reader", "entries", "lost", "repeated", "gaps", "cut off", "served by"))
    for r in readers:
        counts = (r.entries, r.lost, r.repeated, r.gaps, r.cut_off)
        print(ROW.format(r.name, *counts, " ".join(r.served_by)))


def main() -> None:
    readers = [Reader(name) for name in WAYS]
    threads = [
        threading.Thread(target=reader.run, args=(WAYS[reader.name],), daemon=True)
        for reader in readers
    ]
    for thread in threads:
        thread.start()
    victim = VICTIM
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.02)
        if victim and all(reader.entries >= COUNT / 3 for reader in readers):
            os.kill(victim, signal.SIGKILL)
            victim = None
        if sys.stdout.isatty():  # over what it has shown before
            show(readers)
            print(f"\x1b[{len(readers) + 1}A", end="")
    show(readers)


try:
    CLIENT.get(URL, params={"wait": 0}).raise_for_status()
    main()
except httpx.HTTPError:
    port = httpx.URL(URL).port
    sys.exit(f"no server on port {port}: first start python examples/18_several_processes.py")
except KeyboardInterrupt:
    sys.exit(130)
