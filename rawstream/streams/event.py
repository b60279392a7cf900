r"""One Server-Sent Event, as bytes and back (WHATWG HTML section 9.2).

    id: 7\n                  the client sends it back in Last-Event-ID
    event: tick\n            the type; "message" by default
    data: first line\n
    data: second line\n
    \n                       the blank line dispatches the event

`Event` encodes the bytes, `EventDecoder` parses them as a browser does. No I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..limits import MIB

_LINE_END = re.compile("\r\n|\r")
_LINE_END_BYTES = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """One event, or only some of its fields."""

    data: str | None = None
    """The payload. CR and CRLF in it arrive as LF. Without data a client dispatches no event, but
    takes note of `id` and `retry`."""
    event: str | None = None
    """The type of the event, for `addEventListener`; None means "message"."""
    id: str | None = None
    """Sent back by the client in `Last-Event-ID`; "" makes the client forget the last one."""
    retry: int | None = None
    """Milliseconds that the client waits before it reconnects."""
    comment: str | None = None
    """Ignored by clients: for heartbeats, and for people who look at the bytes."""

    def encode(self) -> bytes:
        """The event as bytes, with the blank line at its end.

        Raises `TypeError` for fields of the wrong type, and `ValueError` for CR, LF or NUL in
        `event` or `id`, which would let the author of the value forge fields and events, and for
        a negative `retry`.
        """
        lines = []
        if self.comment is not None:
            lines.append(_field("comment", ": ", self.comment))
        for name, value in (("event", self.event), ("id", self.id)):
            if value is not None:
                line = _field(name, f"{name}: ", value)
                if any(forbidden in value for forbidden in "\r\n\0"):
                    raise ValueError(f"CR, LF or NUL in the {name} of an event: {value!r}")
                lines.append(line)
        if self.retry is not None:
            if not isinstance(self.retry, int):
                raise TypeError(f"retry is an int, milliseconds, not {self.retry!r}")
            if self.retry < 0:
                raise ValueError(f"retry must not be negative: {self.retry}")
            lines.append(f"retry: {self.retry:d}")
        if self.data is not None:
            lines.append(_field("data", "data: ", self.data))
        return "".join(f"{line}\n" for line in (*lines, "")).encode()


def _field(name: str, start: str, value: str) -> str:
    """A field, with one line for each line of its value."""
    if not isinstance(value, str):
        raise TypeError(f"the {name} of an event is a str, not {type(value).__name__}: {value!r}")
    if "\r" in value:
        value = _LINE_END.sub("\n", value)
    return start + value.replace("\n", f"\n{start}")


class EventDecoder:
    """Parses an event stream as a browser does: bytes in, cut anywhere; events out.

    `last_event_id` is what a client sends when it reconnects. `retry` is the reconnection time in
    milliseconds, None until the stream has set it.
    """

    def __init__(self, *, last_event_id: str = "", max_bytes: int = MIB) -> None:
        """`max_bytes` bounds the part of an unfinished event that is kept."""
        self.last_event_id = last_event_id
        self.retry: int | None = None
        self._max_bytes = max_bytes
        self._pending = bytearray()  # the unfinished line
        self._at_start = True  # a byte order mark may follow
        self._after_cr = False  # an LF that follows belongs to the line end already seen
        self._id = last_event_id
        self._event = ""
        self._data: list[str] = []
        self._size = 0  # of _data

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete. The `id` of each is the last event ID at that
        point.

        An event that no blank line ends is never dispatched. Raises `ValueError` if one event is
        larger than `max_bytes`.
        """
        if not data:
            return []
        searched = len(self._pending)
        self._pending += data
        if self._at_start:
            if len(self._pending) < len(_BOM) and _BOM.startswith(self._pending):
                return []
            self._at_start = False
            searched = 0
            if self._pending.startswith(_BOM):
                del self._pending[: len(_BOM)]
        if self._after_cr and self._pending:
            self._after_cr = False
            if self._pending[0] == 0x0A:
                del self._pending[0]
        events = []
        start = 0
        for end in _LINE_END_BYTES.finditer(self._pending, searched):
            line = self._pending[start : end.start()].decode("utf-8", "replace")
            start = end.end()
            if line:
                self._take_line(line)
            elif event := self._dispatch():
                events.append(event)
        self._after_cr = start == len(self._pending) > 0 and self._pending[-1] == 0x0D
        del self._pending[:start]
        if len(self._pending) + self._size > self._max_bytes:
            raise ValueError(f"an event larger than {self._max_bytes} bytes")
        return events

    def _take_line(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value) + 1
        elif name == "event":
            self._event = value
        elif name == "id":
            if "\0" not in value:
                self._id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) < 19:
            self.retry = int(value)

    def _dispatch(self) -> Event | None:
        self.last_event_id = self._id
        data, event = self._data, self._event
        self._data, self._event, self._size = [], "", 0
        if not data:
            return None
        return Event("\n".join(data), event or None, self.last_event_id or None)
