"""Live logs: the lines in bytes, files that are written, truncated and rotated, and their channels."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from rawstream import Channel, Gap
from rawstream.logs.file import LogFile, OpenLog
from rawstream.logs.following import FollowedFile
from rawstream.logs.lines import LONGEST_LINE, LONGEST_SPAN, LineSplitter, offset_of
from rawstream.logs.names import names_of

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
    tmp_path: Path, nursery: trio.Nursery
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
    rotate: Callable[[Path], None], tmp_path: Path, nursery: trio.Nursery
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
