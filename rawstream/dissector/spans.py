"""What the dissector says of bytes: spans of several layers over the same bytes.

    read 1 |  read 2                      tcp     every read or write is a span
    chunk size | chunk data | chunk size  http    so is every element of a message
         event  |  line  |  line | event  sse     and of what the body carries

The spans of one layer nest: a line lies in an event. The spans of two layers may cross: one event
may lie in three chunks, and one chunk in two reads. That is why a span does not contain the spans
of the layer above. Instead each `Tile`, a run of bytes that nothing divides further, names its
innermost span of every layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Direction(Enum):
    """Which way bytes go."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


class Layer(Enum):
    """The layers, from the bottom up. The value is the name that filters use."""

    TCP = "tcp"
    HTTP2 = "http2"
    HTTP = "http"
    EVENTS = "sse"
    LINES = "ndjson"
    WEBSOCKET = "websocket"
    MESSAGES = "message"


@dataclass(frozen=True, slots=True)
class Term:
    """An element of a protocol, as its standard calls it."""

    layer: Layer
    name: str
    meaning: str
    """One sentence for a newcomer."""
    section: str = ""
    """Where the standard defines it, as in "RFC 9112 section 7.1"."""


@dataclass(frozen=True, slots=True)
class Bits:
    """Some bits of a byte, from the most significant one on."""

    name: str
    width: int
    value: str
    meaning: str
    is_notable: bool = True
    """Whether they are worth a line of their own in print."""


@dataclass(slots=True, eq=False)
class Span:
    """One element in the bytes. While it `is_open`, more bytes may belong to it."""

    number: int
    """Counts the spans of a connection from 1, in the order of their first bytes."""
    term: Term
    parent: Span | None
    """The span of the same layer that contains it."""
    start: int
    """The offset of its first byte among all bytes of its direction."""
    stop: int
    """The offset behind its last byte so far. Bytes of other spans may lie between."""
    value: str = ""
    """What the bytes mean, decoded and, if long, shortened."""
    detail: str = ""
    """What is to be said of these bytes in particular, beyond the term."""
    mistake: str = ""
    """Why a peer would reject the bytes; "" if there is nothing wrong with them."""
    bits: tuple[Bits, ...] = ()
    is_open: bool = True
    is_secret: bool = False
    """Whether the bytes are to be masked: credentials."""

    @property
    def layer(self) -> Layer:
        return self.term.layer

    @property
    def name(self) -> str:
        return self.term.name

    def enclosing(self) -> Iterator[Span]:
        """Yield the spans of its layer that contain it, the outermost last."""
        span = self.parent
        while span is not None:
            yield span
            span = span.parent


@dataclass(frozen=True, slots=True)
class Tile:
    """A run of bytes with one innermost span. The tiles of a direction cover all of its bytes,
    each byte once and in order."""

    start: int
    data: bytes
    spans: tuple[Span, ...]
    """The innermost span of each layer, from the lowest layer up."""

    @property
    def stop(self) -> int:
        return self.start + len(self.data)

    @property
    def innermost(self) -> Span:
        return self.spans[-1]


@dataclass(frozen=True, slots=True)
class Piece:
    """The bytes of one read or write. No bytes: that direction has ended."""

    time: float
    """Seconds since the recording began."""
    direction: Direction
    data: bytes


@dataclass(frozen=True, slots=True)
class Dissected:
    """What a piece tells."""

    span: Span
    """The piece itself, in the lowest layer."""
    time: float
    direction: Direction
    tiles: tuple[Tile, ...]
    """What became known of its direction, in order: nearly always, the bytes of the piece."""
    late: tuple[Tile, ...]
    """What became known of the other direction: bytes behind a request for another protocol are
    explained when it is answered."""
    completed: tuple[Span, ...]
    """Spans of the layers above that this piece brought to their end."""
