"""Named channels: made on demand, several over one connection, presence, publishing, access."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import VERSIONS, Connect, Curl, Peer, Serving, connected, program
from wire import (
    TEXT,
    close,
    frame,
    handshake,
    objects_in_frames,
    objects_in_lines,
    unchunked,
    unchunked_so_far,
)

from rawstream import (
    Channel,
    Channels,
    Entry,
    EventDecoder,
    Handler,
    HTTPError,
    Limits,
    Request,
    Unavailable,
    serve_channels,
)
from rawstream.entries.cursors import make_vector, own_part

pytestmark = pytest.mark.both_versions

EPOCHS = {"a": "aaaa", "b": "bbbb", "c": "cccc"}


def numbered(name: str) -> Channel:
    """A channel of a known epoch, which holds two entries."""
    return Channel(name, entries=2, epoch=EPOCHS.get(name, "eeee"))


def rooms(create: Callable[[str], Channel] = numbered, **options: Any) -> Channels:
    return Channels(create, **options)


def app_of(channels: Channels) -> Handler:
    async def app(request: Request) -> None:
        await serve_channels(request, channels, request.path.removeprefix("/"))

    return app


def get(target: str, *fields: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


def post(target: str, body: bytes, *fields: str) -> bytes:
    return get(target, f"Content-Length: {len(body)}", *fields, method="POST") + body


def answered(answer: bytes) -> tuple[int, Any]:
    """The status, and the body if it is JSON, else as text."""
    head, _, body = answer.partition(b"\r\n\r\n")
    text = body.decode()
    return int(head[9:12]), json.loads(text) if b"application/json" in head else text


async def ask(peer: Peer, request: bytes) -> tuple[int, Any]:
    await peer.send(request)
    return answered(await peer.until(b"\n"))


Enter = Callable[..., Awaitable["Visitor"]]


# -- Names ----------------------------------------------------------------------------------------


async def test_channels_are_made_when_asked_for() -> None:
    channels = rooms()
    assert channels.get("a") is channels.get("a")
    assert channels.get("b").name == "b"
    assert len(channels) == 2


async def test_a_cap(connect: Connect) -> None:
    channels = rooms(max_channels=1)
    peer = connect(app_of(channels))
    assert (await ask(peer, post("/a", b"x")))[0] == 201
    assert (await ask(peer, post("/b", b"x")))[0] == 503
    peer = connect(app_of(channels))
    await peer.send(get("/b", "Accept: text/event-stream"))
    assert re.search(rb" 200 OK\r\n.*\r\n\r\nretry: \d{4,5}\n\n", await peer.until(b"\n\n"), re.S)
    with pytest.raises(Unavailable):
        channels.get("b")


@pytest.mark.http1
async def test_idle_channels_are_forgotten(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    channels = rooms(idle_seconds=60)
    reader = connect(app_of(channels))
    await reader.send(get("/a", "Accept: text/event-stream"))
    await reader.has(b"id: aaaa-0\n\n")
    channels.get("b").publish("x")
    await trio.sleep(59)
    channels.get("c")
    assert len(channels) == 3
    await trio.sleep(1)
    kept = channels.get("a")
    assert len(channels) == 2, "b is forgotten, a has a reader"
    await reader.stream.aclose()
    await trio.sleep(59)
    assert channels.get("a") is kept
    await trio.sleep(60)
    assert channels.get("a") is not kept


async def test_a_channel_that_is_forgotten_is_made_anew(connect: Connect) -> None:
    channels = rooms()
    reader = connect(app_of(channels))
    await reader.send(get("/a"))
    await reader.until(b"\r\n\r\n")
    old = channels.get("a")
    channels.forget("a")
    channels.forget("b")
    new = channels.get("a")
    assert new is not old
    old.publish("old")
    assert await reader.until(b"old\n\r\n")
    await reader.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert channels.get("a") is new


@pytest.mark.parametrize("name", ["a:b", "a,b", "%C3%A4", "a%20b", "a" * 65, "@presence", "a@b"])
async def test_invalid_names(connect: Connect, name: str) -> None:
    channels = rooms()
    peer = connect(app_of(channels))
    assert (await ask(peer, get(f"/{name}")))[0] == 404
    assert (await ask(peer, get(f"/a?wait=0&channel={name}")))[0] == 404
    with pytest.raises(ValueError, match="not a valid name"):
        channels.get(name)
    assert len(channels) == 0


async def test_names_that_create_refuses(connect: Connect) -> None:
    def create(name: str) -> Channel:
        if name != "a":
            raise HTTPError(404, "there is only a")
        return Channel(name)

    peer = connect(app_of(rooms(create)))
    assert await ask(peer, get("/b")) == (404, "404 Not Found: there is only a\n")


async def test_a_seeded_channel_goes_on_under_its_ids(connect: Connect) -> None:
    def create(name: str) -> Channel:
        channel = Channel(name, epoch="kept", start=41)
        channel.publish("from before")
        return channel

    peer = connect(app_of(rooms(create)))
    status, answer = await ask(peer, get("/a?wait=0&after=kept-41"))
    assert (status, answer["next"]) == (200, "kept-42")
    assert answer["entries"] == [{"id": "kept-42", "data": "from before"}]
    with pytest.raises(ValueError, match="letters and digits"):
        Channel(epoch="a-b")


# -- Publishing -----------------------------------------------------------------------------------


def texts(channel: Channel) -> list[tuple[str | None, str]]:
    return [(entry.event, entry.data) for entry in channel.entries_after(channel.start)]


async def test_one_entry(connect: Connect) -> None:
    channels = rooms()
    peer = connect(app_of(channels))
    body = "zwei\r\nZeilen ä\n".encode()
    assert await ask(peer, post("/a?event=note", body)) == (201, {"id": "aaaa-1", "entries": 1})
    assert texts(channels.get("a")) == [("note", "zwei\nZeilen ä\n")]


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_stream_of_lines(connect: Connect, chunked: bool, step: int) -> None:
    channels = rooms(Channel)
    peer = connect(app_of(channels))
    body = b"one\r\n\nthree\nfour"
    if chunked:
        pieces = [body[:6], body[6:9], body[9:]]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        request = get("/a", "Transfer-Encoding: chunked", method="POST") + chunks + b"0\r\n\r\n"
    else:
        request = post("/a", body, "Content-Type: application/x-ndjson; charset=utf-8")
    await peer.send(request, step=step)
    id = f"{channels.get('a').epoch}-4"
    assert answered(await peer.until(b"\n")) == (201, {"id": id, "entries": 4})
    assert [data for _, data in texts(channels.get("a"))] == ["one", "", "three", "four"]


@pytest.mark.http1
async def test_lines_are_published_as_they_come_however_seldom(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    channels = rooms()
    peer = connect(app_of(channels))
    await peer.send(get("/a", "Transfer-Encoding: chunked", method="POST") + b"4\r\none\n\r\n")
    await trio.testing.wait_all_tasks_blocked()
    assert texts(channels.get("a")) == [(None, "one")]
    await trio.sleep(3600)
    await peer.send(b"4\r\ntwo\n\r\n0\r\n\r\n")
    assert answered(await peer.until(b"\n")) == (201, {"id": "aaaa-2", "entries": 2})


@pytest.mark.parametrize(
    ("request_bytes", "status", "text"),
    [
        (post("/a", b"\xff"), 400, "400 Bad Request: an entry must be UTF-8\n"),
        (post("/a?event=a%0Ab", b"x"), 400, "400 Bad Request: CR, LF or NUL in the event type"),
        (
            post("/a", b"x" * 1001),
            413,
            "413 Content Too Large: an entry is at most 1000 bytes, encoded; this one has 1001\n",
        ),
        (
            post("/a", b"x\ny\n\xff\nz\n", "Content-Type: application/x-ndjson"),
            400,
            "400 Bad Request: an entry must be UTF-8; published so far: 2\n",
        ),
        (
            post("/a", b"x\n" + b"y" * 70_000, "Content-Type: application/x-ndjson"),
            413,
            "413 Content Too Large: a line is at most 65536 bytes; published so far: 1\n",
        ),
        (
            get("/a", "Content-Length: 0", method="PUT"),
            405,
            "405 Method Not Allowed: a channel is read with GET and published to with POST\n",
        ),
        (post("/a@presence", b"x"), 405, "405 Method Not Allowed"),
        (post("/", b"x"), 405, "405 Method Not Allowed"),
    ],
)
async def test_what_cannot_be_published(
    connect: Connect, request_bytes: bytes, status: int, text: str
) -> None:
    channels = rooms(lambda name: Channel(name, size=1000))
    peer = connect(app_of(channels))
    await peer.send(request_bytes)
    answer = await peer.has(b"\n\\Z" if False else b"\r\n\r\n4")
    answer += await peer.until(b"\n") if not answer.endswith(b"\n") else b""
    assert answered(answer)[0] == status
    assert answered(answer)[1].startswith(text)
    if status == 405:
        allow = b"GET, HEAD, OPTIONS, POST" if b"PUT" in request_bytes else b"GET, HEAD, OPTIONS"
        assert b"\r\nAllow: " + allow + b"\r\n" in answer


async def test_a_stream_of_lines_ends_with_the_server(serving: Serving) -> None:
    channels = rooms()
    server = await serving(app_of(channels))
    peer = await server.connect()
    await peer.send(get("/a", "Transfer-Encoding: chunked", method="POST") + b"4\r\none\n\r\n")
    while not len(channels):
        await trio.lowlevel.checkpoint()
    while not channels.get("a").end:
        await trio.lowlevel.checkpoint()
    server.stop.set()
    answer = await peer.until(b"\n")
    assert answered(answer) == (503, "the server is stopping; published so far: 1\n")
    await peer.stream.aclose()
    with trio.fail_after(5):
        await server.ended.wait()


@pytest.mark.parametrize("entries", [10, 300])
@pytest.mark.parametrize("target", ["/a", "/a?channel=b"])
async def test_many_lines_at_once_lose_no_reader_its_place(
    serving: Serving, target: str, entries: int
) -> None:
    channels = rooms(lambda name: Channel(name, entries=entries))
    server = await serving(app_of(channels))
    reader, writer = await server.connect(), await server.connect()
    await reader.send(get(target, "Accept: application/x-ndjson"))
    await reader.has(b'-0"}\n')
    lines = b"".join(b"%d\n" % n for n in range(3000))
    await writer.send(post("/a", lines, "Content-Type: application/x-ndjson"))
    received = b""
    while b'"2999"' not in received:
        received += await reader.exactly(1)
    found = objects_in_lines(unchunked_so_far(received))
    assert [o.get("data") for o in found if "data" in o] == [str(n) for n in range(3000)]


@pytest.mark.http1
async def test_curl_publishes_what_a_program_prints(serving: Serving, curl: Curl) -> None:
    channels = rooms(Channel)
    server = await serving(app_of(channels))
    status, output = await curl("-X", "POST", "-T", "-", f"{server.url}/a", input=b"one\ntwo\n")
    assert (status, json.loads(output)["entries"]) == (0, 2)
    status, output = await curl("-d", "three", f"{server.url}/a")
    assert [data for _, data in texts(channels.get("a"))] == ["one", "two", "three"]
    assert await curl("-m", "1", "-N", f"{server.url}/a?last=2") == (28, b"two\nthree\n")


@pytest.mark.http1
async def test_tail_into_curl(serving: Serving, tmp_path: Any) -> None:
    """A log that grows, published by two programs of every Unix."""
    log = tmp_path / "log"
    log.write_text("one\n")
    channels = rooms(Channel)
    server = await serving(app_of(channels))
    command = f"tail -f {log} | {program('curl')} -s -X POST -T - {server.url}/a"
    process = await trio.lowlevel.open_process(["sh", "-c", command], start_new_session=True)
    try:
        for text in ("one", "two"):
            with trio.fail_after(10):
                while text not in [data for _, data in texts(channels.get("a"))]:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            with log.open("a") as file:
                file.write("two\n")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


# -- Access ---------------------------------------------------------------------------------------


async def known_only(request: Request, channel: str, action: str) -> str:
    await trio.lowlevel.checkpoint()
    token = request.headers.get("authorization") or request.query.get("token")
    if token is None:
        raise HTTPError(401, "a token", [("WWW-Authenticate", "Bearer")])
    if (token, channel, action) not in {("ann", "a", "read"), ("bob", "a", "publish")}:
        raise HTTPError(403, f"{token} may not {action} {channel}")
    return token


async def test_authorisation(connect: Connect) -> None:
    peer = connect(app_of(rooms(authorize=known_only)))
    for request, status in [
        (get("/a?wait=0"), 401),
        (get("/b?wait=0&token=ann"), 403),
        (get("/a?wait=0&token=ann&channel=b"), 403),
        (get("/b@presence?wait=0&token=ann"), 403),
        (post("/a?token=ann", b"x"), 403),
        (post("/a?token=bob", b"x"), 201),
        (get("/a?wait=0&token=ann&after=aaaa-0"), 200),
    ]:
        assert (await ask(peer, request))[0] == status
    await peer.send(get("/a", *handshake_fields()))
    assert b" 401 Unauthorized\r\n" in await peer.has(b"\r\n\r\n")


async def test_compose_adds_the_name_of_the_client(connect: Connect, enter: Enter) -> None:
    channels = rooms(Channel, compose=lambda member, text: f"{member}: {text}")
    peer = connect(app_of(channels))
    lines = post("/a?name=bob", b"one\ntwo\n", "Content-Type: application/x-ndjson")
    for request in (post("/a?name=ann", b"hello"), post("/a", b"hello"), lines):
        assert (await ask(peer, request))[0] == 201
    visitor = await enter(channels, "/a?name=eve")
    await visitor.hears()
    await visitor.says({"publish": "I am ann", "channel": "a"})
    await visitor.hears()
    said = ["ann: hello", "None: hello", "bob: one", "bob: two", "eve: I am ann"]
    assert [data for _, data in texts(channels.get("a"))] == said


async def test_pages_of_other_origins(connect: Connect) -> None:
    other = "Origin: http://other.example"
    for origins, status in [(None, 403), (["http://other.example"], 201), (["*"], 201)]:
        peer = connect(app_of(rooms(origins=origins)))
        await peer.send(post("/a", b"x", other))
        answer = await peer.until(b"\n")
        assert answered(answer)[0] == status
        allowed = b"\r\nAccess-Control-Allow-Origin: http://other.example\r\n" in answer
        assert allowed == (status == 201)
    assert (await ask(peer, post("/a", b"x", "Origin: http://localhost")))[0] == 201
    peer = connect(app_of(rooms(origins=["*"], authorize=known_only)))
    await peer.send(get("/a", other))
    answer = await peer.until(b"\n")
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nAccess-Control-Allow-Origin: http://other.example\r\n" in answer
    for request in (
        get("/a", other, "Accept: text/event-stream"),
        get("/a?channel=b", other, "Accept: application/x-ndjson"),
        get("/a?wait=0", other),
        get("/a?wait=0&channel=b", other),
        get("/a", other, "Access-Control-Request-Method: POST", method="OPTIONS"),
    ):
        peer = connect(app_of(rooms(origins=["*"])))
        await peer.send(request)
        answer = await peer.has(b"\r\n\r\n")
        assert b"\r\nAccess-Control-Allow-Origin: http://other.example\r\n" in answer
        assert b"Vary: Origin\r\n" in answer


# -- Several channels over one connection ---------------------------------------------------------


def entry(name: str, text: str, **positions: int) -> dict[str, str]:
    return {"id": vector(**positions), "channel": name, "data": text}


def vector(**positions: int) -> str:
    return make_vector((name, f"{EPOCHS[name]}-{n}") for name, n in positions.items())


async def filled(**counts: int) -> Channels:
    """Channels with so many entries each, of which they hold the last two."""
    channels = rooms()
    for name, count in counts.items():
        for n in range(1, count + 1):
            channels.get(name).publish(f"{name}{n}")
    return channels


SEVERAL: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "new": ("", [{"id": vector(a=3, b=1)}]),
    "the last of both": (vector(a=3, b=1), []),
    "old": (
        vector(a=2, b=0),
        [entry("a", "a3", a=3, b=0), entry("b", "b1", a=3, b=1)],
    ),
    "in the other order": (vector(b=1, a=2), [entry("a", "a3", a=3, b=1)]),
    "of one of them": (vector(a=2), [entry("a", "a3", a=3, b=1)]),
    "of more": (vector(a=2, b=1, c=7), [entry("a", "a3", a=3, b=1)]),
    "from reading a alone": ("aaaa-2", [entry("a", "a3", a=3, b=1)]),
    "too old in a": (
        vector(a=0, b=1),
        [
            {
                "id": vector(a=1, b=1),
                "channel": "a",
                "gap": {"from": "aaaa-0", "to": "aaaa-1"},
            },
            entry("a", "a2", a=2, b=1),
            entry("a", "a3", a=3, b=1),
        ],
    ),
    "garbage": (  # until it is told of the gap in b, a client that breaks off must meet it again
        "gar:bage",
        [
            {
                "id": "a:aaaa-1,b:0-0",
                "channel": "a",
                "gap": {"from": "gar:bage", "to": "aaaa-1"},
            },
            {**entry("a", "a2", a=2), "id": "a:aaaa-2,b:0-0"},
            {**entry("a", "a3", a=3), "id": "a:aaaa-3,b:0-0"},
            {
                "id": vector(a=3, b=0),
                "channel": "b",
                "gap": {"from": "gar:bage", "to": "bbbb-0"},
            },
            entry("b", "b1", a=3, b=1),
        ],
    ),
}


@pytest.mark.parametrize("name", SEVERAL)
async def test_vectors_as_lines(connect: Connect, name: str) -> None:
    cursor, expected = SEVERAL[name]
    channels = await filled(a=3, b=1)
    peer = connect(app_of(channels))
    await peer.send(get(f"/a?channel=b&after={cursor}", "Accept: application/x-ndjson"))
    await peer.has(b"\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked()
    channels.get("b").publish("news")
    received = b""
    while b"news" not in received:
        received += await peer.until(b"\n\r\n")
    got = objects_in_lines(unchunked(received))
    assert got == [*expected, entry("b", "news", a=3, b=2)]


@pytest.mark.parametrize("name", SEVERAL)
async def test_vectors_as_events(connect: Connect, name: str) -> None:
    cursor, expected = SEVERAL[name]
    channels = await filled(a=3, b=1)
    peer = connect(app_of(channels))
    fields = ["Accept: text/event-stream", *([f"Last-Event-ID: {cursor}"] if cursor else [])]
    await peer.send(get("/?channel=a&channel=b", *fields))
    await peer.has(b"\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked()
    channels.get("b").publish("news", "late")
    received = b""
    while b"news" not in received:
        received += await peer.until(b"\n\n\r\n")
    body = ""
    for o in [*expected, {**entry("b", "news", a=3, b=2), "event": "late"}]:
        event = "gap" if "gap" in o else o.get("event")
        data = {"channel": o.get("channel"), **o.get("gap", {"data": o.get("data")})}
        body += f"event: {event}\n" if event else ""
        body += f"id: {o['id']}\n"
        body += f"data: {json.dumps(data)}\n" if "channel" in o else ""
        body += "\n"
    assert unchunked(received).decode() == body


@pytest.mark.parametrize("name", SEVERAL)
async def test_vectors_on_a_long_poll(connect: Connect, name: str) -> None:
    cursor, expected = SEVERAL[name]
    channels = await filled(a=3, b=1)
    peer = connect(app_of(channels))
    await peer.send(get(f"/a?channel=b&wait=20&after={cursor}"))
    if not any("channel" in o for o in expected):
        await trio.testing.wait_all_tasks_blocked()
        channels.get("b").publish("news")
        expected = [entry("b", "news", a=3, b=2)]
    answer = await peer.until(b"\n")
    gaps = [{"channel": o["channel"], **o["gap"]} for o in expected if "gap" in o]
    assert answered(answer) == (
        200,
        {
            "entries": [o for o in expected if "data" in o],
            "next": expected[-1]["id"],
            **({"gaps": gaps} if gaps else {}),
        },
    )
    assert f'\r\nETag: "{expected[-1]["id"]}"\r\n'.encode() in answer
    await peer.send(get("/a?channel=b&wait=0", f'If-None-Match: "{expected[-1]["id"]}"'))
    assert b" 304 Not Modified\r\n" in await peer.until(b"\r\n\r\n")


async def test_several_as_text(connect: Connect) -> None:
    peer = connect(app_of(await filled(a=3, b=1)))
    await peer.send(get("/a?channel=b&last=1"))
    await peer.has(b"\r\n\r\n")
    assert await peer.has(b"b: b1\n\r\n") == b"c\r\na: a3\nb: b1\n\r\n"


async def test_a_vector_is_good_for_one_of_its_channels(connect: Connect) -> None:
    peer = connect(app_of(await filled(a=3, b=1)))
    status, answer = await ask(peer, get(f"/a?wait=0&after={vector(b=1, a=2)}"))
    assert (status, answer) == (
        200,
        {"entries": [{"id": "aaaa-3", "data": "a3"}], "next": "aaaa-3"},
    )


@pytest.mark.parametrize("query", ["last=x", "last=-1", "wait=0&last=1e3"])
async def test_a_last_that_is_no_number(connect: Connect, query: str) -> None:
    peer = connect(app_of(rooms()))
    assert (await ask(peer, get(f"/a?{query}")))[0] == 400
    assert (await ask(peer, get(f"/a?channel=b&{query}")))[0] == 400


async def test_too_many_channels_over_one_connection(connect: Connect) -> None:
    peer = connect(app_of(rooms()))
    names = "&".join(f"channel=c{n}" for n in range(33))
    assert (await ask(peer, get(f"/?{names}")))[0] == 400
    assert (await ask(peer, get("/")))[0] == 400


async def test_a_reader_of_several_that_is_too_slow(version: str) -> None:
    channels = rooms(lag="close")
    async with connected(app_of(channels), version=version) as (peer, _):
        await peer.send(get("/a?channel=b", "Accept: text/event-stream"))
        await peer.has(b"\r\n\r\n")
        for n in range(200):
            channels.get("ab"[n % 2]).publish("x" * 1000)
            await trio.lowlevel.checkpoint()
        await peer.to_end_of_chunks()


@pytest.mark.parametrize(
    ("cursor", "part"),
    [
        ("a:e-1", "e-1"),
        ("b:e-1,a:f-2", "f-2"),
        ("b:e-1", None),
        ("e-1", "e-1"),
        ("a:e-1,", "a:e-1,"),
        ("a:", "a:"),
        ("a:e-1,b", "a:e-1,b"),
        ("a:e-1 ,b:e-1", "a:e-1 ,b:e-1"),
    ],
)
def test_the_part_of_a_vector(cursor: str, part: str | None) -> None:
    assert own_part(cursor, "a") == part


@settings(max_examples=50, deadline=None)
@given(
    visits=st.lists(
        st.tuples(
            st.sampled_from(["events", "lines", "poll", "websocket"]),
            st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9000)), max_size=12),
            st.integers(0, 20_000),  # bytes it reads
            st.lists(st.sampled_from("ab"), max_size=8),  # published while it is away
            st.sampled_from(VERSIONS),
        ),
        max_size=8,
    )
)
async def test_every_reader_of_several_sees_each_without_silent_gaps(
    visits: list[tuple[str, list[tuple[str, int]], int, list[str], str]],
) -> None:
    channels = rooms(lambda name: Channel(name, entries=6, epoch=EPOCHS[name]))
    client = Bookkeeper()

    async def visit(
        transport: str, during: list[tuple[str, int]], most: int, version: str = "1.1"
    ) -> None:
        async with connected(app_of(channels), version=version) as (peer, _):
            query = f"/?channel=a&channel=b&after={client.cursor}"
            if transport == "poll":
                await peer.send(get(query + "&wait=0"))
                head, _, body = (await peer.has(b"\r\n\r\n")).partition(b"\r\n\r\n")
                if match := re.search(rb"Content-Length: (\d+)", head):
                    if len(body) < int(match[1]):
                        body += await peer.exactly(int(match[1]) - len(body))
                    client.take_answer(json.loads(body))
                return
            accept = {"events": "text/event-stream", "lines": "application/x-ndjson"}
            fields = handshake_fields() if transport == "websocket" else ()
            await peer.send(get(query, f"Accept: {accept.get(transport, '*/*')}", *fields))
            received = (await peer.has(b"\r\n\r\n")).partition(b"\r\n\r\n")[2]
            for name, size in during:
                channels.get(name).publish(f"{channels.get(name).end + 1} " + "x" * size)
                await trio.lowlevel.checkpoint()
            with trio.move_on_after(0.02):
                while len(received) < most:
                    received += await peer.stream.receive_some(most - len(received))
            client.take(OBJECTS[transport](received))

    for transport, during, most, away, version in visits:
        await visit(transport, during, most, version)
        for name in away:
            channels.get(name).publish(f"{channels.get(name).end + 1} ")
    for _ in range(10):
        await visit("poll", [], 0)
    for name in "ab":
        assert client.seen[name] + client.missed[name] == channels.get(name).end


class Bookkeeper:
    """A client of two channels that records what it has seen of each."""

    def __init__(self) -> None:
        self.positions = {"a": 0, "b": 0}
        self.seen = {"a": 0, "b": 0}
        self.missed = {"a": 0, "b": 0}

    @property
    def cursor(self) -> str:
        return vector(**self.positions)

    def take(self, objects: list[dict[str, Any]]) -> None:
        for o in objects:
            if "channel" not in o:
                continue  # "joined"
            name = o["channel"]
            if "gap" in o:
                before, after = (int(o["gap"][k].partition("-")[2]) for k in ("from", "to"))
                assert before == self.positions[name] < after
                self.missed[name] += after - before
                self.positions[name] = after
            else:
                self.positions[name] += 1
                self.seen[name] += 1
                assert o["data"].startswith(f"{self.positions[name]} ")
            own = own_part(o["id"], name)
            assert own == f"{EPOCHS[name]}-{self.positions[name]}"
            if ":" in o["id"]:
                assert o["id"] == self.cursor

    def take_answer(self, answer: dict[str, Any]) -> None:
        for gap in answer.get("gaps", []):
            before, after = (int(gap[k].partition("-")[2]) for k in ("from", "to"))
            self.missed[gap["channel"]] += after - before
            self.positions[gap["channel"]] = after
        for o in answer["entries"]:
            self.positions[o["channel"]] += 1
            self.seen[o["channel"]] += 1
            assert o["data"].startswith(f"{self.positions[o['channel']]} ")
        assert answer["next"] == self.cursor


def objects_in_events(data: bytes) -> list[dict[str, Any]]:
    found = []
    for event in EventDecoder().feed(unchunked_so_far(data)):
        data_ = json.loads(event.data or "")
        if event.event == "gap":
            data_ = {"channel": data_.pop("channel"), "gap": data_}
        found.append({"id": event.id, **data_})
    return found


OBJECTS = {
    "events": objects_in_events,
    "lines": lambda data: objects_in_lines(unchunked_so_far(data)),
    "websocket": objects_in_frames,
}


# -- Presence -------------------------------------------------------------------------------------


async def test_presence_over_http(serving: Serving) -> None:
    channels = rooms(Channel)
    server = await serving(app_of(channels))

    async def who() -> Any:
        peer = await server.connect()
        return (await ask(peer, get("/a@presence", "Accept: application/json")))[1]

    empty = await who()
    assert empty == {"count": 0, "members": {}, "next": channels.get("a@presence").id_of(0)}
    watcher = await server.connect()
    await watcher.send(get(f"/a@presence?after={empty['next']}", "Accept: application/x-ndjson"))
    await watcher.has(b"\r\n\r\n")
    peers = []
    for target, fields in [
        ("/a?name=ann", ["Accept: text/event-stream"]),
        ("/a?name=ann&channel=b", ["Accept: application/x-ndjson"]),
        ("/a", []),
        ("/a?name=bob", handshake_fields()),
    ]:
        peers.append(await server.connect())
        await peers[-1].send(get(target, *fields))
        await peers[-1].has(b"\r\n\r\n")
    poll = await server.connect()
    await poll.send(get("/a?wait=60&name=eve"))
    await trio.testing.wait_all_tasks_blocked()
    assert {**(await who()), "next": ""} == {
        "count": 4,
        "members": {"ann": 2, "bob": 1},
        "next": "",
    }
    assert channels.presence("a").count == 4
    assert channels.presence("b").members == {"ann": 1}
    for peer in peers[:3]:
        await peer.stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.01)
    received = b""
    while received.count(b"\n\r\n") < 7:
        received += await watcher.exactly(1)
    told = [(o["event"], *o["data"].values()) for o in objects_in_lines(unchunked(received))]
    assert told == [
        ("join", "ann", 1, 1),
        ("join", "ann", 2, 2),
        ("join", None, None, 3),
        ("join", "bob", 1, 4),
        ("leave", "ann", 1, 3),
        ("leave", "ann", 0, 2),
        ("leave", None, None, 1),
    ]


async def test_presence_of_the_names_that_authorisation_gives(connect: Connect) -> None:
    channels = rooms(authorize=known_only)
    peer = connect(app_of(channels))
    await peer.send(get("/a?name=mallory", "Authorization: ann"))
    await peer.has(b"\r\n\r\n")
    assert channels.presence("a").members == {"ann": 1}


# -- By WebSocket ---------------------------------------------------------------------------------


def handshake_fields() -> list[str]:
    return handshake(without=b"Host").decode().split("\r\n")[1:-2]


@pytest.fixture
def enter(connect: Connect) -> Callable[..., Awaitable[Visitor]]:
    """`visitor = await enter(channels, "/a?name=ann")`."""

    async def enter(channels: Channels, target: str, **options: Any) -> Visitor:
        peer = connect(app_of(channels), **options)
        await peer.send(get(target, *handshake_fields()))
        assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return Visitor(peer)

    return enter


class Visitor:
    """Somebody with a WebSocket."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._buffer = b""

    async def says(self, *commands: object) -> None:
        for command in commands:
            text = command if isinstance(command, bytes) else json.dumps(command).encode()
            await self.peer.send(frame(TEXT, text))

    async def hears(self) -> Any:
        header = await self._take(2)
        assert header[0] == 0x81
        size = header[1] if header[1] < 126 else int.from_bytes(await self._take(2), "big")
        return json.loads(await self._take(size))

    async def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._buffer += await self.peer.exactly(1)  # or more
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken


