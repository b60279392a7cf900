"""The clients of `compare.py`: sockets that count, and some lines for each way.

Each of them asks for messages with `open` and reads them with `receive`. In a channel, messages
come with cursors, and a client that is given its last `cursor` resumes there.
"""

import json
import os
import socket
from collections.abc import Iterable

PATIENCE = 30  # seconds of silence after which a client gives up
TEXT, PING, PONG = 0x81, 0x89, 0x8A  # first bytes of frames


class Wire:
    """A connection that counts: bytes that were sent, or received and taken; and round trips."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.bytes = self.bytes_to_first_head = 0
        self.round_trips = 1  # SYN, and SYN with ACK
        self._has_asked = False
        self._received = bytearray()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)
        self.bytes += len(data)
        self._has_asked = True

    def take(self, count: int) -> bytes:
        """Return the next bytes, once they have arrived."""
        while len(self._received) < count:
            self._read()
        data = bytes(self._received[:count])
        del self._received[:count]
        self.bytes += count
        return data

    def line(self) -> bytes:
        while (end := self._received.find(b"\n")) < 0:
            self._read()
        return self.take(end + 1)

    def _read(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise OSError("the server has closed a connection")
        self.round_trips += self._has_asked  # unasked data takes none
        self._has_asked = False
        self._received += data

    def request(self, method: str, target: str, *fields: str, body: str = "") -> None:
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *fields]
        if method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", body]).encode())

    def head(self, *expected: int) -> dict[str, str]:
        """Return the fields of a response with one of these statuses."""
        status = self.line().decode().strip()
        if int(status.split()[1]) not in expected:
            raise OSError(f"the server answered {status}")
        fields = {}
        while line := self.line().decode().strip():
            name, _, value = line.partition(": ")
            fields[name.lower()] = value
        self.bytes_to_first_head = self.bytes_to_first_head or self.bytes
        return fields

    def ask(self, method: str, target: str, body: str = "") -> str:
        """Send a request, and return the body of its response."""
        self.request(method, target, body=body)
        return self.take(int(self.head(200, 204).get("content-length", 0))).decode()


class Chunked:
    """The client of a chunked stream; the others derive from it."""

    name, accept, status = "chunked", "application/x-ndjson", 200

    def __init__(self, port: int, target: str = "/", cursor: str = "") -> None:
        self.wire, self.target, self.cursor = Wire(port), target, cursor
        self.in_channel = target == "/channel"

    def open(self) -> None:
        """Ask for messages, and read the head of the response."""
        self._start(f"{self.target}?after={self.cursor}" if self.cursor else self.target)

    def _start(self, target: str, *fields: str) -> None:
        accept = [f"Accept: {self.accept}"] if self.in_channel and self.accept else []
        self.wire.request("GET", target, *accept, *fields)
        self.wire.head(self.status)

    def wait(self) -> None:
        """Ask for messages, of which there are none."""
        self.open()

    def receive(self) -> list[str]:
        """Return the messages that come next; [] if something else came."""
        # This server ends chunks only where messages end. Another one, or a proxy, may not.
        return self._data(self._chunk())

    def _chunk(self) -> str:
        data = self.wire.take(int(self.wire.line(), 16))
        self.wire.take(2)  # CR LF
        return data.decode()

    def _data(self, text: str) -> list[str]:
        """Return the data of what may be a channel's lines: objects with a cursor and data."""
        if not self.in_channel:
            return [text]
        entries = [json.loads(line) for line in text.splitlines()]
        self.cursor = entries[-1]["id"]
        return [entry["data"] for entry in entries if "data" in entry]

    def send_all(self, messages: Iterable[str]) -> int:
        """Send messages up, and return their bytes once the server has them."""
        before = self.wire.bytes
        for message in messages:
            self.wire.ask("POST", "/", message)
        return self.wire.bytes - before


class Events(Chunked):
    name, accept = "sse", "text/event-stream"

    def open(self) -> None:
        self._start(self.target, *([f"Last-Event-ID: {self.cursor}"] if self.cursor else []))

    def receive(self) -> list[str]:
        found = []
        for event in self._chunk().split("\n\n")[:-1]:
            fields = dict(line.partition(": ")[::2] for line in event.split("\n"))
            self.cursor = fields.get("id", self.cursor)
            found += [fields["data"]] if "data" in fields else []
        return found


class LongPoll(Chunked):
    name = "long-poll"

    def open(self) -> None:
        if self.in_channel and not self.cursor:
            self.wire.request("GET", f"{self.target}?wait=0")  # answered at once: where it begins
            self.cursor = self.wire.head(204)["etag"].strip('"')

    def wait(self) -> None:
        wait = f"&wait={PATIENCE}" if self.in_channel else ""  # 25 by default
        self.wire.request("GET", f"{self.target}?after={self.cursor or 0}{wait}")

    def receive(self) -> list[str]:
        self.wait()
        fields = self.wire.head(200)
        self.cursor = fields["etag"].strip('"')
        body = self.wire.take(int(fields["content-length"])).decode()
        if not self.in_channel:
            return [body]
        return [entry["data"] for entry in json.loads(body)["entries"]]


class WebSocket(Chunked):
    """Its `target` is "/up" to send and "/" to receive."""

    name, accept, status = "websocket", "", 101

    def _start(self, target: str, *fields: str) -> None:
        upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
        super()._start(target, *upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")

    def receive(self) -> list[str]:
        first, length = self.wire.take(2)
        if length == 126:
            length = int.from_bytes(self.wire.take(2), "big")
        data = self.wire.take(length)
        if first == PING:
            self._send_frame(PONG, data)
            return []
        return self._data(data.decode())

    def _send_frame(self, first: int, data: bytes) -> None:
        size, mask = len(data), os.urandom(4)
        head = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        masks = (mask * (size // 4 + 1))[:size]
        masked = int.from_bytes(data, "big") ^ int.from_bytes(masks, "big")
        self.wire.send(bytes([first]) + head + mask + masked.to_bytes(size, "big"))

    def send_all(self, messages: Iterable[str]) -> int:
        self.open()
        before = self.wire.bytes
        for message in messages:
            self._send_frame(TEXT, message.encode())
        sent = self.wire.bytes - before
        while not self.receive():  # until it says that it has received all
            pass
        return sent


Way = type[Chunked]
WAYS: list[Way] = [Chunked, Events, LongPoll, WebSocket]
