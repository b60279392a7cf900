"""The fields of one head, and what RFC 9113 section 8 asks of them."""

from __future__ import annotations

from ...limits import KIB
from ..head_fields import TOKEN, HeadFields
from ..spans import Span
from ..terms import TRAILERS
from . import terms

CONNECTION_FIELDS = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""They mean nothing in HTTP/2 (RFC 9113 section 8.2.2)."""

SHOWN_BYTES = 256 * KIB
"""Of the values of one head so much is shown. One byte may stand for a large entry of a table, and
a small frame for many times its size."""
DECIDING_BYTES = KIB
"""Of a field that decides about the content so much is kept, for each open stream."""

_OF_REQUESTS = (b":method", b":scheme", b":authority", b":path", b":protocol")
_OF_RESPONSES = (b":status",)


class Section:
    """A header section, or a trailer section."""

    def __init__(self, *, is_request: bool, is_trailer: bool = False) -> None:
        self.span: Span | None = None
        self.term = TRAILERS if is_trailer else terms.HEADER_SECTION
        self.is_request = is_request
        self.is_trailer = is_trailer
        self.is_whole = False
        """Whether the block ended behind a field."""
        self.count = 0
        """How many fields it has so far."""
        self.fields = HeadFields()
        self.pseudo: dict[bytes, bytes] = {}
        self._path = ""  # as it may be shown
        self._shown = 0  # bytes
        self._has_plain = False

    def add(self, name: bytes, value: bytes, shown: str) -> str:
        """Add a field. Return what is wrong with it, or ""."""
        self.count += 1
        if name.startswith(b":"):
            mistake = self._mistake_in_pseudo(name)
            if not mistake:
                self.pseudo[name] = value[:DECIDING_BYTES]
                self._path = shown if name == b":path" else self._path
            return mistake
        self._has_plain = True
        if len(self.fields[name]) < DECIDING_BYTES:
            self.fields.add(name, value[:DECIDING_BYTES])
        return _mistake_in_field(name, value)

    def shortened(self, shown: str) -> str:
        """Return a value as far as there is room for it."""
        room = SHOWN_BYTES - self._shown
        self._shown += min(len(shown), room)
        return shown if len(shown) <= room else f"{shown[:room]}..."

    @property
    def value(self) -> str:
        """The head in a few words, as the first line of a message of HTTP/1.1 has them."""
        if self.is_trailer:
            return ""
        if self.is_request:
            target = self._path or _text(self.pseudo.get(b":authority", b""))
            return f"{_text(self.pseudo.get(b':method', b''))} {target}".strip()
        return self.status

    @property
    def status(self) -> str:
        """The status code, or ""."""
        return _text(self.pseudo.get(b":status", b""))

    @property
    def mistake(self) -> str:
        """What is wrong with the whole, or ""."""
        if self.is_trailer:
            return ""
        if not self.is_request:
            is_code = len(self.status) == 3 and self.status.isdigit()
            return "" if is_code else "a response has a :status of three digits"
        needed = [b":method", b":scheme", b":path"]
        if self.pseudo.get(b":method") == b"CONNECT" and b":protocol" not in self.pseudo:
            needed = [b":method", b":authority"]
        missing = [_text(name) for name in needed if not self.pseudo.get(name)]
        return f"a request needs {' and '.join(missing)}" if missing else ""

    def _mistake_in_pseudo(self, name: bytes) -> str:
        if self.is_trailer:
            return "a trailer section has no pseudo-headers"
        if name not in (_OF_REQUESTS if self.is_request else _OF_RESPONSES):
            return f"a {'request' if self.is_request else 'response'} has no such pseudo-header"
        if name in self.pseudo:
            return "a pseudo-header comes once"
        return "pseudo-headers come before all other fields" if self._has_plain else ""


def _mistake_in_field(name: bytes, value: bytes) -> str:
    if name != name.lower():
        return "the name of a field is in lower case in HTTP/2"
    if not TOKEN.fullmatch(name):
        return "a field name is a token: letters, digits, - and a few others, no spaces"
    if name in CONNECTION_FIELDS or (name == b"te" and value.lower() != b"trailers"):
        return "a field about the connection: in HTTP/2 it may not be sent"
    if value != value.strip(b" \t"):
        return "a value does not begin or end with a space"
    if any(byte in value for byte in (0, 10, 13)):
        return "a value has no line ends and no zero bytes"
    return ""


def _text(value: bytes) -> str:
    return value.decode("latin-1")
