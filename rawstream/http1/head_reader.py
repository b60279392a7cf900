"""Reading the head of a request: its bytes are kept until it is whole, under one deadline."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from ..http.lifetime import Ended
from ..limits import Limits
from ..tcp.transport import Transport
from .head import END_OF_HEAD, check_unfinished_head


class HeadReader:
    """Reads the heads of one connection, one after the other."""

    __slots__ = ("_is_first", "_limits", "_now", "_transport", "began", "received")

    def __init__(self, transport: Transport, limits: Limits, now: Callable[[], float]) -> None:
        """`now` is the clock of `began`."""
        self.received = bytearray()
        """Bytes received and not yet used: the next head, or a part of it."""
        self.began: float | None = None
        """When the first byte of the head arrived; None between exchanges."""
        self._is_first = True
        self._transport = transport
        self._limits = limits
        self._now = now

    async def read(self) -> bytes | Ended:
        """Return a head, with its empty line, or why there is none. Raises `HTTPError`.

        One deadline covers the whole head. It runs from the first byte, or from accept for the
        first head of a connection; no later byte moves it.
        """
        received = self.received
        seconds = self._limits.head_seconds
        deadline = self._now() + seconds if self._is_first else inf
        self._is_first = False
        checked = 0
        skipped = False
        while True:
            if received:
                if received.startswith(b"\r\n") and not skipped:
                    # RFC 9112 section 2.2: ignore an empty line before a request.
                    del received[:2]
                    skipped = True
                if received and received != b"\r" and self.began is None:
                    self.began = self._now()
                end = received.find(END_OF_HEAD, max(0, checked - len(END_OF_HEAD)))
                if end >= 0:
                    break
                if self.began is not None:
                    check_unfinished_head(received, checked, self._limits)
                    deadline = min(deadline, self.began + seconds)
                    checked = len(received)
            data: bytes | None
            if deadline == inf:
                data = await self._transport.receive()
            else:
                data = await self._receive_by(deadline)
            if data is None:
                return Ended.IDLE if self.began is None else Ended.HEAD_TOO_SLOW
            if not data:
                return Ended.CLIENT_LEFT
            if not received and 0 < data.find(END_OF_HEAD) == len(data) - len(END_OF_HEAD):
                self.began = self._now()
                return data  # a head and nothing else, as nearly always
            received += data
        end += len(END_OF_HEAD)
        head = bytes(received[:end])
        del received[:end]
        return head

    async def _receive_by(self, deadline: float) -> bytes | None:
        data = self._transport.receive_nowait()  # cheaper than a deadline
        if data is not None:
            return data
        return await self._transport.receive_within(max(0, deadline - self._now()))
