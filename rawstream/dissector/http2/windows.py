"""Windows: how many bytes of content may be sent before the reader grants more (RFC 9113 section
5.2).

DATA shrinks two windows, that of its stream and that of the connection; WINDOW_UPDATE from the
other side lets one of them grow. Each function returns what happens, and what is wrong with it.
"""

from __future__ import annotations

from ..scanner import counted
from ..spans import Direction
from .frame_types import INITIAL_WINDOW_SIZE, LARGEST_WINDOW
from .state import MOST_WAITING, Http2, Side

LISTED = 3
"""Of so many streams it is said how their windows change."""


def opposite(direction: Direction) -> Direction:
    """The other direction."""
    return Direction.TO_CLIENT if direction is Direction.TO_SERVER else Direction.TO_SERVER


def spend(http2: Http2, direction: Direction, number: int, size: int) -> tuple[str, str]:
    """DATA of this size is sent: the whole payload counts, with its padding."""
    side, stream = http2.sides[direction], http2.streams.get(number)
    if not size:
        return "", ""  # DATA without bytes needs no window
    changes, mistakes = [], []
    if stream is not None:
        half = stream.halves[direction]
        changes.append(f"stream {number} {_change(half.window, half.window - size)}")
        mistakes.append(_overrun(f"the window of stream {number}", half.window, size))
        half.window -= size
    changes.append(f"connection {_change(side.window, side.window - size)}")
    mistakes.append(_overrun("the window of the connection", side.window, size))
    side.window -= size
    return f"windows: {', '.join(changes)}", "; ".join(filter(None, mistakes))


def grant(http2: Http2, direction: Direction, number: int, more: int) -> tuple[str, str]:
    """WINDOW_UPDATE is sent in this direction: the other side may send so many bytes more."""
    side, stream = http2.sides[opposite(direction)], http2.streams.get(number)
    if not more:
        return "", "a window grows by 1 byte at least"
    if not number:
        before = side.window
        after = side.window = before + more
        whose = "connection"
    elif stream is not None:
        half = stream.halves[opposite(direction)]
        before = half.window
        after = half.window = before + more
        whose = f"stream {number}"
    else:
        return f"stream {number} is closed, or not followed", ""
    mistake = "a window has at most 2,147,483,647 bytes" if after > LARGEST_WINDOW else ""
    return f"window: {whose} {_change(before, after)}", mistake


def announce(http2: Http2, direction: Direction, settings: dict[int, int]) -> None:
    """SETTINGS is sent in this direction: the other side has to acknowledge it."""
    bound = http2.sides[opposite(direction)]
    bound.waiting.append(settings)
    if len(bound.waiting) > MOST_WAITING:
        _put_in_force(http2, opposite(direction), bound)


def acknowledge(http2: Http2, direction: Direction) -> str:
    """SETTINGS with ACK is sent in this direction: its sender obeys the oldest settings that wait
    for that."""
    side = http2.sides[direction]
    if not side.waiting:
        return "no SETTINGS waits for this"
    return _put_in_force(http2, direction, side)


def _put_in_force(http2: Http2, direction: Direction, side: Side) -> str:
    settings = side.waiting.popleft()
    more = settings.get(INITIAL_WINDOW_SIZE, 0) - side.settings[INITIAL_WINDOW_SIZE]
    side.settings.update(settings)
    if INITIAL_WINDOW_SIZE not in settings or not more:
        return ""
    says = [f"windows: a new stream {settings[INITIAL_WINDOW_SIZE]:,}"]
    for place, stream in enumerate(http2.streams.values()):
        half = stream.halves[direction]
        if place < LISTED:
            says.append(f"stream {stream.number} {_change(half.window, half.window + more)}")
        half.window += more
    if len(http2.streams) > LISTED:
        says.append(f"likewise {counted(len(http2.streams) - LISTED, 'other stream')}")
    return ", ".join(says)


def _change(before: int, after: int) -> str:
    return f"{before:,} -> {after:,}"


def _overrun(which: str, window: int, size: int) -> str:
    if size <= window:
        return ""
    return f"{which} has only {counted(max(window, 0), 'byte')} left"
