"""A request body, read piece by piece through h11."""

from __future__ import annotations

from contextlib import suppress

import h11

from ..errors import HTTPError
from .chunk_lines import ChunkLines

YIELD_EVERY_PIECES = 64
"""Pieces of a body, already received, after which other tasks run: a chunk may be one byte long."""


class RequestBody:
    """The body of the request that a state machine of h11 is parsing."""

    def __init__(self, h11_connection: h11.Connection, *, chunked: bool) -> None:
        self.is_malformed = False
        self.pieces = 0  # passed to the handler
        self._h11 = h11_connection
        self._lines = ChunkLines() if chunked else None

    @property
    def is_over(self) -> bool:
        """Whether all of it has been read."""
        return self._h11.their_state is not h11.SEND_BODY

    @property
    def is_awaited(self) -> bool:
        """Whether the client waits for a 100 (Continue) before it sends the body."""
        return self._h11.they_are_waiting_for_100_continue

    def ask_for(self) -> bytes:
        """Return the 100 that asks for the body."""
        go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
        return self._h11.send(go_on) or b""

    def receive(self, data: bytes) -> None:
        """Add received bytes."""
        self._h11.receive_data(data)

    @property
    def behind(self) -> bytes:
        """The received bytes that follow the body."""
        return self._h11.trailing_data[0]

    def next_piece(self) -> bytes | None:
        """Return a received piece; b"" at the end, None if more must arrive. Raises `HTTPError`."""
        if self.is_malformed:
            raise HTTPError(400, "malformed request body")
        if self.is_over:
            return b""
        before = self._h11.trailing_data[0] if self._lines else b""
        try:
            event = self._h11.next_event()
        except h11.RemoteProtocolError as error:
            self.is_malformed = True
            raise HTTPError(error.error_status_hint, f"request body: {error}") from None
        if self._lines:
            self._check_lines(self._lines, before, event)
        if type(event) is h11.Data:
            return bytes(event.data)
        return None if event is h11.NEED_DATA else b""

    def _check_lines(self, lines: ChunkLines, before: bytes, event: object) -> None:
        waiting, _ = self._h11.trailing_data
        taken = before[: len(before) - len(waiting)]
        size = None if event is h11.NEED_DATA else 0
        if type(event) is h11.Data:
            size = len(event.data)
        if not lines.are_sound(taken, waiting, size):
            self.is_malformed = True
            raise HTTPError(400, "request body: malformed line end between chunks")

    def skip_received(self) -> bool:
        """Discard what has arrived of a body that will not be read. Return whether that was all
        of it."""
        with suppress(HTTPError):
            for _ in range(YIELD_EVERY_PIECES):
                piece = self.next_piece()
                if not piece:
                    return piece == b""
        return False
