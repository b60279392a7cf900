"""One HTTP/1.x connection: requests and responses as literal bytes, deadlines on a fast clock."""

from __future__ import annotations

import json
import logging

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from peers import Connect, Peer, Serving, connect_over_memory
from wire import DATE, HOST, get

from rawstream import HTTPError, Limits, Request, open_stream
from rawstream.http.access_log import masked


async def app(request: Request) -> None:
    """What most of these tests talk to."""
    match request.method, request.path:
        case "GET", "/":
            await request.respond(200, b"hello\n", content_type="text/plain")
        case "POST" | "PUT", "/echo":
            await request.respond(200, await request.body(), content_type="text/plain")
        case "POST", "/parts":
            parts = [len(part) async for part in request.stream()]
            await request.respond(200, f"{sum(parts)}\n")
        case "POST", "/ignore":
            await request.respond(200, b"ignored\n")
        case "GET", "/about":
            about = {
                "target": request.target,
                "path": request.path,
                "query": {name: request.query.get_all(name) for name in request.query},
                "authority": request.authority,
                "headers": dict(request.headers),
                "version": request.http_version,
                "head": request.head_only,
            }
            await request.respond(200, json.dumps(about), content_type="application/json")
        case "GET", "/empty":
            await request.respond(204)
        case "GET", "/error":
            raise HTTPError(409, "in the way", [("X-Why", "because")])
        case "GET", "/fail":
            raise KeyError("secret detail")
        case "GET", "/fail-late":
            async with open_stream(request, "text/plain") as stream:
                await stream.send(b"so far")
                raise KeyError("secret detail")
        case "GET", "/nothing":
            pass
        case "GET", "/inject":
            await request.respond(200, headers=[("X-A", "b\r\nSet-Cookie: evil")])
        case _, "/":
            await request.respond(405, headers=[("Allow", "GET, HEAD")])
        case _:
            await request.respond(404)


