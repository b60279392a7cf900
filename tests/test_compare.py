"""What the four ways cost, measured: the figures that are exact, and how the command ends."""

from __future__ import annotations

import csv
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from peers import PATIENCE

ROOT = Path(__file__).parent.parent
COMMAND = (sys.executable, str(ROOT / "examples/compare.py"))

NAMES = ["chunked", "sse", "long-poll", "websocket"]
EXACT = {
    # 106 is "64", CR LF, the message, CR LF; an event adds "data: " and two LF. A frame has a head
    # of two bytes, and of six with the mask of a client.
    "bytes_down": [106, 114, 282, 102],
    "bytes_up": [221, 221, 221, 106],
    "bytes_setup": [168, 214, 0, 277],
    "round_trips": [2, 2, 2, 2],
    "reconnect_bytes": [272, 290, 223, 302],
    "reconnect_round_trips": [2, 2, 2, 2],
    "lost_without_cursor": [10, 10, 10, 10],
    "lost_with_cursor": [0, 0, 0, 0],
    "repeated_with_cursor": [0, 0, 0, 0],
}
MEASURED = ["cpu_down", "cpu_up", "p50_ms", "p99_ms", "memory_kib"]

TABLE = """\
| 20 messages of 100 bytes         |   chunked |       sse | long-poll | websocket |
| -------------------------------- | --------: | --------: | --------: | --------: |
| bytes down, a message            |       106 |       114 |       282 |       102 |
| bytes up, a message              |       221 |       221 |       221 |       106 |
| set-up, bytes                    |       168 |       214 |         0 |       277 |
| set-up, round trips              |         2 |         2 |         2 |         2 |
| reconnect, bytes                 |       272 |       290 |       223 |       302 |
| reconnect, round trips           |         2 |         2 |         2 |         2 |
| lost of 20 without a cursor      |        10 |        10 |        10 |        10 |
| lost of 20 with a cursor         |         0 |         0 |         0 |         0 |
| repeated with a cursor           |         0 |         0 |         0 |         0 |
"""

OVERHEADS = """\
| bytes added to a message | set-up |     15 B |    100 B |  1,000 B |
| ------------------------ | -----: | -------: | -------: | -------: |
| down: chunked            |    168 |        5 |        6 |        7 |
| down: sse                |    214 |       14 |       14 |       15 |
| down: sse with ids       |    214 |       20 |       20 |       21 |
| down: long-poll          |      - |      181 |      182 |      183 |
| down: websocket          |    277 |        2 |        2 |        4 |
| up: POST                 |      - |      120 |      121 |      122 |
| up: websocket            |      - |        6 |        6 |        8 |
"""


def compare(*options: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        encoding="utf-8",
        timeout=PATIENCE * 6,
        check=False,
    )


def printed(*options: str, encoding: str = "utf-8") -> str:
    done = compare(*options, encoding=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def compared() -> dict[str, Any]:
    found = json.loads(printed("--messages", "20", "--json"))
    assert isinstance(found, dict)
    return found


def test_the_object_says_what_was_compared(compared: dict[str, Any]) -> None:
    assert list(compared) == ["messages", "size", "python", "ways"]
    assert (compared["messages"], compared["size"]) == (20, 100)
    assert compared["python"] == ".".join(map(str, sys.version_info[:3]))
    assert [way["name"] for way in compared["ways"]] == NAMES


@pytest.mark.parametrize("key", EXACT)
def test_a_figure_that_is_the_same_in_every_run(compared: dict[str, Any], key: str) -> None:
    assert [way[key] for way in compared["ways"]] == EXACT[key]


@pytest.mark.parametrize("name", NAMES)
def test_what_differs_from_run_to_run_is_possible(compared: dict[str, Any], name: str) -> None:
    [way] = [way for way in compared["ways"] if way["name"] == name]
    assert set(way) == {"name", *EXACT, *MEASURED}
    assert 0 < way["p50_ms"] <= way["p99_ms"]
    assert 1 < way["cpu_down"] < 10_000
    assert 1 < way["cpu_up"] < 10_000
    assert 1 < way["memory_kib"] < 100


def test_the_figures_of_the_demo_are_of_this_command(compared: dict[str, Any]) -> None:
    kept = json.loads((ROOT / "rawstream/demo/compared.json").read_text())
    assert list(kept) == list(compared)
    assert [list(way) for way in kept["ways"]] == [list(way) for way in compared["ways"]]
    for kept_way, way in zip(kept["ways"], compared["ways"], strict=True):
        assert {key: kept_way[key] for key in EXACT} == {key: way[key] for key in EXACT}


def test_the_figures_of_the_tutorial_are_those_of_the_demo() -> None:
    """The table that differs from run to run."""
    kept = json.loads((ROOT / "rawstream/demo/compared.json").read_text())
    text = (ROOT / "examples/README.md").read_text()
    behind = text.partition("One run, with Python ")[2]
    assert behind.startswith(kept["python"])
    table = behind.partition("\n\n")[2].partition("\n\n")[0].splitlines()[2:]
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in table}
    for title, key, form in (
        ("CPU down, µs a message", "cpu_down", ".1f"),
        ("CPU up, µs a message", "cpu_up", ".1f"),
        ("latency p50, ms", "p50_ms", ".2f"),
        ("latency p99, ms", "p99_ms", ".2f"),
        ("memory, KiB an idle client", "memory_kib", ".1f"),
    ):
        told = [cell.strip() for cell in rows.pop(title)]
        assert told == [format(way[key], form) for way in kept["ways"]]
    assert not rows


