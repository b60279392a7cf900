"""Checks of what stands between the chunks of a request body, and in its trailers.

h11 parses sizes, line ends and trailer fields. It accepts what `head.check_head` refuses in heads,
and waits for ever for the CRLF of a line that ends in a bare LF. It does not report which bytes
were lines and which were data. `ChunkLines` infers that from the bytes that h11 has taken and from
how many of them it returned as data.
"""

from __future__ import annotations

from .head import BARE_LF

# RFC 9110 section 5.5: field values hold HTAB and no other control character.
_TEXT = bytes(byte for byte in range(256) if byte == 0x09 or (byte >= 0x20 and byte != 0x7F))


class ChunkLines:
    """The lines between chunks that h11 has taken, and whether they are sound."""

    def __init__(self) -> None:
        self._lines = b""  # taken by h11 since the last piece of data
        self._searched = 0  # how many of these and of the waiting bytes

    def are_sound(self, taken: bytes, waiting: bytes, data_size: int | None) -> bool:
        """Return whether h11 may go on. It has `taken` bytes, and left others `waiting`. The last
        `data_size` bytes taken are data; it is None if h11 has returned no event yet."""
        lines = self._lines + taken
        if data_size is None:
            self._lines = lines
            unfinished = lines + waiting
            start, self._searched = max(0, self._searched - 1), len(unfinished)
            return BARE_LF.search(unfinished, start) is None
        self._lines, self._searched = b"", 0
        lines = lines[: len(lines) - data_size]
        return not (_has_stray_line_ends(lines) or _is_folded(lines))


def _has_stray_line_ends(lines: bytes) -> bool:
    """Return whether there is a bare CR, a bare LF or another control character: once the text
    is removed, only CRLFs may be left."""
    return lines.translate(None, _TEXT) != b"\r\n" * lines.count(b"\r\n")


def _is_folded(lines: bytes) -> bool:
    """Return whether a line starts with white space (RFC 9112 section 5.2)."""
    return b"\n " in lines or b"\n\t" in lines