async def test_joining_and_leaving_while_connected(enter: Enter) -> None:
    channels = await filled(a=1, b=3)
    visitor = await enter(channels, "/a")
    assert await visitor.hears() == {"joined": "a", "id": "aaaa-1"}
    channels.get("a").publish("a2")
    assert await visitor.hears() == {"id": "aaaa-2", "channel": "a", "data": "a2"}
    await visitor.says({"join": "b", "after": "bbbb-2", "ref": 7})
    assert await visitor.hears() == {"joined": "b", "id": "bbbb-2", "ref": 7}
    assert await visitor.hears() == {"id": "bbbb-3", "channel": "b", "data": "b3"}
    await visitor.says({"leave": "a", "ref": "x"})
    assert await visitor.hears() == {"left": "a", "ref": "x"}
    channels.get("a").publish("a3")
    channels.get("b").publish("b4", "note")
    assert await visitor.hears() == {
        "id": "bbbb-4", "channel": "b", "event": "note", "data": "b4",
    }  # fmt: skip
    await visitor.says({"join": "a", "after": "aaaa-0"})
    assert await visitor.hears() == {"joined": "a", "id": "aaaa-1"}
    gap = {"from": "aaaa-0", "to": "aaaa-1"}
    assert await visitor.hears() == {"id": "aaaa-1", "channel": "a", "gap": gap}
    await visitor.says({"join": "c", "last": 1})
    assert [(await visitor.hears())["data"] for _ in range(2)] == ["a2", "a3"]
    assert await visitor.hears() == {"joined": "c", "id": "cccc-0"}


