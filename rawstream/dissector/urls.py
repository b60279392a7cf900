"""URLs in heads: the path, and the parameters of the query, of which some are secrets."""

from __future__ import annotations

from ..http.access_log import is_secret
from . import terms
from .scanner import KEPT_BYTES, Scanner, Steps

_MARKS = (b"?", b"&")


def url(scanner: Scanner, ends: bytes) -> Steps[str]:
    """Take a URL, or the part of one that a request-target is, up to one of the bytes `ends`.
    Return it with secrets masked."""
    _, path = yield from scanner.until(b"?" + ends, terms.PATH)
    shown = bytearray(path)
    separator = terms.QUESTION_MARK
    while (mark := (yield from scanner.peek())) in _MARKS:
        yield from scanner.exactly(1, separator)
        separator = terms.AMPERSAND
        _, name = yield from scanner.until(b"=&" + ends, terms.PARAMETER_NAME)
        pair = mark + name
        if (yield from scanner.peek()) == b"=":
            yield from scanner.exactly(1, terms.EQUALS)
            hidden = is_secret(name.decode("latin-1"))
            _, value = yield from scanner.until(
                b"&" + ends, terms.PARAMETER_VALUE, is_secret=hidden
            )
            pair += b"=" + (b"***" if hidden else value)
        if len(shown) < KEPT_BYTES:
            shown += pair
    return shown.decode("utf-8", "replace")
