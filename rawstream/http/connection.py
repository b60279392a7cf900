"""One HTTP/1.x connection, from its first byte to its close: exchange after exchange.

    bytes -> HeadReader -> check_head -> h11 -> Request -> handler -> H11Exchange -> bytes

The bytes of a head stay with the `HeadReader` until the head is whole and has been checked; a body
goes to h11 as it comes. Whatever ends things early, the client leaving, the server
draining, a deadline, cancels the one scope of `Lifetime`; `run` then acts on the reason outside of
it: the final response, the access line, and the one place where the connection is closed.
"""

from __future__ import annotations

import h11
import trio

from ..errors import HTTPError
from ..tcp.closing import abort, close, close_in_stages, is_settled
from ..tcp.kernel import ended_with_data
from ..tcp.transport import State, Transport
from .access_log import access_log, masked
from .error_response import EXPECTED, error_response, http_error, leaves
from .fields import Headers
from .h11_exchange import H11Exchange, ServerContext
from .head import FAMILIAR_BYTES, check_head, check_head_again, is_local_host
from .head_reader import HeadReader
from .lifetime import Ended, Lifetime
from .request import Handler, Request
from .request_body import RequestBody
from .stderr import logger

TOGETHER = 0.005
"""Seconds within which a half-close has come along with the request before it, by our own clock."""


