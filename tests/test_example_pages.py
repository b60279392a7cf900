"""The pages of the examples in headless Chromium, with servers killed and started in between."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from browser import page_in
from documents import ROOT
from peers import fetched, free_port, free_ports, program, served
from playwright.sync_api import Browser, Dialog, Page
from redis_server import redis_server


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


def test_one_stream_read_by_event_source_and_by_hand(browser: Browser, tutorial: Path) -> None:
    port = free_port()
    with serving(tutorial, "10_in_the_browser", port), page_in(browser) as page:
        page.goto(f"http://127.0.0.1:{port}/")
        page.click("text=pieces")
        wait_for_line(page, "left", "[DONE]")
        wait_for_line(page, "right", "event: [DONE]")
        assert side(page, "left") == ["open", "event: Hello", "event: world", "event: [DONE]"]
        assert side(page, "right") == seen("10_in_the_browser")
        page.wait_for_timeout(4000)  # closed means that it does not come back
        assert side(page, "left")[-1] == "event: [DONE]"


def test_event_source_goes_on_where_it_was_when_the_server_was_killed(
    browser: Browser, tutorial: Path
) -> None:
    port = free_port()
    with page_in(browser) as page:
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


def test_progress_ticker_and_notifications_on_one_page(browser: Browser, tutorial: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        serving(tutorial, "12_progress_ticker_notifications", port, b"listening on"),
        page_in(browser) as page,
    ):
        page.goto(url)
        page.click("button")
        page.wait_for_function("document.getElementById('price').innerText !== ''")
        wait_for_line(page, "job", "50 %")
        fetched(f"{url}/notify/mail", "-d", "from Ada")
        page.wait_for_function(
            "document.getElementById('notes').textContent === 'mail: from Ada\\n'"
        )
        wait_for_line(page, "job", "100 %")


def messages(page: Page) -> list[str]:
    return page.locator("li").all_inner_texts()


def say(page: Page, text: str) -> None:
    page.fill("input", text)
    page.click("button")


def join(page: Page, name: str, port: int) -> None:
    page.on("dialog", partial(Dialog.accept, prompt_text=name))
    page.goto(f"http://127.0.0.1:{port}/")


def test_two_tabs_chat_and_see_who_is_there(browser: Browser, tutorial: Path) -> None:
    port = free_port()
    with serving(tutorial, "15_chat_rooms", port) as process, page_in(browser) as ann:
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


def test_every_message_of_a_room_is_shown_once(browser: Browser, tutorial: Path) -> None:
    port = free_port()
    with serving(tutorial, "15_chat_rooms", port), page_in(browser) as ann:
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


def test_a_message_without_an_acknowledgement_returns_to_the_input(
    browser: Browser, tutorial: Path
) -> None:
    port = free_port()
    with serving(tutorial, "15_chat_rooms", port) as process, page_in(browser) as ann:
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
    browser: Browser, chapter: str, announced: bytes, tutorial: Path
) -> None:
    port = free_port()
    phone = {"width": 360, "height": 640}
    with (
        serving(tutorial, chapter, port, announced),
        page_in(browser, viewport=phone, is_mobile=True, has_touch=True) as page,
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


def logs_of(page: Page, side_name: str) -> list[str]:
    """The lines of all deployments without their names."""
    return [line.partition(" ")[2] for line in side(page, side_name)]


def test_live_logs_twice_in_two_tabs_with_the_server_killed_between(
    browser: Browser, tutorial: Path
) -> None:
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
    with page_in(browser) as page:
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


def test_live_logs_with_channels_in_two_tabs(browser: Browser, tutorial: Path) -> None:
    port = free_port()
    with serving(tutorial, "16_live_logs_with_channels", port), page_in(browser) as page:
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


@contextmanager
def several_processes(programs: Path, folder: Path) -> Iterator[str]:
    """Those of chapter 18 with their channels in Redis, behind nginx with its file: its URL."""
    found = free_ports(4)
    ports = dict(zip(("8000", "8003", "8004", "8005"), map(str, found), strict=True))
    text = (ROOT / "examples/18_nginx.conf").read_text()
    text = re.sub("|".join(ports), lambda port: ports[port[0]], text)
    (folder / "nginx.conf").write_text(text)
    nginx = [program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    program("redis-server")
    with redis_server(folder) as redis, ExitStack() as processes:
        command = (str(programs / "python"), "examples/18_several_processes.py", redis.url)
        for port in found[1:]:
            processes.enter_context(served(*command, str(port), announced=b"serving on"))
        proxy = subprocess.Popen(nginx)
        try:
            yield f"http://127.0.0.1:{found[0]}/"
        finally:
            proxy.terminate()  # and its workers with it
            proxy.wait()


READERS = """[...document.querySelectorAll('#readers tr')].map(row =>
    [...row.children].map(cell => cell.textContent))"""


def test_readers_of_a_process_that_is_killed_lose_nothing(
    browser: Browser, tutorial: Path, tmp_path: Path
) -> None:
    phone = {"width": 360, "height": 640}
    with several_processes(tutorial, tmp_path) as url, page_in(browser, viewport=phone) as page:
        page.goto(url)
        # Each is open and has news, and the page knows which process serves the stream of events.
        page.wait_for_function(f"{READERS}.every(cells => Number(cells[1]) > 10)")
        page.wait_for_function(f"/^\\d+$/.test({READERS}[1][6])")
        process = page.evaluate(f"{READERS}[1][6]")
        page.click(f"button[aria-label='Kill {process}']")
        page.wait_for_function(f"{READERS}[1][5] > 0 && {READERS}[1][6] !== '{process}'")
        page.wait_for_selector("button:disabled")
        before = [int(cells[1]) for cells in page.evaluate(READERS)]
        page.wait_for_function(f"{READERS}.every((cells, n) => cells[1] > {before}[n] + 10)")
        readers = page.evaluate(READERS)
        assert [cells[0] for cells in readers] == ["websocket", "events", "lines", "poll"]
        assert [cells[2:5] for cells in readers] == [["0", "0", "0"]] * 4
        assert page.evaluate("document.documentElement.scrollWidth") <= phone["width"]
