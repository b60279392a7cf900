"""Where a client resumes in a channel."""

from __future__ import annotations

from collections.abc import Sequence

from ..entries.cursors import BEGINNING, make_vector, own_part
from .channel import Channel

MAX_CURSOR_CHARACTERS = 200
"""Characters of a client's cursor that are repeated in a gap."""


class ResumePoint:
    """Where a client resumes. Find it before the head of the response is sent: an entry that is
    published after the client has seen the head must reach it."""

    def __init__(self, channel: Channel, cursor: str | None, last: int = 0) -> None:
        """`cursor` is the client's, valid or not. Without one it starts `last` entries before the
        present."""
        self.cursor = cursor and own_part(cursor, channel.name)
        self.position, self.is_lost = channel.resume(self.cursor, last)
        if self.cursor == BEGINNING and self.position == channel.end:
            self.cursor = None  # no entry tells the client where it is, so the place is told

    @classmethod
    def of_each(
        cls, channels: Sequence[Channel], cursor: str | None, last: int
    ) -> list[ResumePoint]:
        """The points in several channels, whose cursor is a vector. An ID of the first channel is
        the cursor of a client that has read only that channel until now."""
        if cursor and channels and channels[0].position_of(cursor) is not None:
            cursor = make_vector([(channels[0].name, cursor)])
        return [cls(channel, cursor, last) for channel in channels]

    @property
    def lost_from(self) -> str:
        """The client's cursor, as a gap repeats it."""
        return (self.cursor or "")[:MAX_CURSOR_CHARACTERS].encode("utf-8", "replace").decode()
