"""Other people's programs that speak HTTP/2: curl, httpx, nghttp, h2load, HAProxy and nginx."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import trio
from peers import (
    PATIENCE,
    Certificate,
    Curl,
    Server,
    Serving,
    free_port,
    is_free,
    nginx_before,
    program,
)

from rawstream import EventDecoder, Handler, Request, open_stream
from rawstream.demo.app import app as demo
from rawstream.tcp.listeners import tls_context


async def summed(request: Request) -> None:
    """Answer with trailers, and with what has come."""
    body = await request.body()
    fields = [("Trailer", "X-Sum"), ("X-Version", request.http_version)]
    async with open_stream(request, "text/plain", headers=fields) as stream:
        await stream.send(b"%d bytes\n" % len(body))
        stream.trailers = [("X-Sum", str(sum(body)))]


async def over_tls(serving: Serving, certificate: Certificate, handler: Handler = demo) -> Server:
    """A server that offers both versions by ALPN."""
    tls = tls_context(
        str(certificate.certfile), str(certificate.keyfile), protocols=("h2", "http/1.1")
    )
    return await serving(handler, tls=tls, client_context=certificate.client_context)


async def run(*command: str, input: bytes = b"") -> str:
    """What a program prints, to stdout and stderr."""
    with trio.fail_after(PATIENCE * 3):
        done = await trio.run_process(
            command, stdin=input, capture_stdout=True, stderr=subprocess.STDOUT
        )
    return done.stdout.decode()


@contextmanager
def haproxy_before(server: Server, folder: Path) -> Iterator[str]:
    """The URL of HAProxy, which speaks HTTP/2 with a server."""
    port = free_port()
    (folder / "haproxy.cfg").write_text(
        "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n"
        f"frontend in\n bind 127.0.0.1:{port}\n default_backend out\n"
        f"backend out\n server s1 127.0.0.1:{server.port} proto h2\n"
    )
    command = [program("haproxy"), "-q", "-db", "-f", str(folder / "haproxy.cfg")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + PATIENCE
            while is_free(port):
                assert time.monotonic() < end, "HAProxy does not listen"
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


# -- curl -----------------------------------------------------------------------------------------

VERSION = ("-w", "%{http_version} %{http_code}")


async def test_curl_speaks_either_version_on_one_port(serving: Serving, curl: Curl) -> None:
    server = await serving(demo)
    for option, version in (("--http2-prior-knowledge", b"2"), ("--http1.1", b"1.1")):
        hello = (option, *VERSION, f"{server.url}/hello")
        assert await curl(*hello) == (0, b"hello\n" + version + b" 200")
        assert (await curl("-I", *hello))[1].endswith(version + b" 200")


async def test_curl_is_offered_both_by_alpn(
    serving: Serving, certificate: Certificate, curl: Curl
) -> None:
    server = await over_tls(serving, certificate)
    trusting = partial(curl, "--cacert", str(certificate.ca), *VERSION)
    assert await trusting(f"{server.url}/hello") == (0, b"hello\n2 200")
    assert await trusting("--http1.1", f"{server.url}/hello") == (0, b"hello\n1.1 200")


async def test_curl_uploads_and_shows_trailers(serving: Serving, curl: Curl) -> None:
    server = await serving(summed)
    body = b"\x01" * 300_000  # more than a window
    for expect in ("Expect: 100-continue", "Expect:"):
        upload = ("--http2-prior-knowledge", "-i", "-H", expect, "-T", "-", server.url)
        status, output = await curl(*upload, input=body)
        assert status == 0
        assert (b"HTTP/2 100 " in output) == (expect != "Expect:")
        assert b"\r\nx-version: 2\r\n" in output
        assert b"300000 bytes\n" in output
        assert b"x-sum: 300000\r\n" in output


async def test_curl_asks_many_things_at_a_time_on_one_connection(
    serving: Serving, certificate: Certificate, curl: Curl
) -> None:
    # With prior knowledge curl 7.88 fails at this, before any server.
    server = await over_tls(serving, certificate)
    url = f"{server.url}/ticks?count=3&seconds=0.05&n=[1-40]"
    start = trio.current_time()
    status, output = await curl(
        *("-Z", "--cacert", str(certificate.ca), "-w", "<%{num_connects}>", url)
    )
    assert (status, output.count(b"[DONE]")) == (0, 40)
    assert trio.current_time() - start < 40 * 3 * 0.05  # one after the other
    assert sum(map(int, re.findall(rb"<(\d+)>", output))) < 40


# -- httpx ----------------------------------------------------------------------------------------


async def test_httpx_over_tls(serving: Serving, certificate: Certificate) -> None:
    server = await over_tls(serving, certificate)
    client = httpx.AsyncClient(
        base_url=server.url, verify=certificate.client_context, trust_env=False, http2=True
    )
    async with client:
        hello = await client.get("/hello")
        assert (hello.http_version, hello.text) == ("HTTP/2", "hello\n")
        assert (await client.head("/hello")).headers["content-length"] == "6"
        large = b"x" * 300_000
        assert (await client.post("/echo", content=large)).content == large
        assert (await client.delete("/hello")).status_code == 405
        got: list[str | None] = []

        async def read(number: int) -> None:
            decoder = EventDecoder()
            url = f"/ticks?count=3&seconds=0.02&n={number}"
            async with client.stream("GET", url) as response:
                async for piece in response.aiter_raw():
                    got.extend(event.data for event in decoder.feed(piece))

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(read, number)
        assert got.count("[DONE]") == 20
        async with client.stream("GET", "/ticks?count=100&seconds=1") as response:
            assert response.status_code == 200  # and it leaves, by a reset
        assert (await client.get("/hello")).text == "hello\n"


# -- nghttp and h2load ----------------------------------------------------------------------------


async def test_nghttp_shows_the_frames(serving: Serving, tmp_path: Path) -> None:
    server = await serving(summed)
    body = tmp_path / "body"
    body.write_bytes(b"\x01" * 100_000)
    sending = ("--expect-continue", "-b", "200", "-d", str(body), "--trailer", "x-more: 1")
    output = await run(program("nghttp"), "-v", *sending, server.url)
    assert ":status: 100" in output
    assert "100000 bytes\n" in output
    assert "x-sum: 100000" in output
    assert "(padlen=200)" in output
    assert "RST_STREAM" not in output
    assert "recv GOAWAY" not in output


async def test_h2load_finds_no_failure(serving: Serving) -> None:
    server = await serving(demo)
    output = await run(program("h2load"), "-n2000", "-c4", "-m10", f"{server.url}/hello")
    assert "2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored" in output
    assert "status codes: 2000 2xx, 0 3xx, 0 4xx, 0 5xx" in output


# -- Proxies --------------------------------------------------------------------------------------


async def test_haproxy_speaks_http2_with_the_server(
    serving: Serving, curl: Curl, tmp_path: Path
) -> None:
    server = await serving(summed)
    with haproxy_before(server, tmp_path) as url:
        status, output = await curl("-i", "-d", "abc", url)
        assert status == 0
        assert b"x-version: 2\r\n" in output
        assert b"3 bytes\n" in output
    server = await serving(demo)
    with haproxy_before(server, tmp_path) as url:
        status, output = await curl("-N", f"{url}/ticks?count=3&seconds=0.02")
        assert (status, output.count(b"data: ")) == (0, 4)
        assert await curl("-N", "-m", "0.3", f"{url}/ticks?count=99&seconds=0.1") != (0, b"")
        assert (await curl(f"{url}/hello"))[1] == b"hello\n"
        large = b"x" * 300_000
        assert (await curl("--data-binary", "@-", f"{url}/echo", input=large))[1] == large


async def test_nginx_speaks_http2_with_browsers(
    serving: Serving, certificate: Certificate, curl: Curl, tmp_path: Path
) -> None:
    """Ours is behind it, over HTTP/1.1."""
    server = await serving(demo)
    port, tls = free_port(), free_port() + 1
    more = (
        f"}} listen 127.0.0.1:{tls} ssl http2; ssl_certificate {certificate.certfile};"
        f"ssl_certificate_key {certificate.keyfile}; location /unused {{"
    )
    with nginx_before(server.port, tmp_path, port=port, more=more):
        url = f"https://127.0.0.1:{tls}"
        trusting = partial(curl, "--cacert", str(certificate.ca), "-N", "-w", "%{http_version}")
        assert await trusting(f"{url}/hello") == (0, b"hello\n2")
        status, output = await trusting(f"{url}/ticks?count=3&seconds=0.02")
        assert (status, output.count(b"data: ")) == (0, 4)
        sent = await trusting("-d", "a b", f"{url}/generate")
        assert json.loads(sent[1].splitlines()[0]) == {"token": "You said:"}


async def test_nginx_speaks_http2_with_a_server_of_grpc(
    serving: Serving, curl: Curl, tmp_path: Path
) -> None:
    """The one way in which a nginx before 1.29 does."""
    server = await serving(summed)
    port = free_port()
    more = f"}} location /grpc {{ grpc_pass grpc://127.0.0.1:{server.port};"
    with nginx_before(server.port, tmp_path, port=port, more=more):
        status, output = await curl("-i", "-d", "abc", f"http://127.0.0.1:{port}/grpc")
        assert status == 0
        assert b"X-Version: 2\r\n" in output.replace(b"x-version", b"X-Version")
        assert b"3 bytes\n" in output
