"""Accepted sockets: how many connections there may be, and how a vanished peer is detected."""

from __future__ import annotations

import re
import socket
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import trio

from ..limits import Limits
from .listeners import is_loopback_ip

SPARE_FILES = 64
"""Descriptors reserved for everything but connections: listeners, logs, epoll, handlers' files."""


ACCEPTED_INHERIT = sys.platform == "linux"
"""Whether an accepted socket inherits the listening socket's options: that saves system calls."""


def enable_keepalive(sock: trio.socket.SocketType, limits: Limits) -> None:
    """Detect a vanished peer: by a timeout when sent bytes stay unacknowledged, and by probes
    when the connection is silent, which give up after the same time. Does nothing on unix
    sockets. (Trio sets TCP_NODELAY.)"""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    seconds = limits.user_timeout_seconds
    options = {
        "TCP_USER_TIMEOUT": int(min(seconds * 1000, 2**31 - 1)),
        "TCP_KEEPIDLE": int(min(max(1, seconds / 2), 2**15 - 1)),
        "TCP_KEEPINTVL": int(min(max(1, seconds / 6), 2**15 - 1)),
    }
    with suppress(OSError):  # the peer may already have gone
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def peer_address(stream: trio.SocketStream) -> str:
    """Return the peer's IP address; "" on a unix socket, or if the peer has already gone."""
    try:
        name = stream.socket.getpeername()
    except OSError:
        return ""
    return unmapped(name[0]) if isinstance(name, tuple) else ""


class ConnectionLimits:
    """Counts the connections, in total and from each address."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.accepted = 0
        """Connections ever."""
        self.turned_away = 0
        """Of these, those that were only told that there are too many."""
        self.dropped = 0
        """Connections that were not even told."""
        self._total = 0
        self._from = Counter[str]()

    def excess(self, address: str) -> int:
        """Return by how many one more connection from this address would exceed the caps, or 0."""
        over = self._total - self._limits.connections
        if address and not is_loopback_ip(address):  # "": a unix socket, or a trusted proxy
            over = max(over, self._from[address] - self._limits.connections_per_address)
        return max(0, over + 1)

    def is_over(self, address: str) -> bool:
        """Return whether one more exchange of this address would exceed its cap."""
        return self._from[address] >= self._limits.connections_per_address and not is_loopback_ip(
            address
        )

    def add(self, address: str) -> None:
        """Count a connection. Call `remove` when it has ended."""
        self.accepted += 1
        self._total += 1
        self.add_exchange(address)

    def remove(self, address: str) -> None:
        """Stop counting a connection that has ended."""
        self._total -= 1
        self.remove_exchange(address)

    def add_exchange(self, address: str) -> None:
        """Count an exchange of a client behind a trusted proxy, whose connection is not its own.
        Call `remove_exchange` when it has ended."""
        self._from[address] += 1

    def remove_exchange(self, address: str) -> None:
        """Stop counting an exchange that has ended."""
        self._from[address] -= 1
        if not self._from[address]:
            del self._from[address]


def unmapped(address: str) -> str:
    """Return the IPv4 address that a dual-stack socket reports as IPv6; others unchanged."""
    if not address.startswith("::ffff:"):
        return address
    mapped = re.fullmatch(r"::ffff:([0-9.]+)", address)
    return mapped[1] if mapped else address


def fitted_to_open_files(limits: Limits) -> Limits:
    """Return `limits` with no more connections than this process may have files open. First
    raise the soft limit of open files as far as needed and as the hard limit allows."""
    try:
        import resource
    except ImportError:  # Windows
        return limits
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = limits.connections + limits.refusals + SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return limits
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    room = max(2, soft - SPARE_FILES)
    refusals = max(1, min(limits.refusals, room // 5))
    return replace(limits, connections=min(limits.connections, room - refusals), refusals=refusals)
