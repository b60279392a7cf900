"""What trusted proxies say about a client: `X-Forwarded-*` and `Forwarded` (RFC 7239). Pure
functions.

Anybody can send these fields. They count only on a connection from a trusted proxy, and only the
part of them that trusted proxies have written. Each proxy adds, on the right, the address that has
called it:

    X-Forwarded-For: 192.0.2.66, 198.51.100.7, 10.0.0.2      on a connection from 10.0.0.1

If 10.0.0.0/8 is trusted, 10.0.0.1 is believed to have been called by 10.0.0.2, and that one, a
proxy as well, to have been called by 198.51.100.7. This is the client. It has sent the rest itself.

If there is any of `X-Forwarded-For`, `-Proto` and `-Host`, `Forwarded` is not looked at. Most
proxies (nginx, HAProxy, Caddy) write the former and pass on what a client has sent as the latter. A
proxy that writes `Forwarded` has to remove the others. They are never mixed, so that no client can
add the half that its proxy leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from ..tcp.admission import unmapped
from .authority import split_authority
from .fields import Headers

UNIX = "unix"
"""Stands for connections over a unix socket."""

MOST_HOPS = 20
"""How many proxies are followed; nobody has as many."""

MOST_COMMAS = 4
"""How many commas may stand in the quoted strings of one element."""

LONGEST_HOST = 255
"""Bytes of a name in DNS (RFC 1035 section 2.3.4), and so about as many as a host may have."""

FAMILIAR_CHARACTERS = 64
"""What was found of addresses up to this length is kept, and of fields up to four times this;
clients send several requests."""

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
"""Traefik names the scheme of a WebSocket's URL."""

# RFC 7239 section 6, and what others write: IPv6 without its brackets.
_NODE = re.compile(
    r"(?:(?P<v4>[0-9.]{7,15})|\[(?P<v6>[0-9A-Fa-f:.]{2,45})\])"
    r"(?::(?:[0-9]{1,5}|_[0-9A-Za-z._-]+))?"
    r"|(?P<bare>[0-9A-Fa-f:.]{2,45})"
)
# RFC 7239 section 4; a value with a colon should be quoted, which not everybody does.
_PAIR = r"""[!#$%&'*+.^_`|~0-9A-Za-z-]+=(?:[^\s",;\\]+|"(?:[^"\\]|\\.)*")"""
_PAIRS = re.compile(r'([^=\s;"]+)=([^\s",;\\]+|"(?:[^"\\]|\\.)*")')
_ELEMENT = re.compile(rf"(?:{_PAIR})?(?:[ \t]*;[ \t]*(?:{_PAIR})?)*")


class Forwarded(NamedTuple):
    """What trusted proxies say about a request."""

    client: str
    """The address of the client, or of the last proxy that was believed."""
    scheme: str
    """"http" or "https"; "" if they do not say."""
    authority: str
    """The host and port that the client addressed; "" if they do not say."""


class TrustedProxies:
    """Whom to believe."""

    def __init__(self, names: Collection[str]) -> None:
        """`names` are addresses, networks ("10.0.0.0/8") and "unix", for connections over a unix
        socket. Raises `ValueError` for anything else."""
        if isinstance(names, str):
            raise TypeError("trusted_proxies is a collection of strings, not one string")
        self._unix = UNIX in names
        self._networks = [_network(name) for name in names if name != UNIX]
        self._trusts_again = lru_cache(maxsize=256)(self._trusts)
        self._read_again = lru_cache(maxsize=256)(self._read)

    def trusts(self, peer: str) -> bool:
        """Return whether to believe a peer: an address, or "unix"; never "", which is nobody."""
        return self._unix if peer == UNIX else self._trusts_again(peer)

    def _trusts(self, address: str) -> bool:
        if not address:
            return False
        ip = ip_address(unmapped(address.partition("%")[0]))
        return any(ip in network for network in self._networks)

    def forwarded(self, headers: Headers, peer: str) -> Forwarded:
        """Return what the fields of a request say that came from a trusted `peer`, an address or ""
        for a unix socket. Never raises: what makes no sense ends the walk at the last address that
        could be believed."""
        clients = headers.get("x-forwarded-for")
        schemes = headers.get("x-forwarded-proto")
        hosts = headers.get("x-forwarded-host")
        if clients is None and schemes is None and hosts is None:
            elements = headers.get("forwarded")
            return self._walk(elements, peer) if elements else Forwarded(peer, "", "")
        size = len(clients or "") + len(schemes or "") + len(hosts or "")
        read = self._read_again if size <= 4 * FAMILIAR_CHARACTERS else self._read
        return read(clients, schemes, hosts, peer)

    def _read(
        self, clients: str | None, schemes: str | None, hosts: str | None, peer: str
    ) -> Forwarded:
        client, hops = peer, 0
        for node in _from_the_right(clients or ""):
            hops += 1
            address = address_of(node)
            client = address or client
            if not address or not self.trusts(address):
                break
        scheme = _SCHEMES.get(_at(hops, schemes or "").lower(), "")
        return Forwarded(client, scheme, _authority(_at(hops, hosts or "")))

    def _walk(self, elements: str, peer: str) -> Forwarded:
        """The same for the value of `Forwarded`."""
        client, scheme, authority = peer, "", ""
        for element in _elements(elements):
            # Of a proxy that does not say, what the next one says is the best guess.
            scheme = _SCHEMES.get(element.get("proto", "").lower(), scheme)
            authority = _authority(element.get("host", "")) or authority
            address = address_of(element.get("for", ""))
            client = address or client
            if not address or not self.trusts(address):
                break
        return Forwarded(client, scheme, authority)


