"""The host and port that a client addresses: `Host`, and the authority of a target."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit

# RFC 3986 section 3.2: uri-host [ ":" port ], without userinfo.
_AUTHORITY = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)"
    r"(?::(?P<port>[0-9]{0,5}))?"
)


@lru_cache(maxsize=64)  # a server has few names, and every request one of them
def split_authority(authority: str) -> tuple[str, int | None] | None:
    """Return host (lower case, an IPv6 address in its brackets) and port, None if it is left out;
    or None if this is not `uri-host [":" port]`."""
    match = _AUTHORITY.fullmatch(authority)
    if not match:
        return None
    host, port = match["host"], match["port"]
    if host[0] == "[":
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return None
    return host.lower(), int(port) if port else None


def target_authority(target: str) -> str | None:
    """Return the authority of an absolute-form target, which replaces Host (RFC 9112 section
    3.2.2); None for the other forms."""
    return None if target.startswith(("/", "*")) else urlsplit(target).netloc


@lru_cache(maxsize=64)
def is_local_host(authority: str, allowed: frozenset[str]) -> bool:
    """Return whether a browser that names this authority may mean a server bound to loopback.

    A page on evil.example can point its own name at 127.0.0.1 and then read our answers as its
    own (DNS rebinding). It cannot do so with an address, nor with localhost, nor with a name
    without a dot, which public DNS does not hold. Other names must be in `allowed`.
    """
    split = split_authority(authority)
    if not split:
        return False
    host = split[0].rstrip(".")
    if host in allowed or "." not in host or host.endswith(".localhost") or host[0] == "[":
        return True
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True