async def test_leaving_cuts_no_frame_in_two(version: str) -> None:
    channels = rooms(Channel)
    async with connected(app_of(channels), version=version) as (peer, _):
        await peer.send(get("/a", *handshake_fields()))
        visitor = Visitor(peer)
        await peer.until(b'-0"}')
        for n in range(50):
            channels.get("a").publish(f"{n} " + "x" * 2000)
            await trio.lowlevel.checkpoint()  # its socket is soon full
        await visitor.says({"leave": "a"}, {"publish": "y", "channel": "a"}, {"join": "a"})
        heard = [await visitor.hears()]
        while "joined" not in heard[-1]:
            heard.append(await visitor.hears())
        sent = [int(o["data"].partition(" ")[0]) for o in heard if "data" in o]
        assert sent == list(range(len(sent)))
        assert len(sent) < 50
        assert [next(iter(o)) for o in heard[-3:]] == ["left", "published", "joined"]


async def test_publishing_is_acknowledged(enter: Enter) -> None:
    channels = rooms()
    ann, bob = await enter(channels, "/a"), await enter(channels, "/a")
    await ann.hears()
    await bob.hears()
    await ann.says({"publish": "hello", "channel": "a", "event": "note", "ref": "m1"})
    entry = {"id": "aaaa-1", "channel": "a", "event": "note", "data": "hello"}
    assert await bob.hears() == entry
    heard = [await ann.hears(), await ann.hears()]
    assert {"published": "aaaa-1", "channel": "a", "ref": "m1"} in heard
    assert entry in heard


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (b"hello", 400),
        (b"[]", 400),
        (b"[" * 100_000, 400),
        (b'{"publish":"x","channel":"a","ref":' + b"[" * 960 + b"]" * 960 + b"}", 400),
        (b'{"publish":"x","channel":"a","ref":1e999}', 400),
        ({"publish": "x", "channel": "a", "event": "gap"}, 400),
        ({"join": "c", "last": True}, 400),
        ({}, 400),
        ({"join": 1}, 400),
        ({"join": "a b"}, 404),
        ({"join": "a"}, 409),
        ({"join": "b", "after": 1}, 400),
        ({"join": "b", "last": "x"}, 400),
        ({"join": "b", "last": -1}, 400),
        ({"leave": "b"}, 404),
        ({"publish": "x"}, 400),
        (b'{"publish":' + b"[" * 960 + b"]" * 960 + b',"channel":1}', 400),
        (b'{"publish":1e999,"channel":"a"}', 400),
        ({"publish": "x", "channel": "a", "event": 1}, 400),
        ({"publish": "x", "channel": "a", "event": "a\nb"}, 400),
        ({"publish": "\ud800", "channel": "a"}, 400),
        ({"publish": "x", "channel": "a@presence"}, 405),
        ({"publish": "x" * 1001, "channel": "a"}, 413),
        ({"join": "more"}, 503),
    ],
)
async def test_what_cannot_be_done(enter: Enter, command: object, status: int) -> None:
    channels = Channels(lambda name: Channel(name, size=1000), max_channels=2)
    channels.get("b")  # which would else be forgotten when it is left
    visitor = await enter(channels, "/a?channel=b")
    await visitor.hears(), await visitor.hears()
    await visitor.says({"leave": "b"})
    await visitor.hears()
    if isinstance(command, dict):
        command["ref"] = 1
    await visitor.says(command)
    answer = await visitor.hears()
    assert (answer["error"], type(answer["text"])) == (status, str)
    assert answer.get("ref") == (1 if isinstance(command, dict) else None)
    await visitor.says({"publish": "on", "channel": "a"})
    assert {"published", "data"} & (await visitor.hears()).keys(), "it goes on"


