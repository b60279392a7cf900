"""Listening: addresses, unix sockets, systemd's descriptors, TLS, caps, socket options."""

from __future__ import annotations

import errno
import gc
import os
import re
import socket
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from peers import Certificate, Serving, happens
from wire import GET

from rawstream import Limits, Request, serve
from rawstream.tcp.admission import ConnectionLimits, fitted_to_open_files
from rawstream.tcp.listeners import inherited_sockets, is_loopback, tls_context, url_of


async def hello(request: Request) -> None:
    await request.respond(200, f"{request.scheme} {request.client or '-'}\n")


async def test_start_returns_the_bound_addresses(nursery: trio.Nursery) -> None:
    addresses = await nursery.start(partial(serve, hello, port=0))
    assert [host for host, port in addresses if port > 0] == ["127.0.0.1"]


async def test_ipv6(nursery: trio.Nursery) -> None:
    [address] = await nursery.start(partial(serve, hello, host="::1", port=0))
    assert url_of(address, tls=False) == f"http://[::1]:{address[1]}"
    async with await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(GET)
        assert (await stream.receive_some()).endswith(b"http ::1\n")


async def test_an_address_in_use_is_an_oserror(serving: Serving, nursery: trio.Nursery) -> None:
    server = await serving(hello)
    with pytest.raises(OSError, match="in use") as caught:
        await nursery.start(partial(serve, hello, port=server.port))
    assert caught.value.errno == errno.EADDRINUSE


