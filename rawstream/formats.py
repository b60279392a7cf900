"""How entries of a channel look on each transport (`ID` is the cursor behind the entry):

    events       id: ID, event: TYPE, data: DATA
    lines        {"id": ID, "event": TYPE, "data": DATA}, one a line
    frames       the same, one a WebSocket message
    text         DATA alone, for human eyes: no ids, no gaps, nothing to resume from

Entries that are lost are a gap: an event "gap" with the data `{"from": ID, "to": ID}`, or
`{"id": ID, "gap": {"from": ID, "to": ID}}`. Where several channels are read at a time, everything
says which one it is of: there is a "channel" in all objects, data of events is an object
`{"channel": NAME, "data": DATA}`, and text begins with `NAME: `. Pure functions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from .channel import Entry
from .frames import data_frame
from .sse import Event

_LINE_SEPARATORS = {0x85: r"\u0085", 0x2028: r"\u2028", 0x2029: r"\u2029"}


def as_json(value: object) -> str:
    """JSON on one line, whatever its reader takes for the end of a line: JSON itself escapes only
    those below U+0020. In UTF-8 where it goes."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isascii() else text.translate(_LINE_SEPARATORS)


@dataclass(frozen=True)
class Events:
    """Server-Sent Events."""

    channel: str = ""
    """The name that is said; "" if there is only one."""

    def entry(self, id: str, entry: Entry) -> bytes:
        data = entry.data
        if self.channel:
            data = as_json({"channel": self.channel, "data": data})
        return Event(data, entry.event, id).encode()

    def gap(self, id: str, start: str, end: str) -> bytes:
        gap = {**_named(self.channel), "from": start, "to": end}
        return Event(as_json(gap), "gap", id).encode()

    def place(self, id: str) -> bytes:
        # An EventSource takes it for its last event ID, and dispatches nothing.
        return Event(id=id).encode()


@dataclass(frozen=True)
class Lines:
    """One JSON object a line."""

    channel: str = ""

    def entry(self, id: str, entry: Entry) -> bytes:
        event = {} if entry.event is None else {"event": entry.event}
        return self._line({"id": id, **_named(self.channel), **event, "data": entry.data})

    def gap(self, id: str, start: str, end: str) -> bytes:
        return self._line({"id": id, **_named(self.channel), "gap": {"from": start, "to": end}})

    def place(self, id: str) -> bytes:
        return self._line({"id": id})

    def _line(self, value: object) -> bytes:
        return as_json(value).encode() + b"\n"


@dataclass(frozen=True)
class Frames(Lines):
    """One JSON object a WebSocket message."""

    def _line(self, value: object) -> bytes:
        return data_frame(as_json(value))


@dataclass(frozen=True)
class Text:
    """The data, and nothing else."""

    channel: str = ""

    def entry(self, id: str, entry: Entry) -> bytes:
        prefix = f"{self.channel}: " if self.channel else ""
        return f"{prefix}{entry.data}\n".encode()

    def gap(self, id: str, start: str, end: str) -> bytes:
        return b""

    def place(self, id: str) -> bytes:
        return b""


EVENTS, LINES, FRAMES, TEXT = Events(), Lines(), Frames(), Text()


def _named(channel: str) -> dict[str, str]:
    return {"channel": channel} if channel else {}
