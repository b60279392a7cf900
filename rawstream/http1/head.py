"""The raw head of a request, seen before h11 sees it.

h11 is lenient where leniency lets requests be smuggled past a proxy that reads them otherwise:
it accepts obsolete line folding, bare LF, both framings at once, any Host, and HTTP/2.0 in a
request line. `check_head` refuses those, and what is too large. What it lets through, h11 parses
and validates (field names, Content-Length, codings), or the lane for plain requests takes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple, NoReturn

from ..errors import HTTPError
from ..http.authority import split_authority, target_authority
from ..http.fields import LIST_ELEMENTS, Headers
from ..limits import KIB, Limits
from .field_line import CONNECTION, HOST, Kind, field_line, field_line_again, has_control

END_OF_HEAD = b"\r\n\r\n"
LONGEST_METHOD = 32
BARE_LF = re.compile(rb"(?<!\r)\n")

FAMILIAR_BYTES = 2 * KIB
"""What heads up to this size were cut into is kept, because most of it comes again."""

_COOKIE_LINE = "\r\nCookie: "
_NO_COOKIE = ("cookie", "")
_NO_OPTIONS = frozenset[str]()
_PLAIN_OPTIONS = frozenset({"keep-alive", "close", "upgrade"})

_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])")
_REQUEST_LINE_BEGUN = re.compile(
    rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+( ([\x21-\x7e]+( [HTTP/0-9.]*\r?)?)?)?"
)
_VERSION_LIKE = re.compile(r"[^\r\n]* HTTP/([0-9]+)(\.[0-9]+)?")


def check_unfinished_head(received: bytearray, checked: int, limits: Limits) -> None:
    """Refuse an incomplete head that can no longer become valid.

    The first `checked` bytes have been checked before. Raises `HTTPError`.
    """
    if checked == 0 or b"\r\n" not in received[:checked]:
        _check_request_line_so_far(received, limits)
    # A head of bare LFs never completes: do not let its client wait for the deadline. The
    # byte before tells whether the first new one is bare.
    if BARE_LF.search(received, max(0, checked - 1)):
        raise HTTPError(400, "line ended by a bare LF")
    if len(received) > limits.head_bytes:
        raise HTTPError(431, f"head larger than {limits.head_bytes} bytes")


def _check_request_line_so_far(received: bytearray, limits: Limits) -> None:
    """Refuse another protocol, like TLS or SSH, at once: its client may be waiting for us."""
    line, end, _ = received.partition(b"\r\n")
    if end:
        text = line.decode("latin-1")
        if not _REQUEST_LINE.fullmatch(text):
            _refuse_request_line(text)
    elif len(line) > limits.target_bytes:
        raise HTTPError(414, f"request line longer than {limits.target_bytes} bytes")
    elif not _REQUEST_LINE_BEGUN.fullmatch(line) and b"\n" not in line:
        raise HTTPError(400, "malformed request line")


class RequestHead(NamedTuple):
    """The head of a request."""

    method: str
    target: str
    version: str
    headers: Headers
    authority: str
    """The host and port that the client addresses; "" if it has named none in HTTP/1.0."""
    closes: bool
    """Whether the client wants the connection to be closed after the response."""
    is_plain: bool
    """Whether it has no body, and nothing else that only h11 can judge."""


class _Lines(NamedTuple):
    """What the lines behind a request line hold."""

    fields: list[tuple[str, str]]
    empty_cookie: int
    """The place of the one empty `cookie` among the fields; -1 if there is none, or more."""
    hosts: list[str]
    closes: bool
    """Whether `Connection` says `close`."""
    kinds: list[Kind]
    """The kinds of other lines."""
    too_long: bool
    """Whether a list is too long."""
    is_plain: bool
    """Whether there is one valid Host, and nothing that has to be looked at again."""


def check_head(head: bytes, limits: Limits) -> RequestHead:
    """Cut a head, and refuse what h11 would let through. `head` ends with the empty line. The
    fields that are returned are only valid if it is plain.

    Raises `HTTPError`: 400, 414, 431, 501 or 505; the connection's framing cannot be trusted
    after any of them (RFC 9112 sections 2.2, 3.2, 5.2, 6.1, 11.2).
    """
    text = head.decode("latin-1")
    end = text.find("\r\n")
    found = _REQUEST_LINE.fullmatch(text, 0, end) or _refuse_request_line(text[:end])
    method, target, version = found.groups()
    if len(method) > LONGEST_METHOD:
        raise HTTPError(501, f"method longer than {LONGEST_METHOD} bytes")
    if len(target) > limits.target_bytes:
        raise HTTPError(414, f"request target longer than {limits.target_bytes} bytes")
    if len(head) > limits.head_bytes:
        raise HTTPError(431, f"head larger than {limits.head_bytes} bytes")
    if version[0] != "1":
        raise HTTPError(505, "only HTTP/1.0 and HTTP/1.1 are supported")
    fields, lines = _cut_lines(text, end + 2)
    if len(fields) > limits.header_count:
        raise HTTPError(431, f"more than {limits.header_count} header fields")
    authority = lines.hosts[0] if lines.hosts else ""
    is_plain = lines.is_plain and version == "1.1"
    if not is_plain or target[0] != "/" or "#" in target or method == "CONNECT":
        if lines.kinds:
            _check_lines(lines.kinds, head, limits)
        _check_target(method, target)
        _check_host(lines.hosts, version)
        _check_coding(lines.kinds, version)
        if lines.too_long:
            raise HTTPError(400, f"a list of more than {LIST_ELEMENTS} elements")
        authority = target_authority(target) or authority
    headers = Headers(fields)
    return RequestHead(method, target, version, headers, authority, lines.closes, is_plain)


def _cut_lines(text: str, begin: int) -> tuple[list[tuple[str, str]], _Lines]:
    """Cut the lines from `begin` to the empty one; return their fields, and what else they hold.
    Of a browser's lines often only the cookie is another, so what all the others hold is kept."""
    if len(text) - begin > FAMILIAR_BYTES:
        lines = _lines(text[begin:])
        return lines.fields, lines
    start = text.find(_COOKIE_LINE) + len(_COOKIE_LINE)
    if start >= len(_COOKIE_LINE):
        end = text.find("\r\n", start)
        cookie = text[start:end]
        lines = _lines_again(text[begin:start] + text[end:])
        if lines.empty_cookie >= 0 and not has_control(cookie):
            fields = lines.fields.copy()
            fields[lines.empty_cookie] = "cookie", cookie.strip(" \t")
            return fields, lines
    lines = _lines_again(text[begin:])
    return lines.fields, lines


