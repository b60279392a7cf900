"""A shortcut for plain requests: HTTP/1.1, no body, nothing unusual in the head.

The lane leaves out the state machine of h11. That is safe for these requests:

- `check_head` has passed the head, so it has one valid Host, a valid target, no folded line, and no
  control characters. All that is left to check are the names of the fields.
- There is no Content-Length and no Transfer-Encoding, so the request ends with its head. Nobody can
  read its end elsewhere.
- There is no Expect, and Connection asks for nothing but `keep-alive`, `close` or an upgrade.

A head with anything else goes to h11 from its first byte, and h11 still makes and validates the
heads of responses. Tests send the same bytes through the lane and through h11, and compare.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, NoReturn

from ..http.fields import USUAL_NAMES, Fields, Headers
from ..limits import Limits
from .framing import BodyLength, Progress, RequestHead, chunk
from .head import check_head
from .request_body import RequestBody
from .response_head import NO_REQUEST, made_head, made_switch, made_trailers

FAMILIAR_BYTES = 2048
"""Heads up to this size are kept, with what they were cut into: on a kept-alive connection most are
identical. Requests with identical heads share their `Headers`."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_NOT_PLAIN = {"content-length", "transfer-encoding", "expect"}
_CONNECTION = {"keep-alive", "close", "upgrade"}


class PlainHead(NamedTuple):
    """The head of a plain request."""

    head: RequestHead
    like: bytes
    """The shortest request that is answered in the same way."""
    closes: bool


def plain_head(head: bytes, limits: Limits) -> PlainHead | None:
    """Check a head, and cut it into a request; None if h11 has to. `head` ends with the empty line.
    Raises `HTTPError` as `check_head` does."""
    return (_cut_again if len(head) <= FAMILIAR_BYTES else _cut)(head, limits)


def _cut(head: bytes, limits: Limits) -> PlainHead | None:
    check_head(head, limits)
    line, *lines = head[:-4].decode("latin-1").split("\r\n")
    method, target, version = line.split(" ")
    if version != "HTTP/1.1":
        return None
    pairs = []
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        usual = USUAL_NAMES.get(name)
        if not colon or not (usual or _TOKEN.fullmatch(name)) or name in _NOT_PLAIN:
            return None
        pairs.append((usual or name, value.strip(" \t")))
    headers = Headers(pairs)
    options = headers.tokens("connection")
    if not _CONNECTION.issuperset(options):
        return None
    closes = "close" in options
    like = b"%b / HTTP/1.1\r\nHost: a\r\n%b\r\n" % (
        b"HEAD" if method == "HEAD" else b"GET",
        b"Connection: close\r\n" if closes else b"",
    )
    return PlainHead(RequestHead(method, target, headers), like, closes)


_cut_again = lru_cache(maxsize=64)(_cut)

REFUSED = PlainHead(RequestHead("", "", Headers([])), NO_REQUEST, True)
"""In place of a head that has not come, or was refused."""


class PlainLane:
    """A `Framing` by hand."""

    __slots__ = (
        "_closes", "_left", "_plain", "another_may_follow", "body_length", "head", "progress",
    )  # fmt: skip

    body: RequestBody | None = None

    def __init__(self, plain: PlainHead) -> None:
        self.progress = Progress.UNANSWERED
        self.body_length = BodyLength.CHUNKED
        self.another_may_follow = False
        self.head = plain.head
        self._plain = plain
        self._closes = True
        self._left = 0  # bytes that a counted body still lacks

    def response_head(
        self, status: int, fields: Fields, length: int | None, *, close: bool
    ) -> bytes:
        made = made_head(self._plain.like, status, fields, sized=length is not None, close=close)
        if made.declared:
            if length is not None and made.declared != str(length):
                raise ValueError(
                    "a response that cannot be sent: conflicting Content-Length headers"
                )
            length = int(made.declared)
        self.progress = Progress.BODY
        self.body_length = made.body_length
        counted = made.has_body and made.body_length is BodyLength.COUNTED
        self._left = length if length and counted else 0
        self._closes = made.closes or self._plain.closes
        return made.filled_in(length)

    def pieces(self, parts: Sequence[bytes]) -> Sequence[bytes]:
        if self.body_length is BodyLength.CHUNKED:
            return [chunk(part) for part in parts]
        self._left -= sum(map(len, parts))
        if self.progress is not Progress.BODY or self._left < 0:
            self._break("Too much data for declared Content-Length")
        return parts

    def end(self, trailers: Fields = ()) -> bytes:
        if self.progress is not Progress.BODY or self._left:
            self._break("Too little data for declared Content-Length")
        last = b""
        if self.body_length is BodyLength.CHUNKED:
            last = made_trailers(trailers) if trailers else b"0\r\n\r\n"
        self.progress = Progress.ENDED
        self.another_may_follow = not self._closes
        return last

    def switch(self, fields: Fields) -> bytes:
        head = made_switch(fields)
        self.progress = Progress.SWITCHED
        return head

    def _break(self, mistake: str) -> NoReturn:
        self.progress = Progress.BROKEN
        raise ValueError(f"a body that does not fit its length: {mistake}")