def test_a_line_for_each_way() -> None:
    lines = list(csv.DictReader(printed("--messages", "10", "--csv").splitlines()))
    assert [line["name"] for line in lines] == NAMES
    assert set(lines[0]) == {"name", *EXACT, *MEASURED}
    assert [float(line["bytes_down"]) for line in lines] == EXACT["bytes_down"]


def test_a_table_and_a_picture_in_ascii() -> None:
    output = printed("--messages", "10", "--size", "1000", encoding="ascii")
    assert output.isascii()
    assert "| 10 messages of 1,000 bytes " in output
    assert "\nCPU down, us a message\n  chunked   #" in output
    drawn = [line for line in output.splitlines() if "#" in line]
    assert [line.split()[0] for line in drawn] == NAMES * 4
    assert max(line.count("#") for line in drawn) == 40


def test_exact_prints_the_same_in_every_run() -> None:
    table, *pictures = printed("--messages", "20", "--exact").split("\n\n")
    assert table + "\n" == TABLE
    assert [picture.splitlines()[0] for picture in pictures] == [
        "bytes down, a message",
        "bytes up, a message",
    ]
    assert "\n  long-poll " + "█" * 40 + " 282\n" in pictures[0]


def test_sizes_prints_what_is_added_to_messages() -> None:
    assert printed("--sizes", "15,100,1000") == OVERHEADS


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--messages", "many"], "argument --messages: 'many' is not a number from 10 to 100000"),
        (["--size", "14"], "argument --size: '14' is not a number from 15 to 65535"),
        (["--sizes", "15,,100"], "argument --sizes: '' is not a number from 15 to 65535"),
        (["--json", "--csv"], "argument --csv: not allowed with argument --json"),
        (["--fast"], "unrecognized arguments: --fast"),
        (["65536"], "argument port: '65536' is not a number from 0 to 65535"),
    ],
)
def test_a_bad_option_is_told_in_one_line(options: list[str], error: str) -> None:
    done = compare(*options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"compare.py: {error}\n"


def test_a_port_in_use_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = compare("--exact", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"port {port}: Address already in use")
    assert done.stderr.count("\n") == 1


def read_terminal(terminal: int) -> bytes:
    """What comes next; b"" once no process has the other end of the terminal any more."""
    ready, _, _ = select.select([terminal], [], [], PATIENCE)
    assert ready, "nothing comes"
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux says EIO
        return b""


@pytest.mark.parametrize("doing", [b"start", b"bytes: sse", b"CPU: chunked"])
def test_ctrl_c_ends_the_server_too_and_prints_no_traceback(doing: bytes) -> None:
    assert end_while(doing, signal.SIGINT) == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_server_ends_with_the_command_whatever_ends_it(number: signal.Signals) -> None:
    assert end_while(b"bytes: sse", number) == -number


def end_while(doing: bytes, number: signal.Signals) -> int:
    """End the command with a signal while it does this, and return its exit status. The server
    has the same stderr, a terminal, so the end of that is the end of both."""
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        COMMAND,
        stdout=subprocess.PIPE,
        stderr=theirs,
        # As in a terminal. A shell starts what it runs in the background with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        os.close(theirs)
        try:
            told = b""
            while doing not in told:
                told += read_terminal(terminal)
            process.send_signal(number)
            while data := read_terminal(terminal):
                told += data
            output, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            os.close(terminal)
    assert output == b""
    assert b"Traceback" not in told
    assert b"rror" not in told
    return process.returncode
