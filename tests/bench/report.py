"""The page that a run writes: tables, what they say in words, and the lines for the README."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from shared import FLOORS, NCHAN, RAWSTREAM, UVICORN_H11

COMPARED = {
    "cheaper": ("cheapest", "more expensive", "most expensive"),
    "faster": ("fastest", "slower", "slowest"),
    "smaller": ("smallest", "larger", "largest"),
}
"""The words for a figure that is lower, lowest, higher and highest."""

NOT_MEASURED = "-"

TOLERANCE = 0.05
SAME = f"within {TOLERANCE:.0%}"
"""What is said of figures that differ by less than this share."""

HEADLINES = {
    "fan-out-5000": "fan-out to 5,000 event streams, 50 messages a second: {} µs of CPU per delivery",
    "echo": "echo on 64 WebSockets, one message in flight on each: {} µs of CPU per message",
    "memory": "an idle event stream: {} KiB of memory",
    "get": "plain GET on 32 connections: {} µs of CPU per request",
    "http2-get": "plain GET over HTTP/2, 10 in flight on 8 connections: {} µs of CPU per request",
}
"""The lines under "In short", by the key of their column."""

MEANING = """\
- CPU is the time, user and system, of the server's process in microseconds, divided by the number
  of requests, messages or deliveries. One message to one reader is a delivery.
- The ratio is to the floor. The floor does the same work on Trio with nothing around it.
- A server can cost less than the floor if it batches its writes, or reads and writes without Trio's
  scheduler. The floor writes each message to each reader separately. One core cannot do that 50
  times a second for 5,000 readers.
- Servers run on one core and the load on the other. The servers of a workload take turns, so that
  other work on the machine affects all of them equally. For requests and echoes each server is
  started three times.
