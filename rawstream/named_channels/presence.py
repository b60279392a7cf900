"""Presence: the readers of a channel, as a channel of its own.

`NAME@presence` gets an entry whenever a connection starts or stops reading NAME. Its log is made
when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..channels.channel import Channel

SUFFIX = "@presence"


class Presence:
    """The readers of a channel: all its connections except polls, which come and go."""

    count: int
    """The number of connections."""
    members: dict[str, int]
    """The number of connections of each named member."""
    name: str
    """The name of `log`."""

    def __init__(self, name: str, epoch: str | None) -> None:
        self.count = 0
        self.members = {}
        self.name = name + SUFFIX
        self._epoch = epoch
        self._log: Channel | None = None

    @property
    def log(self) -> Channel:
        """The members that join and leave: entries of type "join" and "leave" with the data
        `{"name": NAME or null, "here": connections of this name, "count": all connections}`."""
        if self._log is None:
            self._log = Channel(self.name, epoch=self._epoch, json=True)
        return self._log

    @property
    def is_untold(self) -> bool:
        """Whether `log` was never asked for, or has no entry."""
        return self._log is None or self._log.is_empty

    @property
    def has_readers(self) -> bool:
        """Whether `log` is being read."""
        return self._log is not None and self._log.fan_out.has_readers

    def as_json(self) -> dict[str, object]:
        """The members now, and the cursor at which to continue in `log`."""
        return {"count": self.count, "members": self.members, "next": self.log.id_of(self.log.end)}

    @contextmanager
    def including(self, member: str | None) -> Iterator[None]:
        """Count one more connection, for as long as the block lasts."""
        if member is not None:
            member = member.encode("utf-8", "replace").decode()
        self._change(member, 1)
        try:
            yield
        finally:
            self._change(member, -1)

    def _change(self, member: str | None, by: int) -> None:
        self.count += by
        here = None
        if member is not None:
            here = self.members.pop(member, 0) + by
            if here:
                self.members[member] = here
        if self._log is None:
            self._epoch = None  # nobody was told: cursors from before are no longer valid
        elif not self._log.is_closed:
            told = {"name": member, "here": here, "count": self.count}
            self._log.publish(event="join" if by > 0 else "leave", json=told)
