"""Clients of HTTP/2: h2load for requests, and connections that carry many event streams each."""

from __future__ import annotations

import re
import socket
import subprocess

from hpack import Encoder
from hyperframe.frame import HeadersFrame, SettingsFrame, WindowUpdateFrame
from load import Readers, Server

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LARGEST_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 65_535

REQUESTS, CONNECTIONS, REQUESTS_IN_FLIGHT = 20_000, 8, 10


def h2load(server: Server) -> int:
    """Send `REQUESTS` requests; return how many of them were answered with 200."""
    done = subprocess.run(
        [
            "h2load", f"-n{REQUESTS}", f"-c{CONNECTIONS}", f"-m{REQUESTS_IN_FLIGHT}",
            f"http://127.0.0.1:{server.port}/",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"(\d+) 2xx", done.stdout)
    if not found:
        raise SystemExit(f"h2load of {server.name}: {done.stdout}{done.stderr}")
    return int(found[1])


class Multiplexed(Readers):
    """Connections that read several event streams each, with windows as large as they can be."""

    def __init__(self, server: Server, path: str, connections: int, streams: int) -> None:
        self._streams = streams
        self._path = path
        self._authority = f"127.0.0.1:{server.port}"
        super().__init__(server, path, connections)

    def _subscribe(self, sock: socket.socket) -> None:
        self._request = self._opening()
        super()._subscribe(sock)

    def _opening(self) -> bytes:
        """The first bytes of a connection."""
        encoder = Encoder()
        fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", self._path),
            (":authority", self._authority),
            ("accept", "text/event-stream"),
        ]
        frames = [
            SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: LARGEST_WINDOW}),
            WindowUpdateFrame(0, LARGEST_WINDOW - DEFAULT_WINDOW),
            *(
                HeadersFrame(
                    2 * number + 1, encoder.encode(fields), flags=["END_HEADERS", "END_STREAM"]
                )
                for number in range(self._streams)
            ),
        ]
        return PREFACE + b"".join(frame.serialize() for frame in frames)
