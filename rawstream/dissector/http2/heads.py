"""HEADERS, PUSH_PROMISE and CONTINUATION: heads of messages, in one frame or several."""

from __future__ import annotations

from functools import partial

from ..messages import Deflate
from ..scanner import Scanner, Steps, counted
from ..spans import Direction, Span, Term
from . import terms
from .field_blocks import field_block
from .frame_types import END_HEADERS, END_STREAM, HEADER_TABLE_SIZE, PADDED, PRIORITY
from .reading import Block, Frame, Reading
from .sections import Section
from .state import MOST_STREAMS, Stream
from .streams import close_message, end_half, open_message
from .table import NEEDS_HPACK, hpack


def headers(reading: Reading, frame: Frame) -> Steps[None]:
    """Take the payload of HEADERS."""
    stream = _stream_of(reading, frame)
    block = reading.block = _begin(reading, frame, stream)
    padding = yield from reading.pad_length(frame, PADDED)
    if frame.flags & PRIORITY:
        yield from priority(reading, frame)
    yield from _fragment(reading, frame, block, padding)


def push_promise(reading: Reading, frame: Frame) -> Steps[None]:
    """Take the payload of PUSH_PROMISE: a request that the server makes on behalf of the client."""
    if reading.direction is Direction.TO_SERVER:
        frame.blame("a client cannot push")
    section = Section(is_request=True)
    block = reading.block = Block(frame.stream, section, _scanner(reading, section, None))
    padding = yield from reading.pad_length(frame, PADDED)
    number = yield from stream_number(reading, frame, terms.PROMISED)
    block.promised = _promised(reading, frame, number)
    yield from _fragment(reading, frame, block, padding)


def continuation(reading: Reading, frame: Frame) -> Steps[None]:
    """Take the payload of CONTINUATION."""
    block = reading.block
    if block is None or block.number != frame.stream:
        frame.blame("there is no field block of this stream to go on with")
        block = reading.block = _begin(reading, frame, None)
    yield from _fragment(reading, frame, block, 0)


def priority(reading: Reading, frame: Frame) -> Steps[None]:
    """Take the payload of PRIORITY, or what is the same in HEADERS."""
    span, data = yield from reading.part(frame, 4, terms.DEPENDENCY)
    number = int.from_bytes(data, "big")
    exclusive = ", alone" if number >> 31 else ""
    span.value = f"stream {number & 0x7FFFFFFF}{exclusive}"
    if frame.stream and number & 0x7FFFFFFF == frame.stream:
        span.mistake = "a stream cannot depend on itself"
    span, [weight] = yield from reading.part(frame, 1, terms.WEIGHT)
    span.value = f"{weight}: {weight + 1} of 256"


def stream_number(reading: Reading, frame: Frame, term: Term) -> Steps[int]:
    """Take the number of a stream in a payload."""
    span, data = yield from reading.part(frame, 4, term)
    number = int.from_bytes(data, "big") & 0x7FFFFFFF
    span.value = str(number)
    return number


def abandon_block(reading: Reading) -> None:
    """Note that another frame comes where the field block should go on."""
    if reading.block is not None:
        if reading.block.scanner is not None:
            reading.scanner.add(reading.block.scanner.end())
        reading.block = None
        reading.side.table.lose()


# -- The stream


def _stream_of(reading: Reading, frame: Frame) -> Stream | None:
    """The stream that HEADERS continues or opens; None if it may do neither."""
    http2, number = reading.http2, frame.stream
    stream = http2.streams.get(number)
    if stream is not None:
        if stream.halves[reading.direction].has_ended:
            frame.blame(f"its sender has ended stream {number} already")
            return None
        return stream
    if not number:
        return None
    if not http2.is_idle(number):
        frame.tell(f"stream {number} is closed, or not followed")
    elif reading.direction is Direction.TO_CLIENT:
        frame.blame(f"no request has opened stream {number}")
    elif number % 2 == 0:
        frame.blame("a client opens streams with odd numbers")
    else:
        stream = http2.open(number)
        if stream is None:
            frame.tell(f"more than {MOST_STREAMS} streams are open: this one is not followed")
    return stream


