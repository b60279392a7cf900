"""The examples are true: what their docstrings tell a reader to type prints what stands there."""

from __future__ import annotations

import ast
import fcntl
import re
import shutil
import signal
import socket
import struct
import subprocess
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
import trio
from browser import chromium
from documents import (
    LISTENING,
    ROOT,
    Exchange,
    environment,
    exchanges,
    fenced,
    indented,
    terminals,
)
from peers import PATIENCE, Curl, free_port, program, served
from playwright.sync_api import Dialog, Page

CHAPTERS = sorted((ROOT / "examples").glob("[0-9]*.py"))
MOST_LINES = 190
"""Of a chapter, blank lines not counted: one sitting. The longest ones also print bytes row by row."""


@pytest.fixture(scope="session")
def tutorial(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The programs of an environment made by the install command that the tutorial prints, so
    that a library missing from it is missed here, too. It takes some seconds and is made once for
    all workers. Coverage is not measured in it: what the chapters reach of the package other
    tests reach as well."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent
    folder = shared / "tutorial"
    with (shared / "tutorial.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            folder.mkdir(exist_ok=True)
            for name in ("pyproject.toml", "README.md", "LICENSE"):
                shutil.copy(ROOT / name, folder)
            shutil.copytree(ROOT / "rawstream", folder / "rawstream", dirs_exist_ok=True)
            [install] = fenced((ROOT / "examples/README.md").read_text(), "sh")
            done = subprocess.run(
                ["bash", "-c", install],
                cwd=folder,
                env=environment(),
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            (folder / "made").touch()
    return folder / ".venv/bin"


def named(path: Path) -> str:
    return path.stem


def shown_in(chapter: Path) -> list[Exchange]:
    text = ast.get_docstring(ast.parse(chapter.read_text()), clean=False)
    assert text
    return [exchange for block in indented(text) for exchange in exchanges(block)]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=named)
async def test_chapter(chapter: Path, tutorial: Path, tmp_path: Path) -> None:
    for name in ("curl", "nc"):
        program(name)
    shown = shown_in(chapter)
    assert len(shown) > 1
    async with terminals(free_port(), tmp_path, tutorial) as both:
        await both.follow(shown)
        await both.end()


def starts_in(chapter: Path) -> tuple[list[Exchange], str]:
    """What a chapter shows until its server runs, and the command that starts it; "" for the
    clients, whose docstrings start another chapter's server."""
    shown = shown_in(chapter)
    number = next(n for n, (_, printed) in enumerate(shown) if LISTENING.search(printed))
    command = shown[number][0]
    return shown[: number + 1], command if chapter.name in command else ""


@pytest.mark.parametrize("chapter", [c for c in CHAPTERS if starts_in(c)[1]], ids=named)
async def test_a_second_server_on_a_port_says_so_in_one_line(
    chapter: Path, tutorial: Path, tmp_path: Path
) -> None:
    shown, command = starts_in(chapter)
    async with terminals(free_port(), tmp_path, tutorial) as both:
        await both.follow(shown)
        status, errors = await both.run(f"{command} > /dev/null")
        assert status == 1
        assert re.fullmatch(r".*(8000|admin\.socket): Address already in use.*\n", errors)
        await both.end()


@pytest.mark.parametrize("chapter", [c for c in CHAPTERS if not starts_in(c)[1]], ids=named)
async def test_a_client_without_its_server_says_so_in_one_line(
    chapter: Path, tutorial: Path, tmp_path: Path
) -> None:
    [command] = [command for command, _ in shown_in(chapter) if chapter.name in command]
    async with terminals(free_port(), tmp_path, tutorial) as both:
        status, errors = await both.run(f"{command} > /dev/null")
        assert status == 1
        assert re.fullmatch(r"no server .*8000.*: first start python examples/.*\n", errors)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=named)
def test_a_chapter_is_short(chapter: Path) -> None:
    lines = [line for line in chapter.read_text().splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES


# -- What hostile clients do to the servers by hand -----------------------------------------------

HEADS = [
    b"",
    b"\r\n",
    b"\0\xff" * 20,
    b"GET\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    b"GET /ticks HTTP/1.1\r\nHost: a\r\nLast-Event-ID: x\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
    b"GET /poll?after=x&wait=nan HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /poll?after=-5&wait=nan HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET //[ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /\xe9\x1b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"A" * 70_000,
    b"GET / HTTP/1.1\r\nHost: \xff\r\nUpgrade: websocket\r\nConnection: \xff\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: xn--a-\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
]
UPGRADE = (
    b"GET /push HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
FRAMES = [
    b"",
    b"\xff" * 200,
    b"\x81",
    b"\x81\x00",
    b"\x81\xff" + b"\xff" * 8,
    b"\x81\x81\0\0\0\0\xff",
    b"\x80\x81\0\0\0\0a",
    b"\x82\xfe\x01\x00\0\0\0\0" + bytes(256),
    b"\x82\xfe\xff\xff\0\0\0\0" + bytes(65535),
    b"\x82\xff\0\0\0\0\0\x01\0\0\0\0\0\0" + bytes(65536),
    b"\x88\x81\0\0\0\0a",
    b"\x88\x82\0\0\0\0\0\0",
    b"\x88\x82\0\0\0\0\x03\xed",
    b"\x83\x80\0\0\0\0",
    b"\x09\x80\0\0\0\0",
    b"\x89\xfe\0\x7e\0\0\0\0" + bytes(126),
]
BY_HAND = [path for path in CHAPTERS if path.name < "09"]


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("chapter", BY_HAND, ids=named)
async def test_no_byte_ends_a_server_by_hand(
    chapter: Path, reset: bool, tutorial: Path, tmp_path: Path
) -> None:
    port = free_port()
    async with terminals(port, tmp_path, tutorial) as both:
        await both.start(f"python examples/{chapter.name}")
        for data in [*HEADS, *(UPGRADE + frames for frames in FRAMES)]:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
                client.sendall(data)
                if reset:
                    linger = struct.pack("ii", 1, 0)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await trio.sleep(0.5)  # what is to go wrong goes wrong now
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE):
            pass
        assert "Traceback" not in both.output
        assert both.is_running


# -- In a browser ---------------------------------------------------------------------------------


def serving(
    programs: Path, chapter: str, port: int, announced: bytes = b"serving on"
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    python = str(programs / "python")
    return served(python, f"examples/{chapter}.py", str(port), announced=announced)


def side(page: Page, name: str) -> list[str]:
    return page.locator(f"#{name}").inner_text().splitlines()


def wait_for_line(page: Page, name: str, text: str) -> None:
    page.wait_for_function(
        "([name, text]) => document.getElementById(name).innerText.includes(text)",
        arg=[name, text],
    )


def seen(chapter: str) -> list[str]:
    """What a docstring says is seen elsewhere than in a terminal: its blocks indented by eight."""
    text = (ROOT / f"examples/{chapter}.py").read_text()
    return re.findall(r"^ {8}(\S.*)$", text.partition("import sys")[0], re.M)


def test_one_stream_read_by_event_source_and_by_hand(tutorial: Path) -> None:
    port = free_port()
    with serving(tutorial, "10_in_the_browser", port), chromium() as page:
        page.goto(f"http://127.0.0.1:{port}/")
        page.click("text=pieces")
        wait_for_line(page, "left", "[DONE]")
        wait_for_line(page, "right", "event: [DONE]")
        assert side(page, "left") == ["open", "event: Hello", "event: world", "event: [DONE]"]
        assert side(page, "right") == seen("10_in_the_browser")
        page.wait_for_timeout(4000)  # closed means that it does not come back
        assert side(page, "left")[-1] == "event: [DONE]"


def test_event_source_goes_on_where_it_was_when_the_server_was_killed(tutorial: Path) -> None:
    port = free_port()
    with chromium() as page:
        with serving(tutorial, "10_in_the_browser", port) as process:
            page.goto(f"http://127.0.0.1:{port}/")
            page.click("text=ticks")
            wait_for_line(page, "left", "tick 3")
            process.kill()
            process.wait()
            wait_for_line(page, "left", "it will reconnect")
            wait_for_line(page, "right", "cut off")
        with serving(tutorial, "10_in_the_browser", port):
            wait_for_line(page, "left", "[DONE]")
        ticks = [line for line in side(page, "left") if "tick" in line]
        assert ticks == [f"event: tick {n}" for n in range(1, 11)]


async def test_progress_ticker_and_notifications_on_one_page(tutorial: Path, curl: Curl) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def look() -> None:
        with chromium() as page:
            page.goto(url)
            page.click("button")
            page.wait_for_function("document.getElementById('price').innerText !== ''")
            wait_for_line(page, "job", "50 %")
            trio.from_thread.run(curl, "-d", "from Ada", f"{url}/notify/mail")
            page.wait_for_function(
                "document.getElementById('notes').textContent === 'mail: from Ada\\n'"
            )
            wait_for_line(page, "job", "100 %")

    with serving(tutorial, "12_progress_ticker_notifications", port, b"listening on"):
        await trio.to_thread.run_sync(look)


def messages(page: Page) -> list[str]:
    return page.locator("li").all_inner_texts()


def say(page: Page, text: str) -> None:
    page.fill("input", text)
    page.click("button")


def join(page: Page, name: str, port: int) -> None:
    page.on("dialog", partial(Dialog.accept, prompt_text=name))
    page.goto(f"http://127.0.0.1:{port}/")


def test_two_tabs_chat_and_see_who_is_there(tutorial: Path) -> None:
    port = free_port()
    with serving(tutorial, "15_chat_rooms", port) as process, chromium() as ann:
        bob = ann.context.new_page()
        join(ann, "ann", port)
        join(bob, "bob", port)
        for page in (ann, bob):
            page.wait_for_function("/^(ann, bob|bob, ann)$/.test(here.textContent)")
        say(ann, "tea?")
        ann.wait_for_selector("li:has-text('ann: tea? (received)')")
        bob.wait_for_selector("li:has-text('ann: tea?')")
        bob.close()
        ann.wait_for_function("here.textContent === 'ann'")
        process.kill()
        process.wait()
        ann.wait_for_function("socket.readyState === WebSocket.CLOSED")
        with serving(tutorial, "15_chat_rooms", port):
            ann.wait_for_function("socket.readyState === WebSocket.OPEN")


def test_every_message_of_a_room_is_shown_once(tutorial: Path) -> None:
    port = free_port()
    with serving(tutorial, "15_chat_rooms", port), chromium() as ann:
        bob, namesake = ann.context.new_page(), ann.context.new_page()
        join(ann, "ann", port)
        join(bob, "bob", port)
        join(namesake, "ann", port)
        say(ann, "tea?")
        bob.wait_for_selector("li:has-text('ann: tea?')")
        say(bob, "with milk")
        ann.wait_for_selector("li:has-text('with milk')")
        ann.reload()
        ann.wait_for_selector("li:has-text('with milk')")
        say(ann, "at four")
        for page in (ann, bob, namesake):
            page.wait_for_selector("li:has-text('at four')")
        said = ["ann: tea?", "bob: with milk", "ann: at four"]
        ann.wait_for_selector("li:has-text('received')")
        assert messages(ann) == [*said[:2], "ann: at four (received)"]
        assert messages(bob) == [said[0], "bob: with milk (received)", said[2]]
        assert messages(namesake) == said


def test_a_message_without_an_acknowledgement_returns_to_the_input(tutorial: Path) -> None:
    port = free_port()
    with serving(tutorial, "15_chat_rooms", port) as process, chromium() as ann:
        join(ann, "ann", port)
        ann.wait_for_selector("button:enabled")
        process.send_signal(signal.SIGSTOP)
        say(ann, "tea?")
        assert messages(ann) == ["ann: tea?"]
        process.kill()
        ann.wait_for_selector("button:disabled")
        assert messages(ann) == []
        assert ann.input_value("input") == "tea?"


@pytest.mark.parametrize(
    ("chapter", "announced"),
    [
        ("10_in_the_browser", b"serving on"),
        ("12_progress_ticker_notifications", b"listening on"),
        ("15_chat_rooms", b"serving on"),
    ],
    ids=["10", "12", "15"],
)
def test_a_page_fits_a_phone_and_names_its_fields(
    chapter: str, announced: bytes, tutorial: Path
) -> None:
    port = free_port()
    phone = {"width": 360, "height": 640}
    with (
        serving(tutorial, chapter, port, announced),
        chromium(viewport=phone, is_mobile=True, has_touch=True) as page,
    ):
        page.on("dialog", partial(Dialog.accept, prompt_text="ann"))
        page.goto(f"http://127.0.0.1:{port}/")
        assert page.title()
        assert page.locator("link[rel=icon]").count() == 1  # else a browser asks for one
        assert page.evaluate("document.documentElement.lang") == "en"
        fields = page.locator("input, output").all()
        assert fields
        assert all(field.evaluate("element => element.labels.length") for field in fields)
        assert page.evaluate("document.documentElement.scrollWidth") <= phone["width"]
        assert page.evaluate("matchMedia('(width: 360px)').matches")
        empty = "getComputedStyle({}, '::before').content"
        last = "[...document.querySelectorAll('ul, output')].at(-1)"
        assert len(page.evaluate(empty.format(last))) > len('""')


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


def logs_of(page: Page, side_name: str) -> list[str]:
    """The lines of all deployments without their names."""
    return [line.partition(" ")[2] for line in side(page, side_name)]


def test_live_logs_twice_in_two_tabs_with_the_server_killed_between(tutorial: Path) -> None:
    chapter = "16_live_logs_twice"
    port = free_port()
    whole = [
        f"{n}: {text}"
        for n, text in enumerate(
            (
                "fetching the source", "installing 41 packages", "one of them is deprecated",
                "running 120 tests", "test_login failed", "running it again", "120 tests passed",
                "it is live",
            ),
            1,
        )
    ]  # fmt: skip
    with chromium() as page:
        other = page.context.new_page()
        with serving(tutorial, chapter, port) as process:
            for tab in (page, other):
                tab.goto(f"http://127.0.0.1:{port}/")
                wait_for_line(tab, "websocket-state", "open")
            page.click("#deploy")
            for tab in (page, other):
                for way in ("events", "websocket"):
                    wait_for_line(tab, way, "2: installing")
            process.kill()
            process.wait()
            wait_for_line(page, "websocket-state", "closed; connects within")
            wait_for_line(page, "events-state", "reconnecting")
        with serving(tutorial, chapter, port):
            page.click("#connect")
            wait_for_line(page, "websocket-state", "open")
            for tab in (page, other):
                for way in ("events", "websocket"):
                    wait_for_line(tab, way, "8: it is live")
                    assert logs_of(tab, way) == whole
            page.select_option("#level", "error")
            page.click("#deploy")
            wait_for_line(page, "events-state", "open")
            page.wait_for_function(
                "document.getElementById('events').children.length === 16", timeout=20_000
            )
            page.wait_for_function("Object.values(seen).every(n => n === 8)")
            assert logs_of(page, "websocket")[8:] == ["5: test_login failed"]
            other.wait_for_function("document.getElementById('websocket').children.length === 16")


def test_live_logs_with_channels_in_two_tabs(tutorial: Path) -> None:
    port = free_port()
    with serving(tutorial, "16_live_logs_with_channels", port), chromium() as page:
        other = page.context.new_page()
        for tab in (page, other):
            tab.goto(f"http://127.0.0.1:{port}/")
        page.click("#deploy")
        for tab in (page, other):
            for way in ("events", "websocket"):
                wait_for_line(tab, way, "it is live")
                assert side(tab, way) == [
                    "fetching the source", "installing 41 packages", "running 120 tests",
                    "it is live",
                ]  # fmt: skip
