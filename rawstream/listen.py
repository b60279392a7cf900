"""Where connections come from: addresses bound, descriptors inherited, TLS, caps.

Everything here ends before the first byte of HTTP. What fails at start raises `OSError` or
`ValueError` with a message fit for one line on stderr.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import ssl
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import trio

from .limits import Limits

FIRST_INHERITED = 3
"""SD_LISTEN_FDS_START: systemd passes sockets from descriptor 3 on."""

SPARE_FILES = 64
"""Descriptors kept for all that is no connection: listeners, logs, epoll, a handler's files."""


# -- Listening sockets --------------------------------------------------------------------------


async def open_listeners(
    host: str | None,
    port: int,
    unix: str | None,
    unix_mode: int,
    inherited: Sequence[socket.socket],
) -> list[trio.SocketListener]:
    """Listen on inherited sockets if there are any, else on a unix socket if one is named, else
    on TCP. `port` 0 lets the system choose; a `host` of None is every interface. The backlog is
    all the kernel allows: one of 128 lets 2,000 clients wait for seconds."""
    if inherited:
        return [trio.SocketListener(trio.socket.from_stdlib_socket(s)) for s in inherited]
    if unix is not None:
        return [_listen_on_path(unix, unix_mode)]
    return await trio.open_tcp_listeners(port, host=host)


def _listen_on_path(path: str, mode: int) -> trio.SocketListener:
    """A unix socket; one that a dead server has left behind is replaced, a living one is not."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EEXIST, "exists and is no socket", path)
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            else:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(path)
        os.chmod(path, mode)  # before anybody can connect
        sock.listen(0xFFFF)
    except OSError as error:
        sock.close()
        raise OSError(error.errno or errno.EINVAL, error.strerror or str(error), path) from None
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


@contextmanager
def unlinked_after(listeners: Sequence[trio.SocketListener], unix: str | None) -> Iterator[None]:
    """Remove the socket file at the end, if it is still the one that was bound."""
    ours = os.stat(unix) if unix is not None else None
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            if unix is not None and ours is not None and os.path.samestat(os.stat(unix), ours):
                os.unlink(unix)


def inherited_sockets() -> list[socket.socket]:
    """The listening sockets that systemd passed to this very process (sd_listen_fds(3)).

    Only if LISTEN_PID is ours; children are not to believe that they were meant, so the
    variables are removed and the descriptors closed on exec. Raises `ValueError` for variables
    that are no numbers and descriptors that are no listening stream sockets.
    """
    pid, count = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS")
    if pid is None or count is None or pid != str(os.getpid()):
        return []
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    if not count.isdecimal():
        raise ValueError(f"LISTEN_FDS is {count!r}, not a number")
    sockets = []
    for fd in range(FIRST_INHERITED, FIRST_INHERITED + int(count)):
        try:
            os.set_inheritable(fd, False)
            sock = socket.socket(fileno=fd)
            listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise ValueError(f"inherited descriptor {fd}: {error.strerror}") from None
        if not listening or sock.type != socket.SOCK_STREAM:
            raise ValueError(f"inherited descriptor {fd} is no listening stream socket")
        sockets.append(sock)
    return sockets


def address_of(listener: trio.SocketListener) -> tuple[str, int] | str:
    """Host and port, or the path of a unix socket."""
    name = listener.socket.getsockname()
    return (name[0], name[1]) if isinstance(name, tuple) else os.fsdecode(name)


def url_of(address: tuple[str, int] | str, *, tls: bool) -> str:
    """What to type to reach an address."""
    if isinstance(address, str):
        return f"unix:{address}"
    host, port = address
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def is_loopback(address: tuple[str, int] | str) -> bool:
    """Whether only programs on this machine reach a TCP address."""
    return not isinstance(address, str) and _is_loopback_ip(address[0])


def tls_context(certfile: str, keyfile: str | None = None) -> ssl.SSLContext:
    """TLS 1.2 and later with this certificate chain (PEM), for HTTP/1.1 and, over it, wss."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    for path in (certfile, keyfile):
        if path is not None:
            os.stat(path)  # for an error that names the file
    try:
        context.load_cert_chain(certfile, keyfile)
    except ssl.SSLError as error:
        why = error.reason or "not PEM"
        raise ValueError(f"{certfile}: no usable certificate and key ({why})") from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, certfile) from None
    return context


# -- Accepted sockets ---------------------------------------------------------------------------


def tune(sock: trio.socket.SocketType, limits: Limits) -> None:
    """Find out when a peer has vanished: a time-out when sent bytes stay unacknowledged, and
    probes when the connection is silent, the last of which fails after as long. Trio has set
    TCP_NODELAY. No-op on unix sockets."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    seconds = limits.user_timeout_seconds
    options = {
        "TCP_USER_TIMEOUT": int(min(seconds * 1000, 2**31 - 1)),
        "TCP_KEEPIDLE": int(min(max(1, seconds / 2), 2**15 - 1)),
        "TCP_KEEPINTVL": int(min(max(1, seconds / 6), 2**15 - 1)),
    }
    with suppress(OSError):  # the peer may be gone already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def peer_address(stream: trio.SocketStream) -> str:
    """The peer's IP address; "" on a unix socket, and when it has gone already."""
    try:
        name = stream.socket.getpeername()
    except OSError:
        return ""
    return _unmapped(name[0]) if isinstance(name, tuple) else ""


class Caps:
    """How many connections there are, in total and from each address."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._total = 0
        self._from = Counter[str]()

    def excess(self, address: str) -> int:
        """By how many one more from this address would be too many; 0 if it fits."""
        over = self._total - self._limits.connections
        if address and not _is_loopback_ip(address):  # "": a unix socket
            over = max(over, self._from[address] - self._limits.connections_per_address)
        return max(0, over + 1)

    def add(self, address: str) -> None:
        """Count a connection; `remove` it when it has ended."""
        self._total += 1
        self._from[address] += 1

    def remove(self, address: str) -> None:
        """A connection has ended."""
        self._total -= 1
        self._from[address] -= 1
        if not self._from[address]:
            del self._from[address]


def _is_loopback_ip(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _unmapped(address: str) -> str:
    """The IPv4 address that a socket of both families shows as an IPv6 one."""
    mapped = re.fullmatch(r"::ffff:([0-9.]+)", address)
    return mapped[1] if mapped else address


def fitted_to_open_files(limits: Limits) -> Limits:
    """`limits` with no more connections than this process may have files open; the soft limit of
    open files is raised for them as far as the hard one lets it."""
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