async def test_a_cursor_that_is_no_unicode(enter: Enter) -> None:
    visitor = await enter(await filled(b=1), "/a")
    await visitor.hears()
    await visitor.says({"join": "b", "after": "\ud800"})
    assert (await visitor.hears())["joined"] == "b"
    assert (await visitor.hears())["gap"] == {"from": "?", "to": "bbbb-0"}


async def test_what_a_websocket_may_do(enter: Enter) -> None:
    visitor = await enter(rooms(authorize=known_only), "/a?token=ann")
    await visitor.hears()
    await visitor.says({"join": "b"}, {"publish": "x", "channel": "a"})
    assert [(await visitor.hears())["error"] for _ in range(2)] == [403, 403]


async def test_presence_by_websocket(enter: Enter) -> None:
    channels = rooms()
    ann = await enter(channels, "/a?channel=a@presence&name=ann")
    assert (await ann.hears())["joined"] == "a"
    joined = await ann.hears()
    assert joined == {
        "joined": "a@presence", "id": "eeee-1", "count": 1, "members": {"ann": 1}, "next": "eeee-1",
    } | {key: joined[key] for key in ("id", "next")}  # fmt: skip
    assert joined["id"] == joined["next"]
    bob = await enter(channels, "/a?name=bob")
    told = await ann.hears()
    assert (told["channel"], told["event"]) == ("a@presence", "join")
    assert told["data"] == {"name": "bob", "here": 1, "count": 2}
    await bob.hears()
    await bob.says({"leave": "a"})
    assert (await ann.hears())["event"] == "leave"
    assert channels.presence("a").members == {"ann": 1}


