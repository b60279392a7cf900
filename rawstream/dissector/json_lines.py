"""Newline-delimited JSON in the content of a message: one text a line."""

from __future__ import annotations

import json

from . import terms
from .scanner import KEPT_BYTES, LF, Scanner, Steps


def json_lines(scanner: Scanner) -> Steps[None]:
    """Take lines of JSON."""
    while first := (yield from scanner.peek()):
        if first == LF:
            yield from scanner.exactly(1, terms.EMPTY_RECORD)
            continue
        with scanner.within(terms.RECORD) as record:
            span, text = yield from scanner.until(b"\n", terms.JSON_TEXT)
            record.value = span.value
            if len(text) < KEPT_BYTES:
                try:
                    json.loads(text)
                except (ValueError, RecursionError) as error:
                    span.mistake = f"no JSON, or too deep: {error}"
            yield from scanner.exactly(1, terms.RECORD_END)