async def test_unix_socket(serving: Serving, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = await serving(hello, unix=str(path))
    peer = await server.connect()
    await peer.send(GET)
    assert (await peer.until(b"http -\n")).startswith(b"HTTP/1.1 200")
    with pytest.raises(OSError, match="in use"):
        await serve(hello, unix=str(path))
    server.stop.set()
    await happens(server.ended)
    assert not path.exists()


async def test_a_unix_socket_left_behind_is_replaced(serving: Serving, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = await serving(hello, unix=str(path))
    await (await server.connect()).send(GET)


async def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OSError, match="not a socket"):
        await serve(hello, unix=str(path))
    assert path.read_text() == "precious"


async def test_another_servers_socket_is_not_removed(serving: Serving, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    first = await serving(hello, unix=str(path))
    path.rename(tmp_path / "moved")
    await serving(hello, unix=str(path))
    first.stop.set()
    await happens(first.ended)
    assert path.exists()


async def test_tls(serving: Serving, certificate: Certificate) -> None:
    server = await serving(
        hello, tls=certificate.server_context, client_context=certificate.client_context
    )
    peer = await server.connect()
    for _ in range(2):
        await peer.send(GET)
        assert (await peer.until(b"https 127.0.0.1\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("installed", [True, False])
async def test_a_server_without_http2_answers_its_preface(
    installed: bool, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installed:
        monkeypatch.setattr("rawstream.server.find_spec", lambda name: None)
    server = await serving(hello, http2=not installed)
    peer = await server.connect()
    await peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert (await peer.to_end()).startswith(b"HTTP/1.1 505 ")


async def test_plain_http_to_a_tls_port_ends(serving: Serving, certificate: Certificate) -> None:
    server = await serving(hello, tls=certificate.server_context)
    peer = await server.connect()
    await peer.send(GET)
    assert b"HTTP" not in await peer.to_end()


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    with pytest.raises(FileNotFoundError):
        tls_context(str(path))
    path.write_text("nonsense")
    with pytest.raises(ValueError, match="no usable certificate"):
        tls_context(str(path))


@pytest.mark.skipif(sys.platform != "linux", reason="the options are Linux's")
async def test_accepted_sockets_find_a_peer_that_vanished(serving: Serving) -> None:
    server = await serving(hello)
    peer = await server.connect()
    await peer.send(GET)
    await peer.until(b"\n")
    assert isinstance(peer.stream, trio.SocketStream)
    ours = peer.stream.socket.getsockname()
    streams = [o for o in gc.get_objects() if type(o) is trio.SocketStream]
    [option] = [
        s.getsockopt for s in streams if s.socket.fileno() >= 0 and s.socket.getpeername() == ours
    ]
    assert option(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
    assert option(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
    assert option(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 5


# -- Caps -----------------------------------------------------------------------------------------


async def test_a_full_server_says_so(serving: Serving) -> None:
    server = await serving(hello, limits=Limits(connections=2, refusals=2))
    kept = [await server.connect() for _ in range(2)]
    for peer in kept:
        await peer.send(GET)
        await peer.until(b"127.0.0.1\n")
    plain, events, dropped = [await server.connect() for _ in range(3)]
    await trio.testing.wait_all_tasks_blocked(0.05)
    await plain.send(GET)
    answer = await plain.to_end()
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert re.search(rb"\r\nRetry-After: \d+\r\n", answer)
    assert b"\r\nConnection: close\r\n" in answer
    await events.send(GET[:-2] + b"Accept: text/event-stream\r\n\r\n")
    answer = await events.to_end()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Type: text/event-stream\r\n" in answer
    assert re.search(rb"\r\n\r\nretry: \d{4,5}\n\n\Z", answer)
    with suppress(trio.BrokenResourceError):  # it may be told by a reset
        await dropped.send(GET)
        assert await dropped.to_end() == b""
    for peer in (*kept, plain, events):
        await peer.stream.aclose()
    await trio.testing.wait_all_tasks_blocked(0.05)
    back = await server.connect()
    await back.send(GET)
    assert (await back.until(b"\n")).startswith(b"HTTP/1.1 200 OK\r\n")


def test_the_cap_of_an_address() -> None:
    caps = ConnectionLimits(Limits(connections=4, connections_per_address=2))
    for _ in range(2):
        assert caps.excess("192.0.2.1") == 0
        caps.add("192.0.2.1")
    assert caps.excess("192.0.2.1") == 1
    assert caps.excess("192.0.2.2") == 0
    caps.add("192.0.2.1")
    assert caps.excess("192.0.2.1") == 2
    caps.remove("192.0.2.1")
    caps.remove("192.0.2.1")
    assert caps.excess("192.0.2.1") == 0


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", ""])
def test_loopback_and_unix_sockets_have_no_cap_of_their_own(address: str) -> None:
    caps = ConnectionLimits(Limits(connections=10, connections_per_address=1))
    for _ in range(10):
        assert caps.excess(address) == 0
        caps.add(address)
    assert caps.excess(address) == 1


def test_open_files_bound_the_connections() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 500))\n"
        "from rawstream import Limits; from rawstream.tcp.admission import fitted_to_open_files\n"
        "print(fitted_to_open_files(Limits()).connections)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(500 - 64 - 87), "500"]
    small = Limits(connections=10, refusals=1)
    assert fitted_to_open_files(small) is small


@pytest.mark.parametrize(
    ("address", "loopback"),
    [(("127.0.0.1", 1), True), (("::1", 1), True), (("0.0.0.0", 1), False), ("/socket", False)],
)
def test_what_is_loopback(address: tuple[str, int] | str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


async def test_host_is_checked_on_loopback_only(serving: Serving) -> None:
    foreign = GET.replace(b"localhost", b"evil.example")
    cases: list[tuple[dict[str, Any], bytes]] = [
        ({}, b"421"),
        ({"allowed_hosts": ["evil.example"]}, b"200"),
        ({"allowed_hosts": ["*"]}, b"200"),
        ({"host": "0.0.0.0"}, b"200"),
    ]
    for options, status in cases:
        server = await serving(hello, **options)
        peer = await server.connect()
        await peer.send(foreign)
        assert (await peer.until(b"\n")).startswith(b"HTTP/1.1 " + status)


# -- systemd --------------------------------------------------------------------------------------

INHERITING = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid() + {other})
os.environ["LISTEN_FDS"] = "{count}"
from rawstream.tcp.listeners import inherited_sockets
try:
    sockets = inherited_sockets()
except ValueError as error:
    sys.exit(str(error))
print([s.getsockname()[1] for s in sockets], [s.get_inheritable() for s in sockets],
      [name for name in os.environ if name.startswith("LISTEN_")])
"""


def inheriting(count: str, *, other: int = 0, listening: bool = True) -> tuple[str, str, list[int]]:
    """What a process makes of two sockets at descriptors 3 and 4."""
    with socket.socket() as first, socket.socket() as second:
        for sock in (first, second):
            sock.bind(("127.0.0.1", 0))
            if listening:
                sock.listen()

        def at_three_and_four() -> None:
            os.dup2(first.fileno(), 100)
            os.dup2(second.fileno(), 4)
            os.dup2(100, 3)

        code = INHERITING.format(count=count, other=other)
        done = subprocess.run(
            [sys.executable, "-c", code], preexec_fn=at_three_and_four, pass_fds=(3, 4),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout, done.stderr, [s.getsockname()[1] for s in (first, second)]


def test_sockets_from_systemd() -> None:
    out, _, ports = inheriting("2")
    assert out == f"{ports} [False, False] []\n"


def test_sockets_meant_for_another_process() -> None:
    out, _, _ = inheriting("2", other=1)
    assert out == "[] [] ['LISTEN_PID', 'LISTEN_FDS']\n"


@pytest.mark.parametrize(
    ("count", "listening", "error"),
    [
        ("two", True, "not a number"),
        ("2", False, "3 is not a listening"),
        ("3", True, "descriptor 5"),
    ],
)
def test_sockets_that_are_none(count: str, listening: bool, error: str) -> None:
    _, err, _ = inheriting(count, listening=listening)
    assert error in err


async def test_serving_an_inherited_socket(nursery: trio.Nursery) -> None:
    assert inherited_sockets() == []
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    port = sock.getsockname()[1]
    assert await nursery.start(partial(serve, hello, inherited=[sock])) == [("127.0.0.1", port)]
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(GET)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