@pytest.mark.parametrize("entries", [50, 1000])
async def test_fast_publishing_makes_no_reader_lose_entries(serving: Serving, entries: int) -> None:
    channels = rooms(lambda name: Channel(name, entries=entries))
    server = await serving(app_of(channels))
    reader, writer = await server.connect(), await server.connect()
    await reader.send(get("/a", "Accept: application/x-ndjson"))
    await reader.has(b'-0"}\n')
    await writer.send(get("/", *handshake_fields()))
    await writer.has(b"\r\n\r\n")
    command = frame(TEXT, b'{"publish":"x","channel":"a"}')

    async def discard() -> None:  # the answers
        while await writer.stream.receive_some():
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(discard)
        await writer.send(command * 3000)
        received = b""
        while b'-3000"' not in received:
            received += await reader.exactly(1)
        nursery.cancel_scope.cancel()
    found = objects_in_lines(unchunked_so_far(received))
    assert ["data" in o for o in found] == [True] * 3000


async def test_leaving_and_joining_at_once_repeats_nothing(serving: Serving) -> None:
    channels = rooms(Channel)
    server = await serving(app_of(channels))
    for _ in range(20):
        visitor = Visitor(await server.connect())
        await visitor.peer.send(get("/a", *handshake_fields()))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await visitor._take(1)
        at = (await visitor.hears())["id"]
        commands = [
            {"leave": "a"}, {"publish": "1", "channel": "a"}, {"join": "a", "after": at},
            {"publish": "2", "channel": "a"}, {"leave": "a"}, {"publish": "3", "channel": "a"},
        ]  # fmt: skip
        await visitor.peer.send(b"".join(frame(TEXT, json.dumps(c).encode()) for c in commands))
        heard = [await visitor.hears() for _ in range(6)]
        while sum("published" in o for o in heard) < 3:
            heard.append(await visitor.hears())
        got = [o["data"] for o in heard if "data" in o]
        assert got in ([], ["1"], ["1", "2"])
        last = max(n for n, o in enumerate(heard) if "left" in o)
        assert not any("data" in o for o in heard[last:])


