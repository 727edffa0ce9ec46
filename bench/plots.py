"""Pictures of what was measured: `python -m bench.plots RESULTS FOLDER`. Needs matplotlib, which nothing else does."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

# Readable on white and on black.
_INK, _OURS, _THEIRS = "#808890", "#3b82c4", "#b9a58a"
mpl.rcParams.update(
    {
        **{f"{part}.color": _INK for part in ("text", "xtick", "ytick")},
        **{f"axes.{part}": _INK for part in ("edgecolor", "labelcolor")},
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 10,
        # The same picture from the same figures.
        "svg.hashsalt": "klamala",
        "svg.fonttype": "none",
    }
)
ROUTES = {"refine-1k": "/refine", "token": "/token", "log-request": "/log-request"}


def bars(axes: Any, title: str, values: Mapping[str, float], unit: str) -> None:
    """One horizontal bar for each, the first on top, with its figure behind it."""
    names = list(values)[::-1]
    colours = [_OURS if name.startswith("klamala") else _THEIRS for name in names]
    drawn = axes.barh(names, [values[name] for name in names], color=colours)
    axes.bar_label(drawn, fmt="{:,.3g}" if max(values.values()) < 100 else "{:,.0f}", padding=3, color=_INK)
    axes.set_title(title, loc="left", color=_INK)
    axes.set_xlabel(unit)
    axes.margins(x=0.15)


def save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)


def main(results: str, folder: str) -> None:
    """Draw `cold.svg`, `warm.svg` and `load.svg` of what is in the results."""
    found = json.loads(Path(results).read_text("utf-8"))
    images = Path(folder)
    if "cold" in found:
        figure, axes = plt.subplots(len(found["cold"]), 1, figsize=(8, 9), sharex=True)
        for each, one in zip(found["cold"], axes, strict=True):
            values = {name: ms["median"] for name, ms in each["ms"].items()}
            bars(one, f"Start to the first {ROUTES[each['event']]}", values, "milliseconds")
        save(figure, images / "cold.svg")
    if "warm" in found:
        figure, axes = plt.subplots(len(found["warm"]), 1, figsize=(8, 6))
        for each, one in zip(found["warm"], axes, strict=True):
            values = {name: ms["median"] for name, ms in each["cpu_ms"].items()}
            bars(one, f"A warm /refine of {each['size'].upper()}B", values, "milliseconds of processor")
        save(figure, images / "warm.svg")
    if "load" in found:
        figures = found["load"]["figures"]
        kinds = sorted({(each["upstream_ms"], each["concurrency"]) for each in figures})
        figure, axes = plt.subplots(len(kinds), 1, figsize=(8, 10))
        for (upstream, many), one in zip(kinds, axes, strict=True):
            values = {
                each["case"]: each["requests_per_second"]
                for each in figures
                if (each["upstream_ms"], each["concurrency"]) == (upstream, many)
            }
            bars(one, f"{many} at once, the model answers after {upstream} ms", values, "requests a second")
        save(figure, images / "load.svg")


if __name__ == "__main__":
    main(*sys.argv[1:])
