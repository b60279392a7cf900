"""What comes from trusted proxies: whose it is, and how many requests each client has."""

from __future__ import annotations

import socket
from typing import NamedTuple

import trio

from ..errors import Unavailable
from ..limits import Limits
from ..tcp.admission import ConnectionLimits
from ..tcp.proxy_protocol import Introduction
from .forwarded import UNIX, TrustedProxies
from .request import Request


class Arrival(NamedTuple):
    """An accepted connection."""

    client: str
    """Whose it is; "" on a unix socket."""
    counts_for: str
    """The address that it counts for; "" if for none."""
    proxied: Proxied | None
    """Where it comes from a trusted proxy."""


class Proxies:
    """Meets the connections of a server that trusts proxies."""

    def __init__(
        self,
        trusted: TrustedProxies,
        counts: ConnectionLimits,
        limits: Limits,
        *,
        proxy_protocol: bool,
    ) -> None:
        """With `proxy_protocol` every trusted proxy has to speak that protocol."""
        self._trusted = trusted
        self._counts = counts
        self._limits = limits
        self._introductions = set[Introduction]()  # whose header has not come yet
        self._proxy_protocol = proxy_protocol

    async def meet(self, stream: trio.SocketStream, peer: str) -> Arrival | None:
        """Return whose connection this is, after the header of the PROXY protocol; None if there is
        no such header, or no room to wait for it. `peer` is its address, "" on a unix socket."""
        is_unix = stream.socket.family == getattr(socket, "AF_UNIX", None)
        if not self._trusted.trusts(UNIX if is_unix else peer):
            return Arrival(peer, peer, None)
        if not self._proxy_protocol:
            return Arrival(peer, "", Proxied(self._trusted, peer, self._counts))
        if self._counts.excess("") > self._limits.refusals:
            return None
        introduction = Introduction(stream, peer or UNIX, self._limits.head_seconds)
        self._counts.add("")
        self._introductions.add(introduction)
        try:
            header = await introduction.receive()
        finally:
            self._introductions.discard(introduction)
            self._counts.remove("")
        if header is None:
            return None
        # Such a proxy passes on what a client sends, its fields included. They count only if the
        # client is trusted, too: another proxy in front of it.
        client = header.source
        if not client or not self._trusted.trusts(client):
            return Arrival(client or peer, client, None)
        return Arrival(client, "", Proxied(self._trusted, client, self._counts))

    def drain(self) -> None:
        """The server is stopping: wait for no header any longer."""
        for introduction in list(self._introductions):
            introduction.drain()


class Proxied:
    """The requests of one connection from a trusted proxy. The connection does not count for the
    address that it comes from; each request counts for its client."""

    __slots__ = ("_counts", "_peer", "_proxies", "_under_way")

    def __init__(self, proxies: TrustedProxies, peer: str, counts: ConnectionLimits) -> None:
        """`peer` is the address of the proxy; "" on a unix socket."""
        self._proxies = proxies
        self._peer = peer
        self._counts = counts
        self._under_way: dict[Request, str] = {}  # and for whom they count

    def take(self, request: Request) -> None:
        """Give a request the client, scheme and authority that the proxy names, and count it until
        `release`. Raises `Unavailable` if its client has too many."""
        forwarded = request.forwarded = self._proxies.forwarded(request.headers, self._peer)
        client = request.client = forwarded.client
        request.scheme = forwarded.scheme or request.scheme
        if not client or self._proxies.trusts(client):
            return
        is_over = self._counts.is_over(client)
        self._counts.add_exchange(client)
        self._under_way[request] = client
        if is_over:
            raise Unavailable("too many requests at a time")

    def release(self, request: Request | None) -> None:
        """A request has ended, if there was one."""
        if request is not None and (client := self._under_way.pop(request, None)) is not None:
            self._counts.remove_exchange(client)
