"""The PROXY protocol: for whom a trusted proxy connects, before anything else."""

from __future__ import annotations

import logging
import re
import ssl
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from peers import Certificate, Peer, Server, Serving, program
from wire import GET, get

from rawstream import Limits, Request
from rawstream.tcp.proxy_protocol import V2_SIGNATURE, Header, Introduction, cut_header

V1 = b"PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\r\n"
IPV4 = bytes([203, 0, 113, 7, 198, 51, 100, 1]) + b"\xdc\x04\x01\xbb"
IPV6 = (
    bytes.fromhex("20010db8" + "0" * 22 + "07" + "20010db8" + "0" * 22 + "01") + b"\xdc\x04\x01\xbb"
)
MAPPED = bytes(10) + b"\xff\xff" + IPV4[:4] + bytes(20)
TLVS = b"\x04\x00\x03abc\x20\x00\x05\x01\x00\x00\x00\x00"
"""NOOP, and that the client came over TLS."""


def v2(command: int, family: int, rest: bytes = b"", *, length: int | None = None) -> bytes:
    head = bytes([command, family]) + (len(rest) if length is None else length).to_bytes(2, "big")
    return V2_SIGNATURE + head + rest


V2 = v2(0x21, 0x11, IPV4)

SOUND = {
    "1, IPv4": (V1, "203.0.113.7"),
    "1, the shortest": (b"PROXY TCP4 1.1.1.1 2.2.2.2 0 0\r\n", "1.1.1.1"),
    "1, IPv6": (b"PROXY TCP6 2001:DB8::7 ::1 65535 443\r\n", "2001:db8::7"),
    "1, IPv6, the longest": (b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n", "ffff:" * 7 + "ffff"),
    "1, mapped": (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", "203.0.113.7"),
    "1, unknown": (b"PROXY UNKNOWN\r\n", ""),
    "1, unknown, and more": (b"PROXY UNKNOWN ffff::1 ::1 65535 1\r\n", ""),
    "2, IPv4": (V2, "203.0.113.7"),
    "2, IPv6": (v2(0x21, 0x21, IPV6), "2001:db8::7"),
    "2, mapped": (v2(0x21, 0x21, MAPPED), "203.0.113.7"),
    "2, more than is looked at at once": (v2(0x21, 0x11, IPV4 + b"\x04\x0f\xff" + bytes(4095)), "203.0.113.7"),
    "2, TLVs": (v2(0x21, 0x11, IPV4 + TLVS), "203.0.113.7"),
    "2, UDP": (v2(0x21, 0x12, IPV4), ""),
    "2, unix": (v2(0x21, 0x31, b"/socket".ljust(216, b"\0")), ""),
    "2, unspecified": (v2(0x21, 0x00), ""),
    "2, unspecified, and more": (v2(0x21, 0x00, IPV4), ""),
    "2, local": (v2(0x20, 0x00), ""),
    "2, local, and what is not looked at": (v2(0x20, 0xFF, IPV4[:3]), ""),
}  # fmt: skip

MALFORMED = {
    "no header": GET,
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "another case": b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
    "no space": b"PROXYTCP4",
    "1, no family": b"PROXY \r\n",
    "1, another family": b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
    "1, of the other family": b"PROXY TCP4 ::1 ::1 1 2\r\n",
    "1, of the other family, too": b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
    "1, no target": b"PROXY TCP4 1.1.1.1 1 2\r\n",
    "1, no port": b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
    "1, one more": b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
    "1, two spaces": b"PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
    "1, too large a port": b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
    "1, a zero in front": b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
    "1, a signed port": b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
    "1, no address": b"PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n",
    "1, no target address": b"PROXY TCP4 1.1.1.1 2.2.2 1 2\r\n",
    "1, a name": b"PROXY TCP4 localhost 2.2.2.2 1 2\r\n",
    "1, a bare LF": b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
    "1, a bare CR": b"PROXY UNKNOWN \r \r\n",
    "1, too long": b"PROXY UNKNOWN " + b"x" * 93,
    "1, known": b"PROXY UNKNOWNS\r\n",
    "2, version 1": v2(0x11, 0x11, IPV4),
    "2, another command": v2(0x22, 0x11, IPV4),
    "2, another family": v2(0x21, 0x41, IPV4),
    "2, another transport": v2(0x21, 0x13, IPV4),
    "2, IPv4 too short": v2(0x21, 0x11, IPV4[:-1]),
    "2, IPv6 too short": v2(0x21, 0x21, IPV6[:-1]),
    "2, unix too short": v2(0x21, 0x31, bytes(215)),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_headers_split_at_every_byte(name: str) -> None:
    data, source = SOUND[name]
    for size in range(min(len(data), 300)):
        assert cut_header(data[:size]) is None
    assert cut_header(data) == cut_header(data + GET) == Header(len(data), source)
    assert cut_header(data + data) == Header(len(data), source)


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_headers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        cut_header(MALFORMED[name])


@given(st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", V2_SIGNATURE, V2[:13]]), st.binary())
def test_nothing_else_is_raised(begin: bytes, rest: bytes) -> None:
    with suppress(ValueError):
        cut_header(begin + rest)


# -- Served ---------------------------------------------------------------------------------------


async def who(request: Request) -> None:
    await request.respond(200, f"{request.scheme} {request.client or '-'}\n")


async def refused(peer: Peer) -> None:
    with suppress(trio.BrokenResourceError):
        assert await peer.to_end() == b""


@pytest.mark.parametrize("name", SOUND)
async def test_no_byte_behind_the_header_is_read(name: str) -> None:
    data, source = SOUND[name]
    ours, theirs = trio.socket.socketpair()
    async with trio.SocketStream(ours) as client, trio.SocketStream(theirs) as server:
        await client.send_all(data + GET)
        with trio.fail_after(5):
            header = await Introduction(server, "", 5).receive()
            assert header == Header(len(data), source)
            assert await server.receive_some() == GET


@pytest.mark.parametrize("header", [V1, V2, v2(0x21, 0x11, IPV4 + TLVS)])
async def test_the_client_is_known_however_its_header_is_split(
    serving: Serving, header: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rawstream.access")
    server = await serving(who, trusted_proxies=["127.0.0.1"], proxy_protocol=True)
    for step in (0, 1):
        peer = await server.connect()
        await peer.send(header + GET, step=step)
        assert (await peer.until(b"\n")).endswith(b"\r\n\r\nhttp 203.0.113.7\n")
        # Its own fields are not believed: such a proxy does not look at them.
        await peer.send(get("/", b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n"))
        assert (await peer.until(b"\n")).endswith(b"\r\n\r\nhttp 203.0.113.7\n")
        await peer.stream.aclose()
    await trio.testing.wait_all_tasks_blocked(0.02)
    assert {record.getMessage().split()[0] for record in caplog.records} == {"203.0.113.7"}


@pytest.mark.parametrize("step", [0, 1])
async def test_the_header_comes_before_tls(
    serving: Serving, certificate: Certificate, step: int
) -> None:
    options = {"trusted_proxies": ["127.0.0.1"], "proxy_protocol": True}
    server = await serving(who, tls=certificate.server_context, **options)
    peer = await server.connect()
    await peer.send(V2, step=step)
    tls = trio.SSLStream(
        peer.stream, certificate.client_context, server_hostname="127.0.0.1", https_compatible=True
    )
    with trio.fail_after(5):
        await tls.send_all(GET)
        answer = bytes(await tls.receive_some())
    assert answer.endswith(b"https 203.0.113.7\n")
    # Within TLS it is no header.
    server = await serving(who, tls=certificate.server_context, **options)
    peer = await server.connect()
    inner = trio.SSLStream(peer.stream, certificate.client_context, server_hostname="127.0.0.1")
    with trio.fail_after(5), pytest.raises((trio.BrokenResourceError, ssl.SSLError)):
        await inner.send_all(V2 + GET)


async def test_a_proxy_in_front_of_the_proxy_is_believed(serving: Serving) -> None:
    trusted = ["127.0.0.1", "203.0.113.0/24"]
    server = await serving(who, trusted_proxies=trusted, proxy_protocol=True)
    peer = await server.connect()
    await peer.send(V2 + get("/", b"X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: https\r\n"))
    assert (await peer.until(b"\n")).endswith(b"https 192.0.2.9\n")


async def test_other_peers_have_no_header_and_need_none(serving: Serving) -> None:
    server = await serving(who, trusted_proxies=["192.0.2.1"], proxy_protocol=True)
    peer = await server.connect()
    await peer.send(GET)
    assert (await peer.until(b"\n")).endswith(b"http 127.0.0.1\n")
    peer = await server.connect()
    await peer.send(V1 + GET)
    assert (await peer.to_end()).startswith(b"HTTP/1.1 400")


async def test_a_proxy_that_names_nobody_over_tcp_and_a_unix_socket(
    serving: Serving, tmp_path: Path
) -> None:
    trusted: dict[str, Any] = {"trusted_proxies": ["127.0.0.1", "unix"], "proxy_protocol": True}
    over_unix = await serving(who, unix=str(tmp_path / "socket"), **trusted)
    for server, client in ((await serving(who, **trusted), b"127.0.0.1"), (over_unix, b"-")):
        for header in (b"PROXY UNKNOWN\r\n", v2(0x20, 0x00), v2(0x21, 0x00)):
            peer = await server.connect()
            await peer.send(header + get("/", b"X-Forwarded-For: 6.6.6.6\r\n"))
            assert (await peer.until(b"\n")).endswith(b"\nhttp " + client + b"\n")
    peer = await over_unix.connect()
    await peer.send(V1 + GET)
    assert (await peer.until(b"\n")).endswith(b"\nhttp 203.0.113.7\n")


@pytest.fixture
async def strict(serving: Serving) -> Server:
    """A server that needs the header."""
    limits = Limits(head_seconds=0.2)
    return await serving(who, limits=limits, trusted_proxies=["127.0.0.1"], proxy_protocol=True)


async def test_what_is_malformed_or_late_is_closed_with_one_line(
    strict: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for data in (*MALFORMED.values(), V1[:-1], V2[:-1], b"", V2_SIGNATURE):
        caplog.clear()
        peer = await strict.connect()
        await peer.send(data)
        await refused(peer)
        [line] = [record.getMessage() for record in caplog.records]
        assert re.fullmatch(r"127\.0\.0\.1: PROXY protocol: [\w ]+", line)


async def test_a_header_that_came_in_time_is_read_though_the_process_stood_still(
    strict: Server,
) -> None:
    with strict.open_socket() as client:
        client.sendall(V1[:9])
        await trio.testing.wait_all_tasks_blocked(0.01)
        client.sendall(V1[9:] + GET)
        time.sleep(0.9)  # noqa: ASYNC251
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert client.recv(4096).endswith(b"http 203.0.113.7\n")


async def test_one_that_only_looks_whether_anybody_listens_is_not_logged(
    strict: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for data in (b"", V1[:5]):
        peer = await strict.connect()
        await peer.send(data)
        assert isinstance(peer.stream, trio.SocketStream)
        await peer.stream.send_eof()
        await refused(peer)
    assert not caplog.records


async def test_a_drain_does_not_wait_for_a_header(serving: Serving) -> None:
    server = await serving(who, trusted_proxies=["127.0.0.1"], proxy_protocol=True)
    begun, silent = await server.connect(), await server.connect()
    await begun.send(V1[:9])
    await trio.testing.wait_all_tasks_blocked(0.02)
    server.stop.set()
    with trio.fail_after(2):
        await refused(begun)
        await refused(silent)
        await server.ended.wait()


async def test_the_named_address_has_the_cap(serving: Serving) -> None:
    limits = Limits(connections_per_address=1, refusals=1)
    server = await serving(who, limits=limits, trusted_proxies=["127.0.0.1"], proxy_protocol=True)

    async def answer(header: bytes) -> tuple[Peer, bytes]:
        peer = await server.connect()
        await peer.send(header + GET)
        with suppress(trio.BrokenResourceError):
            return peer, (await peer.until(b"\n"))[:12]
        raise AssertionError("closed")

    kept, status = await answer(V1)
    assert status == b"HTTP/1.1 200"
    assert (await answer(V2))[1] == b"HTTP/1.1 503"
    other = V1.replace(b"203.0.113.7", b"203.0.113.8")
    assert (await answer(other))[1] == b"HTTP/1.1 200"
    await kept.stream.aclose()
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert (await answer(V2))[1] == b"HTTP/1.1 200"


async def test_connections_that_wait_for_their_header_are_bounded(serving: Serving) -> None:
    limits = Limits(connections=1, refusals=1)
    server = await serving(who, limits=limits, trusted_proxies=["127.0.0.1"], proxy_protocol=True)
    waiting = [await server.connect() for _ in range(2)]
    await trio.testing.wait_all_tasks_blocked(0.02)
    third = await server.connect()
    await refused(third)
    await waiting[0].send(V1 + GET)
    assert (await waiting[0].until(b"\n")).startswith(b"HTTP/1.1 503")


# -- A real one -----------------------------------------------------------------------------------

HAPROXY = """
defaults
  mode tcp
  timeout connect 5s
  timeout client 5s
  timeout server 5s
listen one
  bind unix@{folder}/one
  server us 127.0.0.1:{port} send-proxy
listen two
  bind unix@{folder}/two
  server us 127.0.0.1:{port} send-proxy-v2
listen three
  bind unix@{folder}/three accept-proxy
  server us 127.0.0.1:{port} send-proxy-v2 proxy-v2-options unique-id,crc32c
"""


async def test_haproxy_in_front(serving: Serving, tmp_path: Path) -> None:
    server = await serving(who, trusted_proxies=["127.0.0.1"], proxy_protocol=True)
    config = tmp_path / "haproxy.cfg"
    config.write_text(HAPROXY.format(folder=tmp_path, port=server.port))
    process = await trio.lowlevel.open_process([program("haproxy"), "-db", "-f", str(config)])
    try:
        for name, sent, client in (
            ("one", b"", b"127.0.0.1"),
            ("two", b"", b"127.0.0.1"),
            ("three", V1, b"203.0.113.7"),
        ):
            path = tmp_path / name
            with trio.fail_after(10):
                while not path.exists():  # noqa: ASYNC110
                    await trio.sleep(0.02)
                async with await trio.open_unix_socket(path) as stream:
                    peer = Peer(stream)
                    await peer.send(sent + GET)
                    assert (await peer.until(b"\n")).endswith(b"http " + client + b"\n"), name
    finally:
        process.kill()
        await process.wait()
