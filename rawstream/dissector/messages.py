"""A WebSocket message: the payloads of its frames, unmasked, joined and inflated (RFC 6455 section
5.4, RFC 7692 section 7.2.2)."""

from __future__ import annotations

import codecs
import zlib
from dataclasses import dataclass
from typing import TypeAlias

from ..limits import MIB
from .head_fields import HeadFields
from .scanner import KEPT_BYTES, counted, text_of
from .spans import Span

INFLATED_BYTES = 16 * MIB
"""A message is inflated up to this size. A small one can be a thousand times as large."""

_Inflater: TypeAlias = "zlib._Decompress"

_TAIL = b"\x00\x00\xff\xff"
"""It ends every compressed message, and is not sent."""


@dataclass(frozen=True, slots=True)
class Deflate:
    """permessage-deflate, as the response has accepted it (RFC 7692 section 7.1)."""

    client_takeover: bool
    server_takeover: bool
    """Whether the messages of that side share one context."""

    @classmethod
    def accepted_in(cls, fields: HeadFields) -> Deflate | None:
        """What a response accepts."""
        accepted = fields[b"sec-websocket-extensions"].lower().replace(b",", b";").split(b";")
        names = {part.strip() for part in accepted}
        if b"permessage-deflate" not in names:
            return None
        return cls(
            client_takeover=b"client_no_context_takeover" not in names,
            server_takeover=b"server_no_context_takeover" not in names,
        )


def masked(data: bytes, key: bytes, index: int) -> bytes:
    """Mask bytes, or unmask them: both are XOR with the key. `index` is the place of the first one
    in the payload. Without a key return them unchanged."""
    if not key or not data:
        return data
    turned = key[index % 4 :] + key[: index % 4]
    mask = (turned * (len(data) // 4 + 1))[: len(data)]
    xored = int.from_bytes(data, "big") ^ int.from_bytes(mask, "big")
    return xored.to_bytes(len(data), "big")


class Message:
    """The messages of one direction, one after the other."""

    def __init__(self, *, takes_over: bool) -> None:
        """`takes_over`: compressed messages share one context."""
        self.span: Span | None = None  # of the message under way
        self._takes_over = takes_over
        self._inflater: _Inflater | None = zlib.decompressobj(-zlib.MAX_WBITS)

    def begin(self, span: Span, *, is_text: bool, is_compressed: bool) -> None:
        """Begin a message."""
        self.span = span
        self._is_text = is_text
        self._is_compressed = is_compressed
        self._frames = 0
        self._size = 0
        self._kept = bytearray()
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        if is_compressed and not self._takes_over:
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)

    def begin_frame(self, key: bytes) -> None:
        """Begin a frame of the message."""
        self._frames += 1
        self._key = key
        self._index = 0

    def feed(self, payload: bytes) -> None:
        """Add bytes of the frame's payload, as they are on the wire."""
        plain = masked(payload, self._key, self._index)
        self._index += len(payload)
        if self._is_compressed:
            self._inflate(plain)
        else:
            self._add(plain)

    def finish(self) -> Span:
        """End the message. Return its span with its value."""
        span, self.span = self.span, None
        assert span is not None
        if self._is_compressed:
            self._inflate(_TAIL)
        self._check_text(b"", final=True, span=span)
        span.value = text_of(bytes(self._kept))
        kind = "text" if self._is_text else "binary"
        compressed = ", compressed" if self._is_compressed else ""
        if self._is_compressed and self._inflater is None:
            compressed += (
                f", inflated no further: this or an earlier one is over {INFLATED_BYTES:,}"
            )
        size, frames = counted(self._size, "byte"), counted(self._frames, "frame")
        span.detail = f"{kind}, {size}, in {frames}{compressed}"
        return span

    def _inflate(self, data: bytes) -> None:
        if self._inflater is None:
            return
        try:
            while data and self._size < INFLATED_BYTES:
                self._add(self._inflater.decompress(data, KEPT_BYTES))
                data = self._inflater.unconsumed_tail
        except zlib.error as error:
            self._mistake(f"it cannot be inflated: {error}")
            return
        if data:
            self._inflater = None  # what follows depends on what was left out

    def _add(self, plain: bytes) -> None:
        self._size += len(plain)
        self._kept += plain[: KEPT_BYTES - len(self._kept)]
        self._check_text(plain)

    def _check_text(self, plain: bytes, *, final: bool = False, span: Span | None = None) -> None:
        if self._is_text:
            try:
                self._utf8.decode(plain, final)
            except UnicodeDecodeError:
                self._mistake("text has to be UTF-8", span)

    def _mistake(self, what: str, span: Span | None = None) -> None:
        if (span := span or self.span) is not None:
            span.mistake = what
