"""WebSocket frames by hand: only whole messages in one frame, which nearly all are.

    FIN and opcode | length in 1, 3 or 9 bytes | payload        a server's; a client's is masked

RFC 6455 section 5.2. Everything else, fragments, control frames, compression, is wsproto's.
"""

from __future__ import annotations

TEXT, BINARY = 0x81, 0x82
"""The first byte of a message in one frame: FIN, and the opcode."""


def data_frame(message: str | bytes) -> bytes:
    """The frame of a server that is this message: text for `str`, else binary."""
    first = TEXT if isinstance(message, str) else BINARY
    payload = message.encode() if isinstance(message, str) else message
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return bytes((first, 126, size >> 8, size & 0xFF)) + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload
