"""The names of logs: a channel's name for each path, as short as they stay apart."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

LONGEST_NAME = 64


def names_of(paths: Iterable[Path], taken: Collection[str] = ()) -> dict[str, Path]:
    """Return the paths by name. A name is the last parts of the path, as many as are needed to tell
    it from the others, and from the names that are taken."""
    left = list(dict.fromkeys(path.absolute() for path in paths))
    named: dict[str, Path] = {}
    parts = 1
    while left:
        names = [_joined(path, parts) for path in left]
        for path, name in zip(list(left), names, strict=True):
            is_free = name not in named and name not in taken and names.count(name) == 1
            if is_free or parts >= len(path.parts):
                named[name_of(name, {*named, *taken})] = path
                left.remove(path)
        parts += 1
    return named


def name_of(text: str, taken: Collection[str] = ()) -> str:
    """Return a valid name that is like a text, and is not taken."""
    name = re.sub("[^0-9A-Za-z._~-]", "_", text)[-LONGEST_NAME:] or "_"
    number = 2
    found = name
    while found in taken:
        found = f"{name[: LONGEST_NAME - 5]}~{number}"
        number += 1
    return found


def _joined(path: Path, parts: int) -> str:
    return name_of(".".join(part.strip("/") for part in path.parts[-parts:]))