- Figures of different runs or machines cannot be compared.
"""


@dataclass(frozen=True)
class Column:
    """One figure of every server in a workload."""

    unit: str
    values: Mapping[str, float]
    digits: int = 1
    title: str = ""
    """The condition, in a table with the same unit under two conditions."""
    better: str = "cheaper"
    """The word for a lower figure, from `COMPARED`."""
    key: str = ""
    """Its name in `HEADLINES` and in the picture."""

    @property
    def heading(self) -> str:
        return f"{self.unit}, {self.title}" if self.title else self.unit

    @property
    def floor(self) -> float | None:
        return next((self.values[name] for name in FLOORS if name in self.values), None)

    @property
    def peers(self) -> list[str]:
        """The other servers, the one with the lowest figure first."""
        peers = [name for name in self.values if name not in (*FLOORS, RAWSTREAM)]
        return sorted(peers, key=lambda name: self.values[name])

    def cells(self, name: str) -> Iterator[str]:
        value = self.values.get(name)
        yield NOT_MEASURED if value is None else f"{value:,.{self.digits}f}"
        if self.floor:
            yield NOT_MEASURED if value is None else f"{value / self.floor:.2f}"

    def comparison(self) -> str:
        """Say how rawstream compares with the cheapest and with the most expensive of its peers."""
        lowest, _, highest = COMPARED[self.better]
        if len(self.peers) == 1:
            return self._compared(self.peers[0], "")
        first = self._compared(self.peers[0], f"the {lowest} peer")
        return f"{first} {self._compared(self.peers[-1], f'the {highest} peer')}"

    def _compared(self, peer: str, role: str) -> str:
        ratio = self.values[peer] / self.values[RAWSTREAM]
        group = self.group(peer)
        if group == self.better:
            subject = f"{peer}, {role}," if role else peer
            return f"{subject} is {times(1 / ratio)} {self.better} than rawstream."
        subject = f"{role}, {peer}" if role else peer
        if group == SAME:
            return f"rawstream is {SAME} of {subject}."
        return f"rawstream is {times(ratio)} {self.better} than {subject}."

    def group(self, peer: str) -> str:
        """Return whether a peer is, say, cheaper than rawstream, more expensive, or the same."""
        ratio = self.values[peer] / self.values[RAWSTREAM]
        if 1 - TOLERANCE < ratio < 1 + TOLERANCE:
            return SAME
        return self.better if ratio < 1 else COMPARED[self.better][1]


@dataclass(frozen=True)
class Section:
    """A workload: how it is measured, and its table."""

    heading: str
    text: str
    columns: Sequence[Column]
    note: str = ""

    def __str__(self) -> str:
        lines = [
            self.comparison(column)
            for column in self.columns
            if column.peers and RAWSTREAM in column.values
        ]
        parts = [f"## {self.heading}", self.text, self.table(), "\n".join(lines), self.note]
        return "\n\n".join(filter(None, parts))

    def comparison(self, column: Column) -> str:
        if len(self.columns) == 1:
            return column.comparison()
        return f"- {column.title or column.unit}: {column.comparison()}"

    def table(self) -> str:
        """A row a server: the floor, then the others, those with the lowest figures first."""
        rows = [["server"], ["---"]]
        for column in self.columns:
            headings = [column.heading, "ratio"] if column.floor else [column.heading]
            rows[0] += headings
            rows[1] += ["---:"] * len(headings)
        for name in self.servers():
            label = {RAWSTREAM: "**rawstream**"}.get(name, name)
            row = [f"floor: {name}" if name in FLOORS else label]
            for column in self.columns:
                row += column.cells(name)
            rows.append(row)
        return "\n".join("| " + " | ".join(row) + " |" for row in rows)

    def servers(self) -> list[str]:
        first = self.columns[0].values
        names = dict.fromkeys(name for column in self.columns for name in column.values)
        return sorted(names, key=lambda name: (name not in FLOORS, first.get(name, inf)))


@dataclass(frozen=True)
class Run:
    """Where, when and with what the figures were made."""

    command: str
    date: str
    machine: str
    versions: str


def page(run: Run, sections: Sequence[Section], pictures: Sequence[str] = ()) -> str:
    """Return the whole page. The pictures are for a light and for a dark page."""
    parts = [
        "# Benchmark results",
        f"Made by `{run.command}` on {run.date}. Do not edit this page: run the command again.",
        f"- Machine: {run.machine}.\n- Versions: {run.versions}.",
    ]
    if lines := headlines(sections):
        parts += ["## In short", "\n".join(lines)]
    if pictures:
        light, dark = pictures
        parts.append(
            f'<picture>\n  <source media="(prefers-color-scheme: dark)" srcset="{dark}">\n'
            f'  <img alt="CPU of rawstream and other servers in four workloads" src="{light}">\n'
            "</picture>"
        )
    parts += ["## What the figures mean", MEANING.strip(), *map(str, sections)]
    return "\n\n".join(parts) + "\n"


def headlines(sections: Sequence[Section]) -> list[str]:
    """Return the lines under "In short", one a workload that was measured."""
    found = {column.key: column for section in sections for column in section.columns}
    return [_headline(found[key], text) for key, text in HEADLINES.items() if key in found]


def _headline(column: Column, text: str) -> str:
    groups: dict[str, list[str]] = {}
    for peer in column.peers:
        if peer != UVICORN_H11:  # the faster uvicorn stands for both
            group = column.group(peer).capitalize()
            groups.setdefault(group, []).append(f"{short(peer)} {brief(column.values[peer])}")
    sentences = [f"{text.format(brief(column.values[RAWSTREAM]))}."]
    sentences += [f"{group}: {', '.join(peers)}." for group, peers in groups.items()]
    return "- " + " ".join(sentences)


def times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:,.0f} times"


def brief(value: float) -> str:
    """Return two or three significant digits."""
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def short(name: str) -> str:
    """Return the name of a server without what it runs on."""
    return name if name == NCHAN else name.partition(" (")[0]
