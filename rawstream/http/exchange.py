"""One request and its response, over any HTTP version: the interface for handlers and streams.

A `Request` has an `Exchange`, which responds in one of three ways:

    respond   sends a whole response
    start     sends the head of a response, and returns a `Body` to send piece by piece
    upgrade   switches to another protocol, and returns what carries it, a `ByteStream`
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Protocol, TypeAlias

from ..limits import Limits
from ..tcp.keepalive import KeepAliveScheduler
from ..tcp.transport import Transport
from .fields import Fields
from .lifetime import Ended

ByteStream: TypeAlias = Transport
"""What an upgrade returns. Over HTTP/1.1 it is the connection's transport, over HTTP/2 one around a
stream."""

Frame: TypeAlias = Callable[[bytes], bytes]
"""Turns a piece of a body, not empty, into the bytes to send."""

TryWrite: TypeAlias = Callable[[bytes], int]
"""Writes framed bytes without waiting, if possible. Returns how many were taken, which the kernel
is given in this pass of the scheduler at the latest: 0 if none were, for whatever reason. If only
some were, the rest is kept, and goes out with the next send, even an empty one, which the caller
has to arrange. Use it only while the handler waits within its stream."""


class Progress(Enum):
    """How much of a response has been made."""

    UNANSWERED = "nothing"
    BODY = "its head, but not its end"
    ENDED = "all of it"
    SWITCHED = "that the connection or stream carries another protocol"
    BROKEN = "a body that did not fit its length"


# By these names they are found ten times as fast in Python 3.11 as by their class.
UNANSWERED, BODY, ENDED, SWITCHED, BROKEN = Progress


def as_it_is(data: bytes) -> bytes:
    """A `Frame` that adds nothing."""
    return data


def refuse(data: bytes) -> int:
    """A `TryWrite` that never writes."""
    return 0


class Body(Protocol):
    """A response body being sent."""

    @property
    def frame(self) -> Frame:
        """Frames a piece. Bodies that frame their pieces in the same way have the same function."""

    @property
    def try_write(self) -> TryWrite:
        """Writes framed bytes without waiting, if possible."""

    @property
    def sending(self) -> bool:
        """Whether a send is under way; its piece may be half-sent."""

    async def send(self, *parts: bytes) -> None:
        """Send one piece, in parts. On return the kernel has it, or is given it in this pass of the
        scheduler. An empty piece sends nothing."""

    def send_framed(self, framed: bytes) -> Awaitable[None]:
        """Send bytes made by `frame`, which several bodies may share. Empty bytes send nothing."""

    async def end(self, trailers: Fields = ()) -> None:
        """Send the end of the body, with trailer fields if the framing allows them."""


class Exchange(Protocol):
    """One request and its response.

    All sends wait for a slow client. If the client has gone, they cancel the handler.
    """

    limits: Limits
    keep_alive: KeepAliveScheduler

    @property
    def is_draining(self) -> bool:
        """Whether the server was told to stop: it drains, or is about to."""

    async def receive(self, silence: float | None = None) -> bytes:
        """Return the next piece of the request body; b"" at its end. `silence` is how many seconds
        it may be silent, by default `Limits.body_seconds`."""

    async def respond(
        self, status: int, headers: Fields, *body: bytes, label: str = "plain"
    ) -> None:
        """Send a whole response. `label` names its kind in the access log."""

    async def start(
        self, status: int, headers: Fields, length: int | None = None, *, label: str
    ) -> Body:
        """Send the head of a response. Its body follows: `length` bytes, or until it is ended."""

    async def upgrade(self, headers: Fields, *, label: str) -> ByteStream:
        """Accept an upgrade. The connection then carries another protocol; bytes that arrived right
        after the request are received first."""

    def tell_of_bytes(self, on_bytes: Callable[[], None] | None) -> bool:
        """After an upgrade: call `on_bytes` when bytes or the end have arrived, until it is None.
        It must not block or raise, and must receive until there are no more bytes. Return False if
        that cannot be told: then a task has to wait for them."""

    def on_drain(self, farewell: Callable[[], Awaitable[None]] | None) -> None:
        """Declare that this response has no end of its own: when the server stops, cancel the
        handler at once, and call `farewell` to end the response. None: it has an end after all."""

    def cancel(self, reason: Ended | str, grace: float = 0) -> None:
        """Cancel the handler, within `grace` seconds. The access log gives the reason."""
