"""What trusted proxies say about a client, and nobody else: `X-Forwarded-*` and `Forwarded`."""

from __future__ import annotations

import logging
import re
import socket
from contextlib import suppress
from typing import Any

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from peers import Certificate, Peer, Serving, happens
from wire import GET, get

from rawstream import HTTPError, Limits, Request, serve
from rawstream.http.fields import Headers
from rawstream.http.forwarded import Forwarded, TrustedProxies, address_of
from rawstream.http.origin import check_origin

PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.1", "unix"])


def forwarded(*fields: tuple[str, str], peer: str = "10.0.0.1") -> Forwarded:
    return PROXIES.forwarded(Headers(list(fields)), peer)


def from_x(*values: str) -> Forwarded:
    """What `X-Forwarded-For` says, in so many fields."""
    return forwarded(*(("x-forwarded-for", value) for value in values))


def from_standard(*values: str) -> Forwarded:
    """What `Forwarded` says, in so many fields."""
    return forwarded(*(("forwarded", value) for value in values))


# -- Whom to believe ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("10.255.0.1", True), ("11.0.0.1", False),
        ("192.0.2.1", True), ("192.0.2.2", False),
        ("::ffff:10.0.0.1", True), ("::ffff:11.0.0.1", False),
        ("2001:db8:1:ffff::1", True), ("2001:db8:2::1", False), ("fe80::1%eth0", False),
        ("unix", True), ("", False),
    ],
)  # fmt: skip
def test_trusted_peers(peer: str, trusted: bool) -> None:
    assert PROXIES.trusts(peer) is trusted


def test_networks_may_be_written_in_either_family() -> None:
    assert TrustedProxies(["::ffff:10.0.0.0/104"]).trusts("10.9.9.9")
    assert not TrustedProxies(["::ffff:10.0.0.0/104"]).trusts("11.0.0.1")
    assert TrustedProxies(["::1"]).trusts("::1")
    assert TrustedProxies(["fe80::/10"]).trusts("fe80::1%eth0")
    assert not TrustedProxies(["10.0.0.1"]).trusts("unix")
    assert not TrustedProxies([]).trusts("10.0.0.1")


@pytest.mark.parametrize(
    "name", ["", "proxy", "10.0.0.0/33", "10.0.0.1/8", "10.0.0", "Unix", "*", "10.0.0.1:80", " ::1"]
)
def test_what_is_no_network_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(name))) as caught:
        TrustedProxies([name])
    assert "\n" not in str(caught.value)


async def test_serve_refuses_what_cannot_work() -> None:
    async def app(request: Request) -> None: ...

    with pytest.raises(ValueError, match=r"10.0.0.0/8, or unix: bits after the prefix"):
        await serve(app, port=0, trusted_proxies=["10.0.0.1/8"])
    with pytest.raises(TypeError, match="not one string"):
        await serve(app, port=0, trusted_proxies="10.0.0.0/8")
    with pytest.raises(ValueError, match="needs trusted_proxies"):
        await serve(app, port=0, proxy_protocol=True)


# -- Nodes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ('"203.0.113.7:4711"', "203.0.113.7"),
        ("203.0.113.7:_port", "203.0.113.7"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ('"[2001:db8::1]:4711"', "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:cb00:7107]:80", "203.0.113.7"),
        ("::", "::"),
        *((garbage, "") for garbage in (
            "", "unknown", "_hidden", "_SEVKISEK", '"_hidden"', "localhost", "203.0.113", "203.0.113.256",
            "203.0.113.07", "203.0.113.7:", "203.0.113.7:123456", "203.0.113.7 ", "[203.0.113.7]",
            "[2001:db8::1", "2001:db8::1]", "[]", "[]:80", "2001:db8::1%eth0", "[fe80::1%eth0]", "1::2::3",
            ":", "........", "203.0.113.7\x1b[31m", "\u0661.1.1.1", "0x7f.1", "1" * 100_000, "[" * 65, '"',
        )),
    ],
)  # fmt: skip
def test_addresses_in_nodes(node: str, address: str) -> None:
    assert address_of(node) == address


