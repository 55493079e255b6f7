"""The course of a training run as a picture."""

from __future__ import annotations

import json

from ganaug.files import atomic_path
from ganaug.training.run_folder import RunFolder

PANELS = {
    "losses": ("loss", "D_loss", "G_loss"),
    "discriminator's score": ("D(x)", "D(G(z))_before", "D(G(z))_after"),
    "diversity of a class, relative to real images": ("diversity",),
    "discriminator's accuracy": ("accuracy_real", "accuracy_fake", "class_accuracy_real", "class_accuracy_fake"),
}


def loss_curves(folder: RunFolder) -> None:
    """Plot the monitors in ``training/metrics.jsonl`` against kimg, as ``training/losses.png``.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in (folder.training / "metrics.jsonl").read_text().splitlines()]
    logged = {name for row in rows for name in row}
    panels = {title: [name for name in names if name in logged] for title, names in PANELS.items()}
    panels = {title: names for title, names in panels.items() if names}
    figure = Figure(figsize=(7, 2 + 2 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (title, names) in zip(grid, panels.items(), strict=True):
        for name in names:
            points = [(row["kimg"], row[name]) for row in rows if name in row]
            axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else None)
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
        axes.legend()
    axes.set_xlabel("kimg (thousands of real images shown)")
    with atomic_path(folder.training / "losses.png") as path:
        figure.savefig(path, dpi=120)
