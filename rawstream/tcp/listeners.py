"""Where connections come from: addresses bound, sockets inherited, TLS.

What fails at start raises `OSError` or `ValueError` with a message fit for one line on stderr.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import trio

FIRST_INHERITED = 3
"""SD_LISTEN_FDS_START: systemd passes sockets from descriptor 3 on."""


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
    return not isinstance(address, str) and is_loopback_ip(address[0])


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


def is_loopback_ip(address: str) -> bool:
    """Whether an IP address, perhaps with a zone, is this machine's own."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
