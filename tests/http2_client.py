"""A client of HTTP/2 for tests written in the bytes of HTTP/1.1, as a proxy between the two.

    b"GET / HTTP/1.1\\r\\n..."     ->  HEADERS
    b"HTTP/1.1 200 OK\\r\\n..."    <-  HEADERS
    b"5\\r\\nhello\\r\\n"           <-  DATA: one frame, one chunk
    b"0\\r\\n\\r\\n"               <-  END_STREAM

One request follows another on one connection, as over HTTP/1.1. A handshake for WebSocket becomes an
extended CONNECT (RFC 8441). A stream that is reset is the end of the bytes, because there the other
server would close. What is written about frames themselves does not belong here.
"""

from __future__ import annotations

import base64
import hashlib
from collections import deque

import h11
import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame, GoAwayFrame

from rawstream.errors import reason_phrase

WINDOW = 1 << 20
"""Bytes of a stream that may be under way. A piece of less remains one frame, as it is one chunk."""

Fields = list[tuple[bytes, bytes]]

_OF_CONNECTIONS = {b"connection", b"host", b"keep-alive", b"transfer-encoding", b"upgrade"}


class _Machine(H2Connection):
    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        """Do nothing: streams go on, and h2 would refuse all that follows."""
        return [], []


class Http2Stream(trio.abc.Stream):
    """The client's end of a connection of HTTP/2, for bytes of HTTP/1.1."""

    def __init__(self, carrier: trio.abc.Stream) -> None:
        self.carrier = carrier
        self._http1 = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        self._http2 = _Machine(H2Configuration(client_side=True, header_encoding=None))
        self._http2.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
                SettingCodes.MAX_FRAME_SIZE: WINDOW,
            },
        )
        self._http2.max_inbound_frame_size = WINDOW
        self._http2.initiate_connection()
        self._http2.increment_flow_control_window(16 * WINDOW)  # no stream waits for others
        self._stream = 0  # of the last request
        self._key: bytes | None = None  # of a handshake that is not answered yet
        self._is_tunnel = False  # after a handshake
        self._goes_on = False  # what comes after the request may be here already
        self._head = b""  # of a response whose body has not begun
        self._trailers: Fields = []
        self._received = deque[bytes]()  # one piece for each frame
        self._ended = False
        self._reading = trio.Lock()

    # -- Out ------------------------------------------------------------------------------------

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_tunnel:
            await self._send_data(bytes(data))
        else:
            self._http1.receive_data(bytes(data))
            await self._ask()

    async def _ask(self) -> None:
        """Send what has come of requests."""
        while True:
            event = self._http1.next_event()
            if isinstance(event, h11.Request):
                await self._open(event)
            elif isinstance(event, h11.Data):
                await self._send_data(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                if self._key is None and not self._ended:
                    self._http2.send_data(self._stream, b"", end_stream=True)
                    await self._flush()
            else:  # h11.NEED_DATA, or h11.PAUSED until the answer is there
                return

    async def _open(self, request: h11.Request) -> None:
        values = dict(request.headers)
        fields = [field for field in request.headers if field[0] not in _OF_CONNECTIONS]
        pseudo = [(b":method", request.method), (b":scheme", self._scheme)]
        pseudo += [(b":path", request.target), (b":authority", values[b"host"])]
        self._stream = self._http2.get_next_available_stream_id()
        if values.get(b"upgrade") == b"websocket":
            self._key = values[b"sec-websocket-key"]
            pseudo[0] = (b":method", b"CONNECT")
            pseudo.append((b":protocol", b"websocket"))
            fields = [field for field in fields if field[0] != b"sec-websocket-key"]
            await self._flush()
            while not self._http2.remote_settings.enable_connect_protocol:
                await self._read()  # the server's settings
        self._http2.send_headers(self._stream, pseudo + fields)
        await self._flush()

    @property
    def _scheme(self) -> bytes:
        return b"https" if isinstance(self.carrier, trio.SSLStream) else b"http"

    async def _send_data(self, data: bytes) -> None:
        while data and not self._ended:
            room = self._http2.local_flow_control_window(self._stream)
            size = min(room, self._http2.max_outbound_frame_size, len(data))
            if size:
                self._http2.send_data(self._stream, data[:size])
                data = data[size:]
                await self._flush()
            else:
                async with self._reading:
                    if not self._http2.local_flow_control_window(self._stream):
                        await self._read()

    async def _flush(self) -> None:
        if made := self._http2.data_to_send():
            await self.carrier.send_all(made)

    # -- In -------------------------------------------------------------------------------------

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while not self._received and not self._ended:
            async with self._reading:
                if not self._received and not self._ended:
                    await self._read()
            if self._goes_on:
                self._goes_on = False
                if self._is_tunnel:
                    await self._send_data(self._http1.trailing_data[0])
                else:
                    await self._ask()
        if not self._received:
            return b""
        piece = self._received.popleft()
        size = len(piece) if max_bytes is None else max_bytes
        if piece[size:]:
            self._received.appendleft(piece[size:])
        return piece[:size]

    async def _read(self) -> None:
        """Take what the server has sent. Its window opens again at once: a test that reads slowly
        reads here slowly."""
        data = await self.carrier.receive_some()
        self._ended = self._ended or not data
        for event in self._http2.receive_data(data) if data else ():
            self._on_event(event)
        if not self._ended:
            await self._flush()

    def _on_event(self, event: Event) -> None:
        match event:
            case InformationalResponseReceived(headers=fields):
                self._tell(h11.InformationalResponse(status_code=_status(fields), headers=[]))
            case ResponseReceived(headers=fields):
                if self._key is not None and _status(fields) == 200:
                    self._tell(self._switching(fields))
                    self._is_tunnel = self._goes_on = True
                else:
                    status = _status(fields)
                    reason = reason_phrase(status)
                    self._tell(
                        h11.Response(status_code=status, headers=_named(fields), reason=reason)
                    )
                self._key = None
            case DataReceived(stream_id=stream, data=data, flow_controlled_length=size):
                self._http2.acknowledge_received_data(size, stream)
                if self._is_tunnel:
                    self._received.append(data)
                else:
                    self._tell(h11.Data(data))
            case TrailersReceived(headers=fields):
                self._trailers = _named(fields)
            case StreamEnded():
                self._on_end()
            case StreamReset():
                self._ended = True
            case WindowUpdated() | RemoteSettingsChanged():
                pass  # it is asked for whenever it matters

    def _on_end(self) -> None:
        if self._is_tunnel:
            self._ended = True
            return
        self._tell(h11.EndOfMessage(headers=self._trailers))
        self._trailers = []
        if self._http1.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            self._http1.start_next_cycle()
            self._goes_on = True
        elif self._http1.our_state is h11.MUST_CLOSE:
            self._ended = True

    def _switching(self, fields: Fields) -> h11.InformationalResponse:
        assert self._key is not None
        digest = hashlib.sha1(self._key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        named = [field for field in _named(fields) if field[0] != b"Date"]
        named.insert(0, (b"Sec-WebSocket-Accept", base64.b64encode(digest)))
        named[:0] = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")]
        reason = b"Switching Protocols"
        return h11.InformationalResponse(status_code=101, headers=named, reason=reason)

    def _tell(self, event: h11.Event) -> None:
        """Make this known in bytes. A head that announces a body comes with its first bytes, as our
        server sends it over HTTP/1.1."""
        told = self._head + (self._http1.send(event) or b"")
        announces = isinstance(event, h11.Response) and (b"content-length" in dict(event.headers))
        self._head = told if announces else b""
        if told and not announces:
            self._received.append(told)

    # -- The end --------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Reset the stream, as a browser does with a request that it gives up, and leave the
        connection open."""
        self._http2.reset_stream(self._stream, ErrorCodes.CANCEL)
        await self._flush()

    async def wait_send_all_might_not_block(self) -> None:
        await self.carrier.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.carrier.aclose()


def _status(fields: Fields) -> int:
    return int(dict(fields)[b":status"])


def _named(fields: Fields) -> Fields:
    """Fields as our server writes them over HTTP/1.1: Date first, and names as in the RFCs."""
    named = [
        (name.title().replace(b"Etag", b"ETag").replace(b"Websocket", b"WebSocket"), value)
        for name, value in fields
        if not name.startswith(b":")
    ]
    return sorted(named, key=lambda field: field[0] != b"Date")
