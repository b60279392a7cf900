r"""Chapter 8: the same with wsproto, which knows all of WebSocket and does no I/O.

As h11 for HTTP, wsproto is a state machine for WebSocket: bytes in, events out (`TextMessage`,
`Ping`, `CloseConnection`), and the other way round. It takes frames apart, checks masks, opcodes,
UTF-8 and close codes, and knows what may be said when. Putting the parts of a message together,
and counting them, is left to us.

    $ python examples/08_websocket_with_wsproto.py
    listening on http://127.0.0.1:8000
    $ printf '%b' 'GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n' \
        'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n' \
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n' > /tmp/handshake

"Hel" (01: text, and more to come), a ping in the middle, "lo" (80: goes on, and is the last). The
pong comes at once, the message when it is whole:

    $ (cat /tmp/handshake; printf '\x01\x83\x00\x00\x00\x00Hel'; \
       printf '\x89\x80\x00\x00\x00\x00'; printf '\x80\x82\x00\x00\x00\x00lo') \
      | nc -w 1 127.0.0.1 8000 | tail -n 1 | od -An -t x1
     8a 00 81 05 48 65 6c 6c 6f

Text that is no UTF-8 is closed with 1007 (03 ef; `tail` and `head` cut it out of the frame); a
message over our limit of 64 KiB with 1009 (03 f1):

    $ (cat /tmp/handshake; printf '\x81\x81\x00\x00\x00\x00\xff') \
      | nc -w 1 127.0.0.1 8000 | tail -n 1 | tail -c +3 | head -c 2 | od -An -t x1
     03 ef
    $ (cat /tmp/handshake; printf '\x82\xff\x00\x00\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00'; \
       head -c 65537 /dev/zero) \
      | nc -w 1 127.0.0.1 8000 | tail -n 1 | od -An -t x1
     88 02 03 f1

Both directions are free at any time. /push echoes, and says something on its own as well:

    $ (sed s/echo/push/ /tmp/handshake; printf '\x81\x82\x00\x00\x00\x00hi') \
      | nc -w 1 127.0.0.1 8000 | tail -n 1 | od -An -c
     201 002   h   i 201 006   t   i   c   k       1 201 006   t   i
       c   k       2

Still left out: pings of its own.
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
        self.turn = trio.Lock()  # two tasks send; Trio refuses a second `send_all` at a time

    async def send(self, event: events.Event) -> None:
        """Nothing is sent any more once the connection is closing, or the client gone."""
        with suppress(LocalProtocolError, trio.BrokenResourceError):
            async with self.turn:
                await self.stream.send_all(self.protocol.send(event))

    async def receive(self) -> bytes | None:
        """The next bytes; None, which is wsproto's word for it, at the end (b"" is nothing)."""
        with suppress(trio.BrokenResourceError):
            return await self.stream.receive_some(65536) or None
        return None


async def echo(ws: WebSocket, data: bytes | None) -> None:
    """Until the connection is over; `data` is what came right behind the handshake."""
    message = None  # str or bytes
    size = 0  # in bytes, which a character may have up to four of
    while True:
        ws.protocol.receive_data(data)
        for event in ws.protocol.events():
            if isinstance(event, events.Message):  # a part of one: a frame, or what came of it
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
            elif isinstance(event, events.CloseConnection):  # theirs, or what wsproto found wrong
                await ws.send(event.response())
                return
        data = await ws.receive()


async def push(ws: WebSocket) -> None:
    for n in (1, 2):
        await trio.sleep(0.3)
        await ws.send(events.TextMessage(f"tick {n}"))


async def serve(stream: trio.SocketStream) -> None:
    head = b""
    with trio.move_on_after(10), suppress(trio.BrokenResourceError):  # as in chapter 2
        while b"\r\n\r\n" not in head and (data := await stream.receive_some(4096)):
            head = (head + data)[:16384]
    # Frames that came right behind the head must wait until it is accepted: fed before, they
    # would be lost without a word.
    head, end, behind = head.partition(b"\r\n\r\n")
    ws = WebSocket(stream)
    try:
        ws.protocol.receive_data(head + end)
    except (RemoteProtocolError, UnicodeError) as error:  # the second one it does not document
        hint = getattr(error, "event_hint", None)  # a response that says what is wrong
        with suppress(AttributeError):  # nothing can be sent behind a head that is none
            await ws.send(hint or events.RejectConnection(status_code=400))
        return
    request = next(ws.protocol.events(), None)
    if not isinstance(request, events.Request):
        return
    origin = dict(request.extra_headers).get(b"origin", b"//" + request.host.encode())
    if origin.partition(b"//")[2] != request.host.encode():  # see chapter 7
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
