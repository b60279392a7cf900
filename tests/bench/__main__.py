"""The benchmark: `python tests/bench` measures rawstream and other servers.

It prints a page of Markdown with one section a workload, then the lines for the README.
Every workload is measured for all servers in the same run, and for a floor: the same work on
Trio with nothing around it.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import load
import machine
import picture
import redis_workloads
import report
import workloads
from shared import BEFORE, PEERS

PAGE, LIGHT, DARK = "RESULTS.md", "results-light.svg", "results-dark.svg"


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests/bench", description=__doc__)
    parser.add_argument("workload", nargs="*", help=f"{', '.join(WORKLOADS)}; all by default")
    parser.add_argument("--rounds", type=int, default=3, help="more are steadier (default: 3)")
    parser.add_argument(
        "--clients", type=int, default=5000, help="of joins, arrivals and memory (default: 5000)"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--write", metavar="FOLDER", type=Path, help=f"write {PAGE}, {LIGHT} and {DARK} there"
    )
    output.add_argument(
        "--before", metavar="FOLDER", help="measure against this earlier checkout, not the peers"
    )
    options = parser.parse_args()
    for name in options.workload:
        if name not in WORKLOADS:
            parser.error(f"there is no workload {name!r}")
    if options.write and not options.write.is_dir():
        parser.error(f"there is no folder {options.write}")
    if options.before:
        if not Path(options.before, "rawstream", "__init__.py").exists():
            parser.error(f"there is no checkout of rawstream in {options.before}")
        load.checkout_before = str(Path(options.before).resolve())
        options.peers = [BEFORE]
    else:
        options.peers = machine.installed_peers()
        for name in PEERS:
            if name not in options.peers:
                print(f"not installed, left out: {name}", file=sys.stderr)
    os.sched_setaffinity(0, {load.LOAD_CORE})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sections = []
    for name in options.workload or WORKLOADS:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        sections += WORKLOADS[name](options)
    show(sections, options.write)


def show(sections: list[report.Section], folder: Path | None) -> None:
    """Print the page and the lines for the README; write the page and its pictures, too."""
    measured = [name for section in sections for name in section.servers()]
    run = report.Run(
        command=shlex.join(["python", "tests/bench", *sys.argv[1:]]),
        date=date.today().isoformat(),
        machine=machine.description(),
        versions=machine.versions(measured),
    )
    panels = picture.panels(sections)
    pictures = (LIGHT, DARK) if panels and folder else ()
    page = report.page(run, sections, pictures)
    if folder:
        (folder / PAGE).write_text(page)
        for name in pictures:
            (folder / name).write_text(picture.draw(panels, dark=name == DARK))
    print(page)
    print(*report.headlines(sections), sep="\n")


WORKLOADS: dict[str, Callable[[argparse.Namespace], list[report.Section]]] = {
    "get": lambda o: workloads.plain_get(o.peers, o.rounds),
    "post": lambda o: workloads.post(o.peers, o.rounds),
    "stream": lambda o: workloads.stream(o.peers, o.rounds),
    "echo": lambda o: workloads.echo(o.peers, o.rounds),
    "fan-out": lambda o: workloads.fan_out(o.peers, 500, o.rounds),
    "fan-out-5000": lambda o: workloads.fan_out(o.peers, 5000, max(1, o.rounds // 2)),
    "joins": lambda o: workloads.joins(o.peers, o.clients, o.rounds),
    "arrivals": lambda o: workloads.arrivals(o.peers, o.clients),
    "memory": lambda o: workloads.idle_memory(o.peers, o.clients),
    "http2": lambda o: workloads.http2(o.peers, o.rounds),
    "redis": lambda o: redis_workloads.on_redis(o.rounds),
    "10000": lambda o: workloads.ten_thousand(),
}

if __name__ == "__main__":
    main()
