"""The server that `compare.py` measures: a process of its own, which `compare.py` starts.

`GET /` is answered with messages, in the way and at the rate that was set with `POST /work`. The
line is the same for all ways, so that none has a longer request. `/channel` is a channel, and
`POST /publish` publishes to it. `GET /state` tells the CPU time that the process has used.
"""

import itertools
import json
import os
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import trio

from rawstream import (
    Channel,
    HTTPError,
    Request,
    open_events,
    open_poll,
    open_stream,
    open_websocket,
    serve,
    serve_channel,
)


@dataclass
class Work:
    """The messages that are to be sent. There is one client, or none gets any."""

    way: str
    size: int  # bytes, at least the 15 of the time
    count: int
    rate: int = 0  # messages a second; 0: as many as possible
    ids: bool = False  # whether events have one
    sent: int = 0
    start: float = 0  # when the first was sent
    waiting: int = 0  # clients for which there is no message

    async def message(self) -> str:
        """Wait until the next message is due, and make it. It begins with the time."""
        if self.sent == self.count:
            self.waiting += 1
            await trio.sleep_forever()
        if self.rate:
            self.start = self.start or trio.current_time()
            await trio.sleep_until(self.start + self.sent / self.rate)
        self.sent += 1
        return f"{time.monotonic_ns():015x}".ljust(self.size, "-")

    async def push(self, request: Request) -> None:
        """Send all messages; to a poll, one."""
        match self.way:
            case "chunked":
                async with open_stream(request, "text/plain") as stream:
                    while True:
                        await stream.send((await self.message()).encode())
            case "sse":
                async with open_events(request) as events:
                    while True:
                        id = str(self.sent % 10) if self.ids else None
                        await events.send(await self.message(), id=id)
            case "long-poll":
                async with open_poll(request, cursor="0") as poll:
                    message = await self.message()
                    await poll.answer(message, cursor="0", content_type="text/plain")
            case "websocket":
                async with open_websocket(request) as ws:
                    while True:
                        await ws.send(await self.message())


class App:
    """The handler."""

    def __init__(self) -> None:
        self.begin(Work("", 0, 0))

    def begin(self, work: Work) -> None:
        """Begin with other messages, and with an empty channel."""
        self.work = work
        self.channel = Channel()
        self.numbers = itertools.count(1)

    async def __call__(self, request: Request) -> None:
        match request.method, request.path:
            case "GET", "/":
                await self.work.push(request)
            case "POST", "/":
                await request.body()
                await request.respond(204)
            case "GET", "/up":
                async with open_websocket(request) as ws:
                    for _ in range(self.work.count):
                        await ws.receive()
                    await ws.send("all received")
            case "GET", "/channel":
                await serve_channel(request, self.channel)
            case "POST", "/publish":
                for number in itertools.islice(self.numbers, int(await request.body())):
                    self.channel.publish(str(number))
                await request.respond(204)
            case "POST", "/work":
                self.begin(Work(**json.loads(await request.body())))
                await request.respond(204)
            case "GET", "/state":
                cpu = time.process_time_ns() / 1000
                await request.respond(200, json={"cpu": cpu, "waiting": self.work.waiting})
            case _:
                raise HTTPError(404)


async def main(listening: socket.socket) -> None:
    """Serve until the input ends: then `compare.py` has ended, too, however it did."""
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, App(), inherited=[listening], access_log=False))
        with suppress(BrokenPipeError):  # it has ended already
            os.write(sys.stdout.fileno(), b"%d\n" % listening.getsockname()[1])
        await trio.lowlevel.wait_readable(sys.stdin)
        nursery.cancel_scope.cancel()


try:
    port = int(sys.argv[1]) if sys.argv[1:] else 0
    trio.run(main, socket.create_server(("127.0.0.1", port)))
except OSError as error:
    sys.exit(f"port {port}: {error.strerror}")
