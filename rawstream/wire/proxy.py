"""A TCP proxy that shows what passes: it changes no byte, and waits for nobody who looks.

    client ---- connection ----> proxy ---- connection ----> server
                                   |
                                recorder

Each read is passed on as it came; so are half-closes and resets. Over TLS, on either side, the
bytes inside are shown.
"""

from __future__ import annotations

import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import trio

from ..dissector.spans import Direction
from ..stderr import logger
from ..tcp.receiving import READ_SIZE, STREAM_ERRORS
from .recorder import WireRecorder, WireTap

CONNECT_SECONDS = 10.0
"""Within this time the server has to accept a connection, TLS included; likewise a client."""

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: on, for no time. The close is a reset."""


Connect: TypeAlias = Callable[..., Awaitable[tuple[trio.SocketStream, trio.abc.Stream]]]


class Target(NamedTuple):
    """The server behind the proxy."""

    url: str
    host: str
    port: int
    is_tls: bool

    @classmethod
    def parse(cls, url: str) -> Target:
        """Take apart a URL such as "http://localhost:5000". Raises `ValueError`."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
            raise ValueError(f"{url!r} is no URL of a server, such as http://localhost:5000")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"{url!r} names more than a server: leave out what follows the port")
        is_tls = parts.scheme in ("https", "wss")
        return cls(url, parts.hostname, parts.port or (443 if is_tls else 80), is_tls)


async def serve_proxy(
    listeners: list[trio.SocketListener],
    target: Target,
    recorder: WireRecorder,
    *,
    tls: ClientTls | None = None,
    verify: bool = True,
) -> None:
    """Accept connections, and pass each on to `target`, until cancelled. Without `verify` any
    certificate of the target is accepted."""
    server = partial(_connect, target, verify=verify)
    await trio.serve_listeners(partial(_handle, target, server, recorder, tls), listeners)


class ClientTls(NamedTuple):
    """TLS for clients. Both sides have to speak the same version of HTTP, so what the proxy offers
    depends on the server."""

    http1: ssl.SSLContext
    http2: ssl.SSLContext
    """If the server can speak HTTP/2. It offers HTTP/1.1, too."""


async def _connect(
    target: Target, *, verify: bool, protocols: Sequence[str]
) -> tuple[trio.SocketStream, trio.abc.Stream]:
    """Connect to the server; by ALPN offer these protocols. Return the connection, and the stream
    over it."""
    server = await trio.open_tcp_stream(target.host, target.port)
    context = None
    if target.is_tls:
        context = ssl.create_default_context()
        if protocols:
            context.set_alpn_protocols(protocols)
        if not verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return server, await _with_tls(server, context, server_hostname=target.host)
    except BaseException:
        server.socket.close()
        raise


async def _meet(
    client: trio.SocketStream, tls: ClientTls | None, connect: Connect
) -> tuple[trio.SocketStream, trio.abc.Stream, trio.abc.Stream]:
    """Connect to the server, so that it speaks the version of HTTP that the client speaks. Return
    the connection, and the streams of the client and of the server."""
    server, inner = await connect(protocols=("h2", "http/1.1") if tls else ())
    try:
        speaks_http2 = tls is not None and _protocol(inner) == "h2"
        context = (tls.http2 if speaks_http2 else tls.http1) if tls else None
        outer = await _with_tls(client, context, server_side=True)
        if speaks_http2 and _protocol(outer) != "h2":
            server.socket.close()
            server, inner = await connect(protocols=("http/1.1",))
    except BaseException:
        server.socket.close()
        raise
    return server, outer, inner


def _protocol(stream: trio.abc.Stream) -> str | None:
    """The protocol that was chosen by ALPN."""
    return stream.selected_alpn_protocol() if isinstance(stream, trio.SSLStream) else None


async def _handle(
    target: Target,
    connect: Connect,
    recorder: WireRecorder,
    tls: ClientTls | None,
    client: trio.SocketStream,
) -> None:
    """Pass one connection on. No `Exception` leaves this, because that would end the others."""
    tap = recorder.begin()
    server: trio.SocketStream | None = None
    is_torn = True
    try:
        with trio.fail_after(CONNECT_SECONDS):
            server, outer, inner = await _meet(client, tls, connect)
        is_torn = await _pass_on(outer, inner, tap)
    except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
        why = error.__cause__ or error  # of a failed handshake
        logger.warning("connecting to %s:%d: %s", target.host, target.port, str(why) or "too slow")
    except Exception:
        logger.exception("passing on a connection failed")
    finally:
        tap.closed()
        for stream in filter(None, (client, server)):
            if is_torn:
                stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET)
            stream.socket.close()  # without a checkpoint: a cancellation leaves none open


async def _with_tls(
    stream: trio.SocketStream, context: ssl.SSLContext | None, **options: Any
) -> trio.abc.Stream:
    """The stream, or one with TLS around it, once the handshake is done."""
    if context is None:
        return stream
    secured = trio.SSLStream(stream, context, https_compatible=True, **options)
    await secured.do_handshake()
    return secured


async def _pass_on(client: trio.abc.Stream, server: trio.abc.Stream, tap: WireTap) -> bool:
    """Pass bytes on in both directions until both have ended. Return whether one was torn: ended
    by a reset."""
    is_torn = False
    async with trio.open_nursery() as nursery:

        async def pump(
            source: trio.abc.Stream, sink: trio.abc.Stream, direction: Direction
        ) -> None:
            nonlocal is_torn
            try:
                while data := bytes(await source.receive_some(READ_SIZE)):
                    tap.record(direction, data)
                    await sink.send_all(data)
                tap.record(direction, b"")
                await _end(sink)
            except trio.ClosedResourceError:
                pass  # `_end` has closed it for the other direction
            except STREAM_ERRORS:
                is_torn = True
                nursery.cancel_scope.cancel()

        nursery.start_soon(pump, client, server, Direction.TO_SERVER)
        nursery.start_soon(pump, server, client, Direction.TO_CLIENT)
    return is_torn


async def _end(sink: trio.abc.Stream) -> None:
    """Pass an end on. Trio's TLS has no half-close, so there the whole connection is closed."""
    if isinstance(sink, trio.abc.HalfCloseableStream):
        await sink.send_eof()
    else:
        await sink.aclose()