async def test_a_room_is_left_when_its_last_reader_leaves(
    enter: Enter, autojump_clock: trio.testing.MockClock
) -> None:
    channels = rooms(idle_seconds=60)
    visitor = await enter(channels, "/a")
    await visitor.hears()
    await visitor.says({"leave": "a"})
    await visitor.hears()
    await trio.sleep(61)
    channels.get("b")
    assert len(channels) == 1


async def test_too_many_joined(enter: Enter) -> None:
    visitor = await enter(rooms(), "/")
    for n in range(32):
        await visitor.says({"join": f"c{n}"})
        await visitor.hears()
    await visitor.says({"join": "one-more"})
    assert (await visitor.hears())["error"] == 403


async def test_a_websocket_that_is_too_slow(version: str) -> None:
    channels = rooms(lag="close")
    async with connected(app_of(channels), version=version) as (peer, _):
        await peer.send(get("/a?channel=b", *handshake_fields()))
        await peer.has(b"\r\n\r\n")
        for n in range(400):
            channels.get("ab"[n % 2]).publish("x" * 1000)
            await trio.lowlevel.checkpoint()
        await peer.has(b"\x88\x0a\x03\xf5too slow")


async def test_nobody_stays_when_all_have_left(serving: Serving) -> None:
    channels = rooms(Channel)
    server = await serving(app_of(channels), limits=Limits(close_seconds=0.1))
    for target, fields in [
        ("/a?name=x", handshake_fields()),
        ("/a?name=x&channel=b", ["Accept: text/event-stream"]),
        ("/a?name=x", ["Accept: text/event-stream"]),
        ("/a?wait=9", []),
    ]:
        for abrupt in (True, False):
            peer = await server.connect()
            await peer.send(get(target, *fields))
            if "wait" not in target:
                await peer.has(b"\r\n\r\n")
            if not abrupt and "Upgrade: websocket" in fields:
                await peer.send(close(1000))
            await trio.aclose_forcefully(peer.stream)
    server.peers.clear()
    with trio.fail_after(5):
        while any(channels.presence(name).count for name in "ab"):  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert channels.presence("a").count == channels.presence("b").count == 0
    assert channels.presence("a").members == {}


