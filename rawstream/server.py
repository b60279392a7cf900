"""The server: accepts connections, turns clients away when it is full, and drains. It runs inside
your own Trio program and leaves signals alone."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import trio

from .errors import Unavailable
from .http.authority import split_authority
from .http.context import ServerContext, port_is_shared
from .http.forwarded import TrustedProxies
from .http.observer import ObservedConnection, Observer
from .http.proxied import Proxies
from .http.request import Handler, Request
from .http1.connection import Connection
from .limits import Limits
from .stderr import logger
from .tcp.admission import (
    ACCEPTED_INHERIT,
    ConnectionLimits,
    enable_keepalive,
    fitted_to_open_files,
    peer_address,
)
from .tcp.counting import CountingTransport
from .tcp.keepalive import KeepAliveScheduler
from .tcp.listeners import (
    BatchListener,
    address_of,
    is_loopback,
    open_listeners,
    unlinked_after,
)
from .tcp.recording import RecordedTransport, Recorder
from .tcp.transport import Transport
from .tcp.watching import socket_watcher

if TYPE_CHECKING:
    from .http2.connection import Http2Connection

Address = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""

UNIX_MODE = 0o666
"""Every user may connect, as with uvicorn, because a proxy runs as a user of its own. The
permissions of the folder can keep others out."""


SETTLE_SECONDS = 0.05
"""Between the stop and the end of endless streams. Entries published just before the stop are still
on their way to the tasks that send them; once a task has begun to send, the drain waits for it."""


async def serve(
    handler: Handler,
    *,
    host: str | None = "127.0.0.1",
    port: int = 8000,
    unix: str | None = None,
    unix_mode: int = UNIX_MODE,
    inherited: Sequence[socket.socket] = (),
    tls: ssl.SSLContext | None = None,
    limits: Limits | None = None,
    allowed_hosts: Collection[str] = (),
    access_log: bool = True,
    shortcuts: bool = True,
    http2: bool = True,
    trusted_proxies: Collection[str] = (),
    proxy_protocol: bool = False,
    reuse_port: bool = False,
    recorder: Recorder | None = None,
    metrics: Observer | None = None,
    stop: trio.Event | None = None,
    task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `handler` until `stop` is set and all exchanges have ended, or until cancelled.

    `addresses = await nursery.start(partial(serve, handler, port=0))` returns once connections
    are accepted. The addresses are the ones bound: `(host, port)`, or the path of a unix socket.

    The server listens on `inherited` sockets if there are any; else on the path `unix`, a unix
    socket with the permissions `unix_mode`; else on `host` and `port`. A host of None means every
    interface. A server bound only to loopback answers only if Host is a local name, an address,
    or one of `allowed_hosts` ("*": any name), which protects against DNS rebinding.

    Setting `stop` drains the server: it accepts no more connections, closes idle ones, and ends
    endless streams properly at once. All other exchanges have `limits.drain_seconds` to finish
    and are then cut. Cancelling cuts everything at once.

    A client that begins with the preface of HTTP/2 is served in HTTP/2 if h2 is installed, unless
    `http2` is False. Browsers do so only over TLS, and only if `tls` offers "h2" by ALPN.

    `trusted_proxies` are addresses, networks ("10.0.0.0/8") and "unix", for connections over a unix
    socket. Only on connections from them, X-Forwarded-For, -Proto and -Host count, or else
    Forwarded (RFC 7239): they tell the client, scheme and authority of a request. Such a connection
    does not count for the proxy's address, but each request for its client's. With `proxy_protocol`
    each of them has to begin with a header of the PROXY protocol, which tells the client; the
    fields then count only if that one is trusted, too.

    With `reuse_port` several processes of one user listen on the same port, and the system spreads
    the connections over them. One that closes resets those that it has not accepted yet.

    Without `shortcuts` every byte goes through Trio, h11 and wsproto: slower, with the same bytes.
    A `recorder` is given every byte that is read and written, as it is inside TLS. `metrics` are
    told how connections and requests end: `rawstream.Metrics`.

    Raises `OSError` if the address cannot be bound, `ValueError` for an invalid name in
    `allowed_hosts` or `trusted_proxies` and for options that do not fit together, `TypeError` for a
    handler that cannot be called, and `RuntimeError` outside Trio. Exceptions of handlers and
    anything a client does never end the server.
    """
    _check_in_trio()
    if not callable(handler):
        raise TypeError(f"the handler must be an async function, not {handler!r}")
    if isinstance(allowed_hosts, str):
        raise TypeError("allowed_hosts is a collection of strings, not one string")
    limits = limits or Limits()
    fitted = fitted_to_open_files(limits)
    if fitted is not limits:
        logger.warning("open files allow %d connections at a time", fitted.connections)
    names = frozenset(_host_name(name) for name in allowed_hosts if name != "*")
    trusted = TrustedProxies(trusted_proxies)
    if proxy_protocol and not trusted_proxies:
        raise ValueError("proxy_protocol needs trusted_proxies: anybody could send its header")
    listeners = await open_listeners(host, port, unix, unix_mode, inherited, reuse_port=reuse_port)
    addresses = [address_of(listener) for listener in listeners]
    for listener in listeners:
        enable_keepalive(listener.socket, limits)
    local = all(map(is_loopback, addresses)) and "*" not in allowed_hosts
    context = ServerContext(
        limits=fitted,
        watcher=socket_watcher(),
        keep_alive=KeepAliveScheduler(),
        local_names=names if local else None,
        access_log=access_log,
        observer=metrics,
    )
    if reuse_port:
        port_is_shared.set(True)
    live, counts = context.live, context.counts
    plain = Transport if metrics is None else CountingTransport
    carry = partial(_carry, plain, fitted, shortcuts, recorder)
    http2_connection = _http2_connection() if http2 else None
    proxies = None
    if trusted_proxies:
        proxies = Proxies(trusted, counts, fitted, proxy_protocol=proxy_protocol)
    handle = partial(_handle, handler, context, counts, proxies, tls, http2_connection, live, carry)
    with unlinked_after(listeners, None if inherited else unix):
        async with trio.open_nursery() as background:
            background.start_soon(context.watcher.run)
            await background.start(context.keep_alive.run)
            async with trio.open_nursery() as connections:
                accepting = await connections.start(_accept, handle, listeners, connections)
                if metrics is not None:
                    metrics.server_started(context)
                task_status.started(addresses)
                await (trio.Event() if stop is None else stop).wait()
                context.stopping = True
                if fitted.lame_duck_seconds:
                    await trio.sleep(fitted.lame_duck_seconds)
                context.draining = True
                context.drain_began = context.now()
                accepting.cancel()
                await trio.sleep(SETTLE_SECONDS)
                for connection in list(live):
                    connection.drain()
                if proxies is not None:
                    proxies.drain()
                connections.cancel_scope.deadline = trio.current_time() + fitted.drain_seconds
            context.drain_ended = context.now()
            background.cancel_scope.cancel()


