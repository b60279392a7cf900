r"""Server-Sent Events in the content of a response (WHATWG HTML section 9.2).

    : heartbeat\n      a comment
    id: 7\n            an event: lines ...
    data: hello\n
    \n                 ... and the blank line that dispatches it

An event without data lines is not dispatched.
"""

from __future__ import annotations

import codecs

from . import terms
from .scanner import CR, KEPT_BYTES, LF, Scanner, Steps
from .spans import Span

_ENDS = (CR, LF)


def event_stream(scanner: Scanner) -> Steps[None]:
    """Take an event stream."""
    yield from _byte_order_mark(scanner)
    while first := (yield from scanner.peek()):
        if first == b":":
            yield from _comment(scanner)
        elif first in _ENDS:
            yield from scanner.line_end(terms.DISPATCH)  # nothing is waiting
        else:
            with scanner.within(terms.EVENT) as event:
                yield from _event(scanner, event)


def _byte_order_mark(scanner: Scanner) -> Steps[None]:
    mark = codecs.BOM_UTF8
    for place in range(len(mark)):
        if (yield from scanner.peek()) != mark[place : place + 1]:
            if place:  # a field whose name begins in the same way: there is none
                yield from scanner.until(b"\r\n", terms.UNKNOWN_FIELD)
            return
        yield from scanner.exactly(1, terms.BYTE_ORDER_MARK)


def _event(scanner: Scanner, event: Span) -> Steps[None]:
    data: list[str] = []
    size = 0
    kind, others = "", dict[str, str]()
    while (first := (yield from scanner.peek())) not in _ENDS:
        if first == b":":
            yield from _comment(scanner)
            continue
        name, value = yield from _line(scanner)
        if name == b"data":
            if size < KEPT_BYTES:
                data.append(value)
                size += len(value) + 1
        elif name == b"event":
            kind = value
        elif name in terms.EVENT_FIELDS:
            others[name.decode()] = value
    event.value = "\n".join(data)
    facts = [f"type {kind or 'message'}", *(f"{name} {value}" for name, value in others.items())]
    if not data:
        facts.append("without data nothing is dispatched")
    event.detail = ", ".join(facts)
    yield from scanner.line_end(terms.DISPATCH)


def _line(scanner: Scanner) -> Steps[tuple[bytes, str]]:
    """Take one field. Return its name and value."""
    value = ""
    with scanner.within(terms.EVENT_LINE) as line:
        span, name = yield from scanner.until(b":\r\n", terms.UNKNOWN_FIELD)
        span.term = terms.EVENT_FIELDS.get(name, terms.UNKNOWN_FIELD)
        if (yield from scanner.peek()) == b":":
            yield from scanner.exactly(1, terms.EVENT_COLON)
            if (yield from scanner.peek()) == b" ":
                yield from scanner.exactly(1, terms.EVENT_SPACE)
            _, data = yield from scanner.until(b"\r\n", terms.EVENT_VALUE)
            value = data.decode("utf-8", "replace")
        line.value = f"{name.decode('utf-8', 'replace')}: {value}"
        yield from scanner.line_end(terms.EVENT_LINE_END)
    return name, value


def _comment(scanner: Scanner) -> Steps[None]:
    with scanner.within(terms.COMMENT) as comment:
        yield from scanner.exactly(1, terms.COMMENT_MARK)
        _, text = yield from scanner.until(b"\r\n", terms.COMMENT_TEXT)
        comment.value = text.decode("utf-8", "replace").strip()
        yield from scanner.line_end(terms.EVENT_LINE_END)
