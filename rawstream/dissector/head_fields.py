"""Header fields: their lines, and those that decide how a message goes on (RFC 9112 section 5)."""

from __future__ import annotations

import base64
import hashlib
import re

from . import terms
from .field_terms import field_term
from .scanner import CR, KEPT_BYTES, LF, Scanner, Steps
from .spans import Span, Term
from .urls import url

WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

SECRET_FIELDS = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"))

URL_FIELDS = frozenset((b"content-location", b"location", b"referer"))
"""Their queries may contain secrets."""

DECIDING_FIELDS = frozenset(
    (
        b"connection", b"content-encoding", b"content-length", b"content-type",
        b"sec-websocket-extensions", b"sec-websocket-key", b"transfer-encoding", b"upgrade",
    )
)  # fmt: skip
"""Only these are kept."""

ENDS_OF_CONTENT = frozenset((b"content-length", b"transfer-encoding"))
"""Of these a message has at most one (RFC 9112 section 6.3)."""

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class HeadFields:
    """The values of `DECIDING_FIELDS` in one head."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}

    def add(self, name: bytes, value: bytes) -> None:
        """Add a field; its name is in lower case."""
        if name in DECIDING_FIELDS:
            before = self._values.get(name)
            if before is None:
                self._values[name] = value
            elif len(before) < KEPT_BYTES:
                self._values[name] = before + b", " + value

    def __getitem__(self, name: bytes) -> bytes:
        """The value, several of them joined by commas; b"" if there is none."""
        return self._values.get(name, b"")

    def tokens(self, name: bytes) -> list[bytes]:
        """The elements of the value, in lower case."""
        return [part.strip().lower() for part in self[name].split(b",") if part.strip()]


def field_lines(scanner: Scanner, end: Term, *, key: bytes = b"") -> Steps[HeadFields]:
    """Take field lines and the empty line behind them. `key` is the Sec-WebSocket-Key that this
    head answers."""
    fields = HeadFields()
    while (yield from scanner.peek()) not in (CR, LF):
        with scanner.within(terms.FIELD_LINE) as line:
            yield from _field_line(scanner, line, fields, key)
    yield from scanner.crlf(end)
    return fields


def _field_line(scanner: Scanner, line: Span, fields: HeadFields, key: bytes) -> Steps[None]:
    _, name = yield from scanner.until(b":\r\n", terms.FIELD_NAME)
    if not TOKEN.fullmatch(name):
        line.mistake = "a field name is a token: letters, digits, - and a few others, no spaces"
    written, name = name.decode("latin-1"), name.lower()
    line.term = field_term(name)
    is_secret = name in SECRET_FIELDS
    value = b""
    if (yield from scanner.peek()) == b":":
        yield from scanner.exactly(1, terms.COLON)
        if (yield from scanner.peek()) in (b" ", b"\t"):
            yield from scanner.while_in(b" \t", terms.WHITESPACE)
        if name in URL_FIELDS:
            with scanner.within(terms.FIELD_VALUE) as span:
                span.value = yield from url(scanner, b"\r\n")
            value = span.value.encode()
        else:
            span, value = yield from scanner.until(b"\r\n", terms.FIELD_VALUE, is_secret=is_secret)
        value = value.rstrip(b" \t")
        if name == b"sec-websocket-accept" and key:
            _explain_accept(span, value, key)
    else:
        line.mistake = "a field line needs a colon"
    yield from scanner.crlf(terms.CRLF)
    while (yield from scanner.peek()) in (b" ", b"\t"):
        folded, more = yield from scanner.until(b"\r\n", terms.FOLDED, is_secret=is_secret)
        folded.mistake = "a value may not go on in a second line"
        value += b" " + more.strip(b" \t")
        yield from scanner.crlf(terms.CRLF)
    shown = "***" if is_secret else value.decode("utf-8", "replace")
    line.value = f"{written}: {shown}"
    if name in ENDS_OF_CONTENT and any(fields[other] for other in ENDS_OF_CONTENT - {name}):
        line.mistake = (
            "Content-Length and Transfer-Encoding in one head: a reader that believes the other "
            "one finds the end elsewhere"
        )
    fields.add(name, value)


def _explain_accept(span: Span, value: bytes, key: bytes) -> None:
    """Say how the value follows from the key of the request (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1(key + WEBSOCKET_GUID).digest()
    span.detail = (
        f"the SHA-1 of {(key + WEBSOCKET_GUID).decode('latin-1')} is {digest.hex()}; this is it in "
        "Base64"
    )
    if base64.b64encode(digest) != value:
        span.mistake = f"it should be {base64.b64encode(digest).decode()}"
