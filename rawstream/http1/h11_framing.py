"""The framing of any request, by a state machine of h11."""

from __future__ import annotations

import time
from collections.abc import Sequence

import h11

from ..http.exchange import Progress
from ..http.fields import Fields
from .framing import BodyLength
from .h11_request import H11Request
from .response_head import end_of_body, response_again, switching

_END = h11.EndOfMessage()
_PROGRESS = {
    h11.SEND_RESPONSE: Progress.UNANSWERED,
    h11.SEND_BODY: Progress.BODY,
    h11.DONE: Progress.ENDED,
    h11.MUST_CLOSE: Progress.ENDED,
    h11.SWITCHED_PROTOCOL: Progress.SWITCHED,
    h11.ERROR: Progress.BROKEN,
}


class H11Framing:
    """A `Framing` by h11."""

    body_length = BodyLength.UNTIL_CLOSE

    def __init__(self, request: H11Request) -> None:
        self.head = request.head
        self.expectations = request.expectations
        self.body = request.body
        self._machine = request.machine

    @property
    def progress(self) -> Progress:
        return _PROGRESS[self._machine.our_state]

    @property
    def another_may_follow(self) -> bool:
        machine = self._machine
        return machine.our_state is h11.DONE and machine.their_state is h11.DONE

    def response_head(
        self, status: int, fields: Fields, length: int | None, *, close: bool
    ) -> bytes:
        event = response_again(status, fields, length, close=close, second=int(time.time()))
        head = self._machine.send(event) or b""
        if b"\r\nTransfer-Encoding: chunked\r\n" in head:
            self.body_length = BodyLength.CHUNKED
        elif b"\r\ncontent-length:" in head.lower() or status in (204, 304):
            self.body_length = BodyLength.COUNTED
        return head

    def pieces(self, parts: Sequence[bytes]) -> Sequence[bytes]:
        return [framed for part in parts for framed in self._sent(h11.Data(data=part))]

    def end(self, trailers: Fields = ()) -> bytes:
        return b"".join(self._sent(end_of_body(trailers) if trailers else _END))

    def switch(self, fields: Fields) -> bytes:
        return self._machine.send(switching(fields)) or b""

    def _sent(self, event: h11.Event) -> list[bytes]:
        try:
            return self._machine.send_with_data_passthrough(event) or []
        except h11.LocalProtocolError as error:
            raise ValueError(f"a body that does not fit its length: {error}") from None
