"""What a client of HTTP/2 may ask for without sending anything of use, and how much of it.

Frames are cheap to send and dear to handle. RFC 9113 section 10.5 lists what can be abused, and
attacks have followed: streams opened and reset (CVE-2023-44487), or opened and broken, so that the
server resets them (CVE-2025-8671), field blocks without an end (CVE-2024-27316), floods of pings,
settings and empty frames (CVE-2019-9512, 9515, 9518), windows opened byte by byte (CVE-2019-9511).
Each of these has a `Budget` here, which fills up again with time, or with what is done for the
client. A client that exceeds one is told ENHANCE_YOUR_CALM.

The guard looks only at the heads of frames (RFC 9113 section 4.1), before h2 sees any of their
bytes. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from h2.errors import ErrorCodes

from ..limits import Limits

PREFACE_BYTES = 24
"""What a client sends before its first frame (RFC 9113 section 3.4)."""

FRAME_HEAD = 9
LARGEST_FRAME = 16_384
"""SETTINGS_MAX_FRAME_SIZE, as it is unless a server says otherwise."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    0x0, 0x1, 0x2, 0x3, 0x4, 0x6, 0x7, 0x8, 0x9,
)  # fmt: skip
ACK, END_HEADERS = 0x1, 0x4

PRIORITY_UPDATE = 0x10
"""What browsers send in place of PRIORITY (RFC 9218 section 7.1). h2 does not know it."""

GOAWAY_BYTES = 8
"""Of a GOAWAY, at least (RFC 9113 section 6.8)."""

CONTINUATIONS = 32
"""Frames that a field block may be cut into besides its first. Two of full size hold the largest
head."""

FRAMES_TOGETHER = 64
"""Frames that are handled before other tasks run."""

SETTINGS_BYTES = 36
"""A frame of settings counts once for every six of them, which are all that are defined."""


