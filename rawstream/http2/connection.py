"""One connection of HTTP/2: many exchanges at a time, each in a task of its own.

    bytes -> FrameGuard -> Machine (h2) -> events -> Http2Exchange, one for each stream
    bytes <- Link       <- Machine      <------------+

One task reads. It ends when the client has left or has broken the protocol, or when nobody needs
the connection any more: it was idle, or the server stops and the last exchange has ended. Then it
is closed, here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import trio
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError, StreamClosedError

from ..errors import BrokenStream, ClientGone, HTTPError
from ..http.closing import close_connection
from ..http.context import ServerContext
from ..http.lifetime import Ended
from ..http.proxied import Proxied
from ..http.request import Handler
from ..limits import KIB
from ..stderr import logger
from ..tcp.transport import Transport
from .exchange import Http2Exchange
from .guard import BrokenProtocol
from .link import Link
from .machine import ANY_STREAM, fields_of
from .request_head import RequestHead, request_head

UNREAD_BYTES = 256 * KIB
"""With more than this unsent, no more is read: replies to a client that reads nothing must not pile
up. Responses alone never reach this, so that a client which has not read them is still heard."""

ROUND_TRIP_SECONDS = 1
"""Seconds that a client has to answer the ping that is sent with the first GOAWAY."""

GOODBYE, ALIVE = b"goodbye?", b"alive?.."
"""What our pings say."""


class Http2Connection:
    """One connection and its exchanges."""

    protocol = "HTTP/2"
    ended: Ended | str | None = None
    """Why it has ended, once it has."""

    def __init__(
        self,
        transport: Transport,
        context: ServerContext,
        handler: Handler,
        client: str,
        *,
        last: bool,
        proxied: Proxied | None = None,
    ) -> None:
        """`last`: close the connection after the first exchanges. `proxied`: it comes from a
        trusted proxy."""
        self._transport = transport
        self._context = context
        self._handler = handler
        self._last = last
        self._link = Link(
            transport, context, client, proxied, self._on_free, self._close_soon, self._on_abuse
        )
        # Those whose handlers have not ended, by the numbers of their streams:
        self._exchanges: dict[int, Http2Exchange] = {}
        self._nursery: trio.Nursery | None = None
        self._reading = trio.CancelScope()
        self._leaving: trio.Event | None = None  # set once the client knows that we are
        self._refuses = False  # the last GOAWAY was sent
        self._idle = _Idle(self, context.limits.head_seconds, context.now())
        self._pings = _Pings(self, context.limits.ping_seconds, context.now())

    # -- Its life -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve exchanges until the connection ends, then close it."""
        transport, link = self._transport, self._link
        try:
            async with trio.open_nursery() as self._nursery:
                transport.owner = self
                transport.on_left_over = self._flush_soon
                self._context.keep_alive.add(self._idle)
                self._context.keep_alive.add(self._pings)
                link.write()
                if self._context.draining:
                    self.drain()
                with self._reading:
                    await self._read()
                if self._leaving is not None:
                    self._leaving.set()  # there is nobody left to wait for
        finally:
            self.ended = self.ended or Ended.CUT
            self._idle.active = self._pings.active = False
            transport.owner = transport.on_left_over = None
            transport.uncork()
            try:
                if transport.sending and not transport.peer_is_done:
                    with trio.move_on_after(self._context.limits.linger_seconds):
                        with suppress(ClientGone, BrokenStream):
                            await transport.send()
            finally:
                talking = link.is_over and not transport.peer_is_done
                await close_connection(transport, self._context, talking=talking)

    async def _read(self) -> None:
        """Handle what arrives, until the client leaves or breaks the protocol."""
        guard, machine = self._link.guard, self._link.machine
        try:
            while data := await self._receive():
                self._pings.heard(self._context.now())
                paused = False
                for frames in guard.admit(data):
                    if paused:  # let the other tasks run
                        await trio.lowlevel.checkpoint()
                    for event in machine.receive_data(frames):
                        self._on_event(event)
                    self._link.write()
                    paused = True
                if guard.has_said_goodbye:
                    self._end_if_free()
                while (
                    self._transport.backlog > UNREAD_BYTES and self._transport.flushing is not None
                ):
                    await self._transport.flushing.wait()
            self._transport.peer_is_done = True
            self._lose_all(Ended.CLIENT_LEFT)
        except BrokenProtocol as error:
            self._break_off(error.code, error.reason)
        except ProtocolError as error:
            # h2 has made a GOAWAY, but one that says nothing.
            machine.clear_outbound_data_buffer()
            self._break_off(error.error_code, str(error))

    async def _receive(self) -> bytes:
        """Return the next bytes; b"" at the end. A field block has the time of a request's head."""
        began = self._link.guard.block_began
        if began is None:
            return await self._transport.receive()
        left = began + self._context.limits.head_seconds - self._context.now()
        data = await self._transport.receive_within(max(0, left))
        if data is None:
            raise BrokenProtocol(ErrorCodes.ENHANCE_YOUR_CALM, "a field block too slow")
        return data

    def _break_off(self, code: ErrorCodes, reason: str) -> None:
        """The client has broken the protocol: tell it how, and end all exchanges."""
        logger.info("%s: %s: %s", self._link.client or "-", code.name, reason)
        self._say_goodbye(self._link.machine.highest_inbound_stream_id, code, reason)
        self._lose_all(Ended.PROTOCOL_ERROR)

    def _on_abuse(self, error: BrokenProtocol) -> None:
        """A handler's task has found that the client does what it may not."""
        self._break_off(error.code, error.reason)
        self._reading.cancel()

    def _lose_all(self, reason: Ended) -> None:
        self._link.is_over = True
        self.ended = self.ended or reason
        for exchange in list(self._exchanges.values()):
            exchange.lose(reason)

    # -- For an observer ------------------------------------------------------------------------

    @property
    def bytes_sent(self) -> int:
        return self._transport.bytes_sent

    @property
    def bytes_received(self) -> int:
        return self._transport.bytes_received

    def exchanges(self) -> Iterable[Http2Exchange]:
        """Those whose handlers have not ended."""
        return self._exchanges.values()

    # -- Events ---------------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        exchanges = self._exchanges
        match event:
            case RequestReceived():
                self._open(event)
            case DataReceived(stream_id=stream, data=data, flow_controlled_length=size):
                if not data and size:  # padding alone
                    self._link.guard.useless.spend()
                if (exchange := exchanges.get(stream)) is not None:
                    exchange.take_data(data, size)
                else:
                    self._link.machine.acknowledge_received_data(size, stream)
            case StreamEnded(stream_id=stream):
                if (exchange := exchanges.get(stream)) is not None:
                    exchange.take_end()
            case TrailersReceived(stream_id=stream):
                if (exchange := exchanges.get(stream)) is not None:
                    exchange.take_trailers(fields_of(event))
            case WindowUpdated(stream_id=stream):
                self._link.wake(stream)
            case RemoteSettingsChanged():
                self._link.wake()
            case StreamReset(stream_id=stream, remote_reset=by_client):
                if not by_client:  # because of its mistake
                    self._link.guard.resets.spend()
                if (exchange := exchanges.get(stream)) is not None:
                    exchange.on_reset()
            case PingAckReceived(ping_data=data):
                if data == GOODBYE and self._leaving is not None:
                    self._leaving.set()

    def _open(self, event: RequestReceived) -> None:
        """A request has arrived: serve it in a task of its own, unless there are too many."""
        link, stream, limits = self._link, event.stream_id, self._context.limits
        if self._refuses or len(self._exchanges) >= limits.streams:
            link.guard.resets.spend()
            with suppress(StreamClosedError):  # by the client, in the same read
                link.machine.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
            return
        has_body = event.stream_ended is None
        head: RequestHead | HTTPError
        try:
            head = request_head(fields_of(event), limits, has_body=has_body)
        except HTTPError as error:
            head = error
        exchange = Http2Exchange(link, stream, head, has_body=has_body)
        self._exchanges[stream] = exchange
        self._idle.interval = limits.idle_seconds
        assert self._nursery is not None
        self._nursery.start_soon(exchange.serve, self._handler)
        if self._last:
            self._close_soon()

    # -- Its end --------------------------------------------------------------------------------

    def drain(self) -> None:
        """The server is stopping: take no more requests, end endless responses now, and let any
        other exchange finish."""
        self._close_soon()
        for exchange in list(self._exchanges.values()):
            exchange.drain()

    def _close_soon(self) -> None:
        """Take no more requests.

        One may be under way already, which the last GOAWAY must not refuse unseen. So a first one,
        which refuses nothing, goes out with a ping. When that is answered, the client has stopped
        asking, and the last one names the last stream (RFC 9113 section 6.8).
        """
        if self._nursery is None or self._leaving is not None or self._link.is_over:
            return
        self._leaving = trio.Event()
        self._say_goodbye(ANY_STREAM)
        self._link.machine.ping(GOODBYE)
        self._link.write()
        self._nursery.start_soon(self._refuse_soon, self._leaving)

    async def _refuse_soon(self, leaving: trio.Event) -> None:
        with trio.move_on_after(ROUND_TRIP_SECONDS):
            await leaving.wait()
        self._refuses = True
        self._say_goodbye(self._link.machine.highest_inbound_stream_id)
        self._end_if_free()

    def _say_goodbye(
        self, last: int, code: ErrorCodes = ErrorCodes.NO_ERROR, reason: str = ""
    ) -> None:
        self._link.write()
        if not self._link.is_over:
            self._transport.write_soon(self._link.machine.goaway(last, code, reason), more=True)

    def _on_free(self, stream: int) -> None:
        """The exchange of this stream has ended."""
        del self._exchanges[stream]
        self._idle.last_active = self._context.now()
        self._end_if_free()

    def _end_if_free(self) -> None:
        """End the connection if there will be no more exchanges."""
        if not self._exchanges and (self._refuses or self._link.guard.has_said_goodbye):
            self.ended = self.ended or (Ended.DRAINED if self._context.draining else Ended.DONE)
            self._reading.cancel()

    def end_if_idle(self, since: float) -> None:
        """Nothing has been asked `since` then: end the connection, unless something is being
        answered."""
        if not self._exchanges and self._idle.last_active <= since:
            self._say_goodbye(self._link.machine.highest_inbound_stream_id)
            self.ended = Ended.IDLE
            self._reading.cancel()

    def on_gone(self, *, stopped_reading: bool) -> None:
        """A send has failed because the client has left or has stopped reading."""
        self._transport.peer_is_done = True
        self._lose_all(Ended.CLIENT_STOPPED_READING if stopped_reading else Ended.CLIENT_LEFT)
        self._reading.cancel()

    def on_sent(self) -> None:
        """A send that had to wait has ended. Exchanges see to their own."""

    def _flush_soon(self) -> None:
        self._context.keep_alive.start_soon(self._transport.flush)

    def vanish(self) -> None:
        """The client has vanished: it answers no ping."""
        self._transport.peer_is_done = True
        self._lose_all(Ended.CLIENT_VANISHED)
        self._reading.cancel()

    def ping(self) -> None:
        """Ask the client whether it is there."""
        if not self._link.is_over:
            self._link.machine.ping(ALIVE)
            self._link.write()

    @property
    def is_needed(self) -> bool:
        """Whether any exchange is under way, and nothing that is unsent: that has a deadline of its
        own, and until then the client may not be heard."""
        return bool(self._exchanges) and self._transport.flushing is None


