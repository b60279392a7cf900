"""WebSocket frames by hand: whole messages in one frame, as nearly all are.

    FIN and opcode | MASK and length in 1, 3 or 9 bytes | mask, 4 bytes | payload

A client's frames are masked, a server's are not (RFC 6455 section 5.2). wsproto does everything
else: fragments, control frames, compression. Pure functions.
"""

from __future__ import annotations

from ..tcp.parts import as_bytes

TEXT, BINARY = 0x81, 0x82
"""The first byte of a message in one frame: FIN and the opcode."""

MESSAGE = "a WebSocket message is str or bytes"
"""What senders expect, for their `TypeError`."""


def data_frame(message: str | bytes) -> bytes:
    """Return a message as a server's frame: text for `str`, else binary."""
    if isinstance(message, str):
        first, payload = TEXT, message.encode()
    else:
        first = BINARY
        payload = message if type(message) is bytes else as_bytes(message, MESSAGE)
    size = len(payload)
    return bytes((first, size)) + payload if size < 126 else server_frame(first, payload)


def server_frame(first: int, payload: bytes) -> bytes:
    """Return a server's frame with this first byte and this payload."""
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return bytes((first, 126, size >> 8, size & 0xFF)) + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def frame_bounds(data: bytes, start: int) -> tuple[int, int] | None:
    """Return where the payload of the frame at `start` begins and ends. The end may lie beyond
    the data. None if the header is incomplete. The content of the header is not checked."""
    if len(data) < start + 2:
        return None
    size = data[start + 1]
    payload = start + 2
    if size & 0x80:
        size &= 0x7F
        payload += 4
    if size >= 126:
        wide = 2 if size == 126 else 8
        size = int.from_bytes(data[start + 2 : start + 2 + wide], "big")
        payload += wide
    return (payload, payload + size) if payload <= len(data) else None


def decode_simple_frame(data: bytes, start: int, payload: int, end: int) -> str | bytes | None:
    """Return the message in a client's frame; None if the frame is incomplete, is not a whole
    message, or is invalid."""
    size = end - payload
    if end > len(data) or payload - start != (6 if size < 126 else 8 if size < 65536 else 14):
        return None  # not masked, or the length takes more bytes than needed
    first = data[start]
    if first not in (TEXT, BINARY) or not data[start + 1] & 0x80:
        return None
    fours = (size + 3) // 4
    mask = int.from_bytes(data[payload - 4 : payload] * fours, "little")
    masked = int.from_bytes(data[payload:end], "little")
    message = (masked ^ mask).to_bytes(4 * fours, "little")[:size]
    if first == BINARY:
        return message
    try:
        return message.decode()
    except UnicodeDecodeError:
        return None
