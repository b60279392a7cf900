"""Heartbeats: a stream that is silent for long looks like one that has died, to proxies and to
clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

from ..errors import BrokenStream, ClientGone
from ..http.exchange import Body, Exchange
from ..http.fields import Fields
from ..http.lifetime import Ended
from ..http.request import Request
from .stream import BodyStream

Self = TypeVar("Self", bound="BeatingStream")


class BeatingStream(BodyStream):
    """An endless stream with a heartbeat."""

    __slots__ = ("heartbeat",)

    def __init__(
        self, request: Request, label: str, fields: Fields, *, interval: float, beat: bytes
    ) -> None:
        super().__init__(request, label, 200, fields, endless=True)
        self.heartbeat = Heartbeat(request.exchange, interval, beat)

    async def __aenter__(self: Self) -> Self:
        await super().__aenter__()
        self.heartbeat.start(self.body)
        return self

    async def __aexit__(self, exc_type: object, exc: object, traceback: object) -> None:
        self.heartbeat.active = False
        await super().__aexit__(exc_type, exc, traceback)


class Sender(Protocol):
    """Code that sends events to a body directly."""

    last_sent: float
    """When it last did, by `trio.current_time()`."""


class Heartbeat:
    """Sends something without a meaning whenever a stream has been silent, so that proxies and the
    client see that it is alive."""

    __slots__ = (
        "__weakref__", "_body", "_exchange", "active", "beat", "interval", "last_sent", "other",
    )  # fmt: skip

    beat: bytes | Callable[[], bytes]
    """What is sent."""
    other: Sender | None
    """Another sender on the same body."""

    def __init__(self, exchange: Exchange, interval: float, beat: bytes) -> None:
        self.beat = beat
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
        """Send the beat, unless a send is under way."""
        try:
            if self.active and not self._body.sending:
                await self._body.send(self.beat() if callable(self.beat) else self.beat)
                self.last_sent = trio.current_time()
        except BrokenStream:
            self._exchange.cancel(Ended.TORN)
        except ClientGone:
            pass  # its handler has been cancelled