async def test_silent_lines_have_heartbeats(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    channels = rooms()
    for query in ("", "?channel=b"):
        peer = connect(app_of(channels))
        await peer.send(get(f"/a{query}", "Accept: application/x-ndjson"))
        await peer.has(b'-0"}\n\r\n')
        start = trio.current_time()
        await peer.has(b"1\r\n\n\r\n" * 2, patience=100)
        assert trio.current_time() - start == pytest.approx(30, abs=0.1)
        channels.get("a").publish("x")
        assert b'"data": "x"' in await peer.until(b"}\n\r\n")


# -- Only some entries, and pauses ----------------------------------------------------------------


def is_loud(entry: Entry) -> bool:
    return entry.data.isupper()


def loud_ones(only: str) -> Callable[[Entry], bool]:
    if only != "loud":
        raise ValueError("only is loud")
    return is_loud


def quiet_and_loud() -> Channels:
    channels = Channels(lambda name: Channel(name, epoch="aaaa"), select=loud_ones)
    for data in ("a", "B", "c", "D", "e"):
        channels.get("a").publish(data)
    return channels


@pytest.mark.parametrize(
    ("target", "accept", "brings", "then"),
    [
        ("/a?after=0&only=loud", "text/plain", b"B\nD\n", b"F\n"),
        (
            "/a?after=0&only=loud",
            "text/event-stream",
            b"id: aaaa-2\ndata: B\n\nid: aaaa-4\ndata: D\n\n",
            b"id: aaaa-7\ndata: F\n\n",
        ),
        (
            "/a?after=a:aaaa-0&only=loud&channel=a&channel=b",
            "application/x-ndjson",
            b'"data": "B"}\n{"id": "a:aaaa-4,b:aaaa-0", "channel": "a", "data": "D"}\n',
            b'{"id": "a:aaaa-7,b:aaaa-0", "channel": "a", "data": "F"}\n',
        ),
    ],
)
async def test_a_stream_of_only_some_entries(
    connect: Connect, target: str, accept: str, brings: bytes, then: bytes
) -> None:
    channels = quiet_and_loud()
    peer = connect(app_of(channels))
    await peer.send(get(target, f"Accept: {accept}"))
    assert brings in await peer.has(brings)
    channels.get("a").publish("f?")
    await trio.testing.wait_all_tasks_blocked()
    channels.get("a").publish("F")
    assert await peer.until(then + b"\r\n") == b"%x\r\n%b\r\n" % (len(then), then)


@pytest.mark.parametrize("others", ["", "&channel=b"])
async def test_a_poll_for_only_some_entries_waits_behind_the_others(
    connect: Connect, others: str
) -> None:
    channels = quiet_and_loud()
    peer = connect(app_of(channels))
    status, answer = await ask(peer, get(f"/a?after=0&wait=5&only=loud{others}"))
    assert (status, [entry["data"] for entry in answer["entries"]]) == (200, ["B", "D"])
    cursor = answer["next"]
    await peer.send(get(f"/a?after={cursor}&wait=0&only=loud{others}"))
    told = await peer.until(b"\r\n\r\n")
    assert b" 204 " in told
    assert b"aaaa-5" in told, "the next poll need not look at them again"
    await peer.send(get(f"/a?after={cursor}&wait=5&only=loud{others}"))
    await trio.testing.wait_all_tasks_blocked()
    channels.get("a").publish("f")
    await trio.testing.wait_all_tasks_blocked()
    channels.get("a").publish("G")
    status, answer = answered(await peer.until(b"\n"))
    assert [entry["data"] for entry in answer["entries"]] == ["G"]


async def test_many_unwanted_entries_hold_nobody_up(serving: Serving) -> None:
    """They are passed by without a write; the reader is parked behind them, and hears the next."""
    channels = quiet_and_loud()
    server = await serving(app_of(channels))
    peer = await server.connect()
    await peer.send(get("/a?only=loud"))
    await peer.until(b"\r\n\r\n")
    for n in range(5000):
        channels.get("a").publish(f"quiet {n}")
        await channels.get("a").keep_pace()
    channels.get("a").publish("LOUD")
    assert await peer.until(b"LOUD\n\r\n") == b"5\r\nLOUD\n\r\n"


@pytest.mark.parametrize("target", ["/a?only=silent", "/a?wait=0&only=silent"])
async def test_a_filter_that_means_nothing(connect: Connect, target: str) -> None:
    channels = quiet_and_loud()
    assert await ask(connect(app_of(channels)), get(target)) == (
        400,
        "400 Bad Request: only is loud\n",
    )


async def test_a_websocket_filters_and_pauses(enter: Enter) -> None:
    channels = quiet_and_loud()
    visitor = await enter(channels, "/a?after=aaaa-1&only=loud")
    assert await visitor.hears() == {"joined": "a", "id": "aaaa-1"}
    assert [(await visitor.hears())["data"] for _ in range(2)] == ["B", "D"]
    await visitor.says({"pause": "a", "ref": 1})
    assert await visitor.hears() == {"paused": "a", "id": "aaaa-5", "ref": 1}
    assert channels.presence("a").count == 1
    channels.get("a").publish("f")
    channels.get("a").publish("G")
    await visitor.says({"pause": "a"}, {"filter": "a", "only": None})
    assert await visitor.hears() == {"paused": "a", "id": "aaaa-5"}
    assert await visitor.hears() == {"filtered": "a", "id": "aaaa-5"}
    await visitor.says({"resume": "a", "ref": 2})
    assert await visitor.hears() == {"resumed": "a", "id": "aaaa-5", "ref": 2}
    assert [(await visitor.hears())["data"] for _ in range(2)] == ["f", "G"]
    await visitor.says({"filter": "a", "only": "loud"}, {"resume": "a"})
    assert await visitor.hears() == {"filtered": "a", "id": "aaaa-7"}
    assert await visitor.hears() == {"resumed": "a", "id": "aaaa-7"}
    for data in ("h", "I"):
        channels.get("a").publish(data)
    assert (await visitor.hears())["data"] == "I"
    for command, status in (
        ({"pause": "b"}, 404),
        ({"resume": "b"}, 404),
        ({"filter": "b", "only": "loud"}, 404),
        ({"filter": "a", "only": "silent"}, 400),
        ({"filter": "a", "only": 1}, 400),
        ({"join": "b", "only": "silent"}, 400),
    ):
        await visitor.says(command)
        assert (await visitor.hears())["error"] == status, command
    channels.get("a").close()
    assert await visitor.hears() == {"id": "aaaa-10", "channel": "a", "end": True}


async def test_what_a_paused_reader_missed_is_a_gap(enter: Enter) -> None:
    channels = Channels(lambda name: Channel(name, epoch="aaaa", entries=2))
    visitor = await enter(channels, "/a")
    await visitor.hears()
    await visitor.says({"pause": "a"})
    assert await visitor.hears() == {"paused": "a", "id": "aaaa-0"}
    for data in ("b", "c", "d"):
        channels.get("a").publish(data)
    await visitor.says({"resume": "a"})
    assert await visitor.hears() == {"resumed": "a", "id": "aaaa-0"}
    gap = {"from": "aaaa-0", "to": "aaaa-1"}
    assert await visitor.hears() == {"id": "aaaa-1", "channel": "a", "gap": gap}
    assert [(await visitor.hears())["data"] for _ in range(2)] == ["c", "d"]
    await visitor.says({"pause": "a"})
    await visitor.hears()
    await visitor.peer.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert channels.presence("a").count == 0


async def test_a_gap_is_told_even_if_it_is_paused_or_filtered_at_once(enter: Enter) -> None:
    channels = quiet_and_loud()
    visitor = await enter(channels, "/b")
    await visitor.hears()
    for command, answer in (
        ({"filter": "a", "only": "loud"}, "filtered"),
        ({"pause": "a"}, "paused"),
    ):
        await visitor.says({"join": "a", "after": "gone-1"}, command, {"resume": "a"})
        heard = list[Any]()
        while not ("D" in [o.get("data") for o in heard] and any("resumed" in o for o in heard)):
            heard.append(await visitor.hears())
        assert {"joined", answer} <= {next(iter(o)) for o in heard}
        gaps = [o["gap"] for o in heard if "gap" in o]
        assert gaps == [{"from": "gone-1", "to": "aaaa-0"}]
        await visitor.says({"leave": "a"})
        while "left" not in await visitor.hears():
            pass


async def test_a_pause_tells_the_last_id_that_was_sent(version: str) -> None:
    """The client is slow, and the log has rolled on meanwhile."""
    channels = Channels(lambda name: Channel(name, epoch="aaaa", entries=10))
    async with connected(app_of(channels), version=version) as (peer, _):
        await peer.send(get("/a", *handshake_fields()))
        visitor = Visitor(peer)
        await peer.until(b'-0"}')
        for n in range(300):
            channels.get("a").publish(f"{n} " + "x" * 50_000)
            await trio.lowlevel.checkpoint()  # its socket is soon full
        await visitor.says({"pause": "a"})
        heard = [await visitor.hears()]
        while "paused" not in heard[-1]:
            heard.append(await visitor.hears())
        *entries, paused = heard
        assert paused["id"] == entries[-1]["id"]
        await visitor.says({"resume": "a"})
        assert (await visitor.hears())["id"] == paused["id"]
        assert (await visitor.hears())["gap"]["from"] == paused["id"]


async def test_the_cursor_of_a_reader_that_wants_nothing_of_it_moves_all_the_same(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    channels = quiet_and_loud()
    for accept, place in (("text/event-stream", b"id: aaaa-"), ("application/x-ndjson", b"aaaa-")):
        peer = connect(app_of(channels))
        await peer.send(get("/a?after=aaaa-4&only=loud", f"Accept: {accept}"))
        await peer.until(b"\r\n\r\n")
        channels.get("a").publish("quiet")
        now = channels.get("a").end
        await peer.has(place + b"%d" % now, patience=100)
