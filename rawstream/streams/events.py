"""Answering with a stream of events, which an EventSource reads and resumes.

Chunks are not mentioned here: over HTTP/1.1 an event stream is a chunked body like any other.
"""

from __future__ import annotations

import random

import trio

from ..http.fields import Fields
from ..http.json_text import json_text
from ..http.request import Request
from .event import Event
from .heartbeat import BeatingStream
from .stream import entered

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


class EventStream(BeatingStream):
    """An event stream under way. Made by `open_events`."""

    __slots__ = ("_retry",)

    def __init__(
        self, request: Request, fields: Fields, heartbeat: float, retry: int | None
    ) -> None:
        super().__init__(request, "sse", fields, interval=heartbeat, beat=b":\n\n")
        self._retry = retry

    async def __aenter__(self) -> EventStream:
        await super().__aenter__()
        if self._retry is not None:
            await self.send(retry=self._retry)
        return self

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
        """Send one event. The fields are those of `Event`; `json` is a value whose JSON text is the
        data.

        It is handed to the kernel, waits for a slow reader and may be cancelled as `Stream.send`.
        Raises `TypeError` and `ValueError` as `Event.encode` does, before anything is sent.
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
