"""Opening a WebSocket: the handshake, the block in which it is used, and the close."""

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

    The first of `subprotocols` that the client offers is chosen. `origins` lists the browser
    origins that may connect, by default only our own ("*": any). `compression` accepts
    permessage-deflate if the client offers it; zlib's windows make such a connection much larger.
    A received message larger than `Limits.message_bytes` closes the WebSocket with 1009.

    Leaving the block closes with 1000, or with 1011 if an exception leaves it, and waits up to
    `Limits.close_seconds` for the client's Close. A client that leaves cancels the handler. A
    handler that is receiving first gets the messages that had arrived, then the end, and has
    `Limits.leave_seconds` to finish. When the server stops, the handler is cancelled, and the
    WebSocket is closed with 1001.

    Raises `HTTPError` 400, 403, 405 or 426 if the handshake is not acceptable.
    """
    if isinstance(subprotocols, str):
        raise TypeError("subprotocols is a sequence of strings, not one string")
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
    exchange.on_drain(ws._farewell)
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            ws._run_in(nursery)
            try:
                yield ws
            except WebSocketClosed:
                pass  # the handler has noticed the close; leave the block normally
            except Exception as error:
                failure = error  # raised below, outside of the nursery's exception group
            with suppress(WebSocketClosed, BrokenStream):
                await ws.close(INTERNAL_ERROR if failure else NORMAL)
            exchange.on_drain(None)  # not earlier: a drain may cancel before the Close is sent
            nursery.cancel_scope.cancel()
    finally:
        ws._stop()
    if failure is not None:
        raise failure
