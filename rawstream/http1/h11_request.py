"""A request that a state machine of h11 parses: its head, and then its body."""

from __future__ import annotations

import h11

from ..errors import HTTPError
from ..http.fields import decoded
from ..limits import Limits
from .head import RequestHead
from .request_body import RequestBody


class H11Request:
    """The head, and the machine that parses what follows it."""

    def __init__(self, head: bytes, checked: RequestHead, limits: Limits) -> None:
        """`checked` is what `check_head` returned. Raises `HTTPError` if h11 refuses the head."""
        self.machine = h11.Connection(h11.SERVER, limits.head_bytes)
        self.machine.receive_data(head)
        try:
            event = self.machine.next_event()
            assert type(event) is h11.Request
            body_follows = self.machine.next_event() is h11.NEED_DATA
        except h11.RemoteProtocolError as error:
            raise HTTPError(error.error_status_hint, str(error)) from None
        headers = decoded(event.headers.raw_items())
        self.head = RequestHead(
            event.method.decode("ascii"),
            event.target.decode("ascii"),
            event.http_version.decode("ascii"),
            headers,
            checked.authority,
            checked.closes,
            is_plain=False,
        )
        self.expectations = headers.tokens("expect")
        self.body = None
        if body_follows:
            chunked = "transfer-encoding" in headers
            self.body = RequestBody(self.machine, chunked=chunked)
