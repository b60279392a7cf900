r"""One Server-Sent Event, as bytes and back (WHATWG HTML section 9.2).

    id: 7\n                  where to go on from; comes back in Last-Event-ID
    event: tick\n            the type; "message" if left out
    data: first line\n
    data: second line\n
    \n                       the blank line dispatches the event

`Event` makes the bytes, `EventDecoder` reads them as a browser does. No I/O.
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
    """The payload. Its line ends, whichever they are, arrive as LF. Without data nothing is
    dispatched, but `id` and `retry` still count."""
    event: str | None = None
    """The type that listeners are added for; None is "message"."""
    id: str | None = None
    """What the client brings back in `Last-Event-ID`; "" makes it forget the last one."""
    retry: int | None = None
    """Milliseconds the client is to wait before it reconnects."""
    comment: str | None = None
    """Ignored by clients; for heartbeats and for people who read the wire."""

    def encode(self) -> bytes:
        """The bytes on the wire, with the blank line at the end.

        Raises `ValueError` for CR, LF or NUL in `event` or `id`, with which whoever chose the
        value could forge fields and events of their own, and for a negative `retry`.
        """
        lines = []
        if self.comment is not None:
            lines.append(_field(": ", self.comment))
        for name, value in (("event", self.event), ("id", self.id)):
            if value is not None:
                if any(forbidden in value for forbidden in "\r\n\0"):
                    raise ValueError(f"CR, LF or NUL in the {name} of an event: {value!r}")
                lines.append(f"{name}: {value}")
        if self.retry is not None:
            if self.retry < 0:
                raise ValueError(f"retry must not be negative: {self.retry}")
            lines.append(f"retry: {self.retry:d}")
        if self.data is not None:
            lines.append(_field("data: ", self.data))
        return "".join(f"{line}\n" for line in (*lines, "")).encode()


def _field(name: str, value: str) -> str:
    """A field of as many lines as its value has."""
    if "\r" in value:
        value = _LINE_END.sub("\n", value)
    return name + value.replace("\n", f"\n{name}")


class EventDecoder:
    """Reads an event stream as a browser does: bytes in, cut anywhere, events out.

    `last_event_id` is what a reconnecting client has to send, `retry` the reconnection time in
    milliseconds once the stream has given one.
    """

    def __init__(self, *, last_event_id: str = "", max_bytes: int = MIB) -> None:
        """`max_bytes` bounds what is kept of an event that has not ended."""
        self.last_event_id = last_event_id
        self.retry: int | None = None
        self._max_bytes = max_bytes
        self._pending = bytearray()  # the line that has not ended
        self._at_start = True  # a byte order mark may still come
        self._after_cr = False  # an LF that comes next belongs to a line end already seen
        self._id = last_event_id
        self._event = ""
        self._data: list[str] = []
        self._size = 0  # of _data

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete, each with the ID that is the last one by then.

        What has not been ended by a blank line is never dispatched. Raises `ValueError` when
        one event grows over `max_bytes`.
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
