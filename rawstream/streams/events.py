"""Answering with a stream of events, which an EventSource reads and resumes.

Chunks are not mentioned here: over HTTP/1.1 an event stream is a chunked body like any other.
"""

from __future__ import annotations

import random
from typing import Protocol

import trio

from ..errors import BrokenStream, ClientGone
from ..http.exchange import Body, Exchange
from ..http.fields import Fields
from ..http.json_text import json_text
from ..http.lifetime import Ended
from ..http.request import Request
from .event import Event
from .stream import BodyStream, entered

DEFAULT_RETRY = 3000
"""Milliseconds an EventSource waits before it reconnects when the stream has not said; browsers use
3,000 to 5,000."""


def open_events(
    request: Request,
    *,
    heartbeat: float | None = None,
    retry: int | None = None,
    headers: Fields = (),
) -> EventStream:
    """Answer with an event stream: `async with open_events(request) as events:`.

    `request.last_event_id` tells where a client that reconnects has stopped. After `heartbeat`
    seconds of silence, by default `Limits.heartbeat_seconds`, a comment is sent; `math.inf` means
    never. `retry` is the number of milliseconds that the client waits before it reconnects.
    `headers` are added to the response.

    Leaving the block ends the stream; an EventSource then reconnects unless the page has closed
    it. When the server stops, the handler is cancelled and the stream ends properly.
    """
    seconds = request.exchange.limits.heartbeat_seconds if heartbeat is None else heartbeat
    if not seconds > 0:
        raise ValueError("heartbeat is a number of seconds, more than 0; math.inf means never")
    if retry is not None:
        Event(retry=retry).encode()  # raises now, not after the head of the response
    fields = [
        ("Content-Type", "text/event-stream"),
        ("Cache-Control", "no-cache, no-transform"),
        ("X-Accel-Buffering", "no"),
        *headers,
    ]
    return EventStream(request, fields, seconds, retry)


class EventStream(BodyStream):
    """An event stream under way. Made by `open_events`."""

    __slots__ = ("_retry", "heartbeat")

    def __init__(
        self, request: Request, fields: Fields, heartbeat: float, retry: int | None
    ) -> None:
        super().__init__(request, "sse", 200, fields, endless=True)
        self._retry = retry
        self.heartbeat = Heartbeat(request.exchange, heartbeat)

    async def __aenter__(self) -> EventStream:
        await super().__aenter__()
        if self._retry is not None:
            await self.send(retry=self._retry)
        self.heartbeat.start(self.body)
        return self

    async def __aexit__(self, exc_type: object, exc: object, traceback: object) -> None:
        self.heartbeat.active = False
        await super().__aexit__(exc_type, exc, traceback)

    async def send(
        self,
        data: str | None = None,
        *,
        json: object = ...,
        event: str | None = None,
        id: str | None = None,
        retry: int | None = None,
        comment: str | None = None,
    ) -> None:
        """Send one event. It has been handed to the kernel when this returns. The fields are those
        of `Event`; `json` is a value whose JSON text is the data.

        Waits for a slow reader and may be cancelled as `Stream.send`. Raises `TypeError` and
        `ValueError` as `Event.encode` does, before anything is sent.
        """
        if json is not ...:
            if data is not None:
                raise TypeError("an event has data or json=, not both")
            data = json_text(json)
        await entered(self).send(Event(data, event, id, retry, comment).encode())
        self.heartbeat.last_sent = trio.current_time()

    async def _farewell(self) -> None:
        """Ask the client to reconnect, but not all clients at once, and end the stream."""
        retry = self._retry or DEFAULT_RETRY
        await self.send(retry=round(random.uniform(retry, 2 * retry)))
        await self.body.end()


class Sender(Protocol):
    """Code that sends events to a body directly."""

    last_sent: float
    """When it last did, by `trio.current_time()`."""


class Heartbeat:
    """Sends a comment whenever an event stream has been silent, so that proxies and the client see
    that it is alive."""

    __slots__ = ("__weakref__", "_body", "_exchange", "active", "interval", "last_sent", "other")

    other: Sender | None
    """Another sender on the same body."""

    def __init__(self, exchange: Exchange, interval: float) -> None:
        self.interval = interval
        self.active = False
        self.last_sent = 0.0
        self.other = None
        self._exchange = exchange

    def start(self, body: Body) -> None:
        """The stream has begun."""
        self._body = body
        self.active = True
        self.last_sent = trio.current_time()
        self._exchange.keep_alive.add(self)

    @property
    def last_active(self) -> float:
        """When something was last sent."""
        return self.last_sent if self.other is None else max(self.last_sent, self.other.last_sent)

    async def on_due(self) -> None:
        """Send the comment, unless a send is under way."""
        try:
            if self.active and not self._body.sending:
                await self._body.send(b":\n\n")
                self.last_sent = trio.current_time()
        except BrokenStream:
            self._exchange.cancel(Ended.TORN)
        except ClientGone:
            pass  # its handler has been cancelled
