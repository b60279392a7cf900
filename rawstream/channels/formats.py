"""How entries of a channel look on each transport (`ID` is the cursor behind the entry):

    events       id: ID, event: TYPE, data: DATA
    lines        {"id": ID, "event": TYPE, "data": DATA}, one a line
    frames       the same, one a WebSocket message
    text         DATA alone, for human eyes: no ids, no gaps, nothing to resume from
    polls        {"entries": [the same, ...], "next": ID, and what ends the object

Entries that are lost are a gap: an event "gap" with the data `{"from": ID, "to": ID}`, or
`{"id": ID, "gap": {"from": ID, "to": ID}}`. Where several channels are read at a time, everything
says which one it is of: there is a "channel" in all objects, data of events is an object
`{"channel": NAME, "data": DATA}`, and text begins with `NAME: `. Pure functions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from ..streams.event import Event
from ..websocket.frames import TEXT as TEXT_FRAME
from ..websocket.frames import server_frame
from .log import Entry, Log

_LINE_SEPARATORS = {0x85: r"\u0085", 0x2028: r"\u2028", 0x2029: r"\u2029"}


def as_json(value: object) -> str:
    """JSON on one line, whatever its reader takes for the end of a line: JSON itself escapes only
    those below U+0020. In UTF-8 where it goes."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isascii() else text.translate(_LINE_SEPARATORS)


@dataclass(frozen=True)
class EntryFormat:
    """A format that takes entries one by one."""

    channel: str = ""
    """The name that is said; "" if there is only one channel."""

    def entry(self, id: str, entry: Entry) -> bytes:
        """The bytes of an entry, whose id is the cursor behind it."""
        return self.head(id, entry) + self.tail(entry) + self.end

    def batch(self, log: Log, entries: Iterator[Entry]) -> tuple[bytes, int]:
        """The bytes of entries, and the position of the last of them."""
        parts = []
        for entry in entries:
            parts.append(self.entry(log.id_of(entry.position), entry))
            end = entry.position
        return b"".join(parts), end

    end = b""
    """What stands behind each entry."""

    def head(self, id: str, entry: Entry) -> bytes:
        """What stands before the tail: the id, for the most part."""
        raise NotImplementedError

    def tail(self, entry: Entry) -> bytes:
        """What is the same for all readers."""
        raise NotImplementedError

    def gap(self, id: str, start: str, end: str) -> bytes:
        """What tells that entries behind `start` are lost, up to `end`; `id` is the cursor now."""
        raise NotImplementedError

    def place(self, id: str) -> bytes:
        """What tells a client its cursor, before there is anything else to tell."""
        raise NotImplementedError

    @property
    def _named(self) -> dict[str, str]:
        return {"channel": self.channel} if self.channel else {}


class Events(EntryFormat):
    """Server-Sent Events."""

    def head(self, id: str, entry: Entry) -> bytes:
        event = "" if entry.event is None else f"event: {entry.event}\n"
        return f"{event}id: {id}\n".encode()

    def tail(self, entry: Entry) -> bytes:
        data = entry.data
        if self.channel:
            data = as_json({"channel": self.channel, "data": data})
        return Event(data).encode()

    def gap(self, id: str, start: str, end: str) -> bytes:
        gap = {**self._named, "from": start, "to": end}
        return Event(as_json(gap), "gap", id).encode()

    def place(self, id: str) -> bytes:
        # An EventSource takes it for its last event ID, and dispatches nothing.
        return Event(id=id).encode()


class Lines(EntryFormat):
    """One JSON object a line."""

    end = b"\n"

    def head(self, id: str, entry: Entry) -> bytes:
        return b'{"id": "%b"' % id.encode()

    def tail(self, entry: Entry) -> bytes:
        event = {} if entry.event is None else {"event": entry.event}
        rest = as_json({**self._named, **event, "data": entry.data})
        return b", %b" % rest[1:].encode()

    def gap(self, id: str, start: str, end: str) -> bytes:
        return self._line({"id": id, **self._named, "gap": {"from": start, "to": end}})

    def place(self, id: str) -> bytes:
        return self._line({"id": id})

    def _line(self, value: object) -> bytes:
        return as_json(value).encode() + b"\n"


class Frames(Lines):
    """One JSON object a WebSocket message."""

    def entry(self, id: str, entry: Entry) -> bytes:
        return server_frame(TEXT_FRAME, self.head(id, entry) + self.tail(entry))

    def _line(self, value: object) -> bytes:
        return server_frame(TEXT_FRAME, as_json(value).encode())


class Text(EntryFormat):
    """The data, and nothing else."""

    def head(self, id: str, entry: Entry) -> bytes:
        return b""

    def tail(self, entry: Entry) -> bytes:
        prefix = f"{self.channel}: " if self.channel else ""
        return f"{prefix}{entry.data}\n".encode()

    def gap(self, id: str, start: str, end: str) -> bytes:
        return b""

    def place(self, id: str) -> bytes:
        return b""


class Polls(Lines):
    """The answer to a poll, all but its end: that is each client's own, if it is told of a gap."""

    def batch(self, log: Log, entries: Iterator[Entry]) -> tuple[bytes, int]:
        lines, end = super().batch(log, entries)
        objects = b", ".join(lines.splitlines())
        return b'{"entries": [%b], "next": "%b"' % (objects, log.id_of(end).encode()), end


EVENTS, LINES, FRAMES, TEXT, POLLS = Events(), Lines(), Frames(), Text(), Polls()
