"""Messages received and not yet asked for, bounded by their count and their size."""

from __future__ import annotations

from collections import deque

import trio

from ..limits import Limits


class Inbox:
    """A bounded queue between the task that reads and the handler."""

    def __init__(self, limits: Limits) -> None:
        self.messages = deque[str | bytes]()
        self._limits = limits
        self._size = 0
        self._room: trio.Event | None = None  # set when a message is taken or dropped

    @property
    def is_full(self) -> bool:
        """Whether reading has to stop."""
        limits = self._limits
        return (
            len(self.messages) >= limits.message_queue or self._size >= limits.message_queue_bytes
        )

    def add(self, message: str | bytes) -> None:
        """Append a message."""
        self.messages.append(message)
        self._size += len(message)

    def take(self) -> str | bytes:
        """Take the first message; there must be one."""
        message = self.messages.popleft()
        self._size -= len(message)
        self._make_room()
        return message

    def clear(self) -> None:
        """Drop all messages."""
        self.messages.clear()
        self._size = 0
        self._make_room()

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set()

    async def wait_for_room(self) -> None:
        """Wait until a message is taken or dropped."""
        self._room = trio.Event()
        await self._room.wait()
