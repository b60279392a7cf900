"""What each direction of a connection must know of the other: which request a response answers, and
what the connection has switched to."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum


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


@dataclass(frozen=True, slots=True)
class Deflate:
    """permessage-deflate, as the response has accepted it (RFC 7692 section 7.1)."""

    client_takeover: bool
    server_takeover: bool
    """Whether the messages of that side share one context."""


@dataclass(slots=True)
class Conversation:
    """Both directions of one connection."""

    unanswered: deque[Asked] = field(default_factory=deque)
    deflate: Deflate | None = None
