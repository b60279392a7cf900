"""The parts of a piece: as bytes, and sliced by reference when it is sent in several writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def behind(parts: Sequence[bytes | memoryview], count: int) -> tuple[memoryview, ...]:
    """Return what is left of `parts` after the first `count` bytes, by reference."""
    left = []
    for part in parts:
        if count < len(part):
            left.append(memoryview(part)[count:])
        count = max(0, count - len(part))
    return tuple(left)


def first(parts: Sequence[memoryview], size: int) -> list[memoryview]:
    """Return the first `size` bytes of `parts`, by reference."""
    first = []
    for part in parts:
        first.append(part[:size])
        size -= len(first[-1])
        if not size:
            break
    return first


def as_bytes(data: Any, expected: str) -> bytes:
    """Return the bytes of a bytes-like object. Raises `TypeError` that says what is `expected`."""
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise TypeError(f"{expected}, not {type(data).__name__}") from None