def _network(name: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(name)
    except ValueError as error:
        why = ": bits after the prefix are set" if "host bits" in str(error) else ""
        raise ValueError(
            f"{name!r} is not a trusted proxy: write an address, a network such as 10.0.0.0/8, "
            f"or {UNIX}{why}"
        ) from None
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((int(mapped), network.prefixlen - 96))
    return network


def address_of(node: str) -> str:
    """Return the address in a node (RFC 7239 section 6), with or without quotes, brackets and port,
    in its shortest form; "" for `unknown`, an obfuscated identifier, and all else."""
    return (_address_again if len(node) <= FAMILIAR_CHARACTERS else _address)(node)


def _address(node: str) -> str:
    found = _NODE.fullmatch(node.removeprefix('"').removesuffix('"'))
    if not found:
        return ""
    try:
        if found["v4"]:
            return str(IPv4Address(found["v4"]))
        address = IPv6Address(found["v6"] or found["bare"])
    except ValueError:
        return ""
    return str(address.ipv4_mapped or address)


_address_again = lru_cache(maxsize=256)(_address)


def _authority(text: str) -> str:
    """The text, if it is `host [":" port]`."""
    return text if len(text) <= LONGEST_HOST and split_authority(text) else ""


def _from_the_right(value: str) -> list[str]:
    """The last elements of a list, the last one first."""
    parts = value.rsplit(",", MOST_HOPS)[-MOST_HOPS:]
    return [part for text in reversed(parts) if (part := text.strip(" \t"))]


def _at(hops: int, value: str) -> str:
    """What the proxy that is so many hops away has added to a list; or, if not all of them have
    added to it, the first one that has."""
    elements = _from_the_right(value)
    return elements[min(max(hops, 1), len(elements)) - 1] if elements else ""


def _elements(value: str) -> Iterator[dict[str, str]]:
    """Yield the elements of `Forwarded`, the last one first, up to one that is malformed.

    It is read from the right, so that nothing in front of an element changes how that is read, like
    a quote that a client has opened and not closed. The shortest text behind a comma that is an
    element is one: a text that begins within a quoted string ends with its closing quote, which
    opens nothing.
    """
    end = len(value)
    for _ in range(MOST_HOPS):
        if (start := _start_of_element(value, end)) is None:
            return
        pairs = _PAIRS.findall(value, start, end)
        element = {name.lower(): _unquoted(text) for name, text in pairs}
        if len(element) < len(pairs):
            return  # RFC 7239 section 4: each parameter at most once
        if element:
            yield element
        end = start - 1
        if end < 0:
            return


def _start_of_element(value: str, end: int) -> int | None:
    start = end
    for _ in range(1 + MOST_COMMAS):
        start = value.rfind(",", 0, start)
        if _ELEMENT.fullmatch(value[start + 1 : end].strip(" \t")):
            return start + 1
        if start < 0:
            return None
    return None


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text[:1] == '"' else text
