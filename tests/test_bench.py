"""The page and the picture that the benchmark writes, from figures made up here."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.append(str(Path(__file__).parent / "bench"))

import picture
import report
import shared
from report import Column, Section
from shared import AIOHTTP, BEFORE, HYPERCORN, LOOP, NCHAN, RAWSTREAM, SEND, UVICORN, UVICORN_H11

RUN = report.Run("python tests/bench", "2026-01-02", "a machine", "rawstream 1")
SERVERS = (LOOP, RAWSTREAM, *shared.PEERS)

GET = {LOOP: 80.0, RAWSTREAM: 90.0, UVICORN: 25.4, AIOHTTP: 31.75, HYPERCORN: 288.0}
FAN_OUT = {SEND: 8.57, RAWSTREAM: 5.78, UVICORN: 21.03, UVICORN_H11: 25.13, NCHAN: 10.92}
MEMORY = {RAWSTREAM: 8.1, AIOHTTP: 8.0, UVICORN: 0.5}

SECTIONS = [
    Section("Plain GET", "How.", [Column("µs of CPU per request", GET, key="get")]),
    Section(
        "Fan-out",
        "How.",
        [
            Column("µs per delivery", FAN_OUT, digits=2, title="50/s", key="fan-out-5000"),
            Column("µs per delivery", FAN_OUT, digits=2, title="in bursts"),
        ],
    ),
    Section("Memory", "How.", [Column("KiB a client", MEMORY, better="smaller", key="memory")]),
]


def comparison(better: str = "cheaper", **figures: float) -> str:
    """What is said of rawstream with a figure of 10 and of these peers."""
    return Column("µs", {LOOP: 5, RAWSTREAM: 10, **figures}, better=better).comparison()


def tables(page: str) -> list[list[list[str]]]:
    """The cells of every row of every table of a page."""
    found = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    return [[row[2:-2].split(" | ") for row in table.splitlines()] for table in found]


def test_a_table_has_a_row_for_each_server_that_was_measured_sorted_after_the_floor() -> None:
    get, fan_out, memory = tables(report.page(RUN, SECTIONS))
    assert get == [
        ["server", "µs of CPU per request", "ratio"],
        ["---", "---:", "---:"],
        [f"floor: {LOOP}", "80.0", "1.00"],
        [UVICORN, "25.4", "0.32"],
        [AIOHTTP, "31.8", "0.40"],
        ["**rawstream**", "90.0", "1.12"],
        [HYPERCORN, "288.0", "3.60"],
    ]
    assert fan_out[0] == [
        "server", "µs per delivery, 50/s", "ratio", "µs per delivery, in bursts", "ratio",
    ]  # fmt: skip
    assert fan_out[3] == ["**rawstream**", "5.78", "0.67", "5.78", "0.67"]
    assert [row[0] for row in memory[2:]] == [UVICORN, AIOHTTP, "**rawstream**"]


def test_tables_have_no_empty_cells_and_fit_into_a_page() -> None:
    every = dict.fromkeys(SERVERS, 1234.567)
    some = {name: 1.0 for name in SERVERS if name != AIOHTTP}
    columns = [
        Column("µs per delivery", every, digits=2, title="50/s"),
        Column("µs per delivery", some, digits=2, title="in bursts"),
    ]
    for table in tables(report.page(RUN, [Section("Wide", "How.", columns), *SECTIONS])):
        width = len(table[0])
        assert width <= 5
        for row in table:
            assert len(row) == width
            assert all(cell.strip() for cell in row)
        cells = [max(len(row[column]) for row in table) for column in range(width)]
        assert sum(8 * cell + 26 for cell in cells) <= 838  # GitHub's characters and padding


def test_a_comparison_names_the_cheapest_and_the_most_expensive_peer() -> None:
    assert comparison(aiohttp=21, hypercorn=340, uvicorn=50) == (
        "rawstream is 2.1 times cheaper than the cheapest peer, aiohttp. "
        "rawstream is 34 times cheaper than the most expensive peer, hypercorn."
    )


def test_a_comparison_says_as_plainly_that_a_peer_is_cheaper() -> None:
    assert comparison(aiohttp=4, uvicorn=5) == (
        "aiohttp, the cheapest peer, is 2.5 times cheaper than rawstream. "
        "uvicorn, the most expensive peer, is 2.0 times cheaper than rawstream."
    )
    assert comparison("smaller", aiohttp=4) == "aiohttp is 2.5 times smaller than rawstream."


@pytest.mark.parametrize("figure", [9.6, 10, 10.4])
def test_a_comparison_calls_no_difference_that_may_be_noise(figure: float) -> None:
    assert comparison("faster", aiohttp=figure, uvicorn=20) == (
        "rawstream is within 5% of the fastest peer, aiohttp. "
        "rawstream is 2.0 times faster than the slowest peer, uvicorn."
    )


def test_an_earlier_checkout_is_compared_as_the_peers_are() -> None:
    before = Column("µs", {LOOP: 5, RAWSTREAM: 10, BEFORE: 12}, key="get")
    assert before.comparison() == f"rawstream is 1.2 times cheaper than {BEFORE}."
    [line] = report.headlines([Section("Plain GET", "How.", [before])])
    assert line.endswith(f"10.0 µs of CPU per request. More expensive: {BEFORE} 12.0.")


def test_a_workload_without_peers_compares_nothing() -> None:
    alone = Section("Alone", "How.", [Column("ms", {RAWSTREAM: 1.0})], "A note.")
    assert str(alone) == (
        "## Alone\n\nHow.\n\n| server | ms |\n| --- | ---: |\n| **rawstream** | 1.0 |\n\nA note."
    )


def test_the_lines_in_short_name_all_peers_and_stand_at_the_top_of_the_page() -> None:
    lines = report.headlines(SECTIONS)
    assert lines == [
        "- fan-out to 5,000 event streams, 50 messages a second: 5.8 µs of CPU per delivery. "
        "More expensive: nginx with nchan (C) 10.9, uvicorn 21.",
        "- an idle event stream: 8.1 KiB of memory. Smaller: uvicorn 0.50. Within 5%: aiohttp 8.0.",
        "- plain GET on 32 connections: 90 µs of CPU per request. Cheaper: uvicorn 25, aiohttp 32. "
        "More expensive: hypercorn 288.",
    ]
    page = report.page(RUN, SECTIONS)
    assert re.findall(r"^## (.*)\n\n((?:- .*\n)*)", page, re.MULTILINE)[0] == (
        "In short",
        "\n".join(lines) + "\n",
    )
    assert report.headlines([]) == []


def test_the_page_begins_with_where_its_figures_are_from() -> None:
    page = report.page(RUN, SECTIONS, ("light.svg", "dark.svg"))
    for fact in (RUN.command, RUN.date, RUN.machine, RUN.versions):
        assert fact in page.partition("## In short")[0]
    assert 'srcset="dark.svg"' in page
    assert 'src="light.svg"' in page


@pytest.mark.parametrize("dark", [False, True])
def test_the_picture_is_small_has_text_and_is_the_same_for_the_same_figures(dark: bool) -> None:
    columns = [Column("µs", GET | FAN_OUT, key=key) for key in picture.PANELS]
    drawn = picture.draw(columns, dark=dark)
    assert drawn == picture.draw(columns, dark=dark) != picture.draw(columns, dark=not dark)
    assert len(drawn.encode()) < 10_000
    texts = [element.text for element in ElementTree.fromstring(drawn).iter()]
    assert {text for panel in picture.PANELS.values() for text in panel} <= set(texts)
    assert set(picture.ROWS.values()) <= set(texts)
    assert texts.count("5.8") == len(picture.PANELS)


def test_the_picture_cuts_off_long_bars_and_names_what_is_missing() -> None:
    get = Column("µs", {RAWSTREAM: 1, HYPERCORN: 50}, key="get")
    echo = Column("µs", {RAWSTREAM: 1, AIOHTTP: 2}, key="echo")
    drawn = picture.draw([get, echo], dark=False)
    assert drawn.count("not measured") == 2
    [cut] = re.findall(r"<path [^>]*l-8 [^>]*>", drawn)
    assert f"h{picture.BAR - 18:.1f}" in cut
    assert "nginx" not in drawn


def test_the_picture_shows_the_panels_that_were_measured() -> None:
    assert [column.key for column in picture.panels(SECTIONS)] == ["get", "fan-out-5000"]
    assert picture.panels([]) == []
