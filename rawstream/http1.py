"""One HTTP/1.x connection: requests come in through h11, handlers answer through `Exchange`.

    bytes -> _read_head -> check_head -> h11 -> Request -> handler
    handler -> respond | start, send ..., end -> h11 (heads, lengths, ends), chunks by hand -> bytes

The connection keeps the bytes of a head to itself until the head is whole and has been checked;
a body goes to h11 as it comes. One cancel scope spans the connection. Whatever bounds the
present phase moves its deadline, and whatever ends it early cancels it: the client leaves, the
server drains, a body stays silent. `_ended` then says why, and `run` acts on that outside the
scope: the last words, one access line, and the one place where the connection is closed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from math import inf

import h11
import trio

from .access import log_exchange
from .departure import Departures
from .errors import BrokenStream, ClientGone, HTTPError, WebSocketClosed, reason_phrase
from .head import BARE_LF, END_OF_HEAD, check_head, check_unfinished_head, is_local_host
from .limits import Limits
from .pacemaker import Pacemaker
from .request import Fields, Handler, Headers, Request
from .transport import Transport

logger = logging.getLogger("rawstream")

EXPECTED = (ClientGone, BrokenStream, WebSocketClosed)
_END = h11.EndOfMessage()


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
    connections: set[Connection] = field(default_factory=set)


class Connection:
    """One connection and the exchange that is under way on it (`Exchange` in request.py)."""

    __slots__ = (
        "_began", "_chunked", "_client", "_ended", "_farewell", "_first", "_gone", "_h11",
        "_handler", "_handling", "_last", "_listening", "_received", "_request", "_scheme",
        "_scope", "_sent_before", "_service", "_status", "_until_close", "_upgraded", "__weakref__",
        "beating", "input_over", "interval", "label", "last_sent", "limits", "pacemaker",
        "transport",
    )  # fmt: skip

    def __init__(
        self, transport: Transport, service: Service, handler: Handler, client: str, *, last: bool
    ) -> None:
        """`last`: close after the first exchange."""
        self.transport = transport
        self.limits = service.limits
        self.pacemaker = service.pacemaker
        self.label = "plain"
        self._service = service
        self._handler = handler
        self._client = client
        self._scheme = "https" if isinstance(transport.stream, trio.SSLStream) else "http"
        self._h11 = h11.Connection(h11.SERVER, service.limits.head_bytes)
        self._received = bytearray()  # what no one has looked at: the next head, or a part of it
        self._scope = trio.CancelScope()
        self._ended = ""  # why the scope was cancelled or is about to be
        self._gone = False  # the client has at least half-closed
        self._first = True  # nothing has been answered yet
        self._last = last
        # The pacemaker keeps an eye on idle connections: a deadline of their own would have to be
        # moved twice a request.
        self.beating = False
        self.interval = service.limits.idle_seconds
        self.last_sent = 0.0
        # The exchange under way:
        self._request: Request | None = None
        self._handling = False  # the handler is running
        self._listening = False  # it is reading what the client sends
        self._farewell: Callable[[], Awaitable[None]] | None = None
        self._status = 0  # of the response, once its head is out
        self._chunked = False
        self._until_close = False  # a body ended by the end of the connection
        self.input_over = False
        self._upgraded = False  # the bytes are another protocol's now
        self._began: float | None = None  # when; None between exchanges
        self._sent_before = 0  # bytes on this connection before it

    # -- The life of a connection ---------------------------------------------------------------

    async def run(self) -> None:
        """Serve requests until the connection ends, then close it. Raises nothing of its own."""
        carrier = self.transport.stream
        if isinstance(carrier, trio.SSLStream):
            carrier = carrier.transport_stream
        sock = carrier.socket if isinstance(carrier, trio.SocketStream) else None
        if sock is not None:
            self._service.departures.watch(sock, self._left)
        self._service.connections.add(self)
        self._bound(self.limits.head_seconds, "idle")
        finished = False
        try:
            try:
                with self._scope:
                    if self._service.draining:
                        self.cancel("drained")  # accepted in the last moment
                    while await self._serve_one():
                        pass
            except Exception as error:
                # The one place where a handler's failure ends: said aloud, never passed on.
                if _is_expected(error):
                    self._ended = self._ended or "client left"
                else:
                    self._ended = "handler failed"
                    logger.exception("%s: the handler failed", self._request)
            with suppress(*EXPECTED):
                await self._say_last_words()
            finished = True
        finally:
            self.beating = False
            if not finished:
                self._ended = "cut"
            self._log_exchange()
            self._service.connections.discard(self)
            if sock is not None:
                self._service.departures.forget(sock)
            await self._close()

    async def _serve_one(self) -> bool:
        """One request and its response; whether another may follow."""
        try:
            request = await self._next_request()
            if request is None:
                return False
            self._service.departures.check()  # whoever leaves from here on leaves this handler
            self._handling = True
            self._unbound()
            await self._handler(request)
        except HTTPError as error:
            if self._status:
                raise  # too late to answer with it
            await self._refuse(error)
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE, h11.SEND_BODY):
            raise RuntimeError("the handler returned without a response, or within one")
        self._ended = "done"
        return self._begin_next_cycle()

    async def _say_last_words(self) -> None:
        """What is still said when the scope was left early, and to whom."""
        if self._ended == "drained" and self._farewell:
            await self._farewell()
        elif self._status == 0 and self._h11.our_state is not h11.ERROR:
            if self._ended == "handler failed":
                await self._refuse(HTTPError(500))
            elif self._ended in ("head too slow", "body too slow"):
                await self._refuse(HTTPError(408, f"request {self._ended}"))

    def _begin_next_cycle(self) -> bool:
        """Get ready for the next request; False if there can be none."""
        self._skip_received_body()
        states = (self._h11.our_state, self._h11.their_state)
        if states != (h11.DONE, h11.DONE) or self._last or self._service.draining:
            return False
        self._log_exchange()
        if self._first:
            self.beating = True
            self.last_sent = trio.current_time()
            self.pacemaker.pace(self)
        self._request = None
        self._first = self._handling = self._listening = False
        self._farewell = None
        self._status = 0
        self.label = "plain"
        # h11 holds what came behind a body. It has to pass `check_head` before h11 parses it.
        behind, _ = self._h11.trailing_data
        if behind:
            self._received[:0] = behind
            self._h11 = h11.Connection(h11.SERVER, self.limits.head_bytes)
        else:
            self._h11.start_next_cycle()
        return True

    async def _close(self) -> None:
        """Close in the way that tells the client the truth about what it has received."""
        if self._h11.our_state is h11.SEND_BODY and self._until_close:
            await self.transport.abort()  # a proper end would make a whole of a torn body
        elif not self.input_over and (
            self._upgraded or self._received or self._h11.their_state in (h11.SEND_BODY, h11.ERROR)
        ):
            await self.transport.close_in_stages()
        else:
            await self.transport.close()

    def _log_exchange(self) -> None:
        """The access line of the exchange under way, if there is one."""
        if self._began is None:
            return
        began, self._began = self._began, None
        if self._service.access_log:
            request = self._request
            log_exchange(
                self._client,
                ("HEAD" if request.head_only else request.method) if request else "-",
                request.target if request else "-",
                self._status,
                self.label,
                self.transport.bytes_sent - self._sent_before,
                trio.current_time() - began,
                self._ended,
            )

    # -- What ends it early ---------------------------------------------------------------------

    def drain(self) -> None:
        """The server stops: end what is idle or endless now, let the rest finish."""
        if self._handling:
            # A send under way is finished first; `_write` cancels when it is.
            if self._farewell and not self.transport.sending:
                self.cancel("drained")
        elif not self._received:
            self.cancel("drained")

    async def beat(self) -> None:
        """Nothing has been sent or asked for since `idle_seconds`."""
        if self._began is None:
            self.cancel("idle")

    def _left(self) -> None:
        """The client has closed, or half-closed, its side. What it sent before is delivered to a
        handler that is reading, everyone else is cancelled at once."""
        self._gone = True
        if self._handling:
            self.cancel("client left", self.limits.leave_seconds if self._listening else 0)

    def cancel(self, ended: str, grace: float = 0) -> None:
        self._ended = ended
        if grace:
            self._scope.deadline = min(self._scope.deadline, trio.current_time() + grace)
        else:
            self._scope.cancel()

    def _bound(self, seconds: float, ended: str) -> None:
        """Give the present phase this long, and a name for the log should it take longer."""
        self._ended = ended
        self._scope.deadline = trio.current_time() + seconds

    def _unbound(self) -> None:
        """The handler takes as long as it likes, unless its client has already half-closed."""
        self._ended = ""
        if self._gone:
            self._bound(self.limits.leave_seconds, "client left")
        elif self._scope.deadline != inf:
            self._scope.deadline = inf

    # -- Requests in ----------------------------------------------------------------------------

    async def _next_request(self) -> Request | None:
        """The next request; None when the client has closed. Raises `HTTPError`."""
        head = await self._read_head()
        if head is None:
            return None
        check_head(head, self.limits)
        self._h11.receive_data(head)
        try:
            event = self._h11.next_event()
            assert type(event) is h11.Request
            body_follows = self._h11.next_event() is h11.NEED_DATA
        except h11.RemoteProtocolError as error:
            raise HTTPError(error.error_status_hint, str(error)) from None
        if body_follows and self._received:
            # The body is h11's. What may follow a request without one must be checked first.
            self._h11.receive_data(bytes(self._received))
            self._received.clear()
        request = self._request = Request(
            event.method.decode("ascii"),
            event.target.decode("ascii"),
            Headers(event.headers.raw_items()),
            self,
            http_version=event.http_version.decode("ascii"),
            scheme=self._scheme,
            client=self._client,
        )
        names, authority = self._service.local_names, request.authority
        if names is not None and authority and not is_local_host(authority, names):
            raise HTTPError(421, f"{authority} is not served here")
        expected = request.headers.tokens("expect")
        if expected and expected != ["100-continue"] and request.http_version != "1.0":
            raise HTTPError(417, "no expectation but 100-continue can be met")
        return request

    async def _read_head(self) -> bytes | None:
        """The bytes up to and with the empty line; None at the end of input. Raises `HTTPError`.

        The first byte puts the whole head under one
        deadline, which no later byte moves; the first head of all has it from accept on.
        """
        received = self._received
        checked = 0
        skipped = False
        if not received:
            self.last_sent = trio.current_time()
        while True:
            if received.startswith(b"\r\n") and not skipped:
                # RFC 9112 section 2.2: ignore an empty line before a request.
                del received[:2]
                skipped = True
            if received and self._began is None:
                self._began = trio.current_time()
                self._sent_before = self.transport.bytes_sent
            end = received.find(END_OF_HEAD, max(0, checked - len(END_OF_HEAD)))
            if end >= 0:
                break
            if received:
                check_unfinished_head(received, checked, self.limits)
                if checked == 0 and not self._first:
                    self._bound(self.limits.head_seconds, "head too slow")
                self._ended = "head too slow"
            checked = len(received)
            data = await self.transport.receive()
            if not data:
                self._ended = "client left"
                return None
            received += data
        end += len(END_OF_HEAD)
        head = bytes(received[:end])
        del received[:end]
        return head

    async def receive(self) -> bytes:
        if self._upgraded:
            return await self._receive_raw()
        self._listening = True
        while self._h11.their_state is h11.SEND_BODY:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise HTTPError(error.error_status_hint, f"request body: {error}") from None
            if type(event) is h11.Data:
                return bytes(event.data)
            if event is not h11.NEED_DATA:
                break
            # h11 waits for a CRLF for ever where a chunk's line ends with a bare LF.
            behind, _ = self._h11.trailing_data
            if BARE_LF.search(behind):
                raise HTTPError(400, "request body: chunk line ended by a bare LF")
            if self._h11.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                await self._write(self._h11.send(go_on))
            self._bound(self.limits.body_seconds, "body too slow")
            data = await self.transport.receive()
            self._unbound()
            if not data:
                self.cancel("client left")
                await trio.lowlevel.checkpoint()
                raise ClientGone
            self._h11.receive_data(data)
        self._listening = False
        return b""

    async def _receive_raw(self) -> bytes:
        if self._received:
            data = bytes(self._received)
            self._received.clear()
            return data
        return await self.transport.receive()

    def _skip_received_body(self) -> None:
        """Throw away what has come of a body that nobody is going to ask for."""
        with suppress(h11.RemoteProtocolError):
            while self._h11.their_state is h11.SEND_BODY:
                if self._h11.next_event() is h11.NEED_DATA:
                    break

    # -- Responses out --------------------------------------------------------------------------

    async def respond(self, status: int, headers: Fields, body: bytes) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()  # before h11 believes that it was sent
        self._skip_received_body()
        # What is left of the body would have to be read before the next request could be.
        unread = self._h11.their_state in (h11.SEND_BODY, h11.ERROR)
        bodiless = status in (204, 304)
        head = self._head(status, headers, None if bodiless else len(body), close=unread)
        parts = [head]
        if body and not self._head_only:
            parts += self._h11.send_with_data_passthrough(h11.Data(data=body)) or ()
        self._h11.send(_END)
        await self._commit(*parts)

    async def _refuse(self, error: HTTPError) -> None:
        """Answer with an error. A head that was refused leaves no framing to go on with."""
        await self.respond(*error_response(error))

    async def start(self, status: int, headers: Fields, length: int | None = None) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        head = self._head(status, headers, length, close=self._head_only)
        if self._head_only:
            # Nothing more will be sent and the handler does not know: it is cancelled here.
            await self._commit(head + self._h11.send(_END))
            self.cancel("done")
            await trio.lowlevel.checkpoint()
        else:
            self._until_close = length is None and self._h11.their_http_version == b"1.0"
            self._chunked = length is None and not self._until_close
            await self._commit(head)

    async def send(self, data: bytes) -> None:
        if not data:
            await trio.lowlevel.checkpoint()  # an empty chunk would be the last chunk
        elif self._upgraded:
            await self._write(data)
        elif self._chunked and self._h11.our_state is h11.SEND_BODY:
            # By hand, since h11 would pass through its state machine what has no state: a chunk
            # is its size in hexadecimal, CRLF, the data, CRLF (RFC 9112 section 7.1).
            await self._write(b"%x\r\n" % len(data), data, b"\r\n")
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._commit(*self._h11.send_with_data_passthrough(h11.Data(data=data)) or ())

    async def end(self, trailers: Fields = ()) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        fields = _encoded(trailers) if self._chunked else []
        await self._commit(self._h11.send(h11.EndOfMessage(headers=fields)))

    async def take_over(self, headers: Fields) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        head = h11.InformationalResponse(
            status_code=101, headers=_encoded(headers), reason=b"Switching Protocols"
        )
        await self._commit(self._h11.send(head))
        self._status = 101
        self._upgraded = self._listening = True

    def endless(self, farewell: Callable[[], Awaitable[None]] | None) -> None:
        self._farewell = farewell
        if farewell and self._service.draining:
            self.cancel("drained")

    @property
    def _head_only(self) -> bool:
        return self._request is not None and self._request.head_only

    def _head(self, status: int, headers: Fields, length: int | None, *, close: bool) -> bytes:
        """The bytes of a response head. Raises `h11.LocalProtocolError` for what may not stand
        in one, a line break in a value above all."""
        close = (
            close
            or self._last
            or self._service.draining
            or self._request is None
            or self._h11.they_are_waiting_for_100_continue
        )
        event = _response(status, tuple(headers), length, close, int(time.time()))
        head = self._h11.send(event)
        self._status = status
        return head

    async def _write(self, *parts: bytes) -> None:
        """Send, and turn a client that has gone into the handler's cancellation."""
        try:
            await self.transport.send(*parts)
        except ClientGone as error:
            self.cancel(str(error), self.limits.leave_seconds if self._listening else 0)
            await trio.lowlevel.checkpoint()
            raise
        if self._farewell and self._service.draining:
            self.cancel("drained")  # this was the send that `drain` waited for

    async def _commit(self, *parts: bytes) -> None:
        """`_write` for bytes that h11 takes for sent: cancelled even before the first of them,
        nothing but closing may follow."""
        sent = False
        try:
            await self._write(*parts)
            sent = True
        finally:
            if not sent:
                self.transport.torn = True


