"""What streams carry: the messages on them, and their content, each by a scanner of its own.

Frames of many streams come between each other. Therefore the content of each stream, in each
direction, has its own scanner, which is fed with the data of its frames.
"""

from __future__ import annotations

from functools import partial

from .. import terms as http_terms
from ..content import scanner_of
from ..frames import frames as websocket_frames
from ..scanner import Scanner, Spans, Steps
from ..spans import Direction, Span, Term
from .state import Half, Http2, Stream


def content_scanner(stream: Stream, direction: Direction, spans: Spans) -> Scanner:
    """Return what takes the content of a stream in one direction."""
    half = stream.halves[direction]
    if half.content is None:
        above, term = _layer_above(stream, half, direction, spans)
        half.content = Scanner(partial(_content, term, above), spans, around=half.message)
    return half.content


def open_message(half: Half, direction: Direction, spans: Spans, at: int) -> Span:
    """Begin a request or a response."""
    is_request = direction is Direction.TO_SERVER
    half.message = spans.open(http_terms.REQUEST if is_request else http_terms.RESPONSE, at)
    return half.message


def close_message(half: Half, spans: Spans, detail: str = "") -> None:
    """End the message that is under way, and its content."""
    if half.content is not None:
        half.content.end()
        half.content = None
    if half.message is not None:
        half.message.detail = half.message.detail or detail
        spans.close(half.message)
        half.message = None


def end_half(http2: Http2, stream: Stream, direction: Direction, spans: Spans) -> str:
    """END_STREAM: one direction of a stream ends. Return what is wrong with that."""
    half = stream.halves[direction]
    announced = half.fields[b"content-length"]
    has_no_content = stream.method == b"HEAD" or stream.status in ("204", "304")
    close_message(half, spans)
    half.has_ended = True
    if all(half.has_ended for half in stream.halves.values()):
        http2.streams.pop(stream.number, None)
    if has_no_content and direction is Direction.TO_CLIENT:
        return ""
    if announced.isdigit() and len(announced) <= 18 and int(announced) != half.size:
        return f"content-length is {int(announced):,}, and the content has {half.size:,}"
    return ""


def drop(http2: Http2, stream: Stream, spans: Spans, why: str) -> None:
    """End both directions of a stream at once."""
    for half in stream.halves.values():
        close_message(half, spans, f"cut off: {why}")
    http2.streams.pop(stream.number, None)


def _layer_above(
    stream: Stream, half: Half, direction: Direction, spans: Spans
) -> tuple[Scanner | None, Term]:
    """The layer that the content belongs to, and what the content is called."""
    if stream.method != b"CONNECT":
        return scanner_of(half.fields, spans), http_terms.CONTENT
    if stream.status and not stream.status.startswith("2"):
        return None, http_terms.CONTENT  # it was refused
    if stream.protocol == b"websocket":
        parser = partial(websocket_frames, deflate=stream.deflate, direction=direction)
        return Scanner(parser, spans), http_terms.CONTENT
    return None, http_terms.TUNNEL


def _content(term: Term, above: Scanner | None, scanner: Scanner) -> Steps[None]:
    yield from scanner.peek()  # it begins where its first byte does
    yield from scanner.carry(None, term, above)
    if above is not None:
        scanner.add(above.end())
