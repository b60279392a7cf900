"""The README is true: its commands run as printed and print what stands there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import reference
import trio
from browser import chromium, page_in
from documents import LISTENING, PORT, ROOT, exchanges, fenced, terminals
from peers import COMMAND, PATIENCE, Curl, free_port, program, served

README = (ROOT / "README.md").read_text()

PROGRAMS = {
    match[1]: block
    for block in fenced(README, "python")
    if (match := re.match(r"# (\w+\.py)\n", block))
}
"""The programs of the README by the names of their files."""


def write_programs(folder: Path, port: int) -> None:
    """Write the programs of the README into a folder, each listening on this port."""
    for name, text in PROGRAMS.items():
        text = re.sub(r"rawstream\.run\((\w+)", rf"rawstream.run(\1, port={PORT}", text)
        (folder / name).write_text(re.sub(rf"\b{PORT}\b", str(port), text))


@pytest.mark.parametrize("number", range(len(fenced(README, "console"))))
async def test_console_lines_print_what_stands_there(number: int, tmp_path: Path) -> None:
    """A block that starts no program is typed while the demo runs."""
    program("curl")
    port = free_port()
    write_programs(tmp_path, port)
    shown = exchanges(fenced(README, "console")[number])
    async with terminals(port, tmp_path) as both:
        if not any(LISTENING.search(printed) for _, printed in shown):
            await both.start("python -m rawstream --port 8000")
        # The README shows what a person sees; -s leaves out a progress meter that only pipes get.
        await both.follow(
            [
                (
                    command.replace("curl -i ", "curl -si ")
                    .replace("python ", "python /tmp/")
                    .replace("rawstream logs ", "rawstream logs --port 8000 "),
                    printed,
                )
                for command, printed in shown
            ]
        )


@asynccontextmanager
async def running(name: str, folder: Path) -> AsyncIterator[tuple[str, trio.Process]]:
    """A program of the README: its URL, and its process, which is ended by SIGTERM."""
    port = free_port()
    write_programs(folder, port)
    command = [sys.executable, str(folder / name)]
    process = await trio.lowlevel.open_process(command, stderr=subprocess.DEVNULL)
    try:
        await listening(port)
        yield f"http://127.0.0.1:{port}", process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        with trio.move_on_after(PATIENCE):
            await process.wait()
        process.kill()
    assert process.returncode == 0


async def listening(port: int) -> None:
    """Wait until a server answers on this port."""
    with trio.fail_after(PATIENCE * 2):
        while True:
            with suppress(OSError):
                stream = await trio.open_tcp_stream("127.0.0.1", port)
                return await stream.aclose()
            await trio.sleep(0.05)


async def test_the_first_program(tmp_path: Path, curl: Curl) -> None:
    async with running("clock.py", tmp_path) as (url, _):
        assert (await curl("-I", url))[0] == 0
        status, events = await curl("-N", "--max-time", "1.5", url)
        assert (status, events.count(b"event: tick\ndata: ")) == (28, 2)


def test_the_first_program_is_short() -> None:
    handler = PROGRAMS["clock.py"].partition("async def")[2]
    assert len([line for line in handler.splitlines() if line]) == 7  # with the two that run it


async def test_the_handler_with_everything(tmp_path: Path, curl: Curl) -> None:
    async with running("app.py", tmp_path) as (url, _):
        assert await curl(url) == (0, b"hello\n")
        assert (await curl("-I", url))[1].startswith(b"HTTP/1.1 200 OK\r\n")
        assert await curl(f"{url}/about") == (0, b'{"client": "127.0.0.1"}\n')
        assert await curl("-N", f"{url}/count") == (0, b"".join(b"%d\n" % n for n in range(10)))
        status, events = await curl("-N", "--max-time", "1.5", f"{url}/clock")
        assert (status, events.count(b"event: tick\ndata: ")) == (28, 2)
        assert re.fullmatch(rb"\d{10}\n", (await curl(f"{url}/next-second"))[1])
        assert await curl("-d", "12345", f"{url}/upload") == (0, b"5 bytes\n")
        assert (await curl("-i", "-X", "PUT", url))[1].startswith(b"HTTP/1.1 405 ")
        assert (await curl("-i", f"{url}/echo"))[1].startswith(b"HTTP/1.1 426 ")


@pytest.mark.parametrize(
    ("name", "part"),
    [("embedded.py", b"tick\n"), ("camera.py", b"--next\r\nContent-Type: text/plain\r\n\r\n")],
)
async def test_a_stop_ends_streams_properly_and_then_the_program(
    tmp_path: Path, curl: Curl, name: str, part: bytes
) -> None:
    async with running(name, tmp_path) as (url, process):
        assert (await curl("-I", url))[0] == 0

        async def stop() -> None:
            await trio.sleep(0.6)
            process.send_signal(signal.SIGTERM)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            status, received = await curl("-N", url)
        assert status == 0, "a stream that was cut is 18"
        assert received.count(part) > 1
        with trio.fail_after(PATIENCE):
            await process.wait()


def test_the_tests_of_a_handler(tmp_path: Path) -> None:
    write_programs(tmp_path, free_port())
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "2 passed" in done.stdout, done.stdout


def test_a_page_that_never_loses_its_place() -> None:
    [script] = fenced(README, "js")
    port = free_port()
    publish = "fetch('/channels/news', {method: 'POST', body: '%s'})"
    command = [*COMMAND, "--port", str(port)]
    with chromium() as browser, page_in(browser) as page:
        with served(*command, announced=b"rawstream on"):
            page.goto(f"http://127.0.0.1:{port}/hello")
            page.evaluate("() => { window.shown = []; window.show = text => shown.push(text); }")
            with page.expect_websocket() as opened:
                page.add_script_tag(content=script, type="module")
            opened.value.wait_for_event("framereceived")
            page.evaluate(publish % "one")
            page.wait_for_function("shown.length === 1")
        with served(*command, announced=b"rawstream on"):
            page.wait_for_function("shown.length === 2")
            page.evaluate(publish % "two")
            page.wait_for_function("shown.length === 3")
        assert page.evaluate("shown") == ["one", "(entries are missing here)", "two"]


def test_the_public_names() -> None:
    section = README.partition("## Public names")[2].partition("\n## ")[0]
    names = re.findall(r"`(\w+)`", section.partition("|---|---|")[2])
    assert names.count("rawstream") == 0
    assert sorted(names) == sorted(name for layer in reference.LAYERS.values() for name in layer)


def test_the_figures_are_those_of_the_benchmark() -> None:
    results = (ROOT / "tests/bench/RESULTS.md").read_text()
    figures = re.findall(r"^- .*$", results.partition("## In short")[2].partition("\n## ")[0], re.M)
    assert len(figures) == 5
    section = README.partition("## How fast it is")[2]
    assert re.findall(r"^- .*$", section.partition("\n## ")[0], re.M) == figures
    headline = README.partition("every reader that is waiting.")[2].partition("([measured]")[0]
    assert figures[0].startswith("- fan-out")
    assert re.findall(r"[\d.,]*\d", headline) == re.findall(r"[\d.,]*\d", figures[0])


def test_what_is_linked_is_there() -> None:
    for target in re.findall(r"""(?:\]\(|src(?:set)?=")([^)"#:]+)[)"#]""", README):
        assert (ROOT / target).exists(), target
    headings = re.findall(r"^#+ (.*)$", README, re.M)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", README)) <= anchors


def test_it_installs_and_runs_with_one_command(tmp_path: Path) -> None:
    """On a fresh copy, with the system's Python where that refuses to be installed into."""
    run, test = fenced(README, "sh")
    assert test.startswith("python3 -m venv .venv && ")
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).exists():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    errors = tmp_path / "errors"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            ["bash", "-c", f"{run.strip()} --port 0"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("rawstream on http://127.0.0.1:"), errors.read_text()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("name", ["examples", "benchmarks", "docs"])
def test_the_readme_names_no_folder_that_is_not_there(name: str) -> None:
    assert (ROOT / name).exists() or f"{name}/" not in README
