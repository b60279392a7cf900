"""What each direction of a connection must know of the other: which request a response answers, and
what the connection has switched to."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from .http2.state import Http2
from .messages import Deflate


class Road(Enum):
    """What follows a message."""

    HTTP = "another message"
    WEBSOCKET = "WebSocket frames"
    TUNNEL = "another protocol"


@dataclass(slots=True, eq=False)
class Asked:
    """Of a request, what later bytes depend on."""

    method: bytes
    key: bytes = b""
    """Sec-WebSocket-Key."""
    next: Road | None = None
    """What follows the request in its own direction. None until the answer decides."""


@dataclass(slots=True)
class Conversation:
    """Both directions of one connection."""

    unanswered: deque[Asked] = field(default_factory=deque)
    deflate: Deflate | None = None
    http2: Http2 | None = None
    """What its streams are at, if it speaks HTTP/2."""

    def switch_to_http2(self) -> Http2:
        """Note that it speaks HTTP/2."""
        self.http2 = self.http2 or Http2()
        return self.http2
