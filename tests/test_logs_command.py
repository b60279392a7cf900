"""`rawstream logs`, as people use it: files that logrotate rotates, pipes, commands, posts, tokens."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from log_servers import ASK, LOGS, logs, write
from peers import PATIENCE, free_port, free_ports, nginx_before, program
from websockets.sync.client import connect

from rawstream.__main__ import main
from rawstream.logs.lines import LONGEST_LINE


def entries(url: str, count: int, **fields: str) -> list[dict[str, Any]]:
    """The first entries that come, as JSON lines, without the place that a reader begins at."""
    found: list[dict[str, Any]] = []
    headers = {"Accept": "application/x-ndjson", **fields}
    with ASK.stream("GET", url, headers=headers, timeout=PATIENCE) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            found += [entry for entry in [json.loads(line)] if len(entry) > 1]
            if len(found) >= count:
                break
    return found


def texts(url: str, count: int) -> list[str]:
    """The lines of the first entries that come."""
    return [entry.get("data", "GAP") for entry in entries(url, count)]


def eventually(check: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < end
        time.sleep(0.02)


HOSTILE = [
    (b"<script>alert(1)</script>", "<script>alert(1)</script>"),
    (b"\x1b]0;title\x07\x1b[2J\x1b[31mred", "\x1b]0;title\\x07\x1b[2J\x1b[31mred"),
    (b"NUL \x00, CR \r.", "NUL \\x00, CR \\x0d."),
    (b"\xff\xfe no UTF-8 \xc3", "\\xff\\xfe no UTF-8 \\xc3"),
    (b"id: 7", "id: 7"),
    (b"x" * 10_000_000, "x" * LONGEST_LINE + f" ... ({10_000_000 - LONGEST_LINE:,} more bytes)"),
    (b"after all that", "after all that"),
]


@dataclass
class Followed:
    """A server of several logs, for tests that only read them or write to one of their own."""

    url: str
    folder: Path


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    folder = tmp_path_factory.mktemp("followed")
    write(folder / "many.log", *(f"line {n}" for n in range(30_000)))
    write(folder / "large.log", *(f"{n} " + "x" * 60_000 for n in range(200)), "last")
    (folder / "hostile.log").write_bytes(b"".join(line + b"\n" for line, _ in HOSTILE))
    for name, lines in (("one", ["INFO 1"]), ("two", ["INFO 2"]), ("renamed", ["one"])):
        write(folder / f"{name}.log", *lines)
    for name in ("create", "copytruncate"):
        write(folder / f"{name}.log", "one", "two")
    (folder / "empty.log").touch()
    with logs(*map(str, sorted(folder.iterdir()))) as url:
        yield Followed(url, folder)


# -- Reading --------------------------------------------------------------------------------------


def test_a_file_in_every_way(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "INFO one", "WARNING two", "ERROR three")
    with logs(str(log)) as url:
        listed = ASK.get(f"{url}/logs").text
        assert listed == f"app.log\tfile\t{log}\n"
        poll = ASK.get(f"{url}/logs/app.log?after=0&wait=5").json()
        first, second, third = poll["entries"]
        assert [entry["data"] for entry in poll["entries"]] == [
            "INFO one",
            "WARNING two",
            "ERROR three",
        ]
        curl = subprocess.run(
            [program("curl"), "-sN", "-m", "1", f"{url}/logs/app.log?after=0"],
            capture_output=True, check=False,
        )  # fmt: skip
        assert curl.stdout == log.read_bytes()
        assert entries(f"{url}/logs/app.log?after={first['id']}", 2) == [second, third]
        with ASK.stream(
            "GET", f"{url}/logs/app.log?last=1", headers={"Accept": "text/event-stream"}
        ) as response:
            event = response.iter_lines()
            found = [next(event) for _ in range(4)]
            assert found[2:] == [f"id: {third['id']}", "data: ERROR three"]
        assert texts(f"{url}/logs/app.log?after=0&only=warning", 2) == [
            "WARNING two",
            "ERROR three",
        ]
        assert ASK.get(f"{url}/logs/app.log?only=loud").status_code == 400
        assert ASK.get(f"{url}/logs/other").status_code == 404
        assert ASK.get(f"{url}/other").status_code == 404
        assert ASK.delete(f"{url}/logs/app.log").status_code == 405
        assert ASK.post(f"{url}/").status_code == 405
        posted = ASK.post(f"{url}/logs/app.log", content=b"x\n")
        assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")


def test_a_websocket_joins_leaves_pauses_and_filters(followed: Followed) -> None:
    one, two = followed.folder / "one.log", followed.folder / "two.log"
    with connect(f"{followed.url.replace('http', 'ws')}/logs/one.log?last=1") as ws:

        def hear() -> Any:
            return json.loads(ws.recv(timeout=PATIENCE))

        assert hear()["joined"] == "one.log"
        assert hear()["data"] == "INFO 1"
        ws.send(json.dumps({"join": "two.log", "last": 1, "only": "error"}))
        assert hear()["joined"] == "two.log"
        write(two, "INFO 3", "ERROR 4")
        assert hear()["data"] == "ERROR 4"
        ws.send(json.dumps({"filter": "two.log", "only": None}))
        assert hear()["filtered"] == "two.log"
        ws.send(json.dumps({"pause": "one.log"}))
        paused = hear()
        assert paused["paused"] == "one.log"
        write(one, "INFO 5")
        write(two, "INFO 6")
        assert hear()["data"] == "INFO 6"
        ws.send(json.dumps({"resume": "one.log"}))
        assert hear() == {"resumed": "one.log", "id": paused["id"]}
        assert hear()["data"] == "INFO 5"
        ws.send(json.dumps({"leave": "two.log"}))
        assert hear() == {"left": "two.log"}
        ws.send(json.dumps({"publish": "x", "channel": "one.log"}))
        assert hear()["error"] == 403


def test_older_lines(followed: Followed) -> None:
    url = f"{followed.url}/logs/many.log"
    [last] = entries(f"{url}?last=1", 1)
    before = last["id"]
    found: list[str] = []
    while True:
        answer = ASK.get(f"{url}?before={before}&last=9999")
        assert answer.headers["content-type"] == "application/x-ndjson"
        some = [json.loads(line) for line in answer.text.splitlines()]
        if not some:
            break
        assert len(some) <= 9999
        found = [entry["data"] for entry in some] + found
        before = some[0]["id"]
    assert found == [f"line {n}" for n in range(29_999)]
    assert ASK.get(f"{url}?before=gone-1").status_code == 410
    assert ASK.get(f"{url}?before={before}&last=x").status_code == 400


def test_older_lines_are_bounded_by_their_bytes(followed: Followed) -> None:
    url = f"{followed.url}/logs/large.log"
    [last] = entries(f"{url}?last=1", 1)
    answer = ASK.get(f"{url}?before={last['id']}&last=10000")
    found = [int(json.loads(line)["data"].split()[0]) for line in answer.text.splitlines()]
    assert found == list(range(found[0], 200))
    assert len(answer.content) + 60_000 > 4_000_000
    assert len(answer.content) <= 4 * 1024 * 1024


# -- Files ----------------------------------------------------------------------------------------


def is_last(url: str, line: str) -> bool:
    [last] = entries(f"{url}?last=1", 1)
    return last.get("data") == line


@pytest.mark.parametrize("how", ["create", "copytruncate"])
def test_logrotate(how: str, followed: Followed, tmp_path: Path) -> None:
    """Nothing is missing and nothing comes twice. What copytruncate might have lost, is said."""
    name = f"{how}.log"
    log, url = followed.folder / name, f"{followed.url}/logs/{name}"
    config = tmp_path / "logrotate.conf"
    config.write_text(f"{log} {{\n  rotate 3\n  {how}\n  size 1\n}}\n")
    config.chmod(0o600)
    rotate = [program("logrotate"), "-f", "-s", str(tmp_path / "state"), str(config)]
    got: list[str] = []

    def read() -> None:
        expected = 6 if how == "create" else 8
        got.extend(texts(f"{url}?after=0", expected))

    reader = threading.Thread(target=read)
    reader.start()
    eventually(log.exists)
    for before, after in pairwise(["two", "four", "six"]):
        eventually(partial(is_last, url, before))
        subprocess.run(rotate, check=True)
        write(log, {"four": "three", "six": "five"}[after], after)
        eventually(partial(is_last, url, after))
    reader.join(PATIENCE)
    lines = ["one", "two", "three", "four", "five", "six"]
    assert [text for text in got if text != "GAP"] == lines
    assert got.count("GAP") == (0 if how == "create" else 2)


def test_a_renamed_file_is_read_while_its_program_still_writes_to_it(followed: Followed) -> None:
    log = followed.folder / "renamed.log"
    with log.open("a") as still_open:
        log.rename(log.with_suffix(".log.1"))
        write(log, "new one")
        time.sleep(0.3)
        still_open.write("late\n")
        still_open.flush()
        assert texts(f"{followed.url}/logs/renamed.log?after=0", 3) == ["one", "late", "new one"]


def test_patterns_and_files_that_come_later(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    write(tmp_path / "b/app.log", "b")
    with logs(str(tmp_path / "*/app.log"), str(tmp_path / "later.log")) as url:
        with ASK.stream(
            "GET", f"{url}/logs", headers={"Accept": "application/x-ndjson"}, timeout=PATIENCE
        ) as lists:
            lines = lists.iter_lines()
            next(lines)  # where it begins
            names = [log["name"] for log in json.loads(next(lines))["data"]]
            assert names == ["later.log", "b.app.log"]
            (tmp_path / "a").mkdir()
            write(tmp_path / "a/app.log", "a")
            names = [log["name"] for log in json.loads(next(lines))["data"]]
            assert names == ["later.log", "b.app.log", "a.app.log"]
        assert texts(f"{url}/logs/a.app.log?after=0", 1) == ["a"]
        write(tmp_path / "later.log", "now")
        assert texts(f"{url}/logs/later.log?after=0", 1) == ["now"]


def test_the_place_outlives_the_server(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    port = free_port()
    write(log, *(f"line {n}" for n in range(20_000)))
    with logs(str(log), port=port) as url:
        cursor = entries(f"{url}/logs/app.log?after=0", 5)[-1]["id"]
    write(log, "while it was away")
    with logs(str(log), port=port) as url:
        found = texts(f"{url}/logs/app.log?after={cursor}", 19_996)
        assert found == [*(f"line {n}" for n in range(5, 20_000)), "while it was away"]
    log.write_text("another file that is much longer\n" * 100_000)
    with logs(str(log), port=port) as url:
        first, second = entries(f"{url}/logs/app.log?after={cursor}", 2)
        assert first["gap"]["from"] == cursor
        assert second["data"] == "another file that is much longer"


def test_many_lines_written_at_once_are_all_read(followed: Followed) -> None:
    log, url = followed.folder / "empty.log", f"{followed.url}/logs/empty.log"
    count = 300_000  # three times what is kept of a file that is followed
    with ASK.stream("GET", f"{url}?after=0", timeout=PATIENCE * 3) as response:
        with log.open("w") as file:
            file.writelines(f"line {n}\n" for n in range(count))
        expected = b"".join(b"line %d\n" % n for n in range(count))
        got = bytearray()
        for data in response.iter_raw():
            got += data
            if len(got) >= len(expected):
                break
    assert got == expected


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/event-stream", "text/plain"])
def test_hostile_lines(accept: str, followed: Followed) -> None:
    found: list[str] = []
    headers = {"Accept": accept}
    url = f"{followed.url}/logs/hostile.log?after=0"
    with ASK.stream("GET", url, headers=headers) as response:
        pending = b""
        for data in response.iter_raw():
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                if accept == "application/x-ndjson":
                    found.append(json.loads(line)["data"])
                elif accept == "text/plain":
                    found.append(line.decode())
                elif line.startswith(b"data: "):
                    found.append(line[6:].decode())
            if len(found) == len(HOSTILE):
                break
    assert found == [text for _, text in HOSTILE]


def test_files_that_cannot_be_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run([*LOGS, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"rawstream: {tmp_path}: Is a directory\n")
    with pytest.raises(SystemExit) as caught:
        main(["logs"])
    assert caught.value.code == 2
    assert "name files" in capsys.readouterr().err


# -- Standard input -------------------------------------------------------------------------------


def test_standard_input_is_passed_on_and_ends_with_its_readers(tmp_path: Path) -> None:
    port = free_port()
    with subprocess.Popen(
        [*LOGS, "-", "--port", str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert b"rawstream logs on" in process.stderr.readline()
        got: list[dict[str, Any]] = []
        url = f"http://127.0.0.1:{port}/logs/stdin?after=0"
        reader = threading.Thread(target=lambda: got.extend(entries(url, 4)))
        data = b"one\n\xff two\r\nno end"
        process.stdin.write(data)
        process.stdin.flush()
        assert os.read(process.stdout.fileno(), 1000) == data
        reader.start()
        presence = f"http://127.0.0.1:{port}/logs/stdin@presence"
        headers = {"Accept": "application/json"}
        eventually(lambda: ASK.get(presence, headers=headers).json()["count"] == 1)
        process.stdin.close()
        reader.join(PATIENCE)
        shown = [entry.get("data", "END" if entry.get("end") else "GAP") for entry in got]
        assert shown == ["one", "\\xff two", "no end", "END"]
        assert process.wait(PATIENCE) == 0


def test_a_pipeline_whose_reader_leaves_goes_on(tmp_path: Path) -> None:
    port = free_port()
    command = " ".join([*LOGS, "-", "--stay", "--port", str(port)])
    with subprocess.Popen(
        ["sh", "-c", f"yes | head -n 100000 | {command} | head -n 1"], stdout=subprocess.PIPE,
        start_new_session=True,
    ) as shell:  # fmt: skip
        try:
            assert shell.stdout
            assert shell.stdout.readline() == b"y\n"

            def is_over() -> bool:
                try:
                    answer = ASK.get(f"http://127.0.0.1:{port}/logs/stdin?wait=0&last=1").json()
                except httpx.TransportError:
                    return False
                return bool(answer.get("end"))

            eventually(is_over)
        finally:
            os.killpg(shell.pid, signal.SIGKILL)


def test_a_regular_file_as_standard_input(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"a\n" * 100_000)
    with (tmp_path / "in").open() as given, (tmp_path / "out").open("wb") as taken:
        subprocess.run(
            [*LOGS, "-", "--port", "0"], stdin=given, stdout=taken, check=True, timeout=PATIENCE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()


# -- Commands -------------------------------------------------------------------------------------

TALKATIVE = """
import os, sys, time
print("to", "a terminal" if sys.stdout.isatty() and sys.stderr.isatty() else "a pipe")
print("complaint", file=sys.stderr)
time.sleep(1)
print("no end", end="")
sys.exit(7)
"""


def test_a_command_and_its_exit_status() -> None:
    port = free_port()
    with subprocess.Popen(
        [*LOGS, "--port", str(port), "--", sys.executable, "-c", TALKATIVE],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stderr
        banner, complaint = process.stderr.readline(), process.stderr.readline()
        if b"rawstream" in complaint:
            banner, complaint = complaint, banner
        assert b"rawstream logs on" in banner
        assert complaint == b"complaint\n"
        name = Path(sys.executable).name
        url = f"http://127.0.0.1:{port}/logs"
        listed = ASK.get(url).text.splitlines()
        assert [line.split("\t")[:2] for line in listed] == [
            [name, "command"],
            [f"{name}.stderr", "command"],
        ]
        [error] = entries(f"{url}/{name}.stderr?after=0", 1)
        assert error["data"] == "complaint"
        found = entries(f"{url}/{name}?after=0", 4)
        assert [(entry.get("event"), entry.get("data")) for entry in found] == [
            (None, "to a terminal"),
            (None, "no end"),
            ("exit", "exit status 7"),
            (None, None),
        ]
        assert found[-1]["end"] is True
        assert process.stdout.read() == b"to a terminal\nno end"
        assert process.wait(PATIENCE) == 7


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (["sh", "-c", "kill -KILL $$"], 137, ""),
        (["true"], 0, ""),
        (["no-such-command"], 127, "rawstream: no-such-command: No such file or directory"),
        (["/etc/passwd"], 126, "rawstream: /etc/passwd: Permission denied"),
    ],
)
def test_how_commands_end(command: list[str], status: int, says: str) -> None:
    done = subprocess.run(
        [*LOGS, "--port", "0", "--", *command], capture_output=True, text=True, check=False,
        timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == status
    assert says in done.stderr


def test_a_command_whose_children_live_on_does_not_keep_us() -> None:
    started = time.monotonic()
    done = subprocess.run(
        [*LOGS, "--port", "0", "--", "sh", "-c", "sleep 30 & echo $!"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0
    assert time.monotonic() - started < 10
    os.kill(int(done.stdout), signal.SIGKILL)


def test_signals_are_the_commands_to_act_on() -> None:
    script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [*LOGS, "--port", "0", "--", "sh", "-c", script],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"caught\n"
        assert process.wait(PATIENCE) == 3


def test_a_second_signal_ends_a_command_that_ignores_the_first() -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [*LOGS, "--port", "0", "--", "sh", "-c", script],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(2 * PATIENCE) == 137


# -- Posting --------------------------------------------------------------------------------------


def test_lines_are_posted_as_they_come() -> None:
    with logs("-", "--stay") as url:
        with subprocess.Popen(
            [program("curl"), "-s", "-X", "POST", "-T", "-", f"{url}/logs/web.1"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as curl:  # fmt: skip
            assert curl.stdin
            assert curl.stdout
            curl.stdin.write(b"first\n\xff second\nno end")
            curl.stdin.flush()
            eventually(lambda: "web.1\tposted\t127.0.0.1" in ASK.get(f"{url}/logs").text)
            assert texts(f"{url}/logs/web.1?after=0", 3) == ["first", "\\xff second", "no end"]
            curl.stdin.close()
            answer = json.loads(curl.stdout.read())
            assert answer["entries"] == 3
        posted = ASK.post(f"{url}/logs/web.1", content=b"a\nb\n")
        assert (posted.status_code, posted.json()["entries"]) == (201, 2)
        assert ASK.post(f"{url}/logs/a%20b", content=b"x").status_code == 400
        foreign = ASK.post(
            f"{url}/logs/web.1", content=b"x", headers={"Origin": "http://evil.example"}
        )
        assert foreign.status_code == 403
        host, port = url.removeprefix("http://").split(":")
        posting = socket.create_connection((host, int(port)))
        head = f"POST /logs/long HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n"
        posting.sendall(head.encode())
        eventually(lambda: "long\tposted" in ASK.get(f"{url}/logs").text)
        for n in range(100):
            assert ASK.post(f"{url}/logs/n{n}", content=b"x").status_code == 201
        listed = ASK.get(f"{url}/logs").text
        assert "web.1" not in listed, "the one that was posted to longest ago has made room"
        assert "long\t" in listed, "and not one that is being posted to"
        assert listed.count("posted") == 100
        posting.close()
        ASK.post(f"{url}/logs/web.1", content=b"anew\n")
        assert texts(f"{url}/logs/web.1?after=0", 1) == ["anew"]


def test_a_post_that_outruns_the_history_is_a_gap() -> None:
    with logs("-", "--stay") as url:
        ASK.post(f"{url}/logs/a", content=b"first\n")
        [first] = entries(f"{url}/logs/a?after=0", 1)
        ASK.post(f"{url}/logs/a", content=b"more\n" * 200_000, timeout=3 * PATIENCE)
        gap, *_ = entries(f"{url}/logs/a?after={first['id']}", 2)
        assert gap["gap"]["from"] == first["id"]


# -- Access ---------------------------------------------------------------------------------------


def test_a_token_is_needed_beyond_loopback(tmp_path: Path) -> None:
    log, port = tmp_path / "app.log", free_port()
    write(log, "secret line")
    command = [*LOGS, str(log), "--host", "0.0.0.0", "--port", str(port), "--access-log"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            found = re.search(r"\?token=(\S+)", process.stderr.readline())
            assert found
            token = found[1]
            url = f"http://127.0.0.1:{port}"
            ask = f"{url}/logs/app.log?after=0&wait=0"
            refused = ASK.get(ask)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            for wrong in ("x", "\xe9", token[:-1]):
                bearer = [(b"Authorization", f"Bearer {wrong}".encode("latin-1"))]
                assert ASK.get(ask, headers=bearer).status_code == 401
                assert ASK.get(ask, params={"token": wrong}).status_code == 401
                assert ASK.get(ask, headers={"Cookie": "rawstream-0=x"}).status_code == 401
            assert ASK.get(ask, headers={"Authorization": f"Bearer {token}"}).status_code == 200
            assert ASK.get(f"{ask}&token={token}").status_code == 200
            with httpx.Client() as browser:
                assert browser.get(f"{url}/").status_code == 401
                first = browser.get(f"{url}/?token={token}")
                assert (first.status_code, first.headers["location"]) == (303, "./")
                assert "HttpOnly; SameSite=Lax" in first.headers["set-cookie"]
                assert browser.get(f"{url}/").status_code == 200
                assert browser.get(ask).json()["entries"][0]["data"] == "secret line"
                fields = {"Origin": "http://evil.example"}
                assert browser.get(ask, headers=fields).status_code == 403
                assert browser.post(f"{url}/logs/x", headers=fields).status_code == 403
        finally:
            process.terminate()
        logged = process.stderr.read()
        assert "401" in logged
        assert token not in logged


def test_a_token_of_ones_own_and_hosts_on_loopback(tmp_path: Path) -> None:
    ours = ("--token", "open-sesame", "--trusted-proxy", "127.0.0.1")
    with logs(str(tmp_path / "a.log"), *ours) as url:
        assert ASK.get(f"{url}/logs").status_code == 401
        assert ASK.get(f"{url}/logs?token=open-sesame").status_code == 200
        behind_tls = ASK.get(f"{url}/?token=open-sesame", headers={"X-Forwarded-Proto": "https"})
        assert "; Secure" in behind_tls.headers["set-cookie"]
    with logs(str(tmp_path / "a.log")) as url:
        assert ASK.get(f"{url}/logs").status_code == 200
        assert ASK.get(f"{url}/logs", headers={"Host": "evil.example"}).status_code == 421


# -- Behind nginx ---------------------------------------------------------------------------------


def test_through_nginx_with_its_defaults(tmp_path: Path) -> None:
    ours, its = free_ports(2)
    log = tmp_path / "app.log"
    write(log, "one")
    with logs(str(log), port=ours), nginx_before(ours, tmp_path, port=its):
        for accept in ("text/plain", "application/x-ndjson", "text/event-stream"):
            with ASK.stream(
                "GET", f"http://127.0.0.1:{its}/logs/app.log?last=1", headers={"Accept": accept},
                timeout=PATIENCE,
            ) as response:  # fmt: skip
                got = b""
                for data in response.iter_raw():  # one by one: each is written when the last came
                    got += data
                    if b"one" in data:
                        write(log, "two")
                    elif b"two" in data:
                        break
            log.write_text("one\n")


# -- What could end a server ----------------------------------------------------------------------


def test_a_file_that_was_truncated_a_moment_ago(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, *map(str, range(30_000)))
    with logs(str(log)) as url:
        [last] = entries(f"{url}/logs/app.log?last=1", 1)
        time.sleep(0.5)
        os.truncate(log, 0)
        answers = [
            ASK.get(f"{url}/logs/app.log?before={last['id']}&last=20000"),
            ASK.get(f"{url}/logs/app.log?after=0&wait=0"),
        ]
        assert answers[0].status_code in (200, 410)
        assert answers[1].status_code == 200
        write(log, "new")
        eventually(partial(is_last, f"{url}/logs/app.log", "new"))


def test_names_that_a_file_system_allows(tmp_path: Path) -> None:
    with logs(f"{tmp_path}/*.log") as url:
        (tmp_path / "odd\udcff\n.log").write_text("odd\n")
        os.mkfifo(tmp_path / "pipe.log")
        (tmp_path / "closed.log").write_text("x")
        eventually(lambda: "odd" in ASK.get(f"{url}/logs").text)
        assert ASK.get(f"{url}/logs").text.count("\n") == 2
        assert texts(f"{url}/logs/odd__.log?after=0", 1) == ["odd"]


@pytest.mark.parametrize("arguments", [["-"], ["--", "seq", "100000"]])
def test_a_terminal_that_is_stopped_stops_nothing_else(arguments: list[str]) -> None:
    port = free_port()
    ours, its = os.openpty()  # nobody reads it
    with subprocess.Popen(
        [*LOGS, "--port", str(port), *arguments], stdin=subprocess.PIPE, stdout=its
    ) as process:
        try:
            assert process.stdin
            with suppress(BrokenPipeError):
                process.stdin.write(b"line\n" * 10_000)
                process.stdin.flush()
            eventually(lambda: is_answered(f"http://127.0.0.1:{port}/healthz"))
            time.sleep(0.3)
            assert is_answered(f"http://127.0.0.1:{port}/healthz")
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)  # what cannot be passed on is given up
            assert process.wait(PATIENCE) is not None
        finally:
            process.kill()
            os.close(ours)
            os.close(its)


def is_answered(url: str) -> bool:
    try:
        return ASK.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def test_missing_standard_streams() -> None:
    for redirection in ("<&-", ">&-", "<&- >&- 2>&-"):
        command = " ".join([*LOGS, "-", "--port", "0", redirection])
        done = subprocess.run(
            ["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


def test_a_writer_in_the_background_does_not_keep_us() -> None:
    script = "(while :; do echo x; sleep 0.2; done) & echo $! >&2; exit 3"
    with subprocess.Popen(
        [*LOGS, "--port", "0", "--", "sh", "-c", script],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr
        number = next(int(line) for line in process.stderr if line.strip().isdigit())
        try:
            assert process.wait(PATIENCE) == 3
        finally:
            os.kill(number, signal.SIGKILL)


def test_a_hang_up_is_passed_on_to_the_command() -> None:
    with subprocess.Popen(
        [*LOGS, "--port", "0", "--", "sh", "-c", "echo $$; while :; do sleep 0.05; done"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout
        number = int(process.stdout.readline())
        process.send_signal(signal.SIGHUP)
        assert process.wait(PATIENCE) == 128 + signal.SIGHUP
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


def test_a_post_that_is_cut_off_keeps_its_last_words() -> None:
    with logs("-", "--stay") as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as sock:
            head = f"POST /logs/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n"
            sock.sendall(head.encode() + b"whole\nunfinished")
            eventually(lambda: "a\tposted" in ASK.get(f"{url}/logs").text)
        assert texts(f"{url}/logs/a?after=0", 2) == ["whole", "unfinished"]


def test_a_long_command_line_is_cut_where_it_is_shown() -> None:
    done = subprocess.run(
        [*LOGS, "--port", "0", "--", "true", *("x" * 1000 for _ in range(1000))],
        capture_output=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0


@pytest.mark.parametrize("token", ["", "a;b", "a&b", "a b"])
def test_tokens_that_would_not_survive_a_url_or_a_cookie(
    token: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["logs", str(tmp_path / "x"), "--token", token])
    assert caught.value.code == 2
    assert "--token" in capsys.readouterr().err


def test_a_client_that_polls_sees_the_end_of_a_command() -> None:
    port = free_port()
    script = "echo one; read line; echo two"
    with subprocess.Popen(
        [*LOGS, "--port", str(port), "--", "sh", "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdin
        eventually(lambda: is_answered(f"http://127.0.0.1:{port}/healthz"))
        got: list[str] = []
        cursor, has_ended = "0", False
        while not has_ended:
            url = f"http://127.0.0.1:{port}/logs/sh?after={cursor}&wait=5"
            answer = ASK.get(url).json()
            got += [entry["data"] for entry in answer["entries"]]
            cursor, has_ended = answer["next"], "end" in answer
            if got == ["one"]:
                process.stdin.close()
        assert got == ["one", "two", "exit status 0"]
        assert process.wait(PATIENCE) == 0
