"""The picture of a run: a row a server and a panel a workload, as SVG written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from report import Column, Section, brief
from shared import AIOHTTP, HYPERCORN, NCHAN, RAWSTREAM, UVICORN

PANELS = {
    "get": ("plain GET", "32 connections"),
    "echo": ("WebSocket echo", "1 in flight"),
    "fan-out-500": ("fan-out to 500", "50 messages/s"),
    "fan-out-5000": ("fan-out to 5,000", "50 messages/s"),
}
"""The two lines above each panel, by the key of its column."""

ROWS = {
    RAWSTREAM: "rawstream",
    UVICORN: "uvicorn, uvloop",
    AIOHTTP: "aiohttp",
    HYPERCORN: "hypercorn",
    NCHAN: "nginx + nchan (C)",
}

LONGEST = 5
"""A bar longer than this many times rawstream's is cut off."""

TOP, ROW, LEFT, BAR, PANEL, BAR_HEIGHT = 88, 33, 168, 112, 168, 20
WIDTH = LEFT + PANEL * len(PANELS)
FONT = "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"
LIGHT = {"text": "#1f2328", "muted": "#59636e", "ours": "#0a7a66", "peer": "#7d8793"}
DARK = {"text": "#f0f6fc", "muted": "#9198a1", "ours": "#35c2a1", "peer": "#6e7681"}


def panels(sections: Iterable[Section]) -> list[Column]:
    """Return the columns that the picture shows."""
    found = {column.key: column for section in sections for column in section.columns}
    return [found[key] for key in PANELS if key in found]


def draw(columns: Sequence[Column], *, dark: bool) -> str:
    """Draw the columns on a transparent background, for a light or for a dark page."""
    rows = [name for name in ROWS if any(name in column.values for column in columns)]
    parts = [_text(0, 18, "µs of CPU per request, message or delivery; less is better", "muted")]
    for row, name in enumerate(rows):
        weight = "name ours" if name == RAWSTREAM else "name"
        parts.append(_text(LEFT - 10, _baseline(row), ROWS[name], weight))
    for number, column in enumerate(columns):
        left = LEFT + PANEL * number
        heading, condition = PANELS[column.key]
        parts += [_text(left, 50, heading, "heading"), _text(left, 70, condition, "muted")]
        shown = [column.values[name] for name in rows if name in column.values]
        scale = BAR / min(max(shown), LONGEST * column.values[RAWSTREAM])
        for row, name in enumerate(rows):
            if name not in column.values:
                parts.append(_text(left, _baseline(row), "not measured", "muted"))
                continue
            kind = "ours" if name == RAWSTREAM else "peer"
            width = column.values[name] * scale
            parts.append(_bar(left, TOP + ROW * row, min(width, BAR), kind, cut=width > BAR + 1))
            value = brief(column.values[name])
            weight = "ours" if name == RAWSTREAM else ""
            parts.append(_text(left + min(width, BAR) + 6, _baseline(row), value, weight))
    height = TOP + ROW * len(rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}">\n<style>{_style(DARK if dark else LIGHT)}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _baseline(row: int) -> int:
    return TOP + ROW * row + 16


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def _bar(x: float, y: float, width: float, kind: str, *, cut: bool) -> str:
    """Draw a bar. A slanted gap near its end says that it is cut off."""
    if not cut:
        return f'<path class="{kind}" d="M{x:.1f} {y}h{width:.1f}v{BAR_HEIGHT}h-{width:.1f}z"/>'
    return (
        f'<path class="{kind}" d="M{x:.1f} {y}h{width - 18:.1f}l-8 {BAR_HEIGHT}h-{width - 26:.1f}z'
        f'm{width - 12:.1f} 0h12v{BAR_HEIGHT}h-20z"/>'
    )


def _style(colours: dict[str, str]) -> str:
    return (
        f"text{{font:17px {FONT};fill:{colours['text']}}}"
        f"text.muted{{font-size:15px;fill:{colours['muted']}}}"
        "text.heading,text.ours{font-weight:600}text.heading{font-size:16px}text.name{text-anchor:end}"
        f"path.ours{{fill:{colours['ours']}}}path.peer{{fill:{colours['peer']}}}"
    )
