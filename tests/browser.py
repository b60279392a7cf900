"""A browser to look at pages with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from peers import program
from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

GENTLY = "nice"
if os.geteuid() == 0 and shutil.which("setpriv"):
    GENTLY += " setpriv --bounding-set=-sys_nice"  # else root's Chromium puts itself before others


WITHOUT = "WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup"
"""Features of Chromium: the lists below its address bar are pages, too, and loading them for each
new context, where nobody sees them, takes twice as long as all else."""

GENTLE = """#!/bin/sh
# Of several --disable-features Chromium takes the last, so ours go into Playwright's.
for argument do
  shift
  case $argument in --disable-features=*) argument=$argument,%s ;; esac
  set -- "$@" "$argument"
done
exec %s %s "$@"
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Headless Chromium, which gives way: what runs beside it is not late because of it."""
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        gentle = Path(folder) / "chromium"
        gentle.write_text(GENTLE % (WITHOUT, GENTLY, program("chromium")))
        gentle.chmod(0o755)
        browser = playwright.chromium.launch(executable_path=gentle, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def prompt(browser: Browser) -> Iterator[Browser]:
    """One beside it that does not give way: for what is measured in a page itself."""
    other = browser.browser_type.launch(executable_path=program("chromium"), args=ARGUMENTS)
    try:
        yield other
    finally:
        other.close()


@contextmanager
def page_in(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page that knows nothing of those before it. Its scripts must not fail."""
    context = browser.new_context(**options)
    errors: list[str] = []
    try:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    finally:
        context.close()
    assert errors == []


def serious(page: Page) -> list[str]:
    """What axe-core finds that keeps people from using the page."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:100]}"
        for rule in found
        for node in rule["nodes"]
        if rule["impact"] in ("serious", "critical")
    ]


def width_of(page: Page) -> int:
    width: int = page.evaluate("document.documentElement.scrollWidth")
    return width


def milliseconds_of_steps(page: Page, script: str, steps: int) -> list[float]:
    """The CPU time that the page takes for each call of an async function with the number of the
    step, in order of size. (Time on the clock would tell how busy the machine is.)"""
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable", {"timeDomain": "threadTicks"})

    def so_far() -> float:
        metrics = cdp.send("Performance.getMetrics")["metrics"]
        return next(1000 * float(m["value"]) for m in metrics if m["name"] == "TaskDuration")

    taken = []
    for step in range(steps):
        before = so_far()
        page.evaluate(script, step)
        taken.append(so_far() - before)
    return sorted(taken)
