"""Other people's clients in Python: httpx and websockets, over TCP and TLS."""

from __future__ import annotations

import json
import ssl
from itertools import pairwise
from typing import Any

import httpx
import pytest
import trio
import websockets.sync.client
from peers import Certificate, Server, Serving
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from rawstream import EventDecoder, Limits, Request, open_events, open_stream, open_websocket
from rawstream.demo.app import app as demo


@pytest.fixture(params=["tcp", "tls"])
async def server(
    request: pytest.FixtureRequest, serving: Serving, certificate: Certificate
) -> Server:
    """The demo, over both."""
    if request.param == "tcp":
        return await serving(demo)
    return await serving(
        demo, tls=certificate.server_context, client_context=certificate.client_context
    )


def http(server: Server) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, verify=server.tls or True, trust_env=False)


# -- httpx ----------------------------------------------------------------------------------------


async def test_plain_requests_keep_their_connection(server: Server) -> None:
    async with http(server) as client:
        for _ in range(3):
            assert (await client.get("/hello")).text == "hello\n"
        assert (await client.head("/hello")).headers["content-length"] == "6"
        assert (await client.post("/echo", content=b"x" * 100_000)).content == b"x" * 100_000
        assert (await client.delete("/hello")).headers["allow"] == "GET, HEAD"
        assert (await client.get("/hello")).status_code == 200


async def test_pieces_arrive_as_they_are_sent(server: Server) -> None:
    async with http(server) as client, client.stream("GET", "/chunked") as response:
        start = trio.current_time()
        times = [(piece, trio.current_time() - start) async for piece in response.aiter_raw()]
    assert [json.loads(piece)["token"] for piece, _ in times] == [
        "The",
        " sky",
        " is",
        " blue",
        ".",
    ]
    assert all(later[1] - earlier[1] > 0.1 for earlier, later in pairwise(times))


async def test_events_resume_after_the_last_one(server: Server) -> None:
    got: list[str] = []

    def client() -> None:
        decoder = EventDecoder()
        with httpx.Client(verify=server.tls or True, trust_env=False) as client:
            while "[DONE]" not in got:
                headers = {"Last-Event-ID": decoder.last_event_id}
                url = f"{server.url}/ticks?count=9&seconds=0.02"
                decoder = EventDecoder(last_event_id=decoder.last_event_id)
                with client.stream("GET", url, headers=headers) as response:
                    for piece in response.iter_raw():
                        got.extend(event.data or "" for event in decoder.feed(piece))
                        if len(got) % 4 == 3:
                            got.append("break")
                            break  # the client drops the connection here

    await trio.to_thread.run_sync(client)
    numbers = [json.loads(data)["n"] for data in got if data.startswith("{")]
    assert numbers == list(range(1, 10))
    assert got.count("break") > 1


async def test_tokens_come_back_as_lines_or_events(server: Server) -> None:
    async with http(server) as client:
        async with client.stream("POST", "/generate", content="a b") as response:
            assert response.headers["content-type"] == "application/x-ndjson"
            lines = [json.loads(line) async for line in response.aiter_lines()]
        assert [line.get("token") for line in lines] == ["You said:", " a", " b", ".", None]
        accept = {"Accept": "text/event-stream"}
        async with client.stream("POST", "/generate", content="a", headers=accept) as response:
            decoder = EventDecoder()
            events = [e async for piece in response.aiter_raw() for e in decoder.feed(piece)]
        assert [event.data for event in events][-1] == "[DONE]"
        assert (await client.post("/generate", content=b"")).status_code == 400


async def test_polls_lose_nothing_between_two(server: Server) -> None:
    async with http(server) as client:
        first = await client.get("/poll?wait=0")
        cursor = first.headers["etag"].strip('"')
        got: list[str] = []

        async def write() -> None:
            for n in range(20):
                assert (await client.post("/poll", content=str(n))).status_code == 204

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            while len(got) < 20:
                answer = await client.get("/poll", params={"after": cursor, "wait": 5})
                assert answer.headers["cache-control"] == "no-store"
                cursor = answer.headers["etag"].strip('"')
                got += answer.json()["entries"]
        assert got == [str(n) for n in range(20)]
        nothing = await client.get("/poll?wait=0", headers={"If-None-Match": f'"{cursor}"'})
        assert nothing.status_code == 304


async def test_an_upload_is_streamed_in_constant_memory(server: Server) -> None:
    async def body() -> Any:
        for _ in range(320):
            yield b"x" * 65536

    async with http(server) as client:
        answer = await client.put("/upload", content=body())
        assert answer.json()["bytes"] == 320 * 65536


