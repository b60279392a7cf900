"""The demo's page in headless Chromium, with the server killed and started in between."""

from __future__ import annotations

import re
import subprocess
import time
from contextlib import AbstractContextManager

from browser import chromium
from peers import COMMAND, Certificate, free_port, served
from playwright.sync_api import Page


def demo(port: int, *arguments: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """The demo in a process; killed at the end."""
    return served(*COMMAND, "--port", str(port), *arguments, announced=b"rawstream on")


def lines(page: Page, card: str) -> list[str]:
    return page.locator(f"#{card} output").inner_text().splitlines()


def wait_for(page: Page, card: str, text: str, seconds: float = 20) -> None:
    page.wait_for_function(
        "([card, text]) => document.querySelector(`#${card}`).innerText.includes(text)",
        arg=[card, text],
        timeout=seconds * 1000,
    )


def test_every_card_of_the_page() -> None:
    port = free_port()
    with demo(port), chromium() as page:
        page.goto(f"http://127.0.0.1:{port}/")
        page.click("#chunked button")
        for card in ("ticks", "byhand"):
            page.fill(f"#{card} input", "3")
            page.click(f"#{card} button")
        page.click("#generate button")
        page.click("#download button")
        wait_for(page, "chunked", "done, ")
        assert "".join(lines(page, "chunked")) == (
            '{"token":"The"}{"token":" sky"}{"token":" is"}{"token":" blue"}{"token":"."}'
        )
        wait_for(page, "ticks", "closed by the page")
        assert [line.split()[1] for line in lines(page, "ticks")[:-1]] == ["1", "2", "3"]
        assert lines(page, "ticks")[-1] == "[DONE]"
        wait_for(page, "byhand", "done, ")
        assert [line.split()[:2] for line in lines(page, "byhand")][:3] == [
            ["tick", "1"], ["tick", "2"], ["tick", "3"],
        ]  # fmt: skip
        wait_for(page, "generate", "done, as text/event-stream")
        assert lines(page, "generate") == ["You said: Why is the sky blue?."]
        page.select_option("#generate select", "application/x-ndjson")
        page.click("#generate button")
        wait_for(page, "generate", "done, as application/x-ndjson")
        assert lines(page, "generate") == ["You said: Why is the sky blue?."]
        wait_for(page, "download", "20000000 bytes in")
        assert [line.split()[0] for line in lines(page, "download")] == ["206", "206"]
        page.click("#ws button")
        wait_for(page, "ws", "< hello")
        wait_for(page, "ws", '{"push": 1}')
        page.set_input_files(
            "#upload input", {"name": "a", "mimeType": "text/plain", "buffer": b"abc"}
        )
        page.click("#upload button")
        wait_for(page, "upload", '"bytes": 3')


def test_one_channel_read_four_ways_loses_and_repeats_nothing() -> None:
    """Connections are cut; each reader comes back and goes on from its cursor. (A poll that is cut
    the browser repeats by itself, unseen by the page.)"""
    port = free_port()

    def cell(page: Page, row: int, column: int) -> str:
        return page.locator(
            f"#channel tbody tr:nth-child({row}) td:nth-child({column})"
        ).inner_text()

    with demo(port), chromium() as page:
        page.goto(f"http://127.0.0.1:{port}/")
        page.click("#channel form button")
        for row in (1, 2, 3, 4):
            page.wait_for_function(
                "row => Number(document.querySelector('#channel tbody').rows[row].cells[4].innerText) > 3",
                arg=row - 1,
            )
        seen = [int(cell(page, row, 5)) for row in (1, 2, 3, 4)]
        for _ in range(2):
            for row in (1, 2, 3, 4):
                page.click(f"#channel tbody tr:nth-child({row}) button")
        for row in (1, 2, 3, 4):
            page.wait_for_function(
                """([row, seen]) => {
                    const cells = document.querySelector('#channel tbody').rows[row].cells;
                    const back = row == 2 || cells[1].innerText.includes('cut');
                    return back && Number(cells[4].innerText) > seen + 12;
                }""",
                arg=[row - 1, seen[row - 1]],
            )
        page.click("#channel form button")  # pause
        page.wait_for_function(
            """() => {
                const rows = [...document.querySelector('#channel tbody').rows];
                return new Set(rows.map(row => row.cells[2].innerText)).size === 1
                    && rows.every(row => row.cells[1].innerText.startsWith('open'));
            }"""
        )
        note = page.locator("#channel footer").inner_text()
        assert re.fullmatch(r"published (\d+), acknowledged \d+, lost 0, repeated 0", note)
        assert len({cell(page, row, 4) for row in (1, 2, 3, 4)}) == 1, "all end with the same entry"


def test_two_tabs_poll_the_same_lines() -> None:
    port = free_port()
    with demo(port), chromium() as page:
        page.goto(f"http://127.0.0.1:{port}/")
        other = page.context.new_page()
        other.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_timeout(300)  # both hold a poll
        for text in ("one", "two", "three"):
            page.fill("#poll input", text)
            page.click("#poll button")
            wait_for(other, "poll", text)
        wait_for(page, "poll", "three")
        assert lines(page, "poll") == lines(other, "poll") == ["one", "two", "three"]


def test_the_server_is_killed_and_started_again() -> None:
    port = free_port()
    with chromium() as page:
        with demo(port) as process:
            page.goto(f"http://127.0.0.1:{port}/")
            page.fill("#ticks input", "7")
            page.click("#ticks button")
            wait_for(page, "ws", "open")
            wait_for(page, "ticks", "id 2 ")
            process.kill()
            process.wait()
        wait_for(page, "ticks", "reconnects by itself")
        wait_for(page, "ws", "closed 1006")
        time.sleep(0.5)
        with demo(port):
            wait_for(page, "ticks", "closed by the page")
            assert [line.split()[1] for line in lines(page, "ticks")[:-1]] == list("1234567")
            wait_for(page, "ws", "open")


def test_https_and_wss(certificate: Certificate) -> None:
    port = free_port()
    tls = ("--certfile", str(certificate.certfile), "--keyfile", str(certificate.keyfile))
    with demo(port, *tls), chromium(ignore_https_errors=True) as page:
        page.goto(f"https://127.0.0.1:{port}/")
        wait_for(page, "ws", '{"push": 1}')
        page.fill("#ticks input", "1")
        page.click("#ticks button")
        wait_for(page, "ticks", "closed by the page")


def test_a_foreign_page_opens_no_websocket() -> None:
    port, other = free_port(), free_port() + 1
    with demo(port), demo(other), chromium() as page:
        page.goto(f"http://127.0.0.1:{other}/hello")
        code = page.evaluate(
            """url => new Promise(done => {
                 const socket = new WebSocket(url);
                 socket.onopen = () => done("open");
                 socket.onclose = event => done(event.code);
               })""",
            f"ws://127.0.0.1:{port}/ws",
        )
    assert code == 1006
