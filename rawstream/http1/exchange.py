"""One request and its response over HTTP/1.x: `Exchange`, implemented with h11."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import lru_cache

import h11
import trio

from ..errors import ClientGone, reason_phrase
from ..http.context import ServerContext
from ..http.exchange import ByteStream
from ..http.fields import Fields, checked, encoded
from ..http.lifetime import Ended, Lifetime
from ..tcp.transport import Transport
from .request_body import YIELD_EVERY_PIECES, RequestBody
from .response_body import Framing, Http1Body, send_committed

_END = h11.EndOfMessage()


class Http1Exchange:
    """The exchange under way on a connection."""

    label = "plain"
    is_over = False  # the connection carries the next one; using this one is an error

    # The request:
    head_only = False
    is_refused = True  # until its head has passed all checks
    body: RequestBody | None = None  # None if the request has none
    reads_on = False  # the handler is reading: data from before the client left is still delivered

    # The response:
    status = 0  # set once the head is out
    response: Http1Body | None = None  # the body that was started
    farewell: Callable[[], Awaitable[None]] | None = None

    def __init__(
        self,
        context: ServerContext,
        transport: Transport,
        h11_connection: h11.Connection,
        lifetime: Lifetime,
        received: bytearray,
        *,
        last: bool,
    ) -> None:
        """`received` holds the bytes behind the request that do not belong to its body; `last`: the
        connection closes after this exchange."""
        self.limits = context.limits
        self.keep_alive = context.keep_alive
        self.last = last
        self._context = context
        self._transport = transport
        self._h11 = h11_connection
        self._lifetime = lifetime
        self._received = received

    @property
    def is_upgraded(self) -> bool:
        """Whether the connection has switched to another protocol."""
        return self._h11.our_state is h11.SWITCHED_PROTOCOL

    @property
    def looks_whole(self) -> bool:
        """Whether a client could take the unfinished body for a complete one."""
        body = self.response
        return body is not None and body.framing is Framing.UNTIL_CLOSE and not body.has_ended

    def on_drain(self, farewell: Callable[[], Awaitable[None]] | None) -> None:
        self.farewell = farewell
        if farewell and self._context.draining:
            self.cancel(Ended.DRAINED)

    def cancel(self, reason: Ended | str, grace: float = 0) -> None:
        self._lifetime.cancel(reason, grace)

    # -- The request body -----------------------------------------------------------------------

    async def receive(self, silence: float | None = None) -> bytes:
        self.check_not_over()
        body = self.body
        if body is None:
            return b""
        self.reads_on = True
        while (piece := body.next_piece()) is None:
            if self._h11.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                await self._transport.send(self._h11.send(go_on))
            data = self._transport.receive_nowait()
            if data is None:
                seconds = self.limits.body_seconds if silence is None else silence
                data = await self._transport.receive_within(seconds)
            if not data:
                self.cancel(Ended.BODY_TOO_SLOW if data is None else Ended.CLIENT_LEFT)
                await trio.lowlevel.checkpoint()
                raise ClientGone
            self._h11.receive_data(data)
        if piece:
            body.pieces += 1
            if body.pieces % YIELD_EVERY_PIECES == 0:
                await trio.lowlevel.checkpoint()
        else:
            self.reads_on = False
        return piece

    def skip_received_body(self) -> bool:
        """Discard what has arrived of a body that the handler did not ask for. Return whether that
        was all of it."""
        return self.body is None or self.body.skip_received()

    # -- The response ---------------------------------------------------------------------------

    async def respond(
        self, status: int, headers: Fields, *body: bytes, label: str = "plain"
    ) -> None:
        await self._check_unanswered()
        self.label = label
        # The rest of an unread body would stand before the next request.
        unread = not self.skip_received_body()
        if status in (204, 205, 304):
            body = ()  # RFC 9110 sections 15.3.5, 15.3.6, 15.4.5
        length = None if status in (204, 304) else sum(map(len, body))
        parts = [self._head(status, headers, length, close=unread)]
        if length and not self.head_only:
            for part in body:
                parts += self._h11.send_with_data_passthrough(h11.Data(data=part)) or ()
        parts.append(self._h11.send(_END) or b"")
        await send_committed(self._transport, *parts)

    async def start(
        self, status: int, headers: Fields, length: int | None = None, *, label: str
    ) -> Http1Body:
        await self._check_unanswered()
        self.label = label
        head = self._head(status, headers, length, close=self.head_only)
        framing = Framing.UNTIL_CLOSE
        if b"\r\nTransfer-Encoding: chunked\r\n" in head:
            framing = Framing.CHUNKED
        elif b"\r\ncontent-length:" in head.lower() or status in (204, 304):
            framing = Framing.COUNTED
        self.response = Http1Body(self._transport, self._h11, framing, self)
        if self.head_only:
            # The handler cannot know that its body is not wanted, so it is cancelled here.
            await send_committed(self._transport, head, self._h11.send(_END) or b"")
            self.response.has_ended = True
            self.cancel(Ended.DONE)
            await trio.lowlevel.checkpoint()
        else:
            await send_committed(self._transport, head)
        return self.response

    async def upgrade(self, headers: Fields, *, label: str) -> ByteStream:
        await self._check_unanswered()
        self.label = label
        head = h11.InformationalResponse(
            status_code=101, headers=encoded(headers), reason=b"Switching Protocols"
        )
        await send_committed(self._transport, self._h11.send(head) or b"")
        self.status = 101
        self.reads_on = True
        self._transport.unread(bytes(self._received))
        self._received.clear()
        return self._transport

    def check_not_over(self) -> None:
        """Raise `RuntimeError` once the connection carries another exchange."""
        if self.is_over:
            raise RuntimeError("this exchange is over; its connection carries another one now")

    async def _check_unanswered(self) -> None:
        """Raise `RuntimeError` if a response has begun. Stop here if cancelled: h11 assumes that
        its output is always sent."""
        self.check_not_over()
        if self.status:
            raise RuntimeError(f"this request has already been answered with {self.status}")
        await trio.lowlevel.checkpoint_if_cancelled()

    def _head(self, status: int, headers: Fields, length: int | None, *, close: bool) -> bytes:
        """The bytes of a response head. Raises `ValueError` for what may not stand in one, such as
        a line break in a value, and `TypeError` for fields that are not pairs of text."""
        close = (
            close
            or self.last
            or self.is_refused
            or self._context.draining
            or self._h11.they_are_waiting_for_100_continue
        )
        event = _response(status, checked(headers), length, close, int(time.time()))
        head = self._h11.send(event)
        self.status = status
        return head or b""


@lru_cache(maxsize=128)
def _response(
    status: int, headers: Fields, length: int | None, close: bool, second: int
) -> h11.Response:
    """The head of a response in this `second`. A server sends the same few heads again and again,
    and validating their fields is a tenth of what a small response costs."""
    # IMF-fixdate, RFC 9110 section 5.6.7.
    fields = [(b"Date", formatdate(second, usegmt=True).encode()), *encoded(headers)]
    if length is not None:
        fields.append((b"Content-Length", b"%d" % length))
    if close:
        fields.append((b"Connection", b"close"))
    reason = reason_phrase(status).encode()
    try:
        return h11.Response(status_code=status, headers=fields, reason=reason)
    except h11.LocalProtocolError as error:
        raise ValueError(f"a response that cannot be sent: {error}") from None
