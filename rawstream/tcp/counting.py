"""A transport that counts the bytes that it receives. The server makes one only where somebody
wants to know; every transport counts the bytes that it sends."""

from __future__ import annotations

import trio

from ..limits import Limits
from .transport import Transport


class CountingTransport(Transport):
    """Counts what it reads, inside TLS."""

    __slots__ = ("bytes_received",)

    def __init__(self, stream: trio.abc.Stream, limits: Limits, *, shortcuts: bool = True) -> None:
        super().__init__(stream, limits, shortcuts=shortcuts)
        self.bytes_received = 0

    async def receive(self) -> bytes:
        was_given_back, before = self.has_unread, self.bytes_received
        data = await super().receive()
        if not was_given_back and self.bytes_received == before:  # else `receive_nowait` has read
            self.bytes_received += len(data)
        return data

    def receive_nowait(self) -> bytes | None:
        was_given_back = self.has_unread
        data = super().receive_nowait()
        if data and not was_given_back:
            self.bytes_received += len(data)
        return data
