"""The command line: serving, stopping, errors at start; with curl as the client."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from peers import COMMAND, PATIENCE, Certificate, Curl, free_port, program, running, served

from rawstream.__main__ import main
from rawstream.demo.app import CURL_LINES

APP = """
import rawstream, trio

async def app(request):
    match request.path:
        case "/long":
            async with rawstream.open_stream(request, "text/plain") as stream:
                while True:
                    await stream.send(b"tick\\n")
                    await trio.sleep(0.05)
        case "/endless":
            async with rawstream.open_stream(request, "text/plain", endless=True) as stream:
                while True:
                    await stream.send(b"tick\\n")
                    await trio.sleep(0.05)
        case _:
            await request.respond(200, f"{request.scheme}\\n")
"""


def failing(*arguments: str, **environment: str) -> tuple[int, list[str]]:
    """Exit status and lines on stderr of a start that fails."""
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=20,
        env=os.environ | environment,
    )  # fmt: skip
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "99999"], "a port is a number from 0 to 65535"),
        (["--port", "http"], "a port is a number from 0 to 65535"),
        (["--limit", "idle_seconds"], "write NAME=NUMBER"),
        (["examples/app.py:app"], "name the module, not its file: examples.app:app"),
        (["rawstream.limits:KIB"], "rawstream.limits:KIB is a int, not an async function"),
        (["--limit", "speed=1"], "no such limit"),
        (["--limit", "idle_seconds=soon"], "not a number"),
        (["--limit", "idle_seconds=-1"], "more than 0"),
        (["--layer", "http"], "need --wire"),
        (["--explain"], "need --wire"),
        (["--keyfile", "k.pem"], "--keyfile needs --certfile"),
        (["--dev-cert", "--keyfile", "k.pem"], "--keyfile needs --certfile"),
        (["--dev-cert", "--certfile", "c.pem"], "not allowed with argument --dev-cert"),
        (["--dev-cert", "--unix", "socket"], "--dev-cert is for a port, not for --unix"),
        (
            ["--trusted-proxy", "10.0.0.1/8"],
            "'10.0.0.1/8' is not a trusted proxy: write an address",
        ),
        (["--proxy-protocol"], "--proxy-protocol needs --trusted-proxy"),
        (["--reuse-port", "--unix", "socket"], "--reuse-port is for a port, not for --unix"),
        (["--log-level", "loud"], "invalid choice"),
        (["nonsense"], "package.module:handler"),
        (["no_such_module:app"], "no module 'no_such_module'"),
        (["json:app"], "json has no handler 'app'"),
        ([".json:app"], "package.module:handler"),
        (["--no-such-option"], "unrecognized arguments"),
    ],
)
def test_a_bad_option_is_status_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("rawstream: error: ")
    assert says in last


async def test_the_wire_of_a_demo_that_others_reach_asks_for_a_token(curl: Curl) -> None:
    async with running("--port", "0", "--allow-host", "a.example") as server:
        assert server.process.stdout is not None
        printed = server.printed
        with trio.fail_after(PATIENCE):
            while not (found := re.search(rb"/\?token=(\S+)\n", printed)):
                printed += await server.process.stdout.receive_some()
        for path in ("/wire", "/wire?token=guess", "/wire/events"):
            status = await curl("-o", os.devnull, "-w", "%{http_code}", f"{server.url}{path}")
            assert status == (0, b"403")
        url = f"{server.url}/wire?token={found[1].decode()}"
        assert b"<title>The wire" in (await curl(url))[1]
    async with running("--port", "0") as server:
        for url in (f"{server.url}/wire", f"{server.url}/wire?token=of-an-earlier-one"):
            assert b"<title>The wire" in (await curl(url))[1]


async def test_what_cannot_start_is_one_line_and_status_1(tmp_path: Path) -> None:
    async with running("--port", "0") as server:
        port = server.url.rpartition(":")[2]
        status, lines = await trio.to_thread.run_sync(failing, "--port", port)
        assert status == 1
        assert lines == [
            f"rawstream: 127.0.0.1:{port}: Address already in use; stop the program that listens "
            "there, or choose another port (--port, or port=)"
        ]
    status, lines = failing("--certfile", "missing.pem")
    assert (status, lines) == (1, ["rawstream: missing.pem: No such file or directory"])
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    status, [line] = failing("--certfile", str(nonsense))
    assert status == 1
    assert "no usable certificate" in line
    status, [line] = failing("--host", "no-such-host.invalid", "--port", "0")
    assert status == 1
    assert line.startswith("rawstream: no-such-host.invalid:0: ")
    status, [line] = failing("--unix", str(tmp_path / "no" / "socket"))
    assert status == 1
    assert line == f"rawstream: {tmp_path}/no/socket: No such file or directory"


def test_a_module_that_fails_shows_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("int('x')\n")
    done = subprocess.run(
        [*COMMAND, "broken:app"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("ValueError: invalid literal")


def test_an_announcement_nobody_can_read_is_one_line_and_status_1() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "--port", "0"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].endswith(": No space left on device")
    assert "Traceback" not in done.stderr


def test_help_names_every_limit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "drain_seconds=10" in text
    assert "package.module:handler" in text


@pytest.fixture
def app_folder(tmp_path: Path) -> Path:
    (tmp_path / "my_app.py").write_text(APP)
    return tmp_path


async def test_anybodys_handler_over_tls_and_unix(
    app_folder: Path, certificate: Certificate, curl: Curl
) -> None:
    tls = ("--certfile", str(certificate.certfile), "--keyfile", str(certificate.keyfile))
    async with running("my_app:app", "--port", "0", *tls, cwd=app_folder) as server:
        assert server.url.startswith("https://")
        assert await curl("--cacert", str(certificate.ca), server.url) == (0, b"https\n")
    path = str(app_folder / "socket")
    async with running("my_app:app", "--unix", path, cwd=app_folder):
        assert await curl("--unix-socket", path, "http://localhost/") == (0, b"http\n")


# -- The demo through curl ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """The URL of a demo for those tests that let it run. Nobody reads what it prints."""
    port = free_port()
    command = (*COMMAND, "--port", str(port), "--no-access-log")
    with served(*command, announced=b"rawstream on"):
        yield f"http://127.0.0.1:{port}"


def test_what_the_demo_suggests_is_one_command_a_line_that_bash_can_read() -> None:
    commands = CURL_LINES.format(url="http://127.0.0.1:8000").splitlines()
    assert len(commands) == 11
    for command in commands:
        assert re.match(r"  (curl|tail) [^#]*http://127\.0\.0\.1:8000/\w+", command), command
        assert command.partition("#")[0].count("http:") == 1, "one request a line"
        subprocess.run(["bash", "-n", "-c", command], check=True)


async def test_the_demo_through_curl(curl: Curl, demo: str, tmp_path: Path) -> None:
    url = demo
    assert await curl(f"{url}/hello") == (0, b"hello\n")
    assert await curl("--http1.0", f"{url}/hello") == (0, b"hello\n")
    status, head = await curl("-I", f"{url}/hello")
    assert status == 0
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert await curl("-d", "any text", f"{url}/echo") == (0, b"any text")
    assert await curl("-N", f"{url}/chunked") == (
        0, b'{"token":"The"}{"token":" sky"}{"token":" is"}{"token":" blue"}{"token":"."}',
    )  # fmt: skip
    _, raw = await curl("-N", "--raw", f"{url}/chunked")
    assert raw.startswith(b'f\r\n{"token":"The"}\r\n10\r\n{"token":" sky"}\r\n')
    assert raw.endswith(b'd\r\n{"token":"."}\r\n0\r\n\r\n')
    assert (await curl("-N", "--http1.0", f"{url}/chunked"))[1].startswith(b'{"token":"The"}')

    _, events = await curl("-N", f"{url}/ticks?count=3&seconds=0")
    assert re.fullmatch(
        rb"retry: 1000\n\n(event: tick\nid: \d\ndata: .*\n\n){3}data: \[DONE\]\n\n", events
    )
    _, events = await curl("-N", "-H", "Last-Event-ID: 2", f"{url}/ticks?count=3&seconds=0")
    assert re.findall(rb"id: (\d)", events) == [b"3"]
    _, events = await curl("-N", "-H", "Last-Event-ID: x", f"{url}/ticks?count=3&seconds=0")
    assert re.findall(rb"id: (\d)", events) == [b"1", b"2", b"3"]

    _, lines = await curl("-N", "-d", "Why?", f"{url}/generate")
    assert [json.loads(line) for line in lines.splitlines()] == [
        {"token": "You said:"}, {"token": " Why?"}, {"token": "."}, {"done": True},
    ]  # fmt: skip
    accept = ("-H", "Accept: text/event-stream")
    _, events = await curl("-N", *accept, "-d", "Why?", f"{url}/generate")
    assert events.startswith(b'data: {"token": "You said:"}\n\ndata: {"token": " Why?"}\n\n')
    assert events.endswith(b"data: [DONE]\n\n")

    blob = os.urandom(3_000_000)
    expected = {"bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}
    for how in (["-T", "-"], ["-X", "POST", "-T", "-"], ["--data-binary", "@-"],
                ["--expect100-timeout", "5", "-H", "Expect: 100-continue", "-T", "-"]):  # fmt: skip
        status, answer = await curl(*how, f"{url}/upload", input=blob)
        assert (status, json.loads(answer)) == (0, expected)
    status, _ = await curl("--fail", "--data-binary", "@-", f"{url}/echo", input=blob)
    assert status == 22  # 413
    _, answer = await curl("--data-binary", "@-", f"{url}/echo", input=blob)
    assert answer == b"413 Content Too Large: request body larger than 1048576 bytes\n"

    file = tmp_path / "download"
    pattern = bytes(range(256)) * 4000
    file.write_bytes(pattern[:300_001])
    status, _ = await curl("-C", "-", "-o", str(file), f"{url}/download?size=1000000")
    assert status == 0
    assert file.read_bytes() == pattern[:1_000_000]
    for span, status_line, length in [
        ("0-0", b"206", 1), ("5-9", b"206", 5), ("-7", b"206", 7), ("9-", b"206", 91),
        ("50-200", b"206", 50), ("9-5", b"200", 100), ("x", b"200", 100),
        ("0-1,3-4", b"200", 100), ("100-", b"416", 21),
    ]:  # fmt: skip
        _, got = await curl("-i", "-H", f"Range: bytes={span}", f"{url}/download?size=100")
        assert got.startswith(b"HTTP/1.1 " + status_line), span
        assert len(got.partition(b"\r\n\r\n")[2]) == length or status_line == b"416", span
    _, got = await curl("-i", "-H", "Range: bytes=5-9", "-H", 'If-Range: "other"',
                        f"{url}/download?size=100")  # fmt: skip
    assert got.startswith(b"HTTP/1.1 200")

    assert (await curl("-i", f"{url}/no"))[1].endswith(b"\r\n\r\n404 Not Found\n")
    _, answer = await curl("-i", "-X", "DELETE", f"{url}/upload")
    assert b"\r\nAllow: POST, PUT\r\n" in answer
    _, answer = await curl("-i", "-X", "OPTIONS", "--request-target", "*", url)
    assert answer.startswith(b"HTTP/1.1 204 ")
    _, answer = await curl("-i", f"{url}/ws")
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    _, page = await curl(url)
    assert b"<title>rawstream: four ways to push</title>" in page
    assert not re.findall(rb'(?:src|href)="http', page)  # self-contained


async def test_polling_the_demo(curl: Curl, demo: str) -> None:
    _, answer = await curl("-i", f"{demo}/poll?wait=0")
    found = re.search(rb'ETag: "([^"]+)"', answer)
    assert found
    cursor = found[1].decode()
    got: list[bytes] = []

    async def poll() -> None:
        got.append((await curl(f"{demo}/poll?wait=20&after={cursor}"))[1])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(poll)
        await trio.sleep(0.3)
        assert got == []
        assert await curl("-d", "news", f"{demo}/poll") == (0, b"")
    assert json.loads(got[0])["entries"] == ["news"]
    _, answer = await curl("-i", "-H", "Origin: http://evil.example", "-d", "x",
                           f"{demo}/poll")  # fmt: skip
    assert answer.startswith(b"HTTP/1.1 403 ")
    _, answer = await curl(f"{demo}/poll?after=garbage")
    assert json.loads(answer)["gap"] is True


async def test_ten_events_stop_when_the_client_leaves() -> None:
    """S1: the access log says when the handler ended."""
    path = program("curl")
    async with running("--port", "0") as server:
        with trio.move_on_after(0.5):
            await trio.run_process([path, "-sN", f"{server.url}/ticks"], capture_stdout=True)
        await server.logs("client left")
        server.process.send_signal(signal.SIGTERM)
        log = await server.error_output()
    assert re.search(r'"GET /ticks" 200 sse \d+B 0\.\d+s client left', log), log


async def test_netcat_sees_the_bytes(demo: str) -> None:
    path = program("nc")
    port = demo.rpartition(":")[2]
    request = b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    done = await trio.run_process([path, "127.0.0.1", port], stdin=request, capture_stdout=True)
    assert done.stdout.endswith(b"Connection: close\r\n\r\nhello\n")


# -- Signals --------------------------------------------------------------------------------------


async def written(path: Path, text: str) -> None:
    """Wait until a program has written this to a file."""
    file = trio.Path(path)
    with trio.fail_after(PATIENCE):
        while not await file.exists() or text not in await file.read_text():  # noqa: ASYNC110
            await trio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_all_four_streams(
    number: signal.Signals, curl: Curl, tmp_path: Path
) -> None:
    async with running("--port", "0") as server:
        ended: dict[str, int] = {}

        async def fetch(name: str, target: str) -> None:
            url = f"{server.url}{target}"
            async with await trio.Path(tmp_path / name).open("w") as said:
                ended[name] = (await curl("-vN", "-o", os.devnull, url, stderr=said.wrapped))[0]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch, "poll", "/poll?wait=60")
            await written(tmp_path / "poll", "> GET /poll")
            nursery.start_soon(fetch, "sse", "/ticks?count=1000")
            nursery.start_soon(fetch, "endless", "/download")
            nursery.start_soon(fetch, "chunked", "/chunked")
            for name in ("sse", "endless", "chunked"):
                await written(tmp_path / name, "< HTTP/1.1 200")
            start = trio.current_time()
            server.process.send_signal(number)
            log = await server.error_output()
        assert ended == {"sse": 0, "poll": 0, "endless": 0, "chunked": 0}
        assert server.process.returncode == 0
        assert trio.current_time() - start < 8, "not by the deadline, which is 10 s"
        assert log.count(" drained") == 3
        assert "Traceback" not in log


async def test_what_is_not_finished_in_time_is_cut(app_folder: Path, curl: Curl) -> None:
    output = app_folder / "output"
    arguments = ("my_app:app", "--port", "0", "--limit", "drain_seconds=0.5")
    async with running(*arguments, cwd=app_folder) as server:
        statuses = []

        async def fetch() -> None:
            statuses.append((await curl("-N", "-o", str(output), f"{server.url}/long"))[0])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch)
            await written(output, "tick")
            server.process.send_signal(signal.SIGTERM)
        assert statuses == [18]  # transfer closed with outstanding data
        log = await server.error_output()
        assert server.process.returncode == 0
        assert '"GET /long" 200 stream' in log
        assert log.rstrip().endswith(" cut")


async def test_a_second_sigint_ends_at_once(app_folder: Path, curl: Curl) -> None:
    output = app_folder / "output"
    async with running("my_app:app", "--port", "0", cwd=app_folder) as server:
        port = int(server.url.rpartition(":")[2])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(curl, "-N", "-o", str(output), f"{server.url}/long")
            await written(output, "tick")
            server.process.send_signal(signal.SIGINT)
            with trio.fail_after(PATIENCE), pytest.raises(OSError, match="attempts to connect"):
                while True:  # until it is draining
                    await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGINT)
            with trio.fail_after(1):
                await server.process.wait()
        assert server.process.returncode == 128 + signal.SIGINT


async def test_secrets_stay_out_of_the_log(curl: Curl) -> None:
    async with running("--port", "0") as server:
        await curl(f"{server.url}/hello?api_key=t0ps3cret")
        server.process.send_signal(signal.SIGTERM)
        log = await server.error_output()
    assert '"GET /hello?api_key=***" 200 plain' in log
    assert "t0ps3cret" not in log


async def test_the_access_log_can_be_switched_off(curl: Curl) -> None:
    async with running("--port", "0", "--no-access-log") as server:
        await curl(f"{server.url}/hello")
        server.process.send_signal(signal.SIGTERM)
        assert await server.error_output() == ""


def test_run_is_a_whole_program(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import rawstream\nrawstream.run(print, port=1, host='192.0.2.1')\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "rawstream: 192.0.2.1:1: Cannot assign requested address\n"
