"""What the exchanges of one connection of HTTP/2 share: its writes, and its end."""

from __future__ import annotations

import trio
import trio.testing
from frames import ACK, NO_ERROR, REFUSED_STREAM, FramePeer, get, ping
from peers import Serving

from rawstream import Channel, Request, open_stream, serve_channel

STREAMS = (1, 3, 5, 7, 9)
LAST_STREAM = 2**31 - 1
EVENTS = (b"accept", b"text/event-stream")


async def test_all_readers_of_a_connection_get_an_entry_in_one_write(
    serving: Serving, writes: list[bytes]
) -> None:
    channel = Channel()

    async def app(request: Request) -> None:
        await serve_channel(request, channel)

    server = await serving(app, shortcuts=True)
    peers = [await FramePeer(await server.connect()).open() for _ in range(2)]
    for peer in peers:
        await peer.send(b"".join(get(stream, b"/", EVENTS) for stream in STREAMS))
        await peer.until(lambda peer=peer: all(peer.bodies.get(n) for n in STREAMS))  # type: ignore[misc]
    await trio.testing.wait_all_tasks_blocked()
    writes.clear()
    channel.publish("one")
    channel.publish("two")
    for peer in peers:
        await peer.until(lambda peer=peer: all(b"two" in peer.bodies[n] for n in STREAMS))  # type: ignore[misc]
    assert len(writes) == len(peers)
    for written in writes:
        assert written.count(b"data: one\n") == written.count(b"data: two\n") == len(STREAMS)


async def test_responses_to_requests_of_one_read_leave_in_one_write(
    serving: Serving, writes: list[bytes]
) -> None:
    async def app(request: Request) -> None:
        await request.respond(200, b"hello\n")

    server = await serving(app, shortcuts=True)
    peer = await FramePeer(await server.connect()).open()
    await peer.send(get(1))
    await peer.over(1)
    await trio.testing.wait_all_tasks_blocked()
    writes.clear()
    await peer.send(b"".join(get(stream) for stream in STREAMS[1:]))
    await peer.over(*STREAMS[1:])
    assert len(writes) == 1


async def test_a_response_that_closes_its_connection_lets_the_others_finish(
    serving: Serving,
) -> None:
    """`Connection: close` has no place in HTTP/2; GOAWAY says the same."""
    go_on = trio.Event()

    async def app(request: Request) -> None:
        if request.path == "/closing":
            await request.respond(200, b"last\n", headers=[("Connection", "keep-alive, Close")])
            return
        async with open_stream(request, "text/plain", endless=True) as stream:
            await stream.send(b"half ")
            await go_on.wait()
            await stream.send(b"whole\n")

    server = await serving(app)
    peer = await FramePeer(await server.connect()).open()
    await peer.send(get(1, b"/long"))
    await peer.until(lambda: peer.bodies.get(1))
    await peer.send(get(3, b"/closing"))
    await peer.over(3)
    await peer.until(lambda: peer.goaways and peer.pings)
    assert peer.goaways == [(LAST_STREAM, NO_ERROR, b"")]
    assert b"connection" not in peer.heads[3]
    await peer.send(ping(peer.pings[-1], ACK))
    await peer.until(lambda: len(peer.goaways) == 2)
    assert peer.goaways[1] == (3, NO_ERROR, b"")
    await peer.send(get(5))
    await peer.over(5)
    assert peer.resets == {5: REFUSED_STREAM}
    go_on.set()
    await peer.over(1)
    assert peer.bodies[1] == b"half whole\n"
    await peer.to_end()
