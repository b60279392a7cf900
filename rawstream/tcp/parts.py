"""Parts of a piece that is sent in several writes: cut by reference, never copied."""

from __future__ import annotations

from collections.abc import Sequence


def behind(parts: Sequence[bytes | memoryview], count: int) -> tuple[memoryview, ...]:
    """What is left of `parts` behind the first `count` bytes, by reference."""
    left = []
    for part in parts:
        if count < len(part):
            left.append(memoryview(part)[count:])
        count = max(0, count - len(part))
    return tuple(left)


def first(parts: Sequence[memoryview], size: int) -> list[memoryview]:
    """The first `size` bytes of `parts`, by reference."""
    first = []
    for part in parts:
        first.append(part[:size])
        size -= len(first[-1])
        if not size:
            break
    return first
