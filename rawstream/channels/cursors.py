"""Cursors: where a client is in a channel, or in several.

    ID        EPOCH-POSITION     in one
    vector    a:ID,b:ID          in several, each by its name

To clients both are opaque: they give back what they were given. Pure functions.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from hashlib import blake2s

EPOCH = re.compile("[0-9A-Za-z]{1,64}")

UNKNOWN = "0-0"
"""A cursor that no channel knows: its reader is told of a gap."""

_NAME = "[0-9A-Za-z._~@-]{1,100}"
_PART = rf"{_NAME}:[0-9A-Za-z]{{1,64}}-[0-9]{{1,18}}"
_VECTOR = re.compile(rf"{_PART}(,{_PART})*")
_ID = re.compile(r"([0-9A-Za-z]{1,64})-([0-9]{1,18})")


def new_epoch() -> str:
    """One that no other log has."""
    return secrets.token_hex(4)


def epoch_of(name: str, generation: str) -> str:
    """That of the log of this name, which is the same whenever it is made in this generation."""
    return blake2s(f"{generation}:{name}".encode(), digest_size=4).hexdigest()


def make_id(epoch: str, position: int) -> str:
    """The cursor behind the entry at this position."""
    return f"{epoch}-{position}"


def position_in(id: str, epoch: str) -> int | None:
    """The position in the log of this epoch; None if the cursor is of another, or garbage."""
    match = _ID.fullmatch(id)
    return int(match[2]) if match and match[1] == epoch else None


def fit(id: str) -> str:
    """A cursor that may stand in a vector: this one if it can."""
    return id if _ID.fullmatch(id) else UNKNOWN


def make_vector(parts: Iterable[tuple[str, str]]) -> str:
    """The cursor of several channels, of their names and IDs."""
    return ",".join(f"{name}:{id}" for name, id in parts)


def own_part(cursor: str, name: str) -> str | None:
    """What a cursor says of the channel of this name: its part of a vector, which may have none.
    A cursor that is no vector is passed on as it is: it is this channel's, or garbage. So is any
    cursor of a channel without a name."""
    if not name or not _VECTOR.fullmatch(cursor):
        return cursor
    return dict(part.split(":") for part in cursor.split(",")).get(name)
