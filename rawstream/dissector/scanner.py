"""How a layer is taken apart: straight-line code that pauses where the bytes end.

A parser is a generator function. Where it needs a byte that has not arrived, it yields; `feed`
continues it at the same place, so no parser keeps a state of its own:

    with scanner.within(CHUNK):
        size, digits = yield from scanner.until(b";\\r\\n", CHUNK_SIZE)
        yield from scanner.line_end(LINE_END)

Every byte that is taken becomes part of a tile at once, and no byte is looked at twice: the time is
linear however the bytes are cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TypeAlias, TypeVar

from ..limits import KIB
from .spans import Span, Term, Tile

T = TypeVar("T")

Steps: TypeAlias = Generator[None, None, T]
"""A parser, or a part of one, and what it returns at its end."""

KEPT_BYTES = 64 * KIB
"""Of one element at most this much is kept for its value, however long it is."""

CR, LF = b"\r", b"\n"


class InputEnded(Exception):
    """The bytes have ended inside an element."""


class Nonsense(Exception):
    """The next bytes are not what should follow; the text says what should."""

    is_noted = False
    """Whether the span around the bytes tells of it."""


class Spans:
    """Makes the spans of one connection: numbers them, and collects those that are complete."""

    def __init__(self) -> None:
        self._count = 0
        self._completed: list[Span] = []

    def open(self, term: Term, start: int, parent: Span | None = None) -> Span:
        """Begin a span at this offset."""
        self._count += 1
        return Span(self._count, term, parent, start, start)

    def close(self, span: Span, *, even_empty: bool = False) -> None:
        """End a span. One without bytes is reported only if it means something even so."""
        span.is_open = False
        if even_empty or span.stop > span.start:
            self._completed.append(span)

    def take_completed(self) -> tuple[Span, ...]:
        """Return the spans that have ended since the last call."""
        completed, self._completed = tuple(self._completed), []
        return completed


class Scanner:
    """The bytes of one layer in one direction."""

    def __init__(
        self,
        parser: Callable[[Scanner], Steps[None]],
        spans: Spans,
        *,
        around: Span | None = None,
    ) -> None:
        """`parser` takes all bytes until the input ends. All of them lie in the span `around`,
        which somebody else opens and closes."""
        self.spans = spans
        self.has_ended = False
        self._is_over = False
        self._after_cr: Span | None = None  # a line end, to which an LF may still belong
        self._data = b""
        self._place = 0  # in _data
        self._base = 0  # the offset of _data[0] in the direction
        self._tiles: list[Tile] = []
        # The open spans around the next byte, the innermost last.
        self._around: list[Span] = [] if around is None else [around]
        self._parsing = parser(self)
        self.go_on()

    # -- Bytes in, tiles out

    def feed(self, data: bytes, offset: int) -> list[Tile]:
        """Take bytes, the first of which is at `offset`. Return what they are. What the parser does
        not take is kept."""
        rest = self._data[self._place :]
        self._data, self._place, self._base = rest + data, 0, offset - len(rest)
        return self.go_on()

    def end(self) -> list[Tile]:
        """Note that there will be no more bytes."""
        self.has_ended = True
        return self.go_on()

    def go_on(self) -> list[Tile]:
        """Let the parser take what it can. Return what that is."""
        with suppress(StopIteration, InputEnded):
            next(self._parsing)
        tiles, self._tiles = self._tiles, []
        return tiles

    def give_up(self) -> list[Tile]:
        """Note that the other direction has ended, too. Nothing will be decided any more."""
        self._is_over = True
        return self.go_on()

    # -- For parsers

    def gives_up(self, most: int) -> bool:
        """Return whether a decision that bytes wait for will not come, or too late."""
        return self._is_over or self.left > most

    def add(self, tiles: list[Tile]) -> None:
        """Add tiles of the layer above."""
        self._tiles += tiles

    @property
    def left(self) -> int:
        """How many bytes have arrived and not been taken."""
        return len(self._data) - self._place

    @property
    def offset(self) -> int:
        """The offset of the next byte in its direction."""
        return self._base + self._place

    @contextmanager
    def within(self, term: Term) -> Iterator[Span]:
        """Put a span around everything that is taken in this block."""
        span = self.spans.open(term, self.offset, self._around[-1] if self._around else None)
        self._around.append(span)
        try:
            yield span
        except InputEnded:
            span.detail = "cut off: the bytes end here"
            raise
        except Nonsense as nonsense:
            if not nonsense.is_noted:
                span.mistake, nonsense.is_noted = str(nonsense), True
            raise
        finally:
            self._around.remove(span)
            self.spans.close(span)

    def peek(self) -> Steps[bytes]:
        """Return the next byte, or b"" if the input has ended."""
        while not self.left and not self.has_ended:
            yield
        if self._after_cr is not None:
            line_end, self._after_cr = self._after_cr, None
            if self._data.startswith(LF, self._place):
                self._take(line_end, 1, bytearray())
                for span in line_end.enclosing():
                    span.stop = self.offset
                return (yield from self.peek())
        return self._data[self._place : self._place + 1]

    def begins_with(self, text: bytes) -> Steps[bool]:
        """Return whether the next bytes are these. Waits until that is known, and takes none."""
        while text.startswith(arrived := self._data[self._place :]) and arrived != text:
            if self.has_ended:
                return False
            yield
        return arrived.startswith(text)

    def ahead(self, size: int) -> Steps[bytes]:
        """Return the next bytes, fewer than `size` if the input ends. Takes none."""
        while self.left < size and not self.has_ended:
            yield
        return self._data[self._place : self._place + size]

    def until(
        self, stops: bytes, term: Term, *, is_secret: bool = False
    ) -> Steps[tuple[Span, bytes]]:
        """Take an element that ends before the first of these bytes."""
        return self._matching(_up_to(stops), term, is_secret)

    def while_in(self, allowed: bytes, term: Term) -> Steps[tuple[Span, bytes]]:
        """Take an element of these bytes only."""
        return self._matching(_only(allowed), term, False)

    def _matching(
        self, pattern: re.Pattern[bytes], term: Term, is_secret: bool
    ) -> Steps[tuple[Span, bytes]]:
        span, kept = self._leaf(term), bytearray()
        span.is_secret = is_secret
        while True:
            found = pattern.match(self._data, self._place)
            self._take(span, found.end() - self._place if found else 0, kept)
            if self.left:
                return self._done(span, kept)
            yield from self._more(span)

    def exactly(
        self,
        size: int,
        term: Term,
        *,
        above: Span | None = None,
        each: Callable[[bytes], object] | None = None,
        mask: Callable[[bytes], bytes] | None = None,
    ) -> Steps[tuple[Span, bytes]]:
        """Take an element of `size` bytes. `above` is the span of a higher layer that they belong
        to; `each` is called with all of them as they arrive; `mask` says what is shown of them."""
        span, kept = self._leaf(term), bytearray()
        while size:
            if not self.left:
                yield from self._more(span)
            taken = self._take(span, min(size, self.left), kept, above, mask=mask)
            if each is not None:
                each(taken)
            size -= len(taken)
        return self._done(span, kept)

    def line_end(self, term: Term) -> Steps[None]:
        """Take CR LF, CR or LF. The line is complete at a CR; an LF behind it may arrive later."""
        span, kept = self._leaf(term), bytearray()
        if not self.left:
            yield from self._more(span)
        self._take(span, 2 if self._data.startswith(CR + LF, self._place) else 1, kept)
        self._done(span, kept)
        if kept == CR:
            self._after_cr = span

    def crlf(self, term: Term) -> Steps[None]:
        """Take CR LF, or LF alone, which is a mistake. Raises `Nonsense` if no line ends here."""
        if (yield from self.peek()) not in (CR, LF):
            raise Nonsense("here should be CR LF")
        span, kept = self._leaf(term), bytearray()
        if self._data.startswith(LF, self._place):
            span.mistake = "a line ends with CR LF; some programs accept LF alone"
            self._take(span, 1, kept)
            self._done(span, kept)
            return
        while self.left < 2:
            if self.has_ended:
                self._take(span, self.left, kept)
                yield from self._more(span)
            yield
        if not self._data.startswith(CR + LF, self._place):
            raise Nonsense("here should be CR LF")
        self._take(span, 2, kept)
        self._done(span, kept)

    def rest(self, term: Term, *, mistake: str = "") -> Steps[None]:
        """Take everything up to the end of the input."""
        yield from self.carry(None, term, None, mistake=mistake)

    def carry(
        self, size: int | None, term: Term, above: Scanner | None, *, mistake: str = ""
    ) -> Steps[Span]:
        """Take `size` bytes, or all up to the end, and pass them to the scanner of the layer
        above."""
        span, kept = self._leaf(term), bytearray()
        span.mistake = mistake
        while size is None or size:
            if not self.left:
                if size is None and self.has_ended:
                    break
                yield from self._more(span)
                continue
            at = self.offset
            number = self.left if size is None else min(size, self.left)
            taken = self._take(span, number, kept, is_tiled=above is None)
            if above is not None:
                self._tiles += (
                    Tile(tile.start, tile.data, (span, *tile.spans))
                    for tile in above.feed(taken, at)
                )
            size = None if size is None else size - number
        self._done(span, kept)
        return span

    # -- One element

    def _leaf(self, term: Term) -> Span:
        return self.spans.open(term, self.offset, self._around[-1] if self._around else None)

    def _take(
        self,
        span: Span,
        number: int,
        kept: bytearray,
        above: Span | None = None,
        *,
        is_tiled: bool = True,
        mask: Callable[[bytes], bytes] | None = None,
    ) -> bytes:
        """Take this many bytes for `span`."""
        if not number:
            return b""
        at = self.offset
        data = self._data[self._place : self._place + number]
        self._place += number
        for around in (*self._around, span):
            around.stop = self.offset
        if is_tiled:
            shown = b"*" * number if span.is_secret else mask(data) if mask else data
            self._tiles.append(Tile(at, shown, (span,) if above is None else (span, above)))
        if above is not None:
            above.stop = self.offset
        if len(kept) < KEPT_BYTES:
            kept += data[: KEPT_BYTES - len(kept)]
        return data

    def _more(self, span: Span) -> Steps[None]:
        """Wait for more bytes of `span`. Raises `InputEnded`."""
        if self.has_ended:
            span.detail = "cut off: the bytes end here"
            self.spans.close(span)
            raise InputEnded
        yield

    def _done(self, span: Span, kept: bytearray) -> tuple[Span, bytes]:
        data = bytes(kept)
        span.value = "***" if span.is_secret else text_of(data)
        self.spans.close(span)
        return span, data


def counted(number: int, noun: str) -> str:
    """Return, for example, "1 byte" or "1,000 bytes"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def text_of(data: bytes) -> str:
    """Return bytes as a person would read them: text, or hexadecimal digits."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.hex(" ")


@lru_cache
def _up_to(stops: bytes) -> re.Pattern[bytes]:
    return re.compile(b"[^%b]+" % re.escape(stops))


@lru_cache
def _only(allowed: bytes) -> re.Pattern[bytes]:
    return re.compile(b"[%b]+" % re.escape(allowed))
