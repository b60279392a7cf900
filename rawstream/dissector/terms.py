"""The elements of the protocols: what the standards call them, and a sentence about each."""

from __future__ import annotations

from .spans import Layer, Term

# -- TCP

_TCP = "RFC 9293 section 3.9.1"
READ = Term(
    Layer.TCP,
    "read",
    "What one read took from the connection: all bytes that had arrived, wherever they are cut.",
    _TCP,
)
WRITE = Term(
    Layer.TCP,
    "write",
    "What one write handed to the connection; the other side may read it in other pieces.",
    _TCP,
)
END = Term(
    Layer.TCP,
    "end",
    "This direction has ended: its sender will send nothing more (FIN, or a reset).",
    "RFC 9293 section 3.6",
)

# -- HTTP


def _http(name: str, meaning: str, section: str) -> Term:
    return Term(Layer.HTTP, name, meaning, f"RFC {section}")


REQUEST = _http(
    "request", "What a client asks for: a head, and sometimes content.", "9112 section 2.1"
)
RESPONSE = _http(
    "response", "What the server answers: a head, and mostly content.", "9112 section 2.1"
)
EMPTY_LINE = _http("empty line", "An empty line before a request is skipped.", "9112 section 2.2")

REQUEST_LINE = _http(
    "request-line",
    "The first line of a request: what to do, with what, in which HTTP.",
    "9112 section 3",
)
METHOD = _http("method", "What the client wants done with the resource.", "9110 section 9")
TARGET = _http(
    "request-target", "What the request is about: path and query of its URL.", "9112 section 3.2"
)
PATH = _http("path", "The path of the URL.", "3986 section 3.3")
QUESTION_MARK = _http("?", "Between path and query.", "3986 section 3.4")
PARAMETER_NAME = _http(
    "parameter name", "The name of a parameter in the query.", "3986 section 3.4"
)
PARAMETER_VALUE = _http(
    "parameter value",
    "The value of a parameter; bytes beyond ASCII are written as %XX.",
    "3986 section 3.4",
)
EQUALS = _http("=", "Between the name of a parameter and its value.", "3986 section 3.4")
AMPERSAND = _http("&", "Between two parameters.", "3986 section 3.4")
SPACE = _http("space", "One space separates the parts of the line.", "9112 section 3")
VERSION = _http("HTTP-version", "The version of HTTP that the sender speaks.", "9112 section 2.3")

STATUS_LINE = _http(
    "status-line", "The first line of a response: how the request went.", "9112 section 4"
)
STATUS_CODE = _http(
    "status-code",
    "How it went: 2xx fine, 3xx elsewhere, 4xx the client's mistake, 5xx the server's.",
    "9110 section 15",
)
REASON = _http("reason-phrase", "The status code in words, for people.", "9112 section 4")

FIELD_LINE = _http("field-line", "A field of the head: a name, a colon, a value.", "9112 section 5")
FIELD_NAME = _http(
    "field-name", "The name of the field; capitals make no difference.", "9110 section 5.1"
)
COLON = _http(":", "Ends the field name; no space may stand before it.", "9112 section 5.1")
WHITESPACE = _http(
    "OWS", "Optional whitespace: it is not a part of the value.", "9110 section 5.6.3"
)
FIELD_VALUE = _http("field-value", "The value of the field.", "9110 section 5.5")
FOLDED = _http(
    "obs-fold", "A value that goes on in a second line: obsolete, and rejected.", "9112 section 5.2"
)
CRLF = _http("CRLF", "Carriage return and line feed, 0d 0a: the end of a line.", "9112 section 2.1")
HEAD_END = _http("end of the head", "An empty line ends the head.", "9112 section 2.1")

CONTENT = _http("content", "What the message carries.", "9110 section 6.4")
CHUNKED = _http(
    "chunked content",
    "Content in chunks, each behind its size: the whole length was not known beforehand.",
    "9112 section 7.1",
)
CHUNK = _http(
    "chunk", "A piece of the content: its size, CRLF, that many bytes, CRLF.", "9112 section 7.1"
)
LAST_CHUNK = _http("last-chunk", "A chunk of size 0: the content is complete.", "9112 section 7.1")
CHUNK_SIZE = _http(
    "chunk-size",
    "How many bytes of data follow the end of this line, in hexadecimal.",
    "9112 section 7.1",
)
CHUNK_EXTENSION = _http(
    "chunk-ext", "Parameters of a chunk, which nearly everybody ignores.", "9112 section 7.1.1"
)
CHUNK_DATA = _http(
    "chunk-data", "The bytes of the content that this chunk carries.", "9112 section 7.1"
)
TRAILERS = _http("trailer section", "Fields that follow the content.", "9112 section 7.1.2")
TRAILERS_END = _http(
    "end of the content", "An empty line ends the chunked content.", "9112 section 7.1"
)

NOT_UNDERSTOOD = _http(
    "not understood",
    "From here on the bytes make no sense as what they should be.",
    "9112 section 2.2",
)
TUNNEL = _http(
    "other protocol", "After the switch the bytes belong to another protocol.", "9110 section 7.8"
)
UNANSWERED = _http(
    "not yet known",
    "These bytes follow a request for another protocol, and the server has not answered it.",
    "9110 section 7.8",
)

