"""The heads and trailers of responses. h11 makes and validates all of them.

A server sends the same few heads again and again. For the `PlainLane` h11 therefore makes each of
them once. What it made is kept without the two values that differ from one response to the next,
Date and Content-Length.
"""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import NamedTuple

import h11

from ..errors import reason_phrase
from ..http.date import http_date
from ..http.fields import Fields, checked, decoded, encoded
from .framing import CHUNKED, COUNTED, UNTIL_CLOSE, BodyLength

_REQUESTS = {
    (False, False): b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    (False, True): b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    (True, False): b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    (True, True): b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
}
"""The shortest requests: whether they are HEAD, and whether they close the connection."""

_ACCEPT = "Sec-WebSocket-Accept"
_BASE64 = re.compile("[A-Za-z0-9+/]+=*")


def response(
    status: int, fields: Fields, length: int | None, *, close: bool, second: int
) -> h11.Response:
    """The head of a response in this `second`. Raises `ValueError` for what may not stand in one,
    such as a line break in a value, and `TypeError` for fields that are not pairs of text."""
    pairs = [(b"Date", http_date(second)), *encoded(checked(fields))]
    if length is not None:
        pairs.append((b"Content-Length", b"%d" % length))
    if close:
        pairs.append((b"Connection", b"close"))
    reason = reason_phrase(status).encode()
    try:
        return h11.Response(status_code=status, headers=pairs, reason=reason)
    except h11.LocalProtocolError as error:
        raise ValueError(f"a response that cannot be sent: {error}") from None


response_again = lru_cache(maxsize=128)(response)
"""`response` for heads that repeat within a second: validating the fields costs a tenth of what a
small response does."""


def switching(fields: Fields) -> h11.InformationalResponse:
    """The 101 that accepts another protocol. Raises as `response`."""
    pairs = encoded(checked(fields))
    reason = b"Switching Protocols"
    try:
        return h11.InformationalResponse(status_code=101, headers=pairs, reason=reason)
    except h11.LocalProtocolError as error:
        raise ValueError(f"a response that cannot be sent: {error}") from None


def end_of_body(trailers: Fields) -> h11.EndOfMessage:
    """The end of a body. Raises as `response`."""
    pairs = encoded(checked(trailers))
    try:
        return h11.EndOfMessage(headers=pairs)
    except h11.LocalProtocolError as error:
        raise ValueError(f"trailers that cannot be sent: {error}") from None


# -- For the plain lane ---------------------------------------------------------------------------


class MadeHead(NamedTuple):
    """A head that h11 has made, without the values of Date and Content-Length."""

    to_date: bytes
    to_length: bytes
    behind: bytes
    """Empty if there is no Content-Length for the server to fill in."""
    body_length: BodyLength
    declared: str
    """The Content-Length that the handler has declared itself, or ""."""
    has_body: bool
    """False for the responses that never have one."""
    closes: bool
    """Whether the response closes the connection."""

    def filled_in(self, length: int | None) -> bytes:
        """The head as it is sent now, for a body of `length` bytes."""
        date = http_date(int(time.time()))
        if length is None or not self.behind:
            return b"%b%b%b" % (self.to_date, date, self.to_length)
        return b"%b%b%b%d%b" % (self.to_date, date, self.to_length, length, self.behind)


@lru_cache(maxsize=128)
def made_head(
    status: int, fields: Fields, sized: bool, close: bool, to_head: bool, to_close: bool
) -> MadeHead:
    """Have h11 make the head of a response: to HEAD or another method, and to a request that closes
    the connection or not. If it is `sized`, it has a Content-Length, which is the handler's own if
    that has declared one. Raises as `response`."""
    own = any(name.lower() == "content-length" for name, _ in checked(fields))
    length = 0 if sized and not own else None
    event = response(status, fields, length, close=close, second=0)
    head = _machine_after(_REQUESTS[to_head, to_close]).send(event) or b""
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]
    made = decoded((name, value) for name, _, value in (line.partition(b": ") for line in lines))
    has_body = not to_head and status not in (204, 304)
    body_length = UNTIL_CLOSE
    if not has_body or "content-length" in made:
        body_length = COUNTED
    elif "transfer-encoding" in made:
        body_length = CHUNKED
    to_date, to_length = _cut_out(head, b"Date", http_date(0))
    behind = b""
    if length is not None and "content-length" in made:
        to_length, behind = _cut_out(to_length, b"Content-Length", b"0")
    declared = made.get("content-length", "") if own else ""
    closes = "close" in made.tokens("connection")
    return MadeHead(to_date, to_length, behind, body_length, declared, has_body, closes)


def made_switch(fields: Fields) -> bytes:
    """Make a 101, which h11 has validated. Raises as `response`."""
    fields = checked(fields)
    accepts = [value for name, value in fields if name == _ACCEPT]
    if len(accepts) != 1 or not _BASE64.fullmatch(accepts[0]):
        return _switch(fields)
    same = [field if field[0] != _ACCEPT else (_ACCEPT, "") for field in fields]
    to_accept, behind = _switch_around_accept(tuple(same))
    return b"%b%b%b" % (to_accept, accepts[0].encode(), behind)


def _switch(fields: Fields) -> bytes:
    """A 101. To have a machine of h11 make it would cost five times as much."""
    lines = [b"%b: %b\r\n" % field for field in switching(fields).headers.raw_items()]
    return b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % b"".join(lines)


@lru_cache(maxsize=128)
def _switch_around_accept(fields: Fields) -> tuple[bytes, bytes]:
    """What stands in a 101 before and behind the value of `Sec-WebSocket-Accept`, the one field
    that differs each time."""
    return _cut_out(_switch(fields), _ACCEPT.encode(), b"")


def made_trailers(trailers: Fields) -> bytes:
    """Have h11 make the last chunk of a body, with trailers. Raises `ValueError`."""
    end = end_of_body(trailers)
    machine = _machine_after(_REQUESTS[False, False])
    machine.send(response(200, (), None, close=False, second=0))
    return machine.send(end) or b""


def _machine_after(request: bytes) -> h11.Connection:
    """A state machine that has received a request without a body."""
    machine = h11.Connection(h11.SERVER)
    machine.receive_data(request)
    machine.next_event()
    machine.next_event()
    return machine


def _cut_out(head: bytes, name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Return what stands before and behind the value of a field."""
    before, _, behind = head.partition(b"\r\n%b: %b\r\n" % (name, value))
    return b"%b\r\n%b: " % (before, name), b"\r\n" + behind
