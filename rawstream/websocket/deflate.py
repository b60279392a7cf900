"""permessage-deflate (RFC 7692): negotiation in the handshake, and how messages are inflated."""

from __future__ import annotations

import re
import zlib
from typing import Any

from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, Opcode, RsvBits

from ..http.request import Request

_OFFER = re.compile(  # RFC 7692 section 7.1
    r"permessage-deflate(\s*;\s*(server_no_context_takeover|client_no_context_takeover"
    r"|server_max_window_bits\s*=\s*([89]|1[0-5])"
    r"|client_max_window_bits(\s*=\s*([89]|1[0-5]))?))*"
)


def accept_deflate(request: Request) -> tuple[PerMessageDeflate, str] | None:
    """Accept the first valid offer of permessage-deflate. Return the extension, and the field
    value that accepts it (RFC 7692 section 7.1). wsproto would accept invalid offers as well."""
    for offer in request.headers.elements("sec-websocket-extensions"):
        names = [part.partition("=")[0].strip() for part in offer.split(";", 10)]
        if len(set(names)) == len(names) and _OFFER.fullmatch(offer):
            deflate = _Deflate()
            answer = deflate.accept(offer)
            if isinstance(answer, str):
                return deflate, f"{deflate.name}; {answer}" if answer else deflate.name
    return None


class _Deflate(PerMessageDeflate):
    """wsproto's permessage-deflate, with its own inflating.

    wsproto loses a compressed message when a control frame comes between its fragments. It also
    drops what follows a block marked as the last of its stream (BFINAL), which RFC 7692 section
    7.2.3.4 allows anywhere.
    """

    def __init__(self) -> None:
        super().__init__()
        self._inflater = zlib.decompressobj(-15)
        self._is_compressed = False  # of the message being received
        self._is_control = False  # of the frame being received, perhaps within that message

    def frame_inbound_header(
        self, proto: Any, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        self._is_control = opcode.iscontrol()
        if opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_compressed = rsv.rsv1
        elif rsv.rsv1:
            return CloseReason.PROTOCOL_ERROR  # only the first frame of a message may have it
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(self, proto: Any, data: bytes) -> bytes | CloseReason:
        if self._is_control or not self._is_compressed:
            return data
        return self._inflate(data)

    def frame_inbound_complete(self, proto: Any, fin: bool) -> bytes | CloseReason | None:
        if self._is_control or not self._is_compressed or not fin:
            return None
        rest = self._inflate(b"\0\0\xff\xff")  # removed by the sender; see section 7.2.2
        if self.client_no_context_takeover:
            self._inflater = zlib.decompressobj(-15)
        return rest

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        inflated = []
        try:
            while data:
                if self._inflater.eof:
                    self._inflater = zlib.decompressobj(-15)
                inflated.append(self._inflater.decompress(data))
                data = self._inflater.unused_data
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        return b"".join(inflated)
