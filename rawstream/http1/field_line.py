"""One line of a head: a header field, checked and cut into its name and its value.

Most lines of a head are the same in every request of a browser, and only a few differ, such as
If-None-Match. So lines are kept with what they were cut into.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import TypeAlias

from ..http.fields import USUAL_NAMES

# RFC 9110 section 5.5: field values hold HTAB and no other control character.
_CONTROL = re.compile("[\x00-\x08\n-\x1f\x7f]")
_TOKEN = re.compile("[!#$%&'*+.^_`|~0-9a-z-]+")


class Kind(Enum):
    """The lines that mean something for the framing of their message."""

    HOST = "host"
    CONNECTION = "connection"
    CONTENT_LENGTH = "content-length"
    TRANSFER_ENCODING = "transfer-encoding"
    EXPECT = "expect"
    NO_FIELD = "its name is no token"
    FOLDED = "it continues the line before (RFC 9112 section 5.2)"
    STRAY = "a bare CR, a bare LF or another control character"


HOST, CONNECTION = Kind.HOST, Kind.CONNECTION

_KINDS = {kind.value: kind for kind in Kind}


FieldLine: TypeAlias = tuple[tuple[str, str], Kind | None]
"""A field, as its name in lower case and its value; and the kind of its line, None if it means
nothing for the framing of its message."""


def has_control(text: str) -> bool:
    """Whether there is a control character in it that no field may have."""
    return not text.isprintable() and _CONTROL.search(text) is not None


def field_line(line: str) -> FieldLine:
    """Cut a line, without its CRLF. One that is no field has an empty one."""
    if has_control(line):
        return ("", ""), Kind.STRAY
    if line[0] in " \t":
        return ("", ""), Kind.FOLDED
    name, colon, value = line.partition(":")
    name = name.lower()
    usual = USUAL_NAMES.get(name)
    if not colon or not (usual or _TOKEN.fullmatch(name)):
        return ("", ""), Kind.NO_FIELD
    return (usual or name, value.strip(" \t")), _KINDS.get(name)


field_line_again = lru_cache(maxsize=512)(field_line)
"""`field_line` for the lines of small heads."""
