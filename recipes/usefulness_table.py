"""The results of benchmark_usefulness.py as a table and a plot."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

from results import spread


def table(results: dict[str, Any]) -> str:
    """Markdown table of results."""
    lines = [
        "| real images | generator trained on | steps | best without generated images | with them, at ratio "
        "| difference, points [95 % interval] | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in results["rows"].values():
        scores, gain = found["scores"], found["difference"]
        lines.append(
            f"| {found['name']} | {found['generator_from']}, {found['kimg']:g} kimg "
            f"| {found['steps']:,} of {found['batch_size']} "
            f"| {found['best_without']}: {spread(scores[found['best_without']])} "
            f"| {spread(scores[found['with']])} at {found['ratio']:g} "
            f"| **{100 * gain['estimate']:+.1f}** [{100 * gain['low']:.1f}, {100 * gain['high']:.1f}] "
            f"| {found['outcome']} |"
        )
    return "\n".join(lines)


def plot(results: dict[str, Any], path: Path) -> None:
    """Differences with their intervals, one line for each setting."""
    from matplotlib.figure import Figure

    rows = list(results["rows"].values())
    figure = Figure(figsize=(8, 0.75 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    for y, found in enumerate(rows):
        low, middle, high = (100 * found["difference"][key] for key in ("low", "estimate", "high"))
        axes.errorbar(middle, y, xerr=[[middle - low], [high - middle]], fmt="o", color="C0", capsize=3)
    axes.axvline(0, color="grey", linewidth=1)
    names = [f"{fill(found['name'], 44)}\n(generator: {found['generator_from']})" for found in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set_xlabel("gain by generated images, points")
    figure.savefig(path, dpi=110)
