r"""Frames, one behind the other, in each direction (RFC 9113 section 4).

00 00 36   the length of the payload: 54 bytes
00         the type: DATA
01         the flags: END_STREAM
00000001   the stream: 1
...        the payload
"""

from __future__ import annotations

import re

from ..scanner import Nonsense, Scanner, Steps, counted
from ..spans import Bits, Direction, Span
from . import terms
from .frame_types import EXTENSIONS, MAX_FRAME_SIZE, TYPES, FrameType, mistake_in_head
from .heads import abandon_block
from .payloads import payload
from .reading import Frame, Reading
from .state import Http2
from .streams import close_message

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""A client's first bytes (RFC 9113 section 3.4)."""

HEAD_SIZE = 9

_CARRY_FIELDS = ("HEADERS", "PUSH_PROMISE", "CONTINUATION")
_FIRST_SETTINGS = re.compile(rb"\0\0[\0-\xff]\x04\0\0{4}", re.DOTALL)


def begins_with_settings(scanner: Scanner) -> Steps[bool]:
    """Return whether the next bytes are the head of SETTINGS: a server may send them before the
    client has said anything."""
    if (yield from scanner.peek()) != b"\0":
        return False
    return _FIRST_SETTINGS.fullmatch((yield from scanner.ahead(HEAD_SIZE))) is not None


def frames(http2: Http2, direction: Direction, scanner: Scanner) -> Steps[None]:
    """Take frames up to the end of the input; first, a client's preface."""
    reading = Reading(scanner, http2, direction)
    if direction is Direction.TO_SERVER:
        yield from scanner.exactly(len(PREFACE), terms.PREFACE)
    try:
        while (yield from scanner.peek()):
            with scanner.within(terms.FRAME) as span:
                frame = yield from _head(reading, span)
                if frame.head.mistake and not frame.kind_is(*_CARRY_FIELDS):
                    yield from scanner.exactly(frame.size, terms.PAYLOAD)
                else:
                    yield from payload(reading, frame)
    except Nonsense as nonsense:
        yield from scanner.rest(terms.NOT_UNDERSTOOD, mistake=str(nonsense))
    finally:
        abandon_block(reading)
        for stream in http2.streams.values():
            close_message(stream.halves[direction], scanner.spans, "cut off: the bytes end here")


def _head(reading: Reading, around: Span) -> Steps[Frame]:
    """Take the head of a frame. Raises `Nonsense` if the frame is larger than it may be."""
    scanner = reading.scanner
    with scanner.within(terms.HEAD) as head:
        span, data = yield from scanner.exactly(3, terms.LENGTH)
        size = int.from_bytes(data, "big")
        span.value = f"{size:,}"
        span, [number] = yield from scanner.exactly(1, terms.TYPE)
        kind = TYPES.get(number)
        name = kind.name if kind else EXTENSIONS.get(number, "unknown")
        type_of = span.value = f"{number}: {name}"
        span, [flags] = yield from scanner.exactly(1, terms.FLAGS)
        set_flags = _explain_flags(span, kind, flags)
        stream = yield from _stream(scanner)
        head.term = terms.HEADS[kind.name] if kind else terms.UNKNOWN
        where = f"stream {stream}" if stream else "the connection"
        facts = [*([] if kind else [type_of]), where, *set_flags, counted(size, "byte")]
        head.value = ", ".join(facts)
        around.value = f"{name}, {where}"
        frame = Frame(kind, size, flags, stream, head, scanner.offset + size)
        frame.blame(_mistake_in_order(reading, frame))
        frame.blame(mistake_in_head(number, size, flags, stream))
        reading.side.has_begun = True
    most = reading.side.settings[MAX_FRAME_SIZE]
    if size > most:
        raise Nonsense(f"the other side takes frames up to {counted(most, 'byte')}")
    return frame


def _mistake_in_order(reading: Reading, frame: Frame) -> str:
    """Why this frame may not come here."""
    if not reading.side.has_begun and not frame.kind_is("SETTINGS"):
        return "the first frame of each side is SETTINGS"
    block = reading.block
    if block is not None and not (frame.kind_is("CONTINUATION") and frame.stream == block.number):
        abandon_block(reading)
        return f"here should be CONTINUATION of stream {block.number}"
    return ""


def _explain_flags(span: Span, kind: FrameType | None, flags: int) -> list[str]:
    """Say what each bit means. Return the names of those that are set."""
    known = kind.flags if kind else {}
    names = []
    bits = []
    for place in range(7, -1, -1):
        flag = 1 << place
        is_set = bool(flags & flag)
        name, meaning = known.get(flag, ("unused", "ignored"))
        bits.append(Bits(name, 1, str(int(is_set)), meaning if is_set else "not set", is_set))
        if is_set and flag in known:
            names.append(name)
    span.bits = tuple(bits)
    span.value = ", ".join(names) or ("none" if not flags else f"{flags:08b}")
    return names


def _stream(scanner: Scanner) -> Steps[int]:
    """Take the stream identifier: a reserved bit, and 31 bits."""
    span, data = yield from scanner.exactly(4, terms.STREAM)
    number = int.from_bytes(data, "big") & 0x7FFFFFFF
    span.value = str(number)
    is_set = data[0] >> 7
    span.bits = (
        Bits("R", 1, str(is_set), "reserved: ignored" if is_set else "reserved", is_set == 1),
        Bits("", 7, f"{data[0] & 0x7F:07b}", f"and 24 bits behind it: {number}", False),
    )
    return number
