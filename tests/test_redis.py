"""Channels in Redis: what several processes share, and what happens when Redis does not answer."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import Connect, Peer, connected, free_ports
from redis_server import RedisServer, Sentinel, new_prefix, redis_server, shared, until
from wire import get, objects_in_lines, unchunked_so_far

from rawstream import (
    Channel,
    Channels,
    Gap,
    HTTPError,
    Limits,
    RedisChannels,
    Request,
    Unavailable,
    serve_channels,
)
from rawstream.__main__ import main
from rawstream.redis import link, store
from rawstream.redis.mirror import Mirror
from rawstream.redis.scripts import OPEN, Arguments, Lease, Opened, Place, Publication
from rawstream.redis.writer import Writer


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for tests that do not stop it."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


def be_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait shortly for what is waited for."""
    monkeypatch.setattr(store, "RECONNECT_SECONDS", (0.01, 0.02))
    monkeypatch.setattr(link, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(link, "BLOCK_MILLISECONDS", 200)


@pytest.fixture
def own_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    """A server for a test that stops it."""
    be_quick(monkeypatch)
    with redis_server(tmp_path) as server:
        yield server


async def app(channels: Channels, request: Request) -> None:
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


WAYS = {
    "events": (b"/a?after=0", b"Accept: text/event-stream\r\n"),
    "lines": (b"/a?after=0", b"Accept: application/x-ndjson\r\n"),
    "text": (b"/a?after=0", b"Accept: text/plain\r\n"),
    "poll": (b"/a?after=0&wait=0", b""),
    "unknown cursor": (b"/a?after=0ddba11a-7", b"Accept: text/event-stream\r\n"),
    "several": (b"/a?channel=b&after=0", b"Accept: application/x-ndjson\r\n"),
    "new client": (b"/a", b"Accept: application/x-ndjson\r\n"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_clients_get_the_same_bytes_as_from_a_channel_in_memory(
    redis: RedisServer, connect: Connect, way: str
) -> None:
    target, accept = WAYS[way]
    got = list[bytes]()
    async with shared(redis.url, 1) as (one,):
        for channels in (Channels(), one):
            await channels.publish("a", "first")
            await channels.publish("a", "two\nlines", "type")
            await channels.publish("a", json={"n": 1})
            await channels.close("a")
            await channels.ready("a")
            await channels.publish("b", "other")
            await channels.close("b")
            peer = connect(partial(app, channels))
            await peer.send(b"GET %b HTTP/1.0\r\nHost: a\r\n%b\r\n" % (target, accept))
            head, _, body = (await peer.to_end()).partition(b"\r\n\r\n")
            got.append(re.sub(rb"[0-9a-f]{8,16}(?=-[0-9])", b"EPOCH", body))
            assert head.startswith(b"HTTP/1.1 200 ")
    assert got[0] == got[1]
    assert b"first" in got[0] or way == "new client"


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


async def test_a_channel_that_two_clients_open_at_once_has_what_either_of_them_needs(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shared(redis.url) as (one, other):
        open_stream, earlier_is_read, later_is_read = other._store.open, trio.Event(), trio.Event()

        async def opened_late(key: str, mirror: Mirror | None = None) -> Opened:
            is_earlier = not earlier_is_read.is_set()
            opened = await open_stream(key, mirror)
            earlier_is_read.set()
            if is_earlier:
                await later_is_read.wait()
            else:
                later_is_read.set()
                await until(lambda: "a" in other._registered)
            return opened

        monkeypatch.setattr(other._store, "open", opened_late)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.ready, "a")
            await earlier_is_read.wait()
            id = await one.publish("a", "1")
            await other.ready("a", id)
            assert other.get("a").resume(id) == (1, False)


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


async def test_an_entry_may_be_larger_than_what_may_wait(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rawstream.redis.writer.MOST_WAITING_BYTES", 100)
    async with shared(redis.url, 1) as (one,):
        assert await one.publish("a", "x" * 200)


async def test_names_that_are_only_asked_for_leave_nothing_in_redis(redis: RedisServer) -> None:
    prefix = new_prefix()
    async with shared(redis.url, 1, prefix=prefix) as (one,):
        for name in ("a", "b@presence"):
            await one.ready(name)
            with one.read(name, "ann"):
                await until(lambda: not one._store.writer._members)
        assert not one._registered
        lease, wake = one._store._lease.key, one._store._wake_key
        await until(lambda: not one._store.writer._told)
        keys = {f"{prefix}{name}" for name in ("a", "b", "b@presence")}
        assert set(redis.command("keys", f"{prefix}*").split()) - {lease, wake} == keys
        for key in keys:
            assert 0 < int(redis.command("ttl", key)) <= 60
        await one.publish("a", "1")
        assert int(redis.command("ttl", f"{prefix}a")) > 60


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


async def test_a_channel_that_was_closed_begins_again_after_a_flush(own_redis: RedisServer) -> None:
    async with shared(own_redis.url, lease_seconds=0.3) as (one, other):
        await one.publish("a", "1")
        await one.close("a")
        await other.ready("a")
        closed = other.get("a")
        assert closed.is_closed
        own_redis.command("flushall")
        await until(lambda: isinstance(closed, Mirror) and closed.is_over)
        id = await one.publish("a", "2")
        await other.ready("a", id)
        assert [data for _, data, _ in held(other.get("a"))] == ["2"]
        assert [e.data for e in closed.entries_after(0)] == ["1", ""]
        await other.publish("a", "3")


async def test_an_epoch_that_is_earlier_than_one_that_was_read_is_not_gone_back_to(
    redis: RedisServer,
) -> None:
    prefix = new_prefix()
    async with shared(redis.url, 1, prefix=prefix) as (one,):
        await one.publish("a", "1")
        await one.ready("a")
        mirror = one._store.mirrors[f"{prefix}a"]
        before = await one._store.open(mirror.key)
        # As if it had read more, and then Redis had been set back to what it is.
        mirror.place = later = Place(mirror.place.epoch + (1 << 40), 7)
        mirror.reopen(before)
        assert mirror.place == later
        mirror.reopen(await one._store.open(mirror.key, mirror))
        assert mirror.place > later
        assert (await one.publish("a", "2")).startswith(f"{mirror.place.epoch:x}-")


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


async def test_members_may_have_any_name(redis: RedisServer) -> None:
    names = [
        '"',
        "%s%d",
        "a\nb",
        "\0",
        "ä\u2028\U0001f600",
        "\ud800",
        "null",
        "",
        "'; --",
        "x" * 5000,
    ]
    async with shared(redis.url) as (one, other):
        await one.ready("a@presence")
        await other.ready("a")
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(other.read("a", name))
            present = {name.encode("utf-8", "replace").decode(): 1 for name in names}
            await until(lambda: members(one) == (len(names), present))
        await until(lambda: members(one) == (0, {}))
        joined = one.get("a@presence").entries_after(0)
        assert {e.json()["name"] for e in joined} == set(present)


async def test_presence_goes_on_after_entries_that_are_not_ours(redis: RedisServer) -> None:
    prefix = new_prefix()
    async with shared(redis.url, 1, prefix=prefix) as (one,):
        await one.ready("a@presence")
        for data in ("no json", "[]", "{}"):
            redis.command("xadd", f"{prefix}a@presence", "*", "d", data)
        with one.read("a", "ann"):
            await until(lambda: members(one) == (1, {"ann": 1}))


# -- Redis refuses --------------------------------------------------------------------------------


async def test_a_key_that_holds_something_else_leaves_other_channels_alone(
    redis: RedisServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    prefix = new_prefix()
    async with shared(redis.url, prefix=prefix, lease_seconds=0.3) as (one, other):
        for name in ("a", "b"):
            await other.ready(name)
        old = await one.publish("a", "1")
        await other.ready("a", old)
        entries = other.get("a").entries()
        redis.command("set", f"{prefix}a", "x")
        with pytest.raises(Unavailable, match="not published: WRONGTYPE"):
            await one.publish("a", "2")
        id = await one.publish("b", "1")
        await until(lambda: other.get("b").end == 1)
        assert one.is_connected
        assert other.is_connected
        unread = connect(partial(app, one))
        await unread.send(read("a"))
        assert (await unread.has(b"\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
        redis.command("del", f"{prefix}a")
        new = await one.publish("a", "3")
        gap, entry = await entries.__anext__(), await entries.__anext__()
        assert isinstance(gap, Gap)
        assert gap.start == old
        assert not isinstance(entry, Gap)
        assert (entry.id, entry.data) == (new, "3")
        assert id.endswith("-1")
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 2  # one of each process
    assert all(f"refuses {prefix}a: Operation against a key" in line for line in told)


@pytest.mark.parametrize(
    "command",
    ["set {}b@members x", "set {}b@processes x", "set {}b@presence x", "hset {}b@members x y"],
)
async def test_a_key_of_presence_that_holds_something_else_leaves_other_channels_alone(
    redis: RedisServer, command: str
) -> None:
    prefix = new_prefix()
    redis.command(*command.format(prefix).split())
    async with shared(redis.url, prefix=prefix, lease_seconds=0.3) as (one, other):
        await one.ready("a@presence")
        await other.ready("a")
        await other.ready("b")
        with other.read("b", "bob"), other.read("a", "ann"):
            await until(lambda: members(one) == (1, {"ann": 1}))
            assert (await other.publish("b", "x")).endswith("-1")
        await until(lambda: members(one) == (0, {}))


async def test_without_memory_redis_is_read_and_not_published_to(own_redis: RedisServer) -> None:
    async with shared(own_redis.url, lease_seconds=0.3) as (one, other):
        await one.publish("a", "1")
        await one.ready("a@presence")
        own_redis.command("config", "set", "maxmemory", "1")
        await other.ready("a")
        with other.read("a", "ann"):
            for _ in range(3):
                with pytest.raises(Unavailable, match="not published: OOM"):
                    await one.publish("a", "2")
            assert [data for _, data, _ in held(other.get("a"))] == ["1"]
            assert one.is_connected
            assert other.is_connected
            own_redis.command("config", "set", "maxmemory", "0")
            await until(lambda: members(one) == (1, {"ann": 1}))
        await one.publish("a", "3")


async def test_a_replica_is_no_redis_to_publish_to(own_redis: RedisServer) -> None:
    async with shared(own_redis.url, 1) as (one,):
        await one.publish("a", "1")
        own_redis.command("replicaof", "127.0.0.1", "1")
        with pytest.raises(Unavailable):
            await one.publish("a", "lost")
        await until(lambda: not one.is_connected)
        own_redis.command("replicaof", "no", "one")
        await until(lambda: one.is_connected)
        assert (await one.publish("a", "2")).endswith("-2")


async def test_a_wrong_password_is_logged_once_and_tried_again(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "coredis")
    caplog.set_level("INFO", "rawstream")
    own_redis.command("config", "set", "requirepass", "other")
    async with shared(own_redis.url.replace("//", "//:p%40ss%2F@"), 1) as (one,):
        with pytest.raises(Unavailable, match="not published"):
            await one.publish("a", "1")
        own_redis.command("-a", "other", "config", "set", "requirepass", "p@ss/")
        await until(lambda: one.is_connected)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "is away: invalid username-password pair or user is disabled.; readers wait" in told[0]
    assert told[1] == f"Redis at {own_redis.url} is connected"


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


async def test_a_call_that_outlives_its_connection_finds_redis_away(redis: RedisServer) -> None:
    async with link.open_link(redis.url) as closed:
        await closed.connect()
    with pytest.raises(link.RedisAway):
        await closed.run(OPEN, ["a", "a"], [])
    with pytest.raises(link.RedisAway):
        await closed.read({"a": "0-0"})
    with pytest.raises(link.RedisAway):
        await closed.connect()


async def test_it_takes_a_second_to_leave_a_redis_that_does_not_answer(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "ANSWER_SECONDS", 5)
    async with shared(own_redis.url, 1) as (one,):
        await one.ready("a")
        with one.read("a", "ann"):
            own_redis.signal(signal.SIGSTOP)
            before = trio.current_time()
    assert trio.current_time() - before < store.LEAVE_SECONDS + 0.5
    own_redis.signal(signal.SIGCONT)


class Answers(link.Link):
    """A connection that is lost after these answers."""

    def __init__(self, *answers: list[bytes]) -> None:
        self._answers = iter(answers)

    async def run(self, script: str, keys: Sequence[str], arguments: Arguments) -> Any:
        await trio.lowlevel.checkpoint()
        for answer in self._answers:
            return answer
        raise link.RedisAway("it is gone")


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([], "Redis was lost; it may have been published"),
        ([[b"1-1", b"1-2"]], "Redis was lost; it may have been published"),
        ([[b"!OOM", b"!OOM"], [b"1-1"]], "OOM; it may have been published"),
        ([[b"!OOM", b"!OOM"], [b"!OOM"]], "not published: OOM"),
        ([[b"!READONLY", b"!READONLY"]], "not published: it is gone"),
        (None, "not published: it is gone"),
    ],
)
async def test_what_is_told_of_texts_that_are_published_in_two_calls(
    monkeypatch: pytest.MonkeyPatch, answers: list[list[bytes]] | None, told: str
) -> None:
    monkeypatch.setattr("rawstream.redis.writer.ENTRIES_AT_A_TIME", 2)
    writer = Writer(Lease("", "", 1), 1)

    async def publish() -> None:
        with pytest.raises(Unavailable) as raised:
            await writer.publish([Publication("a", "x", "", 1, 10, 100)] * 3)
        assert raised.value.text == told
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        await trio.testing.wait_all_tasks_blocked()
        if answers is not None:
            with suppress(link.RedisAway):
                await writer.run(Answers(*answers))
        writer.fail_all("it is gone")


async def test_a_drain_waits_for_texts_that_are_under_way(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        shared(own_redis.url, 1) as (one,),
        connected(partial(app, one)) as (peer, served),
    ):
        await one.ready("a")
        publish, is_published = one._store.writer.publish, trio.Event()

        async def publish_slowly(entries: Sequence[Publication]) -> list[Place | None]:
            is_published.set()
            return await publish(entries)

        monkeypatch.setattr(one._store.writer, "publish", publish_slowly)
        own_redis.signal(signal.SIGSTOP)
        head = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        await peer.send(head + b"4\r\n1\n2\n\r\n")
        await is_published.wait()
        served.drain()
        await trio.testing.wait_all_tasks_blocked()
        own_redis.signal(signal.SIGCONT)
        assert (await peer.to_end()).endswith(b"the server is stopping; published so far: 2\n")


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


async def test_a_sentinel_tells_which_server_is_the_primary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connect: Connect
) -> None:
    be_quick(monkeypatch)
    monkeypatch.setattr(link, "ANSWER_SECONDS", 5)  # a primary that is killed is missed at once
    servers = Sentinel(tmp_path, free_ports(3))
    prefix = new_prefix()
    try:
        await servers.start()
        async with shared(servers.url, prefix=prefix) as (one, other):
            reader = connect(partial(app, other))
            await reader.send(read("a", after="0"))
            ids = [await one.publish("a", str(n)) for n in range(3)]
            await until(lambda: servers.replica.command("xlen", f"{prefix}a") == "3")
            servers.stop_replication()
            lost = [await one.publish("a", text) for text in ("lost", "lost, too")]
            await reader.has(b"lost, too")
            servers.primary.kill()
            await until(lambda: not (one.is_connected or other.is_connected))
            await until(lambda: one.is_connected and other.is_connected)
            new = await one.publish("a", "new")
            epoch = new.partition("-")[0]
            told = objects_in_lines(unchunked_so_far(await reader.has(b'"new"}\n\r\n')))
            gap = {"from": lost[-1], "to": f"{epoch}-0"}
            assert told == [{"id": f"{epoch}-0", "gap": gap}, {"id": new, "data": "new"}]
        # What the replica had got is there, also in a process that comes later.
        async with shared(servers.url, 1, prefix=prefix) as (late,):
            await late.ready("a")
            assert held(late.get("a")) == [
                *((id, str(n), None) for n, id in enumerate(ids)),
                (f"{epoch}-0", ids[-1], "gap"),
                (new, "new", None),
            ]
    finally:
        servers.kill()


@pytest.mark.parametrize(
    "url",
    [
        *("http://localhost", "localhost:6379", "redis://localhost:x"),
        *("redis+sentinel://a:1,b:2", "redis+sentinel://a:x/main", "redis+sentinel://,/main"),
        "redis+sentinel://a/main?db=x",
    ],
)
def test_a_url_that_is_not_one_of_redis_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message of the last is Python's
        RedisChannels(url)


# -- The command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--redis", "http://127.0.0.1"], "a URL of Redis begins with redis://"),
        (["--redis", "redis://127.0.0.1", "my_app:app"], "--redis is for the demo"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert said in capsys.readouterr().err


def test_without_the_extra_one_line_says_what_to_install() -> None:
    code = "import sys; sys.modules['coredis'] = None; from rawstream.__main__ import main; main()"
    command = [sys.executable, "-c", code, "--redis", "redis://127.0.0.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == 'rawstream: --redis needs coredis: pip install "rawstream[redis]"\n'