# -- X-Forwarded-For ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "client"),
    [
        # Nobody is named: whoever is believed last.
        ([], "10.0.0.1"),
        ([""], "10.0.0.1"),
        ([" , ,"], "10.0.0.1"),
        # What a client sends itself is on the left.
        (["203.0.113.7"], "203.0.113.7"),
        (["6.6.6.6, 203.0.113.7"], "203.0.113.7"),
        (["10.6.6.6, 203.0.113.7"], "203.0.113.7"),
        (["6.6.6.6", "203.0.113.7"], "203.0.113.7"),
        (["6.6.6.6,,203.0.113.7,"], "203.0.113.7"),
        # Trusted proxies are skipped, on the right only.
        (["6.6.6.6, 203.0.113.7, 10.0.0.3, 10.0.0.2"], "203.0.113.7"),
        (["203.0.113.7,\t[2001:db8:1::2]:80 , 192.0.2.1:1", '"::ffff:10.0.0.2"'], "203.0.113.7"),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        # What makes no sense ends it.
        (["unknown"], "10.0.0.1"),
        (["6.6.6.6, unknown"], "10.0.0.1"),
        (["6.6.6.6, _hidden, 10.0.0.2"], "10.0.0.2"),
        (["6.6.6.6, garbage, 10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (["6.6.6.6 10.0.0.2"], "10.0.0.1"),
        (["6.6.6.6" + ", 10.0.0.2" * 1000], "10.0.0.2"),
        (["6.6.6.6, " + "9" * 60_000], "10.0.0.1"),
    ],
)
def test_the_walk_through_x_forwarded_for(values: list[str], client: str) -> None:
    assert from_x(*values).client == client


@pytest.mark.parametrize(
    ("clients", "schemes", "hosts", "says"),
    [
        ("203.0.113.7", "https", "a.example", ("https", "a.example")),
        ("203.0.113.7", "HTTPS", "a.example:8443", ("https", "a.example:8443")),
        ("203.0.113.7", "wss", "[2001:db8::1]:80", ("https", "[2001:db8::1]:80")),
        ("203.0.113.7", "ws", None, ("http", "")),
        (None, "https", "a.example", ("https", "a.example")),
        # The right end is what the nearest proxy has added to what the client has sent.
        ("6.6.6.6, 203.0.113.7", "https, http", "evil.example, a.example", ("http", "a.example")),
        # Each proxy adds one, or passes on what the first has set.
        ("203.0.113.7, 10.0.0.2", "https, http", "a.example, inner", ("https", "a.example")),
        ("203.0.113.7, 10.0.0.2", "https", "a.example", ("https", "a.example")),
        ("6.6.6.6, 203.0.113.7, 10.0.0.2", "x, https, http", "x, a, b", ("https", "a")),
        # What is neither is as if it were not said.
        ("203.0.113.7", "gopher", "a b", ("", "")),
        ("203.0.113.7", "", "", ("", "")),
        ("203.0.113.7", "https;q=1", "user@a.example", ("", "")),
        ("203.0.113.7", "https", "a.example/path", ("https", "")),
        ("203.0.113.7", "https", "a" * 256, ("https", "")),
        ("203.0.113.7", "https", "[::g]", ("https", "")),
    ],
)
def test_x_forwarded_proto_and_host(
    clients: str | None, schemes: str | None, hosts: str | None, says: tuple[str, str]
) -> None:
    fields = {"for": clients, "proto": schemes, "host": hosts}
    given = [(f"x-forwarded-{name}", value) for name, value in fields.items() if value is not None]
    found = forwarded(*given)
    assert found.client == ("203.0.113.7" if clients else "10.0.0.1")
    assert found[1:] == says


# -- Forwarded ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([""], ("10.0.0.1", "", "")),
        (["for=203.0.113.7"], ("203.0.113.7", "", "")),
        (["For=203.0.113.7;PROTO=Https;Host=a.example"], ("203.0.113.7", "https", "a.example")),
        ([' for=203.0.113.7 ; proto=https;;by=_x; host="a.example:8443" '], ("203.0.113.7", "https", "a.example:8443")),
        (['for="[2001:db8::7]:4711"'], ("2001:db8::7", "", "")),
        (["for=203.0.113.7:4711;host=a:1"], ("203.0.113.7", "", "a:1")),  # not quoted, though it should be
        (['for="203\\.0.113.7"'], ("203.0.113.7", "", "")),
        (['for=203.0.113.7;note="a, for=6.6.6.6"'], ("203.0.113.7", "", "")),
        (['for=203.0.113.7;note="\\", for=6.6.6.6;x=\\""'], ("203.0.113.7", "", "")),
        # From the right, as far as there is trust.
        (["for=6.6.6.6, for=203.0.113.7"], ("203.0.113.7", "", "")),
        (["for=6.6.6.6;host=evil.example", "for=203.0.113.7"], ("203.0.113.7", "", "")),
        (["for=203.0.113.7;proto=https;host=a, for=10.0.0.2;proto=http;host=b"], ("203.0.113.7", "https", "a")),
        (["for=203.0.113.7, ,for=10.0.0.2;proto=https;host=b,"], ("203.0.113.7", "https", "b")),
        (["for=10.0.0.3,for=10.0.0.2"], ("10.0.0.3", "", "")),
        # Nothing in front of an element changes how it is read.
        (['for="6.6.6.6, for=203.0.113.7'], ("203.0.113.7", "", "")),
        (['for=6.6.6.6;x="', "for=203.0.113.7"], ("203.0.113.7", "", "")),
        (['for=6.6.6.6;x="\\', 'for="203.0.113.7"'], ("203.0.113.7", "", "")),
        (['\\",;= for==, for="[2001:db8::7]"'], ("2001:db8::7", "", "")),
        # What makes no sense ends it.
        (["for=6.6.6.6, for=unknown;proto=https"], ("10.0.0.1", "https", "")),
        (["for=6.6.6.6, for=_hidden, for=10.0.0.2"], ("10.0.0.2", "", "")),
        (["for=6.6.6.6, garbage, for=10.0.0.2"], ("10.0.0.2", "", "")),
        (["for=6.6.6.6;for=203.0.113.7"], ("10.0.0.1", "", "")),
        (["for=6.6.6.6, proto=https"], ("10.0.0.1", "https", "")),
        (["for=6.6.6.6 for=203.0.113.7"], ("10.0.0.1", "", "")),
        (['for="203.0.113.7'], ("10.0.0.1", "", "")),
        (['for="203.0.113.7\\"'], ("10.0.0.1", "", "")),
        (["for=6.6.6.6" + ", for=10.0.0.2" * 1000], ("10.0.0.2", "", "")),
        (["for=203.0.113.7;proto=ftp;host=a/b"], ("203.0.113.7", "", "")),
        (["," * 60_000], ("10.0.0.1", "", "")),
        (['",' * 30_000 + '"'], ("10.0.0.1", "", "")),
    ],
)  # fmt: skip
def test_the_walk_through_forwarded(values: list[str], says: tuple[str, str, str]) -> None:
    assert from_standard(*values) == says


