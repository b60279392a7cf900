"""One request and its response over HTTP/2: one stream, and the task of its handler.

    HEADERS, DATA  ->  request and its body    ->  handler
    HEADERS, DATA  <-  response and its pieces <-

What an exchange sends goes out in one write with what the others of its connection send in the same
pass of the scheduler.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from math import inf

import trio
from h2.errors import ErrorCodes

from ..errors import BrokenStream, ClientGone, HTTPError
from ..http.answering import (
    answer_error,
    call,
    check_answered,
    check_request,
    note_failure,
    report_exchange,
    send_final_response,
)
from ..http.error_response import error_response
from ..http.exchange import BODY, BROKEN, ENDED, SWITCHED, UNANSWERED, ByteStream, Progress
from ..http.fields import Fields, checked
from ..http.lifetime import DONE, Ended, Lifetime
from ..http.request import Handler, Request
from ..stderr import logger
from ..tcp.transport import Transport
from .byte_stream import StreamOfBytes
from .link import Link
from .machine import ReceivedFields
from .request_body import RequestBody
from .request_head import MalformedRequest, RequestHead, check_trailers
from .response_body import Http2Body
from .response_head import made_head

_CODES: dict[Ended | str | None, ErrorCodes] = {
    Ended.HANDLER_FAILED: ErrorCodes.INTERNAL_ERROR,
    Ended.TORN: ErrorCodes.INTERNAL_ERROR,
    Ended.PROTOCOL_ERROR: ErrorCodes.PROTOCOL_ERROR,
}
"""Why a stream is reset, by why its exchange has ended; for all other reasons it is CANCEL."""


class Http2Exchange:
    """One stream of a connection."""

    __slots__ = (
        "_began", "_body", "_head", "_is_reset", "_lifetime", "_mistake", "_request", "_upgraded",
        "bytes_sent", "farewell", "head_only", "keep_alive", "label", "limits", "link",
        "progress", "reads_on", "received", "status", "stream",
    )  # fmt: skip

    progress: Progress
    """How much of the response has been made."""
    bytes_sent: int
    """Of the response body."""
    reads_on: bool
    """The handler is reading: data from before the client left is still delivered."""
    received: RequestBody | None
    """The body of the request; None if it has none."""

    def __init__(
        self, link: Link, stream: int, head: RequestHead | HTTPError, *, has_body: bool
    ) -> None:
        """`stream` is the number of the stream. The head of its request may be what is wrong with
        it."""
        self.link = link
        self.stream = stream
        self.limits = link.context.limits
        self.keep_alive = link.context.keep_alive
        self.label = "plain"
        self.status = 0
        self.progress = UNANSWERED
        self.bytes_sent = 0
        self.farewell: Callable[[], Awaitable[None]] | None = None
        self.head_only = False
        self.reads_on = False
        self.received = RequestBody(getattr(head, "length", None)) if has_body else None
        self._head = head
        self._mistake = head if isinstance(head, MalformedRequest) else None
        self._is_reset = False  # nothing more is sent on the stream
        self._lifetime = Lifetime()
        self._request: Request | None = None
        self._began = link.context.now()
        self._body: Http2Body | None = None
        self._upgraded: Transport | None = None

    # -- Its life -------------------------------------------------------------------------------

    async def serve(self, handler: Handler) -> None:
        """Have `handler` answer the request, or answer why it cannot be; then end the stream. No
        `Exception` leaves this."""
        finished = False
        try:
            try:
                with self._lifetime.scope:
                    if not self.is_lost:  # else it was reset right after the request
                        await self._answer(handler)
            except Exception as error:
                # A handler's failure ends here, and never leaves the stream.
                ended = self.progress in (BROKEN, SWITCHED) or self._lifetime.reason is not None
                note_failure(error, self._request, self._lifetime, has_met_its_end=ended)
            if self._lifetime.reason is not DONE:
                await send_final_response(self, self._request, self._lifetime)
                await self._answer_mistake()
            finished = True
        finally:
            if not finished:
                self._lifetime.reason = Ended.CUT
            try:
                self._end_stream()
                if self.link.context.reports:
                    report_exchange(
                        self.link.context, self.link.client, self._request, self,
                        self._lifetime.reason, size=self.bytes_sent, began=self._began,
                    )  # fmt: skip
            except Exception:  # as of a filter of the log
                logger.exception("%s: its end failed", self._request)
            finally:
                if self.progress is ENDED:
                    self.link.guard.resets.refill(1)  # a proxy has many clients that may leave
                if self.link.proxied is not None:
                    self.link.proxied.release(self._request)
                self.link.on_free(self.stream)

    async def _answer(self, handler: Handler) -> None:
        try:
            if isinstance(self._head, HTTPError):
                raise self._head
            request = self._take(self._head)
            self._lifetime.begin_handling(self.limits.leave_seconds)
            await call(handler, request)
        except Exception as raised:
            if not await answer_error(raised, self, self._request, self._lifetime):
                return
        if self._mistake is not None:
            self._lifetime.reason = Ended.PROTOCOL_ERROR
        else:
            check_answered(self, self._lifetime)

    def _take(self, head: RequestHead) -> Request:
        """Make a request of a head. Raises `HTTPError` if it is not for us."""
        link = self.link
        request = self._request = Request(
            head.method,
            head.target,
            head.headers,
            self,
            http_version="2",
            scheme=link.scheme,
            client=link.client,
        )
        self.head_only = request.head_only
        expected = head.headers.tokens("expect")
        if self.received is not None:
            self.received.is_awaited = bool(expected)
        check_request(request, head.authority, expected, link.context, link.proxied)
        return request

    async def _answer_mistake(self) -> None:
        """Say what is wrong with the body or trailers, if nothing has been said yet."""
        if self._mistake is not None and not self.status:
            with suppress(ClientGone, BrokenStream):
                await self.respond(*error_response(self._mistake, self._request))

    def _end_stream(self) -> None:
        """End the stream so that the client can tell whether what it has received is complete."""
        upgraded = self._upgraded
        if upgraded is not None and upgraded.stop() and self.is_writable:
            self.link.machine.end_stream(self.stream)
            self.link.write()
            self.progress = ENDED
        received = self.received
        if received is not None:
            self._acknowledge(received.drop())
        if not self._is_reset and not self.link.is_over:
            if self.progress is not ENDED:
                self._reset(_CODES.get(self._lifetime.reason, ErrorCodes.CANCEL))
            elif received is not None and not received.has_ended:
                self._reset(ErrorCodes.NO_ERROR)  # the rest is not needed (RFC 9113 section 8.1)

    def _reset(self, code: ErrorCodes) -> None:
        self._is_reset = True
        self.link.machine.reset_stream(self.stream, code)
        self.link.write()

    # -- Early ends -----------------------------------------------------------------------------

    @property
    def is_lost(self) -> bool:
        """Whether nothing more is sent to the client."""
        return self._is_reset or self._lifetime.client_left or self.link.is_over

    @property
    def is_writable(self) -> bool:
        """Whether DATA may be sent."""
        return self.progress in (BODY, SWITCHED) and not self.is_lost

    @property
    def is_draining(self) -> bool:
        return self.link.context.stopping

    def on_drain(self, farewell: Callable[[], Awaitable[None]] | None) -> None:
        self.farewell = farewell
        if farewell and self.link.context.draining:
            self.cancel(Ended.DRAINED)

    def cancel(self, reason: Ended | str, grace: float = 0) -> None:
        self._lifetime.cancel(reason, grace)

    def drain(self) -> None:
        """The server is stopping: end an endless response now."""
        if self.farewell and not self._is_sending:  # else `on_sent` does it
            self.cancel(Ended.DRAINED)

    def on_sent(self) -> None:
        """A send that had to wait has ended."""
        if self.farewell and self.link.context.draining and not self._is_sending:
            self.cancel(Ended.DRAINED)

    @property
    def _is_sending(self) -> bool:
        """Whether a piece may be half-sent. A WebSocket sends one in several parts."""
        sender = self._body or self._upgraded
        return sender is not None and sender.sending

    def on_gone(self, *, stopped_reading: bool) -> None:
        """A send on an upgraded stream has failed: the client has left or has stopped reading."""
        self.lose(Ended.CLIENT_STOPPED_READING if stopped_reading else Ended.CLIENT_LEFT)

    def on_reset(self) -> None:
        """The stream has been reset."""
        self._is_reset = True
        self.lose(Ended.CLIENT_LEFT)

    def lose(self, reason: Ended) -> None:
        """The client has left. A handler that is reading first receives what it had sent."""
        self._lifetime.client_left = True
        if self.received is not None and not self.received.has_ended:
            self.received.cut()
        self.link.wake(self.stream)
        self._lifetime.cancel(reason, self.limits.leave_seconds if self.reads_on else 0)

    # -- The request body -----------------------------------------------------------------------

    def take_data(self, data: bytes, size: int) -> None:
        """A piece of the body has arrived, which counts `size` bytes in the window."""
        if self.received is None or self._mistake is not None or not data:
            self._acknowledge(size)
            return
        try:
            self.received.add(data, size)
        except MalformedRequest as error:
            self._refuse(error)

    def take_trailers(self, fields: ReceivedFields) -> None:
        """The trailers of the request have arrived. They are checked, and dropped."""
        try:
            check_trailers(fields)
        except MalformedRequest as error:
            self._refuse(error)

    def take_end(self) -> None:
        """The request has ended. On a stream that carries another protocol, so has the client."""
        if self.received is not None:
            try:
                self.received.end()
            except MalformedRequest as error:
                self._refuse(error)

    def _refuse(self, error: MalformedRequest) -> None:
        """What follows the head of the request is malformed."""
        if self.progress is not ENDED:  # else there is nothing left to say
            self._mistake = self._mistake or error
        if self._request is None:
            self._head = error  # its handler has not been called yet
        if self.received is not None:
            self.received.cut()
        self.cancel(Ended.PROTOCOL_ERROR)

    async def receive(self, silence: float | None = None) -> bytes:
        received = self.received
        if received is None:
            return b""
        self.reads_on = True
        while (taken := received.take()) is None:
            if received.is_cut and self.progress is not SWITCHED:
                self._lifetime.scope.cancel()
                await trio.lowlevel.checkpoint()
                raise ClientGone
            if received.has_ended or received.is_cut:
                self.reads_on = self.progress is SWITCHED
                return b""
            if received.is_awaited and not self.status:
                received.is_awaited = False
                self.link.machine.send_headers(self.stream, [(b":status", b"100")])
                self.link.write()
            if not await received.wait(self.limits.body_seconds if silence is None else silence):
                self.cancel(Ended.BODY_TOO_SLOW)
                await trio.lowlevel.checkpoint()
                raise ClientGone
        data, size = taken
        self._acknowledge(size)
        if received.others_may_run:
            await trio.lowlevel.checkpoint()
        return data

    def _acknowledge(self, size: int) -> None:
        """Let the client send as much again."""
        if size and not self.link.is_over:
            self.link.machine.acknowledge_received_data(size, self.stream)
            self.link.write()

    # -- The response ---------------------------------------------------------------------------

    async def respond(
        self, status: int, headers: Fields, *body: bytes, label: str = "plain"
    ) -> None:
        await self._check_unanswered()
        if status in (204, 205, 304):
            body = ()  # RFC 9110 sections 15.3.5, 15.3.6, 15.4.5
        data = b"".join(body)
        empty = not data or self.head_only
        length = None if status in (204, 304) else len(data)
        self._begin(status, headers, length, label=label, last=empty and self._mistake is None)
        if empty:
            self.link.write()
        else:
            # After the answer to a malformed request its stream is reset, not ended.
            await Http2Body(self, None).put(data, last=self._mistake is None)

    async def start(
        self, status: int, headers: Fields, length: int | None = None, *, label: str
    ) -> Http2Body:
        await self._check_unanswered()
        declared = self._begin(status, headers, length, label=label, last=self.head_only)
        self.link.write()
        self._body = Http2Body(self, declared)
        if self.head_only:
            # The handler cannot know that its body is not wanted, so it is cancelled here.
            self.cancel(Ended.DONE)
            await trio.lowlevel.checkpoint()
        return self._body

    async def upgrade(self, headers: Fields, *, label: str) -> ByteStream:
        await self._check_unanswered()
        if self._request is None or "upgrade" not in self._request.headers:
            raise RuntimeError("this request does not ask for another protocol")
        self._begin(200, headers, None, label=label)  # RFC 8441 section 5: not 101
        self.link.write()
        self.progress = SWITCHED
        self.reads_on = True
        stream = StreamOfBytes(partial(self.receive, inf), Http2Body(self, None).put)
        self._upgraded = Transport(stream, self.link.stream_limits, shortcuts=False)
        self._upgraded.owner = self
        return self._upgraded

    def tell_of_bytes(self, on_bytes: Callable[[], None] | None) -> bool:
        return False

    def check_open(self) -> None:
        """Raise an exception if the body can take nothing more."""
        if self.progress is ENDED:
            raise RuntimeError("the response has ended; nothing more can be sent")
        if self.progress is BROKEN:
            raise BrokenStream

    async def _check_unanswered(self) -> None:
        if self.status:
            raise RuntimeError(f"this request has already been answered with {self.status}")
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.is_lost:
            raise ClientGone

    def _begin(
        self, status: int, fields: Fields, length: int | None, *, label: str, last: bool = False
    ) -> int | None:
        """Make the head of the response; `last`: with its end. Return the length of its body."""
        fields = tuple(fields)
        try:
            head = made_head(status, fields)
        except TypeError:
            checked(fields)  # its error says more than that a list cannot be hashed
            raise
        self.link.machine.send_headers(self.stream, head.filled_in(length), end_stream=last)
        self.status = status
        self.label = label
        self.progress = ENDED if last else BODY
        if head.closes:
            self.link.on_close()
        return length if head.declared is None else head.declared
