r"""Chapter 17, third part: what multiplexing does not cure. One lost segment stops all streams.

TCP delivers bytes in order. If one segment is lost, the bytes behind it wait in the kernel until it
has been sent again, even if they belong to other streams. On connections of their own, the others
would not have noticed.

This program shows it without a bad network. It is a client, and a proxy in front of the server of
chapter 9, which holds the bytes of its first connection back for a second, as a lost segment does:

    $ python examples/09_on_rawstream.py
    2026-11-21 09:00:00,000 rawstream serving on http://127.0.0.1:8000
    $ python examples/17_http2_one_lost_segment.py
    HTTP/1.1, a connection for each stream: one of two streams stood still
    HTTP/2, one connection for all: two of two streams stood still

So HTTP/2 is worse than six connections where many segments are lost, and better where connections
are few or slow to open. HTTP/3 cures it: its streams are numbered in the packets themselves (QUIC,
RFC 9000), so only the stream whose bytes were lost waits. Python servers have it behind a proxy
that speaks it to browsers.

Nor does HTTP/2 cure the others: who reads slowly is still slow (its window is full, chapter 13), a
proxy that collects an answer before it passes it on still does, and a client that comes back still
needs an id (chapter 5).

To see the bytes, start the proxy of chapter 2 in a third terminal, and type
`python examples/17_http2_one_lost_segment.py 8001`:

    $ python -m rawstream wire --to http://127.0.0.1:8000 --layer tcp,http2
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire

You can now tell which of two complaints HTTP/2 answers, and which it makes worse.

Two things to try: count the time from the first event to the last, with and without the pause. Then
let the proxy hold back the second connection instead of the first.
"""

import sys
from functools import partial

import httpx
import trio

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000
HELD_SECONDS = 1.0
STOOD_STILL = 0.7
"""Seconds without an event; the server sends five a second."""


class Losing:
    """A proxy that holds back the answer on its first connection once, for a second."""

    def __init__(self) -> None:
        self.connections = 0

    async def __call__(self, client: trio.SocketStream) -> None:
        self.connections += 1
        held = self.connections == 1
        server = await trio.open_tcp_stream("127.0.0.1", PORT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.pass_on, client, server)
            began = trio.current_time()
            async for data in server:
                if held and trio.current_time() > began + 0.5:
                    held = False
                    await trio.sleep(HELD_SECONDS)  # what follows waits in the kernel
                await client.send_all(data)
            nursery.cancel_scope.cancel()

    async def pass_on(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        async for data in client:
            await server.send_all(data)


async def longest_silence(client: httpx.AsyncClient, url: str, found: list[float]) -> None:
    """The longest time between two pieces of a stream."""
    silences = []
    async with client.stream("GET", url, headers={"Last-Event-ID": "2"}) as response:
        last = trio.current_time()
        async for _ in response.aiter_bytes():
            silences.append(trio.current_time() - last)
            last = trio.current_time()
    found.append(max(silences))


async def two_streams(name: str, *, http2: bool) -> None:
    found: list[float] = []
    async with trio.open_nursery() as proxy:
        serve = partial(trio.serve_tcp, Losing(), 0, host="127.0.0.1")
        [listener] = await proxy.start(serve)
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/ticks"
        async with httpx.AsyncClient(http1=not http2, http2=http2, timeout=30) as client:
            async with trio.open_nursery() as streams:
                streams.start_soon(longest_silence, client, url, found)
                streams.start_soon(longest_silence, client, url, found)
        proxy.cancel_scope.cancel()
    count = ("none", "one", "two")[sum(silence > STOOD_STILL for silence in found)]
    print(f"{name}: {count} of two streams stood still")


async def main() -> None:
    try:
        (await trio.open_tcp_stream("127.0.0.1", PORT)).socket.close()
    except OSError:
        sys.exit(f"no server on port {PORT}: first start python examples/09_on_rawstream.py")
    await two_streams("HTTP/1.1, a connection for each stream", http2=False)
    await two_streams("HTTP/2, one connection for all", http2=True)


trio.run(main)
