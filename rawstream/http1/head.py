"""The raw head of a request, seen before h11 sees it.

h11 is lenient where leniency lets requests be smuggled past a proxy that reads them otherwise:
it accepts obsolete line folding, bare LF, both framings at once, any Host, and HTTP/2.0 in a
request line. `check_head` refuses those, and what is too large, from the bytes alone. What it
lets through, h11 parses and validates (field names and values, methods, Content-Length).
"""

from __future__ import annotations

import re

from ..errors import HTTPError
from ..http.authority import split_authority
from ..http.fields import LIST_ELEMENTS
from ..limits import Limits

END_OF_HEAD = b"\r\n\r\n"
LONGEST_METHOD = 32
BARE_LF = re.compile(rb"(?<!\r)\n")

_REQUEST_LINE = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])\r\n"
)
_REQUEST_LINE_BEGUN = re.compile(
    rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+( ([\x21-\x7e]+( [HTTP/0-9.]*\r?)?)?)?"
)
_VERSION_LIKE = re.compile(rb"[^\r\n]* HTTP/([0-9]+)(\.[0-9]+)?\r\n")
# RFC 9110 section 5.5: field values hold HTAB and no other control character.
_TEXT = bytes(byte for byte in range(256) if byte == 0x09 or (byte >= 0x20 and byte != 0x7F))


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
        _split_request_line(bytes(line + end))
    elif len(line) > limits.target_bytes:
        raise HTTPError(414, f"request line longer than {limits.target_bytes} bytes")
    elif not _REQUEST_LINE_BEGUN.fullmatch(line) and b"\n" not in line:
        raise HTTPError(400, "malformed request line")


def check_head(head: bytes, limits: Limits) -> None:
    """Refuse what h11 would let through. `head` ends with the empty line.

    Raises `HTTPError`: 400, 414, 431, 501 or 505; the connection's framing cannot be trusted
    after any of them (RFC 9112 sections 2.2, 3.2, 5.2, 6.1, 11.2).
    """
    method, target, major, minor = _split_request_line(head)
    if len(method) > LONGEST_METHOD:
        raise HTTPError(501, f"method longer than {LONGEST_METHOD} bytes")
    if len(target) > limits.target_bytes:
        raise HTTPError(414, f"request target longer than {limits.target_bytes} bytes")
    if len(head) > limits.head_bytes:
        raise HTTPError(431, f"head larger than {limits.head_bytes} bytes")
    if major != b"1":
        raise HTTPError(505, "only HTTP/1.0 and HTTP/1.1 are supported")
    if head.count(b"\n") - 2 > limits.header_count:
        raise HTTPError(431, f"more than {limits.header_count} header fields")
    if has_stray_line_ends(head):
        raise HTTPError(400, "control character, bare CR or bare LF in the head")
    if is_folded(head):
        raise HTTPError(400, "folded line in the head")
    lowered = head.lower()
    _check_target(method, target)
    _check_host(lowered, minor)
    _check_framing(lowered, minor)
    if lowered.count(b",") > LIST_ELEMENTS:
        _check_lists(lowered)


def _split_request_line(head: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return method, target, and both numbers of the version. Raises `HTTPError` 400 and 505."""
    line = _REQUEST_LINE.match(head)
    if not line:
        if (version := _VERSION_LIKE.match(head)) and version[1] != b"1":
            raise HTTPError(505, "only HTTP/1.0 and HTTP/1.1 are supported")
        raise HTTPError(400, "malformed request line")
    method, target, major, minor = line.groups()
    return method, target, major, minor


def has_stray_line_ends(lines: bytes) -> bool:
    """Return whether there is a bare CR, a bare LF or another control character: once the text
    is removed, only CRLFs may be left."""
    return lines.translate(None, _TEXT) != b"\r\n" * lines.count(b"\r\n")


def is_folded(lines: bytes) -> bool:
    """Return whether a line starts with white space (RFC 9112 section 5.2)."""
    return b"\n " in lines or b"\n\t" in lines


def _check_target(method: bytes, target: bytes) -> None:
    """RFC 9112 section 3.2: origin-form, absolute-form, or the asterisk of OPTIONS."""
    if method == b"CONNECT":
        raise HTTPError(501, "CONNECT is not supported")
    if b"#" in target:
        raise HTTPError(400, "a fragment in the request target")
    if target[0] == 0x2F or (target == b"*" and method == b"OPTIONS"):
        return
    scheme, colon, rest = target.partition(b"://")
    authority = re.split(rb"[/?#]", rest, maxsplit=1)[0].decode("ascii")
    if not colon or scheme.lower() not in (b"http", b"https") or not split_authority(authority):
        raise HTTPError(400, "malformed request target")


def _check_host(lowered: bytes, minor: bytes) -> None:
    """RFC 9112 section 3.2: exactly one Host in HTTP/1.1, at most one in 1.0, and a valid one."""
    start = lowered.find(b"\nhost:")
    if start < 0:
        if minor != b"0":
            raise HTTPError(400, "no Host")
        return
    start += len(b"\nhost:")
    if lowered.find(b"\nhost:", start) >= 0:
        raise HTTPError(400, "more than one Host")
    host = lowered[start : lowered.find(b"\r", start)].strip(b" \t")
    if not split_authority(host.decode("latin-1")):
        raise HTTPError(400, "malformed Host")


def _check_framing(lowered: bytes, minor: bytes) -> None:
    """RFC 9112 section 6.1: each of these may be an attempt at smuggling. h11 itself refuses
    lengths that differ, and codings other than chunked."""
    if b"\ntransfer-encoding:" in lowered:
        if b"\ncontent-length:" in lowered:
            raise HTTPError(400, "both Content-Length and Transfer-Encoding")
        if minor == b"0":
            raise HTTPError(400, "Transfer-Encoding in HTTP/1.0")


def _check_lists(lowered: bytes) -> None:
    """Bound the lists of which h11 looks at every element."""
    for name in (b"connection", b"transfer-encoding", b"expect"):
        values = re.findall(rb"\n%b:([^\n]*)" % name, lowered)
        if sum(value.count(b",") for value in values) > LIST_ELEMENTS:
            raise HTTPError(400, f"a list of more than {LIST_ELEMENTS} elements")