class Connection:
    """One connection and the exchange that is under way on it."""

    __slots__ = (
        "__weakref__", "_client", "_context", "_exchange", "_h11", "_handler",
        "_handling", "_heads", "_last", "_lifetime", "_request", "_scheme", "_sent_before",
        "_transport", "active", "interval", "last_active",
    )  # fmt: skip

    def __init__(
        self,
        transport: Transport,
        context: ServerContext,
        handler: Handler,
        client: str,
        *,
        last: bool,
    ) -> None:
        """`last`: close after the first exchange."""
        self._transport = transport
        transport.owner = self
        self._context = context
        self._handler = handler
        self._client = client
        self._last = last
        self._scheme = "https" if isinstance(transport.stream, trio.SSLStream) else "http"
        self._h11 = h11.Connection(h11.SERVER, context.limits.head_bytes)
        self._lifetime = Lifetime()
        self._heads = HeadReader(transport, context.limits)
        # The exchange under way:
        self._request: Request | None = None
        self._handling = False  # the handler is running
        self._sent_before = 0  # bytes sent on this connection before it
        self._exchange = self._next_exchange()
        # Idle connections are the keep-alive scheduler's: a deadline of their own would have to be
        # moved twice a request. Active once there has been a first request.
        self.active = False
        self.interval = context.limits.idle_seconds
        self.last_active = 0.0

    # -- The life of a connection ---------------------------------------------------------------

    async def run(self) -> None:
        """Serve requests until the connection ends, then close it."""
        sock = self._transport.carrier_socket
        finished = False
        try:
            try:
                if sock is not None:
                    self._context.hangups.watch(sock, self._on_hangup)
                with self._lifetime.scope:
                    if self._context.draining:
                        self._lifetime.cancel(Ended.DRAINED)  # accepted in the last moment
                    while await self._serve_one():
                        if self._heads.received:  # pipelined: the others have their turn first
                            await trio.lowlevel.checkpoint()
            except Exception as error:
                # The one place where a handler's failure ends: said aloud, never passed on.
                expected = all(isinstance(leaf, EXPECTED) for leaf in leaves(error))
                if expected and self._has_met_its_end():
                    self._lifetime.reason = self._lifetime.reason or Ended.CLIENT_LEFT
                else:
                    self._lifetime.reason = Ended.HANDLER_FAILED
                    logger.exception("%s: the handler failed", self._request)
            await self._send_final_response()
            finished = True
        finally:
            self.active = False
            if not finished:
                self._lifetime.reason = Ended.CUT
            self._transport.owner = None  # no cycle to be collected
            if sock is not None:
                self._context.hangups.forget(sock)
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
            self._lifetime.begin_handling(exchange.limits.leave_seconds)
            await self._handler(request)
        except Exception as raised:
            error = http_error(raised)
            if error is None:
                raise
            if exchange.status:
                logger.warning("%s: too late to answer with %r", self._request, error)
                self._lifetime.reason = f"failed with {error.status}"
                return False
            await exchange.respond(*error_response(error, self._request))
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE, h11.SEND_BODY):
            raise RuntimeError("the handler returned without a response, or within one")
        self._lifetime.reason = Ended.DONE
        return self._begin_next_cycle()

    def _has_met_its_end(self) -> bool:
        """Whether this connection is one whose handler may be told so by an exception; it may
        also have come from another's, which it was sending to."""
        upgraded, torn = self._exchange.is_upgraded, self._transport.state is State.TORN
        return self._lifetime.client_left or upgraded or torn or self._lifetime.reason is not None

    def _begin_next_cycle(self) -> bool:
        """Get ready for the next request; False if there can be none."""
        if self._transport.state is State.TORN:
            self._lifetime.reason = Ended.TORN
            return False
        whole = self._exchange.skip_received_body()
        states = (self._h11.our_state, self._h11.their_state)
        if not whole or states != (h11.DONE, h11.DONE) or self._last or self._context.draining:
            return False
        self._log_exchange()
        # h11 holds what came behind a body. It has to pass `check_head` before h11 parses it.
        behind, _ = self._h11.trailing_data
        if behind:
            self._heads.received[:0] = behind
            self._h11 = h11.Connection(h11.SERVER, self._exchange.limits.head_bytes)
        else:
            self._h11.start_next_cycle()
        self._request = None
        self._handling = False
        self._exchange.is_over = True
        self._exchange = self._next_exchange()
        self.last_active = trio.current_time()
        if not self.active:
            self.active = True
            self._context.keep_alive.add(self)
        return True

    def _next_exchange(self) -> H11Exchange:
        return H11Exchange(
            self._context,
            self._transport,
            self._h11,
            self._lifetime,
            self._heads.received,
            last=self._last,
        )

    async def _send_final_response(self) -> None:
        """What is still sent when the lifetime was ended early, and to whom."""
        exchange = self._exchange
        exchange.last = True
        unanswered = self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE)
        try:
            match self._lifetime.reason:
                case Ended.DRAINED if exchange.farewell:
                    await exchange.farewell()
                case Ended.HANDLER_FAILED if unanswered:
                    await exchange.respond(*error_response(HTTPError(500)))
                case Ended.HEAD_TOO_SLOW | Ended.BODY_TOO_SLOW as reason if unanswered:
                    error = HTTPError(408, f"request {reason.value}")
                    await exchange.respond(*error_response(error))
        except EXPECTED:
            pass
        except Exception:
            logger.exception("%s: the final response failed", self._request)

    async def _close(self) -> None:
        """Close in the way that tells the client the truth about what it has received."""
        exchange = self._exchange
        if exchange.looks_whole:
            await abort(self._transport)
            return
        unread = self._h11.their_state is h11.SEND_BODY or bool(self._heads.received)
        body = exchange.body
        malformed = body is not None and body.is_malformed
        refused = exchange.status != 0 and (exchange.is_refused or malformed)
        talking = unread or refused or exchange.is_upgraded
        talking = talking and not self._transport.peer_is_done
        may_linger = self._context.lingering < self._context.limits.lingering
        if may_linger and (talking or not is_settled(self._transport)):
            self._context.lingering += 1
            try:
                await close_in_stages(self._transport, until_settled=not talking)
            finally:
                self._context.lingering -= 1
        else:
            await close(self._transport)

    def _log_exchange(self) -> None:
        """The access line of the exchange under way, if there is one."""
        if self._heads.began is None:
            return
        seconds = trio.current_time() - self._heads.began
        self._heads.began = None
        if not self._context.access_log:
            return
        request, exchange, reason = self._request, self._exchange, self._lifetime.reason
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
            reason.value if isinstance(reason, Ended) else reason,
        )

    # -- What ends it early ---------------------------------------------------------------------

    def drain(self) -> None:
        """The server stops: end what is idle or endless now, let the rest finish."""
        if self._handling:
            # A send under way is finished first; see `on_sent`.
            if self._exchange.farewell and not self._transport.sending:
                self._lifetime.cancel(Ended.DRAINED)
        elif not self._heads.received:
            self._lifetime.cancel(Ended.DRAINED)

    def on_sent(self) -> None:
        """A send that had to wait is over: `drain` may have waited for it."""
        if self._context.draining and self._exchange.farewell:
            self._lifetime.cancel(Ended.DRAINED)

    def on_gone(self, *, stopped_reading: bool) -> None:
        """A send has found that the client is gone, or reads no more."""
        self._lose(Ended.CLIENT_STOPPED_READING if stopped_reading else Ended.CLIENT_LEFT)

    def _lose(self, reason: Ended) -> None:
        self._lifetime.client_left = True
        grace = self._context.limits.leave_seconds if self._exchange.reads_on else 0
        self._lifetime.cancel(reason, grace)

    async def on_due(self) -> None:
        """End the connection if it has been idle for `idle_seconds`."""
        silent = trio.current_time() - self.last_active
        if self._heads.began is None and silent >= self.interval:
            self._lifetime.cancel(Ended.IDLE)

    def _on_hangup(self) -> None:
        """The client has closed, or half-closed, its side. What it sent before is delivered to a
        handler that is reading, everyone else is cancelled at once; but a half-close that came
        along with the request only says that there will be no other."""
        self._lifetime.client_left = True
        if not self._handling:
            return
        if not self._exchange.status and self._ended_with_request():
            self._lifetime.cancel(Ended.CLIENT_LEFT, self._context.limits.leave_seconds)
        else:
            self._lose(Ended.CLIENT_LEFT)

    def _ended_with_request(self) -> bool:
        sock = self._transport.carrier_socket
        together = ended_with_data(sock) if sock is not None else None
        if together is None:
            began = self._heads.began or 0
            together = trio.current_time() < began + TOGETHER
        return together

    # -- Requests in ----------------------------------------------------------------------------

    async def _next_request(self) -> Request | None:
        """The next request; None when the client has closed. Raises `HTTPError`."""
        self._sent_before = self._transport.bytes_sent
        head = await self._heads.read()
        if isinstance(head, Ended):
            self._lifetime.reason = head
            return None
        check = check_head_again if len(head) <= FAMILIAR_BYTES else check_head
        check(head, self._context.limits)
        self._h11.receive_data(head)
        try:
            event = self._h11.next_event()
            assert type(event) is h11.Request
            body_follows = self._h11.next_event() is h11.NEED_DATA
        except h11.RemoteProtocolError as error:
            raise HTTPError(error.error_status_hint, str(error)) from None
        if body_follows and self._heads.received:
            # The body is h11's. What may follow a request without one must be checked first.
            self._h11.receive_data(bytes(self._heads.received))
            self._heads.received.clear()
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
        if body_follows:
            chunked = "transfer-encoding" in request.headers
            self._exchange.body = RequestBody(self._h11, chunked=chunked)
        self._exchange.is_refused = False
        names, authority = self._context.local_names, request.authority
        if names is not None and authority and not is_local_host(authority, names):
            raise HTTPError(421, f"{authority} is not served here")
        expected = request.headers.tokens("expect")
        if expected and expected != ["100-continue"] and request.http_version != "1.0":
            raise HTTPError(417, "no expectation but 100-continue can be met")
        return request
