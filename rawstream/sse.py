r"""Server-Sent Events: a stream of text that a browser's EventSource reads and resumes.

    id: 7\n                  where to go on from; comes back in Last-Event-ID
    event: tick\n            the type; "message" if left out
    data: first line\n
    data: second line\n
    \n                       the blank line dispatches the event

WHATWG HTML section 9.2, "Server-sent events". Three parts: `Event` is one event and its bytes,
`EventDecoder` reads them as a browser does, `open_events` answers a request with a stream of
them. Nothing here knows about chunks: over HTTP/1.1 the stream is chunked like any other.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

import trio

from .errors import TORN, BrokenStream, ClientGone
from .limits import MIB
from .request import Fields, Request
from .stream import Body

DEFAULT_RETRY = 3000
"""Milliseconds an EventSource waits before it comes back when nothing else was said; browsers
choose 3 to 5 seconds."""

_LINE_END = re.compile("\r\n|\r|\n")
_LINE_END_BYTES = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


# -- One event ------------------------------------------------------------------------------------


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
            lines += [f": {line}" for line in _LINE_END.split(self.comment)]
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
            lines += [f"data: {line}" for line in _LINE_END.split(self.data)]
        return "".join(f"{line}\n" for line in (*lines, "")).encode()


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


# -- A stream of events ---------------------------------------------------------------------------


def open_events(
    request: Request,
    *,
    heartbeat: float | None = None,
    retry: int | None = None,
    headers: Fields = (),
) -> EventStream:
    """Answer with an event stream: `async with open_events(request) as events:`.

    `request.last_event_id` says where a returning client stopped. When the stream is silent for
    `heartbeat` seconds, by default `Limits.heartbeat_seconds`, a comment is sent. `retry` is how
    many milliseconds the client shall wait before it comes back when the stream has ended.
    """
    seconds = request.exchange.limits.heartbeat_seconds if heartbeat is None else heartbeat
    if not seconds > 0:
        raise ValueError("a heartbeat comes every so many seconds, more than 0; inf is never")
    fields = [
        ("Content-Type", "text/event-stream"),
        ("Cache-Control", "no-cache, no-transform"),
        ("X-Accel-Buffering", "no"),
        *headers,
    ]
    return EventStream(request, fields, seconds, retry)


class EventStream(Body):
    """An event stream under way. Made by `open_events`."""

    __slots__ = ("__weakref__", "_retry", "beating", "interval", "last_sent")

    def __init__(
        self, request: Request, fields: Fields, heartbeat: float, retry: int | None
    ) -> None:
        super().__init__(request, "sse", 200, fields, endless=True)
        self._retry = retry
        self.beating = True
        self.interval = heartbeat

    async def __aenter__(self) -> EventStream:
        await super().__aenter__()
        if self._retry is not None:
            await self.send(retry=self._retry)
        self.last_sent = trio.current_time()
        self._exchange.pacemaker.pace(self)
        return self

    async def __aexit__(self, exc_type: object, exc: object, traceback: object) -> None:
        self.beating = False
        await super().__aexit__(exc_type, exc, traceback)

    async def send(
        self,
        data: str | None = None,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: int | None = None,
        comment: str | None = None,
    ) -> None:
        """Send one event (the fields are those of `Event`); it is on the wire when this returns.

        Waits for a slow reader and may be cancelled as `Stream.send`. Raises `ValueError` as
        `Event.encode` does, before anything is sent.
        """
        await self.send_encoded(Event(data, event, id, retry, comment).encode())

    async def send_encoded(self, data: bytes) -> None:
        """Send whole events that are bytes already, as `send` does."""
        await self._exchange.send(data)
        self.last_sent = trio.current_time()

    async def beat(self) -> None:
        """A comment of nothing, so that proxies and the client see that the stream is alive."""
        try:
            if self.beating and not self._exchange.sending:
                await self._exchange.send(b":\n\n")
        except BrokenStream:
            self._exchange.cancel(TORN)
        except ClientGone:
            pass  # and its handler cancelled

    async def _farewell(self) -> None:
        """The server stops: the client shall come back, but not all clients at once."""
        retry = self._retry or DEFAULT_RETRY
        await self.send(retry=round(random.uniform(retry, 2 * retry)))
        await self._exchange.end()
