"""Channels in Redis: what several processes share, and what happens when Redis does not answer."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import Connect, Peer
from redis_server import RedisServer, new_prefix, redis_server, shared, until
from wire import get

from rawstream import (
    Channel,
    Gap,
    HTTPError,
    Limits,
    RedisChannels,
    Request,
    Unavailable,
    serve_channels,
)
from rawstream.redis import link, store


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for tests that do not stop it."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def own_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    """A server for a test that stops it. What is waited for is waited for shortly."""
    monkeypatch.setattr(store, "RECONNECT_SECONDS", (0.01, 0.02))
    monkeypatch.setattr(link, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(link, "BLOCK_MILLISECONDS", 200)
    with redis_server(tmp_path) as server:
        yield server


async def app(channels: RedisChannels, request: Request) -> None:
    await serve_channels(request, channels, request.path[1:])


def read(name: str, accept: str = "application/x-ndjson", after: str = "") -> bytes:
    return get(f"/{name}?after={after}", b"Accept: %b\r\n" % accept.encode())


def post(name: str, text: bytes) -> bytes:
    return b"POST /%b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (
        name.encode(), len(text), text,
    )  # fmt: skip


def held(channel: Channel) -> list[tuple[str, str, str | None]]:
    return [(e.id, e.data, e.event) for e in channel.entries_after(channel.start)]


# -- What is shared -------------------------------------------------------------------------------


async def test_an_entry_that_is_published_in_one_process_reaches_readers_of_another_in_all_ways(
    redis: RedisServer, connect: Connect
) -> None:
    async with shared(redis.url) as (one, other):
        peers = dict[str, Peer]()
        for accept in ("text/event-stream", "application/x-ndjson", "text/plain"):
            peers[accept] = connect(partial(app, other))
            await peers[accept].send(read("news", accept))
            await peers[accept].has(b"\r\n\r\n")
        poll = connect(partial(app, other))
        await poll.send(get("/news?wait=5&after=0"))
        await other.ready("news")
        publisher = connect(partial(app, one))
        await publisher.send(post("news", b"hello"))
        answer = await publisher.has(b"}\n")
        id = json.loads(answer.partition(b"\r\n\r\n")[2])["id"]
        assert id.endswith("-1")
        assert f"id: {id}\ndata: hello\n\n".encode() in await peers["text/event-stream"].has(b"hel")
        line = f'{{"id": "{id}", "data": "hello"}}\n'.encode()
        assert line in await peers["application/x-ndjson"].has(b'"hello"')
        assert b"hello\n" in await peers["text/plain"].has(b"hello")
        assert f'"next": "{id}"'.encode() in await poll.has(b"}\n")


async def test_ids_look_as_in_memory_and_count_without_a_hole(redis: RedisServer) -> None:
    async with shared(redis.url) as (one, other):
        ids = [await channels.publish("a", "x") for channels in (one, other) * 3]
        epoch = ids[0].partition("-")[0]
        assert ids == [f"{epoch}-{n}" for n in range(1, 7)]
        assert int(epoch, 16) > 0
        await other.ready("a")
        assert [e.id for e in other.get("a").entries_after(0)] == ids


async def test_a_reader_goes_on_in_a_process_that_has_not_read_its_last_entry_yet(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shared(redis.url) as (one, other):
        await other.ready("a")
        ids = [await one.publish("a", str(n)) for n in range(3)]
        channel = other.get("a")
        # As if it were slow: it has seen nothing, whatever it has seen in truth.
        behind = channel.position_of(ids[2])
        assert behind is not None
        await other.ready("a", ids[2])
        assert channel.resume(ids[2]) == (behind, False)
        assert channel.end == behind


async def test_who_joins_late_reads_what_there_is(redis: RedisServer) -> None:
    async with shared(redis.url) as (one, other):
        for n in range(5):
            await one.publish("a", str(n), "number")
        await other.ready("a")
        assert [(d, e) for _, d, e in held(other.get("a"))] == [
            (str(n), "number") for n in range(5)
        ]


async def test_texts_of_a_client_are_published_together_and_in_order(
    redis: RedisServer, connect: Connect
) -> None:
    async with shared(redis.url) as (one, other):
        await other.ready("a")
        publisher = connect(partial(app, one))
        lines = b"".join(b"%d\n" % n for n in range(700))
        await publisher.send(
            b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(lines), lines)
        )
        assert b'"entries": 700' in await publisher.has(b"}\n")
        channel = other.get("a")
        await until(lambda: channel.end == 700)
        assert [e.data for e in channel.entries_after(0)] == [str(n) for n in range(700)]


async def test_lines_before_a_bad_one_are_published_and_counted(
    redis: RedisServer, connect: Connect
) -> None:
    async with shared(redis.url, create=lambda name: Channel(name, json=True)) as (one, other):
        publisher = connect(partial(app, one))
        lines = b"1\n2\n{\n4\n"
        await publisher.send(
            b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(lines), lines)
        )
        answer = await publisher.has(b"so far")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"published so far: 2" in answer
        await other.ready("a")
        assert [e.json() for e in other.get("a").entries_after(0)] == [1, 2]


async def test_a_name_that_does_not_exist_never_reaches_redis(
    redis: RedisServer, connect: Connect
) -> None:
    def create(name: str) -> Channel:
        raise HTTPError(404)

    async with shared(redis.url, 1, create=create) as (one,):
        for request in (read("a"), post("a", b"x")):
            peer = connect(partial(app, one))
            await peer.send(request)
            assert (await peer.has(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
        with pytest.raises(HTTPError):
            await one.publish("a", "x")
        with pytest.raises(ValueError, match="not a valid name"):
            await one.publish("a b", "x")


async def test_what_cannot_be_published_raises_as_in_memory(redis: RedisServer) -> None:
    async with shared(redis.url, 1, create=lambda name: Channel(name, size=10)) as (one,):
        with pytest.raises(ValueError, match="at most 10 bytes"):
            await one.publish("a", "x" * 11)
        with pytest.raises(ValueError, match="reserved"):
            await one.publish("a", "x", "gap")
        with pytest.raises(TypeError):
            await one.publish("a", 1)  # type: ignore[arg-type]
        await one.ready("a")
        with pytest.raises(RuntimeError, match=r"await channels\.publish"):
            one.get("a").publish("x")
        with pytest.raises(RuntimeError, match=r"await channels\.close"):
            one.get("a").close()


async def test_a_channel_is_closed_in_all_processes(redis: RedisServer, connect: Connect) -> None:
    async with shared(redis.url) as (one, other):
        reader = connect(partial(app, other))
        await reader.send(read("a", after="0"))
        await reader.has(b"\r\n\r\n")
        await one.publish("a", "last")
        await one.close("a")
        await one.close("a")
        got = await reader.until(b"0\r\n\r\n")
        assert b'"data": "last"' in got
        assert b'"end": true' in got
        publisher = connect(partial(app, one))
        await publisher.send(post("a", b"more"))
        assert (await publisher.has(b"\r\n\r\n")).startswith(b"HTTP/1.1 409 ")
        with pytest.raises(RuntimeError, match="closed"):
            await one.publish("a", "more")


@settings(max_examples=12)
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=40),
    entries=st.integers(1, 20),
    size=st.integers(130, 400),
)
def test_redis_holds_what_memory_would_hold(
    redis: RedisServer, texts: list[str], entries: int, size: int
) -> None:
    def create(name: str) -> Channel:
        return Channel(name, entries=entries, size=size)

    async def main() -> None:
        memory = create("a")
        async with shared(redis.url, create=create) as (one, other):
            await one.ready("a")
            for text in texts:
                memory.publish(text)
                await one.publish("a", text)
            await other.ready("a")
            await until(lambda: one.get("a").end == len(texts))
            for channel in (one.get("a"), other.get("a")):
                assert (channel.start, channel.end) == (memory.start, memory.end)
                assert [e.data for e in channel.entries_after(channel.start)] == [
                    e.data for e in memory.entries_after(memory.start)
                ]

    trio.run(main)


# -- Gaps -----------------------------------------------------------------------------------------


async def test_a_trim_past_a_reader_is_a_gap(redis: RedisServer) -> None:
    prefix = new_prefix()
    async with shared(redis.url, 1, prefix=prefix) as (one,):
        first = await one.publish("a", "1")
        await one.ready("a")
        channel = one.get("a")
        entries = channel.entries(after="0")
        one_entry = await entries.__anext__()
        assert not isinstance(one_entry, Gap)
        assert one_entry.data == "1"
        # Entries 2 and 3 are published and trimmed in one step, as if we had been away meanwhile.
        script = (
            "local e = string.match(redis.call('XINFO','STREAM',KEYS[1])[8], '^%d+') "
            "for n = 2, 4 do redis.call('XADD', KEYS[1], 'MAXLEN', 1, e .. '-' .. n, 'd', n, "
            "'e', '', 's', 1, 'b', n - 1, 'n', n) end"
        )
        redis.command("eval", script, "1", f"{prefix}a")
        gap, four = await entries.__anext__(), await entries.__anext__()
        epoch = first.partition("-")[0]
        assert gap == Gap(first, f"{epoch}-3")
        assert not isinstance(four, Gap)
        assert (four.id, four.data) == (f"{epoch}-4", "4")


async def test_a_flush_is_a_new_epoch_and_a_gap_even_if_nobody_publishes(
    own_redis: RedisServer,
) -> None:
    async with shared(own_redis.url, lease_seconds=0.3) as (one, other):
        last = await one.publish("a", "1")
        await one.ready("a")
        await other.ready("a", last)
        iterators = [channels.get("a").entries() for channels in (one, other)]
        own_redis.command("flushall")
        with trio.fail_after(5):
            gaps = [await entries.__anext__() for entries in iterators]
        assert gaps[0] == gaps[1]
        assert isinstance(gaps[0], Gap)
        assert gaps[0].start == last
        new = await other.publish("a", "2")
        assert gaps[0].end == new.replace("-1", "-0")
        for entries in iterators:
            entry = await entries.__anext__()
            assert not isinstance(entry, Gap)
            assert (entry.id, entry.data) == (new, "2")


async def test_a_redis_that_has_lost_entries_which_were_read_goes_on_with_another_epoch(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    async with shared(own_redis.url) as (one, other):
        await one.publish("a", "1")
        shutil.copytree(own_redis.folder / "appendonlydir", older)
        await one.ready("a")
        await other.ready("a")
        lost = [await one.publish("a", text) for text in ("2", "3")]
        channel = other.get("a")
        await until(lambda: channel.end == 3)
        entries = channel.entries()
        own_redis.kill()
        shutil.rmtree(own_redis.folder / "appendonlydir")
        shutil.move(older, own_redis.folder / "appendonlydir")
        await until(lambda: not (one.is_connected or other.is_connected))
        own_redis.start()
        await until(lambda: one.is_connected and other.is_connected)
        new = await one.publish("a", "two again")
        gap, entry = await entries.__anext__(), await entries.__anext__()
        assert isinstance(gap, Gap)
        assert gap.start == lost[-1]
        assert not isinstance(entry, Gap)
        assert (entry.id, entry.data) == (new, "two again")
        assert new.partition("-")[0] != lost[0].partition("-")[0]


# -- Presence -------------------------------------------------------------------------------------


def members(channels: RedisChannels) -> Any:
    presence = channels.presence("a")
    return presence.count, presence.members


async def test_members_of_all_processes_are_present(redis: RedisServer, connect: Connect) -> None:
    async with shared(redis.url) as (one, other):
        watcher = connect(partial(app, one))
        await watcher.send(read("a@presence"))
        await watcher.has(b"\r\n\r\n")
        reader = connect(partial(app, one))
        await reader.send(get("/a?name=ann", b"Accept: application/x-ndjson\r\n"))
        await watcher.has(b'"event": "join", "data": {"name": "ann", "here": 1, "count": 1}')
        await other.ready("a")
        with other.read("a", "ann"):
            await watcher.has(b'"event": "join", "data": {"name": "ann", "here": 2, "count": 2}')
            with other.read("a", None):
                await watcher.has(b'{"name": null, "here": null, "count": 3}')
            await watcher.has(b'"event": "leave", "data": {"name": null, "here": null, "count": 2}')
            listing = connect(partial(app, other))
            await listing.send(get("/a@presence", b"Accept: application/json\r\n"))
            listed = json.loads((await listing.has(b"}\n")).partition(b"\r\n\r\n")[2])
            assert (listed["members"], listed["count"]) == ({"ann": 2}, 2)
        await watcher.has(b'"event": "leave", "data": {"name": "ann", "here": 1, "count": 1}')


async def test_a_process_that_dies_leaves_nobody_behind(redis: RedisServer) -> None:
    prefix = new_prefix()
    async with shared(redis.url, 1, prefix=prefix, lease_seconds=0.6) as (one,):
        await one.ready("a@presence")
        async with trio.open_nursery() as nursery:
            dying = RedisChannels(redis.url, prefix=prefix, lease_seconds=0.6)
            await nursery.start(dying.run)
            await dying.ready("a")
            with dying.read("a", "bob"), one.read("a", "ann"):
                await until(lambda: members(one) == (2, {"ann": 1, "bob": 1}))
                # It says nothing any more: its connections are closed without a word.
                dying._store.presences.clear()
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await until(lambda: members(one) == (1, {"ann": 1}))
        told = [(e.event, e.json()["name"]) for e in one.get("a@presence").entries_after(0)]
        assert ("leave", "bob") in told


async def test_a_process_that_ends_properly_leaves_at_once(redis: RedisServer) -> None:
    prefix = new_prefix()
    async with shared(redis.url, 1, prefix=prefix) as (one,):
        await one.ready("a@presence")
        async with shared(redis.url, 1, prefix=prefix) as (ending,):
            await ending.ready("a")
            with ending.read("a", "bob"):
                await until(lambda: members(one) == (1, {"bob": 1}))
        await until(lambda: members(one) == (0, {}), patience=2)


async def test_members_are_present_again_after_a_flush(own_redis: RedisServer) -> None:
    async with shared(own_redis.url, lease_seconds=0.3) as (one, other):
        await one.ready("a@presence")
        await other.ready("a")
        with one.read("a", "ann"), other.read("a", "bob"):
            await until(lambda: members(one) == (2, {"ann": 1, "bob": 1}))
            before = one.presence("a").log.epoch
            own_redis.command("flushall")
            await until(lambda: one.presence("a").log.epoch != before)
            await until(lambda: members(one) == (2, {"ann": 1, "bob": 1}))


# -- Redis away -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_readers_wait_and_go_on_where_they_were(
    own_redis: RedisServer, connect: Connect, how: str
) -> None:
    async with shared(own_redis.url) as (one, other):
        reader = connect(partial(app, other))
        await reader.send(read("a", "text/event-stream", after="0"))
        got = await reader.has(b"-0\n\n")
        ids = [await one.publish("a", str(n)) for n in range(3)]
        got += await reader.has(f"id: {ids[-1]}\n".encode())
        getattr(own_redis, how)()
        await until(lambda: not (one.is_connected or other.is_connected))

        publisher = connect(partial(app, one))
        await publisher.send(post("a", b"lost"))
        answer = await publisher.has(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in answer
        late = connect(partial(app, other))  # what this process has read, it serves
        await late.send(read("a", after=ids[0]))
        await late.has(b'"data": "2"')
        unread = connect(partial(app, other))
        await unread.send(read("b", "text/event-stream"))
        assert (await unread.has(b"retry: ")).startswith(b"HTTP/1.1 200 ")

        own_redis.start()
        await until(lambda: one.is_connected and other.is_connected)
        ids += [await one.publish("a", str(n)) for n in range(3, 6)]
        got += await reader.has(f"id: {ids[-1]}\n".encode())
        told = [line[4:].decode() for line in got.split(b"\n") if line[:4] == b"id: "]
        assert told == [ids[0].replace("-1", "-0"), *ids]
        assert b"event: gap" not in got


@pytest.mark.parametrize(
    ("accept", "empty", "delayed"),
    [
        ("text/event-stream", b":\n\n", b": entries may be delayed\n\n"),
        ("application/x-ndjson", b"\n\n", b'{"id": "%b", "delayed": true}\n'),
    ],
)
async def test_heartbeats_go_on_and_say_that_entries_may_be_delayed(
    own_redis: RedisServer, connect: Connect, accept: str, empty: bytes, delayed: bytes
) -> None:
    async with shared(own_redis.url, 1) as (one,):
        id = await one.publish("a", "1")
        reader = connect(partial(app, one), Limits(heartbeat_seconds=0.05))
        await reader.send(read("a", accept, after="0"))
        await reader.has(b"1")
        await reader.has(empty)
        own_redis.kill()
        await reader.has(delayed.replace(b"%b", id.encode()))
        own_redis.start()
        await until(lambda: one.is_connected)
        await reader.has(empty)


async def test_a_redis_that_does_not_answer_is_away(
    own_redis: RedisServer, connect: Connect
) -> None:
    async with shared(own_redis.url) as (one, other):
        await one.publish("a", "1")
        await other.ready("a")
        own_redis.signal(signal.SIGSTOP)
        with pytest.raises(Unavailable, match="may have been published"):
            await one.publish("a", "2")
        await until(lambda: not (one.is_connected or other.is_connected))
        with pytest.raises(Unavailable, match="not published"):
            await one.publish("a", "3")
        own_redis.signal(signal.SIGCONT)
        await until(lambda: one.is_connected and other.is_connected)
        last = await one.publish("a", "4")
        await other.ready("a", last)
        assert [data for _, data, _ in held(other.get("a"))] in (["1", "4"], ["1", "2", "4"])


async def test_a_server_may_start_before_its_redis(own_redis: RedisServer) -> None:
    own_redis.kill()
    async with shared(own_redis.url) as (one, _):
        with pytest.raises(Unavailable):
            await one.publish("a", "1")
        with pytest.raises(Unavailable):
            await one.ready("a")
        own_redis.start()
        await until(lambda: one.is_connected)
        assert (await one.publish("a", "1")).endswith("-1")


async def test_no_more_waits_for_redis_than_is_allowed(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rawstream.redis.writer.MOST_WAITING", 5)
    monkeypatch.setattr(link, "ANSWER_SECONDS", 5)
    async with shared(own_redis.url, 1) as (one,):
        await one.publish("a", "0")
        own_redis.signal(signal.SIGSTOP)
        refused = 0

        async def publish(text: str) -> None:
            nonlocal refused
            try:
                await one.publish("a", text)
            except Unavailable:
                refused += 1

        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(publish, str(n))
            await until(lambda: refused >= 14)
            own_redis.signal(signal.SIGCONT)
        assert refused == 15


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "redis://localhost:x"])
def test_a_url_that_is_not_one_of_redis_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message of the last is Python's
        RedisChannels(url)
