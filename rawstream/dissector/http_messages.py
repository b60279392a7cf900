r"""HTTP/1.1: messages, one behind the other, in each direction (RFC 9112).

    GET /count HTTP/1.1\r\n              request-line
    Host: example.com\r\n                field-lines
    \r\n                                 the head ends

    HTTP/1.1 200 OK\r\n                  status-line
    Transfer-Encoding: chunked\r\n
    \r\n
    5\r\nhello\r\n                       a chunk
    0\r\n\r\n                            the last chunk

A response belongs to the oldest request without one.
"""

from __future__ import annotations

import re

from ..limits import KIB
from . import terms
from .content import Ends, content, length_of, scanner_of
from .conversation import Asked, Conversation, Road
from .frames import frames
from .head_fields import TOKEN, HeadFields, field_lines
from .http2.frames import PREFACE, begins_with_settings
from .http2.frames import frames as http2_frames
from .messages import Deflate
from .scanner import CR, LF, Nonsense, Scanner, Steps
from .spans import Direction, Span
from .urls import url

HELD_BYTES = 64 * KIB
"""The most that waits until a request for another protocol is answered."""

MOST_UNANSWERED = 10_000
"""Of requests beyond this number it is not remembered which response is theirs."""

_VERSION = re.compile(rb"HTTP/1\.\d")
_STATUS_CODE = re.compile(rb"[1-5]\d\d")


def requests(conversation: Conversation, scanner: Scanner) -> Steps[None]:
    """Take the client's direction: requests, and what follows an upgrade."""
    try:
        if (yield from scanner.begins_with(PREFACE)):
            yield from http2_frames(conversation.switch_to_http2(), Direction.TO_SERVER, scanner)
        while first := (yield from scanner.peek()):
            if first in (CR, LF):
                yield from scanner.line_end(terms.EMPTY_LINE)
                continue
            with scanner.within(terms.REQUEST) as request:
                asked = yield from _request(scanner, conversation, request)
            while asked.next is None and not scanner.gives_up(HELD_BYTES):
                yield
            if asked.next is Road.WEBSOCKET:
                yield from frames(scanner, conversation.deflate, Direction.TO_SERVER)
            elif asked.next is Road.TUNNEL:
                yield from scanner.rest(terms.TUNNEL)
            elif asked.next is None:
                yield from scanner.rest(terms.UNANSWERED)
    except Nonsense as nonsense:
        yield from scanner.rest(terms.NOT_UNDERSTOOD, mistake=str(nonsense))


def responses(conversation: Conversation, scanner: Scanner) -> Steps[None]:
    """Take the server's direction: responses, and what follows a switch of protocols."""
    try:
        if (yield from _speaks_http2(conversation, scanner)):
            yield from http2_frames(conversation.switch_to_http2(), Direction.TO_CLIENT, scanner)
        while (yield from scanner.peek()):
            with scanner.within(terms.RESPONSE) as response:
                road = yield from _response(scanner, conversation, response)
            if road is Road.WEBSOCKET:
                yield from frames(scanner, conversation.deflate, Direction.TO_CLIENT)
            elif road is Road.TUNNEL:
                yield from scanner.rest(terms.TUNNEL)
    except Nonsense as nonsense:
        yield from scanner.rest(terms.NOT_UNDERSTOOD, mistake=str(nonsense))


# -- Requests


