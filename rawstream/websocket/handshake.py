"""The opening handshake: which requests may open a WebSocket (RFC 6455 section 4.2), and the
fields that accept one. Pure functions of the request. wsproto checks neither the key nor the
Origin.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from wsproto.utilities import generate_accept_token

from ..errors import HTTPError
from ..http.origin import check_origin
from ..http.request import Request

VERSION = "13"

_KEY = re.compile("[A-Za-z0-9+/]{22}==")  # 16 bytes in base64


def check_handshake(request: Request, origins: Collection[str] | None) -> None:
    """Check a handshake by RFC 6455 section 4.2.1. Over HTTP/2 it needs neither `Connection` nor a
    key (RFC 8441 section 5). Raises `HTTPError`."""
    headers = request.headers
    upgrade = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", VERSION),
    ]
    if request.method != "GET" or request.head_only:
        raise HTTPError(405, "a WebSocket handshake must use GET", [("Allow", "GET")])
    over_http2 = request.http_version == "2"
    is_asked = over_http2 or "upgrade" in headers.tokens("connection")
    if "websocket" not in headers.tokens("upgrade") or not is_asked:
        raise HTTPError(426, "this is a WebSocket", upgrade)
    if request.http_version == "1.0":
        raise HTTPError(400, "a WebSocket handshake must use HTTP/1.1")
    if headers.get("sec-websocket-version") != VERSION:
        raise HTTPError(426, f"only WebSocket version {VERSION} is supported", upgrade)
    if not over_http2 and not _KEY.fullmatch(headers.get("sec-websocket-key", "")):
        raise HTTPError(400, "Sec-WebSocket-Key must be 16 bytes in base64")
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise HTTPError(400, "a WebSocket handshake must have no body")
    check_origin(request, origins)


def accept_fields(request: Request) -> list[tuple[str, str]]:
    """Return the fields of the answer that accepts a request, without negotiated ones."""
    if request.http_version == "2":
        return []
    key = request.headers["sec-websocket-key"].encode()
    return [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", generate_accept_token(key).decode()),
    ]


def choose_subprotocol(request: Request, subprotocols: Sequence[str]) -> str | None:
    """Return the first of `subprotocols` that the client offers, or None."""
    if not subprotocols:
        return None
    offered = request.headers.elements("sec-websocket-protocol")
    return next((name for name in subprotocols if name in offered), None)
