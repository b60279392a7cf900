"""Takes the pictures in the README: `python tests/screenshot.py`."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias

from browser import chromium, page_in
from peers import COMMAND, free_port, served

FOLDER = Path(__file__).parent.parent / "examples"
CAPTURE = Path(__file__).parent / "captures" / "events.jsonl"
SECONDS = 8

Scheme: TypeAlias = Literal["light", "dark"]


def take_demo(scheme: Scheme, path: Path) -> None:
    """Read a channel for some seconds, cut two connections, and take a picture of the lanes."""
    port = free_port()
    size = {"width": 1100, "height": 560}
    with (
        served(*COMMAND, "--port", str(port), announced=b"rawstream on"),
        chromium() as browser,
        page_in(browser, viewport=size, color_scheme=scheme) as page,
    ):
        page.goto(f"http://127.0.0.1:{port}/")
        for lane in (0, 3):
            page.wait_for_timeout(SECONDS * 1000 / 3)
            page.locator(".lane button").nth(lane).click()
        page.wait_for_timeout(SECONDS * 1000 / 3)
        page.click("#publishing")
        page.wait_for_timeout(1000)  # until the last entry is acknowledged and at its place
        page.mouse.move(0, 0)
        page.screenshot(path=path)


def take_wire(scheme: Scheme, path: Path) -> None:
    """Point at a byte of an event, and take a picture of the page."""
    size = {"width": 1200, "height": 720}
    with (
        TemporaryDirectory() as folder,
        chromium() as browser,
        page_in(browser, viewport=size, color_scheme=scheme) as page,
    ):
        html = Path(folder) / "wire.html"
        subprocess.run([*COMMAND, "wire", str(CAPTURE), "--html", str(html)], check=True)
        page.goto(html.as_uri())
        page.locator("#piece-3").scroll_into_view_if_needed()
        page.evaluate("document.querySelector('#piece-3').scrollIntoView()")
        page.evaluate("scrollBy(0, -70)")
        page.locator("#piece-3 .element[data-layer=sse] .byte").nth(2).hover()
        page.screenshot(path=path)


LINES = [
    "2026-11-26 13:45:{n:02d},120 INFO shop.http: GET /orders/{n} 200 in {n}1 ms",
    '{{"time": "2026-11-26 13:45:{n:02d},310", "level": "info", "msg": "order placed", "order": {n}}}',
    "\x1b[32m2026-11-26 13:45:{n:02d},430\x1b[0m \x1b[34mDEBUG\x1b[0m cache \x1b[33mmiss\x1b[0m user:{n}",
    "2026-11-26 13:45:{n:02d},502 INFO shop.http: GET /cart 200 in 3{n} ms",
]
TROUBLE = [
    "2026-11-26 13:45:21,733 WARNING shop.db: slow query, 812 ms",
    "2026-11-26 13:45:22,004 ERROR shop.pay: card declined for order 22",
    "Traceback (most recent call last):",
    '  File "pay.py", line 41, in charge',
    "ValueError: declined",
]


def take_logs(scheme: Scheme, path: Path) -> None:
    """Follow a log that is being written, search it, open a line, and take a picture."""
    port, size = free_port(), {"width": 1200, "height": 640}
    with TemporaryDirectory() as folder:
        logs = [Path(folder) / name for name in ("shop.log", "access.log", "worker.log")]
        command = [*COMMAND, "logs", *map(str, logs), "--port", str(port)]
        with (
            served(*command, announced=b"rawstream logs on"),
            chromium() as browser,
            page_in(browser, viewport=size, color_scheme=scheme) as page,
        ):
            page.goto(f"http://127.0.0.1:{port}/")
            for n in range(24):
                new = [line.format(n=n) for line in LINES] + TROUBLE * (n == 22)
                for log in logs:
                    with log.open("a") as file:
                        file.writelines(f"{line}\n" for line in new)
                page.wait_for_timeout(SECONDS * 1000 / 24)
            page.locator("#only").uncheck(force=True)
            page.fill("#search", "order")
            page.locator(".row", has_text="order placed").last.click()
            page.wait_for_timeout(500)
            page.mouse.move(0, 0)
            page.screenshot(path=path)


if __name__ == "__main__":
    schemes: tuple[Scheme, ...] = ("light", "dark")
    for scheme in schemes:
        take_demo(scheme, FOLDER / f"demo-{scheme}.png")
        take_wire(scheme, FOLDER / f"wire-{scheme}.png")
        take_logs(scheme, FOLDER / f"logs-{scheme}.png")
