"""One HTTP/1.x connection, from its first byte to its close: exchange after exchange.

    bytes -> _read_head -> check_head -> h11 -> Request -> handler -> Http1Exchange -> bytes

The connection keeps the bytes of a head to itself until the head is whole and has been checked;
a body goes to h11 as it comes. Whatever ends things early, the client leaving, the server
draining, a deadline, cancels the one scope of `Phase`; `run` then acts on the reason outside of
it: the last words, the access line, and the one place where the connection is closed.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import h11
import trio

from .errors import (
    TORN,
    BrokenStream,
    ClientGone,
    HTTPError,
    Unavailable,
    WebSocketClosed,
    reason_phrase,
)
from .exchange import Http1Exchange, Phase, Service
from .head import (
    END_OF_HEAD,
    FAMILIAR_BYTES,
    check_head,
    check_head_again,
    check_unfinished_head,
    is_local_host,
)
from .logs import access_log, logger, masked
from .request import Fields, Handler, Headers, Request
from .transport import Transport

TOGETHER = 0.005
"""Seconds within which a half-close has come along with the request before it."""

EXPECTED = (ClientGone, BrokenStream, WebSocketClosed)
"""A handler that ends by one of these has met an end that was there already."""


class Connection:
    """One connection and the exchange that is under way on it."""

    __slots__ = (
        "__weakref__", "_began", "_client", "_exchange", "_h11", "_handler", "_handling",
        "_last", "_phase", "_received", "_request", "_scheme", "_sent_before", "_service",
        "_transport", "beating", "interval", "last_sent",
    )  # fmt: skip

    def __init__(
        self, transport: Transport, service: Service, handler: Handler, client: str, *, last: bool
    ) -> None:
        """`last`: close after the first exchange."""
        self._transport = transport
        transport.lost = self._lost
        transport.drained = self._send_finished
        self._service = service
        self._handler = handler
        self._client = client
        self._last = last
        self._scheme = "https" if isinstance(transport.stream, trio.SSLStream) else "http"
        self._h11 = h11.Connection(h11.SERVER, service.limits.head_bytes)
        self._phase = Phase()
        self._received = bytearray()  # what nobody has looked at: the next head, or a part of it
        # The exchange under way:
        self._request: Request | None = None
        self._handling = False  # the handler is running
        self._began: float | None = None  # when its first byte came; None between exchanges
        self._sent_before = 0  # bytes sent on this connection before it
        self._exchange = self._next_exchange()
        # The pacemaker keeps an eye on idle connections: a deadline of their own would have to be
        # moved twice a request.
        self.beating = False
        self.interval = service.limits.idle_seconds
        self.last_sent = 0.0

    # -- The life of a connection ---------------------------------------------------------------

    async def run(self) -> None:
        """Serve requests until the connection ends, then close it."""
        sock = self._transport.carrier_socket
        finished = False
        try:
            try:
                if sock is not None:
                    self._service.departures.watch(sock, self._left)
                with self._phase.scope:
                    self._phase.ended = "idle"
                    if self._service.draining:
                        self._phase.cancel("drained")  # accepted in the last moment
                    while await self._serve_one():
                        if self._received:  # pipelined: the others have their turn first
                            await trio.lowlevel.checkpoint()
            except Exception as error:
                # The one place where a handler's failure ends: said aloud, never passed on.
                expected = all(isinstance(leaf, EXPECTED) for leaf in _leaves(error))
                if expected and self._has_met_its_end():
                    self._phase.ended = self._phase.ended or "client left"
                else:
                    self._phase.ended = "handler failed"
                    logger.exception("%s: the handler failed", self._request)
            await self._say_last_words()
            finished = True
        finally:
            self.beating = False
            if not finished:
                self._phase.ended = "cut"
            self._transport.lost = self._transport.drained = None  # no cycle to be collected
            if sock is not None:
                self._service.departures.forget(sock)
            try:
                self._log_exchange()
            finally:
                await self._close()

    async def _serve_one(self) -> bool:
        """One request and its response; whether another may follow."""
        exchange = self._exchange
        try:
            request = await self._next_request()
            if request is None:
                return False
            self._handling = True
            self._phase.begin_handling(exchange.limits.leave_seconds)
            await self._handler(request)
        except Exception as raised:
            error = _http_error(raised)
            if error is None:
                raise
            if exchange.status:
                logger.warning("%s: too late to answer with %r", self._request, error)
                self._phase.ended = f"failed with {error.status}"
                return False
            await exchange.respond(*error_response(error, self._request))
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE, h11.SEND_BODY):
            raise RuntimeError("the handler returned without a response, or within one")
        self._phase.ended = "done"
        return self._begin_next_cycle()

    def _has_met_its_end(self) -> bool:
        """Whether this connection is one whose handler may be told so by an exception; it may
        also have come from another's, which it was sending to."""
        upgraded, torn = self._exchange.upgraded, self._transport.torn
        return self._phase.client_left or upgraded or torn or self._phase.ended != ""

    def _begin_next_cycle(self) -> bool:
        """Get ready for the next request; False if there can be none."""
        if self._transport.torn:
            self._phase.ended = TORN
            return False
        whole = self._exchange.skip_received_body()
        states = (self._h11.our_state, self._h11.their_state)
        if not whole or states != (h11.DONE, h11.DONE) or self._last or self._service.draining:
            return False
        self._log_exchange()
        # h11 holds what came behind a body. It has to pass `check_head` before h11 parses it.
        behind, _ = self._h11.trailing_data
        if behind:
            self._received[:0] = behind
            self._h11 = h11.Connection(h11.SERVER, self._exchange.limits.head_bytes)
        else:
            self._h11.start_next_cycle()
        self._request = None
        self._handling = False
        self._exchange.is_over = True
        self._exchange = self._next_exchange()
        self.last_sent = trio.current_time()
        if not self.beating:
            self.beating = True
            self._service.pacemaker.pace(self)
        return True

    def _next_exchange(self) -> Http1Exchange:
        return Http1Exchange(
            self._service, self._transport, self._h11, self._phase, self._received, last=self._last
        )

    async def _say_last_words(self) -> None:
        """What is still said when the phase was ended early, and to whom."""
        ended, exchange = self._phase.ended, self._exchange
        exchange.last = True
        try:
            if ended == "drained" and exchange.farewell:
                await exchange.farewell()
            elif self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                if ended == "handler failed":
                    await exchange.respond(*error_response(HTTPError(500)))
                elif ended in ("head too slow", "body too slow"):
                    error = HTTPError(408, f"request {ended}")
                    await exchange.respond(*error_response(error))
        except EXPECTED:
            pass
        except Exception:
            logger.exception("%s: the last words failed", self._request)

    async def _close(self) -> None:
        """Close in the way that tells the client the truth about what it has received."""
        exchange = self._exchange
        if exchange.looks_whole:
            await self._transport.abort()
            return
        unread = self._h11.their_state is h11.SEND_BODY or bool(self._received)
        refused = exchange.status != 0 and (exchange.is_refusal or exchange.is_malformed)
        talking = (unread or refused or exchange.upgraded) and not exchange.input_over
        may_linger = self._service.lingering < self._service.limits.lingering
        if may_linger and (talking or not self._transport.is_settled()):
            self._service.lingering += 1
            try:
                await self._transport.close_in_stages(until_settled=not talking)
            finally:
                self._service.lingering -= 1
        else:
            await self._transport.close()

    def _log_exchange(self) -> None:
        """The access line of the exchange under way, if there is one."""
        if self._began is None:
            return
        seconds = trio.current_time() - self._began
        self._began = None
        if not self._service.access_log:
            return
        request, exchange = self._request, self._exchange
        access_log.info(
            '%s "%s %s" %s %s %dB %.3fs %s',
            self._client or "-",  # none on a unix socket
            ("HEAD" if request.head_only else request.method)
            if request
            else "-",  # none where the head was refused
            masked(request.target) if request else "-",
            exchange.status or "-",
            exchange.label,
            self._transport.bytes_sent - self._sent_before,
            seconds,
            self._phase.ended,
        )

    # -- What ends it early ---------------------------------------------------------------------

    def drain(self) -> None:
        """The server stops: end what is idle or endless now, let the rest finish."""
        if self._handling:
            # A send under way is finished first; see `_send_finished`.
            if self._exchange.farewell and not self._transport.sending:
                self._phase.cancel("drained")
        elif not self._received:
            self._phase.cancel("drained")

    def _send_finished(self) -> None:
        """A send that had to wait is done: `drain` may have waited for it."""
        if self._service.draining and self._exchange.farewell:
            self._phase.cancel("drained")

    def _lost(self, how: str) -> None:
        """A send has found that the client is gone, or reads no more."""
        self._phase.client_left = True
        grace = self._service.limits.leave_seconds if self._exchange.listening else 0
        self._phase.cancel(how, grace)

    async def beat(self) -> None:
        """End the connection if it has been idle for `idle_seconds`."""
        silent = trio.current_time() - self.last_sent
        if self._began is None and silent >= self.interval:
            self._phase.cancel("idle")

    def _left(self) -> None:
        """The client has closed, or half-closed, its side. What it sent before is delivered to a
        handler that is reading, everyone else is cancelled at once; but a half-close that came
        along with the request only says that there will be no other."""
        self._phase.client_left = True
        if not self._handling:
            return
        began = self._began or 0
        if not self._exchange.status and trio.current_time() < began + TOGETHER:
            self._phase.cancel("client left", self._service.limits.leave_seconds)
        else:
            self._lost("client left")

    # -- Requests in ----------------------------------------------------------------------------

    async def _next_request(self) -> Request | None:
        """The next request; None when the client has closed. Raises `HTTPError`."""
        head = await self._read_head()
        if head is None:
            return None
        # Whether the client has half-closed behind it, as `nc -N` does, is asked now: by the time a
        # busy server is told, it could not be told from a client that leaves.
        self._service.departures.look()
        check = check_head_again if len(head) <= FAMILIAR_BYTES else check_head
        check(head, self._service.limits)
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
            self._exchange,
            http_version=event.http_version.decode("ascii"),
            scheme=self._scheme,
            client=self._client,
        )
        self._exchange.head_only = request.head_only
        self._exchange.body_is_chunked = body_follows and "transfer-encoding" in request.headers
        self._exchange.is_refusal = False
        names, authority = self._service.local_names, request.authority
        if names is not None and authority and not is_local_host(authority, names):
            raise HTTPError(421, f"{authority} is not served here")
        expected = request.headers.tokens("expect")
        if expected and expected != ["100-continue"] and request.http_version != "1.0":
            raise HTTPError(417, "no expectation but 100-continue can be met")
        return request

    async def _read_head(self) -> bytes | None:
        """The bytes up to and with the empty line; None at the end of input. Raises `HTTPError`.

        The first byte puts the whole head under one deadline, which no later byte moves; the
        first head of all has it from accept on.
        """
        received = self._received
        limits = self._service.limits
        is_first = not self.beating
        deadline = trio.current_time() + limits.head_seconds if is_first else inf
        checked = 0
        skipped = False
        while True:
            if received.startswith(b"\r\n") and not skipped:
                # RFC 9112 section 2.2: ignore an empty line before a request.
                del received[:2]
                skipped = True
            if received and received != b"\r" and self._began is None:
                self._began = trio.current_time()
                self._sent_before = self._transport.bytes_sent
            end = received.find(END_OF_HEAD, max(0, checked - len(END_OF_HEAD)))
            if end >= 0:
                break
            if self._began is not None:
                check_unfinished_head(received, checked, limits)
                if deadline == inf:
                    deadline = self._began + limits.head_seconds
                self._phase.ended = "head too slow"
                checked = len(received)
            if deadline == inf:
                data = await self._transport.receive()
            else:
                left = max(0, deadline - trio.current_time())
                in_time = await self._transport.receive_within(left)
                if in_time is None:
                    return None
                data = in_time
            if not data:
                self._phase.ended = "client left"
                return None
            received += data
        end += len(END_OF_HEAD)
        head = bytes(received[:end])
        del received[:end]
        return head


