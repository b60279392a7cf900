"""Types of frames, their flags, and what RFC 9113 asks of their heads; error codes and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from ..scanner import counted

END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x01, 0x01, 0x04, 0x08, 0x20
"""Flags (RFC 9113 section 6)."""

_MEANINGS = MappingProxyType(
    {
        END_HEADERS: ("END_HEADERS", "the field block is complete"),
        PADDED: ("PADDED", "the frame ends with padding"),
        PRIORITY: ("PRIORITY", "priority comes before the field block"),
    }
)
_END_STREAM = {END_STREAM: ("END_STREAM", "its sender sends nothing more on this stream")}
_ACK = {ACK: ("ACK", "an answer to the same frame of the other side")}


class Place(Enum):
    """Where a type of frame belongs."""

    STREAM = "a stream"
    CONNECTION = "the connection"
    BOTH = "either"


@dataclass(frozen=True)
class FrameType:
    """What is known of a type."""

    name: str
    place: Place
    flags: Mapping[int, tuple[str, str]]
    """What each bit is called and says."""
    size: int | None = None
    """The length that its payload has to have, in bytes."""


def _some(*flags: int) -> dict[int, tuple[str, str]]:
    return {flag: _MEANINGS[flag] for flag in flags}


TYPES = {
    0x0: FrameType("DATA", Place.STREAM, _END_STREAM | _some(PADDED)),
    0x1: FrameType("HEADERS", Place.STREAM, _END_STREAM | _some(END_HEADERS, PADDED, PRIORITY)),
    0x2: FrameType("PRIORITY", Place.STREAM, {}, 5),
    0x3: FrameType("RST_STREAM", Place.STREAM, {}, 4),
    0x4: FrameType("SETTINGS", Place.CONNECTION, _ACK),
    0x5: FrameType("PUSH_PROMISE", Place.STREAM, _some(END_HEADERS, PADDED)),
    0x6: FrameType("PING", Place.CONNECTION, _ACK, 8),
    0x7: FrameType("GOAWAY", Place.CONNECTION, {}),
    0x8: FrameType("WINDOW_UPDATE", Place.BOTH, {}, 4),
    0x9: FrameType("CONTINUATION", Place.STREAM, _some(END_HEADERS)),
}
EXTENSIONS = {0xA: "ALTSVC", 0xC: "ORIGIN", 0x10: "PRIORITY_UPDATE"}
"""Types of later RFCs, which many send. They are named, and not explained."""

ERROR_CODES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT",
    "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR",
    "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip
"""From 0 (RFC 9113 section 7)."""

LARGEST_WINDOW = 2**31 - 1
LARGEST_NUMBER = 2**32 - 1
HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 0x1, 0x4, 0x5

SETTINGS = {
    HEADER_TABLE_SIZE: (
        "SETTINGS_HEADER_TABLE_SIZE", 0, LARGEST_NUMBER,
        "the dynamic table for fields sent to it may have so many bytes",
    ),
    0x2: ("SETTINGS_ENABLE_PUSH", 0, 1, "whether it takes pushed responses"),
    0x3: (
        "SETTINGS_MAX_CONCURRENT_STREAMS", 0, LARGEST_NUMBER,
        "the other side may have so many streams open",
    ),
    INITIAL_WINDOW_SIZE: (
        "SETTINGS_INITIAL_WINDOW_SIZE", 0, LARGEST_WINDOW,
        "so many bytes of content may be sent to it on each stream before it grants more",
    ),
    MAX_FRAME_SIZE: (
        "SETTINGS_MAX_FRAME_SIZE", 2**14, 2**24 - 1, "it takes payloads up to this size",
    ),
    0x6: (
        "SETTINGS_MAX_HEADER_LIST_SIZE", 0, LARGEST_NUMBER,
        "it takes heads up to this size, uncompressed",
    ),
    0x8: (
        "SETTINGS_ENABLE_CONNECT_PROTOCOL", 0, 1,
        "whether CONNECT may switch a stream to WebSocket (RFC 8441)",
    ),
    0x9: ("SETTINGS_NO_RFC7540_PRIORITIES", 0, 1, "whether it ignores PRIORITY (RFC 9218)"),
}  # fmt: skip
"""Name, least and largest value, and what the sender of the setting says with it."""


def error_name(code: int) -> str:
    """Return the name of an error code, with its number."""
    return f"{code}: {ERROR_CODES[code] if code < len(ERROR_CODES) else 'unknown'}"


def mistake_in_head(number: int, size: int, flags: int, stream: int) -> str:
    """Return why a peer would reject a frame with this head, wherever it stands; "" if it would
    not."""
    kind = TYPES.get(number)
    if kind is None:
        return ""
    if kind.place is Place.STREAM and not stream:
        return f"{kind.name} belongs to a stream, and 0 is the connection"
    if kind.place is Place.CONNECTION and stream:
        return f"{kind.name} belongs to the connection: its stream is 0"
    if kind.size is not None and size != kind.size:
        return f"the payload of {kind.name} has {counted(kind.size, 'byte')}"
    if kind.name == "SETTINGS" and flags & ACK and size:
        return "SETTINGS that acknowledges carries nothing"
    if kind.name == "SETTINGS" and size % 6:
        return "each setting has 6 bytes, and the length is no multiple of it"
    if kind.name == "GOAWAY" and size < 8:
        return "the payload of GOAWAY has 8 bytes at least"
    return ""
