"""The course of a training run as curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PANELS = {
    "score": ("score", "label_fidelity", "class_diversity", "closeness", "usefulness"),
    "loss": ("loss", "D_loss", "G_loss"),
    "discriminator's score": ("D(x)", "D(G(z))_before", "D(G(z))_after"),
    "relative diversity": ("diversity",),
    "accuracy of D": ("accuracy_real", "accuracy_fake", "class_accuracy_real", "class_accuracy_fake"),
}


def training_curves(rows: Sequence[Mapping[str, float]], *, chosen: float | None) -> Any:
    """A matplotlib figure of monitors and scores against kimg.

    Args:
        rows (sequence of dict): lines of ``metrics.jsonl``.
        chosen (float, optional): kimg of the generator that was chosen, which is marked.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    logged = {name for row in rows for name in row}
    panels = {title: [name for name in names if name in logged] for title, names in PANELS.items()}
    panels = {title: names for title, names in panels.items() if names}
    figure = Figure(figsize=(8, 1 + 2 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (title, names) in zip(grid, panels.items(), strict=True):
        for name in names:
            points = [(row["kimg"], row[name]) for row in rows if name in row]
            width = 2.4 if name == "score" else 1.2
            axes.plot(
                *zip(*points, strict=True), label=name, linewidth=width, marker="." if len(points) < 30 else None
            )
        if chosen is not None:
            axes.axvline(chosen, color="black", linestyle="--", linewidth=1)
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    if chosen is not None:
        grid[0].set_title(f"the dashed line: chosen, after {chosen:g} kimg", fontsize="medium", loc="left")
    axes.set_xlabel("kimg (thousands of real images shown)")
    return figure
