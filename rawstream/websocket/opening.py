"""Opening a WebSocket: the handshake, the block in which it is used, and the close."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager, suppress

from ..errors import BrokenStream, WebSocketClosed
from ..http.request import Request
from .connection import INTERNAL_ERROR, NORMAL, WebSocket
from .deflate import accept_deflate
from .handshake import accept_fields, check_handshake, choose_subprotocol


def open_websocket(
    request: Request,
    *,
    subprotocols: Sequence[str] = (),
    origins: Collection[str] | None = None,
    compression: bool = False,
) -> AbstractAsyncContextManager[WebSocket]:
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

    Entering the block raises `HTTPError` 400, 403, 405 or 426 if the handshake is not acceptable.
    """
    if isinstance(subprotocols, str):
        raise TypeError("subprotocols is a sequence of strings, not one string")
    return _Opening(request, subprotocols, origins, compression)


class _Opening(AbstractAsyncContextManager[WebSocket]):
    __slots__ = ("_compression", "_origins", "_request", "_subprotocols", "_ws")

    def __init__(
        self,
        request: Request,
        subprotocols: Sequence[str],
        origins: Collection[str] | None,
        compression: bool,
    ) -> None:
        self._request = request
        self._subprotocols = subprotocols
        self._origins = origins
        self._compression = compression

    async def __aenter__(self) -> WebSocket:
        request = self._request
        check_handshake(request, self._origins)
        fields = accept_fields(request)
        subprotocol = choose_subprotocol(request, self._subprotocols)
        if subprotocol is not None:
            fields.append(("Sec-WebSocket-Protocol", subprotocol))
        deflate = None
        if self._compression and (accepted := accept_deflate(request)):
            deflate, answer = accepted
            fields.append(("Sec-WebSocket-Extensions", answer))
        stream = await request.exchange.upgrade(fields, label="websocket")
        self._ws = WebSocket(request, stream, subprotocol, deflate)
        self._ws._start()
        return self._ws

    async def __aexit__(self, kind: object, error: object, traceback: object) -> bool:
        was_closed = isinstance(error, WebSocketClosed)  # and the handler has noticed it
        try:
            if error is None or isinstance(error, Exception):
                code = NORMAL if error is None or was_closed else INTERNAL_ERROR
                with suppress(WebSocketClosed, BrokenStream):
                    await self._ws.close(code)
                # Not earlier: a drain may cancel before the Close is sent.
                self._request.exchange.on_drain(None)
        finally:
            await self._ws._stop()
        return was_closed
