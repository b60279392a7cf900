"""Who may open a WebSocket: the checks of its handshake, of its Origin, and of what it offers; and
the compression that was agreed on.

The checks are pure functions of the request. They refuse with the `HTTPError` that RFC 6455
section 4.2 asks for; wsproto checks neither the key nor the Origin, and takes invalid offers of
permessage-deflate.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, Opcode, RsvBits

from .errors import HTTPError
from .head import split_authority
from .request import Request

VERSION = "13"

_OFFER = re.compile(  # RFC 7692 section 7.1
    r"permessage-deflate(\s*;\s*(server_no_context_takeover|client_no_context_takeover"
    r"|server_max_window_bits\s*=\s*([89]|1[0-5])"
    r"|client_max_window_bits(\s*=\s*([89]|1[0-5]))?))*"
)


def check_handshake(request: Request, origins: Collection[str] | None) -> None:
    """RFC 6455 section 4.2.1. Raises `HTTPError`."""
    headers = request.headers
    upgrade = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", VERSION),
    ]
    if request.method != "GET" or request.head_only:
        raise HTTPError(405, "a WebSocket opens with GET", [("Allow", "GET")])
    if "websocket" not in headers.tokens("upgrade") or "upgrade" not in headers.tokens(
        "connection"
    ):
        raise HTTPError(426, "this is a WebSocket", upgrade)
    if request.http_version == "1.0":
        raise HTTPError(400, "a WebSocket opens over HTTP/1.1")
    if headers.get("sec-websocket-version") != VERSION:
        raise HTTPError(426, f"WebSocket version {VERSION} is spoken here", upgrade)
    try:
        nonce = base64.b64decode(headers.get("sec-websocket-key", ""), validate=True)
    except ValueError:
        nonce = b""
    if len(nonce) != 16:
        raise HTTPError(400, "Sec-WebSocket-Key must be 16 bytes in base64")
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise HTTPError(400, "a WebSocket handshake has no body")
    check_origin(request, origins)


def check_origin(request: Request, allowed: Collection[str] | None = None) -> None:
    """Refuse a browser page of another origin (RFC 6455 section 10.2), with `HTTPError` 403.

    Browsers let any page open a WebSocket to any server, with that server's cookies; only the
    Origin tells. `allowed` lists origins such as "https://example.com", "*" being any; None
    allows the same origin only, by its host and port: the scheme may differ behind a proxy.
    Without an Origin it is no browser, or a request for which browsers send none: such as an image
    of another site, which Fetch Metadata tells.
    """
    if isinstance(allowed, str):
        raise TypeError("origins are a collection of strings")  # else "http://a" is in "http://a.b"
    origin = request.headers.get("origin")
    if allowed is not None and ("*" in allowed or origin in allowed):
        return
    if origin is None:
        site = request.headers.get("sec-fetch-site")
        if site in ("cross-site", "same-site") and not _is_navigation(request):
            raise HTTPError(403, "a page of another site asks, and does not say which")
        return
    if allowed is None and _same_host(origin, request.authority):
        return
    raise HTTPError(403, f"origin {origin} is not allowed at {request.authority}")


def _is_navigation(request: Request) -> bool:
    """Whether a person has followed a link: what comes is then not for the page that has it."""
    return request.headers.get("sec-fetch-mode") == "navigate"


def _same_host(origin: str, authority: str) -> bool:
    try:
        split = urlsplit(origin)
    except ValueError:
        return False
    default = {"http": 80, "https": 443}.get(split.scheme)
    theirs, ours = split_authority(split.netloc), split_authority(authority)
    if default is None or not theirs or not ours:
        return False
    return (theirs[0], theirs[1] or default) == (ours[0], ours[1] or default)


def accept_deflate(request: Request) -> tuple[PerMessageDeflate, str] | None:
    """The first acceptable offer of permessage-deflate and the answer to it (RFC 7692 section
    7.1). wsproto would take invalid offers as well."""
    for offer in request.headers.elements("sec-websocket-extensions"):
        names = [part.partition("=")[0].strip() for part in offer.split(";", 10)]
        if len(set(names)) == len(names) and _OFFER.fullmatch(offer):
            deflate = _Deflate()
            answer = deflate.accept(offer)
            if isinstance(answer, str):
                return deflate, f"{deflate.name}; {answer}" if answer else deflate.name
    return None


class _Deflate(PerMessageDeflate):
    """wsproto's permessage-deflate, with inflating done here.

    wsproto's lets go of a compressed message when a control frame comes between its fragments,
    and drops what follows a block that says it is the last of its stream (BFINAL), which RFC 7692
    section 7.2.3.4 allows anywhere.
    """

    def __init__(self) -> None:
        super().__init__()
        self._inflater = zlib.decompressobj(-15)
        self._is_compressed = False  # the message under way
        self._is_control = False  # the frame under way, which may be in the middle of it

    def frame_inbound_header(
        self, proto: Any, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        self._is_control = opcode.iscontrol()
        if opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_compressed = rsv.rsv1
        elif rsv.rsv1:
            return CloseReason.PROTOCOL_ERROR  # only the first frame of a message has it
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(self, proto: Any, data: bytes) -> bytes | CloseReason:
        if self._is_control or not self._is_compressed:
            return data
        return self._inflate(data)

    def frame_inbound_complete(self, proto: Any, fin: bool) -> bytes | CloseReason | None:
        if self._is_control or not self._is_compressed or not fin:
            return None
        rest = self._inflate(b"\0\0\xff\xff")  # which the sender has left out, section 7.2.2
        if self.client_no_context_takeover:
            self._inflater = zlib.decompressobj(-15)
        return rest

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        inflated = []
        try:
            while data:
                if self._inflater.eof:
                    self._inflater = zlib.decompressobj(-15)
                inflated.append(self._inflater.decompress(data))
                data = self._inflater.unused_data
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        return b"".join(inflated)
