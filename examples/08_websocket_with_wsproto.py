r"""Chapter 8: the same with wsproto, which knows all of WebSocket and does no I/O.

wsproto is for WebSocket what h11 is for HTTP, a state machine: bytes in, events out (`TextMessage`,
`Ping`, `CloseConnection`), and the other way round. It parses frames, checks masks, opcodes, UTF-8
and close codes, and knows what may be sent when. It leaves two things to us: to join the parts of a
message, and to limit its size.

    $ python examples/08_websocket_with_wsproto.py
    listening on http://127.0.0.1:8000
    $ printf '%b' 'GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n' \
        'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n' \
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n' > /tmp/handshake

A message in two frames: "Hel" (01: no FIN, text), a ping in between, "lo" (80: FIN, continuation).
The pong comes at once, the message when it is complete:

    $ (cat /tmp/handshake; printf '\x01\x83\x00\x00\x00\x00Hel'; \
       printf '\x89\x80\x00\x00\x00\x00'; printf '\x80\x82\x00\x00\x00\x00lo') \
      | nc -w 1 127.0.0.1 8000 | tail -n 1 | od -An -t x1
     8a 00 81 05 48 65 6c 6c 6f

Text that is not UTF-8 is answered with close code 1007 (03 ef; `tail` and `head` cut it out of the
frame), a message over our limit of 64 KiB with 1009 (03 f1):

    $ (cat /tmp/handshake; printf '\x81\x81\x00\x00\x00\x00\xff') \
      | nc -w 1 127.0.0.1 8000 | tail -n 1 | tail -c +3 | head -c 2 | od -An -t x1
     03 ef
    $ (cat /tmp/handshake; printf '\x82\xff\x00\x00\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00'; \
       head -c 65537 /dev/zero) \
      | nc -w 1 127.0.0.1 8000 | tail -n 1 | od -An -t x1
     88 02 03 f1

Each side may send at any time. /push echoes, and also sends messages of its own. (`sed` replaces
echo by push; `od -c` shows letters as letters, and other bytes in octal: 201 is 81, 002 is 02.)

    $ (sed s/echo/push/ /tmp/handshake; printf '\x81\x82\x00\x00\x00\x00hi') \
      | nc -w 1 127.0.0.1 8000 | tail -n 1 | od -An -c
     201 002   h   i 201 006   t   i   c   k       1 201 006   t   i
       c   k       2

Still left out: pings from the server.

You can now join the frames of a message, and send from several tasks on one WebSocket.

Two things to try: remove the lock, let ten tasks push at once, and read Trio's error. Then start
`python -m rawstream wire --to http://127.0.0.1:8000 --layer websocket,message` in a third terminal,
send the two frames to port 8001, and see to which message each belongs.
"""

import signal
import sys
from contextlib import suppress

import trio
from wsproto import ConnectionType, WSConnection, events
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000
MAX_MESSAGE = 65536


class WebSocket:
    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.protocol = WSConnection(ConnectionType.SERVER)
        # Two tasks send, and Trio allows one `send_all` at a time. Of several tasks that come to
        # `async with self.turn`, one enters the block, and the others wait until it has left.
        self.turn = trio.Lock()

    async def send(self, event: events.Event) -> None:
        """Send an event, or nothing if the connection is closing or broken."""
        with suppress(LocalProtocolError, trio.BrokenResourceError):
            async with self.turn:
                await self.stream.send_all(self.protocol.send(event))

    async def receive(self) -> bytes | None:
        """Return the next bytes; None, which wsproto expects, at the end of the stream."""
        with suppress(trio.BrokenResourceError):
            data = await self.stream.receive_some(65536)
            if data:
                return bytes(data)
        return None


async def echo(ws: WebSocket, data: bytes | None) -> None:
    """Echo until the connection ends; `data` is what arrived right after the handshake."""
    message = None  # str or bytes
    size = 0  # in bytes, of which a character has up to four
    while True:
        ws.protocol.receive_data(data)
        for event in ws.protocol.events():
            if isinstance(event, events.Message):  # a part of one: a frame, or a piece of a frame
                message = event.data if message is None else message + event.data
                size += len(event.data.encode() if isinstance(event.data, str) else event.data)
                if size > MAX_MESSAGE:
                    await ws.send(events.CloseConnection(1009))
                    return
                if event.message_finished:
                    await ws.send(events.Message(message))
                    message, size = None, 0
            elif isinstance(event, events.Ping):
                await ws.send(event.response())
            elif isinstance(event, events.CloseConnection):  # or an error that wsproto found
                await ws.send(event.response())
                return
        data = await ws.receive()


async def push(ws: WebSocket) -> None:
    for n in (1, 2):
        await trio.sleep(0.3)
        await ws.send(events.TextMessage(f"tick {n}"))


async def serve(stream: trio.SocketStream) -> None:
    head = b""  # and perhaps what follows it
    with trio.move_on_after(10), suppress(trio.BrokenResourceError):  # as in chapter 5
        while b"\r\n\r\n" not in head and len(head) < 16384:
            data = await stream.receive_some(4096)
            if not data:
                return
            head += data
    # Frames may follow the head directly. They must wait until the upgrade is accepted: wsproto
    # would silently drop them.
    head, end, behind = head.partition(b"\r\n\r\n")
    ws = WebSocket(stream)
    try:
        ws.protocol.receive_data(head + end)
    except (RemoteProtocolError, UnicodeError) as error:  # UnicodeError is not documented
        refusal: events.Event = events.RejectConnection(status_code=400)
        if isinstance(error, RemoteProtocolError) and error.event_hint is not None:
            refusal = error.event_hint  # a response that says what is wrong
        with suppress(AttributeError):  # wsproto's, if it found no request to reject
            await ws.send(refusal)
        return
    request = next(ws.protocol.events(), None)
    if not isinstance(request, events.Request):
        return
    own = [f"http://{request.host}".encode(), f"https://{request.host}".encode()]
    origin = dict(request.extra_headers).get(b"origin")
    if origin is not None and origin not in own:  # see chapter 7
        await ws.send(events.RejectConnection(status_code=403))
        return
    await ws.send(events.AcceptConnection())
    async with trio.open_nursery() as nursery:
        if request.target == "/push":
            nursery.start_soon(push, ws)
        await echo(ws, behind)
        nursery.cancel_scope.cancel()


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
