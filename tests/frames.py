"""A client of HTTP/2 that makes its frames by hand (RFC 9113), so that they may be wrong."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import trio
from hpack import Decoder
from hpack.hpack import encode_integer
from hyperframe.frame import Frame
from peers import PATIENCE, Peer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE = range(9)
CONTINUATION, ALTSVC, PRIORITY_UPDATE, UNKNOWN = 0x9, 0xA, 0x10, 0xBE

END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20

(
    NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED,
    FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM,
) = range(12)  # fmt: skip

TABLE_SIZE, PUSH, STREAMS, WINDOW, FRAME_SIZE, LIST_SIZE = range(1, 7)

Pairs = list[tuple[bytes, bytes]]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def settings(*pairs: tuple[int, int], flags: int = 0) -> bytes:
    return frame(SETTINGS, flags, 0, b"".join(struct.pack("!HI", *pair) for pair in pairs))


def block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Fields as literals that no table remembers (RFC 7541 section 6.2.2)."""
    return b"".join(_literal(name, value) for name, value in fields)


@lru_cache(1000)  # floods repeat them
def _literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + _text(name) + _text(value)


def _text(value: bytes) -> bytes:
    return bytes(encode_integer(len(value), 7)) + value


def fields(path: bytes = b"/", method: bytes = b"GET", *more: tuple[bytes, bytes]) -> Pairs:
    return [
        (b":method", method),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
        *more,
    ]


def head(stream: int, pairs: Pairs, flags: int = END_STREAM | END_HEADERS) -> bytes:
    return frame(HEADERS, flags, stream, block(pairs))


def get(stream: int, path: bytes = b"/", *more: tuple[bytes, bytes]) -> bytes:
    return head(stream, fields(path, b"GET", *more))


def post(stream: int, path: bytes = b"/echo", *more: tuple[bytes, bytes]) -> bytes:
    """The head of a request whose body follows."""
    return head(stream, fields(path, b"POST", *more), END_HEADERS)


def data(stream: int, payload: bytes = b"", *, last: bool = False) -> bytes:
    return frame(DATA, END_STREAM if last else 0, stream, payload)


def reset(stream: int, code: int = CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack("!I", code))


def window(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack("!I", increment))


def ping(payload: bytes = b"12345678", flags: int = 0) -> bytes:
    return frame(PING, flags, 0, payload)


def priority(stream: int, on: int = 0) -> bytes:
    return frame(PRIORITY, 0, stream, struct.pack("!IB", on, 15))


def goaway(last: int = 0, code: int = NO_ERROR, *, stream: int = 0) -> bytes:
    return frame(GOAWAY, 0, stream, struct.pack("!II", last, code))


class FramePeer:
    """The client's end of a connection of HTTP/2, and what it has been told."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.frames: list[Frame] = []
        self.heads: dict[int, dict[bytes, bytes]] = {}
        self.interim: list[int] = []
        """The streams that got a 1xx."""
        self.trailers: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goaways: list[tuple[int, int, bytes]] = []
        """Last stream, code and reason."""
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.is_closed = False
        self.answers_pings = False
        self._decoder = Decoder()
        self._rest = b""

    async def open(self, *pairs: tuple[int, int]) -> FramePeer:
        """Send the preface and these settings."""
        await self.send(PREFACE + settings(*pairs))
        return self

    async def send(self, frames: bytes, *, step: int = 0) -> None:
        await self.peer.send(frames, step=step)

    async def until(self, happened: Callable[[], object], patience: float = PATIENCE) -> None:
        """Read until this is so."""
        with trio.fail_after(patience):
            while not happened():
                assert await self.read(), f"the server closed after {self.frames[-3:]}"

    async def to_end(self, patience: float = PATIENCE) -> None:
        """Read until the server closes."""
        with trio.fail_after(patience):
            while await self.read():
                pass

    async def over(self, *streams: int, patience: float = PATIENCE) -> None:
        """Read until these streams have ended or were reset."""
        await self.until(
            lambda: all(s in self.ended or s in self.resets for s in streams), patience
        )

    async def is_alive(self, stream: int = 9_001) -> None:
        """Check that the connection goes on: a ping is answered, and so is a request."""
        await self.send(ping(b"alive???") + get(stream, b"/ok"))
        await self.over(stream)
        assert b"alive???" in self.pongs
        assert self.status(stream) == 200
        assert self.bodies[stream] == b"ok\n"

    def was_reset(self, stream: int) -> Callable[[], bool]:
        """For `until`."""
        return lambda: stream in self.resets

    def status(self, stream: int) -> int:
        return int(self.heads[stream][b":status"])

    async def read(self) -> bool:
        """Read once. Return False at the end."""
        try:
            received = await self.peer.stream.receive_some()
        except trio.BrokenResourceError:
            received = b""
        if not received:
            self.is_closed = True
            return False
        self._rest += received
        for made in self._whole():
            self.frames.append(made)
            self._note(made)
            if self.answers_pings and made.type == PING and "ACK" not in made.flags:
                await self.send(ping(self.pings[-1], ACK))
        return True

    def _whole(self) -> list[Frame]:
        """Take the frames that have come whole."""
        found, start, view = list[Frame](), 0, memoryview(self._rest)
        while len(view) >= start + 9:
            made, length = Frame.parse_frame_header(view[start : start + 9])
            if len(view) < start + 9 + length:
                break
            made.parse_body(view[start + 9 : start + 9 + length])
            found.append(made)
            start += 9 + length
        self._rest = self._rest[start:]
        return found

    def _note(self, made: Any) -> None:
        stream = made.stream_id
        match made.type:
            case 0x1:
                assert "END_HEADERS" in made.flags
                received = dict(self._decoder.decode(made.data, raw=True))
                if received.get(b":status", b"").startswith(b"1"):
                    self.interim.append(stream)
                elif stream in self.heads:
                    self.trailers[stream] = received
                else:
                    self.heads[stream] = received
                    self.bodies[stream] = bytearray()
            case 0x0:
                assert stream not in self.ended
                assert stream not in self.resets
                self.bodies[stream] += made.data
            case 0x3:
                self.resets.setdefault(stream, made.error_code)
            case 0x7:
                self.goaways.append((made.last_stream_id, made.error_code, made.additional_data))
            case 0x6:
                (self.pongs if "ACK" in made.flags else self.pings).append(made.opaque_data)
        if made.type in (0x0, 0x1) and "END_STREAM" in made.flags:
            self.ended.add(stream)
