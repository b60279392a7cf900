"""The picture of a run: one bar a server, one panel a workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

OURS, FLOOR, PEER = "#0b6e5f", "#9aa5a0", "#d8a657"


def draw(panels: Mapping[str, Mapping[str, float]], floors: Sequence[str], path: Path) -> None:
    """Draw ratios to the floor, panel by panel; smaller is better."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "rawstream"  # the same figures, the same file
    from matplotlib import pyplot

    columns = 2
    rows = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(11, 2.1 * rows), squeeze=False)
    for axis in axes.flat:
        axis.set_visible(False)
    for axis, (title, values) in zip(axes.flat, panels.items(), strict=False):
        names = list(values)[::-1]
        colors = [
            OURS if name.startswith("rawstream") else FLOOR if name in floors else PEER
            for name in names
        ]
        bars = axis.barh(names, [values[name] for name in names], color=colors)
        axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
        axis.set_visible(True)
        axis.set_title(title, fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
        axis.margins(x=0.12)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle("CPU of the server, as a ratio to a bare loop on Trio (less is better)")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
