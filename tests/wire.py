"""Bytes that several tests send, and what a server's bytes mean."""

from __future__ import annotations

import json
import re
import struct
from typing import Any

# -- Requests -------------------------------------------------------------------------------------

HOST = b"Host: localhost\r\n"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"
POST_CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"GET /ok HTTP/1.1\r\nHost: localhost\r\n\r\n"
"""What `handlers.or_ok` answers with `ok` and a line feed."""


def get(target: str, fields: bytes = b"") -> bytes:
    """A GET request for this target, with header fields that each end with CR LF."""
    return f"GET {target} HTTP/1.1\r\n".encode() + HOST + fields + b"\r\n"


# -- Responses ------------------------------------------------------------------------------------

NOW = 784111777
DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
"""The field of a response that is sent at `NOW`, the moment of the RFCs' examples."""


def unchunked(data: bytes) -> bytes:
    """A body in whole chunks, up to its last chunk or to where the data ends."""
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return body


def unchunked_so_far(data: bytes) -> bytes:
    """A body in chunks that may be cut off anywhere."""
    body = b""
    while match := re.match(rb"([0-9a-f]+)\r\n", data):
        size = int(match[1], 16)
        body, data = body + data[match.end() :][:size], data[match.end() + size + 2 :]
    return body


def objects_in_lines(body: bytes) -> list[dict[str, Any]]:
    """The JSON objects of whole lines; a last one that is cut off does not count."""
    return [json.loads(line) for line in body.split(b"\n")[:-1]]


def objects_in_frames(data: bytes) -> list[dict[str, Any]]:
    """The JSON objects of a server's text frames; a last one that is cut off does not count."""
    found = []
    while len(data) > 4:
        assert data[0] in (0x81, 0x88, 0x89, 0x8A)
        size, start = (data[1], 2) if data[1] < 126 else (int.from_bytes(data[2:4], "big"), 4)
        if len(data) < start + size:
            break
        if data[0] == 0x81:
            found.append(json.loads(data[start : start + size]))
        data = data[start + size :]
    return found


# -- WebSocket ------------------------------------------------------------------------------------

CONTINUATION, TEXT, BINARY, PING, PONG = 0, 1, 2, 9, 10
"""Opcodes."""

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455 section 1.3
MASK = b"\x37\xfa\x21\x3d"  # of RFC 6455 section 5.7
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"
"""A field of a handshake that offers compression without context takeover."""


def handshake(*fields: bytes, without: bytes = b"", head: bytes = b"GET / HTTP/1.1") -> bytes:
    """A client's opening handshake, with `fields` added or replaced and one left out."""
    lines = {
        b"Host": b"localhost",
        b"Upgrade": b"websocket",
        b"Connection": b"keep-alive, Upgrade",
        b"Sec-WebSocket-Key": KEY,
        b"Sec-WebSocket-Version": b"13",
    }
    lines.pop(without, None)
    for field in fields:
        name, _, value = field.partition(b": ")
        lines[name] = value
    return b"\r\n".join([head, *(b"%b: %b" % line for line in lines.items()), b"", b""])


def frame(opcode: int, payload: bytes = b"", *, fin: int = 1, rsv: int = 0) -> bytes:
    """A client's frame."""
    first = fin << 7 | rsv << 4 | opcode
    if len(payload) < 126:
        header = bytes([first, 0x80 | len(payload)])
    elif len(payload) < 65536:
        header = struct.pack("!BBH", first, 0x80 | 126, len(payload))
    else:
        header = struct.pack("!BBQ", first, 0x80 | 127, len(payload))
    return header + MASK + bytes(b ^ MASK[n % 4] for n, b in enumerate(payload))


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    """A client's Close frame."""
    return frame(8, b"" if code is None else struct.pack("!H", code) + reason)
