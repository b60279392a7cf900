"""Reading a WebSocket: from received bytes to messages, pings and the close.

    bytes -> frames --+-> whole messages in one frame, nearly all: decoded here (the lane)
                      +-> all other frames, and any incomplete one: wsproto

The lane is a shortcut. wsproto receives a frame from its first byte on, and all of it. Nothing here
is asynchronous.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TypeAlias

from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from ..limits import KIB
from .frames import decode_simple_frame, frame_bounds
from .machine import FrameMachine

INFLATE_STEP = KIB
"""Compressed bytes passed to wsproto at a time. They inflate a thousandfold at most, so that a
message is found to be too large before it takes much more than a MiB."""

TOO_BIG = 1009

Received: TypeAlias = "str | bytes | Ping | CloseConnection | None"
"""A message; a ping to be answered; a Close, or a failure to report to the client if
`wsproto.state` is still OPEN; None if a piece has been taken without any of them at its end."""


class FrameReader:
    """The bytes received from a client, and the messages and control frames in them."""

    def __init__(
        self, machine: FrameMachine, max_size: int, *, deflating: bool, shortcuts: bool
    ) -> None:
        """Without `shortcuts` wsproto decodes every frame."""
        self._lane_open = shortcuts and not deflating
        self._machine = machine
        self._max_size = max_size
        self._deflating = deflating
        self._data = b""
        self._start = 0  # where the bytes not yet taken begin
        self.has_more = False  # whether there are bytes not yet taken
        self._has_ended = False
        self.is_over = False  # set when nothing more is to be read
        self._left = 0  # bytes that wsproto still has to receive of a frame
        self._in_message = False  # between the fragments of a message
        self._text: io.StringIO | None = None  # the message being received, of either kind
        self._binary = bytearray()
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Add received bytes; b"" is the end of input."""
        self._has_ended = not data
        self._data, self._start = self._data[self._start :] + data, 0
        self.has_more = bool(self._data)

    def close_lane(self) -> None:
        """Leave all frames to wsproto: messages are no longer wanted, everything else is."""
        self._lane_open = False

    def take_message(self) -> str | bytes | None:
        """Take a message by the lane. Take nothing and return None unless one is next and whole."""
        if not self._lane_open or self._left or self._in_message:
            return None
        data, start = self._data, self._start
        found = frame_bounds(data, start)
        if found is None:
            return None
        payload, end = found
        if end - payload > self._max_size:
            return None
        message = decode_simple_frame(data, start, payload, end)
        if message is not None:
            self._advance(end)
        return message

    def take(self) -> Iterator[Received]:
        """Yield all that is in the bytes so far, one by one. Nothing is taken before it is asked
        for. After a None or a message the rest can be left to another call."""
        while self._data:
            message = self.take_message()
            if message is not None:
                yield message
                continue
            if not self._left and not self._enter_frame():
                break
            size = min(self._left, INFLATE_STEP) if self._deflating else self._left
            piece = self._data[self._start : self._start + size]
            self._advance(self._start + len(piece))
            self._left -= len(piece)
            self._machine.wsproto.receive_data(piece)
            yield from self._events()
            yield None
        if self._has_ended:
            self._machine.wsproto.receive_data(None)
            yield from self._events()

    def _advance(self, start: int) -> None:
        self._start = start
        if start == len(self._data):
            self._data, self._start = b"", 0  # do not hold memory: there may be many idle clients
            self.has_more = False

    def _enter_frame(self) -> bool:
        """Count what wsproto gets of the next frame; return False if its header is incomplete."""
        found = frame_bounds(self._data, self._start)
        if found is None:
            return False
        self._left = found[1] - self._start
        first = self._data[self._start]
        if not first & 0x08:  # not a control frame
            self._in_message = not first & 0x80
        return True

    def _events(self) -> Iterator[Received]:
        for event in self._machine.wsproto.events():
            if isinstance(event, TextMessage | BytesMessage):
                if (message := self._assembled(event)) is not None:
                    yield message
            elif isinstance(event, Ping | CloseConnection):
                yield event

    def _assembled(self, event: TextMessage | BytesMessage) -> str | bytes | CloseConnection | None:
        """Return the message that this piece completes, or None; a Close if it is too large."""
        data = event.data
        self._size += len(data.encode()) if isinstance(data, str) else len(data)
        if self._size > self._max_size:
            return CloseConnection(TOO_BIG, f"message larger than {self._max_size} bytes")
        if isinstance(data, bytes | bytearray):
            self._binary += data
        else:
            self._text = self._text or io.StringIO()
            self._text.write(data)
        if not event.message_finished:
            return None
        message = bytes(self._binary) if self._text is None else self._text.getvalue()
        self._text, self._binary = None, bytearray()
        self._size = 0
        return message
