"""The payloads of all frames but those that carry fields (RFC 9113 section 6)."""

from __future__ import annotations

from collections.abc import Callable

from ..scanner import Nonsense, Steps, counted
from . import terms
from .frame_types import (
    ACK,
    END_STREAM,
    LARGEST_NUMBER,
    PADDED,
    SETTINGS,
    error_name,
)
from .heads import continuation, headers, priority, push_promise, stream_number
from .reading import Frame, Reading
from .state import Half, Stream
from .streams import content_scanner, drop, end_half
from .windows import acknowledge, announce, grant, spend


def payload(reading: Reading, frame: Frame) -> Steps[None]:
    """Take the payload of a frame. However wrong it is, the next frame begins behind it."""
    try:
        if frame.kind is not None:
            yield from _PAYLOADS[frame.kind.name](reading, frame)
    except Nonsense as nonsense:
        frame.blame(str(nonsense))
    if left := reading.left(frame):
        yield from reading.scanner.exactly(left, terms.PAYLOAD)


# -- DATA


def _data(reading: Reading, frame: Frame) -> Steps[None]:
    frame_says, mistake = spend(reading.http2, reading.direction, frame.stream, frame.size)
    frame.tell(frame_says)
    frame.blame(mistake)
    stream = _receiving(reading, frame)
    padding = yield from reading.pad_length(frame, PADDED)
    size = reading.left(frame) - padding
    above = None
    if stream is not None and size:
        stream.halves[reading.direction].size += size
        above = content_scanner(stream, reading.direction, reading.scanner.spans)
    yield from reading.scanner.carry(size, terms.DATA, above)
    yield from reading.padding(padding)
    if stream is not None and frame.flags & END_STREAM:
        frame.blame(end_half(reading.http2, stream, reading.direction, reading.scanner.spans))


def _receiving(reading: Reading, frame: Frame) -> Stream | None:
    """The stream that the content belongs to; None if there is none."""
    stream = reading.http2.streams.get(frame.stream)
    if stream is None:
        _explain_missing(reading, frame)
        return None
    half: Half = stream.halves[reading.direction]
    if half.has_ended:
        frame.blame(f"its sender has ended stream {frame.stream} already")
        return None
    if half.message is None:
        frame.blame("the head of the message has to come first")
        return None
    return stream


def _explain_missing(reading: Reading, frame: Frame) -> None:
    if reading.http2.is_idle(frame.stream):
        frame.blame(f"stream {frame.stream} is idle: nothing has opened it")
    else:
        frame.tell(f"stream {frame.stream} is closed, or not followed")


# -- Streams and the connection


def _rst_stream(reading: Reading, frame: Frame) -> Steps[None]:
    yield from _error_code(reading, frame)
    stream = reading.http2.streams.get(frame.stream)
    if stream is None:
        _explain_missing(reading, frame)
    else:
        drop(reading.http2, stream, reading.scanner.spans, "the stream was reset")


def _settings(reading: Reading, frame: Frame) -> Steps[None]:
    if frame.flags & ACK:
        frame.tell(acknowledge(reading.http2, reading.direction))
        return
    settings: dict[int, int] = {}
    while reading.left(frame) >= 6:
        with reading.scanner.within(terms.SETTING) as setting:
            span, data = yield from reading.part(frame, 2, terms.IDENTIFIER)
            number = int.from_bytes(data, "big")
            name, least, largest, says = SETTINGS.get(
                number, (f"setting {number}", 0, LARGEST_NUMBER, "unknown, and ignored")
            )
            span.value = f"{number}: {name}"
            span, data = yield from reading.part(frame, 4, terms.SETTING_VALUE)
            value = int.from_bytes(data, "big")
            span.value = f"{value:,}"
            setting.value = f"{name}: {value:,}"
            setting.detail = says
            if not least <= value <= largest:
                setting.mistake = f"it is from {least:,} to {largest:,}"
            elif number in reading.side.settings:
                settings[number] = value
    announce(reading.http2, reading.direction, settings)


def _ping(reading: Reading, frame: Frame) -> Steps[None]:
    span, data = yield from reading.part(frame, 8, terms.OPAQUE)
    span.value = data.hex(" ")


def _goaway(reading: Reading, frame: Frame) -> Steps[None]:
    yield from stream_number(reading, frame, terms.LAST_STREAM)
    yield from _error_code(reading, frame)
    if left := reading.left(frame):
        yield from reading.part(frame, left, terms.DEBUG_DATA)


def _window_update(reading: Reading, frame: Frame) -> Steps[None]:
    span, data = yield from reading.part(frame, 4, terms.INCREMENT)
    more = int.from_bytes(data, "big") & 0x7FFFFFFF
    span.value = counted(more, "byte")
    if frame.stream and reading.http2.is_idle(frame.stream):
        _explain_missing(reading, frame)
        return
    span.detail, span.mistake = grant(reading.http2, reading.direction, frame.stream, more)


def _error_code(reading: Reading, frame: Frame) -> Steps[None]:
    span, data = yield from reading.part(frame, 4, terms.ERROR_CODE)
    span.value = error_name(int.from_bytes(data, "big"))


_PAYLOADS: dict[str, Callable[[Reading, Frame], Steps[None]]] = {
    "DATA": _data,
    "HEADERS": headers,
    "PRIORITY": priority,
    "RST_STREAM": _rst_stream,
    "SETTINGS": _settings,
    "PUSH_PROMISE": push_promise,
    "PING": _ping,
    "GOAWAY": _goaway,
    "WINDOW_UPDATE": _window_update,
    "CONTINUATION": continuation,
}
