r"""Chapter 10: the other end. Three clients by hand: for a stream, for events, for a WebSocket.

They connect to the server of chapter 9; start it first.

    $ python examples/09_on_rawstream.py
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8000
    $ python examples/10_clients_by_hand.py
    stream: {"token":"The"}
    stream: {"token":" sky"}
    events: connected, Last-Event-ID is not set
    events: tick 1
    events: tick 2
    events: tick 3
    events: tick 4
    events: tick 5
    events: tick 6
    events: the connection broke; again in about 1 s
    events: connected, Last-Event-ID is 6
    events: tick 7
    events: tick 8
    events: tick 9
    events: tick 10
    events: [DONE]
    websocket: sent hello
    websocket: received hello
    websocket: closed with 1000

The client for events closes its connection after six ticks, to show that it reconnects. Because
of the ids it misses no tick and sees none twice. Its wait doubles after each failure, and is random
within limits, so that a thousand clients of a restarted server do not all reconnect at once.

To see their bytes, start the proxy in a third terminal, and type
`python examples/10_clients_by_hand.py 8001`. The second request for events has a Last-Event-ID:

    $ python -m rawstream wire --to http://127.0.0.1:8000
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire

You can now write a client for each kind of stream, and one that survives a lost connection.

Two things to try: stop the server while the client reads ticks, and see how its wait doubles. Then
let the server send an event with two lines of data, and find the code that joins them.
"""

import random
import sys

import h11
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Request, TextMessage

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000


class Response:
    """A GET, and the body of its response, as it arrives."""

    def __init__(self, connection: trio.SocketStream) -> None:
        self.connection = connection
        self.http = h11.Connection(h11.CLIENT)

    async def ask(self, target: str, *headers: tuple[str, str]) -> None:
        request = h11.Request(
            method="GET", target=target, headers=[("Host", "localhost"), *headers]
        )
        await self.connection.send_all(self.http.send(request) + self.http.send(h11.EndOfMessage()))

    async def piece(self) -> bytes:
        """Return what the next read brings, half a line or ten; b"" at the end. Raises
        `h11.RemoteProtocolError` for a truncated body."""
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                self.http.receive_data(await self.connection.receive_some(4096))
            elif isinstance(event, h11.Data):
                return bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) or event is h11.PAUSED:
                return b""
            # Else it is the head of the response.


async def read_stream() -> None:
    async with await trio.open_tcp_stream("127.0.0.1", PORT) as connection:
        response = Response(connection)
        await response.ask("/tokens")
        while piece := await response.piece():
            print("stream:", piece.decode())


class EventSource:
    """The core of a browser's EventSource: it reads events and reconnects. (A browser also checks
    the status and the type, and stops for good if they are wrong.)"""

    def __init__(self) -> None:
        self.retry = 3.0  # seconds, until the server says otherwise
        self.last_event_id = ""

    async def run(self) -> None:
        wait = self.retry
        while True:
            try:
                async with await trio.open_tcp_stream("127.0.0.1", PORT) as connection:
                    if await self.read_events(connection) == "[DONE]":
                        return
                wait = self.retry
            except (OSError, trio.BrokenResourceError, h11.RemoteProtocolError):
                wait = min(2 * wait, 60)
            print(f"events: the connection broke; again in about {wait:g} s")
            await trio.sleep(random.uniform(0.5 * wait, 1.5 * wait))

    async def read_events(self, connection: trio.SocketStream) -> str:
        """Read to the end, or for six ticks, to show a reconnect; return the last data."""
        print("events: connected, Last-Event-ID is", self.last_event_id or "not set")
        response = Response(connection)
        if self.last_event_id:
            await response.ask("/ticks", ("Last-Event-ID", self.last_event_id))
        else:
            await response.ask("/ticks")
        ticks = 0
        received = b""
        fields: dict[str, str] = {}  # of the event that is being read
        while ticks < 6:
            piece = await response.piece()
            if not piece:
                break
            *lines, received = (received + piece).split(b"\n")  # the last line is not complete yet
            for line in lines:  # other servers may end lines with CR LF, or CR alone
                if line:
                    name, _, value = line.decode().partition(":")
                    value = value.removeprefix(" ")
                    if name == "data" and "data" in fields:
                        value = fields["data"] + "\n" + value
                    fields[name] = value  # a comment has no name
                    continue
                # The line is empty: the event is complete.
                self.last_event_id = fields.get("id", self.last_event_id)
                if fields.get("retry", "").isdecimal():
                    self.retry = int(fields["retry"]) / 1000
                if fields.get("event") == "tick":
                    print("events: tick", self.last_event_id)
                    ticks += 1
                elif "data" in fields:
                    print("events:", fields["data"])
                    return fields["data"]
                fields.clear()
        return ""


async def talk() -> None:
    async with await trio.open_tcp_stream("127.0.0.1", PORT) as connection:
        websocket = WSConnection(ConnectionType.CLIENT)
        await connection.send_all(websocket.send(Request(host="localhost", target="/echo")))
        while True:
            data = await connection.receive_some(4096)
            websocket.receive_data(data or None)  # wsproto wants None for the end of the stream
            for event in websocket.events():
                if isinstance(event, AcceptConnection):
                    print("websocket: sent hello")
                    await connection.send_all(websocket.send(TextMessage("hello")))
                elif isinstance(event, TextMessage):
                    print("websocket: received", event.data)
                    await connection.send_all(websocket.send(CloseConnection(1000)))
                elif isinstance(event, CloseConnection):
                    print("websocket: closed with", int(event.code))
                    return


async def main() -> None:
    await read_stream()
    await EventSource().run()
    await talk()


try:
    trio.run(main)
except OSError:
    sys.exit(f"no server on port {PORT}: first start python examples/09_on_rawstream.py")
