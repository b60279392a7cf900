"""Cursors: where a reader is in one channel, or in several.

    ID        EPOCH-POSITION     in one channel
    vector    a:ID,b:ID          in several channels, each by its name
    0                            before the first entry there is

Apart from the 0, clients take cursors as opaque: they send back what they were sent. Pure
functions.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from hashlib import blake2s

EPOCH = re.compile("[0-9A-Za-z]{1,64}")

BEGINNING = "0"
"""The cursor before the first entry that a log holds."""

UNKNOWN = "0-0"
"""A cursor that no log knows: its reader is told of a gap."""

_NAME = "[0-9A-Za-z._~@-]{1,100}"
_PART = rf"{_NAME}:([0-9A-Za-z]{{1,64}}-[0-9]{{1,18}}|{BEGINNING})"
_VECTOR = re.compile(rf"{_PART}(,{_PART})*")
_ID = re.compile(r"([0-9A-Za-z]{1,64})-([0-9]{1,18})")


def new_epoch() -> str:
    """An epoch that no other log has."""
    return secrets.token_hex(4)


def epoch_of(name: str, generation: str) -> str:
    """The epoch of the log of this name: the same each time it is made in this generation."""
    return blake2s(f"{generation}:{name}".encode(), digest_size=4).hexdigest()


def make_id(epoch: str, position: int) -> str:
    """The ID of the entry at this position, which is the cursor after it."""
    return f"{epoch}-{position}"


def position_in(id: str, epoch: str) -> int | None:
    """The position in the log of this epoch; None if the cursor is not one of its IDs."""
    match = _ID.fullmatch(id)
    return int(match[2]) if match and match[1] == epoch else None


def fit(id: str) -> str:
    """A cursor that is valid in a vector: this one, or else `UNKNOWN`."""
    return id if _ID.fullmatch(id) else UNKNOWN


def make_vector(parts: Iterable[tuple[str, str]]) -> str:
    """The cursor of several channels, from their names and IDs."""
    return ",".join(f"{name}:{id}" for name, id in parts)


def own_part(cursor: str, name: str) -> str | None:
    """The part of a cursor that belongs to the channel of this name; None if a vector has none.

    A cursor that is not a vector is returned unchanged: it is an ID of this channel, or invalid.
    For a channel without a name that holds for every cursor.
    """
    if not name or not _VECTOR.fullmatch(cursor):
        return cursor
    return dict(part.split(":") for part in cursor.split(",")).get(name)
