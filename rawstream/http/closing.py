"""Closing a connection, as its version of HTTP leaves it."""

from __future__ import annotations

from ..tcp.closing import close, close_in_stages, is_settled
from ..tcp.transport import Transport
from .context import ServerContext


async def close_connection(transport: Transport, context: ServerContext, *, talking: bool) -> None:
    """Close so that the client can read all that was sent to it. `talking`: it may be sending
    still, which would otherwise end in a reset; at most `Limits.lingering` of these are closed
    with that care at a time."""
    may_linger = context.lingering < context.limits.lingering
    if may_linger and (talking or not is_settled(transport)):
        context.lingering += 1
        try:
            await close_in_stages(transport, until_settled=not talking)
        finally:
            context.lingering -= 1
    else:
        await close(transport)
