"""Long-polling: held, answered, given up; and a cursor on every answer."""

from __future__ import annotations

import json
import math
import re

import pytest
import trio
import trio.testing
from peers import Connect
from wire import get

from rawstream import Channel, Limits, Request, open_poll
from rawstream.demo.channels import channels
from rawstream.demo.push import BOARD, poll

pytestmark = pytest.mark.both_versions


async def never(request: Request) -> None:
    async with open_poll(request, cursor="e-5"):
        await trio.sleep_forever()


def fields(answer: bytes) -> list[bytes]:
    return answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[2:]


@pytest.mark.parametrize(
    ("request_bytes", "status", "etag"),
    [
        (get("/?wait=7"), b"204", b'"e-5"'),
        (get("/?wait=7&after=e-3"), b"204", b'"e-3"'),
        (get("/?wait=7", b'If-None-Match: "e-3"\r\n'), b"304", b'"e-3"'),
        (get("/?wait=7", b'If-None-Match: W/"e-3"\r\n'), b"304", b'"e-3"'),
        (get("/?wait=7", b"Last-Event-ID: e-3\r\n"), b"204", b'"e-3"'),
        (get("/?wait=7&after=e-3", b'If-None-Match: "e-2"\r\n'), b"204", b'"e-3"'),
        (get("/?wait=7&after=%22%0d%0aX:%20y"), b"204", b'"e-5"'),
        (get("/?wait=7&after=%C3%A4"), b"204", b'"e-5"'),
    ],
    ids=["new", "after", "etag", "weak etag", "event id", "after wins", "injection", "not ascii"],
)
async def test_nothing_new_is_said_with_the_cursor(
    connect: Connect,
    autojump_clock: trio.testing.MockClock,
    request_bytes: bytes,
    status: bytes,
    etag: bytes,
) -> None:
    peer = connect(never)
    start = trio.current_time()
    await peer.send(request_bytes)
    answer = await peer.until(b"\r\n\r\n")
    assert trio.current_time() - start == pytest.approx(7)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert fields(answer) == [b"ETag: " + etag, b"Cache-Control: no-store"]


@pytest.mark.parametrize(
    ("wait", "seconds"), [("", 25), ("?wait=0", 0), ("?wait=0.5", 0.5), ("?wait=1e9", 60)]
)
async def test_how_long_it_is_held(
    connect: Connect, autojump_clock: trio.testing.MockClock, wait: str, seconds: float
) -> None:
    peer = connect(never)
    start = trio.current_time()
    await peer.send(get("/" + wait))
    await peer.has(b"\r\n\r\n", patience=math.inf)
    assert trio.current_time() - start == pytest.approx(seconds)


@pytest.mark.parametrize("wait", ["soon", "-1", "nan", ""])
async def test_a_wait_that_is_no_number_is_refused(connect: Connect, wait: str) -> None:
    peer = connect(never)
    await peer.send(get(f"/?wait={wait}"))
    assert (await peer.until(b"\n")).startswith(b"HTTP/1.1 400 ")


async def test_an_answer_has_its_cursor_and_may_be_slow_itself(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> None:
        async with open_poll(request, cursor="e-5") as poll:
            assert poll.cursor == "e-5"
            await trio.sleep(1)
            await poll.answer(b"[1]", cursor="e-6", content_type="application/json")
            await trio.sleep(20)

    peer = connect(handler, Limits(poll_seconds=2))
    for _ in range(2):
        await peer.send(get("/"))
        answer = await peer.has(b"[1]", patience=100)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert fields(answer)[1:3] == [b'ETag: "e-6"', b"Cache-Control: no-store"]


async def test_a_loop_of_polls_loses_and_repeats_nothing(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    board = Channel()

    async def handler(request: Request) -> None:
        async with open_poll(request, cursor=board.id_of(board.end)) as poll:
            position, gap = board.resume(poll.cursor)
            assert not gap
            while position == board.end:
                await Channel.wait_for_entry(board)
            answer = ",".join(entry.data for entry in board.entries_after(position))
            end = board.id_of(board.end)
            await poll.answer(answer, cursor=end, content_type="text/plain")

    async def post(n: int) -> None:
        for number in range(n):
            board.publish(str(number))
            await trio.sleep(0.7 * (number % 3))

    got: list[str] = []
    cursor = board.id_of(board.end)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(post, 60)
        while len(got) < 60:
            peer = connect(handler)  # a connection each: nothing hangs on it
            await peer.send(get(f"/?after={cursor}&wait=1"))
            answer = await peer.has(b"\r\n\r\n")
            found = re.search(rb'ETag: "([^"]+)"', answer)
            assert found
            cursor = found[1].decode()
            body = answer.partition(b"\r\n\r\n")[2].decode()
            got += body.split(",") if body else []
            await trio.sleep(0.3)
    assert got == [str(number) for number in range(60)]


@pytest.mark.parametrize("cursor", ["garbage", "other-3", "-1", "{epoch}-99", "{epoch}-x"])
async def test_a_cursor_the_demo_does_not_know_is_answered_with_a_gap(
    connect: Connect, cursor: str
) -> None:
    board = channels.get(BOARD)
    board.publish("a")
    peer = connect(poll)
    after = cursor.replace("{epoch}", board.epoch)
    await peer.send(get(f"/poll?after={after}"))
    answer = json.loads((await peer.has(b"}\n")).partition(b"\r\n\r\n")[2])
    assert (answer["entries"][-1], answer["gap"]) == ("a", True)
