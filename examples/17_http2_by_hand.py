r"""Chapter 17: HTTP/2 by hand, from its client: the same requests, cut into frames.

HTTP/1.1 answers one request after the other on a connection. A stream that never ends therefore
needs a connection of its own, and a browser opens only six to a server: the seventh stream waits.
HTTP/2 (RFC 9113) cuts requests and responses into frames, and each frame says which stream it
belongs to. So any number of them share one connection, in any order:

    $ python examples/09_on_rawstream.py
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8000
    $ python examples/17_http2_by_hand.py
    we send the preface, SETTINGS, and a request on stream 1
    connection  SETTINGS       7 settings
    connection  WINDOW_UPDATE  6,487,965 bytes more
    connection  SETTINGS       we have read yours
    stream 1    HEADERS        200
    stream 1    DATA           {"token":"The"}
    we send a request on stream 3
    stream 3    HEADERS        200
    stream 3    DATA           retry: 1000
    stream 3    DATA           event: tick
    stream 1    DATA           {"token":" sky"}
    stream 3    DATA           event: tick
    stream 1    DATA           the end
    stream 3    DATA           data: [DONE]
    stream 3    DATA           the end

That server is the one of chapter 9, unchanged. It sees by the first bytes, the preface, that this
client speaks HTTP/2. A frame begins with nine bytes: its length, its type, flags, and the number of
its stream. Requests have odd numbers; stream 0 is the connection itself.

        00 00 0f   00     00      00 00 00 01    {"token":"The"}
        15 bytes   DATA   flags   stream 1       the piece of chapter 4, without its chunk

A chunk needed its size and an end of its own. Here the frame has the size, and its flag END_STREAM
is the end. The fields of a head are compressed: both sides keep tables of fields, and 82 alone says
`:method: GET`. (h2 and hpack do this for rawstream. By hand we use only the table that never
changes, and of the answer we read only the first byte: 88 is `:status: 200`.)

Each side may send only as much DATA as the other has opened its window for, and a window belongs to
one stream. If we did not read stream 1, its window would be used up, and stream 3 would go on. On a
connection of its own, TCP does this (chapter 13).

To see every frame and every field taken apart, start the proxy in a third terminal, and type
`python examples/17_http2_by_hand.py 8001`:

    $ python -m rawstream wire --to http://127.0.0.1:8000 --layer http2
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire

You can now read the frames of HTTP/2 as you read chunks.

Two things to try: leave `END_STREAM` out of the first request, and see what the server says at its
end about a body that it did not need. Then send RST_STREAM (type 3, with four bytes: an error code,
8 for "no longer wanted") for stream 3 when its first event has come.
"""

import socket
import sys
import time

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0x0, 0x1, 0x4, 0x8
NAMES = {DATA: "DATA", HEADERS: "HEADERS", SETTINGS: "SETTINGS", WINDOW_UPDATE: "WINDOW_UPDATE"}
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """The bytes of a frame (RFC 9113 section 4.1)."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def text(value: str) -> bytes:
    """A text with its length."""
    return bytes([len(value)]) + value.encode()


def get(path: str, *fields: tuple[str, str]) -> bytes:
    """The fields of a GET, as HPACK has them (RFC 7541): by the number of a whole field in its
    table, by the number of a name and the value as text, or both as text."""
    method, scheme = b"\x82", b"\x86"  # :method: GET, :scheme: http
    where = b"\x04" + text(path) + b"\x01" + text("localhost")  # :path, :authority
    return method + scheme + where + b"".join(b"\x00" + text(n) + text(v) for n, v in fields)


def exactly(sock: socket.socket, size: int) -> bytes:
    """The next `size` bytes; fewer if the server has closed."""
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


def what_is_in(kind: int, flags: int, payload: bytes) -> str:
    """One line about the payload of a frame."""
    if kind == SETTINGS:
        return "we have read yours" if flags & ACK else f"{len(payload) // 6} settings"
    if kind == WINDOW_UPDATE:
        return f"{int.from_bytes(payload, 'big'):,} bytes more"
    if kind == HEADERS:
        return "200" if payload[0] == 0x88 else f"begins with {payload[0]:02x}"
    return payload.decode().partition("\n")[0] or "the end"


def main() -> None:
    with socket.create_connection(("127.0.0.1", PORT), timeout=30) as sock:
        print("we send the preface, SETTINGS, and a request on stream 1")
        whole = END_HEADERS | END_STREAM  # neither more fields nor a body follow
        sock.sendall(PREFACE + frame(SETTINGS, 0, 0))
        sock.sendall(frame(HEADERS, whole, 1, get("/tokens")))
        under_way, highest = {1}, 1
        while under_way:
            head = exactly(sock, 9)
            if len(head) < 9:
                sys.exit("the server closed the connection")
            length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            stream = int.from_bytes(head[5:], "big")
            payload = exactly(sock, length)
            name = f"stream {stream}" if stream else "connection"
            print(f"{name:11} {NAMES.get(kind, kind)!s:14} {what_is_in(kind, flags, payload)}")
            if kind == SETTINGS and not flags & ACK:
                sock.sendall(frame(SETTINGS, ACK, 0))
            if kind == DATA and highest == 1:
                time.sleep(0.1)  # so that the frames come in the order above
                print("we send a request on stream 3")
                sock.sendall(frame(HEADERS, whole, 3, get("/ticks", ("last-event-id", "8"))))
                highest = 3
                under_way.add(highest)
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                under_way.discard(stream)


try:
    main()
except ConnectionRefusedError:
    sys.exit(f"no server on port {PORT}: first start python examples/09_on_rawstream.py")
