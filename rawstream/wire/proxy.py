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
from functools import partial
from typing import Any, NamedTuple
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
    tls: ssl.SSLContext | None = None,
    verify: bool = True,
) -> None:
    """Accept connections, and pass each on to `target`, until cancelled. `tls` is for clients;
    without `verify` any certificate of the target is accepted."""
    upstream = None
    if target.is_tls:
        upstream = ssl.create_default_context()
        if not verify:
            upstream.check_hostname, upstream.verify_mode = False, ssl.CERT_NONE
    await trio.serve_listeners(partial(_handle, target, upstream, recorder, tls), listeners)


async def _handle(
    target: Target,
    upstream: ssl.SSLContext | None,
    recorder: WireRecorder,
    tls: ssl.SSLContext | None,
    client: trio.SocketStream,
) -> None:
    """Pass one connection on. No `Exception` leaves this, because that would end the others."""
    tap = recorder.begin()
    server: trio.SocketStream | None = None
    is_torn = True
    try:
        with trio.fail_after(CONNECT_SECONDS):
            server = await trio.open_tcp_stream(target.host, target.port)
            outer = await _with_tls(client, tls, server_side=True)
            inner = await _with_tls(server, upstream, server_hostname=target.host)
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
