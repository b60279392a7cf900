"""What stands between the chunks of a request body, and in its trailers.

h11 reads sizes, line ends and trailer fields; it lets through what `head.check_head` refuses in
heads, and waits for ever for the CRLF of a line that a bare LF has ended. It does not say which
bytes were lines and which were data. `ChunkLines` finds that out from what h11 has taken, and how
much of it came out as data.
"""

from __future__ import annotations

from .head import BARE_LF, has_stray_line_ends, is_folded


class ChunkLines:
    """The lines between chunks, as h11 takes them: bytes in, a judgement out."""

    def __init__(self) -> None:
        self._lines = b""  # taken since the last piece of data
        self._searched = 0  # of these, and of what was waiting, when last looked at

    def are_sound(self, taken: bytes, waiting: bytes, data_size: int | None) -> bool:
        """Whether h11 may go on. It has `taken` these bytes and left those `waiting`; the last
        `data_size` of those taken are data, or it is None because there is no event yet."""
        lines = self._lines + taken
        if data_size is None:
            self._lines = lines
            unfinished = lines + waiting
            start, self._searched = max(0, self._searched - 1), len(unfinished)
            return BARE_LF.search(unfinished, start) is None
        self._lines, self._searched = b"", 0
        lines = lines[: len(lines) - data_size]
        return not (has_stray_line_ends(lines) or is_folded(lines))