def _request(scanner: Scanner, conversation: Conversation, request: Span) -> Steps[Asked]:
    with scanner.within(terms.REQUEST_LINE) as line:
        first = yield from scanner.peek()
        if not TOKEN.fullmatch(first):
            raise Nonsense("a request begins with its method")
        _, method = yield from scanner.until(b" \t\r\n", terms.METHOD)
        if not TOKEN.fullmatch(method):
            raise Nonsense("the method before it is no token")
        yield from _space(scanner)
        with scanner.within(terms.TARGET) as span:
            target = span.value = yield from url(scanner, b" \r\n")
        yield from _space(scanner)
        yield from _version(scanner)
        request.value = line.value = f"{method.decode()} {target}"
        yield from scanner.crlf(terms.CRLF)
    fields = yield from field_lines(scanner, terms.HEAD_END)
    asked = Asked(method, key=fields[b"sec-websocket-key"])
    upgrades = b"upgrade" in fields.tokens(b"connection") and fields[b"upgrade"]
    if not upgrades and method != b"CONNECT":
        asked.next = Road.HTTP
    if len(conversation.unanswered) < MOST_UNANSWERED:
        conversation.unanswered.append(asked)
    length = length_of(fields, otherwise=0)
    yield from content(scanner, length, scanner_of(fields, scanner.spans), _trailers)
    return asked


# -- Responses


def _speaks_http2(conversation: Conversation, scanner: Scanner) -> Steps[bool]:
    """Whether the server answers in frames: to a client's preface by anything but a status-line, as
    a server of HTTP/1.1 answers it; or with SETTINGS before that preface has come."""
    if (yield from begins_with_settings(scanner)):
        return True
    return conversation.http2 is not None and not (yield from scanner.begins_with(b"HTTP/"))


def _response(scanner: Scanner, conversation: Conversation, response: Span) -> Steps[Road]:
    with scanner.within(terms.STATUS_LINE) as line:
        yield from _version(scanner)
        yield from _space(scanner)
        _, status = yield from scanner.until(b" \r\n", terms.STATUS_CODE)
        if not _STATUS_CODE.fullmatch(status):
            raise Nonsense("the status code before it has not three digits")
        reason = b""
        if (yield from scanner.peek()) == b" ":
            yield from _space(scanner)
            _, reason = yield from scanner.until(b"\r\n", terms.REASON)
        line.value = f"{status.decode()} {reason.decode('latin-1')}".strip()
        response.value = line.value
        if not conversation.unanswered:
            line.detail = "no request is waiting for this response"
        yield from scanner.crlf(terms.CRLF)
    asked = conversation.unanswered[0] if conversation.unanswered else None
    fields = yield from field_lines(scanner, terms.HEAD_END, key=asked.key if asked else b"")
    if status.startswith(b"1") and status != b"101":
        response.detail = "an interim response; the final one follows"
        return Road.HTTP
    if asked is not None:
        conversation.unanswered.popleft()
    road = _road(status, asked, fields)
    if road is Road.WEBSOCKET:
        conversation.deflate = Deflate.accepted_in(fields)
    if asked is not None:
        asked.next = road
    is_empty = status in (b"101", b"204", b"304") or (asked is not None and asked.method == b"HEAD")
    if road is Road.HTTP and not is_empty:
        length = length_of(fields, otherwise=Ends.AT_CLOSE)
        yield from content(scanner, length, scanner_of(fields, scanner.spans), _trailers)
    return road


def _road(status: bytes, asked: Asked | None, fields: HeadFields) -> Road:
    """What follows this response."""
    if status == b"101":
        return Road.WEBSOCKET if b"websocket" in fields.tokens(b"upgrade") else Road.TUNNEL
    if asked is not None and asked.method == b"CONNECT" and status.startswith(b"2"):
        return Road.TUNNEL
    return Road.HTTP


# -- Both


def _version(scanner: Scanner) -> Steps[None]:
    _, version = yield from scanner.until(b" \r\n", terms.VERSION)
    if not _VERSION.fullmatch(version):
        raise Nonsense("before this should be HTTP/1.1")


def _space(scanner: Scanner) -> Steps[None]:
    if (yield from scanner.peek()) != b" ":
        raise Nonsense("here should be a space")
    yield from scanner.exactly(1, terms.SPACE)


def _trailers(scanner: Scanner) -> Steps[None]:
    """Take what follows the last chunk: fields, mostly none, and an empty line."""
    if (yield from scanner.peek()) in (CR, LF):
        yield from scanner.crlf(terms.TRAILERS_END)
    else:
        with scanner.within(terms.TRAILERS):
            yield from field_lines(scanner, terms.TRAILERS_END)
