"""What all exchanges of one connection share: the machine, and the way out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import trio

from ..http.context import ServerContext
from ..http.proxied import Proxied
from ..limits import KIB
from ..tcp.transport import Transport
from .guard import LARGEST_FRAME, BrokenProtocol, FrameGuard
from .machine import Machine

TINY_BYTES = 128
"""A piece that the window cuts to less than this is counted: a client that opens its window by a
few bytes makes every one of them a frame."""

JOINING_BYTES = 16 * KIB
"""What may be unsent while more data is taken."""

FRAMES_PER_UPDATE = 3
"""Window updates that a client may send for each DATA frame that it gets."""


class Link:
    """One connection, as its exchanges see it."""

    def __init__(
        self,
        transport: Transport,
        context: ServerContext,
        client: str,
        proxied: Proxied | None,
        on_free: Callable[[int], None],
        on_close: Callable[[], None],
        on_abuse: Callable[[BrokenProtocol], None],
    ) -> None:
        """`proxied`: it comes from a trusted proxy. `on_free` is called with the number of a stream
        whose handler has ended; `on_close` when the connection is to take no more requests;
        `on_abuse` when a client has opened its windows in a way that it may not."""
        self.transport = transport
        self.context = context
        self.client = client
        self.proxied = proxied
        self.scheme = "http" if transport.carrier is transport.stream else "https"
        self.guard = FrameGuard(context.limits, context.now)
        self.machine = Machine(context.limits)
        # A stream of bytes waits for its window as long as any other body.
        self.stream_limits = replace(context.limits, send_seconds=context.limits.window_seconds)
        self.is_over = False
        """Whether nothing more can be sent, by any exchange."""
        self.on_free = on_free
        self.on_close = on_close
        self._on_abuse = on_abuse
        self._waiting: dict[int, trio.Event] = {}  # for their windows

    def write(self) -> None:
        """Write what the machine has made, together with everything else of this pass of the
        scheduler."""
        if not self.is_over and (data := self.machine.data_to_send()):
            self.transport.write_soon(data, more=True)

    @property
    def blocked_by(self) -> trio.Event | None:
        """The end of the flush that data has to wait for; None if it need not wait. A little data
        joins what a flush is sending: over TLS there always is one, for a moment."""
        return self.transport.flushing if self.transport.backlog > JOINING_BYTES else None

    # -- Data, and the windows that let it pass -------------------------------------------------

    def room(self, stream: int) -> int:
        """How many bytes a DATA frame of this stream may have now. It has no more than all clients
        take, so that the streams have their turns."""
        return min(self.machine.local_flow_control_window(stream), LARGEST_FRAME)

    def send_data(self, stream: int, data: bytes, *, last: bool, whole: bool = True) -> None:
        """Make a DATA frame, for which there is room. It is not `whole` if the window has cut a
        piece short: a client that does that too often is told so, and nothing more is sent."""
        self.machine.send_data(stream, data, end_stream=last)
        self.guard.window_updates.refill(FRAMES_PER_UPDATE)
        if not whole and len(data) < TINY_BYTES:
            try:
                self.guard.tiny_pieces.spend()
            except BrokenProtocol as error:
                self._on_abuse(error)

    async def wait_for_window(self, stream: int) -> None:
        """Wait until the window of this stream may have changed, or nothing can be sent on it any
        more. One task of a stream waits at a time."""
        opened = self._waiting[stream] = trio.Event()
        try:
            await opened.wait()
        finally:
            self._waiting.pop(stream, None)

    def wake(self, stream: int = 0) -> None:
        """The window of this stream may have changed; 0: those of all."""
        if stream:
            if (opened := self._waiting.get(stream)) is not None:
                opened.set()
        else:
            for opened in self._waiting.values():
                opened.set()
