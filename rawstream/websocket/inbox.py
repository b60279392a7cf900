"""Messages received and not yet asked for, bounded by their count and their size."""

from __future__ import annotations

from collections import deque

from ..limits import Limits


class Inbox:
    """A bounded queue in front of the handler."""

    def __init__(self, limits: Limits) -> None:
        self.messages: deque[str | bytes] | None = None  # an empty one takes more than 600 bytes
        self._limits = limits
        self._size = 0

    @property
    def is_full(self) -> bool:
        """Whether reading has to stop."""
        limits, count = self._limits, len(self.messages or ())
        return count >= limits.message_queue or self._size >= limits.message_queue_bytes

    def add(self, message: str | bytes) -> None:
        """Append a message."""
        if self.messages is None:
            self.messages = deque()
        self.messages.append(message)
        self._size += len(message)

    def take(self) -> str | bytes:
        """Take the first message; there must be one."""
        assert self.messages is not None
        message = self.messages.popleft()
        self._size -= len(message)
        return message

    def clear(self) -> None:
        """Drop all messages."""
        self.messages = None
        self._size = 0