async def serve_stream(
    handler: Handler,
    stream: trio.abc.Stream,
    *,
    limits: Limits | None = None,
    access_log: bool = True,
    shortcuts: bool = True,
) -> None:
    """Serve one connection over a Trio stream that you already have, until the connection ends. The
    options are those of `serve`.

    This tests a handler without a socket: pass one end of `trio.testing.memory_stream_pair()`, and
    write requests to the other. (A memory stream does not tell that its other end has left, so a
    handler that neither reads nor sends is not cancelled.) Exceptions of the handler are logged,
    and never raised here.
    """
    _check_in_trio()
    limits = limits or Limits()
    context = ServerContext(
        limits=limits,
        watcher=socket_watcher(),
        keep_alive=KeepAliveScheduler(),
        access_log=access_log,
    )
    transport = Transport(stream, limits, shortcuts=shortcuts)
    http2 = _http2_connection()
    async with trio.open_nursery() as background:
        background.start_soon(context.watcher.run)
        await background.start(context.keep_alive.run)
        first = Connection(
            transport, context, handler, "", last=False, may_switch=http2 is not None
        )
        if await first.run() and http2 is not None:
            await http2(transport, context, handler, "", last=False).run()
        background.cancel_scope.cancel()


def _check_in_trio() -> None:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        raise RuntimeError(
            "rawstream runs on Trio, and this is not a Trio task: start the program with "
            "rawstream.run(handler) or trio.run, not with asyncio"
        ) from None


