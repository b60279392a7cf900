"""What may stand between the chunks of a request body, as a table of bytes."""

from __future__ import annotations

import pytest

from rawstream.http1.chunk_lines import ChunkLines

Step = tuple[bytes, bytes, "int | None"]
"""What h11 has taken, what it has left, and how much of it came out as data."""


@pytest.mark.parametrize(
    ("steps", "sound"),
    [
        ([(b"4\r\nping", b"\r\n", 4)], True),
        ([(b"4\r\npi", b"", 2), (b"ng", b"\r\n", 2), (b"\r\n0\r\n\r\n", b"", 0)], True),
        ([(b"4;name=value\r\nping", b"", 4)], True),
        ([(b"4\r\n\r\n\r\n", b"", 4)], True),  # the data may be anything
        ([(b"4\r\na\nb\n", b"\r\n", 4)], True),
        ([(b"", b"4\n", None)], False),  # h11 would wait for ever
        ([(b"", b"4", None), (b"", b"4\n", None)], False),
        ([(b"", b"4\r", None), (b"", b"4\r\n", None)], True),
        ([(b"4\nping", b"", 4)], False),
        ([(b"4;a=\x00\r\nping", b"", 4)], False),
        ([(b"4\rX\r\nping", b"", 4)], False),
        ([(b"0\r\nA: b\r\n\r\n", b"", 0)], True),
        ([(b"0\r\nA: b\r\n c\r\n\r\n", b"", 0)], False),  # folded
        ([(b"0\r\nA: b\n\r\n", b"", 0)], False),
        ([(b"0\r\n", b"", None), (b"A: b\x7f\r\n\r\n", b"", 0)], False),
    ],
)
def test_lines_between_chunks(steps: list[Step], sound: bool) -> None:
    lines = ChunkLines()
    judgements = [lines.are_sound(*step) for step in steps]
    assert judgements == [True] * (len(steps) - 1) + [sound]
