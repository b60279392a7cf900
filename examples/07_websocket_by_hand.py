r"""Chapter 7: WebSocket, frames both ways on one connection.

A WebSocket (RFC 6455) starts as an HTTP request to change the protocol. After the answer, 101, the
connection carries frames: not "raw TCP", but messages with a length before each.

    $ python examples/07_websocket_by_hand.py
    listening on http://127.0.0.1:8000

The request has a random key. The answer holds a hash of the key and of a text that stands in the
RFC, which proves that the server speaks WebSocket. (`> FILE` writes to a file, `< FILE` reads it.)

    $ printf '%b' 'GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n' \
        'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n' \
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n' > /tmp/handshake
    $ nc -w 1 127.0.0.1 8000 < /tmp/handshake
    HTTP/1.1 101 Switching Protocols
    Upgrade: websocket
    Connection: Upgrade
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=

A frame is two bytes, then the masking key if there is one, then the payload. The first byte holds:

- FIN, the first bit: 1 in the last frame of a message (most have just one). Three zeros follow.
- The opcode, four bits, the kind of frame: 1 text, 2 binary, 0 a further frame of the same message,
  8 Close, 9 ping, a (10) pong.

The second byte holds MASK, 1 if the payload is masked, and the length of the payload in seven bits.
A client masks every frame, a server none. For "Hello" as a text, the client sends 81 (1 000 0001),
85 (1 0000101), a key of four random bytes, here 37 fa 21 3d, and then each byte of the text XOR a
byte of the key, which are used in turn. XOR gives 1 where two bits differ:

        "H"       48   0100 1000
        key       37   0011 0111
        XOR       7f   0111 1111

The fifth byte meets 37 again: 6f ("o") XOR 37 is 58. The server unmasks in the same way: 7f XOR 37
is 48. The mask hides nothing. It keeps a page from choosing bytes that a proxy may take for HTTP.

Send this frame (in `printf`, `\x81` is a byte in hexadecimal) through the proxy of chapter 2, in a
third terminal. `tail` cuts off the head of the answer, `od -An -t x1` shows the bytes of the rest:

    $ python -m rawstream wire --to http://127.0.0.1:8000 --save /tmp/wire
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire
    $ (cat /tmp/handshake; sleep 0.3; printf '\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58') \
      | nc -w 1 127.0.0.1 8001 | tail -n 1 | od -An -t x1
     81 05 48 65 6c 6c 6f

The answer has neither MASK nor key. This is our frame (the first 13 lines about frames):

    $ python -m rawstream wire /tmp/wire --layer websocket | sed -n 1,13p
        websocket FIN, RSV, opcode: text
                  81                                               .
                  1....... FIN: the last frame of its message
                  ....0001 opcode: 1: text
        websocket MASK, payload length: masked, length 5
                  85                                               .
                  1....... MASK: masked
                  .0000101 payload length: 5
        websocket masking-key: 37 fa 21 3d
                  37 fa 21 3d                                      7.!=
        websocket payload data: Hello
                  7f 9f 4d 51 58                                   ..MQX
                  the first byte is 7f, and 7f XOR 37 is 48

A ping (89) and its pong (8a); a Close (88) with code 1000 (03 e8), a normal end, and the same in
return; and a frame without a mask, which the server answers with a Close of code 1002 (03 ea),
protocol error. The key 00 00 00 00 changes nothing:

    $ (cat /tmp/handshake; printf '\x89\x81\x00\x00\x00\x00!\x88\x82\x00\x00\x00\x00\x03\xe8') \
      | nc -w 1 127.0.0.1 8000 | tail -n 1 | od -An -t x1
     8a 01 21 88 02 03 e8
    $ (cat /tmp/handshake; printf '\x81\x02hi') \
      | nc -w 1 127.0.0.1 8000 | tail -n 1 | od -An -t x1
     88 02 03 ea

Above 125 bytes, the length is 126 (with MASK: fe), and two more bytes hold it; 127: eight more.

Left out: a message in several frames (closed with 1003; see chapter 8), and pings from the server,
without which a vanished client is never noticed. Browsers let a page of any site open a WebSocket
here, with this site's cookies, so the server must check `Origin`.

You can now read a frame bit by bit, and say why a WebSocket is not "raw TCP".

Two things to try: mask "Hi" by hand with the key 01 02 03 04 and send it. Then send 300 zeros
(`printf '\x82\xfe\x01\x2c\x00\x00\x00\x00'; head -c 300 /dev/zero`), and read the answer's length.
"""

