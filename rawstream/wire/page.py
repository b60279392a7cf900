"""The page that shows the wire in a browser: one HTML file without anything from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from .records import described_terms

RECORDS_HERE = "<!-- records -->"
"""In the page: where the records of a recording stand."""

RECORDS_A_SCRIPT = 500
"""The page takes one script element apart at a time, and stays responsive in between."""

_FOLDER = Path(__file__).parent


@cache
def live_page() -> bytes:
    """The page that reads the records as they are made, from `wire/events`."""
    page = _read("page.html")
    for name in ("view.css", "view.js", "page.js"):
        page = page.replace(f"{{{name}}}", _read(name), 1)
    return page.replace("{terms}", in_script(described_terms()), 1).encode()


def kept_page(records: Iterable[dict[str, Any]]) -> Iterable[str]:
    """The page with these records in it, in parts."""
    before, mark, behind = live_page().decode().partition(RECORDS_HERE)
    yield before
    remaining = iter(records)
    is_first = True
    while (some := list(islice(remaining, RECORDS_A_SCRIPT))) or is_first:
        lines = "\n".join(map(in_script, some))
        yield f'<script type="application/x-ndjson" class="records">{lines}</script>\n'
        is_first = False
    yield mark + behind


@cache
def view_script() -> str:
    """The script of the ladder, for other pages."""
    return _read("view.js")


@cache
def view_style() -> str:
    """The style of the ladder."""
    return _read("view.css")


def in_script(value: object) -> str:
    """JSON that may stand in a script element: nothing in it ends the element."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def _read(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8")
