"""One request and its response over HTTP/1.x: what `Exchange` in request.py promises, through h11.

Heads, Content-Length and the ends of messages go through h11, which knows what may follow what;
chunks are framed by hand. h11 believes that what it was given is sent. So a cancellation is let
through before h11 is told, and what is cancelled after that tears the connection.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache

import h11
import trio

from .departure import Departures
from .errors import ClientGone, HTTPError, reason_phrase
from .head import BARE_LF, has_stray_line_ends, is_folded
from .limits import Limits
from .pacemaker import Pacemaker
from .request import Fields, WriteNow
from .transport import Transport

_END = h11.EndOfMessage()

PIECES_A_PASS = 64
"""Pieces of a body that had come already, after which the other tasks have their turn: a chunk may
be of one byte."""


@dataclass(kw_only=True, slots=True)
class Service:
    """What all connections of one server share."""

    limits: Limits
    departures: Departures
    pacemaker: Pacemaker
    local_names: frozenset[str] | None = None
    """Names Host may have besides the local ones; None: Host is not checked."""
    access_log: bool = True
    draining: bool = False
    lingering: int = 0
    """Connections that are being closed in stages."""


class Phase:
    """The life of a connection: one cancel scope, and the word for why it ended."""

    __slots__ = ("client_left", "ended", "scope")

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.ended = ""  # for the access log; set before the scope is cancelled or may expire
        self.client_left = False  # it has at least half-closed

    def begin_handling(self, leave_seconds: float) -> None:
        """The handler takes as long as it likes, unless its client has already half-closed."""
        self.ended = ""
        if self.client_left:
            self.cancel("client left", leave_seconds)

    def cancel(self, ended: str, grace: float = 0) -> None:
        """End it, after `grace` seconds at the latest."""
        self.ended = ended
        if grace:
            self.scope.deadline = min(self.scope.deadline, trio.current_time() + grace)
        else:
            self.scope.cancel()


class Http1Exchange:
    """The exchange under way on a connection."""

    label = "plain"
    head_only = False
    is_refusal = True  # until the head has been found good
    is_over = False  # the next one has begun; whoever still holds this one is late

    # The request:
    listening = False  # the handler is reading it
    body_seconds: float | None = None
    input_over = False
    body_is_chunked = False
    is_malformed = False
    _chunk_lines = b""  # what h11 has taken since the last event
    _searched = 0  # of these, and of what h11 has not yet taken
    _pieces = 0

    # The response:
    status = 0  # once its head is out
    has_ended = False  # its end is out, too
    chunked = False
    _until_close = False  # ended by the end of the connection, as in HTTP/1.0
    upgraded = False  # the bytes are another protocol's now
    farewell: Callable[[], Awaitable[None]] | None = None

    def __init__(
        self,
        service: Service,
        transport: Transport,
        h11_connection: h11.Connection,
        phase: Phase,
        received: bytearray,
        *,
        last: bool,
    ) -> None:
        """`received` is what came behind the request and is no body of its; `last`: the
        connection closes behind this exchange."""
        self.limits = service.limits
        self.pacemaker = service.pacemaker
        self.transport = transport
        self.last = last
        self._service = service
        self._h11 = h11_connection
        self._phase = phase
        self._received = received

    @property
    def sending(self) -> bool:
        return self.transport.sending

    @property
    def looks_whole(self) -> bool:
        """Whether a client could take the body so far for all of it, though it is not."""
        return self._until_close and not self.has_ended

    def endless(self, farewell: Callable[[], Awaitable[None]] | None) -> None:
        self.farewell = farewell
        if farewell and self._service.draining:
            self.cancel("drained")

    def cancel(self, ended: str, grace: float = 0) -> None:
        self._phase.cancel(ended, grace)

    # -- The request body -----------------------------------------------------------------------

    async def receive(self) -> bytes:
        self._check_not_over()
        if self.upgraded:
            return await self._receive_raw()
        self.listening = True
        while (event := self._next_body_event()) is not None:
            if type(event) is h11.Data:
                self._pieces += 1
                if self._pieces % PIECES_A_PASS == 0:
                    await trio.lowlevel.checkpoint()
                return bytes(event.data)
            if self._h11.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                await self.transport.send(self._h11.send(go_on))
            data = self.transport.receive_now()
            if data is None:
                silence = self.body_seconds
                data = await self.transport.receive_within(
                    self.limits.body_seconds if silence is None else silence
                )
            if data is None:
                self.cancel("body too slow")
                await trio.lowlevel.checkpoint()
                raise ClientGone
            if not data:
                self.cancel("client left")
                await trio.lowlevel.checkpoint()
                raise ClientGone
            self._h11.receive_data(data)
        self.listening = False
        return b""

    async def _receive_raw(self) -> bytes:
        if self._received:
            data = bytes(self._received)
            self._received.clear()
            return data
        return await self.transport.receive()

    def receive_now(self) -> bytes | None:
        return None if self._received else self.transport.receive_now()

    def skip_received_body(self) -> bool:
        """Throw away what has come of a body that nobody is going to ask for; whether that was
        all of it."""
        if self._h11.their_state is not h11.SEND_BODY:
            return not self.is_malformed
        with suppress(HTTPError):
            for _ in range(PIECES_A_PASS):
                event = self._next_body_event()
                if event is None or event is h11.NEED_DATA:
                    return event is None
        return False

    def _next_body_event(self) -> h11.Data | type[h11.NEED_DATA] | None:
        """A piece of the body; `NEED_DATA`; or None at its end. Raises `HTTPError`."""
        if self.is_malformed:
            raise HTTPError(400, "malformed request body")
        if self._h11.their_state is not h11.SEND_BODY:
            return None
        before = self._h11.trailing_data[0] if self.body_is_chunked else b""
        try:
            event = self._h11.next_event()
        except h11.RemoteProtocolError as error:
            self.is_malformed = True
            raise HTTPError(error.error_status_hint, f"request body: {error}") from None
        if self.body_is_chunked:
            self._check_chunk_lines(before, event)
        if type(event) is h11.Data:
            return event
        return h11.NEED_DATA if event is h11.NEED_DATA else None

    def _check_chunk_lines(self, before: bytes, event: object) -> None:
        """Refuse between chunks and in trailers what is refused in heads, and h11 lets through.
        `before` is what h11 had when it was asked for this event. Raises `HTTPError`."""
        behind, _ = self._h11.trailing_data
        lines = self._chunk_lines + before[: len(before) - len(behind)]
        self._chunk_lines = b""
        searched, self._searched = self._searched, 0
        if event is h11.NEED_DATA:
            self._chunk_lines = lines
            # h11 waits for ever for the CRLF of a line that ends with a bare LF.
            waiting = lines + behind
            malformed = BARE_LF.search(waiting, max(0, searched - 1)) is not None
            self._searched = len(waiting)
        else:
            if type(event) is h11.Data:
                lines = lines[: -len(event.data)]
            malformed = has_stray_line_ends(lines) or is_folded(lines)
        if malformed:
            self.is_malformed = True
            raise HTTPError(400, "request body: malformed line end between chunks")

    # -- The response ---------------------------------------------------------------------------

    async def respond(self, status: int, headers: Fields, body: bytes) -> None:
        await self._check_ready()
        # What is left of the body would have to be read before the next request could be.
        unread = not self.skip_received_body()
        if status in (204, 205, 304):
            body = b""  # RFC 9110 sections 15.3.5, 15.3.6, 15.4.5
        length = None if status in (204, 304) else len(body)
        parts = [self._head(status, headers, length, close=unread)]
        if body and not self.head_only:
            parts += self._h11.send_with_data_passthrough(h11.Data(data=body)) or ()
        parts.append(self._h11.send(_END) or b"")
        await self._commit(*parts)
        self.has_ended = True

    async def start(self, status: int, headers: Fields, length: int | None = None) -> None:
        await self._check_ready()
        head = self._head(status, headers, length, close=self.head_only)
        if self.head_only:
            # Nothing more will be sent and the handler does not know: it is cancelled here.
            await self._commit(head + self._h11.send(_END))
            self.has_ended = True
            self.cancel("done")
            await trio.lowlevel.checkpoint()
        else:
            self.chunked = b"\r\nTransfer-Encoding: chunked\r\n" in head
            framed = self.chunked or b"\r\ncontent-length:" in head.lower()
            self._until_close = not framed and status not in (204, 304)
            await self._commit(head)

    async def send(self, data: bytes) -> None:
        if self.is_over or not self.status:
            self._check_not_over()
            raise RuntimeError("no response has been started; a stream is entered by async with")
        # As in `_check_ready`; but this is called for every piece, and a coroutine is not free.
        await trio.lowlevel.checkpoint_if_cancelled()
        if type(data) is not bytes:
            data = memoryview(data).cast("B")  # type: ignore[assignment]
        if not data:  # an empty chunk would be the last chunk
            if self.transport.sending:
                await self.transport.send()
            else:
                await trio.lowlevel.checkpoint()
        elif self.upgraded:
            await self.transport.send(data)
        elif self.chunked and not self.has_ended:
            # By hand, since h11 would pass through its state machine what has no state: a chunk
            # is its size in hexadecimal, CRLF, the data, CRLF (RFC 9112 section 7.1).
            await self.transport.send(b"%x\r\n" % len(data), data, b"\r\n")
        else:
            await self._commit(*self._h11.send_with_data_passthrough(h11.Data(data=data)) or ())

    @property
    def frame_key(self) -> str:
        return "chunked" if self.chunked else ""

    def frame(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data

    @property
    def write_now(self) -> WriteNow:
        counted = not (self.chunked or self.upgraded or self._until_close)
        return _refuse if counted or self.has_ended else self.transport.write_now

    def take(self, data: bytes) -> None:
        self.transport.take(data)

    def hold_writes(self, held: bool) -> None:
        self.transport.held = held

    async def end(self, trailers: Fields = ()) -> None:
        await self._check_ready()
        fields = encoded(trailers) if self.chunked else []
        await self._commit(self._h11.send(h11.EndOfMessage(headers=fields)))
        self.has_ended = True

    async def take_over(self, headers: Fields) -> None:
        await self._check_ready()
        head = h11.InformationalResponse(
            status_code=101, headers=encoded(headers), reason=b"Switching Protocols"
        )
        await self._commit(self._h11.send(head))
        self.status = 101
        self.upgraded = self.listening = True

    def _check_not_over(self) -> None:
        if self.is_over:
            raise RuntimeError("this exchange is over; its connection carries another one now")

    async def _check_ready(self) -> None:
        """Stop here if cancelled: a moment later h11 would take it for sent."""
        self._check_not_over()
        await trio.lowlevel.checkpoint_if_cancelled()

    def _head(self, status: int, headers: Fields, length: int | None, *, close: bool) -> bytes:
        """The bytes of a response head. Raises `h11.LocalProtocolError` for what may not stand
        in one, a line break in a value above all."""
        close = (
            close
            or self.last
            or self.is_refusal
            or self._service.draining
            or self._h11.they_are_waiting_for_100_continue
        )
        event = _response(status, tuple(headers), length, close, int(time.time()))
        head = self._h11.send(event)
        self.status = status
        return head

    async def _commit(self, *parts: bytes) -> None:
        """Send what h11 takes for sent: cancelled even before its first byte is out, nothing but
        closing may follow."""
        sent = False
        try:
            await self.transport.send(*parts)
            sent = True
        finally:
            if not sent:
                self.transport.torn = True


def _refuse(framed: bytes) -> int:
    """Where h11 has to count the bytes down."""
    return 0


def encoded(fields: Fields) -> list[tuple[bytes, bytes]]:
    """Fields as bytes."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]


@lru_cache(maxsize=128)
def _response(
    status: int, headers: Fields, length: int | None, close: bool, second: int
) -> h11.Response:
    """The head of a response in this `second`. A server says the same few again and again, and
    validating their fields is a tenth of what a small response costs."""
    # IMF-fixdate, RFC 9110 section 5.6.7.
    fields = [(b"Date", formatdate(second, usegmt=True).encode()), *encoded(headers)]
    if length is not None:
        fields.append((b"Content-Length", b"%d" % length))
    if close:
        fields.append((b"Connection", b"close"))
    return h11.Response(status_code=status, headers=fields, reason=reason_phrase(status).encode())
