"""The fields of responses and trailers. Pure functions.

A server sends the same few heads again and again, so what was checked is kept, without Date and
Content-Length, which differ from one response to the next.
"""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from ..http.date import http_date
from ..http.fields import Fields, checked
from .request_head import OF_CONNECTIONS

Pairs: TypeAlias = list[tuple[bytes, bytes]]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x21-\x7e\x80-\xff]+([ \t]+[\x21-\x7e\x80-\xff]+)*|")


class MadeHead(NamedTuple):
    """A head without the values of Date and Content-Length."""

    pairs: tuple[tuple[bytes, bytes], ...]
    declared: int | None
    """The Content-Length that the handler has declared itself."""
    closes: bool
    """Whether the handler wants the connection to be closed: `Connection: close`."""

    def filled_in(self, length: int | None) -> Pairs:
        """The head as it is sent now, for a body of `length` bytes."""
        pairs = [*self.pairs, (b"date", http_date(int(time.time())))]
        if length is not None and self.declared is None:
            pairs.append((b"content-length", b"%d" % length))
        return pairs


@lru_cache(maxsize=128)
def made_head(status: int, fields: Fields) -> MadeHead:
    """Check the head of a response. Fields of the connection are left out: they have no place in
    HTTP/2 (RFC 9113 section 8.2.2). Raises `ValueError` for what may not stand in a head."""
    if not 200 <= status <= 999:
        raise ValueError(f"a response that cannot be sent: {status} is not a final status")
    pairs = made_fields(fields)
    lengths = {value for name, value in pairs if name == b"content-length"}
    if len(lengths) > 1 or not all(value.isdigit() for value in lengths):
        raise ValueError("a response that cannot be sent: no valid Content-Length")
    declared = int(lengths.pop()) if lengths else None
    options = [value.lower() for name, value in fields if name.lower() == "connection"]
    closes = any("close" in option.replace(" ", "").split(",") for option in options)
    return MadeHead(((b":status", b"%d" % status), *pairs), declared, closes)


def made_fields(fields: Fields) -> Pairs:
    """Check fields, and return them as they are sent, with names in lower case. Raises `ValueError`
    for what cannot be sent, and `TypeError` for fields that are not pairs of text."""
    pairs = []
    for name, value in checked(fields):
        lower = name.lower()
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"a response that cannot be sent: malformed field {name!r}")
        if lower not in OF_CONNECTIONS:
            pairs.append((lower.encode("latin-1"), value.encode("latin-1")))
    return pairs
