"""Faults for streams of the demo, to be seen on the wire: `?fault=NAME`.

bytes     each byte is a piece of its own
join      three pieces are sent as one
buffer    nothing is sent before there are 4 KiB, as behind a proxy that buffers
stall     five seconds without a byte after the third piece
drop      the connection is cut after the third piece
"""

from __future__ import annotations

from enum import Enum
from typing import Any, cast

import trio

from ..errors import HTTPError
from ..http.exchange import Body, Exchange, Frame, TryWrite, refuse
from ..http.fields import Fields
from ..http.request import Request
from ..limits import KIB

PIECES = 3
STALL_SECONDS = 5.0
BUFFER_BYTES = 4 * KIB


class Fault(Enum):
    """What goes wrong."""

    BYTES = "bytes"
    JOIN = "join"
    BUFFER = "buffer"
    STALL = "stall"
    DROP = "drop"


def provoke(request: Request) -> None:
    """Give the streams of this request the fault that it asks for. Raises `HTTPError` 400."""
    name = request.query.get("fault")
    if not name:
        return
    try:
        fault = Fault(name)
    except ValueError:
        known = ", ".join(fault.value for fault in Fault)
        raise HTTPError(400, f"the faults are {known}") from None
    request.exchange = cast(Exchange, _FaultyExchange(request.exchange, fault))


class _FaultyExchange:
    """An exchange whose bodies have a fault."""

    def __init__(self, exchange: Exchange, fault: Fault) -> None:
        self._exchange = exchange
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    async def start(self, *arguments: Any, **options: Any) -> Body:
        body = await self._exchange.start(*arguments, **options)
        return _FaultyBody(body, self._exchange, self._fault)


class _FaultyBody:
    """A body that does not pass its pieces on as they are."""

    def __init__(self, body: Body, exchange: Exchange, fault: Fault) -> None:
        self._body = body
        self._exchange = exchange
        self._fault = fault
        self._count = 0  # pieces
        self._held = bytearray()

    @property
    def frame(self) -> Frame:
        return self._body.frame

    @property
    def try_write(self) -> TryWrite:
        return refuse

    @property
    def sending(self) -> bool:
        return self._body.sending

    async def send(self, *parts: bytes) -> None:
        piece = b"".join(parts)
        self._count += 1
        match self._fault:
            case Fault.BYTES:
                for n in range(len(piece)):
                    await self._body.send(piece[n : n + 1])
                return
            case Fault.JOIN | Fault.BUFFER:
                self._held += piece
                joined = self._fault is Fault.JOIN and self._count % PIECES == 0
                if joined or len(self._held) >= BUFFER_BYTES:
                    await self._send_held()
                return
            case Fault.STALL if self._count == PIECES + 1:
                await trio.sleep(STALL_SECONDS)
            case Fault.DROP if self._count == PIECES + 1:
                self._exchange.cancel("dropped")
        await self._body.send(piece)

    async def send_framed(self, framed: bytes) -> None:
        await self._body.send_framed(framed)

    async def end(self, trailers: Fields = ()) -> None:
        await self._send_held()
        await self._body.end(trailers)

    async def _send_held(self) -> None:
        held, self._held = bytes(self._held), bytearray()
        await self._body.send(held)