import base64
import hashlib
import signal
import sys
from contextlib import suppress

import trio

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000
OPCODES = CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MOST = 65535  # bytes of a payload
ACCEPTED = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


class Closing(Exception):
    """The connection must end, with this close code; 0 for none."""

    def __init__(self, code: int) -> None:
        self.code = code


class WebSocket:
    def __init__(self, stream: trio.SocketStream, received: bytes) -> None:
        self.stream = stream
        self.received = received  # bytes not yet used

    async def send(self, opcode: int, payload: bytes) -> None:
        """Send a frame: FIN and opcode, the length in 1 or 3 bytes, no mask."""
        size = len(payload)
        length = bytes([size]) if size < 126 else bytes([126]) + size.to_bytes(2, "big")
        with suppress(trio.BrokenResourceError):  # `receive` notices it
            await self.stream.send_all(bytes([0x80 | opcode]) + length + payload)

    async def exactly(self, count: int) -> bytes:
        while len(self.received) < count:  # what one read gives need not be one frame
            data = b""
            with suppress(trio.BrokenResourceError):
                data = await self.stream.receive_some(65536)
            if not data:
                raise Closing(0)  # the client has left without a Close
            self.received += data
        taken, self.received = self.received[:count], self.received[count:]
        return taken

    async def receive(self) -> tuple[int, bytes]:
        """Return the opcode and the payload of the next frame of the client."""
        first, second = await self.exactly(2)
        fin = bool(first & 0b1000_0000)
        reserved = first & 0b0111_0000
        opcode = first & 0b0000_1111
        masked = bool(second & 0b1000_0000)
        size = second & 0b0111_1111
        if reserved or opcode not in OPCODES or not masked:
            raise Closing(1002)
        if opcode in (CLOSE, PING, PONG) and (size > 125 or not fin):
            raise Closing(1002)  # these frames are short, and whole
        if opcode == CONTINUATION or not fin:
            raise Closing(1003)  # one of several frames of a message
        if size == 126:
            size = int.from_bytes(await self.exactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await self.exactly(8), "big")
        if size > MOST:
            raise Closing(1009)  # before any of it is read
        key = await self.exactly(4)
        payload = bytearray(await self.exactly(size))
        for n in range(size):
            payload[n] = payload[n] ^ key[n % 4]  # XOR; the key's bytes in turn
        return opcode, bytes(payload)


async def echo(ws: WebSocket) -> int:
    """Echo until the client closes or must be closed; return the close code to send, 0 for none."""
    try:
        while True:
            opcode, payload = await ws.receive()
            if opcode == TEXT:
                payload.decode()  # UnicodeDecodeError unless it is UTF-8
            if opcode in (TEXT, BINARY):
                await ws.send(opcode, payload)
            elif opcode == PING:
                await ws.send(PONG, payload)
            elif opcode == CLOSE:
                return close_code(payload)
    except UnicodeDecodeError:
        return 1007
    except Closing as closing:
        return closing.code


def close_code(payload: bytes) -> int:
    """Return the code that answers a Close: the same one, or 1002 if it must not be sent."""
    if not payload:
        return 1000
    code = int.from_bytes(payload[:2], "big")
    if 1000 <= code < 5000 and code not in (1004, 1005, 1006, 1015):  # RFC 6455 section 7.4
        return code
    return 1002


async def serve(stream: trio.SocketStream) -> None:
    received = b""
    with trio.move_on_after(10), suppress(trio.BrokenResourceError):  # as in chapter 5
        while b"\r\n\r\n" not in received and len(received) < 16384:
            data = await stream.receive_some(4096)
            if not data:
                return
            received += data
    head, end, behind = received.partition(b"\r\n\r\n")  # frames may have come behind the head
    fields = {}
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    host = fields.get("host", "")
    origin = fields.get("origin", f"http://{host}")  # only browsers send it
    if not end or not host or origin not in (f"http://{host}", f"https://{host}"):
        return
    asked = fields.get("upgrade", "").lower(), fields.get("sec-websocket-version")
    if asked != ("websocket", "13"):
        return
    key = fields.get("sec-websocket-key", "") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    digest = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    with suppress(trio.BrokenResourceError):
        await stream.send_all(f"{ACCEPTED}Sec-WebSocket-Accept: {digest}\r\n\r\n".encode())
    ws = WebSocket(stream, behind)
    code = await echo(ws)
    if code:
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