def error_response(error: HTTPError, request: Request | None = None) -> tuple[int, Fields, bytes]:
    """Status, fields and the one line that an error is answered with."""
    accepted = request.headers.get("accept", "") if request else ""
    if isinstance(error, Unavailable) and "text/event-stream" in accepted:
        retry = b"retry: %d\n\n" % (error.retry_seconds * 1000)
        return 200, [("Content-Type", "text/event-stream"), *error.headers], retry
    text = f"{error.status} {reason_phrase(error.status)}"
    if error.text:
        text += f": {error.text}"
    fields = [("Content-Type", "text/plain; charset=utf-8"), *error.headers]
    return error.status, fields, f"{text}\n".encode()


def _http_error(error: Exception) -> HTTPError | None:
    """The error to answer with, also out of the nurseries of a handler: the first there is, if
    nothing but such errors was raised."""
    leaves = list(_leaves(error))
    if not all(isinstance(leaf, (HTTPError, *EXPECTED)) for leaf in leaves):
        return None
    return next((leaf for leaf in leaves if isinstance(leaf, HTTPError)), None)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """An exception, or the exceptions that a group holds at any depth."""
    group = getattr(error, "exceptions", None)  # ExceptionGroup has no name in Python 3.10
    if group is None:
        yield error
    else:
        for member in group:
            yield from _leaves(member)