async def test_a_download_in_ranges(server: Server) -> None:
    async with http(server) as client:
        whole = (await client.get("/download?size=200000")).content
        parts = [
            (await client.get("/download?size=200000", headers={"Range": f"bytes={a}-{b}"})).content
            for a, b in ((0, 99_999), (100_000, 150_000), (150_001, 999_999))
        ]
        assert b"".join(parts) == whole
        assert len(whole) == 200_000


# -- websockets -----------------------------------------------------------------------------------


def open_socket(server: Server, path: str = "/", **options: Any) -> Any:
    if server.tls is not None:
        options["ssl"] = server.tls
    return websockets.sync.client.connect(
        server.url.replace("http", "ws", 1) + path, proxy=None, **options
    )


async def test_echo_and_push_at_the_same_time(server: Server) -> None:
    def client() -> tuple[list[str], list[int]]:
        echoes: list[str] = []
        pushes: list[int] = []
        with open_socket(server, "/ws?seconds=0.02", compression=None) as ws:
            for n in range(200):
                ws.send(f"m{n}")
            while len(echoes) < 200 or len(pushes) < 5:
                message = ws.recv(5)
                if message.startswith("m"):
                    echoes.append(message)
                else:
                    pushes.append(json.loads(message)["push"])
            ws.send(b"\x00\xff")
            while isinstance(message := ws.recv(5), str):
                pass
            assert message == b"\x00\xff"
        return echoes, pushes

    echoes, pushes = await trio.to_thread.run_sync(client)
    assert echoes == [f"m{n}" for n in range(200)]
    assert pushes == list(range(1, len(pushes) + 1))


async def test_large_and_compressed_messages(serving: Serving) -> None:
    async def echo(request: Request) -> None:
        async with open_websocket(request, compression=True) as ws:
            async for message in ws:
                await ws.send(message)

    server = await serving(echo, limits=Limits(message_bytes=10**7))

    def client(**options: Any) -> None:
        with open_socket(server, max_size=10**7, **options) as ws:
            for message in ("ä" * 400_000, b"\x00" * 3_000_000, "", b"", "x" * 70_000):
                ws.send(message)
                assert ws.recv(10) == message
            ws.send(["in ", "fragments"])
            assert ws.recv(5) == "in fragments"
            ws.ping().wait(5)

    deflate = ClientPerMessageDeflateFactory(
        server_no_context_takeover=True, client_max_window_bits=10, server_max_window_bits=10
    )
    await trio.to_thread.run_sync(client)
    await trio.to_thread.run_sync(lambda: client(compression=None))
    await trio.to_thread.run_sync(lambda: client(compression=None, extensions=[deflate]))


async def test_refusals_and_closes_reach_the_client(serving: Serving) -> None:
    async def handler(request: Request) -> None:
        async with open_websocket(request, subprotocols=["chat"]) as ws:
            assert await ws.receive() == "close me"
            await ws.close(4000, "as you wish")

    server = await serving(handler, limits=Limits(message_bytes=100))

    def client() -> None:
        with pytest.raises(InvalidStatus) as refused:
            open_socket(server, origin="http://evil.example")
        assert refused.value.response.status_code == 403
        with open_socket(server, subprotocols=["other", "chat"]) as ws:
            assert ws.subprotocol == "chat"
            ws.send("close me")
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv(5)
            assert closed.value.rcvd
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "as you wish")
        with open_socket(server) as ws:
            ws.send("x" * 101)
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv(5)
            assert closed.value.rcvd
            assert closed.value.rcvd.code == 1009

    await trio.to_thread.run_sync(client)


# -- Several at a time ----------------------------------------------------------------------------


async def test_a_slow_client_holds_up_nobody(serving: Serving) -> None:
    async def handler(request: Request) -> None:
        if request.path == "/flood":
            async with open_stream(request, "text/plain") as stream:
                while True:
                    await stream.send(b"x" * 65536)
        async with open_events(request) as events:
            for n in range(20):
                await events.send(str(n))
                await trio.sleep(0.01)

    server = await serving(handler)
    slow = await server.connect()
    await slow.send(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with http(server) as client:
        with trio.fail_after(5):
            text = (await client.get("/")).text
    assert text.count("data: ") == 20


def test_the_tls_context_speaks_http_1_1(certificate: Certificate) -> None:
    assert certificate.server_context.minimum_version >= ssl.TLSVersion.TLSv1_2
