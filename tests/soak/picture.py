"""The course of a soak as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tests.soak.sample import PROCESSES, Row

_PANELS = {
    "resident memory, MB": [f"{name}_resident_mb" for name in PROCESSES],
    "memory of its own, MB": [f"{name}_own_mb" for name in PROCESSES],
    "open descriptors": [f"{name}_descriptors" for name in PROCESSES],
    "threads": [f"{name}_threads" for name in PROCESSES],
    "spooled to acked, ms": ["ack_p50_ms", "ack_p99_ms"],
    "store, bytes": ["store_bytes"],
}


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write a PNG with one panel per kind of figure over the minutes of the run."""
    figure = Figure(figsize=(12, 9), layout="constrained")
    FigureCanvasAgg(figure)
    minutes = [row["at_s"] / 60 for row in rows]
    for axes, (title, names) in zip(figure.subplots(3, 2).flat, _PANELS.items(), strict=True):
        for name in names:
            axes.plot(minutes, [row[name] for row in rows], label=name, linewidth=1)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("minutes", fontsize=8)
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)
