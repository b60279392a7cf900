"""A shortcut for plain requests: HTTP/1.1, no body, nothing unusual in the head.

The lane leaves out the state machine of h11. That is safe for these requests:

- `check_head` has passed the head, so it has one valid Host, a valid target, no folded line, and no
  control characters; and each of its lines is a field with a valid name.
- There is no Content-Length and no Transfer-Encoding, so the request ends with its head. Nobody can
  read its end elsewhere.
- There is no Expect, and Connection asks for nothing but `keep-alive`, `close` or an upgrade.

A head with anything else goes to h11 from its first byte. Its response takes the lane all the same,
except in HTTP/1.0: h11 makes the heads of responses (response_head.py), and the lane counts the
bytes of a body, as h11 would, or sends it in chunks. Tests send the same bytes through the lane and
through h11, and compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NoReturn

from ..http.exchange import BODY, BROKEN, ENDED, SWITCHED, UNANSWERED
from ..http.fields import Fields, Headers
from ..limits import Limits
from .framing import CHUNKED, COUNTED, chunk
from .head import FAMILIAR_BYTES, RequestHead, check_head
from .request_body import RequestBody
from .response_head import made_head, made_switch, made_trailers

_check_again = lru_cache(maxsize=64)(check_head)

REFUSED = RequestHead("", "", "1.1", Headers([]), "", closes=True, is_plain=False)
"""In place of a head that has not come, or was refused."""


def cut_again(head: bytes, limits: Limits) -> RequestHead:
    """`check_head`. What small heads were cut into is kept: on a kept-alive connection most heads
    are identical. Their requests share their `Headers`."""
    return (_check_again if len(head) <= FAMILIAR_BYTES else check_head)(head, limits)


class PlainLane:
    """A `Framing` by hand. Each exchange begins with one, which also answers a head that was
    refused."""

    head = REFUSED  # until there is one
    body: RequestBody | None = None
    expectations: tuple[str, ...] = ()
    progress = UNANSWERED
    body_length = CHUNKED
    another_may_follow = False
    _closes = True
    _left = 0  # bytes that a counted body still lacks

    def response_head(
        self, status: int, fields: Fields, length: int | None, *, close: bool
    ) -> bytes:
        head = self.head
        is_head = head.method == "HEAD"
        made = made_head(status, fields, length is not None, close, is_head, head.closes)
        if made.declared:
            if length is not None and made.declared != str(length):
                raise ValueError(
                    "a response that cannot be sent: conflicting Content-Length headers"
                )
            length = int(made.declared)
        self.progress = BODY
        self.body_length = made.body_length
        counted = made.has_body and made.body_length is COUNTED
        self._left = length if length and counted else 0
        self._closes = made.closes or head.closes
        return made.filled_in(length)

    def pieces(self, parts: Sequence[bytes]) -> Sequence[bytes]:
        if self.body_length is CHUNKED:
            return [chunk(part) for part in parts]
        self._left -= sum(map(len, parts))
        if self.progress is not BODY or self._left < 0:
            self._break("Too much data for declared Content-Length")
        return parts

    def end(self, trailers: Fields = ()) -> bytes:
        if self.progress is not BODY or self._left:
            self._break("Too little data for declared Content-Length")
        last = b""
        if self.body_length is CHUNKED:
            last = made_trailers(trailers) if trailers else b"0\r\n\r\n"
        self.progress = ENDED
        self.another_may_follow = not self._closes
        return last

    def switch(self, fields: Fields) -> bytes:
        head = made_switch(fields)
        self.progress = SWITCHED
        return head

    def _break(self, mistake: str) -> NoReturn:
        self.progress = BROKEN
        raise ValueError(f"a body that does not fit its length: {mistake}")
