"""Presence over all processes: each tells Redis its own members, and reads who there is in all."""

from __future__ import annotations

import json
from collections.abc import Callable

from ..channels.channel import Channel
from ..errors import Unavailable
from ..named_channels.presence import Presence
from .mirror import Mirror
from .scripts import Opened, Place, Stored


class SharedPresence(Presence):
    """The readers of a channel in all processes. `count` and `members` are known once
    `await channels.ready("NAME@presence")` has returned: they are those after the last entry that
    was read."""

    def __init__(self, name: str, tell: Callable[[str | None, int], None]) -> None:
        """`tell` is called with a member and its connections in this process."""
        super().__init__(name, None)
        self._tell = tell
        self._here: dict[str | None, int] = {}  # connections in this process

    @property
    def log(self) -> Channel:
        """The members that join and leave. Raises `Unavailable` before it is ready."""
        if self._log is None:
            raise Unavailable("presence was not read yet")
        return self._log

    def follow(self, mirror: PresenceMirror) -> None:
        """Read who there is from this mirror."""
        self._log = mirror

    def tell_all(self) -> None:
        """Tell all connections again, because Redis has forgotten them."""
        for member, connections in self._here.items():
            self._tell(member, connections)

    def _change(self, member: str | None, by: int) -> None:
        here = self._here.pop(member, 0) + by
        if here:
            self._here[member] = here
        self._tell(member, here)


class PresenceMirror(Mirror):
    """The mirror of a presence stream. It knows the members as they were after its last entry."""

    def __init__(self, key: str, presence: SharedPresence, opened: Opened) -> None:
        self._presence = presence
        super().__init__(presence.name, key, Channel(json=True), opened)
        self._count(opened)
        self.needs_opening = False
        presence.follow(self)

    def reopen(self, opened: Opened) -> None:
        """Follow the stream as it is now, and take over the members."""
        super().reopen(opened)
        if self.place == opened.last:  # else more was read meanwhile
            self._count(opened)
            self.needs_opening = False

    def _count(self, opened: Opened) -> None:
        members = dict(opened.members)
        self._presence.count = members.pop("", 0)
        self._presence.members.clear()
        for text, here in members.items():
            if (name := json.loads(text)) is not None:
                self._presence.members[name] = here

    def _take_one(self, entry: Stored) -> None:
        super()._take_one(entry)
        try:
            told = json.loads(entry.data)
            name, here, self._presence.count = told["name"], told["here"], int(told["count"])
        except (ValueError, TypeError, KeyError):  # it was not written by a script of ours
            self.needs_opening = True
            return
        if name is not None:
            self._presence.members.pop(name, None)
            if here:
                self._presence.members[name] = here

    def _lose(self, to: Place) -> None:
        super()._lose(to)
        self.needs_opening = True  # who has joined or left in between?
