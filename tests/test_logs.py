"""Live logs: the lines in bytes, files that are written, truncated and rotated, and their channels."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from logging.handlers import RotatingFileHandler
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from rawstream import Channel, Gap
from rawstream.logs.collection import Logs
from rawstream.logs.file import LogFile, OpenLog
from rawstream.logs.files import FollowedFiles
from rawstream.logs.following import FollowedFile
from rawstream.logs.lines import LONGEST_LINE, LONGEST_SPAN, LineSplitter, offset_of
from rawstream.logs.names import names_of
from rawstream.logs.streams import publish_stream

# -- Lines ----------------------------------------------------------------------------------------

LINES = [
    (b"plain\n", "plain"),
    (b"windows\r\n", "windows"),
    (b"\n", ""),
    ("caf\xe9 \u2028\n".encode(), "caf\xe9 \u2028"),
    (b"latin-1 caf\xe9\n", "latin-1 caf\\xe9"),
    (b"NUL \x00 and bell \x07\n", "NUL \\x00 and bell \\x07"),
    (b"\x1b[31mred\x1b[0m\ttab\n", "\x1b[31mred\x1b[0m\ttab"),
    (b"x" * LONGEST_LINE + b"\n", "x" * LONGEST_LINE),
    (b"x" * (LONGEST_LINE + 7) + b"\n", "x" * LONGEST_LINE + " ... (7 more bytes)"),
]


@given(st.lists(st.sampled_from(LINES), max_size=6), st.lists(st.integers(1, 1000), max_size=20))
def test_lines_are_the_same_however_the_bytes_are_cut(
    lines: list[tuple[bytes, str]], cuts: list[int]
) -> None:
    data = b"".join(line for line, _ in lines)
    splitter = LineSplitter()
    found, at = [], 0
    for size in [*cuts, len(data)]:
        found += splitter.feed(data[at : at + size])
        at += size
    assert [line.text for line in found] == [text for _, text in lines]
    ends = [sum(len(line) for line, _ in lines[: n + 1]) for n in range(len(lines))]
    assert [offset_of(line.number) for line in found] == ends
    assert splitter.end() == []


def test_a_line_without_its_end() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"begun") == []
    assert [line.text for line in splitter.end()] == ["begun"]
    assert [line.text for line in splitter.feed(b" and ended\n")] == [" and ended"]


# -- Files ----------------------------------------------------------------------------------------


def looked(file: LogFile) -> list[str]:
    """What a file has brought until there is nothing new: its lines, and marks."""
    found: list[str] = []
    for now in (0, 2, 4):  # a file that was renamed is left in the meantime
        while (news := file.look(now)) is not None:
            found += ["LOST"] * news.is_lost
            found += ["BEGINS"] * (news.begun is not None)
            found += [line.text for line in news.lines]
            if not (news.lines or news.begun or news.is_lost):
                break
    return found


def append(path: Path, text: str) -> None:
    with path.open("a") as log:
        log.write(text)


def rename_and_create(path: Path) -> None:
    path.rename(path.with_suffix(".1"))
    path.write_text("after\n")


def copy_and_truncate(path: Path) -> None:
    path.with_suffix(".1").write_bytes(path.read_bytes())
    os.truncate(path, 0)
    path.write_text("after\n")


def truncate_and_regrow(path: Path) -> None:
    path.write_text("after\n" + "and much more\n" * 100)


def test_a_file_that_does_not_exist_yet(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "log")
    assert looked(file) == []
    (tmp_path / "log").write_text("no end")
    assert file.look(0) is None
    assert looked(file) == ["BEGINS", "no end"]
    append(tmp_path / "log", " yet\ntwo\n")
    assert looked(file) == [" yet", "two"]
    file.close()


@pytest.mark.parametrize(
    ("rotate", "brings"),
    [
        (rename_and_create, ["last before", "BEGINS", "after"]),
        (copy_and_truncate, ["LOST", "BEGINS", "after"]),
        (truncate_and_regrow, ["LOST", "BEGINS", "after", *["and much more"] * 100]),
    ],
)
def test_rotation(rotate: Callable[[Path], None], brings: list[str], tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("first\n")
    file = LogFile(path)
    assert looked(file) == ["BEGINS", "first"]
    append(path, "last before\n")
    if rotate is not rename_and_create:
        assert looked(file) == ["last before"]
    rotate(path)
    assert looked(file) == brings
    file.close()


@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=12), st.integers(1, 14))
def test_what_is_older_is_found_again(lengths: list[int], count: int) -> None:
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"rawstream-test-{os.getpid()}"
    lines = [b"%d" % n + b"x" * length for n, length in enumerate(lengths)]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    try:
        file = OpenLog(path)
        size = path.stat().st_size
        offset = file.offset_before(size, count)
        rest = b"".join(line + b"\n" for line in lines[-count:])
        assert size - offset == len(rest)
        found = []
        while offset < size:
            some = file.lines_after(offset)
            assert some
            offset = offset_of(some[-1].number)
            found += some
        assert len(found) == min(count, len(lines))
        file.close()
    finally:
        path.unlink()


# -- Channels -------------------------------------------------------------------------------------


async def read(channel: Channel, after: str | None, count: int) -> list[str]:
    """This many entries after a cursor; gaps in upper case."""
    found: list[str] = []
    with trio.fail_after(5):
        async for entry in channel.entries(after=after):
            found.append("GAP" if isinstance(entry, Gap) else entry.data)
            if len(found) == count:
                break
    return found


async def test_history_older_than_the_ring_comes_from_the_file(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"line {n}\n" for n in range(5000)))
    followed = FollowedFile("log", path)
    nursery.start_soon(partial(followed.run, until_gone=False))
    await trio.sleep(0.3)
    append(path, "new\n")
    whole = await read(followed.channel, "0", 5001)
    assert whole == [*(f"line {n}" for n in range(5000)), "new"]
    nursery.cancel_scope.cancel()


async def test_a_cursor_outlives_the_server(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\ntwo\nthree\n")
    cursor = ""
    for expected in (["two", "three"], ["three", "four"]):
        followed = FollowedFile("log", path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(followed.run, until_gone=False))
            if not cursor:
                await trio.sleep(0.2)
                first, second, _ = followed.channel.entries_after(0)
                cursor = first.id
            assert await read(followed.channel, cursor, 2) == expected
            cursor = second.id
            nursery.cancel_scope.cancel()
        append(path, "four\n")


@pytest.mark.parametrize("rotate", [rename_and_create, copy_and_truncate, truncate_and_regrow])
async def test_readers_across_a_rotation(
    rotate: Callable[[Path], None],
    tmp_path: Path,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
) -> None:
    path = tmp_path / "log"
    path.write_text("first\n")
    followed = FollowedFile("log", path)
    nursery.start_soon(partial(followed.run, until_gone=False))
    await trio.sleep(0.3)
    cursor = followed.channel.id_of(followed.channel.end)
    rotate(path)
    told = [] if rotate is rename_and_create else ["GAP"]
    assert await read(followed.channel, cursor, len(told) + 1) == [*told, "after"]
    nursery.cancel_scope.cancel()


def test_names_are_as_short_as_they_stay_apart() -> None:
    paths = [Path("/var/log/syslog"), Path("/a/app.log"), Path("/b/app.log"), Path("/c d/\xe4.log")]
    assert names_of([*paths, paths[0]]) == {
        "syslog": paths[0],
        "a.app.log": paths[1],
        "b.app.log": paths[2],
        "_.log": paths[3],
    }


# -- What could be lost unnoticed -----------------------------------------------------------------


async def all_of(followed: FollowedFile, after: str = "0") -> list[str]:
    """What a reader is sent until nothing has come for a while."""
    found: list[str] = []
    with trio.move_on_after(2.5):
        async for entry in followed.channel.entries(after=after):
            found.append("GAP" if isinstance(entry, Gap) else entry.data)
    return found


@pytest.fixture
async def follow(nursery: trio.Nursery, tmp_path: Path) -> Callable[[], FollowedFile]:
    """Follow the file "log"."""

    def follow() -> FollowedFile:
        followed = FollowedFile("log", tmp_path / "log")
        nursery.start_soon(partial(followed.run, until_gone=False))
        return followed

    return follow


Follow = Callable[[], FollowedFile]


async def test_two_rotations_in_a_moment(
    follow: Follow, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    log = tmp_path / "log"
    log.write_text("one\n")
    followed = follow()
    for number, text in ((1, "two\n"), (2, "three\n"), (3, "four\n")):
        await trio.sleep(0.15)
        log.rename(tmp_path / f"log.{number}")
        log.write_text(text)
    assert await all_of(followed) == ["one", "two", "three", "four"]


async def test_a_log_that_python_rotates_as_fast_as_it_can(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    handler = RotatingFileHandler(tmp_path / "log", maxBytes=200_000, backupCount=3)
    followed = FollowedFile("log", tmp_path / "log")
    nursery.start_soon(partial(followed.run, until_gone=False))
    got: list[str] = []

    async def read() -> None:
        async for entry in followed.channel.entries(after="0"):
            got.append("GAP" if isinstance(entry, Gap) else entry.data)
            if len(got) == 20_000:
                return

    def write() -> None:
        for n in range(20_000):
            handler.emit(logging.LogRecord("x", 20, "", 0, f"{n} " + "x" * 40, (), None))
            if n % 50 == 0:
                time.sleep(0.002)

    with trio.fail_after(20):
        async with trio.open_nursery() as reading:
            reading.start_soon(read)
            await trio.to_thread.run_sync(write)
    handler.close()
    assert [int(line.split()[0]) for line in got] == list(range(20_000))


async def test_a_rewritten_file_that_begins_as_before(
    follow: Follow, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    log = tmp_path / "log"
    log.write_text("banner\n" + "".join(f"old {n}\n" for n in range(100)))
    followed = follow()
    await trio.sleep(0.2)
    cursor = followed.channel.id_of(followed.channel.end)
    log.write_text("banner\n" + "".join(f"new {n}\n" for n in range(200)))
    new = ["banner", *(f"new {n}" for n in range(200))]
    assert await all_of(followed, cursor) == ["GAP", *new]
    # The same place in another server, which knows only the new file:
    assert await all_of(follow(), cursor) == ["GAP", *new]


async def test_lines_that_were_read_before_a_truncation_are_kept(
    follow: Follow, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    log = tmp_path / "log"
    log.write_text("one\ntwo\n")
    followed = follow()
    await trio.sleep(0.2)
    log.write_text("three\n")
    assert await all_of(followed) == ["one", "two", "GAP", "three"]
    [gap] = [entry for entry in followed.channel.entries_after(0) if entry.is_gap]
    assert followed.channel.position_of(gap.data) is not None, "it names the last line before it"


async def test_history_while_the_new_file_is_empty_and_after(
    follow: Follow, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    log = tmp_path / "log"
    lines = [f"line {n}" for n in range(500)]
    log.write_text("".join(f"{line}\n" for line in lines))
    followed = follow()
    await trio.sleep(0.2)
    log.rename(tmp_path / "log.1")
    log.touch()
    await trio.sleep(1.5)
    assert await all_of(followed) == lines
    append(log, "new\n")
    assert await all_of(followed) == [*lines, "new"]
    channel = followed.channel
    for last in (501, 502, 100_000):
        position, is_lost = channel.resume(None, last)
        assert [entry.data for entry in channel.entries_after(position)] == [*lines, "new"]
        assert not is_lost


async def test_an_unfinished_line_in_a_file_that_is_emptied(
    follow: Follow, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    log = tmp_path / "log"
    log.write_text("a\n")
    followed = follow()
    append(log, "b")
    await trio.sleep(0.3)
    log.write_text("")
    await trio.sleep(1.5)
    append(log, "c\n")
    assert await all_of(followed) == ["a", "GAP", "c"]


async def test_line_ends_that_come_late_or_never(
    follow: Follow, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    log = tmp_path / "log"
    log.write_text("one")
    followed = follow()
    await trio.sleep(2.3)
    assert await read(followed.channel, "0", 1) == ["one"]
    append(log, "\ntwo")
    await trio.sleep(1.5)
    cursor = followed.channel.id_of(followed.channel.end)
    append(log, "\nthree\n")
    assert await all_of(followed) == ["one", "two", "three"]
    assert (await all_of(follow(), cursor))[-1:] == ["three"]


async def test_what_a_truncated_file_held_is_read_back_no_longer(
    follow: Follow, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"{n}\n" for n in range(30_000)))
    followed = follow()
    channel = followed.channel
    assert channel.oldest == 0 < channel.start
    os.truncate(log, 0)  # nobody has looked at it since
    assert channel.entry_after(0) is None
    assert channel.oldest == channel.start


def test_only_files_are_followed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, why in ((tmp_path / "pipe", "Not a regular file"), (tmp_path, "Is a directory")):
        with pytest.raises(OSError, match=why):
            FollowedFile("x", path)


async def test_files_of_a_pattern_that_are_odd_or_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rawstream.logs.following.GONE_SECONDS", 0.5)
    monkeypatch.setattr("rawstream.logs.files.SEARCH_SECONDS", 0.1)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff\n.log"))
    append(odd, "odd\n")
    os.mkfifo(tmp_path / "pipe.log")
    logs = Logs()
    files = FollowedFiles([f"{tmp_path}/*.log"], logs)
    [log] = logs
    assert log.channel.name == "bad__.log"
    assert log.as_json()["about"] == f"{tmp_path}/bad\\xff\\n.log"

    async def are(*names: str) -> None:
        with trio.fail_after(5):
            while [log.channel.name for log in logs] != [*names]:
                await Channel.wait_for_entry(logs.changes)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.run)
        await trio.sleep(0.3)
        os.unlink(odd)
        await are()
        append(odd, "again\n")
        await are("bad__.log")
        nursery.cancel_scope.cancel()


def test_a_line_that_never_ends_is_several() -> None:
    splitter = LineSplitter()
    block = b"x" * 65536
    lines = [line for _ in range(3 * LONGEST_SPAN // len(block)) for line in splitter.feed(block)]
    assert len(lines) == 3
    assert [line.text for line in splitter.feed(b"\nnext\n")] == ["next"]


async def test_bytes_that_wait_for_a_slow_terminal_are_no_unfinished_line(
    autojump_clock: trio.testing.MockClock,
) -> None:
    channel = Channel("a")

    async def pieces() -> AsyncIterator[bytes]:
        yield b"beg"
        yield b"un\nand ended\n"

    async def slow(data: bytes) -> None:
        await trio.sleep(2.5)

    await publish_stream(channel, pieces(), slow)
    assert [entry.data for entry in channel.entries_after(0)] == ["begun", "and ended"]