class _Idle:
    """Ends a connection that has had nothing to do for its interval: at first `head_seconds`, which
    include the handshake of TLS, and `idle_seconds` after the first request."""

    __slots__ = ("__weakref__", "_connection", "active", "interval", "last_active")

    def __init__(self, connection: Http2Connection, interval: float, now: float) -> None:
        self._connection = connection
        self.active = True
        self.interval = interval
        self.last_active = now

    def on_due(self) -> None:
        """End it, if it is still idle."""
        self._connection.end_if_idle(self.last_active)


class _Pings:
    """Pings a client that has been silent for its interval while it waits for responses. If nothing
    has arrived since the last ping, the client has vanished."""

    __slots__ = ("__weakref__", "_connection", "_unanswered", "active", "interval", "last_active")

    def __init__(self, connection: Http2Connection, interval: float, now: float) -> None:
        self._connection = connection
        self._unanswered = False
        self.active = True
        self.interval = interval
        self.last_active = now

    def heard(self, now: float) -> None:
        """Something has arrived."""
        self._unanswered = False
        self.last_active = now

    def on_due(self) -> None:
        """Ping the client, or give it up."""
        if not self._connection.is_needed:
            return
        if self._unanswered:
            self._connection.vanish()
        else:
            self._unanswered = True
            self._connection.ping()
