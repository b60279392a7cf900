"""One request and its response over HTTP/1.x: the I/O around a `Framing`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn

import trio

from ..errors import ClientGone
from ..http.context import ServerContext
from ..http.exchange import BODY, SWITCHED, ByteStream, Progress
from ..http.fields import Fields, checked
from ..http.lifetime import Ended, Lifetime
from ..limits import KIB
from ..tcp.transport import TORN, Transport
from .framing import UNTIL_CLOSE, Framing
from .plain_lane import PlainLane
from .request_body import YIELD_EVERY_PIECES
from .response_body import Http1Body, send_committed

SMALL_BYTES = 4 * KIB
"""A response body up to this size is copied, to be sent with its head in one write."""


class Http1Exchange:
    """The exchange under way on a connection."""

    label = "plain"
    is_over = False  # the connection carries the next one; using this one is an error

    # The request:
    head_only = False
    is_refused = True  # until its head has passed all checks
    reads_on = False  # the handler is reading: data from before the client left is still delivered

    # The response:
    status = 0  # set once the head is out
    farewell: Callable[[], Awaitable[None]] | None = None

    def __init__(
        self,
        context: ServerContext,
        transport: Transport,
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
        # The lane also answers that a head was refused.
        self.framing: Framing = PlainLane()
        self._lifetime = lifetime
        self._received = received

    @property
    def progress(self) -> Progress:
        """How much of the response has been made."""
        return self.framing.progress

    @property
    def is_draining(self) -> bool:
        return self._context.stopping

    @property
    def is_upgraded(self) -> bool:
        """Whether the connection has switched to another protocol."""
        return self.framing.progress is SWITCHED

    @property
    def looks_whole(self) -> bool:
        """Whether a client could take the unfinished body for a complete one."""
        framing = self.framing
        until_close = framing.body_length is UNTIL_CLOSE
        unfinished = framing.progress is BODY or self._transport.state is TORN
        return until_close and unfinished

    def on_drain(self, farewell: Callable[[], Awaitable[None]] | None) -> None:
        self.farewell = farewell
        if farewell and self._context.draining:
            self.cancel(Ended.DRAINED)

    def cancel(self, reason: Ended | str, grace: float = 0) -> None:
        self._lifetime.cancel(reason, grace)

    # -- The request body -----------------------------------------------------------------------

    async def receive(self, silence: float | None = None) -> bytes:
        self.check_not_over()
        body = self.framing.body
        if body is None:
            return b""
        self.reads_on = True
        while (piece := body.next_piece()) is None:
            if body.is_awaited and not self.status:
                await self._transport.send(body.ask_for())
            data = self._transport.receive_nowait()
            if data is None:
                seconds = self.limits.body_seconds if silence is None else silence
                data = await self._transport.receive_within(seconds)
            if not data:
                self.cancel(Ended.BODY_TOO_SLOW if data is None else Ended.CLIENT_LEFT)
                await trio.lowlevel.checkpoint()
                raise ClientGone
            body.receive(data)
        if piece:
            body.pieces += 1
            if body.pieces % YIELD_EVERY_PIECES == 0:
                await trio.lowlevel.checkpoint()
        else:
            self.reads_on = False
        return piece

    # -- The response ---------------------------------------------------------------------------

    async def respond(
        self, status: int, headers: Fields, *body: bytes, label: str = "plain"
    ) -> None:
        if self.status or self.is_over:
            self._refuse_to_respond()
        await trio.lowlevel.checkpoint_if_cancelled()  # what the framing makes must be sent
        self.label = label
        framing = self.framing
        # The rest of an unread body would stand before the next request.
        unread = framing.body is not None and not framing.body.skip_received()
        if status in (204, 205, 304):
            body = ()  # RFC 9110 sections 15.3.5, 15.3.6, 15.4.5
        length = None if status in (204, 304) else sum(map(len, body))
        head = self._head(status, headers, length, close=unread)
        pieces = framing.pieces(body) if length and not self.head_only else ()
        parts = (head, *pieces, framing.end())
        if length is None or length <= SMALL_BYTES:
            # Without the coroutines of a send that waits, which it hardly ever does.
            whole = b"".join(parts)
            written = self._transport.try_write(whole)
            if written == len(whole):
                return
            parts = () if written else (whole,)
        await send_committed(self._transport, *parts)

    async def start(
        self, status: int, headers: Fields, length: int | None = None, *, label: str
    ) -> Http1Body:
        if self.status or self.is_over:
            self._refuse_to_respond()
        await trio.lowlevel.checkpoint_if_cancelled()  # what the framing makes must be sent
        self.label = label
        head = self._head(status, headers, length, close=self.head_only)
        body = Http1Body(self._transport, self.framing, self)
        if self.head_only:
            # The handler cannot know that its body is not wanted, so it is cancelled here.
            await send_committed(self._transport, head, self.framing.end())
            self.cancel(Ended.DONE)
            await trio.lowlevel.checkpoint()
        elif not self._transport.hold_back(head):
            await send_committed(self._transport, head)
        return body

    async def upgrade(self, headers: Fields, *, label: str) -> ByteStream:
        if self.status or self.is_over:
            self._refuse_to_respond()
        await trio.lowlevel.checkpoint_if_cancelled()  # what the framing makes must be sent
        if not self.framing.head.headers.get("upgrade", "").strip(" \t,"):
            raise RuntimeError("this request does not ask for another protocol")
        self.label = label
        head = self.framing.switch(headers)
        if not self._transport.hold_back(head):
            await send_committed(self._transport, head)
        self.status = 101
        self.reads_on = True
        self._transport.unread(bytes(self._received))
        self._received.clear()
        return self._transport

    def tell_of_bytes(self, on_bytes: Callable[[], None] | None) -> bool:
        sock = self._transport.direct_socket
        return sock is not None and self._context.watcher.tell_of_bytes(sock, on_bytes)

    def check_not_over(self) -> None:
        """Raise `RuntimeError` once the connection carries another exchange."""
        if self.is_over:
            raise RuntimeError("this exchange is over; its connection carries another one now")

    def _refuse_to_respond(self) -> NoReturn:
        self.check_not_over()
        raise RuntimeError(f"this request has already been answered with {self.status}")

    def _head(self, status: int, headers: Fields, length: int | None, *, close: bool) -> bytes:
        """The bytes of a response head. Raises `ValueError` for what may not stand in one, such as
        a line break in a value, and `TypeError` for fields that are not pairs of text."""
        close = (
            close
            or self.last
            or self.is_refused
            or self._context.draining
            or (self.framing.body is not None and self.framing.body.is_awaited)
        )
        fields = tuple(headers)
        try:
            head = self.framing.response_head(status, fields, length, close=close)
        except TypeError:
            checked(fields)  # its error says more than that a list cannot be hashed
            raise
        self.status = status
        return head
