"""A stream that carries another protocol, as a WebSocket by extended CONNECT does (RFC 8441)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio


class StreamOfBytes(trio.abc.Stream):
    """The bytes in the DATA frames of a stream, both ways."""

    def __init__(
        self, receive: Callable[[], Awaitable[bytes]], send: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """`receive` returns what the next DATA frames hold, b"" at the end; `send` makes some."""
        self._receive = receive
        self._send = send
        self._left = b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the next bytes; b"" at the end."""
        data = self._left or await self._receive()
        size = len(data) if max_bytes is None else max_bytes
        self._left = data[size:]
        return data[:size]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        if data:
            await self._send(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Do not wait: `send_all` does."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Do nothing: the exchange ends its stream."""
        await trio.lowlevel.checkpoint()
