"""Opening a WebSocket: the handshake, the block in which it is used, and its close."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress

import trio

from ..errors import BrokenStream, WebSocketClosed
from ..http.request import Request
from .connection import INTERNAL_ERROR, NORMAL, WebSocket
from .deflate import accept_deflate
from .handshake import accept_fields, check_handshake, choose_subprotocol


@asynccontextmanager
async def open_websocket(
    request: Request,
    *,
    subprotocols: Sequence[str] = (),
    origins: Collection[str] | None = None,
    compression: bool = False,
) -> AsyncIterator[WebSocket]:
    """Accept a WebSocket: `async with open_websocket(request) as ws:`.

    The first of `subprotocols` that the client offers is chosen. `origins` are the browser
    origins let in, by default only our own. A message larger than `Limits.message_bytes`
    closes with 1009. `compression` accepts permessage-deflate if it is offered; zlib's windows then
    make a connection much larger.

    Leaving the block closes with 1000, or 1011 if by an exception, and waits
    `Limits.close_seconds` for the client's Close. A client that leaves cancels the handler;
    one that is reading is first given what had arrived, and then the end, and has
    `Limits.leave_seconds` to finish. When the server stops the handler is cancelled, and the
    WebSocket closed with 1001.

    Raises `HTTPError` 400, 403, 405 or 426 if the handshake is not acceptable.
    """
    if isinstance(subprotocols, str):
        raise TypeError("subprotocols are a sequence of strings")
    check_handshake(request, origins)
    fields = accept_fields(request)
    subprotocol = choose_subprotocol(request, subprotocols)
    if subprotocol is not None:
        fields.append(("Sec-WebSocket-Protocol", subprotocol))
    deflate = None
    if compression and (accepted := accept_deflate(request)):
        deflate, answer = accepted
        fields.append(("Sec-WebSocket-Extensions", answer))
    exchange = request.exchange
    stream = await exchange.upgrade(fields, label="websocket")
    ws = WebSocket(request, stream, subprotocol, deflate)
    exchange.on_drain(ws.farewell)
    exchange.keep_alive.add(ws)
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            ws.run_in(nursery)
            try:
                yield ws
            except WebSocketClosed:
                pass  # the end of the block is what it was about to reach
            except Exception as error:
                failure = error  # leaves as it is, not in a group
            exchange.on_drain(None)
            with suppress(WebSocketClosed, BrokenStream):
                await ws.close(INTERNAL_ERROR if failure else NORMAL)
            nursery.cancel_scope.cancel()
    finally:
        ws.run_in(None)
        ws.active = False
    if failure is not None:
        raise failure
