"""How a connection is closed, so that its peer learns the truth about what it has received.

close             after all that was sent
close_in_stages   so that a peer which is still sending can read the answer
abort             so that a peer cannot take what it has for all there was
"""

from __future__ import annotations

import struct
from contextlib import suppress

import trio

from .kernel import unacknowledged, unread
from .receiving import READ_SIZE, STREAM_ERRORS
from .transport import Transport

SETTLING_SECONDS = 0.02
"""How often a connection that is only to be acknowledged is asked whether it is."""

TLS_SILENCE = 0.005
"""Seconds without a record, after which those that came are taken to be read."""


def is_settled(transport: Transport) -> bool:
    """Whether a close now loses nothing: the peer has acknowledged all that was sent, and
    nothing lies unread that would make the kernel answer a close with a reset."""
    sock = transport.carrier_socket
    return sock is None or not (unacknowledged(sock) or unread(sock))


async def close(transport: Transport) -> None:
    """Close after all that was sent; over TLS with its close_notify, within `linger_seconds`.
    Cancelled, it has closed all the same."""
    if not transport.stop():
        await trio.aclose_forcefully(transport.stream)
        return
    with trio.move_on_after(transport.limits.linger_seconds):
        if isinstance(transport.stream, trio.SSLStream):
            await _read_away(transport.stream)
        await transport.stream.aclose()


async def abort(transport: Transport) -> None:
    """Close so that the peer cannot take what it has for all there was: with a reset, over
    TLS without close_notify."""
    transport.stop()
    if isinstance(transport.stream, trio.SocketStream):
        linger = struct.pack("ii", 1, 0)
        transport.stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, linger)
    await trio.aclose_forcefully(transport.stream)


async def close_in_stages(transport: Transport, *, until_settled: bool) -> None:
    """Close so that the peer can still read what was sent, though it may be sending itself
    (RFC 9112 section 9.6): first our half, then the whole, when the peer has closed, has been
    silent for `linger_seconds`, or has gone on sending for `linger_total_seconds`. Or, with
    `until_settled`, as soon as it has acknowledged everything, within `linger_seconds`."""
    transport.stop()
    limits = transport.limits
    total = limits.linger_seconds if until_settled else limits.linger_total_seconds
    try:
        with trio.move_on_after(total):
            async with trio.open_nursery() as nursery:
                if until_settled:
                    nursery.start_soon(_watch_settling, transport, nursery.cancel_scope)
                # Busy: a send is stuck below TLS.
                with suppress(*STREAM_ERRORS, trio.BusyResourceError):
                    await _linger(transport)
                nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(transport.carrier)


async def _watch_settling(transport: Transport, lingering: trio.CancelScope) -> None:
    settled = False
    while not settled:
        await trio.sleep(SETTLING_SECONDS)
        settled = is_settled(transport)
    lingering.cancel()


async def _linger(transport: Transport) -> None:
    if isinstance(transport.stream, trio.SSLStream):
        await _read_away(transport.stream)
        # Our close_notify (RFC 8446 section 6.1), and theirs if it comes soon: a client that is
        # in the middle of sending has none for us.
        with trio.move_on_after(transport.limits.linger_seconds / 2):
            with suppress(*STREAM_ERRORS, trio.BusyResourceError):
                await transport.stream.unwrap()
    if isinstance(transport.carrier, trio.abc.HalfCloseableStream):
        await transport.carrier.send_eof()
        with trio.CancelScope() as silent:
            silent.deadline = trio.current_time() + transport.limits.linger_seconds
            while await transport.carrier.receive_some(READ_SIZE):
                silent.deadline = trio.current_time() + transport.limits.linger_seconds


async def _read_away(stream: trio.SSLStream[trio.abc.Stream]) -> None:
    """Read until nothing comes for a moment. A TLS stream that holds records which nobody has read
    ends without close_notify."""
    with suppress(*STREAM_ERRORS, trio.BusyResourceError):
        silent = False
        while not silent:
            with trio.move_on_after(TLS_SILENCE) as waiting:
                if not await stream.receive_some(READ_SIZE):
                    break
            silent = waiting.cancelled_caught
