"""What the two directions of a connection must know of each other: settings, windows, streams.

A setting binds the other side from its acknowledgement on, since that is when it has read it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ..head_fields import HeadFields
from ..messages import Deflate
from ..scanner import Scanner
from ..spans import Direction, Span
from .frame_types import HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE
from .table import DEFAULT_BYTES, Table

MOST_STREAMS = 256
"""Of so many open streams it is remembered what they carry. Servers mostly allow 100 to 128."""
MOST_WAITING = 64
"""So many SETTINGS frames wait for their acknowledgement; then the oldest counts without it."""
FIRST_WINDOW = 65_535
"""A window at the beginning, in bytes (RFC 9113 section 6.9.2)."""


@dataclass(slots=True, eq=False)
class Side:
    """One side as a sender: what it has opened, and what the other side allows it."""

    table: Table = field(default_factory=Table)
    settings: dict[int, int] = field(
        default_factory=lambda: {
            HEADER_TABLE_SIZE: DEFAULT_BYTES,
            INITIAL_WINDOW_SIZE: FIRST_WINDOW,
            MAX_FRAME_SIZE: 2**14,
        }
    )
    """Those of the other side that matter here, as far as they are in force."""
    waiting: deque[dict[int, int]] = field(default_factory=deque)
    """Settings of the other side that this one has not acknowledged."""
    window: int = FIRST_WINDOW
    """So many bytes of content it may still send on the connection."""
    highest: int = 0
    """The highest number of a stream that it has opened."""
    has_begun: bool = False
    """Whether it has sent a frame."""


@dataclass(slots=True, eq=False)
class Half:
    """One direction of a stream."""

    window: int
    """So many bytes of content may still be sent on it."""
    message: Span | None = None
    """The request or response that is under way."""
    fields: HeadFields = field(default_factory=HeadFields)
    """Of its head."""
    content: Scanner | None = None
    """Takes its content, from the first byte on."""
    size: int = 0
    """The length of the content so far."""
    has_ended: bool = False


@dataclass(slots=True, eq=False)
class Stream:
    """An open stream."""

    number: int
    halves: dict[Direction, Half]
    method: bytes = b""
    protocol: bytes = b""
    """What CONNECT asks for (RFC 8441)."""
    status: str = ""
    """Of the final response, once it has come."""
    deflate: Deflate | None = None


class Http2:
    """Both directions of one connection."""

    def __init__(self) -> None:
        self.sides = {direction: Side() for direction in Direction}
        self.streams: dict[int, Stream] = {}

    def opener(self, number: int) -> Side:
        """The side that opens streams with such numbers: clients the odd ones."""
        return self.sides[Direction.TO_SERVER if number % 2 else Direction.TO_CLIENT]

    def is_idle(self, number: int) -> bool:
        """Whether a stream has not been opened."""
        return number > self.opener(number).highest

    def open(self, number: int) -> Stream | None:
        """Open a stream. Return None if there are too many to remember it."""
        side = self.opener(number)
        side.highest = max(side.highest, number)
        if len(self.streams) >= MOST_STREAMS:
            return None
        halves = {
            direction: Half(side.settings[INITIAL_WINDOW_SIZE])
            for direction, side in self.sides.items()
        }
        stream = self.streams[number] = Stream(number, halves)
        return stream
