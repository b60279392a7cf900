"""One HTTP/1.x connection, from its first byte to its close: exchange after exchange.

    bytes -> HeadReader -> Framing -> Request -> handler -> Http1Exchange -> Framing -> bytes

The bytes of a head stay with the `HeadReader` until the head is complete and has been checked. A
body goes to h11 as it arrives. If the client leaves, the server drains or a deadline passes, the
one cancel scope of `Lifetime` is cancelled. `run` then acts on the reason, outside of that scope:
it sends the final response, writes the access line, and closes the connection, here and nowhere
else.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio

from ..http.answering import (
    answer_error,
    call,
    check_answered,
    check_request,
    note_failure,
    report_exchange,
    send_final_response,
)
from ..http.closing import close_connection
from ..http.context import ServerContext
from ..http.lifetime import Ended, Lifetime
from ..http.proxied import Proxied
from ..http.request import Handler, Request
from ..tcp.closing import abort
from ..tcp.kernel import ended_with_data, unread
from ..tcp.transport import TORN, Transport
from .exchange import Http1Exchange
from .h11_framing import H11Framing
from .h11_request import H11Request
from .head import check_head
from .head_reader import HeadReader
from .plain_lane import cut_again

PREFACE_HEAD = b"PRI * HTTP/2.0\r\n\r\n"
"""What HTTP/2 begins with looks like the head of a request, so that a server of HTTP/1.1 reads no
further (RFC 9113 section 3.4)."""

ARRIVING_SECONDS = 1
"""Seconds that a request has to arrive which is on its way when the server stops: time for the
handshake of TLS with a client far away."""

TOGETHER = 0.005
"""Seconds, by our own clock, within which a half-close counts as sent together with the request."""


class Connection:
    """One connection and its current exchange."""

    __slots__ = (
        "__weakref__", "_client", "_context", "_exchange", "_handler",
        "_handling", "_heads", "_last", "_lifetime", "_may_switch", "_proxied", "_request",
        "_scheme", "_sent_before", "_transport", "active", "interval", "last_active",
    )  # fmt: skip

    protocol = "HTTP/1"

    def __init__(
        self,
        transport: Transport,
        context: ServerContext,
        handler: Handler,
        client: str,
        *,
        last: bool,
        may_switch: bool = False,
        proxied: Proxied | None = None,
    ) -> None:
        """`last`: close the connection after the first exchange. `may_switch`: the client may speak
        HTTP/2 instead, which `run` then returns. `proxied`: it comes from a trusted proxy."""
        self._proxied = proxied
        self._may_switch = may_switch
        self._transport = transport
        transport.owner = self
        self._context = context
        self._handler = handler
        self._client = client
        self._last = last
        self._scheme = "http" if transport.carrier is transport.stream else "https"
        self._lifetime = Lifetime()
        self._heads = HeadReader(transport, context.limits, context.now)
        # The current exchange:
        self._request: Request | None = None
        self._handling = False  # the handler is running
        self._sent_before = 0  # bytes sent on this connection before it
        self._exchange = self._next_exchange()
        # The keep-alive scheduler ends idle connections. A deadline for each connection would have
        # to be moved twice a request. `active` is set after the first request.
        self.active = False
        self.interval = context.limits.idle_seconds
        self.last_active = 0.0

    # -- The life of a connection ---------------------------------------------------------------

    async def run(self) -> bool:
        """Serve requests until the connection ends, then close it, and return False. Return True if
        its first bytes are those of HTTP/2: it is still open then, and they are received again."""
        sock = self._transport.carrier_socket
        finished = False
        try:
            try:
                if sock is not None:
                    self._context.watcher.watch(sock, self._on_hangup)
                with self._lifetime.scope:
                    while await self._serve_one():
                        if self._heads.received:  # pipelined: let other tasks run first
                            await trio.lowlevel.checkpoint()
            except Exception as error:
                # A handler's failure ends here, and never leaves the connection.
                has_met_its_end = self._has_met_its_end()
                note_failure(error, self._request, self._lifetime, has_met_its_end=has_met_its_end)
            self._exchange.last = True
            await send_final_response(self._exchange, self._request, self._lifetime)
            finished = True
        finally:
            self.active = False
            if not finished:
                self._lifetime.reason = Ended.CUT
            switched = self._lifetime.reason is Ended.SWITCHED
            self._transport.owner = None  # breaks a reference cycle
            if sock is not None:
                self._context.watcher.forget(sock)
            self._transport.uncork()  # a head that was held back
            try:
                self._end_exchange()
            finally:
                if not switched:
                    await self._close()
        return switched

    async def _serve_one(self) -> bool:
        """Serve one request. Return whether another may follow."""
        exchange = self._exchange
        try:
            request = await self._next_request()
            if request is None:
                return False
            self._handling = True
            self._lifetime.begin_handling(exchange.limits.leave_seconds)
            await call(self._handler, request)
        except Exception as raised:
            if not await answer_error(raised, exchange, self._request, self._lifetime):
                return False
        check_answered(exchange, self._lifetime)
        return self._begin_next_cycle()

    def _has_met_its_end(self) -> bool:
        """Whether this connection has ended in a way that its handler learns of by an exception.
        If not, the exception came from another connection, to which the handler was sending."""
        upgraded, torn = self._exchange.is_upgraded, self._transport.state is TORN
        return self._lifetime.client_left or upgraded or torn or self._lifetime.reason is not None

    def _begin_next_cycle(self) -> bool:
        """Prepare for the next request. Return False if there can be none."""
        if self._transport.state is TORN:
            self._lifetime.reason = Ended.TORN
            return False
        exchange = self._exchange
        body = exchange.framing.body
        whole = body is None or body.skip_received()
        more = whole and exchange.framing.another_may_follow
        if not more or self._last or self._context.draining:
            return False
        self._end_exchange()
        if body is not None:
            # The bytes behind it are the next head, which must pass all checks.
            self._heads.received[:0] = body.behind
        self._request = None
        self._handling = False
        exchange.is_over = True
        self._exchange = self._next_exchange()
        self.last_active = self._context.now()
        if not self.active:
            self.active = True
            self._context.keep_alive.add(self)
        return True

    def _next_exchange(self) -> Http1Exchange:
        return Http1Exchange(
            self._context,
            self._transport,
            self._lifetime,
            self._heads.received,
            last=self._last,
        )

    async def _close(self) -> None:
        """Close so that the client can tell whether what it has received is complete."""
        exchange = self._exchange
        if exchange.looks_whole:
            await abort(self._transport)
            return
        body = exchange.framing.body
        unread = (body is not None and not body.is_over) or bool(self._heads.received)
        malformed = body is not None and body.is_malformed
        refused = exchange.status != 0 and (exchange.is_refused or malformed)
        talking = unread or refused or exchange.is_upgraded
        talking = talking and not self._transport.peer_is_done
        await close_connection(self._transport, self._context, talking=talking)

    def _end_exchange(self) -> None:
        """Count the current exchange no longer, and report it, if there is one: for the access log,
        and to an observer."""
        if self._proxied is not None:
            self._proxied.release(self._request)
        began, self._heads.began = self._heads.began, None
        if began is None or not self._context.reports:
            return
        report_exchange(
            self._context,
            self._client,
            self._request,
            self._exchange,
            self._lifetime.reason,
            size=self._transport.bytes_sent - self._sent_before,
            began=began,
        )

    # -- For an observer ------------------------------------------------------------------------

    @property
    def ended(self) -> Ended | str | None:
        """Why it has ended, once it has."""
        return self._lifetime.reason

    @property
    def bytes_sent(self) -> int:
        return self._transport.bytes_sent

    @property
    def bytes_received(self) -> int:
        return self._transport.bytes_received

    def exchanges(self) -> Iterable[Http1Exchange]:
        """The one whose handler is running."""
        return (self._exchange,) if self._handling else ()

    # -- Early ends -----------------------------------------------------------------------------

    def drain(self) -> None:
        """The server is stopping: end an idle connection and an endless response now, and let any
        other exchange finish."""
        if self._handling:
            # A send under way is finished first; see `on_sent`.
            if self._exchange.farewell and not self._transport.sending:
                self._lifetime.cancel(Ended.DRAINED)
        elif not self._heads.received:
            self._lifetime.cancel(Ended.DRAINED, ARRIVING_SECONDS if self._may_be_asked() else 0)

    def _may_be_asked(self) -> bool:
        """Whether a request is likely on its way: bytes lie unread, or the handshake of TLS, which
        it comes after, is under way."""
        sock = self._transport.carrier_socket
        if sock is not None and unread(sock):
            return True
        if isinstance(self._transport.stream, trio.SSLStream):
            try:
                self._transport.stream.selected_alpn_protocol()
            except trio.NeedHandshakeError:
                return True
        return False

    def on_sent(self) -> None:
        """A send that had to wait has ended; `drain` may have left the cancelling to this
        moment."""
        if self._context.draining and self._exchange.farewell:
            self._lifetime.cancel(Ended.DRAINED)

    def on_gone(self, *, stopped_reading: bool) -> None:
        """A send has failed because the client has left or has stopped reading."""
        self._lose(Ended.CLIENT_STOPPED_READING if stopped_reading else Ended.CLIENT_LEFT)

    def _lose(self, reason: Ended) -> None:
        self._lifetime.client_left = True
        grace = self._context.limits.leave_seconds if self._exchange.reads_on else 0
        self._lifetime.cancel(reason, grace)

    def on_due(self) -> None:
        """End the connection if it has been idle for `idle_seconds`."""
        silent = self._context.now() - self.last_active
        if self._heads.began is None and silent >= self.interval:
            self._lifetime.cancel(Ended.IDLE)

    def _on_hangup(self) -> None:
        """The client has closed or half-closed. A handler that is reading first receives what the
        client had sent; any other handler is cancelled at once. A half-close sent together with the
        request only means that no other request follows, so that request is answered."""
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
            together = self._context.now() < began + TOGETHER
        return together

    # -- Requests -------------------------------------------------------------------------------

    async def _next_request(self) -> Request | None:
        """The next request, or None if the client has closed. Raises `HTTPError`."""
        self._sent_before = self._transport.bytes_sent
        head = await self._heads.read()
        if isinstance(head, Ended):
            self._lifetime.reason = head
            return None
        if head == PREFACE_HEAD and self._may_switch:
            self._transport.unread(head + bytes(self._heads.received))
            self._heads.began = None
            self._lifetime.reason = Ended.SWITCHED
            return None
        self._may_switch = False
        exchange = self._exchange
        self._choose_framing(head)
        framing = exchange.framing
        if framing.body is not None and self._heads.received:
            framing.body.receive(bytes(self._heads.received))
            self._heads.received.clear()
        method, target, version, headers, authority, _, _ = framing.head
        request = self._request = Request(
            method,
            target,
            headers,
            exchange,
            http_version=version,
            scheme=self._scheme,
            client=self._client,
        )
        exchange.head_only = request.head_only
        exchange.is_refused = False
        check_request(request, authority, framing.expectations, self._context, self._proxied)
        return request

    def _choose_framing(self, head: bytes) -> None:
        """Check a head, and choose the framing of its exchange. Raises `HTTPError`."""
        lane, limits = self._exchange.framing, self._context.limits
        if not self._transport.shortcuts:
            request = H11Request(head, check_head(head, limits), limits)
            self._exchange.framing = H11Framing(request)
            return
        checked = cut_again(head, limits)
        if checked.is_plain:
            lane.head = checked
            return
        request = H11Request(head, checked, limits)
        if request.head.version == "1.0":
            self._exchange.framing = H11Framing(request)
        else:
            lane.head, lane.body = request.head, request.body
            lane.expectations = request.expectations
