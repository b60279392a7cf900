"""WebSocket frames, and the messages that they make (RFC 6455 section 5).

    byte 1   FIN  RSV1-3  opcode
    byte 2   MASK  length: 0 to 125, or 126: it follows in 2 bytes, or 127: in 8
    4 bytes  the masking key, in a client's frames
    the payload

A message is the payload of one frame or of several; control frames may come between them.
"""

from __future__ import annotations

from . import terms
from .messages import Deflate, Message, masked
from .scanner import Nonsense, Scanner, Steps, counted, text_of
from .spans import Bits, Direction, Span

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
OPCODES = {
    CONTINUATION: "continuation",
    TEXT: "text",
    BINARY: "binary",
    CLOSE: "close",
    PING: "ping",
    PONG: "pong",
}
CLOSE_CODES = {
    1000: "normal closure", 1001: "going away", 1002: "protocol error", 1003: "unsupported data",
    1007: "invalid data, such as bad UTF-8", 1008: "policy violation", 1009: "message too big",
    1010: "an extension is missing", 1011: "internal error", 1012: "service restart",
    1013: "try again later", 1014: "bad gateway",
}  # fmt: skip
"""RFC 6455 section 7.4.1, and the registry that it sets up."""

CONTROL_TERMS = {CLOSE: terms.CLOSE, PING: terms.PING, PONG: terms.PONG}


def frames(scanner: Scanner, deflate: Deflate | None, direction: Direction) -> Steps[None]:
    """Take frames up to the end of the input."""
    from_client = direction is Direction.TO_SERVER
    takeover = deflate and (deflate.client_takeover if from_client else deflate.server_takeover)
    message = Message(takes_over=bool(takeover))
    try:
        while (yield from scanner.peek()):
            with scanner.within(terms.FRAME) as frame:
                yield from _frame(scanner, frame, message, from_client, deflate is not None)
    except Nonsense as nonsense:
        yield from scanner.rest(terms.BROKEN_FRAME, mistake=str(nonsense))


def _frame(
    scanner: Scanner, frame: Span, message: Message, from_client: bool, deflating: bool
) -> Steps[None]:
    first, data = yield from scanner.exactly(1, terms.FIN_OPCODE)
    fin, rsv, opcode = bool(data[0] & 0x80), data[0] >> 4 & 7, data[0] & 15
    first.bits = _first_bits(data[0], deflating)
    first.value = f"{OPCODES.get(opcode, 'reserved')}{'' if fin else ', more follow'}"
    if mistake := _mistake_in_first(fin, rsv, opcode, message, deflating):
        raise Nonsense(mistake)
    second, data = yield from scanner.exactly(1, terms.MASK_LENGTH)
    is_masked, size = bool(data[0] & 0x80), data[0] & 0x7F
    second.bits = _second_bits(data[0])
    second.value = f"{'masked' if is_masked else 'not masked'}, length {size}"
    if opcode & 8 and size > 125:
        raise Nonsense("a control frame carries at most 125 bytes")
    if size > 125:
        size = yield from _extended_length(scanner, wide=size == 127)
    if is_masked is not from_client:
        raise Nonsense(
            "a client has to mask its frames"
            if from_client
            else "a server must not mask its frames"
        )
    key = b""
    if is_masked:
        span, key = yield from scanner.exactly(4, terms.MASKING_KEY)
        span.value = key.hex(" ")
    frame.value = f"{OPCODES[opcode]}, {counted(size, 'byte')}"
    if opcode & 8:
        frame.term = CONTROL_TERMS[opcode]
        yield from _control(scanner, frame, opcode, size, key)
    else:
        yield from _data(scanner, message, fin=fin, opcode=opcode, rsv=rsv, size=size, key=key)


def _extended_length(scanner: Scanner, *, wide: bool) -> Steps[int]:
    span, data = yield from scanner.exactly(8 if wide else 2, terms.EXTENDED_LENGTH)
    size = int.from_bytes(data, "big")
    span.value = f"{size:,}"
    if size < (65536 if wide else 126):
        raise Nonsense("the length has to be in the shortest form")
    if size >> 63:
        raise Nonsense("the most significant bit of the length has to be 0")
    return size