@pytest.mark.parametrize("name", ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"])
def test_any_x_field_replaces_forwarded(name: str) -> None:
    said = forwarded((name, ""), ("forwarded", "for=6.6.6.6;proto=https;host=evil.example"))
    assert said == ("10.0.0.1", "", "")


# -- Whatever clients send ------------------------------------------------------------------------

NODES = st.sampled_from(
    ["6.6.6.6", "10.0.0.2", "unknown", "_x", '"[::1]:80"', "[::1]", "::1", "1.2.3.4:5", "", "x y"]
)
HEAPS = st.lists(
    st.one_of(
        NODES, st.sampled_from(list(',;="\\ \t:[]')), st.sampled_from(["for=", "proto=", "host="])
    )
).map("".join)
ANYTHING = st.one_of(HEAPS, st.text(st.characters(max_codepoint=255)))


@given(ANYTHING, ANYTHING, ANYTHING)
def test_no_value_raises_and_all_results_are_what_they_say(a: str, b: str, c: str) -> None:
    names = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")
    for said in (forwarded(*zip(names, (a, b, c), strict=True)), from_standard(a, b, c)):
        assert said.client == "10.0.0.1" or address_of(said.client) == said.client
        assert said.scheme in ("", "http", "https")
        assert not re.search(r"[\s\"@/]", said.authority)


@given(ANYTHING)
@example('for="')
@example('x="\\')
def test_no_client_changes_what_its_proxy_adds(sent: str) -> None:
    """As a proxy adds to what it was sent: to the same field, or in one of its own."""
    for values in ([f"{sent}, 203.0.113.7"], [sent, "203.0.113.7"]):
        assert from_x(*values).client == "203.0.113.7"
    added = 'for="203.0.113.7:80";proto=https;host="a.example:8443"'
    for values in ([f"{sent}, {added}"], [sent, added]):
        assert from_standard(*values) == ("203.0.113.7", "https", "a.example:8443")


# -- Served ---------------------------------------------------------------------------------------

pytestmark = pytest.mark.both_versions


async def who(request: Request) -> None:
    """Answers whose request it is."""
    if request.path == "/same-origin":
        check_origin(request)
    await request.respond(200, f"{request.scheme}://{request.authority} {request.client or '-'}\n")


async def asked(peer: Peer, *fields: str, path: str = "/") -> tuple[bytes, bytes]:
    """The status and the last line of an answer."""
    await peer.send(get(path, "".join(f"{field}\r\n" for field in fields).encode()))
    answer = await peer.until(b"\n")
    return answer.split(b" ")[1], answer.splitlines()[-1]


async def test_only_trusted_peers_are_believed(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rawstream.access")
    fields = ("X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: a:1")
    trusting, standard = (
        await serving(who, trusted_proxies=["127.0.0.0/8"]),
        "Forwarded: for=203.0.113.7",
    )
    for proxies in ((), ["127.0.0.2", "unix"]):
        server = await serving(who, trusted_proxies=proxies)
        peer = await server.connect()
        for sent in (fields, (standard,)):
            assert await asked(peer, *sent) == (b"200", b"http://localhost 127.0.0.1")
    peer = await trusting.connect()
    assert await asked(peer, *fields) == (b"200", b"https://a:1 203.0.113.7")
    assert await asked(peer, standard) == (b"200", b"http://localhost 203.0.113.7")
    assert await asked(peer) == (b"200", b"http://localhost 127.0.0.1")
    await peer.stream.aclose()
    clients = [record.getMessage().split()[0] for record in caplog.records]
    assert clients == ["127.0.0.1"] * 4 + ["203.0.113.7"] * 2 + ["127.0.0.1"]


@pytest.mark.parametrize("shortcuts", [True, False])
async def test_over_tls_and_a_unix_socket(
    serving: Serving, certificate: Certificate, tmp_path: Any, shortcuts: bool
) -> None:
    tls = {"tls": certificate.server_context, "client_context": certificate.client_context}
    over_tls = await serving(who, trusted_proxies=["127.0.0.1"], shortcuts=shortcuts, **tls)
    path = str(tmp_path / "socket")
    over_unix = await serving(who, unix=path, trusted_proxies=["unix"], shortcuts=shortcuts)
    for server, scheme, nobody in ((over_tls, b"https", b"127.0.0.1"), (over_unix, b"http", b"-")):
        peer = await server.connect()
        assert await asked(peer) == (b"200", scheme + b"://localhost " + nobody)
        proto = "X-Forwarded-Proto: http"
        assert await asked(peer, "X-Forwarded-For: ::1, 203.0.113.7", proto) == (
            b"200",
            b"http://localhost 203.0.113.7",
        )


async def test_an_ipv4_proxy_of_a_dual_stack_socket_is_trusted(serving: Serving) -> None:
    sock = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    server = await serving(who, inherited=[sock], trusted_proxies=["127.0.0.0/8"])
    peer = await server.connect()
    assert await asked(peer, "X-Forwarded-For: 203.0.113.7") == (
        b"200",
        b"http://localhost 203.0.113.7",
    )


async def test_the_same_origin_is_exact_where_a_proxy_names_the_scheme(serving: Serving) -> None:
    server = await serving(who, trusted_proxies=["127.0.0.1"], allowed_hosts=["a.example"])
    peer = await server.connect()
    https, host = "X-Forwarded-Proto: https", "X-Forwarded-Host: a.example"
    for status, *fields in (
        (b"200", "Origin: https://a.example", https, host),
        (b"200", "Origin: https://a.example:443", https, host),
        (b"200", "Origin: https://a.example", https, f"{host}:443"),
        (b"403", "Origin: http://a.example", https, host),
        (b"403", "Origin: https://a.example:80", https, host),
        (b"403", "Origin: https://b.example", https, host),
        (b"403", "Origin: https://a.example", "X-Forwarded-Proto: http", host),
        (b"403", "Origin: http://localhost", https, host),
        # A proxy that does not name it, or none: by host and port, as ever.
        (b"200", "Origin: http://a.example", host),
        (b"200", "Origin: https://a.example", host),
        (b"200", "Origin: https://localhost"),
    ):
        assert (await asked(peer, *fields, path="/same-origin"))[0] == status, fields


async def test_a_page_that_has_rebound_its_name_cannot_forward_itself(serving: Serving) -> None:
    server = await serving(who, trusted_proxies=["127.0.0.1"], allowed_hosts=["a.example"])
    peer = await server.connect()
    assert (await asked(peer, "X-Forwarded-Host: a.example"))[0] == b"200"
    assert (await asked(peer, "X-Forwarded-Host: evil.example"))[0] == b"421"
    await peer.send(
        GET.replace(b"localhost", b"evil.example").replace(
            b"\r\n\r\n", b"\r\nX-Forwarded-Host: a.example\r\n\r\n"
        )
    )
    assert (await peer.until(b"\n")).startswith(b"HTTP/1.1 421")


# -- The cap of an address ------------------------------------------------------------------------


async def test_each_exchange_counts_for_its_client_and_no_connection_for_the_proxy(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that 127.0.0.1, which has no cap, is an address as any other.
    monkeypatch.setattr("rawstream.tcp.admission.is_loopback_ip", lambda address: False)
    go_on, started = trio.Event(), trio.Event()
    waiting = 0

    async def app(request: Request) -> None:
        nonlocal waiting
        if request.path == "/wait":
            waiting += 1
            if waiting == 2:
                started.set()
            await go_on.wait()
        elif request.path == "/fail":
            raise HTTPError(404)
        await request.respond(200, b"ok\n")

    limits = Limits(connections_per_address=2)
    server = await serving(app, limits=limits, trusted_proxies=["127.0.0.1"])
    one, other = "X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 203.0.113.8"
    peers = [await server.connect() for _ in range(5)]
    for peer in peers:  # what is over counts no longer, however it has ended
        assert (await asked(peer, one))[0] == b"200"
        assert (await asked(peer, one, path="/fail"))[0] == b"404"
    for peer in peers[:2]:
        await peer.send(get("/wait", f"{one}\r\n".encode()))
    await happens(started)
    for _ in range(3):
        await peers[2].send(get("/", f"{one}\r\n".encode()))
        assert (await peers[2].until(b"\n")).startswith(b"HTTP/1.1 503")
    await peers[2].send(get("/", f"{one}\r\nAccept: text/event-stream\r\n".encode()))
    answer = await peers[2].until(b"\n\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"retry: " in answer
    assert (await asked(peers[3], other))[0] == b"200"
    assert (await asked(peers[4]))[0] == b"200"  # it is the proxy's own
    await peers[1].stream.aclose()  # it counts no longer, and
    with trio.fail_after(2):
        while (await asked(peers[2], one))[0] != b"200":
            pass
    go_on.set()
    with suppress(trio.BrokenResourceError):
        await peers[0].until(b"ok\n")


async def test_a_request_that_is_refused_for_its_host_is_not_counted_for_ever(
    serving: Serving,
) -> None:
    limits = Limits(connections_per_address=1)
    server = await serving(who, limits=limits, trusted_proxies=["127.0.0.1"])
    peer = await server.connect()
    client = "X-Forwarded-For: 203.0.113.7"
    for _ in range(3):
        assert (await asked(peer, client, "X-Forwarded-Host: evil.example"))[0] == b"421"
        assert (await asked(peer, client))[0] == b"200"
