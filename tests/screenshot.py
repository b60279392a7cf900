"""Takes the pictures of the demo in the README: `python tests/screenshot.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from browser import chromium
from peers import COMMAND, free_port, served

FOLDER = Path(__file__).parent.parent / "examples"
SIZE = {"width": 1100, "height": 530}
SECONDS = 6


def take(scheme: Literal["light", "dark"], path: Path) -> None:
    """Read a channel for some seconds, cut two connections, and take a picture of the card."""
    port = free_port()
    with (
        served(*COMMAND, "--port", str(port), announced=b"rawstream on"),
        chromium(viewport=SIZE, color_scheme=scheme) as page,
    ):
        page.goto(f"http://127.0.0.1:{port}/")
        page.click("#channel form button")
        for row in (1, 4):
            page.wait_for_timeout(SECONDS * 1000 / 3)
            page.click(f"#channel tbody tr:nth-child({row}) button")
        page.wait_for_timeout(SECONDS * 1000 / 3)
        page.click("#channel form button")
        page.wait_for_timeout(SECONDS * 1000 / 3)  # until the last entry is acknowledged
        page.mouse.move(0, 0)
        page.screenshot(path=path)


if __name__ == "__main__":
    take("light", FOLDER / "demo-light.png")
    take("dark", FOLDER / "demo-dark.png")
