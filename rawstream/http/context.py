"""What all connections of one server share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from ..limits import Limits
from ..tcp.keepalive import KeepAliveScheduler
from ..tcp.watching import SocketWatcher


@dataclass(kw_only=True, slots=True)
class ServerContext:
    """State that all connections of one server share."""

    limits: Limits
    watcher: SocketWatcher
    keep_alive: KeepAliveScheduler
    local_names: frozenset[str] | None = None
    """Names that Host may have besides the local ones. None: Host is not checked."""
    access_log: bool = True
    shares_port: bool = False
    """Whether other processes listen on the same port, and get a part of the connections."""
    draining: bool = False
    lingering: int = 0
    """Connections that are being closed in stages."""
    now: Callable[[], float] = field(
        default_factory=lambda: trio.lowlevel.current_clock().current_time
    )
    """`trio.current_time`, which looks for its clock in each call."""