def _promised(reading: Reading, frame: Frame, number: int) -> Stream | None:
    """The stream that is promised. It is half closed: the client sends nothing on it."""
    if number % 2 or not number or not reading.http2.is_idle(number):
        frame.blame("a promised stream has a new, even number")
        return None
    stream = reading.http2.open(number)
    if stream is not None:
        stream.halves[Direction.TO_SERVER].has_ended = True
    return stream


# -- The block


def _begin(reading: Reading, frame: Frame, stream: Stream | None) -> Block:
    message: Span | None = None
    is_trailer = False
    if stream is not None:
        half = stream.halves[reading.direction]
        is_trailer = half.message is not None
        message = half.message or open_message(
            half, reading.direction, reading.scanner.spans, reading.scanner.offset
        )
    is_request = reading.direction is Direction.TO_SERVER
    section = Section(is_request=is_request, is_trailer=is_trailer)
    ends_stream = bool(frame.flags & END_STREAM) and frame.kind_is("HEADERS")
    scanner = _scanner(reading, section, message)
    if is_trailer and scanner is not None and not ends_stream:
        frame.blame("trailers end the stream")
    return Block(frame.stream, section, scanner, stream, message, ends_stream)


def _scanner(reading: Reading, section: Section, message: Span | None) -> Scanner | None:
    tables = hpack()
    if tables is None:
        return None
    most = reading.side.settings[HEADER_TABLE_SIZE]
    parser = partial(field_block, section, reading.side.table, most, tables)
    return Scanner(parser, reading.scanner.spans, around=message)


def _fragment(reading: Reading, frame: Frame, block: Block, padding: int) -> Steps[None]:
    """Take the part of the block that this frame has, and the padding."""
    size = reading.left(frame) - padding
    if block.scanner is not None:
        span = yield from reading.scanner.carry(size, terms.FRAGMENT, block.scanner)
        span.value = counted(size, "byte")  # not the bytes, in which there are secrets
    else:
        # Nobody can tell which of the bytes are secrets.
        span, _ = yield from reading.scanner.exactly(
            size, terms.FRAGMENT, mask=lambda data: b"*" * len(data)
        )
        span.value, span.detail = "***", NEEDS_HPACK
    if frame.flags & END_HEADERS:
        reading.block = None
        _finish(reading, frame, block)
    yield from reading.padding(padding)


def _finish(reading: Reading, frame: Frame, block: Block) -> None:
    """The block is complete."""
    section, spans = block.section, reading.scanner.spans
    if block.scanner is not None:
        reading.scanner.add(block.scanner.end())
        if not section.is_whole and not reading.side.table.is_lost:
            frame.blame("the field block ends inside a field")
            reading.side.table.lose()
    if section.span is not None:
        section.span.value = section.value
        section.span.mistake = section.span.mistake or (section.mistake if section.is_whole else "")
    if block.message is not None and not section.is_trailer:
        block.message.value = section.value
    if block.promised is not None:
        block.promised.method = section.pseudo.get(b":method", b"")
    if block.stream is not None:
        _take_head(reading, block.stream, section)
        if block.ends_stream:
            frame.blame(end_half(reading.http2, block.stream, reading.direction, spans))


def _take_head(reading: Reading, stream: Stream, section: Section) -> None:
    """Note what later frames of the stream depend on."""
    half = stream.halves[reading.direction]
    if section.is_trailer:
        return
    half.fields = section.fields
    if section.is_request:
        stream.method = section.pseudo.get(b":method", b"")
        stream.protocol = section.pseudo.get(b":protocol", b"")
    elif section.status.startswith("1"):
        close_message(half, reading.scanner.spans, "an interim response; the final one follows")
    else:
        stream.status = section.status
        stream.deflate = Deflate.accepted_in(section.fields)
