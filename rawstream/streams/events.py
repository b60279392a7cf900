"""Answering with a stream of events: what an EventSource reads, and resumes.

Nothing here knows about chunks: over HTTP/1.1 an event stream is chunked like any other.
"""

from __future__ import annotations

import random
from typing import Protocol

import trio

from ..errors import BrokenStream, ClientGone
from ..http.fields import Fields
from ..http.lifetime import Ended
from ..http.request import Request
from .event import Event
from .stream import NOT_ENTERED, BodyStream

DEFAULT_RETRY = 3000
"""Milliseconds an EventSource waits before it comes back when nothing else was said; browsers
choose 3 to 5 seconds."""


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


class Sender(Protocol):
    """What sends events."""

    last_sent: float
    """When it last did, by `trio.current_time()`."""


class EventStream(BodyStream):
    """An event stream under way. Made by `open_events`."""

    __slots__ = ("__weakref__", "_last_sent", "_retry", "active", "interval", "sent_past")

    sent_past: Sender | None
    """What else sends on this stream, past this object."""

    def __init__(
        self, request: Request, fields: Fields, heartbeat: float, retry: int | None
    ) -> None:
        super().__init__(request, "sse", 200, fields, endless=True)
        self._retry = retry
        self.active = True
        self.interval = heartbeat
        self.sent_past = None

    async def __aenter__(self) -> EventStream:
        await super().__aenter__()
        if self._retry is not None:
            await self.send(retry=self._retry)
        self._last_sent = trio.current_time()
        self._exchange.keep_alive.add(self)
        return self

    async def __aexit__(self, exc_type: object, exc: object, traceback: object) -> None:
        self.active = False
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
        """Send one event (the fields are those of `Event`); it is with the kernel when this
        returns.

        Waits for a slow reader and may be cancelled as `Stream.send`. Raises `ValueError` as
        `Event.encode` does, before anything is sent.
        """
        await self.send_encoded(Event(data, event, id, retry, comment).encode())

    async def send_encoded(self, *parts: bytes) -> None:
        """Send whole events that are bytes already, in parts, as `send` does."""
        try:
            body = self.body
        except AttributeError:
            raise RuntimeError(NOT_ENTERED) from None
        await body.send(*parts)
        self._last_sent = trio.current_time()

    @property
    def last_active(self) -> float:
        """When something was last sent."""
        if self.sent_past is None:
            return self._last_sent
        return max(self._last_sent, self.sent_past.last_sent)

    async def on_due(self) -> None:
        """A comment of nothing, so that proxies and the client see that the stream is alive."""
        try:
            if self.active and not self.body.sending:
                await self.send_encoded(b":\n\n")
        except BrokenStream:
            self._exchange.cancel(Ended.TORN)
        except ClientGone:
            pass  # and its handler cancelled

    async def _farewell(self) -> None:
        """The server stops: the client shall come back, but not all clients at once."""
        retry = self._retry or DEFAULT_RETRY
        await self.send(retry=round(random.uniform(retry, 2 * retry)))
        await self.body.end()
