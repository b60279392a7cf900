"""Who is there: the readers of a channel, as a channel of its own.

`NAME@presence` has an entry for each connection that begins or ends to read NAME. Its log is made
when first asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .channel import Channel
from .formats import as_json

SUFFIX = "@presence"


class Presence:
    """Who reads a channel: every connection but polls, which come and go."""

    count: int
    """Connections."""
    members: dict[str, int]
    """Connections of each name."""

    def __init__(self, name: str, epoch: str) -> None:
        self.count = 0
        self.members = {}
        self._name = name + SUFFIX
        self._epoch: str | None = epoch
        self._log: Channel | None = None

    @property
    def log(self) -> Channel:
        """Those who join and leave: entries of type "join" and "leave" with the data `{"name":
        NAME or null, "here": connections of this name, "count": connections}`."""
        if self._log is None:
            self._log = Channel(self._name, epoch=self._epoch)
        return self._log

    @property
    def has_told_nobody(self) -> bool:
        """Whether `log` was never asked for, or has no entry."""
        return self._log is None or self._log.is_empty

    def as_json(self) -> dict[str, object]:
        """Who is there now, and the cursor of `log` to go on from."""
        return {"count": self.count, "members": self.members, "next": self.log.id_of(self.log.end)}

    @contextmanager
    def including(self, member: str | None) -> Iterator[None]:
        """One connection more, for as long as the block lasts."""
        if member is not None:
            member = member.encode("utf-8", "replace").decode()
        self._change("join", member, 1)
        try:
            yield
        finally:
            self._change("leave", member, -1)

    def _change(self, event: str, member: str | None, by: int) -> None:
        self.count += by
        here = None
        if member is not None:
            here = self.members.pop(member, 0) + by
            if here:
                self.members[member] = here
        if self._log is None:
            self._epoch = None  # this is told to nobody: no cursor from before is good any more
        else:
            self._log.publish(as_json({"name": member, "here": here, "count": self.count}), event)
