"""The fields of a request, checked (RFC 9113 section 8). Pure functions.

A request that breaks these rules is malformed: its stream is reset, after an answer that says why.
The connection goes on, since frames and compression are not affected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from ..errors import HTTPError
from ..http.authority import split_authority
from ..http.fields import USUAL_NAMES, Headers
from ..limits import KIB, Limits

FIELD_OVERHEAD = 32
"""What each field counts besides its name and value (RFC 9113 section 10.5.1)."""

FAMILIAR_FIELDS, FAMILIAR_BYTES = 32, KIB
"""What was found of fields, and of heads with so many, up to this size is kept: most of them come
again."""

OF_CONNECTIONS = frozenset(
    {"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"}
)
"""Fields that speak of a connection, and have no place in HTTP/2 (RFC 9113 section 8.2.2)."""

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")
_NOT_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]|\A[ \t]|[ \t]\Z")
_LENGTH = re.compile(r"[0-9]{1,18}")
_TARGET = re.compile(r"/[\x21-\x7e]*")
_PSEUDO = frozenset({":method", ":scheme", ":path", ":authority", ":protocol"})


class MalformedRequest(HTTPError):
    """A request that breaks the rules of HTTP/2 (RFC 9113 section 8.1.1)."""

    def __init__(self, text: str) -> None:
        super().__init__(400, text)


class RequestHead(NamedTuple):
    """The head of a request, as that of HTTP/1.1 would be."""

    method: str
    target: str
    headers: Headers
    authority: str
    length: int | None
    """What Content-Length declares."""


def request_head(
    fields: Iterable[tuple[bytes, bytes]], limits: Limits, *, has_body: bool
) -> RequestHead:
    """Check the fields of a request. Extended CONNECT (RFC 8441), which asks for another protocol,
    becomes a GET with `upgrade`, as in HTTP/1.1. Raises `HTTPError`, and `MalformedRequest` for
    those that must not be processed."""
    fields = tuple(fields)
    if len(fields) <= FAMILIAR_FIELDS and sum(len(value) for _, value in fields) <= FAMILIAR_BYTES:
        return _request_head_again(fields, limits, has_body)
    return _request_head(fields, limits, has_body)


def _request_head(
    fields: tuple[tuple[bytes, bytes], ...], limits: Limits, has_body: bool
) -> RequestHead:
    pseudo: dict[str, str] = {}
    pairs: list[tuple[str, str]] = []
    cookies: list[str] = []
    hosts: list[str] = []
    lengths: list[str] = []
    size = 0
    for name, value in fields:
        size += len(name) + len(value) + FIELD_OVERHEAD
        if len(name) + len(value) <= FAMILIAR_BYTES:
            field = _field_again(bytes(name), bytes(value))
        else:
            field = _field(bytes(name), bytes(value))
        if field[0][0] == ":":
            if pairs or cookies or field[0] in pseudo:
                raise MalformedRequest(f"{field[0]} where it may not stand")
            pseudo[field[0]] = field[1]
        elif field[0] == "cookie":
            cookies.append(field[1])  # RFC 9113 section 8.2.3
        else:
            if field[0] == "host":
                hosts.append(field[1])
            elif field[0] == "content-length":
                lengths.append(field[1])
            pairs.append(field)
    if size > limits.head_bytes:
        raise HTTPError(431, f"head larger than {limits.head_bytes} bytes")
    if len(pairs) + bool(cookies) > limits.header_count:
        raise HTTPError(431, f"more than {limits.header_count} header fields")
    if cookies:
        pairs.append(("cookie", "; ".join(cookies)))
    protocol = pseudo.get(":protocol")
    method, target = _checked_line(pseudo, limits)
    authority = _checked_authority(pseudo.get(":authority"), hosts)
    length = _checked_length(lengths, has_body=has_body) if lengths else None
    if not hosts:
        pairs.insert(0, ("host", authority))
    if protocol is not None:
        method = "GET"
        pairs.append(("upgrade", protocol))
    return RequestHead(method, target, Headers(pairs), authority, length)


_request_head_again = lru_cache(maxsize=64)(_request_head)


def check_trailers(fields: Iterable[tuple[bytes, bytes]]) -> None:
    """Check the trailers of a request, which are then dropped. Raises `MalformedRequest`."""
    for name, value in fields:
        if _field(bytes(name), bytes(value))[0][0] == ":":
            raise MalformedRequest("a pseudo-header field in trailers")


def _field(name: bytes, value: bytes) -> tuple[str, str]:
    """RFC 9113 sections 8.2.1 and 8.2.2."""
    text = name.decode("latin-1")
    if text not in _PSEUDO:
        if not _NAME.fullmatch(name):
            raise MalformedRequest(f"{text!a} may not be the name of a field")
        if text in OF_CONNECTIONS or (text == "te" and value.lower() != b"trailers"):
            raise MalformedRequest(f"{text} has no place in HTTP/2")
    if _NOT_IN_VALUE.search(value):
        raise MalformedRequest(f"a character in the value of {text} that may not stand there")
    return USUAL_NAMES.get(text, text), value.decode("latin-1")


_field_again = lru_cache(maxsize=512)(_field)


def _checked_line(pseudo: dict[str, str], limits: Limits) -> tuple[str, str]:
    """The method and the target (RFC 9113 section 8.3.1, RFC 8441 section 4)."""
    method = pseudo.get(":method", "")
    if not _METHOD.fullmatch(method):
        raise MalformedRequest("no valid :method")
    if method == "CONNECT" and ":protocol" not in pseudo:
        raise HTTPError(501, "CONNECT is not supported")
    if ":protocol" in pseudo and method != "CONNECT":
        raise MalformedRequest(":protocol where it may not stand")
    target = pseudo.get(":path", "")
    if not pseudo.get(":scheme") or not target:
        raise MalformedRequest("no :scheme or no :path")
    if len(target) > limits.target_bytes:
        raise HTTPError(414, f"request target longer than {limits.target_bytes} bytes")
    is_asterisk = target == "*" and method == "OPTIONS"
    if not is_asterisk and (not _TARGET.fullmatch(target) or "#" in target):
        raise MalformedRequest("malformed :path")
    return method, target


def _checked_authority(authority: str | None, hosts: list[str]) -> str:
    """The host and port that the client addresses: `:authority`, `Host`, or both if they agree."""
    if len(hosts) > 1:
        raise MalformedRequest("more than one Host")
    host = hosts[0] if hosts else None
    if authority is not None and host is not None and authority.lower() != host.lower():
        raise MalformedRequest(":authority and Host are not the same")
    found = authority or host or ""
    if not split_authority(found):
        raise MalformedRequest("no valid :authority")
    return found


def _checked_length(lengths: list[str], *, has_body: bool) -> int:
    """The Content-Length (RFC 9110 section 8.6)."""
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise MalformedRequest("no valid Content-Length")
    length = int(lengths[0])
    if length and not has_body:
        raise MalformedRequest("a body shorter than its Content-Length")
    return length