# -- Server-Sent Events


def _events(name: str, meaning: str, section: str) -> Term:
    return Term(Layer.EVENTS, name, meaning, f"WHATWG HTML section {section}")


_PARSING, _INTERPRETING = "9.2.5", "9.2.6"
EVENT = _events("event", "Some lines, and the blank line that dispatches the event.", _INTERPRETING)
COMMENT = _events(
    "comment", "A line that begins with a colon is ignored: heartbeats are comments.", _PARSING
)
COMMENT_MARK = _events(":", "The line is a comment.", _PARSING)
COMMENT_TEXT = _events("comment text", "It is ignored.", _PARSING)
EVENT_LINE = _events("line", "One field of the event.", _PARSING)
UNKNOWN_FIELD = _events("field name", "A field with another name is ignored.", _INTERPRETING)
EVENT_COLON = _events(":", "Ends the name of the field; one space behind it is skipped.", _PARSING)
EVENT_SPACE = _events(
    "space", "One space behind the colon is not a part of the value.", _INTERPRETING
)
EVENT_VALUE = _events("field value", "The value of the field.", _INTERPRETING)
EVENT_LINE_END = _events("line end", "LF, CR LF or CR ends a line.", _PARSING)
DISPATCH = _events("blank line", "A blank line ends the event and dispatches it.", _INTERPRETING)
BYTE_ORDER_MARK = _events("BOM", "A byte order mark at the start is skipped.", _PARSING)

EVENT_FIELDS = {
    name: _events("field name", meaning, _INTERPRETING)
    for name, meaning in (
        (b"data", "A line of the payload; the lines of several data fields are joined by LF."),
        (b"event", "The type of the event, for addEventListener; without it the type is message."),
        (b"id", "The client sends it back in Last-Event-ID when it reconnects."),
        (b"retry", "How long the client waits before it reconnects, in milliseconds."),
    )
}

# -- Newline-delimited JSON


def _lines(name: str, meaning: str) -> Term:
    return Term(Layer.LINES, name, meaning, "RFC 8259 section 2; one text a line")


RECORD = _lines("record", "One JSON text and the line feed that ends it.")
JSON_TEXT = _lines("JSON text", "A value in JSON, without a line feed in it.")
EMPTY_RECORD = _lines("empty line", "An empty line is skipped; many use it as a heartbeat.")
RECORD_END = _lines("line end", "The line feed ends the record.")

# -- WebSocket


def _websocket(name: str, meaning: str, section: str) -> Term:
    return Term(Layer.WEBSOCKET, name, meaning, f"RFC {section}")


_FRAME = "6455 section 5.2"
FRAME = _websocket(
    "frame", "The unit of a WebSocket: two bytes of header at least, then the payload.", _FRAME
)
FIN_OPCODE = _websocket(
    "FIN, RSV, opcode", "Is this the last frame of its message, and what kind of frame?", _FRAME
)
MASK_LENGTH = _websocket(
    "MASK, payload length", "Is the payload masked, and how long is it?", _FRAME
)
EXTENDED_LENGTH = _websocket(
    "extended payload length",
    "The length, if it is 126 or more: in 2 bytes, or in 8 for more than 65,535.",
    _FRAME,
)
MASKING_KEY = _websocket(
    "masking-key",
    "Random, for this frame only; byte n of the payload is XORed with byte n mod 4 of it.",
    "6455 section 5.3",
)
PAYLOAD = _websocket("payload data", "The bytes that the frame carries.", _FRAME)
PING = _websocket(
    "ping", "Are you there? It is answered by a pong with the same payload.", "6455 section 5.5.2"
)
PONG = _websocket("pong", "The answer to a ping, or a heartbeat of its own.", "6455 section 5.5.3")
CLOSE = _websocket(
    "close",
    "The last frame of its sender; the other side answers with its own.",
    "6455 section 5.5.1",
)
CLOSE_CODE = _websocket(
    "close code", "Why the connection is closed, as a number in two bytes.", "6455 section 7.4"
)
CLOSE_REASON = _websocket(
    "close reason", "Why the connection is closed, in words.", "6455 section 7.1.6"
)
BROKEN_FRAME = _websocket(
    "not understood", "From here on the bytes make no sense as frames.", "6455 section 7.1.7"
)

MESSAGE = Term(
    Layer.MESSAGES,
    "message",
    "What the application sees: the payloads of one frame or several, unmasked and inflated.",
    "RFC 6455 section 5.4",
)

CONTAINERS = frozenset(
    (REQUEST, RESPONSE, CHUNKED, CHUNK, LAST_CHUNK, TRAILERS, EVENT, FRAME, PING, PONG, CLOSE)
)
"""They consist of lines or other elements that are shown one by one."""


def every_term() -> tuple[Term, ...]:
    """Return the terms of this file."""
    values = (*globals().values(), *EVENT_FIELDS.values())
    return tuple(value for value in values if isinstance(value, Term))
