"""A transport whose bytes are recorded as they pass. The server makes one only where a recorder is
given; no other connection knows of it."""

from __future__ import annotations

from typing import Protocol

import trio

from ..limits import Limits
from .counting import CountingTransport


class Tap(Protocol):
    """Receives the bytes of one connection. It must neither wait nor raise."""

    def received(self, data: bytes) -> None:
        """These bytes were read; b"": the client has ended its direction."""

    def sent(self, data: bytes) -> None:
        """These bytes were handed to the kernel."""

    def closed(self) -> None:
        """Nothing more is read or written."""


class Recorder(Protocol):
    """Receives the bytes of all connections of a server."""

    def open(self, client: str) -> Tap | None:
        """A connection was accepted from this address ("" on a unix socket). Return its tap, or
        None if it is not to be recorded."""


class RecordedTransport(CountingTransport):
    """Records what it reads and writes, above TLS. Every byte goes through Trio, so that there is
    one place for each direction."""

    __slots__ = ("_tap",)

    def __init__(self, stream: trio.abc.Stream, limits: Limits, tap: Tap) -> None:
        super().__init__(stream, limits, shortcuts=False)
        self._tap = tap

    async def receive(self) -> bytes:
        was_given_back = self.has_unread
        data = await super().receive()
        if not was_given_back:
            self._tap.received(data)
        return data

    async def _put_some(self, parts: tuple[memoryview, ...]) -> int:
        sent = await super()._put_some(parts)
        self._tap.sent(b"".join(parts)[:sent])
        return sent

    def stop(self) -> bool:
        self._tap.closed()
        return super().stop()