EXCHANGES = {
    "GET": (
        get("/"),
        b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n",
    ),
    "HEAD": (
        b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Type: text/plain\r\nContent-Length: 6\r\n\r\n",
    ),
    "a body by length": (
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nping",
        b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Type: text/plain\r\nContent-Length: 4\r\n\r\nping",
    ),
    "a chunked body, with extension and trailer": (
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        b"4\r\nping\r\n6;a=b\r\n:pong!\r\n0\r\nX-Sum: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Type: text/plain\r\nContent-Length: 10\r\n\r\n"
        b"ping:pong!",
    ),
    "no content": (get("/empty"), b"HTTP/1.1 204 No Content\r\n" + DATE + b"\r\n"),
    "not found": (
        get("/no-such-page"),
        b"HTTP/1.1 404 Not Found\r\n" + DATE + b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 14\r\n\r\n404 Not Found\n",
    ),
    "method not allowed": (
        b"DELETE / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"HTTP/1.1 405 Method Not Allowed\r\n" + DATE + b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Allow: GET, HEAD\r\nContent-Length: 23\r\n\r\n405 Method Not Allowed\n",
    ),
    "an error of the handler's": (
        get("/error"),
        b"HTTP/1.1 409 Conflict\r\n" + DATE + b"Content-Type: text/plain; charset=utf-8\r\n"
        b"X-Why: because\r\nContent-Length: 25\r\n\r\n409 Conflict: in the way\n",
    ),
    "an expectation that cannot be met": (
        get("/", fields=b"Expect: tea\r\n"),
        b"HTTP/1.1 417 Expectation Failed\r\n" + DATE + b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 73\r\n\r\n"
        b"417 Expectation Failed: the only expectation that is met is 100-continue\n",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("fixed_date")
@pytest.mark.parametrize(("request_bytes", "answer"), EXCHANGES.values(), ids=EXCHANGES)
@pytest.mark.parametrize("step", [0, 1], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("tail", [b"", get("/")], ids=["alone", "pipelined"])
async def test_exchanges_to_the_byte(
    connect: Connect, request_bytes: bytes, answer: bytes, step: int, tail: bytes
) -> None:
    peer = connect(app)
    await peer.send(request_bytes + tail, step=step)
    expected = answer + (EXCHANGES["GET"][1] if tail else b"")
    assert await peer.exactly(len(expected)) == expected
    await peer.send(get("/"))  # and the connection is still good
    assert await peer.until(b"hello\n") == EXCHANGES["GET"][1]


@pytest.mark.usefixtures("fixed_date")
async def test_a_body_that_came_along_and_nobody_read_keeps_the_connection(
    connect: Connect,
) -> None:
    peer = connect(app)
    await peer.send(
        b"POST /ignore HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nping" + get("/")
    )
    assert await peer.until(b"hello\n") == (
        b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 8\r\n\r\nignored\n" + EXCHANGES["GET"][1]
    )


@pytest.mark.parametrize("length", [b"", b"Content-Length: 0\r\n"])
async def test_a_body_that_is_none_is_empty(connect: Connect, length: bytes) -> None:
    peer = connect(app)
    for _ in range(2):
        await peer.send(b"POST /echo HTTP/1.1\r\n" + HOST + length + b"\r\n")
        assert b"\r\nContent-Length: 0\r\n" in await peer.until(b"\r\n\r\n")


async def test_http_1_0_closes(connect: Connect) -> None:
    peer = connect(app)
    await peer.send(b"GET / HTTP/1.0\r\n\r\n" + get("/"))
    answer = await peer.to_end()
    assert answer.endswith(b"Connection: close\r\n\r\nhello\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 1


async def test_connection_close_is_honoured(connect: Connect) -> None:
    peer = connect(app)
    await peer.send(get("/", fields=b"Connection: close\r\n") + get("/"))
    answer = await peer.to_end()
    assert answer.endswith(b"Connection: close\r\n\r\nhello\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 1


async def test_many_pipelined_requests_are_answered_in_order(connect: Connect) -> None:
    peer = connect(app)
    await peer.send(b"".join(get(f"/about?n={n}") for n in range(50)) + get("/"))
    answer = await peer.until(b"hello\n")
    assert [answer.index(f"/about?n={n}".encode()) for n in range(50)] == sorted(
        answer.index(f"/about?n={n}".encode()) for n in range(50)
    )


async def about(connect: Connect, request_bytes: bytes) -> dict[str, object]:
    peer = connect(app)
    await peer.send(request_bytes)
    answer: dict[str, object] = json.loads((await peer.until(b"}")).partition(b"\r\n\r\n")[2])
    return answer


async def test_target_path_and_query(connect: Connect) -> None:
    seen = await about(connect, get("/%61bout?a=1&b=&a=%C3%A4+x&c"))
    assert seen["target"] == "/%61bout?a=1&b=&a=%C3%A4+x&c"
    assert seen["path"] == "/about"
    assert seen["query"] == {"a": ["1", "ä x"], "b": [""], "c": [""]}
    assert seen["authority"] == "localhost"


async def test_absolute_form_takes_the_place_of_host(connect: Connect) -> None:
    seen = await about(connect, get("http://Example.com:81/about?a=1"))
    assert seen["path"] == "/about"
    assert seen["query"] == {"a": ["1"]}
    assert seen["authority"] == "Example.com:81"


async def test_repeated_fields_are_joined(connect: Connect) -> None:
    seen = await about(connect, get("/about", fields=b"X-A: 1\r\nx-a: 2\r\nX-B:  y \r\n"))
    assert seen["headers"] == {"host": "localhost", "x-a": "1, 2", "x-b": "y"}


async def test_continue_is_sent_when_the_body_is_asked_for(connect: Connect) -> None:
    peer = connect(app)
    expecting = b" HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    await peer.send(b"POST /echo" + expecting)
    assert await peer.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await peer.send(b"ping")
    assert (await peer.until(b"ping")).startswith(b"HTTP/1.1 200 OK\r\n")
    await peer.send(b"POST /ignore" + expecting)
    answer = await peer.until(b"ignored\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close" in answer  # the client may or may not send the body now


async def test_continue_is_not_sent_to_http_1_0(connect: Connect) -> None:
    peer = connect(app)
    await peer.send(b"POST /echo HTTP/1.0\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked()
    await peer.send(b"ping")
    assert (await peer.to_end()).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_too_large_a_body_is_refused_before_it_is_read(connect: Connect) -> None:
    peer = connect(app, Limits(body_bytes=3))
    await peer.send(
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    )
    answer = await peer.to_end()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in answer


async def test_too_large_a_chunked_body_is_refused_when_it_has_grown(connect: Connect) -> None:
    peer = connect(app, Limits(body_bytes=3))
    await peer.send(b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
    await peer.send(b"3\r\nabc\r\n")
    await trio.testing.wait_all_tasks_blocked()
    await peer.send(b"1\r\nd\r\n")
    answer = await peer.to_end()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"request body larger than 3 bytes\n")


@pytest.mark.parametrize(
    "body",
    [b"g\r\nping\r\n", b"4\r\npingpong\r\n", b"-4\r\nping\r\n", b"4\nping\n", b"4\rping", b"0x4\r\n",
     b" 4\r\nping\r\n", b"4 ;\r\r\nping\r\n", b"f" * 30 + b"\r\n"],
)  # fmt: skip
async def test_malformed_chunks_are_refused(connect: Connect, body: bytes) -> None:
    peer = connect(app)
    head = b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    await peer.send(head + body + b"\r\n" + get("/smuggled"))
    answer = await peer.to_end()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


@given(data=st.binary(min_size=1, max_size=200), cuts=st.lists(st.integers(1, 60), max_size=12))
def test_a_body_is_the_same_wherever_it_is_cut(data: bytes, cuts: list[int]) -> None:
    """Chunk borders and read borders are unrelated, and neither is visible in the body."""
    chunks, rest = b"", data
    for cut in cuts:
        if piece := rest[:cut]:
            chunks += b"%x\r\n%b\r\n" % (len(piece), piece)
        rest = rest[cut:]
    if rest:
        chunks += b"%X\r\n%b\r\n" % (len(rest), rest)
    head = b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    whole = head + chunks + b"0\r\n\r\n"

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            peer = connect_over_memory(nursery, app)
            start = 0
            for cut in [*cuts, len(whole)]:
                await peer.send(whole[start : start + cut])
                start += cut
                await trio.testing.wait_all_tasks_blocked()
            answer = await peer.has(b"\r\n\r\n" + data)
            assert answer.partition(b"\r\n\r\n")[2] == data
            nursery.cancel_scope.cancel()

    trio.run(main)


# -- Failures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/fail", "/nothing", "/inject"])
async def test_a_failing_handler_is_500_and_tells_no_detail(
    connect: Connect, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    peer = connect(app)
    await peer.send(get(path) + get("/"))
    answer = await peer.to_end()
    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert answer.endswith(b"\r\n\r\n500 Internal Server Error\n")
    assert b"secret" not in answer
    assert b"evil" not in answer
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"]


async def test_a_handler_that_fails_late_is_cut_without_a_last_chunk(connect: Connect) -> None:
    peer = connect(app)
    await peer.send(get("/fail-late"))
    assert (await peer.to_end()).endswith(b"\r\n\r\n6\r\nso far\r\n")


async def test_on_http_1_0_a_late_failure_resets(serving: Serving) -> None:
    server = await serving(app)
    peer = await server.connect()
    await peer.send(b"GET /fail-late HTTP/1.0\r\n\r\n")
    with pytest.raises(trio.BrokenResourceError):
        await peer.to_end()


async def test_a_large_body_nobody_reads_does_not_reset_the_answer(serving: Serving) -> None:
    server = await serving(app)
    for _ in range(5):
        peer = await server.connect()
        await peer.send(b"POST /none HTTP/1.1\r\n" + HOST + b"Content-Length: 200000\r\n\r\n")
        await peer.send(b"x" * 150_000)
        answer = await peer.to_end()
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"Connection: close" in answer


# -- Deadlines ------------------------------------------------------------------------------------


async def elapsed_until_end(peer: Peer) -> tuple[float, bytes]:
    start = trio.current_time()
    answer = await peer.to_end(patience=200)
    return round(trio.current_time() - start, 3), answer


async def test_a_silent_new_connection_closes_silently(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    assert await elapsed_until_end(connect(app)) == (10, b"")


async def test_a_slow_head_is_ended_by_one_deadline(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = connect(app)
    start = trio.current_time()
    for byte in get("/")[:9]:
        await trio.sleep(1.05)
        await peer.send(bytes([byte]))
    assert (await peer.to_end(patience=20)).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert trio.current_time() - start == pytest.approx(10, abs=0.01)


async def test_a_slow_second_head_has_its_own_deadline(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = connect(app)
    await peer.send(get("/"))
    await peer.until(b"hello\n")
    await trio.sleep(60)
    await peer.send(b"GET")
    elapsed, answer = await elapsed_until_end(peer)
    assert elapsed == 10
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_an_idle_connection_closes_silently(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = connect(app)
    await peer.send(get("/"))
    await peer.until(b"hello\n")
    await trio.sleep(50)
    await peer.send(get("/"))
    await peer.until(b"hello\n")
    assert await elapsed_until_end(peer) == (75, b"")


async def test_a_handler_may_take_longer_than_the_idle_time(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    async def slow(request: Request) -> None:
        await trio.sleep(500)
        await request.respond(200, b"slow\n")

    peer = connect(slow)
    for _ in range(2):
        await peer.send(get("/"))
        assert (await peer.has(b"slow\n", patience=501)).startswith(b"HTTP/1.1 200")


async def test_a_silent_body_is_ended(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    peer = connect(app)
    await peer.send(b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\n")
    for byte in b"pin":
        await trio.sleep(29)
        await peer.send(bytes([byte]))
    elapsed, answer = await elapsed_until_end(peer)
    assert elapsed == 30
    assert answer.startswith(b"HTTP/1.1 408 ")


# -- The access log -------------------------------------------------------------------------------


async def test_one_access_line_an_exchange(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rawstream.access")
    peer = connect(app)
    await peer.send(
        get("/?token=t0ps3cret&a=b") + b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n" + b"bad\r\n\r\n"
    )
    await peer.to_end()
    await trio.testing.wait_all_tasks_blocked()
    lines = [record.getMessage() for record in caplog.records if record.name == "rawstream.access"]
    assert [line.split(" ")[1:4] for line in lines] == [
        ['"GET', '/?token=***&a=b"', "200"],
        ['"HEAD', '/"', "200"],
        ['"-', '-"', "400"],
    ]
    assert all(line.endswith(" done") for line in lines)


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/a", "/a"),
        ("/a?b=c", "/a?b=c"),
        ("/a?access_token=x&b=c", "/a?access_token=***&b=c"),
        ("/a?API-Key=x", "/a?API-Key=***"),
        ("/a?%74oken=x", "/a?%74oken=***"),
        ("/a?token", "/a?token"),
        ("/a?code=x&otp=y&PIN=z", "/a?code=***&otp=***&PIN=***"),
        ("/a?encoding=x&shipping=y", "/a?encoding=x&shipping=y"),
    ],
)
def test_secrets_are_masked(target: str, shown: str) -> None:
    assert masked(target) == shown