class BrokenProtocol(Exception):
    """The connection cannot go on. The client is sent GOAWAY with this code and reason."""

    def __init__(self, code: ErrorCodes, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Budget:
    """How often something may happen: `burst` times at once, and `rate` times a second for long."""

    __slots__ = ("_burst", "_left", "_now", "_rate", "_refilled", "_what")

    def __init__(self, what: str, burst: float, rate: float, now: Callable[[], float]) -> None:
        self._what = what
        self._burst = burst
        self._rate = rate
        self._now = now
        self._left = burst
        self._refilled = now()

    def spend(self, times: float = 1) -> None:
        """It has happened. Raises `BrokenProtocol` if that was too often."""
        self._left -= times
        if self._left < 0:
            now = self._now()
            self.refill((now - self._refilled) * self._rate)
            self._refilled = now
            if self._left < 0:
                raise BrokenProtocol(ErrorCodes.ENHANCE_YOUR_CALM, f"too many {self._what}")

    def refill(self, times: float) -> None:
        """It may happen more often."""
        self._left = min(self._burst, self._left + times)


class FrameHead(NamedTuple):
    """The head of a frame."""

    length: int
    kind: int
    flags: int
    stream: int


class FrameGuard:
    """Watches the frames that a client sends."""

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        self._limits = limits
        self._now = now
        self._head = b""  # of the next frame, as far as it has arrived
        self._left = PREFACE_BYTES  # that are still to come of the frame under way
        self._is_dropped = False  # that frame
        self._is_first = True  # the next frame
        self._highest = 0  # the stream last opened
        self._block_stream = 0  # of the field block under way: its stream,
        self._block_bytes = 0  # its bytes so far,
        self._continuations = 0  # and its frames after the first
        self.block_began: float | None = None
        """When the field block under way has begun. It has the time of a request's head."""
        self.has_said_goodbye = False
        """Whether the client has sent GOAWAY: it opens no more streams, and waits for the rest."""
        self.resets = Budget("resets", 2 * limits.streams, 20, now)
        """Streams that the client resets, or that are reset because of its mistakes. A browser that
        leaves a page resets all that are open."""
        self.tiny_pieces = Budget("bytes of window at a time", 200, 10, now)
        """Pieces of a response cut short because the client opens its window by a few bytes."""
        self.window_updates = Budget("window updates", 1_000, 100, now)
        """Filled up with each DATA frame that is sent. Clients answer one with two at most: for the
        stream, and for the connection."""
        self.useless = Budget("frames of no use", 50, 5, now)
        """Those that are empty, or padding alone, or unknown."""
        self._settings = Budget("settings", 20, 1, now)
        self._pings = Budget("pings", 50, 5, now)
        self._priorities = Budget("priorities", 2 * limits.streams, 20, now)

    def admit(self, data: bytes) -> Iterator[bytes]:
        """Yield what h2 may see of received bytes, a few frames at a time. Raises `BrokenProtocol`
        where they go too far."""
        data = self._head + data
        self._head = b""
        start = at = 0  # what is yielded next begins at `start`
        frames = 0
        while True:
            if self._left:
                size = min(self._left, len(data) - at)
                self._left -= size
                at += size
                if self._is_dropped:
                    start = at
                if self._left:
                    break
            if len(data) - at < FRAME_HEAD:
                break
            head = _head_at(data, at)
            # GOAWAY is dropped: h2 would take it for the end, but the client still waits for the
            # responses to what it has asked (RFC 9113 section 6.8).
            dropped = head.kind == GOAWAY
            frames += 1
            if dropped or frames > FRAMES_TOGETHER:
                if start < at:
                    yield data[start:at]
                start, frames = at, 1
            try:
                self._check(head)
            except BrokenProtocol:
                # A mistake in a frame before this one comes first.
                if start < at:
                    yield data[start:at]
                raise
            at += FRAME_HEAD
            if dropped:
                self.has_said_goodbye = True
                start = at
            self._left, self._is_dropped = head.length, dropped
        if start < at:
            yield data[start:at]
        self._head = data[at:]

    def _check(self, head: FrameHead) -> None:
        if head.length > LARGEST_FRAME:
            raise BrokenProtocol(ErrorCodes.FRAME_SIZE_ERROR, "a frame larger than 16,384 bytes")
        kind = head.kind
        if self._is_first:
            if kind != SETTINGS or head.flags & ACK:  # RFC 9113 section 3.4
                raise BrokenProtocol(ErrorCodes.PROTOCOL_ERROR, "no SETTINGS at first")
            self._is_first = False
        if kind == CONTINUATION or self.block_began is not None:
            self._check_continuation(head)
        elif kind == HEADERS:
            self._check_headers(head)
        elif kind == DATA:
            if not head.length:
                self.useless.spend()
        elif kind == WINDOW_UPDATE:
            self.window_updates.spend()
        elif kind == RST_STREAM:
            if head.stream > self._highest or not head.stream % 2:  # h2 would ignore it
                raise BrokenProtocol(ErrorCodes.PROTOCOL_ERROR, "RST_STREAM of an idle stream")
            self.resets.spend()
        elif kind == SETTINGS:
            if head.flags & ACK and head.length:
                raise BrokenProtocol(ErrorCodes.FRAME_SIZE_ERROR, "an ACK with settings")
            self._settings.spend(1 + head.length // SETTINGS_BYTES)
        elif kind == PING:
            if not head.flags & ACK:
                self._pings.spend()
        elif kind in (PRIORITY, PRIORITY_UPDATE):
            self._priorities.spend()
        else:
            # Unknown frames are ignored (RFC 9113 section 5.5), but not without end.
            self.useless.spend()
            if kind == GOAWAY:
                _check_goaway(head)

    def _check_headers(self, head: FrameHead) -> None:
        """Requests entitle a client to some frames."""
        self._highest = max(self._highest, head.stream)
        self.useless.refill(1)  # the end of its body may be an empty frame,
        self._priorities.refill(2)  # a page is sorted anew as it is shown,
        self.window_updates.refill(1)  # and some clients open each window before they need it
        if not head.flags & END_HEADERS:
            self.block_began = self._now()
            self._block_stream = head.stream
            self._block_bytes = head.length
            self._continuations = 0

    def _check_continuation(self, head: FrameHead) -> None:
        """Field blocks have no length: they go on until END_HEADERS (RFC 9113 section 6.10)."""
        if self.block_began is None:
            raise BrokenProtocol(ErrorCodes.PROTOCOL_ERROR, "CONTINUATION of nothing")
        if head.kind != CONTINUATION or head.stream != self._block_stream:
            raise BrokenProtocol(ErrorCodes.PROTOCOL_ERROR, "a field block interrupted")
        self._block_bytes += head.length
        self._continuations += 1
        if self._block_bytes > 2 * self._limits.head_bytes or self._continuations > CONTINUATIONS:
            raise BrokenProtocol(ErrorCodes.ENHANCE_YOUR_CALM, "a field block too large")
        if head.flags & END_HEADERS:
            self.block_began = None


def _check_goaway(head: FrameHead) -> None:
    """RFC 9113 section 6.8."""
    if head.stream:
        raise BrokenProtocol(ErrorCodes.PROTOCOL_ERROR, "GOAWAY of a stream")
    if head.length < GOAWAY_BYTES:
        raise BrokenProtocol(ErrorCodes.FRAME_SIZE_ERROR, "GOAWAY too short")


def _head_at(data: bytes, at: int) -> FrameHead:
    return FrameHead(
        int.from_bytes(data[at : at + 3], "big"),
        data[at + 3],
        data[at + 4],
        int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFF_FFFF,
    )
