"""How the life of a connection ends: one cancel scope for all of it, and the reason."""

from __future__ import annotations

from enum import Enum

import trio


class Ended(Enum):
    """Why an exchange, or its connection, has ended: what decides how it is closed. The value is
    what the access log says. A reason that an application gives is text, and decides nothing."""

    DONE = "done"
    IDLE = "idle"
    DRAINED = "drained"
    CLIENT_LEFT = "client left"
    CLIENT_STOPPED_READING = "client stopped reading"
    CLIENT_VANISHED = "client vanished"
    HEAD_TOO_SLOW = "head too slow"
    BODY_TOO_SLOW = "body too slow"
    HANDLER_FAILED = "handler failed"
    TORN = "torn by a cancelled send"
    CUT = "cut"


class Lifetime:
    """What a connection lives in. Whoever ends it early says why, and cancels the scope."""

    __slots__ = ("client_left", "reason", "scope")

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.reason: Ended | str | None = Ended.IDLE  # None while a handler runs
        self.client_left = False  # it has at least half-closed

    def begin_handling(self, leave_seconds: float) -> None:
        """The handler takes as long as it likes, unless its client has already half-closed."""
        self.reason = None
        if self.client_left:
            self.cancel(Ended.CLIENT_LEFT, leave_seconds)

    def cancel(self, reason: Ended | str, grace: float = 0) -> None:
        """End it, after `grace` seconds at the latest."""
        self.reason = reason
        if grace:
            self.scope.deadline = min(self.scope.deadline, trio.current_time() + grace)
        else:
            self.scope.cancel()