def _lines(text: str) -> _Lines:
    fields: list[tuple[str, str]] = []
    hosts: list[str] = []
    options = _NO_OPTIONS
    kinds: list[Kind] = []
    cut = field_line_again if len(text) <= FAMILIAR_BYTES else field_line
    for field, kind in map(cut, text.split("\r\n")[:-2]):
        fields.append(field)
        if kind is None:
            continue
        if kind is HOST:
            hosts.append(field[1])
        elif kind is CONNECTION:
            options |= _connection_options(field[1])
        else:
            kinds.append(kind)
    too_long = text.count(",") > LIST_ELEMENTS and _has_long_list(text)
    empty_cookie = fields.index(_NO_COOKIE) if fields.count(_NO_COOKIE) == 1 else -1
    one_host = len(hosts) == 1 and split_authority(hosts[0]) is not None
    is_plain = one_host and not kinds and not too_long and options <= _PLAIN_OPTIONS
    return _Lines(fields, empty_cookie, hosts, "close" in options, kinds, too_long, is_plain)


_lines_again = lru_cache(maxsize=64)(_lines)


def _has_long_list(text: str) -> bool:
    """Whether there are too many elements in the lists of which h11 looks at every one."""
    lines = [field_line(line) for line in text.split("\r\n")[:-2]]
    for kind in (Kind.CONNECTION, Kind.TRANSFER_ENCODING, Kind.EXPECT):
        if sum(value.count(",") for (_, value), of in lines if of is kind) > LIST_ELEMENTS:
            return True
    return False


def _refuse_request_line(line: str) -> NoReturn:
    if (version := _VERSION_LIKE.fullmatch(line)) and version[1] != "1":
        raise HTTPError(505, "only HTTP/1.0 and HTTP/1.1 are supported")
    raise HTTPError(400, "malformed request line")


def _check_target(method: str, target: str) -> None:
    """RFC 9112 section 3.2: origin-form, absolute-form, or the asterisk of OPTIONS."""
    if method == "CONNECT":
        raise HTTPError(501, "CONNECT is not supported")
    if "#" in target:
        raise HTTPError(400, "a fragment in the request target")
    if target[0] == "/" or (target == "*" and method == "OPTIONS"):
        return
    scheme, colon, rest = target.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if not colon or scheme.lower() not in ("http", "https") or not split_authority(authority):
        raise HTTPError(400, "malformed request target")


def _check_lines(kinds: list[Kind], head: bytes, limits: Limits) -> None:
    if Kind.STRAY in kinds:
        if head.count(b"\n") - 2 > limits.header_count:
            raise HTTPError(431, f"more than {limits.header_count} header fields")
        raise HTTPError(400, "control character, bare CR or bare LF in the head")
    if Kind.FOLDED in kinds:
        raise HTTPError(400, "folded line in the head")


def _check_host(hosts: list[str], version: str) -> None:
    """RFC 9112 section 3.2: exactly one Host in HTTP/1.1, at most one in 1.0, and a valid one."""
    if not hosts and version != "1.0":
        raise HTTPError(400, "no Host")
    if len(hosts) > 1:
        raise HTTPError(400, "more than one Host")
    if hosts and not split_authority(hosts[0]):
        raise HTTPError(400, "malformed Host")


def _check_coding(kinds: list[Kind], version: str) -> None:
    """RFC 9112 section 6.1: each of these may be an attempt at smuggling. h11 itself refuses
    lengths that differ, and codings other than chunked."""
    if Kind.TRANSFER_ENCODING not in kinds:
        return
    if Kind.CONTENT_LENGTH in kinds:
        raise HTTPError(400, "both Content-Length and Transfer-Encoding")
    if version == "1.0":
        raise HTTPError(400, "Transfer-Encoding in HTTP/1.0")


@lru_cache(maxsize=64)
def _connection_options(value: str) -> frozenset[str]:
    """The options of `Connection` (RFC 9110 section 7.6.1)."""
    options = (option.strip(" \t").lower() for option in value.split(",", LIST_ELEMENTS))
    return frozenset(filter(None, options))
