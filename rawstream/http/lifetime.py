"""How a connection of HTTP/1.x ends, or an exchange of HTTP/2: one cancel scope for its whole life,
and the reason."""

from __future__ import annotations

from enum import Enum
from math import inf

import trio


class Ended(Enum):
    """Why an exchange or its connection has ended, which decides how it is closed. The value is
    the text in the access log. A reason given by an application is a `str`, and decides nothing."""

    DONE = "done"
    IDLE = "idle"
    DRAINED = "drained"
    CLIENT_LEFT = "client left"
    CLIENT_STOPPED_READING = "client stopped reading"
    CLIENT_VANISHED = "client vanished"
    HEAD_TOO_SLOW = "head too slow"
    BODY_TOO_SLOW = "body too slow"
    PROTOCOL_ERROR = "protocol error"
    HANDLER_FAILED = "handler failed"
    TORN = "torn by a cancelled send"
    CUT = "cut"
    SWITCHED = "the connection goes on in HTTP/2"


DONE, DRAINED = Ended.DONE, Ended.DRAINED  # by these names they are found faster


class Lifetime:
    """Such a life. To end it early, `cancel` sets the reason and cancels the scope."""

    __slots__ = ("client_left", "reason", "scope")

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.reason: Ended | str | None = Ended.IDLE  # None while a handler runs
        self.client_left = False  # it has closed or half-closed

    def begin_handling(self, leave_seconds: float) -> None:
        """Let the handler run without a deadline, unless its client has already half-closed."""
        if self.reason is DRAINED:
            self.scope.deadline = inf  # the request has come in time
        self.reason = None
        if self.client_left:
            self.cancel(Ended.CLIENT_LEFT, leave_seconds)

    def cancel(self, reason: Ended | str, grace: float = 0) -> None:
        """End it, within `grace` seconds."""
        self.reason = reason
        if grace:
            self.scope.deadline = min(self.scope.deadline, trio.current_time() + grace)
        else:
            self.scope.cancel()
