"""The examples are true: what their docstrings tell a reader to type prints what stands there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from documents import (
    CHAPTERS,
    ROOT,
    Terminals,
    exchanges,
    fenced,
    named,
    shown_in,
    starts_in,
    terminals,
)
from peers import free_port, program

MOST_LINES = 190
"""Of a chapter, blank lines not counted: one sitting. The longest ones also print bytes row by row."""


@pytest.mark.parametrize("chapter", CHAPTERS, ids=named)
async def test_chapter(chapter: Path, tutorial: Path, tmp_path: Path) -> None:
    shown = shown_in(chapter)
    commands = " ".join(command for command, _ in shown)
    for name in ("curl", "nc", "nginx", "redis-server"):
        if name in commands:
            program(name)
    assert len(shown) > 1
    first, command = starts_in(chapter)
    async with terminals(free_port(), tmp_path, tutorial) as both:
        await both.follow(first)
        if command:
            await a_second_one_says_so_in_one_line(both, command)
        await both.follow(shown[len(first) :])
        await both.end()


async def a_second_one_says_so_in_one_line(both: Terminals, command: str) -> None:
    """Start the server that runs again, on its port."""
    status, errors = await both.run(f"{command} > /dev/null")
    assert status == 1
    assert re.fullmatch(r".*(800\d|admin\.socket): Address already in use.*\n", errors)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=named)
def test_a_chapter_is_short(chapter: Path) -> None:
    lines = [line for line in chapter.read_text().splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES


# -- The pages that join them ---------------------------------------------------------------------


@pytest.mark.parametrize("page", ["README.md", "mistakes.md"])
async def test_console_blocks(page: str, tutorial: Path, tmp_path: Path) -> None:
    text = (ROOT / "examples" / page).read_text()
    shown = [exchange for block in fenced(text, "console") for exchange in exchanges(block)]
    async with terminals(free_port(), tmp_path, tutorial) as both:
        await both.follow(shown)
        await both.end()


def test_the_program_that_explains_trio(tutorial: Path) -> None:
    text = (ROOT / "examples/README.md").read_text()
    [code], [printed] = fenced(text, "python"), fenced(text, "text")
    done = subprocess.run([tutorial / "python", "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (printed, "")


def test_the_reading_path_names_every_chapter_and_nothing_else() -> None:
    text = (ROOT / "examples/README.md").read_text()
    linked = re.findall(r"\]\((?!https:)([^)#]+?)(?:#[^)]*)?\)", text)
    assert [name for name in linked if name[0].isdigit()] == [path.name for path in CHAPTERS]
    assert all((ROOT / "examples" / name).exists() for name in linked)