def _mistake_in_first(fin: bool, rsv: int, opcode: int, message: Message, deflating: bool) -> str:
    if opcode not in OPCODES:
        return f"opcode {opcode} is reserved"
    may_be_compressed = deflating and opcode in (TEXT, BINARY)
    if rsv & 3 or (rsv & 4 and not may_be_compressed):
        return "a reserved bit is set that no extension gives a meaning to here"
    if opcode & 8:
        return "" if fin else "a control frame may not be fragmented"
    if opcode == CONTINUATION and message.span is None:
        return "there is no message to continue"
    if opcode != CONTINUATION and message.span is not None:
        return "the message before has not ended"
    return ""


def _first_bits(byte: int, deflating: bool) -> tuple[Bits, ...]:
    fin, opcode = byte >> 7, byte & 15
    rsv1 = "compressed" if deflating and byte & 0x40 else "reserved"
    reserved = (("RSV1", 6, rsv1), ("RSV2", 5, "reserved"), ("RSV3", 4, "reserved"))
    return (
        Bits("FIN", 1, str(fin), "the last frame of its message" if fin else "more frames follow"),
        *(
            Bits(name, 1, str(byte >> place & 1), meaning, byte >> place & 1 == 1)
            for name, place, meaning in reserved
        ),
        Bits("opcode", 4, f"{opcode:04b}", f"{opcode:x}: {OPCODES.get(opcode, 'reserved')}"),
    )


def _second_bits(byte: int) -> tuple[Bits, ...]:
    size = byte & 0x7F
    meaning = {126: "126: in the next 2 bytes", 127: "127: in the next 8 bytes"}.get(
        size, str(size)
    )
    return (
        Bits("MASK", 1, str(byte >> 7), "masked" if byte & 0x80 else "not masked"),
        Bits("payload length", 7, f"{size:07b}", meaning),
    )


# -- Payloads


def _control(scanner: Scanner, frame: Span, opcode: int, size: int, key: bytes) -> Steps[None]:
    if opcode != CLOSE:
        if size:
            span, data = yield from scanner.exactly(size, terms.PAYLOAD)
            _show_unmasked(span, data, key)
        return
    if size == 1:
        raise Nonsense("a close code has two bytes")
    if size:
        span, data = yield from scanner.exactly(2, terms.CLOSE_CODE)
        code = int.from_bytes(masked(data, key, 0), "big")
        span.value = f"{code}: {CLOSE_CODES.get(code, 'of a library or an application')}"
        frame.value = span.value
        if not (code in CLOSE_CODES or 3000 <= code < 5000):
            frame.mistake = f"close code {code} may not be sent"
    if size > 2:
        span, data = yield from scanner.exactly(size - 2, terms.CLOSE_REASON)
        _show_unmasked(span, data, key, 2)
        frame.value += f", {span.value}"


def _data(
    scanner: Scanner, message: Message, *, fin: bool, opcode: int, rsv: int, size: int, key: bytes
) -> Steps[None]:
    if message.span is None:
        span = scanner.spans.open(terms.MESSAGE, scanner.offset)
        message.begin(span, is_text=opcode == TEXT, is_compressed=rsv & 4 > 0)
    message.begin_frame(key)
    if size:
        payload, data = yield from scanner.exactly(
            size, terms.PAYLOAD, above=message.span, each=message.feed
        )
        _show_unmasked(payload, data, key)
    if fin:
        scanner.spans.close(message.finish(), even_empty=True)


def _show_unmasked(span: Span, data: bytes, key: bytes, index: int = 0) -> None:
    """Give a payload its value. `index` counts from the first byte of the frame's payload."""
    plain = masked(data, key, index)
    span.value = text_of(plain)
    if key and data:
        span.detail = (
            f"the first byte is {data[0]:02x}, and {data[0]:02x} XOR {key[index % 4]:02x} is "
            f"{plain[0]:02x}"
        )
