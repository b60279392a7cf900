"""Slicing the parts of a piece that is sent in several writes, by reference, without copying."""

from __future__ import annotations

from collections.abc import Sequence


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