def speaks_http2() -> bool:
    """Return whether HTTP/2 can be served: the extra `[http2]` is installed."""
    return find_spec("h2") is not None


def _http2_connection() -> type[Http2Connection] | None:
    """The connection of HTTP/2, if it can be served. It is loaded only now, with what it needs."""
    if not speaks_http2():
        return None
    from .http2.connection import Http2Connection

    return Http2Connection


def _host_name(name: str) -> str:
    """A name of `allowed_hosts` in the form that is compared. Raises `ValueError` if invalid."""
    split = split_authority(name)
    if not split or split[1] is not None or name.endswith(":"):
        raise ValueError(f"{name!r} is not a host name; leave the port out")
    return split[0]


async def _accept(
    handle: Callable[[trio.SocketStream], Awaitable[None]],
    listeners: list[trio.SocketListener],
    connections: trio.Nursery,
    task_status: trio.TaskStatus[trio.CancelScope],
) -> None:
    """Start a task in `connections` for each connection. The value passed to `started` is the scope
    that ends this."""
    with trio.CancelScope() as accepting:
        task_status.started(accepting)
        batches = [BatchListener(listener) for listener in listeners]
        await trio.serve_listeners(handle, batches, handler_nursery=connections)


async def _handle(
    handler: Handler,
    context: ServerContext,
    counts: ConnectionLimits,
    proxies: Proxies | None,
    tls: ssl.SSLContext | None,
    http2: type[Http2Connection] | None,
    live: set[ObservedConnection],
    carry: Callable[[trio.abc.Stream, str], Transport],
    stream: trio.SocketStream,
) -> None:
    """Serve one accepted connection; if there are too many, answer 503 or drop it. No `Exception`
    leaves this function, because that would end all other connections."""
    try:
        if not ACCEPTED_INHERIT:
            enable_keepalive(stream.socket, context.limits)
        address = counted = peer_address(stream)
        proxied = None
        if proxies is not None:
            arrival = await proxies.meet(stream, address)
            if arrival is None:
                return
            address, counted, proxied = arrival
        excess = counts.excess(counted)
        if excess > context.limits.refusals:
            counts.dropped += 1
            return
        carrier: trio.abc.Stream = stream
        if tls is not None:
            carrier = trio.SSLStream(stream, tls, server_side=True)
        serving = _turn_away if excess else handler
        transport = carry(carrier, address)
        connection: Connection | Http2Connection
        connection = Connection(
            transport, context, serving, address,
            last=excess > 0, may_switch=http2 is not None, proxied=proxied,
        )  # fmt: skip
        counts.add(counted)
        counts.turned_away += excess > 0
        live.add(connection)
        try:
            if await connection.run() and http2 is not None:
                live.discard(connection)
                connection = http2(
                    transport, context, serving, address, last=excess > 0, proxied=proxied
                )
                live.add(connection)
                await connection.run()
        finally:
            live.discard(connection)
            counts.remove(counted)
            if context.observer is not None:
                context.observer.connection_ended(connection)
    except Exception:
        logger.exception("a connection failed")  # Trio closes the socket


def _carry(
    plain: type[Transport],
    limits: Limits,
    shortcuts: bool,
    recorder: Recorder | None,
    stream: trio.abc.Stream,
    client: str,
) -> Transport:
    """The transport of a connection; one that is recorded if there is a recorder that wants it."""
    tap = recorder.open(client) if recorder else None
    if tap is None:
        return plain(stream, limits, shortcuts=shortcuts)
    return RecordedTransport(stream, limits, tap)


async def _turn_away(request: Request) -> None:
    """Answer that the server is full."""
    raise Unavailable("too many connections")
