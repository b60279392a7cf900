"""How a connection is closed, so that the peer can tell whether it has received everything.

close             after everything that was sent
close_in_stages   so that a peer that is still sending can read what was sent to it
abort             so that the peer cannot mistake truncated data for complete data
"""

from __future__ import annotations

import struct
from contextlib import suppress

import trio

from .kernel import unacknowledged, unread
from .receiving import READ_SIZE, STREAM_ERRORS
from .transport import Transport

SETTLING_SECONDS = 0.02
"""Seconds between two checks of a connection that waits only for the peer's acknowledgement."""

TLS_SILENCE = 0.005
"""Seconds without a record after which all received records are taken to have been read."""


def is_settled(transport: Transport) -> bool:
    """Return whether closing now loses nothing: the peer has acknowledged everything sent, and
    there are no unread bytes, which would make the kernel send a reset."""
    sock = transport.carrier_socket
    return sock is None or not (unacknowledged(sock) or unread(sock))


async def close(transport: Transport) -> None:
    """Close after everything that was sent, over TLS with close_notify, within
    `linger_seconds`. It closes even if cancelled."""
    if not transport.stop():
        await trio.aclose_forcefully(transport.stream)
        return
    with trio.move_on_after(transport.limits.linger_seconds):
        if isinstance(transport.stream, trio.SSLStream):
            await _read_away(transport.stream)
        await transport.stream.aclose()


async def abort(transport: Transport) -> None:
    """Close so that the peer cannot mistake what it has received for everything: with a reset,
    over TLS without close_notify."""
    transport.stop()
    if isinstance(transport.stream, trio.SocketStream):
        linger = struct.pack("ii", 1, 0)
        transport.stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, linger)
    await trio.aclose_forcefully(transport.stream)


async def close_in_stages(transport: Transport, *, until_settled: bool) -> None:
    """Close so that a peer that is still sending can read what was sent (RFC 9112 section 9.6).

    First our half is closed. The whole follows when the peer has closed, has been silent for
    `linger_seconds`, or has gone on sending for `linger_total_seconds`. With `until_settled` it
    follows as soon as the peer has acknowledged everything, and after `linger_seconds` at most.
    """
    transport.stop()
    limits = transport.limits
    total = limits.linger_seconds if until_settled else limits.linger_total_seconds
    try:
        with trio.move_on_after(total):
            async with trio.open_nursery() as nursery:
                if until_settled:
                    nursery.start_soon(_watch_settling, transport, nursery.cancel_scope)
                # Busy: a send is stuck in the carrier of TLS.
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
        # Send close_notify (RFC 8446 section 6.1), and wait only briefly for the peer's: a peer
        # that is still sending does not send one.
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
    """Read until nothing comes for a moment. With unread records, a TLS stream would be closed
    without close_notify."""
    with suppress(*STREAM_ERRORS, trio.BusyResourceError):
        silent = False
        while not silent:
            with trio.move_on_after(TLS_SILENCE) as waiting:
                if not await stream.receive_some(READ_SIZE):
                    break
            silent = waiting.cancelled_caught