def _is_expected(error: BaseException) -> bool:
    """Whether a handler ended by nothing but a send or receive on what had ended already; in a
    handler with a nursery that comes as a group."""
    if group := getattr(error, "exceptions", None):
        return all(map(_is_expected, group))
    return isinstance(error, EXPECTED)


def error_response(error: HTTPError) -> tuple[int, Fields, bytes]:
    """Status, fields and the one line that an error is answered with."""
    text = f"{error.status} {reason_phrase(error.status)}"
    if error.text:
        text += f": {error.text}"
    fields = [("Content-Type", "text/plain; charset=utf-8"), *error.headers]
    return error.status, fields, f"{text}\n".encode()


def _encoded(fields: Fields) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]


@lru_cache(maxsize=128)
def _response(
    status: int, headers: Fields, length: int | None, close: bool, second: int
) -> h11.Response:
    """The head of a response in this `second`. A server says the same few again and again, and
    validating their fields is a tenth of what a small response costs."""
    # IMF-fixdate, RFC 9110 section 5.6.7.
    fields = [(b"Date", formatdate(second, usegmt=True).encode()), *_encoded(headers)]
    if length is not None:
        fields.append((b"Content-Length", b"%d" % length))
    if close:
        fields.append((b"Connection", b"close"))
    return h11.Response(status_code=status, headers=fields, reason=reason_phrase(status).encode())
