"""Who has hung up, or sends where nobody waits: one watch over all connections, so that none needs
a task of its own.

A task that only waits for its client to leave would double what a connection costs. Instead
each socket is registered, once, in one epoll set for EPOLLRDHUP: "the peer has closed, or shut
down its sending half". The set is itself a file descriptor, and a single Trio task waits for
that one to become readable. It works while received bytes lie unread, where a peeking read
would see the bytes and not the end behind them.

Edge-triggered: a half-close is reported once, and a later reset is reported again. Bytes, where
they are asked for, are reported as they arrive, and once if they are there already.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Protocol

import trio

PEEK_SECONDS = 0.1
"""How often the fallback looks at its sockets; a tenth of a second is still "at once" to people."""


class SocketWatcher(Protocol):
    """Calls `on_hangup` when the peer of a watched socket hangs up, and possibly again, on a reset;
    and where that is asked for, `on_bytes`."""

    def watch(self, sock: trio.socket.SocketType, on_hangup: Callable[[], None]) -> None:
        """Start watching. `on_hangup` is called from another task and must not block."""

    def tell_of_bytes(
        self, sock: trio.socket.SocketType, on_bytes: Callable[[], None] | None
    ) -> bool:
        """From now on call `on_bytes`, too, when bytes or the end have arrived at a watched socket;
        None: no more. It must not block or raise, and must read until there are no more. Return
        False if this watcher cannot tell."""

    def forget(self, sock: trio.socket.SocketType) -> None:
        """Stop watching. Call it before closing the socket, whose descriptor may belong to the
        next connection a moment later."""

    async def run(self) -> None:
        """Watch until cancelled."""


class EpollWatcher:
    """For systems with epoll: Linux."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._hangup = select.EPOLLRDHUP | select.EPOLLET
        self._on_hangup: dict[int, Callable[[], None]] = {}
        self._on_bytes: dict[int, Callable[[], None]] = {}

    def watch(self, sock: trio.socket.SocketType, on_hangup: Callable[[], None]) -> None:
        fd = sock.fileno()
        if self._epoll.closed:
            return  # the server has ended, and this connection is about to
        self._epoll.register(fd, self._hangup)
        self._on_hangup[fd] = on_hangup

    def tell_of_bytes(
        self, sock: trio.socket.SocketType, on_bytes: Callable[[], None] | None
    ) -> bool:
        fd = sock.fileno()
        if fd in self._on_hangup and not self._epoll.closed:
            bytes_too = 0 if on_bytes is None else select.EPOLLIN
            self._epoll.modify(fd, self._hangup | bytes_too)
            if on_bytes is None:
                self._on_bytes.pop(fd, None)
            else:
                self._on_bytes[fd] = on_bytes
        return True

    def forget(self, sock: trio.socket.SocketType) -> None:
        fd = sock.fileno()
        self._on_bytes.pop(fd, None)
        if self._on_hangup.pop(fd, None) is not None and not self._epoll.closed:
            self._epoll.unregister(fd)

    async def run(self) -> None:
        with self._epoll:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for fd, events in self._epoll.poll(0):
                    # An earlier callback may have closed this socket: look it up only now.
                    if events & select.EPOLLIN and (on_bytes := self._on_bytes.get(fd)):
                        on_bytes()
                    if events & ~select.EPOLLIN and (on_hangup := self._on_hangup.get(fd)):
                        on_hangup()


class PeekingWatcher:
    """For other systems: looks at every socket now and then. It sees an end only once all bytes
    before it have been read, and each look costs one system call per connection."""

    def __init__(self) -> None:
        self._on_hangup: dict[trio.socket.SocketType, Callable[[], None]] = {}

    def watch(self, sock: trio.socket.SocketType, on_hangup: Callable[[], None]) -> None:
        self._on_hangup[sock] = on_hangup

    def tell_of_bytes(
        self, sock: trio.socket.SocketType, on_bytes: Callable[[], None] | None
    ) -> bool:
        return False

    def forget(self, sock: trio.socket.SocketType) -> None:
        self._on_hangup.pop(sock, None)

    async def run(self) -> None:
        while True:
            await trio.sleep(PEEK_SECONDS)
            for sock, on_hangup in list(self._on_hangup.items()):
                if sock in self._on_hangup and _at_end(sock.fileno()):
                    del self._on_hangup[sock]
                    on_hangup()


def _at_end(fd: int) -> bool:
    """Return whether the next read would find the end, without waiting or taking a byte."""
    sock = socket.socket(fileno=fd)
    try:
        return not sock.recv(1, socket.MSG_PEEK)  # it does not block: it is one of Trio's
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        sock.detach()


def socket_watcher() -> SocketWatcher:
    """Return the best watcher for this system."""
    return EpollWatcher() if hasattr(select, "epoll") else PeekingWatcher()
