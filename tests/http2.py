"""Connections of HTTP/2, made by the h2 library: what its client and its server write, in order.

`python tests/http2.py > tests/captures/http2-events.jsonl` makes that recording: the events of
`events.jsonl` again, over HTTP/2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event

from rawstream.dissector.spans import Direction

TO_SERVER, TO_CLIENT = Direction
CAPTURES = Path(__file__).parent / "captures"

Fields = list[tuple[bytes, bytes]]

REQUEST: Fields = [
    (b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"localhost"), (b":path", b"/"),
]  # fmt: skip


def asking(path: str, *fields: tuple[bytes, bytes], method: str = "GET") -> Fields:
    """The fields of a request."""
    changed = {b":method": method.encode(), b":path": path.encode()}
    return [(name, changed.get(name, value)) for name, value in REQUEST] + list(fields)


def answering(status: int, kind: bytes = b"", *fields: tuple[bytes, bytes]) -> Fields:
    """The fields of a response."""
    found = [(b":status", b"%d" % status), *([(b"content-type", kind)] if kind else [])]
    return [*found, *fields]


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """A frame."""
    return (
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
    )


class Pair:
    """A client and a server, which read at once what the other has written."""

    def __init__(self) -> None:
        def side(*, is_client: bool) -> H2Connection:
            # Field names in any order, and fields that are mistakes, are wanted here.
            options = H2Configuration(
                client_side=is_client,
                validate_outbound_headers=False,
                validate_inbound_headers=False,
                normalize_outbound_headers=False,
                normalize_inbound_headers=False,
            )
            return H2Connection(options)

        self.client = side(is_client=True)
        self.server = side(is_client=False)
        self.pieces: list[tuple[Direction, bytes]] = []
        """What either has written, in order."""
        self.events: list[tuple[Direction, Event]] = []
        """What h2 makes of it."""

    def begin(self) -> None:
        """Let both sides send their settings, and acknowledge those of the other."""
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.flow()

    def flow(self) -> None:
        """Pass on what both have to send, until neither has anything left."""
        sides = ((self.client, self.server, TO_SERVER), (self.server, self.client, TO_CLIENT))
        while any(self._pass_on(*side) for side in sides):
            pass

    def _pass_on(self, source: H2Connection, sink: H2Connection, direction: Direction) -> bool:
        data = source.data_to_send()
        if data:
            self.pieces.append((direction, data))
            self.events += [(direction, event) for event in sink.receive_data(data)]
        return bool(data)

    def sent(self, direction: Direction) -> bytes:
        """All bytes of one direction."""
        return b"".join(data for towards, data in self.pieces if towards is direction)

    def content(self, direction: Direction, stream: int) -> bytes:
        """The content of a stream, as h2 reads it."""
        found = [event for towards, event in self.events if towards is direction]
        data = [e for e in found if isinstance(e, DataReceived) and e.stream_id == stream]
        return b"".join(event.data or b"" for event in data)


def _recording() -> Iterable[str]:
    """The exchange of `events.jsonl` over HTTP/2: each chunk is a DATA frame."""
    lines = (CAPTURES / "events.jsonl").read_text().splitlines()
    reads = [json.loads(line) for line in lines[1:]]
    pair = Pair()
    yield lines[0]
    shown = 0

    def passed(time: float) -> Iterable[str]:
        nonlocal shown
        pair.flow()
        for direction, data in pair.pieces[shown:]:
            to = "server" if direction is TO_SERVER else "client"
            record = {"connection": 1, "time": time, "to": to, "bytes": data.decode("latin-1")}
            yield json.dumps(record)
        shown = len(pair.pieces)

    pair.client.initiate_connection()
    fields = [(b"accept", b"*/*"), (b"user-agent", b"curl"), (b"last-event-id", b"8")]
    pair.client.send_headers(1, asking("/ticks", *fields), end_stream=True)
    pair.server.initiate_connection()
    yield from passed(reads[0]["time"])
    head = reads[1]["bytes"].partition("\r\n\r\n")[0].split("\r\n")[1:]
    named = [line.lower().split(": ", 1)[0].encode() for line in head]
    values = [line.split(": ", 1)[1].encode() for line in head]
    kept = [pair for pair in zip(named, values, strict=True) if pair[0] != b"transfer-encoding"]
    pair.server.send_headers(1, [(b":status", b"200"), *kept])
    for read in reads[1:4]:
        body = (
            read["bytes"].partition("\r\n\r\n")[2] if "HTTP/1.1" in read["bytes"] else read["bytes"]
        )
        for event in re.findall(r"(?:[a-z]+: .*\n)+\n", body):
            pair.server.send_data(1, event.encode())
        if read is reads[3]:
            pair.server.end_stream(1)
        yield from passed(read["time"])
    pair.client.close_connection()
    yield from passed(reads[4]["time"])
    yield from (json.dumps({**read, "bytes": ""}) for read in reads[4:])


if __name__ == "__main__":
    print("\n".join(_recording()))
