"""The elements of HTTP/2 and of HPACK: what the standards call them, and a sentence about each."""

from __future__ import annotations

from ..spans import Layer, Term

# -- Frames


def _frames(name: str, meaning: str, section: str) -> Term:
    return Term(Layer.HTTP2, name, meaning, f"RFC {section}")


PREFACE = _frames(
    "connection preface",
    "24 bytes that a client begins with; a server of HTTP/1.1 finds no request in them.",
    "9113 section 3.4",
)
FRAME = _frames(
    "frame", "The unit of HTTP/2: a head of 9 bytes, and the payload.", "9113 section 4.1"
)
HEAD = _frames(
    "frame head", "9 bytes: the length of the payload, a type, flags, a stream.", "9113 section 4.1"
)
LENGTH = _frames(
    "length", "How many bytes of payload follow the head, in 3 bytes.", "9113 section 4.1"
)
TYPE = _frames("type", "Which kind of frame it is.", "9113 section 4.1")
FLAGS = _frames("flags", "One bit each; what it says depends on the type.", "9113 section 4.1")
STREAM = _frames(
    "stream identifier",
    "Which request and response the frame belongs to; 0 is the connection as a whole.",
    "9113 section 5.1.1",
)

_HEADS = (
    ("DATA", "Carries a part of the content of a message.", "6.1"),
    ("HEADERS", "Opens a stream, or continues it: carries the fields of a message.", "6.2"),
    ("PRIORITY", "How urgent a stream was meant to be: obsolete, and ignored.", "6.3"),
    ("RST_STREAM", "Ends a stream at once; the connection goes on.", "6.4"),
    ("SETTINGS", "What its sender can take; the other side acknowledges it.", "6.5"),
    ("PUSH_PROMISE", "Announces a response that nobody has asked for.", "6.6"),
    ("PING", "Are you there? It is answered by a PING with the flag ACK.", "6.7"),
    ("GOAWAY", "Its sender takes no new streams; those up to a number are finished.", "6.8"),
    ("WINDOW_UPDATE", "Lets the other side send so many bytes of content more.", "6.9"),
    ("CONTINUATION", "Goes on with the field block of the frame before it.", "6.10"),
)
HEADS = {
    name: _frames(name, meaning, f"9113 section {section}") for name, meaning, section in _HEADS
}
UNKNOWN = _frames(
    "unknown type", "A frame of a type that is not known is ignored.", "9113 section 5.5"
)

PAD_LENGTH = _frames("pad length", "How many bytes of padding end the frame.", "9113 section 6.1")
PADDING = _frames("padding", "Zeros that hide how long the rest is.", "9113 section 6.1")
DATA = _frames("data", "Bytes of the content.", "9113 section 6.1")
FRAGMENT = _frames(
    "field block fragment",
    "Fields, compressed by HPACK: all of them, or a part that CONTINUATION goes on with.",
    "9113 section 4.3",
)
DEPENDENCY = _frames(
    "stream dependency", "The stream that this one depended on: obsolete.", "9113 section 5.3.1"
)
WEIGHT = _frames("weight", "The share of the stream, less 1: obsolete.", "9113 section 5.3.1")
ERROR_CODE = _frames("error code", "Why it ends, as a number in 4 bytes.", "9113 section 7")
SETTING = _frames("setting", "An identifier in 2 bytes, and its value in 4.", "9113 section 6.5.1")
IDENTIFIER = _frames("identifier", "Which setting it is.", "9113 section 6.5.2")
SETTING_VALUE = _frames("value", "The value of the setting.", "9113 section 6.5.2")
PROMISED = _frames(
    "promised stream", "The stream that the response will come on.", "9113 section 6.6"
)
OPAQUE = _frames("opaque data", "8 bytes, which the answer repeats.", "9113 section 6.7")
LAST_STREAM = _frames(
    "last stream", "Streams with higher numbers were not processed.", "9113 section 6.8"
)
DEBUG_DATA = _frames("debug data", "For people who look for the reason.", "9113 section 6.8")
INCREMENT = _frames("window size increment", "How many bytes more may be sent.", "9113 section 6.9")
PAYLOAD = _frames("payload", "Bytes that are not explained any further.", "9113 section 4.1")
NOT_UNDERSTOOD = _frames(
    "not understood", "From here on the bytes make no sense as frames.", "9113 section 4.2"
)

# -- Field blocks


def _fields(name: str, meaning: str, section: str) -> Term:
    return Term(Layer.HTTP, name, meaning, f"RFC {section}")


HEADER_SECTION = _fields(
    "header section", "The fields before the content: a whole field block.", "9110 section 6.3"
)
FIELD = _fields("field-line", "A name and a value, compressed by HPACK.", "7541 section 6")
PSEUDO_FIELDS = {
    name: _fields("pseudo-header", meaning, section)
    for name, meaning, section in (
        (b":method", "What the client wants done with the resource.", "9113 section 8.3.1"),
        (b":scheme", "The scheme of the URL: http or https.", "9113 section 8.3.1"),
        (b":authority", "Host and port of the URL, instead of Host.", "9113 section 8.3.1"),
        (b":path", "Path and query of the URL.", "9113 section 8.3.1"),
        (b":status", "How the request went: the status code.", "9113 section 8.3.2"),
        (b":protocol", "What CONNECT is to switch this stream to.", "8441 section 4"),
    )
}
SIZE_UPDATE = _fields(
    "table size update", "From here on the dynamic table has this size.", "7541 section 6.3"
)

INDEXED = _fields(
    "indexed field", "Name and value stand in a table; this is their index.", "7541 section 6.1"
)
ADDED = _fields(
    "literal, added to the table",
    "A literal field, which the dynamic table then has; the index is that of its name, or 0.",
    "7541 section 6.2.1",
)
NOT_ADDED = _fields(
    "literal, not added",
    "A literal field, which the dynamic table stays without; the index is that of its name, or 0.",
    "7541 section 6.2.2",
)
NEVER_INDEXED = _fields(
    "literal, never indexed",
    "A literal field that no table of anybody may have: a secret, probably.",
    "7541 section 6.2.3",
)
NEW_SIZE = _fields("new table size", "The size, in bytes.", "7541 section 6.3")
CONTINUED = _fields(
    "integer, continued",
    "7 bits more of a number that its first byte has no room for, the lowest first.",
    "7541 section 5.1",
)
STRING_LENGTH = _fields(
    "string length", "Is the string Huffman-coded, and how long is it?", "7541 section 5.2"
)
NAME = _fields("field-name", "The name of the field, in lower case.", "9113 section 8.2")
VALUE = _fields("field-value", "The value of the field.", "9110 section 5.5")
BROKEN_BLOCK = _fields(
    "not understood",
    "From here on the bytes make no sense as fields, and the tables of both sides differ.",
    "9113 section 4.3",
)

CONTAINERS = frozenset((FRAME, HEADER_SECTION))
"""They consist of elements that are shown one by one."""


def every_term() -> tuple[Term, ...]:
    """Return the terms of this file."""
    values = (*globals().values(), *HEADS.values(), *PSEUDO_FIELDS.values())
    return tuple(value for value in values if isinstance(value, Term))
