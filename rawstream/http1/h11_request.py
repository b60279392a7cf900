"""A request that a state machine of h11 parses: its head, and then its body."""

from __future__ import annotations

from collections.abc import Sequence

import h11

from ..errors import HTTPError
from ..http.authority import target_authority
from ..http.fields import decoded
from ..limits import Limits
from .head import RequestHead
from .request_body import RequestBody


class H11Request:
    """The head, and the machine that parses what follows it."""

    def __init__(self, head: bytes, limits: Limits) -> None:
        """`head` has passed `check_head`. Raises `HTTPError` if h11 refuses it."""
        self.machine = h11.Connection(h11.SERVER, limits.head_bytes)
        self.machine.receive_data(head)
        try:
            event = self.machine.next_event()
            assert type(event) is h11.Request
            body_follows = self.machine.next_event() is h11.NEED_DATA
        except h11.RemoteProtocolError as error:
            raise HTTPError(error.error_status_hint, str(error)) from None
        target = event.target.decode("ascii")
        headers = decoded(event.headers.raw_items())
        self.head = RequestHead(
            event.method.decode("ascii"),
            target,
            event.http_version.decode("ascii"),
            headers,
            target_authority(target) or headers.get("host", ""),
            closes="close" in headers.tokens("connection"),
            is_plain=False,
        )
        self.expectations: Sequence[str] = headers.tokens("expect")
        self.body = None
        if body_follows:
            chunked = "transfer-encoding" in headers
            self.body = RequestBody(self.machine, chunked=chunked)
