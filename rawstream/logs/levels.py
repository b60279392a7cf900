"""How severe a line of a log is, by what it says about itself. Pure functions.

The page has the same rules in `levels.js`; a test compares them.
"""

from __future__ import annotations

import re
from functools import lru_cache

from ..entries.formats import Wanted
from ..entries.log import Entry

LEVELS = ("trace", "debug", "info", "warning", "error", "fatal")
"""From the least severe to the most severe."""

LOOKED_AT = 400
"""The level is looked for in the first characters of a line."""

_WORDS = {
    "trace": 0, "verbose": 0, "10": 0,
    "debug": 1, "dbug": 1, "dbg": 1, "20": 1,
    "info": 2, "information": 2, "notice": 2, "inf": 2, "i": 2, "30": 2,
    "warning": 3, "warn": 3, "wrn": 3, "w": 3, "40": 3,
    "error": 4, "err": 4, "severe": 4, "e": 4, "50": 4,
    "exception": 4, "traceback": 4,
    "fatal": 5, "critical": 5, "crit": 5, "alert": 5, "emerg": 5, "panic": 5, "f": 5, "60": 5,
}  # fmt: skip

_NAMES = (
    "trace|verbose|debug|dbug|dbg|info|information|notice|inf|warning|warn|wrn|error|err|severe"
    "|fatal|critical|crit|alert|emerg|panic"
)
_LEVEL = re.compile(
    # {"level": "info"} and {"level": 30}; level=info; glog's "W0102 "
    r'"(?:level|lvl|severity|levelname|log\.level)" ?: ?"?(\w+)'
    r'|\b(?:level|lvl|severity)="?(\w+)'
    r"|^([IWEF])[0-9]{4} "
    # INFO; [info], <info>, (info); error: at the beginning; ValueError: of a traceback
    rf"|\b({_NAMES.upper()})\b"
    rf"|[\[<(]({_NAMES})[\]>)]"
    rf"|(?:^|: )({_NAMES}): "
    r"|^\w*(Error|Exception)\b|^(Traceback) "
)
_ESCAPE = re.compile("\x1b\\[[0-9;:?]*[a-zA-Z]")


def level_of(text: str) -> int | None:
    """The level of a line, a place in `LEVELS`; None if it has none."""
    start = text[:LOOKED_AT]
    if "\x1b" in start:
        start = _ESCAPE.sub("", start)
    found = _LEVEL.search(start)
    if found is None:
        return None
    word = found[found.lastindex or 0].lower()
    return _WORDS.get(word)


@lru_cache(maxsize=len(LEVELS))
def at_least(name: str) -> Wanted:
    """Tell which lines are at least this severe; those without a level are not. Raises
    `ValueError` for a name that is none of `LEVELS`."""
    if name not in LEVELS:
        raise ValueError(f"only is one of {', '.join(LEVELS)}")
    least = LEVELS.index(name)

    def is_wanted(entry: Entry) -> bool:
        if entry.event is not None:  # what is no line, like an exit status
            return True
        level = level_of(entry.data)
        return level is not None and level >= least

    return is_wanted
