"""The lane for plain requests: whatever a client sends, the lane and h11 do the same."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import h11
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from peers import Connect, Peer
from wire import DATE, HOST, NOW, get

import rawstream.http1.connection
from rawstream import HTTPError, Limits, Request, open_events, open_stream, serve_stream
from rawstream.http1.head import FAMILIAR_BYTES, check_head
from rawstream.http1.response_head import made_switch, switching

# -- What is plain --------------------------------------------------------------------------------

PLAIN = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /?a=b HTTP/1.1\r\nHost: a\r\nX-Empty:\r\n\r\n",
    b"DELETE http://a/b HTTP/1.1\r\nhOST: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nconnection: Keep-Alive, ,Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"a" * FAMILIAR_BYTES + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: \t\xff: \r\n\r\n",
]
NOT_PLAIN = [
    b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, TE\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX : space before the colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n: no name\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX(: no token\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\xe9: no token\r\n\r\n",
]


@pytest.mark.parametrize("head", PLAIN)
def test_a_plain_head_takes_the_lane(head: bytes) -> None:
    assert check_head(head, Limits()).is_plain


@pytest.mark.parametrize("head", NOT_PLAIN)
def test_any_other_head_is_left_to_h11(head: bytes) -> None:
    assert not check_head(head, Limits()).is_plain


async def test_a_connection_of_plain_requests_has_no_machine_of_h11(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_needed(head: bytes, limits: Limits) -> None:
        raise AssertionError(f"h11 was given {head!r}")

    monkeypatch.setattr("peers.use_shortcuts", True)
    monkeypatch.setattr(rawstream.http1.connection, "H11Framing", not_needed)
    peer = connect(app)
    for answer, end in (("sized", b"12345"), ("stream", b"\r\n0\r\n\r\n"), ("empty", b"\r\n\r\n")):
        await peer.send(get(f"/{answer}"))
        assert (await peer.until(end)).startswith(b"HTTP/1.1 20")


# -- The lane and h11 -----------------------------------------------------------------------------


async def app(request: Request) -> None:
    """Answer in each of the ways there are, right and wrong, by the path."""
    respond = partial(request.respond, 200, b"12345")
    match request.path.removeprefix("/"):
        case "sized":
            await respond()
        case "empty":
            await request.respond(204)
        case "not modified":
            await request.respond(304, headers=[("ETag", '"a"')])
        case "date":
            await respond(headers=[("Date", "today"), ("date", "Thu, 01 Jan 1970 00:00:00 GMT")])
        case "length":
            await respond(headers=[("content-length", "5")])
        case "other length":
            await respond(headers=[("Content-Length", "6")])
        case "same length, not the same text":
            await respond(headers=[("Content-Length", "05")])
        case "no length":
            await respond(headers=[("Content-Length", "five")])
        case "length of nothing":
            await request.respond(204, headers=[("Content-Length", "7")])
        case "chunks":
            await respond(headers=[("transfer-encoding", "Chunked")])
        case "coding":
            await respond(headers=[("Transfer-Encoding", "gzip")])
        case "close":
            await respond(headers=[("Connection", "x, Close"), ("Connection", "y")])
        case "keep":
            await respond(headers=[("Connection", "keep-alive")])
        case "value":
            await respond(headers=[("X", "a\r\nb: c")])
        case "name":
            await respond(headers=[("X:", "a")])
        case "status":
            await request.respond(100)
        case "twice":
            await respond()
            await respond()
        case "error":
            raise HTTPError(418, "short and stout")
        case "late error":
            await respond()
            raise HTTPError(418)
        case "failure":
            raise KeyError("secret")
        case "nothing":
            pass
        case "read":
            await request.respond(200, await request.body())
        case "stream" | "trailers" | "bad trailers" as kind:
            async with open_stream(request, "text/plain") as stream:
                await stream.send(b"one")
                await stream.body.send(b"t", b"wo")
                if kind == "trailers":
                    stream.trailers = [("Digest", "x")]
                if kind == "bad trailers":
                    stream.trailers = [("Digest", "x\n")]
        case "unfinished":
            await request.exchange.start(200, [], label="stream")
        case "counted" | "too long" | "too short" as kind:
            async with open_stream(request, "text/plain", length=5) as stream:
                await stream.send({"counted": b"12345", "too long": b"123456"}.get(kind, b"1"))
        case "long, and again":
            async with open_stream(request, "text/plain", length=1) as stream:
                for _ in range(2):
                    try:
                        await stream.send(b"12")
                    except ValueError:
                        continue
        case "own length":
            async with open_stream(request, "a/b", headers=[("Content-Length", "3")]) as stream:
                await stream.send(b"abc")
        case "events":
            async with open_events(request) as events:
                await events.send("x")
        case "upgrade":
            stream_of_bytes = await request.exchange.upgrade(
                [("Upgrade", "echo"), ("Connection", "upgrade")], label="echo"
            )
            while data := await stream_of_bytes.receive_within(10):
                await stream_of_bytes.send(data)
        case "bad upgrade":
            await request.exchange.upgrade([("Upgrade", "e\ncho")], label="echo")
        case _:
            raise HTTPError(404)


PATHS = [
    "sized", "empty", "not%20modified", "date", "length", "other%20length",
    "same%20length,%20not%20the%20same%20text", "no%20length", "length%20of%20nothing", "chunks",
    "coding", "close", "keep", "value", "name", "status", "twice", "error", "late%20error",
    "failure", "nothing", "read", "stream", "trailers", "bad%20trailers", "unfinished", "counted",
    "too%20long", "too%20short", "long,%20and%20again", "own%20length", "events", "upgrade",
    "bad%20upgrade", "?none",
]  # fmt: skip

FIELDS = [
    b"Host: localhost", b"User-Agent: x/1.0", b"Cookie: a=b; c=d", b"Accept: */*", b"X-Empty:",
    b"Cookie: e=f", b"cookie:", b"Cookie: \t", b"Cookie: a\rb", b"Cookie:",
    b"X: \t padded \t", b"X:unpadded", b"X: \xe9\xff", b"x-repeated: 1", b"X-Repeated: 2",
    b"Connection: keep-alive", b"Connection: close", b"Connection: Upgrade", b"Connection: ,",
    b"Connection: close, keep-alive", b"Connection: TE, close", b"Connection: unknown",
    b"Upgrade: echo", b"Upgrade:", b"Keep-Alive: timeout=5", b"TE: trailers",
    b"Content-Length: 0", b"Content-Length: 3", b"Content-Length: 3x", b"Content-Length: -1",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Expect: 100-continue",
    b"Expect: else", b"X", b"X : a", b": a", b"X(: a", b" folded", b"X: a\rb", b"X: a\x00b",
    b"X: a\nb", b"\xc3\x89: a", b"Host: other.example", b"Origin: http://other.example",
]  # fmt: skip

METHODS = [b"GET", b"HEAD", b"POST", b"DELETE", b"OPTIONS", b"get", b"CONNECT"]
VERSIONS = [b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/1.1x"]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request, mostly a valid one, and mostly a plain one."""
    method = draw(st.sampled_from(METHODS[:2] * 6 + METHODS))
    target = b"/" + draw(st.sampled_from(PATHS)).encode()
    lines = [b"%b %b %b" % (method, target, draw(st.sampled_from(VERSIONS)))]
    if draw(st.integers(0, 9)):
        lines.append(HOST.removesuffix(b"\r\n"))
    lines += draw(st.lists(st.sampled_from(FIELDS[1:21] * 5 + FIELDS), max_size=4))
    body = draw(st.sampled_from([b""] * 8 + [b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"\r\n", b"x"]))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class Kept(logging.Handler):
    """Keeps what is logged, exceptions included."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        failure = repr(record.exc_info[1]) if record.exc_info else ""
        self.lines.append(f"{record.levelname} {record.getMessage()} {failure}")


def outcome(pieces: Sequence[bytes], *, ends: bool, shortcuts: bool) -> tuple[object, ...]:
    """Feed one connection these pieces, one by one; return everything that can be seen of it."""
    seen: list[object] = []
    kept = Kept()

    async def watched(request: Request) -> None:
        headers = request.headers
        seen.append((request.method, request.head_only, request.target, request.http_version))
        seen.append([(name, headers.get_all(name)) for name in headers])
        seen.append((request.path, request.query_string, request.authority))
        await app(request)

    async def main() -> bytes:
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(serve_stream, watched, theirs, shortcuts=shortcuts))
            peer = Peer(ours)
            for piece in pieces:
                try:
                    await peer.send(piece)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    seen.append("the server has closed")
                await trio.testing.wait_all_tasks_blocked()
            if ends:
                await ours.send_eof()
            return await peer.to_end(patience=1000)

    logger = logging.getLogger("rawstream")
    logger.addHandler(kept)
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rawstream.http1.response_head.time.time", lambda: NOW)
            answers = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        logger.removeHandler(kept)
        logger.setLevel(level)
        logger.propagate = propagate
    return answers, seen, kept.lines


@given(
    data=st.lists(requests(), min_size=1, max_size=4).map(b"".join),
    cuts=st.lists(st.integers(1, 120), max_size=8),
    ends=st.booleans(),
)
def test_the_lane_and_h11_do_the_same(data: bytes, cuts: list[int], ends: bool) -> None:
    pieces = []
    for cut in cuts:
        pieces.append(data[:cut])
        data = data[cut:]
    pieces = [piece for piece in [*pieces, data] if piece]
    by_lane = outcome(pieces, ends=ends, shortcuts=True)
    assert by_lane == outcome(pieces, ends=ends, shortcuts=False)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("fields", [b"", b"Connection: close\r\n", b"Upgrade: echo\r\n"])
def test_every_answer_is_the_same(path: str, method: str, fields: bytes) -> None:
    request = f"{method} /{path} HTTP/1.1\r\n".encode() + HOST + fields + b"\r\n"
    pieces = [request + get("/sized")]
    by_lane = outcome(pieces, ends=False, shortcuts=True)
    assert by_lane == outcome(pieces, ends=False, shortcuts=False)


# -- Heads that h11 has made ----------------------------------------------------------------------


async def test_a_head_that_is_used_again_has_its_own_date_and_length(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(request: Request) -> None:
        await request.respond(200, b"x" * int(request.query["size"]), content_type="a/b")

    monkeypatch.setattr("peers.use_shortcuts", True)
    peer = connect(handler)
    for second, size, date in (
        (NOW, 1, DATE),
        (NOW + 1, 20, DATE.replace(b":37 ", b":38 ")),
        (NOW, 300, DATE),
        (NOW, 0, DATE),
    ):
        monkeypatch.setattr("rawstream.http1.response_head.time.time", lambda at=second: at)
        await peer.send(get(f"/?size={size}"))
        head, _, body = (await peer.has(b"\r\n\r\n")).partition(b"\r\n\r\n")
        assert head == (
            b"HTTP/1.1 200 OK\r\n" + date + b"Content-Type: a/b\r\nContent-Length: %d" % size
        )
        assert len(body) <= size
        if missing := size - len(body):
            await peer.exactly(missing)


def test_the_head_that_accepts_an_upgrade_is_the_one_that_h11_makes() -> None:
    fields = [("Upgrade", "x"), ("Connection", "Upgrade"), ("Empty", ""), ("X-Latin", "\xe9")]
    machine = h11.Connection(h11.SERVER)
    machine.receive_data(get("/", b"Upgrade: x\r\n"))
    while machine.next_event() is not h11.PAUSED:
        pass
    assert made_switch(fields) == machine.send(switching(fields))
