"""Where a client goes on from in a channel."""

from __future__ import annotations

from collections.abc import Sequence

from .channel import Channel
from .cursors import make_vector, own_part, position_in

MAX_CURSOR_CHARACTERS = 200
"""Characters of a cursor that are said back in a gap."""


class ResumePoint:
    """Where a client goes on from. To be found before it is answered: whatever is published after
    it has seen the head of its answer must reach it."""

    def __init__(self, channel: Channel, cursor: str | None, last: int = 0) -> None:
        """`cursor` is as the client brought it; without one it begins `last` entries back."""
        self.cursor = cursor and own_part(cursor, channel.name)
        self.position, self.is_lost = channel.resume(self.cursor)
        if self.cursor is None:
            self.position = max(channel.start, self.position - last)

    @classmethod
    def of_each(
        cls, channels: Sequence[Channel], cursor: str | None, last: int
    ) -> list[ResumePoint]:
        """The same in several channels, whose cursor is a vector. One that is the first's alone is
        of a client that has read nothing but that until now."""
        if cursor and channels and position_in(cursor, channels[0].epoch) is not None:
            cursor = make_vector([(channels[0].name, cursor)])
        return [cls(channel, cursor, last) for channel in channels]

    @property
    def lost_from(self) -> str:
        """The cursor behind which entries are lost, fit to be said back."""
        return (self.cursor or "")[:MAX_CURSOR_CHARACTERS].encode("utf-8", "replace").decode()
