"""Request heads, byte by byte: which are accepted, and which are rejected before h11 sees them."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from handlers import hello
from peers import Connect, Serving
from wire import HOST

from rawstream import HTTPError, Limits
from rawstream.http.authority import is_local_host, split_authority
from rawstream.http1.head import check_head

ACCEPTED = {
    "plain": b"GET / HTTP/1.1\r\n" + HOST,
    "no fields on 1.0": b"GET / HTTP/1.0\r\n",
    "host with port": b"GET / HTTP/1.1\r\nHost: localhost:8000\r\n",
    "host in any case": b"GET / HTTP/1.1\r\nhOsT:localhost\r\n",
    "ipv6 host": b"GET / HTTP/1.1\r\nHost: [::1]:8000\r\n",
    "absolute-form": b"GET http://localhost/a HTTP/1.1\r\n" + HOST,
    "absolute-form without path": b"GET http://localhost HTTP/1.1\r\n" + HOST,
    "asterisk-form": b"OPTIONS * HTTP/1.1\r\n" + HOST,
    "tab and latin-1 in a value": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\tb\xe9\r\n",
    "a later 1.x": b"GET / HTTP/1.2\r\n" + HOST,
    "equal lengths": b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\nContent-Length: 0\r\n",
}

REFUSED = {
    "http/0.9": (400, b"GET /\r\n"),
    "no target": (400, b"GET HTTP/1.1\r\n" + HOST),
    "two spaces": (400, b"GET  / HTTP/1.1\r\n" + HOST),
    "tab for space": (400, b"GET\t/ HTTP/1.1\r\n" + HOST),
    "space behind the version": (400, b"GET / HTTP/1.1 \r\n" + HOST),
    "lower-case version": (400, b"GET / http/1.1\r\n" + HOST),
    "method is no token": (400, b"G@T / HTTP/1.1\r\n" + HOST),
    "line starts with a space": (400, b" GET / HTTP/1.1\r\n" + HOST),
    "binary": (400, b"\x16\x03\x01\x02\x00\x01\x00\r\n"),
    "non-ascii target": (400, b"GET /\xc3\xa4 HTTP/1.1\r\n" + HOST),
    "relative target": (400, b"GET index.html HTTP/1.1\r\n" + HOST),
    "asterisk for GET": (400, b"GET * HTTP/1.1\r\n" + HOST),
    "ftp target": (400, b"GET ftp://localhost/ HTTP/1.1\r\n" + HOST),
    "fragment": (400, b"GET /a#b HTTP/1.1\r\n" + HOST),
    "absolute-form with fragment": (400, b"GET http://localhost#/x HTTP/1.1\r\n" + HOST),
    "absolute-form with userinfo": (400, b"GET http://a:b@localhost/ HTTP/1.1\r\n" + HOST),
    "absolute-form without host": (400, b"GET http:///a HTTP/1.1\r\n" + HOST),
    "connect": (501, b"CONNECT localhost:443 HTTP/1.1\r\n" + HOST),
    "no preface of http/2": (505, b"PRI * HTTP/2.0\r\n" + HOST),
    "http/2.0": (505, b"GET / HTTP/2.0\r\n" + HOST),
    "http/3": (505, b"GET / HTTP/3\r\n" + HOST),
    "http/0.9 named": (505, b"GET / HTTP/0.9\r\n" + HOST),
    "long target": (414, b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\n" + HOST),
    "large head": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 65536 + b"\r\n"),
    "many fields": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * 100),
    "no host": (400, b"GET / HTTP/1.1\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\n" + HOST + HOST),
    "two hosts on 1.0": (400, b"GET / HTTP/1.0\r\n" + HOST + HOST),
    "empty host": (400, b"GET / HTTP/1.1\r\nHost:\r\n"),
    "host with a path": (400, b"GET / HTTP/1.1\r\nHost: localhost/a\r\n"),
    "host with userinfo": (400, b"GET / HTTP/1.1\r\nHost: a@localhost\r\n"),
    "host list": (400, b"GET / HTTP/1.1\r\nHost: localhost, evil\r\n"),
    "host with a bad port": (400, b"GET / HTTP/1.1\r\nHost: localhost:80a\r\n"),
    "host with a bad address": (400, b"GET / HTTP/1.1\r\nHost: [::1::]\r\n"),
    "bare lf in the head": (400, b"GET / HTTP/1.1\r\nHost: localhost\nX: 1\r\n"),
    "bare lf behind the request line": (400, b"GET / HTTP/1.1\n" + HOST),
    "bare cr in a value": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n"),
    "cr lf reversed": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\n\rb\r\n"),
    "nul in a value": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n"),
    "control character in a value": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x01b\r\n"),
    "del in a value": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x7fb\r\n"),
    "folded line": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n"),
    "folded by a tab": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n\tb\r\n"),
    "space before the colon": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X : a\r\n"),
    "space before the first field": (400, b"GET / HTTP/1.1\r\n X: a\r\n" + HOST),
    "no colon": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X\r\n"),
    "empty name": (400, b"GET / HTTP/1.1\r\n" + HOST + b": a\r\n"),
    "both framings": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ),
    "both framings, reversed": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n",
    ),
    "lengths that differ": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n",
    ),
    "lengths that differ in a list": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5, 6\r\n",
    ),
    "signed length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n"),
    "negative length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -5\r\n"),
    "hexadecimal length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x5\r\n"),
    "empty length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length:\r\n"),
    "underscored length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1_0\r\n"),
    "endless length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"9" * 30 + b"\r\n"),
    "transfer-encoding on 1.0": (
        400,
        b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n",
    ),
    "unknown coding": (501, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n"),
    "coding before chunked": (
        501,
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n",
    ),
    "chunked twice": (
        501,
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n" * 2,
    ),
    "coding with a vertical tab": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: \x0bchunked\r\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("head", ACCEPTED.values(), ids=ACCEPTED)
def test_sound_heads_pass(head: bytes) -> None:
    check_head(head + b"\r\n", Limits())


@pytest.mark.parametrize("head", ACCEPTED.values(), ids=ACCEPTED)
@pytest.mark.parametrize("step", [0, 1], ids=["whole", "byte by byte"])
async def test_sound_heads_are_answered(connect: Connect, head: bytes, step: int) -> None:
    peer = connect(hello)
    await peer.send(head + b"\r\n", step=step)
    assert (await peer.until(b"hello\n")).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(("status", "head"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("tail", [b"", b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"])
async def test_refused_heads_get_one_answer_and_the_connection_closes(
    connect: Connect, status: int, head: bytes, tail: bytes
) -> None:
    peer = connect(hello)
    await peer.send(head + b"\r\n" + tail)
    answer = await peer.to_end()
    first, _, body = answer.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close" in first
    assert body.startswith(b"%d " % status)
    assert body.count(b"\n") == 1
    assert answer.count(b"HTTP/1.1") == 1 + body.count(b"HTTP/1.1")


@pytest.mark.parametrize(
    "name", [n for n, (_, head) in REFUSED.items() if len(head) < 1000], ids=str
)
async def test_refused_heads_are_refused_byte_by_byte(connect: Connect, name: str) -> None:
    status, head = REFUSED[name]
    peer = connect(hello)
    with suppress(trio.BrokenResourceError):  # it may be refused, and closed, half way
        await peer.send(head + b"\r\n", step=1)
    assert (await peer.to_end()).startswith(b"HTTP/1.1 %d " % status)


async def test_endless_request_line_is_refused_before_it_ends(connect: Connect) -> None:
    peer = connect(hello)
    await peer.send(b"GET /" + b"a" * 9000)
    assert (await peer.to_end()).startswith(b"HTTP/1.1 414 ")


async def test_endless_field_is_refused_before_it_ends(connect: Connect) -> None:
    peer = connect(hello)
    await peer.send(b"GET / HTTP/1.1\r\nX: ")
    await peer.send(b"a" * 66000)
    assert (await peer.to_end()).startswith(b"HTTP/1.1 431 ")


async def test_one_empty_line_before_a_request_is_ignored(connect: Connect) -> None:
    peer = connect(hello)
    await peer.send(b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", step=1)
    assert (await peer.until(b"hello\n")).startswith(b"HTTP/1.1 200 OK\r\n")
    await peer.send(b"\r\n\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (await peer.to_end()).startswith(b"HTTP/1.1 400 ")


def test_the_reply_names_the_limit() -> None:
    with pytest.raises(HTTPError, match="more than 3 header fields"):
        check_head(b"GET / HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * 3 + b"\r\n", Limits(header_count=3))


@pytest.mark.parametrize(
    ("authority", "split"),
    [
        ("example.com", ("example.com", None)),
        ("EXAMPLE.com:80", ("example.com", 80)),
        ("example.com:", ("example.com", None)),
        ("[::1]:8000", ("[::1]", 8000)),
        ("[::1", None),
        ("a b", None),
        ("a:b:c", None),
        ("", None),
        ("a:123456", None),
    ],
)
def test_authorities(authority: str, split: tuple[str, int | None] | None) -> None:
    assert split_authority(authority) == split


@pytest.mark.parametrize(
    ("authority", "local"),
    [
        ("localhost:8000", True),
        ("app.localhost", True),
        ("127.0.0.1:8000", True),
        ("192.168.1.5", True),
        ("[::1]:80", True),
        ("web:8000", True),
        ("allowed.example", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("1.2.3.4.5", False),
    ],
)
def test_names_that_mean_this_machine(authority: str, local: bool) -> None:
    assert is_local_host(authority, frozenset(["allowed.example"])) is local


async def test_foreign_host_is_refused_on_loopback(serving: Serving) -> None:
    server = await serving(hello)
    peer = await server.connect()
    await peer.send(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert (await peer.until(b"\n")).startswith(b"HTTP/1.1 421 ")
    peer = await server.connect()
    await peer.send(b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await peer.until(b"\n")).startswith(b"HTTP/1.1 421 ")
