"""The README is true: its commands run as printed and print what stands there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from documents import ROOT, exchanges, fenced, terminals
from peers import Curl, free_port, program

README = (ROOT / "README.md").read_text()


async def test_console_lines_print_what_stands_there(tmp_path: Path) -> None:
    program("curl")
    shown = [exchange for console in fenced(README, "console") for exchange in exchanges(console)]
    assert len(shown) > 5
    async with terminals(free_port(), tmp_path) as both:
        await both.start("python -m rawstream --port 8000")
        # The README shows what a person sees; -s leaves out a progress meter that only pipes get.
        await both.follow(
            [(command.replace("curl -i ", "curl -si "), out) for command, out in shown]
        )


async def test_the_handler_of_the_readme(tmp_path: Path, curl: Curl) -> None:
    handler, embedded, channel, rooms = fenced(README, "python")
    compile(handler + channel + rooms, "", "exec")
    compile(
        "from functools import partial\nasync def main():\n"
        + re.sub("^", "    ", embedded, flags=re.M),
        "",
        "exec",
    )
    port = free_port()
    script = tmp_path / "app.py"
    script.write_text(handler.replace("rawstream.run(app)", f"rawstream.run(app, port={port})"))
    process = await trio.lowlevel.open_process([sys.executable, str(script)], stderr=-1)
    url = f"http://127.0.0.1:{port}"
    retry = ("--retry", "20", "--retry-connrefused", "--retry-delay", "1")
    try:
        assert await curl(*retry, url) == (0, b"hello\n")
        assert (await curl("-I", url))[1].startswith(b"HTTP/1.1 200 OK\r\n")
        assert await curl("-N", f"{url}/count") == (0, b"".join(b"%d\n" % n for n in range(10)))
        status, events = await curl("-N", "--max-time", "1.5", f"{url}/clock")
        assert (status, events.count(b"event: tick\ndata: ")) == (28, 2)
        assert re.fullmatch(rb"\d{10}\n", (await curl(f"{url}/next-second"))[1])
        assert await curl("-d", "12345", f"{url}/upload") == (0, b"5 bytes\n")
        assert (await curl("-i", "-X", "PUT", url))[1].startswith(b"HTTP/1.1 405 ")
        assert (await curl("-i", f"{url}/echo"))[1].startswith(b"HTTP/1.1 426 ")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        await process.stderr.aclose()
        assert await process.wait() == 0


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
