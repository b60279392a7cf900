"""One request and its response, whatever carries them: what handlers and streams stand on.

A `Request` has an `Exchange`. It answers in one of three ways:

    respond   a whole response
    start     the head of one; the `Body` it returns is sent piece by piece
    upgrade   another protocol: the `ByteStream` it returns is the connection itself
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from ..limits import Limits
from ..tcp.keepalive import KeepAliveScheduler
from ..tcp.transport import Transport
from .fields import Fields
from .lifetime import Ended

ByteStream: TypeAlias = Transport
"""What an upgrade returns. Over HTTP/1.1 it is the connection's transport."""

Frame: TypeAlias = Callable[[bytes], bytes]
"""Makes of a piece of a body, not empty, the bytes that it is on the wire."""

TryWrite: TypeAlias = Callable[[bytes], int]
"""Takes framed bytes without waiting, if that can be done: the count of bytes that are out. 0: none
were taken, for whatever reason. Less than all: the rest is taken as well, and goes out with the
next send, be it of nothing, which somebody has to call. To be used while the handler, within its
stream, waits, and no longer."""


def as_it_is(data: bytes) -> bytes:
    """A `Frame` that adds nothing."""
    return data


def refuse(data: bytes) -> int:
    """A `TryWrite` that never can."""
    return 0


class Body(Protocol):
    """A response body under way."""

    @property
    def frame(self) -> Frame:
        """How pieces are framed here; the same function wherever they are framed alike."""

    @property
    def try_write(self) -> TryWrite:
        """Takes framed bytes without waiting, if that can be done."""

    @property
    def sending(self) -> bool:
        """Whether a send is under way, its bytes perhaps half on the wire."""

    async def send(self, *parts: bytes) -> None:
        """Send one piece, in parts. It is with the kernel when this returns. Empty is nothing."""

    def send_framed(self, framed: bytes) -> Awaitable[None]:
        """Send what `frame` has made, which others may be sent, too; empty is nothing."""

    async def end(self, trailers: Fields = ()) -> None:
        """Send the end of the body, with trailer fields where the framing has a place for them."""


class Exchange(Protocol):
    """One request and its response.

    All sends wait for a slow reader. When the client has gone they cancel the handler.
    """

    limits: Limits
    keep_alive: KeepAliveScheduler

    async def receive(self, silence: float | None = None) -> bytes:
        """The next piece of the request body; b"" when it is over. `silence` is how many seconds it
        may be silent, by default `Limits.body_seconds`."""

    async def respond(
        self, status: int, headers: Fields, *body: bytes, label: str = "plain"
    ) -> None:
        """Send a whole response. `label` says in the access log how it travelled."""

    async def start(
        self, status: int, headers: Fields, length: int | None = None, *, label: str
    ) -> Body:
        """Send the head of a response whose body follows: `length` bytes, or until its end."""

    async def upgrade(self, headers: Fields, *, label: str) -> ByteStream:
        """Accept an upgrade. From here on the connection is another protocol's; bytes that came
        right behind the request are received first."""

    def on_drain(self, farewell: Callable[[], Awaitable[None]] | None) -> None:
        """This response has no end of its own: when the server stops, cancel the handler at
        once and let `farewell` end it on the wire. None: it has an end after all."""

    def cancel(self, reason: Ended | str, grace: float = 0) -> None:
        """Cancel the handler, after `grace` seconds at the latest; the access log says why."""
