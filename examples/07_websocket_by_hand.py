r"""Chapter 7: WebSocket, frames both ways on one connection.

A WebSocket (RFC 6455) starts as an HTTP request to change the protocol. After the answer, 101, the
connection carries frames: not "raw TCP", but messages with a length before each.

    $ python examples/07_websocket_by_hand.py
    listening on http://127.0.0.1:8000

The hash of the key and a GUID from the RFC in the answer proves that the server speaks WebSocket.

    $ printf '%b' 'GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n' \
        'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n' \
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n' > /tmp/handshake
    $ nc -w 1 127.0.0.1 8000 < /tmp/handshake
    HTTP/1.1 101 Switching Protocols
    Upgrade: websocket
    Connection: Upgrade
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=

"Hello" as a client sends it. 81: the last frame (8) of a text (1). 85: masked (80), 5 bytes long.
Four bytes of mask follow, and the text XORed with them, so that no page can choose the bytes on the
wire and make a proxy read them as HTTP. The answer has no mask (`tail` cuts off the head):

    $ (cat /tmp/handshake; printf '\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58') \
      | nc -w 1 127.0.0.1 8000 | tail -n 1 | od -An -t x1
     81 05 48 65 6c 6c 6f

A ping (89) and its pong (8a); a Close (88) with code 1000 (03 e8) and the same in return; and a
frame without a mask, which the server answers with a Close of code 1002 (03 ea), protocol error:

    $ (cat /tmp/handshake; printf '\x89\x81\x00\x00\x00\x00!\x88\x82\x00\x00\x00\x00\x03\xe8') \
      | nc -w 1 127.0.0.1 8000 | tail -n 1 | od -An -t x1
     8a 01 21 88 02 03 e8
    $ (cat /tmp/handshake; printf '\x81\x02hi') \
      | nc -w 1 127.0.0.1 8000 | tail -n 1 | od -An -t x1
     88 02 03 ea

For more than 125 bytes, 126 (masked: fe) stands for the length, which follows in two bytes:

    $ (cat /tmp/handshake; printf '\x82\xfe\x01\x2c\x00\x00\x00\x00'; head -c 300 /dev/zero) \
      | nc -w 1 127.0.0.1 8000 | tail -n 1 | head -c 4 | od -An -t x1
     82 7e 01 2c

Left out: a message in several frames (closed with 1003; see chapter 8), and pings from the server,
without which a vanished client is never noticed. Browsers let a page of any site open a WebSocket
here, with this site's cookies, so the server must check `Origin`.
"""

import base64
import hashlib
import signal
import sys
from contextlib import suppress

import trio

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
MOST = 65536
ACCEPTED = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


class Closing(Exception):
    """The connection must end, with this close code; 0 for none."""


class WebSocket:
    def __init__(self, stream: trio.SocketStream, received: bytes) -> None:
        self.stream, self.received = stream, received

    async def send(self, opcode: int, payload: bytes) -> None:
        """A frame of a server: FIN and opcode, the length in 1 or 3 bytes (or 9), no mask."""
        size = len(payload)
        length = bytes([size]) if size < 126 else bytes([126]) + size.to_bytes(2, "big")
        with suppress(trio.BrokenResourceError):  # `receive` notices it
            await self.stream.send_all(bytes([0x80 | opcode]) + length + payload)

    async def exactly(self, count: int) -> bytes:
        while len(self.received) < count:  # what one read gives need not be one frame
            with suppress(trio.BrokenResourceError):
                if data := await self.stream.receive_some(MOST):
                    self.received += data
                    continue
            raise Closing(0)  # the client has left without a Close
        taken, self.received = self.received[:count], self.received[count:]
        return taken

    async def receive(self) -> tuple[int, bytes]:
        """The next frame of the client: its opcode and payload."""
        first, second = await self.exactly(2)
        opcode, size = first & 0x0F, second & 0x7F
        if first & 0x70 or not second & 0x80 or opcode not in (0, TEXT, BINARY, CLOSE, PING, PONG):
            raise Closing(1002)  # reserved bits, no mask, reserved opcode
        if opcode >= CLOSE and (size > 125 or not first & 0x80):
            raise Closing(1002)  # control frames are short, and whole
        if not first & 0x80 or not opcode:
            raise Closing(1003)  # one of several frames of a message
        if size > 125:
            size = int.from_bytes(await self.exactly(2 if size == 126 else 8), "big")
        if size >= MOST:
            raise Closing(1009)  # before any of it is read
        mask = await self.exactly(4)
        payload = await self.exactly(size)
        return opcode, bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))


async def echo(ws: WebSocket) -> int:
    """Echo until the client closes or must be closed; return the close code to send, 0 for none."""
    try:
        while True:
            opcode, payload = await ws.receive()
            if opcode == TEXT:
                payload.decode()
            if opcode == CLOSE:
                code = int.from_bytes(payload[:2] or b"\x03\xe8", "big")
                unsendable = (1004, 1005, 1006, 1015)  # RFC 6455 section 7.4
                return code if 1000 <= code < 5000 and code not in unsendable else 1002
            if opcode != PONG:
                await ws.send(PONG if opcode == PING else opcode, payload)
    except UnicodeDecodeError:
        return 1007
    except Closing as closing:
        return int(closing.args[0])


async def serve(stream: trio.SocketStream) -> None:
    head = b""
    with trio.move_on_after(10), suppress(trio.BrokenResourceError):  # as in chapter 2
        while b"\r\n\r\n" not in head and (data := await stream.receive_some(4096)):
            head = (head + data)[:16384]
    head, end, behind = head.partition(b"\r\n\r\n")  # frames may have come right behind the head
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    asked = [fields.get(name, "").lower() for name in ("upgrade", "sec-websocket-version")]
    foreign = fields.get("origin", "//" + fields.get("host", "")).partition("//")[2]
    if not end or asked != ["websocket", "13"] or foreign != fields.get("host"):
        return
    key = fields.get("sec-websocket-key", "") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    digest = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    ws = WebSocket(stream, behind)
    with suppress(trio.BrokenResourceError):
        await stream.send_all(f"{ACCEPTED}Sec-WebSocket-Accept: {digest}\r\n\r\n".encode())
    if code := await echo(ws):
        await ws.send(CLOSE, code.to_bytes(2, "big"))


async def main() -> None:
    try:
        listeners = await trio.open_tcp_listeners(PORT, host="127.0.0.1")
    except OSError as error:
        other = f"python {sys.argv[0]} {PORT + 1}"
        sys.exit(f"port {PORT}: {error.strerror}; stop the other chapter (Ctrl-C) or run {other}")
    print(f"listening on http://127.0.0.1:{PORT}")
    await trio.serve_listeners(serve, listeners)


signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a traceback
trio.run(main)
