"""One direction under way, and the frame that it is at."""

from __future__ import annotations

from dataclasses import dataclass

from ..scanner import Nonsense, Scanner, Steps
from ..spans import Direction, Span, Term
from . import terms
from .frame_types import FrameType
from .sections import Section
from .state import Http2, Side, Stream


@dataclass(slots=True, eq=False)
class Block:
    """A field block that is under way."""

    number: int
    """Of its stream."""
    section: Section
    scanner: Scanner | None
    """None without hpack: then its bytes cannot be taken apart."""
    stream: Stream | None = None
    """The one that it opens or continues, if that is followed."""
    message: Span | None = None
    ends_stream: bool = False
    promised: Stream | None = None
    """The one that PUSH_PROMISE announces."""


@dataclass(slots=True, eq=False)
class Frame:
    """A frame whose head has been taken."""

    kind: FrameType | None
    size: int
    """Of the payload."""
    flags: int
    stream: int
    head: Span
    end: int
    """The offset behind its last byte."""

    def kind_is(self, *names: str) -> bool:
        """Whether its type is one of these."""
        return self.kind is not None and self.kind.name in names

    def tell(self, detail: str) -> None:
        """Add to what is said of it."""
        self.head.detail = "; ".join(filter(None, (self.head.detail, detail)))

    def blame(self, mistake: str) -> None:
        """Add to what is wrong with it."""
        self.head.mistake = "; ".join(filter(None, (self.head.mistake, mistake)))


@dataclass(slots=True, eq=False)
class Reading:
    """The frames of one direction."""

    scanner: Scanner
    http2: Http2
    direction: Direction
    block: Block | None = None
    """The field block that CONTINUATION has to go on with."""

    @property
    def side(self) -> Side:
        """The sender."""
        return self.http2.sides[self.direction]

    def left(self, frame: Frame) -> int:
        """How many bytes of the payload have not been taken."""
        return frame.end - self.scanner.offset

    def part(self, frame: Frame, size: int, term: Term) -> Steps[tuple[Span, bytes]]:
        """Take so many bytes of the payload. Raises `Nonsense` if it is shorter."""
        if size > self.left(frame):
            raise Nonsense(f"the payload ends before its {term.name}")
        return (yield from self.scanner.exactly(size, term))

    def pad_length(self, frame: Frame, flag: int) -> Steps[int]:
        """Take the length of the padding, if the frame has one. Raises `Nonsense`."""
        if not frame.flags & flag:
            return 0
        span, [size] = yield from self.part(frame, 1, terms.PAD_LENGTH)
        span.value = str(size)
        if size > self.left(frame):
            raise Nonsense("the padding is longer than the payload")
        return size

    def padding(self, size: int) -> Steps[None]:
        """Take the padding."""
        if size:
            span, data = yield from self.scanner.exactly(size, terms.PADDING)
            span.value = ""
            if any(data):
                span.mistake = "padding consists of zeros"
