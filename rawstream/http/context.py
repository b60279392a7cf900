"""What all connections of one server share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from ..limits import Limits
from ..tcp.admission import ConnectionLimits
from ..tcp.keepalive import KeepAliveScheduler
from ..tcp.watching import SocketWatcher
from .observer import ObservedConnection, Observer

port_is_shared: trio.lowlevel.RunVar[bool] = trio.lowlevel.RunVar("port_is_shared", False)
"""Whether other processes listen on the same port, and get a part of the connections."""


@dataclass(kw_only=True, slots=True)
class ServerContext:
    """State that all connections of one server share."""

    limits: Limits
    watcher: SocketWatcher
    keep_alive: KeepAliveScheduler
    local_names: frozenset[str] | None = None
    """Names that Host may have besides the local ones. None: Host is not checked."""
    access_log: bool = True
    observer: Observer | None = None
    reports: bool = field(init=False)
    """Whether somebody wants to know how an exchange has ended: the access log, or the observer."""
    counts: ConnectionLimits = field(init=False)
    live: set[ObservedConnection] = field(default_factory=set)
    stopping: bool = False
    """Whether the server was told to stop. It drains then, or a moment later."""
    draining: bool = False
    drain_began: float | None = None
    drain_ended: float | None = None
    lingering: int = 0
    """Connections that are being closed in stages."""
    now: Callable[[], float] = field(
        default_factory=lambda: trio.lowlevel.current_clock().current_time
    )
    """`trio.current_time`, which looks for its clock in each call."""

    def __post_init__(self) -> None:
        self.reports = self.access_log or self.observer is not None
        self.counts = ConnectionLimits(self.limits)
