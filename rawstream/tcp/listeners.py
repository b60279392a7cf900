"""Where connections come from: bound addresses, inherited sockets, TLS.

A failure to start raises `OSError` or `ValueError`, with a message that fits one line on stderr.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from urllib.parse import urlsplit

import trio

ACCEPTED_TOGETHER = 64
"""Connections that are accepted before other tasks run."""

FIRST_INHERITED = 3
"""SD_LISTEN_FDS_START: systemd passes sockets from descriptor 3 on."""


async def open_listeners(
    host: str | None,
    port: int,
    unix: str | None,
    unix_mode: int,
    inherited: Sequence[socket.socket],
    *,
    reuse_port: bool = False,
) -> list[trio.SocketListener]:
    """Listen on inherited sockets if there are any, else on the unix socket at path `unix` if
    given, else on TCP. `port` 0 lets the system choose; a `host` of None is every interface. The
    backlog is the kernel's maximum: with 128, 2,000 clients would wait for seconds.

    With `reuse_port` other processes of the same user may listen on the port as well."""
    if reuse_port:
        _check_reuse_port(unix, inherited)
        return await _listen_on_shared_port(host, port)
    if inherited:
        return [trio.SocketListener(trio.socket.from_stdlib_socket(s)) for s in inherited]
    if unix is not None:
        return [_listen_on_path(unix, unix_mode)]
    return await trio.open_tcp_listeners(port, host=host)


def _check_reuse_port(unix: str | None, inherited: Sequence[socket.socket]) -> None:
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError("reuse_port: this system has no SO_REUSEPORT")
    if inherited:
        raise ValueError(
            "reuse_port: the listening sockets are inherited; whoever opened them has to share them"
        )
    if unix is not None:
        raise ValueError("reuse_port is for a port, not for a unix socket")


async def _listen_on_shared_port(host: str | None, port: int) -> list[trio.SocketListener]:
    """As `trio.open_tcp_listeners`, which leaves no moment for an option before `bind`."""
    found = await trio.socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listeners: list[trio.SocketListener] = []
    try:
        for family, kind, protocol, _, address in found:
            try:
                sock = trio.socket.socket(family, kind, protocol)
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT and len(found) > 1:
                    continue  # as where IPv6 is switched off
                raise
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                await sock.bind(address)
                sock.listen(0xFFFF)
            except BaseException:
                sock.close()
                raise
            listeners.append(trio.SocketListener(sock))
    except BaseException:
        for listener in listeners:
            listener.socket.close()
        raise
    return listeners


class BatchListener(trio.abc.Listener[trio.SocketStream]):
    """Accepts the connections that are waiting, up to `ACCEPTED_TOGETHER`, before other tasks run.
    Trio's own listener lets them run after each one: a pass of the scheduler for every client when
    thousands come back at once."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self._accepted = deque[trio.SocketStream]()

    async def accept(self) -> trio.SocketStream:
        """Return the next connection."""
        if self._accepted:
            return self._accepted.popleft()
        first = await self._listener.accept()
        self._accept_more()
        return first

    def _accept_more(self) -> None:
        listening = socket.socket(fileno=self._listener.socket.fileno())
        try:
            # Whatever the error is: the next `accept` of Trio's listener meets it, too.
            with suppress(OSError):
                while len(self._accepted) < ACCEPTED_TOGETHER:
                    sock, _ = listening.accept()
                    stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
                    self._accepted.append(stream)
        finally:
            listening.detach()  # the descriptor is the listener's

    async def aclose(self) -> None:
        """Stop listening."""
        for stream in self._accepted:
            stream.socket.close()
        await self._listener.aclose()


def _listen_on_path(path: str, mode: int) -> trio.SocketListener:
    """Listen on a unix socket. Replace one left behind by a dead server, but not a live one."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EEXIST, "exists and is not a socket", path)
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
        os.chmod(path, mode)  # before any client can connect
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
    """Return the listening sockets that systemd passed to this process (sd_listen_fds(3)).

    They are ours only if LISTEN_PID is our process ID. Child processes must not use them, so the
    variables are removed and the descriptors closed on exec. Raises `ValueError` if LISTEN_FDS is
    not a number, or a descriptor is not a listening stream socket.
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
            raise ValueError(f"inherited descriptor {fd} is not a listening stream socket")
        sockets.append(sock)
    return sockets


def address_of(listener: trio.SocketListener) -> tuple[str, int] | str:
    """Return host and port, or the path of a unix socket."""
    name = listener.socket.getsockname()
    return (name[0], name[1]) if isinstance(name, tuple) else os.fsdecode(name)


def url_of(address: tuple[str, int] | str, *, tls: bool) -> str:
    """Return the URL of an address; "unix:" and the path for a unix socket."""
    if isinstance(address, str):
        return f"unix:{address}"
    host, port = address
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def is_loopback_url(url: str) -> bool:
    """Return whether only programs on this machine reach the address of this URL of `url_of`."""
    host = urlsplit(url).hostname
    return host is not None and is_loopback_ip(host)


def is_loopback(address: tuple[str, int] | str) -> bool:
    """Return whether this is a TCP address that only programs on this machine can reach."""
    return not isinstance(address, str) and is_loopback_ip(address[0])


def tls_context(
    certfile: str, keyfile: str | None = None, *, protocols: Sequence[str] = ("http/1.1",)
) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and later with this certificate chain (PEM): https and wss. By
    ALPN it offers these `protocols`, the preferred one first."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # not every build of Python sees to it
    context.set_alpn_protocols(protocols)
    for path in (certfile, keyfile):
        if path is not None:
            os.stat(path)  # its error names the file
    try:
        context.load_cert_chain(certfile, keyfile)
    except ssl.SSLError as error:
        why = error.reason or "not PEM"
        raise ValueError(f"{certfile}: no usable certificate and key ({why})") from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, certfile) from None
    return context


@lru_cache(maxsize=64)
def is_loopback_ip(address: str) -> bool:
    """Return whether an IP address, with or without a zone, is a loopback address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
