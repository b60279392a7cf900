"""The drain: endless streams end properly at once, other exchanges may finish."""

from __future__ import annotations

import logging
import re

import pytest
import trio
import trio.testing
from handlers import Watched, hello
from peers import VERSIONS, Certificate, Serving, happens, peer_of
from wire import GET, TEXT, close, frame, handshake

from rawstream import Limits, Request, open_events, open_poll, open_stream, open_websocket
from rawstream.server import SETTLE_SECONDS

AT_ONCE = 1.0
"""Seconds for a drain that waits for nobody; milliseconds, but on a busy machine."""


@pytest.fixture(params=["tcp", "tls", "http2"])
def carrier(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def sse(request: Request) -> None:
    async with open_events(request) as events:
        await events.send("hello")
        await trio.sleep_forever()


async def poll(request: Request) -> None:
    async with open_poll(request, cursor="e-7"):
        await trio.sleep_forever()


async def endless(request: Request) -> None:
    async with open_stream(request, "text/plain", endless=True) as stream:
        await stream.send(b"hello")
        await trio.sleep_forever()


async def websocket(request: Request) -> None:
    async with open_websocket(request) as ws:
        await ws.send("hello")
        await trio.sleep_forever()


async def test_event_streams_end_with_a_retry_and_a_last_chunk(
    serving_over_each_carrier: Serving,
) -> None:
    server = await serving_over_each_carrier(sse)
    retries = set()
    peers = [await server.connect() for _ in range(4)]
    for peer in peers:
        await peer.send(GET)
        await peer.has(b"data: hello\n\n\r\n")
    server.stop.set()
    with trio.fail_after(AT_ONCE):
        for peer in peers:
            rest = await peer.to_end()
            found = re.fullmatch(rb"d\r\nretry: (\d{4})\n\n\r\n0\r\n\r\n", rest)
            assert found, rest
            assert 3000 <= int(found[1]) <= 6000
            retries.add(found[1])
        await server.ended.wait()
    assert len(retries) > 1  # not all at once


async def test_polls_are_answered(serving_over_each_carrier: Serving) -> None:
    watched = Watched(poll)
    server = await serving_over_each_carrier(watched)
    peer = await server.connect()
    await peer.send(GET)
    await happens(watched.started)
    await trio.testing.wait_all_tasks_blocked()
    server.stop.set()
    with trio.fail_after(AT_ONCE):
        answer = await peer.to_end()
        await server.ended.wait()
    assert answer.startswith(b"HTTP/1.1 204 ")
    assert b'ETag: "e-7"\r\n' in answer


async def test_endless_streams_end_with_a_last_chunk(serving_over_each_carrier: Serving) -> None:
    server = await serving_over_each_carrier(endless)
    peer = await server.connect()
    await peer.send(GET)
    await peer.until(b"hello\r\n")
    server.stop.set()
    with trio.fail_after(AT_ONCE):
        assert await peer.to_end() == b"0\r\n\r\n"
        await server.ended.wait()


async def test_websockets_close_with_1001(serving_over_each_carrier: Serving) -> None:
    server = await serving_over_each_carrier(websocket)
    peer = await server.connect()
    await peer.send(handshake())
    await peer.has(b"hello")
    server.stop.set()
    with trio.fail_after(AT_ONCE):
        got = await peer.until(b"the server is stopping")
        assert got[:4] == b"\x88\x18\x03\xe9"
        await peer.send(frame(TEXT, b"on its way") + close(1001))
        assert await peer.to_end() == b""
        await server.ended.wait()


async def test_idle_connections_see_the_end_at_once(serving_over_each_carrier: Serving) -> None:
    server = await serving_over_each_carrier(hello)
    fresh, kept = await server.connect(), await server.connect()
    await kept.send(GET)
    await kept.until(b"hello\n")
    server.stop.set()
    with trio.fail_after(AT_ONCE):
        assert await kept.to_end() == b""
        assert await fresh.to_end() == b""
        await server.ended.wait()


async def test_no_connection_is_accepted_any_more(serving_over_each_carrier: Serving) -> None:
    server = await serving_over_each_carrier(sse)
    server.stop.set()
    with trio.fail_after(AT_ONCE):
        await server.ended.wait()
    with pytest.raises(OSError, match=r"all attempts to connect|refused"):
        await server.connect()


def is_last(answer: bytes, carrier: str) -> bool:
    """Whether a response says that it is the connection's last one. Over HTTP/2 a GOAWAY does."""
    return carrier == "http2" or b"\r\nConnection: close\r\n" in answer


async def test_plain_handlers_and_finite_streams_may_finish(
    serving_over_each_carrier: Serving, carrier: str
) -> None:
    busy, go_on = trio.Event(), trio.Event()

    async def finite(request: Request) -> None:
        if request.path == "/plain":
            busy.set()
            await go_on.wait()
            await request.respond(200, b"done\n")
            return
        async with open_stream(request, "text/plain") as stream:
            await stream.send(b"tick")
            await go_on.wait()
            await stream.send(b"tock")

    server = await serving_over_each_carrier(finite)
    first, second = await server.connect(), await server.connect()
    await first.send(GET)
    await second.send(GET.replace(b"/ ", b"/plain "))
    await first.has(b"tick\r\n")
    await happens(busy)
    server.stop.set()
    await trio.testing.wait_all_tasks_blocked(0.01)
    go_on.set()
    assert await first.to_end() == b"4\r\ntock\r\n0\r\n\r\n"
    answer = await second.to_end()
    assert answer.endswith(b"\r\n\r\ndone\n")
    assert is_last(answer, carrier)
    with trio.fail_after(AT_ONCE):
        await server.ended.wait()


async def test_after_the_deadline_they_are_cut_without_a_last_chunk(
    serving_over_each_carrier: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rawstream.access")

    async def long(request: Request) -> None:
        length = 100 if request.path == "/sized" else None
        async with open_stream(request, "text/plain", length=length) as stream:
            await stream.send(b"tick")
            await trio.sleep_forever()

    server = await serving_over_each_carrier(long, limits=Limits(drain_seconds=0.3))
    chunked, sized = await server.connect(), await server.connect()
    await chunked.send(GET)
    await sized.send(GET.replace(b"/ ", b"/sized "))
    await chunked.until(b"tick\r\n")
    await sized.until(b"tick")
    start = trio.current_time()
    server.stop.set()
    assert await chunked.to_end() == b""
    assert await sized.to_end() == b""
    await happens(server.ended)
    assert 0.25 < trio.current_time() - start < 1.3
    await trio.testing.wait_all_tasks_blocked()
    assert [record.getMessage().split()[-1] for record in caplog.records] == ["cut", "cut"]


@pytest.mark.parametrize("kind", ["sse", "endless", "websocket"])
async def test_a_send_under_way_is_finished_first(
    serving_over_each_carrier: Serving, kind: str
) -> None:
    """The client reads slowly: the piece it is in the middle of, and then the end, arrive whole."""
    size = 5_000_000  # no buffer takes what an endless handler sends

    async def handler(request: Request) -> None:
        if kind == "sse":
            async with open_events(request) as events:
                while True:
                    await events.send("x" * size)
        elif kind == "endless":
            async with open_stream(request, "text/plain", endless=True) as stream:
                while True:
                    await stream.send(b"x" * size)
        else:
            async with open_websocket(request) as ws:
                while True:
                    await ws.send(b"x" * size)

    server = await serving_over_each_carrier(handler)
    peer = await server.connect()
    await peer.send(handshake() if kind == "websocket" else GET)
    _, _, begin = (await peer.has(b"\r\n\r\n")).partition(b"\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked(0.05)  # the buffers are full
    server.stop.set()
    await trio.testing.wait_all_tasks_blocked(0.05)
    body = bytearray(begin)
    with trio.fail_after(10):
        while data := await peer.stream.receive_some():
            body += data
            if kind == "websocket" and body.endswith(b"the server is stopping"):
                await peer.send(close(1001))
        await server.ended.wait()
    endings = {
        "sse": rb"x\n\n\r\nd\r\nretry: \d{4}\n\n\r\n0\r\n\r\n",
        "endless": rb"x\r\n0\r\n\r\n",
        "websocket": rb"x\x88\x18\x03\xe9the server is stopping",
    }
    assert re.search(endings[kind] + rb"\Z", body[-100:])
    whole, rest = divmod(body.count(b"x"), size)
    assert whole > 0
    assert rest == 0


@pytest.mark.parametrize("torn_first", [True, False])
async def test_a_torn_stream_gets_no_last_chunk(
    serving_over_each_carrier: Serving, torn_first: bool
) -> None:
    sending, torn = trio.Event(), trio.Event()

    async def handler(request: Request) -> None:
        async with open_stream(request, "text/plain", endless=True) as stream:
            sending.set()
            with trio.move_on_after(0.5):  # enough to encrypt it, and to send some
                await stream.send(b"x" * 20_000_000)
            torn.set()
            await trio.sleep_forever()

    watched = Watched(handler)
    server = await serving_over_each_carrier(watched)
    peer = await server.connect()
    await peer.send(GET)
    await happens(torn if torn_first else sending)
    server.stop.set()
    await happens(watched.ended)
    assert (await peer.to_end()).endswith((b"x", b"x\r\n"))  # a frame of HTTP/2 is whole
    await peer.stream.aclose()
    with trio.fail_after(AT_ONCE):
        await server.ended.wait()


async def test_a_stream_opened_while_draining_ends_at_once(
    serving_over_each_carrier: Serving, carrier: str
) -> None:
    busy, go_on = trio.Event(), trio.Event()

    async def late(request: Request) -> None:
        busy.set()
        await go_on.wait()
        await sse(request)

    server = await serving_over_each_carrier(late)
    peer = await server.connect()
    await peer.send(GET)
    await happens(busy)
    server.stop.set()
    await trio.testing.wait_all_tasks_blocked(0.01)
    go_on.set()
    with trio.fail_after(AT_ONCE):
        answer = await peer.to_end()
    assert re.search(rb"\r\n\r\nd\r\nretry: \d{4}\n\n\r\n0\r\n\r\n\Z", answer)
    assert is_last(answer, carrier)


@pytest.mark.parametrize("carrier", ["tcp", "tls"])
async def test_a_head_that_is_coming_in_is_still_answered(
    serving_over_each_carrier: Serving,
) -> None:
    server = await serving_over_each_carrier(hello)
    peer = await server.connect()
    await peer.send(GET[:10])
    await trio.testing.wait_all_tasks_blocked(0.01)
    server.stop.set()
    await trio.testing.wait_all_tasks_blocked(0.01)
    await peer.send(GET[10:])
    assert (await peer.to_end()).endswith(b"Connection: close\r\n\r\nhello\n")


@pytest.mark.parametrize("spoken", VERSIONS)
async def test_a_client_in_the_middle_of_its_handshake_is_served(
    serving: Serving, certificate: Certificate, spoken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rawstream.http1.connection.ARRIVING_SECONDS", 0.2)

    async def slow(request: Request) -> None:
        await trio.sleep(0.4)  # it has the time of any other
        await request.respond(200, b"hello\n")

    server = await serving(slow, tls=certificate.server_context)
    client, silent = await server.connect(), await server.connect()
    await trio.testing.wait_all_tasks_blocked(0.01)
    server.stop.set()
    await trio.testing.wait_all_tasks_blocked(0.02)
    with trio.fail_after(AT_ONCE):
        await trio.sleep(2 * SETTLE_SECONDS)
        tls = trio.SSLStream(client.stream, certificate.client_context, server_hostname="127.0.0.1")
        await tls.do_handshake()
        peer = peer_of(tls, spoken)
        await peer.send(GET)
        assert (await peer.until(b"hello\n")).startswith(b"HTTP/1.1 200")
        assert await silent.to_end() == b""
    await tls.aclose()
    await server.ended.wait()


async def test_cancelling_serve_cuts_everything(serving_over_each_carrier: Serving) -> None:
    async with trio.open_nursery() as nursery:
        server = await serving_over_each_carrier(sse, nursery=nursery)
        peer = await server.connect()
        await peer.send(GET)
        await peer.has(b"hello\n\n\r\n")
        nursery.cancel_scope.cancel()
    assert await peer.to_end() == b""
