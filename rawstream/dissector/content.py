"""The content of a message: where it ends, and which layer its bytes belong to (RFC 9112 section
6)."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum

from . import terms
from .event_stream import event_stream
from .head_fields import HeadFields
from .json_lines import json_lines
from .scanner import CR, LF, Nonsense, Scanner, Spans, Steps, counted


class Ends(Enum):
    """Where content without a known length ends."""

    AT_LAST_CHUNK = "at the chunk of size 0"
    AT_CLOSE = "when the connection closes"


_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")


def length_of(fields: HeadFields, *, otherwise: int | Ends) -> int | Ends:
    """Return the length of the content in bytes, or where it ends. Raises `Nonsense`."""
    if codings := fields.tokens(b"transfer-encoding"):
        return Ends.AT_LAST_CHUNK if codings[-1] == b"chunked" else Ends.AT_CLOSE
    lengths = set(fields.tokens(b"content-length"))
    if not lengths:
        return otherwise
    length = lengths.pop()
    if lengths or not length.isdigit() or len(length) > 18:
        raise Nonsense("Content-Length is one number")
    return int(length)


def scanner_of(fields: HeadFields, spans: Spans) -> Scanner | None:
    """Return a scanner for the layer that the content belongs to; None if it is not one of those
    that are told apart, or is compressed."""
    kind = fields[b"content-type"].partition(b";")[0].strip().lower()
    if fields[b"content-encoding"] not in (b"", b"identity"):
        return None
    if kind == b"text/event-stream":
        return Scanner(event_stream, spans)
    if kind in (b"application/x-ndjson", b"application/ndjson", b"application/jsonl"):
        return Scanner(json_lines, spans)
    return None


def content(
    scanner: Scanner,
    length: int | Ends,
    above: Scanner | None,
    trailers: Callable[[Scanner], Steps[None]],
) -> Steps[None]:
    """Take the content of a message. `above` gets its bytes."""
    if length is Ends.AT_LAST_CHUNK:
        with scanner.within(terms.CHUNKED) as span:
            while (yield from _chunk(scanner, above, trailers)):
                pass
    else:
        size = length if isinstance(length, int) else None
        span = yield from scanner.carry(size, terms.CONTENT, above)
        if size is None:
            span.detail = "it has no length: it ends when the connection closes"
    if above is not None:
        scanner.add(above.end())


def _chunk(
    scanner: Scanner, above: Scanner | None, trailers: Callable[[Scanner], Steps[None]]
) -> Steps[bool]:
    """Take a chunk. Return False if it was the last."""
    with scanner.within(terms.CHUNK) as chunk:
        span, digits = yield from scanner.until(b"; \t\r\n", terms.CHUNK_SIZE)
        if not _CHUNK_SIZE.fullmatch(digits):
            raise Nonsense("here should be the size of a chunk, in hexadecimal")
        size = int(digits, 16)
        span.value = digits.decode() if size < 10 else f"{digits.decode()}, that is {size:,}"
        chunk.value = counted(size, "byte")
        if (yield from scanner.peek()) not in (CR, LF):
            yield from scanner.until(b"\r\n", terms.CHUNK_EXTENSION)
        yield from scanner.crlf(terms.CRLF)
        if size:
            yield from scanner.carry(size, terms.CHUNK_DATA, above)
            yield from scanner.crlf(terms.CRLF)
            return True
        chunk.term = terms.LAST_CHUNK
        chunk.value = ""
        yield from trailers(scanner)
        return False
