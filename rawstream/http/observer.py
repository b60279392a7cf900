"""What an observer of a server is told, and what it may read: for metrics, or anything else that
counts.

A server without an observer counts nothing for one. Numbers that the server has anyway are read
when somebody asks for them; only what has ended is told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from ..tcp.admission import ConnectionLimits
from .lifetime import Ended


class ObservedExchange(Protocol):
    """A request that is being answered."""

    status: int
    """0 until the head of the response is out."""
    label: str
    """Names the kind of response, once there is one."""


class ObservedConnection(Protocol):
    """A connection."""

    @property
    def protocol(self) -> str:
        """ "HTTP/1" or "HTTP/2"."""

    @property
    def bytes_sent(self) -> int:
        """As they are inside TLS."""

    @property
    def bytes_received(self) -> int:
        """The same; counted only for an observer."""

    @property
    def ended(self) -> Ended | str | None:
        """Why it has ended, once it has."""

    def exchanges(self) -> Iterable[ObservedExchange]:
        """Those whose handlers are running."""

    def drain(self) -> None:
        """End what has no end of its own; take no more requests."""


class ObservedServer(Protocol):
    """A server."""

    stopping: bool
    """Whether it was told to stop."""
    drain_began: float | None
    drain_ended: float | None
    """When the drain began and ended, by `trio.current_time()`; None if it has not."""

    @property
    def live(self) -> Collection[ObservedConnection]:
        """The connections that are open."""

    @property
    def counts(self) -> ConnectionLimits:
        """How many connections there were."""


class Observer(Protocol):
    """Is told of what servers do. Its methods must neither wait nor raise."""

    def server_started(self, server: ObservedServer) -> None:
        """A server accepts connections. It may be read at any time."""

    def connection_ended(self, connection: ObservedConnection) -> None:
        """A connection was closed."""

    def exchange_ended(
        self, method: str, exchange: ObservedExchange, reason: Ended | str | None, seconds: float
    ) -> None:
        """A request was answered, or could not be, after so many seconds. `method` is "" if its
        head was refused."""
