"""A stream that carries another protocol, as a WebSocket by extended CONNECT does (RFC 8441)."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from .exchange import Http2Exchange
    from .response_body import Http2Body


class StreamOfBytes(trio.abc.Stream):
    """The bytes in the DATA frames of a stream, both ways."""

    def __init__(self, exchange: Http2Exchange, body: Http2Body) -> None:
        self._exchange = exchange
        self._body = body
        self._left = b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the next bytes; b"" at the end."""
        data = self._left or await self._exchange.receive(inf)
        size = len(data) if max_bytes is None else max_bytes
        self._left = data[size:]
        return data[:size]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        if data:
            await self._body.put(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Do not wait: `send_all` does."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Do nothing: the exchange ends its stream."""
        await trio.lowlevel.checkpoint()
