r"""The PROXY protocol: before anything else, TLS included, a proxy says for whom it connects.

    version 1   b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"
    version 2   a signature of 12 bytes, a command, a family, a length, two addresses and two ports,
                and then what else the proxy has to say, which is skipped

The specification is HAProxy's (haproxy.org, proxy-protocol.txt). `cut_header` is a pure function;
`Introduction` reads no byte behind the header.
"""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

import trio

from ..limits import KIB
from ..stderr import logger
from .keepalive import SECOND_LOOK, is_late
from .receiving import STREAM_ERRORS

V1_BEGIN = b"PROXY "
V1_BYTES = 107
"""The longest line of version 1, its line break included (section 2.1)."""

V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V2_HEAD_BYTES = 16
"""The signature, the command, the family, and two bytes for the length of the rest."""

LOCAL, PROXY = 0x20, 0x21
"""Version and command: the proxy itself connects, as for a health check, or it does for another."""

TCP4, TCP6 = 0x11, 0x21
ADDRESS_BYTES = {0x1: 12, 0x2: 36, 0x3: 216}
"""By family: IPv4, IPv6, unix. 0 is unspecified, and has none."""

SEEN_BYTES = KIB
"""Bytes looked at in one read: more than nearly all headers have."""

_V1_LINE = re.compile(
    rb"PROXY (?:(?P<unknown>UNKNOWN)(?: [^\r\n]*)?|(?P<family>TCP4|TCP6) (?P<source>[0-9A-Fa-f:.]+)"
    rb" (?P<target>[0-9A-Fa-f:.]+) (?P<ports>(?:0|[1-9][0-9]{0,4}) (?:0|[1-9][0-9]{0,4})))\r\n"
)


class Header(NamedTuple):
    """A whole header."""

    size: int
    """Its bytes."""
    source: str
    """The address of the client; "" if the proxy connects for itself, or names none of IP."""


def cut_header(received: bytes) -> Header | None:
    """Return the header at the beginning of `received`; None if it is not whole yet, and everything
    belongs to it. Raises `ValueError` if it is malformed."""
    if received.startswith(V2_SIGNATURE):
        return _cut_v2(received)
    if received.startswith(V1_BEGIN):
        return _cut_v1(received)
    if not any(begin.startswith(received) for begin in (V1_BEGIN, V2_SIGNATURE)):
        raise ValueError("no header")
    return None


def _cut_v1(received: bytes) -> Header | None:
    end = received.find(b"\n", 0, V1_BYTES) + 1
    if not end:
        if len(received) >= V1_BYTES:
            raise ValueError("a line too long")
        return None
    found = _V1_LINE.fullmatch(received, 0, end)
    if not found:
        raise ValueError("a malformed line")
    if found["unknown"]:
        return Header(end, "")
    address = IPv4Address if found["family"] == b"TCP4" else IPv6Address
    try:
        source, _ = (address(found[name].decode()) for name in ("source", "target"))
    except ValueError:
        raise ValueError("a malformed address") from None
    if any(int(port) > 0xFFFF for port in found["ports"].split()):
        raise ValueError("a malformed port")
    return Header(end, _text(source))


def _cut_v2(received: bytes) -> Header | None:
    if len(received) < V2_HEAD_BYTES:
        return None
    command, family = received[12], received[13]
    length = int.from_bytes(received[14:V2_HEAD_BYTES], "big")
    if command not in (LOCAL, PROXY):
        raise ValueError("an unknown version or command")
    if command == PROXY:
        if family >> 4 > 3 or family & 0xF > 2:
            raise ValueError("an unknown family or transport")
        if length < ADDRESS_BYTES.get(family >> 4, 0):
            raise ValueError("too short for its addresses")
    if len(received) < V2_HEAD_BYTES + length:
        return None
    source = ""
    if command == PROXY and family == TCP4:
        source = str(IPv4Address(received[16:20]))
    elif command == PROXY and family == TCP6:
        source = _text(IPv6Address(received[16:32]))
    return Header(V2_HEAD_BYTES + length, source)


def _text(address: IPv4Address | IPv6Address) -> str:
    """An address as text; that of IPv4 for one that is mapped into IPv6."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


class Introduction:
    """Waits for the header of one connection."""

    def __init__(self, stream: trio.SocketStream, proxy: str, seconds: float) -> None:
        """`proxy` names the peer in the log. The header has to be whole after `seconds`."""
        self._socket = stream.socket
        self._proxy = proxy
        self._seconds = seconds
        self._received = b""
        self._waiting = trio.CancelScope()
        self._draining = False

    def drain(self) -> None:
        """The server is stopping: wait no longer, and let no request begin."""
        self._draining = True
        self._waiting.cancel()

    async def receive(self) -> Header | None:
        """Return the header, or None if none has come, which is logged. What follows it is left in
        the socket, for TLS or HTTP."""
        self._waiting.deadline = trio.current_time() + self._seconds
        try:
            with suppress(*STREAM_ERRORS):
                with self._waiting:
                    return await self._read()
                if self._draining:
                    return None
                if is_late(self._waiting.deadline):
                    with trio.move_on_after(SECOND_LOOK):
                        return await self._read()
                logger.warning("%s: PROXY protocol: too late", self._proxy)
        except ValueError as error:
            logger.warning("%s: PROXY protocol: %s", self._proxy, error)
        return None

    async def _read(self) -> Header | None:
        """The same, without an end. An end of input is no reason to complain: so do proxies find
        out whether anybody listens."""
        while seen := await self._socket.recv(SEEN_BYTES, trio.socket.MSG_PEEK):
            header = cut_header(self._received + seen)
            size = header.size - len(self._received) if header else len(seen)
            self._received += await self._socket.recv(size)
            if header:
                return None if self._draining else header
        return None
