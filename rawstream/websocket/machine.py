"""wsproto's state machine of one WebSocket."""

from __future__ import annotations

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.extensions import Extension, PerMessageDeflate

OPEN = ConnectionState.OPEN  # by this name it is found faster


class FrameMachine:
    """The machine, made when it is first needed: as long as all messages are whole frames, the
    lanes of `FrameReader` and `FrameWriter` do without it."""

    __slots__ = ("_deflate", "_made")

    def __init__(self, deflate: PerMessageDeflate | None) -> None:
        self._deflate = deflate
        self._made: Connection | None = None

    @property
    def state(self) -> ConnectionState:
        """What has been closed."""
        return OPEN if self._made is None else self._made.state

    @property
    def wsproto(self) -> Connection:
        """The machine itself."""
        if self._made is None:
            extensions: list[Extension] = [] if self._deflate is None else [self._deflate]
            self._made = Connection(ConnectionType.SERVER, extensions)
        return self._made
