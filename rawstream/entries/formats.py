"""The encoding of entries on each transport (`ID` is the cursor after the entry):

    events       id: ID, event: TYPE, data: DATA
    lines        {"id": ID, "event": TYPE, "data": DATA}, one per line
    frames       the same, one per WebSocket message
    polls        {"entries": [the same, ...], "next": ID, and then the end of the object
    text         [TYPE] DATA, for people: it has no ids, so it cannot be resumed

Lost entries are told as a gap: an event "gap" with the data `{"from": ID, "to": ID}`, or
`{"id": ID, "gap": {"from": ID, "to": ID}}`. The end of a closed channel is an event "end" with the
data `{}`, or `{"id": ID, "end": true}`; in text it is only the end of the stream.

Where entries may come late, because what holds the channel is away, the heartbeat says so: a
comment, or `{"id": ID, "delayed": true}`.

Where several channels are read over one connection, everything names its channel: objects have a
"channel", the data of events is `{"channel": NAME, "data": DATA}`, and text begins with `NAME: `.

DATA is a JSON string; in a channel of JSON it is the JSON itself. Pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from ..http.json_text import json_text
from ..streams.event import Event
from ..websocket.frames import TEXT as TEXT_FRAME
from ..websocket.frames import server_frame
from .log import END, GAP, Entry

Wanted: TypeAlias = Callable[[Entry], bool]
"""Tells whether a reader is sent an entry."""


@dataclass(frozen=True)
class EntryFormat:
    """A format that encodes entries one by one."""

    channel: str = ""
    """The name of the channel to tell; "" if there is only one channel."""
    wanted: Wanted | None = None
    """Which entries are encoded; None for all. Batches leave out the others."""

    def has_place_for(self, entry: Entry) -> bool:
        """Whether an entry is encoded. A gap and the end of the log are."""
        if self.wanted is None or entry.is_end or entry.is_gap:
            return True
        return self.wanted(entry)

    def entry(self, entry: Entry) -> bytes:
        """The bytes of an entry."""
        if entry.is_end:
            return self.last(entry.id)
        if entry.is_gap:
            return self.gap(entry.id, entry.data, entry.id)
        return self.whole(self.head(entry.id, entry) + self.tail(entry))

    def batch(self, entries: Iterator[Entry]) -> tuple[bytes, int]:
        """The bytes of entries, and the position of the last of them; -1 if there is none."""
        parts = []
        position = -1
        for entry in entries:
            if self.has_place_for(entry):
                parts.append(self.entry(entry))
            position = entry.position
        return b"".join(parts), position

    end = b""
    """The bytes after each entry."""

    def whole(self, entry: bytes) -> bytes:
        """An entry from its head and tail."""
        return entry + self.end

    def tail(self, entry: Entry) -> bytes:
        """The part that is the same for all readers."""
        raise NotImplementedError

    # Text has nothing of these:

    def head(self, id: str, entry: Entry) -> bytes:
        """The bytes before the tail, with the cursor after the entry."""
        return b""

    def gap(self, id: str, start: str, end: str) -> bytes:
        """Tell that the entries after `start` up to `end` are lost. The cursor is now `id`."""
        return b""

    def place(self, id: str) -> bytes:
        """Tell a client its cursor when there is no entry to tell it with."""
        return b""

    def delayed(self, id: str) -> bytes:
        """Tell a client, which is at this cursor, that entries may come late."""
        return b""

    def last(self, id: str) -> bytes:
        """Tell that the channel has ended."""
        return b""

    @property
    def _named(self) -> dict[str, str]:
        return {"channel": self.channel} if self.channel else {}


class Events(EntryFormat):
    """Server-Sent Events."""

    def head(self, id: str, entry: Entry) -> bytes:
        event = "" if entry.event is None else f"event: {entry.event}\n"
        return f"{event}id: {id}\n".encode()

    def tail(self, entry: Entry) -> bytes:
        if not self.channel:
            return Event(entry.data).encode()
        return Event(_with_data(self._named, entry)).encode()

    def gap(self, id: str, start: str, end: str) -> bytes:
        return Event(json_text({**self._named, "from": start, "to": end}), GAP, id).encode()

    def place(self, id: str) -> bytes:
        # An EventSource remembers the id, and dispatches no event.
        return Event(id=id).encode()

    def delayed(self, id: str) -> bytes:
        return Event(comment="entries may be delayed").encode()

    def last(self, id: str) -> bytes:
        return Event(json_text(self._named), END, id).encode()


class Lines(EntryFormat):
    """One JSON object per line."""

    end = b"\n"

    def head(self, id: str, entry: Entry) -> bytes:
        return b'{"id": "%b"' % id.encode()

    def tail(self, entry: Entry) -> bytes:
        event = {} if entry.event is None else {"event": entry.event}
        return b", %b" % _with_data({**self._named, **event}, entry)[1:].encode()

    def gap(self, id: str, start: str, end: str) -> bytes:
        return self._line({"id": id, **self._named, "gap": {"from": start, "to": end}})

    def place(self, id: str) -> bytes:
        return self._line({"id": id})

    def delayed(self, id: str) -> bytes:
        return self._line({"id": id, "delayed": True})

    def last(self, id: str) -> bytes:
        return self._line({"id": id, **self._named, "end": True})

    def _line(self, value: object) -> bytes:
        return self.whole(json_text(value).encode())


class Frames(Lines):
    """One JSON object per WebSocket message."""

    def whole(self, entry: bytes) -> bytes:
        return text_message(entry)


class Text(EntryFormat):
    """The data, with the type of the entry if it has one."""

    def tail(self, entry: Entry) -> bytes:
        channel = f"{self.channel}: " if self.channel else ""
        event = f"[{entry.event}] " if entry.event is not None else ""
        return f"{channel}{event}{entry.data}\n".encode()


class Polls(Lines):
    """The answer to a poll, without its end, which can differ from client to client."""

    def batch(self, entries: Iterator[Entry]) -> tuple[bytes, int]:
        objects = []
        id, position, has_ended = "", -1, False
        for entry in entries:
            if entry.is_gap:
                break  # a poll tells gaps beside its entries
            id, position, has_ended = entry.id, entry.position, entry.is_end
            if not entry.is_end and self.has_place_for(entry):
                objects.append(self.head(entry.id, entry) + self.tail(entry))
        if not objects and not has_ended:
            return b"", position
        answer = b'{"entries": [%b], "next": "%b"' % (b", ".join(objects), id.encode())
        return answer, position


def text_message(text: bytes) -> bytes:
    """A text message of a WebSocket, as one frame."""
    return server_frame(TEXT_FRAME, text)


@lru_cache(maxsize=16)
def place_again(format: EntryFormat, id: str) -> bytes:
    """`EntryFormat.place`: clients that arrive together are all at the same place."""
    return format.place(id)


def _with_data(value: dict[str, str], entry: Entry) -> str:
    """The JSON object of `value`, with the data of an entry as its last member."""
    data = entry.data if entry.is_json else json_text(entry.data)
    start = f"{json_text(value)[:-1]}, " if value else "{"
    return f'{start}"data": {data}}}'


EVENTS, LINES, TEXT, POLLS = Events(), Lines(), Text(), Polls()
