"""The names of logs: a channel's name for each path, as short as they stay apart."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

LONGEST_NAME = 64


def names_of(paths: Iterable[Path]) -> dict[str, Path]:
    """Return the paths by name. A name is the last parts of the path, as many as are needed."""
    left = list(dict.fromkeys(path.absolute() for path in paths))
    named: dict[str, Path] = {}
    parts = 1
    while left:
        names = [_name(path, parts) for path in left]
        for path, name in zip(list(left), names, strict=True):
            if (names.count(name) == 1 and name not in named) or parts >= len(path.parts):
                while name in named:
                    name = f"{name[: LONGEST_NAME - 1]}~"
                named[name] = path
                left.remove(path)
        parts += 1
    return named


def _name(path: Path, parts: int) -> str:
    name = ".".join(part.strip("/") for part in path.parts[-parts:])
    return re.sub("[^0-9A-Za-z._~-]", "_", name)[-LONGEST_NAME:]
