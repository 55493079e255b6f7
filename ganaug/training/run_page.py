"""The page of a finished training run: how it went, which generator was chosen, and why."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from ganaug.core.files import atomic_path, write_text
from ganaug.evaluation.report.wording import FILTERS, number
from ganaug.hub.config import CONFIG, parsed_config
from ganaug.training.failure import signs_of_failure
from ganaug.training.run_folder import read_metrics

SHARES = ("label_fidelity", "class_diversity", "closeness", "usefulness")  # whose product is the score
MOST_GRIDS = 12  # besides that of the chosen generator
PANELS = {
    "score": ("score", *SHARES),
    "loss": ("loss", "D_loss", "G_loss"),
    "discriminator's score": ("D(x)", "D(G(z))_before", "D(G(z))_after"),
    "relative diversity": ("diversity",),
    "accuracy of D": ("accuracy_real", "accuracy_fake", "class_accuracy_real", "class_accuracy_fake"),
}


def write_run_page(folder: str | Path) -> None:
    """Write ``training/run.html``, a page in a single file, and its curves, ``training/curves.png``.

    Lines of ``metrics.jsonl`` that are missing or damaged are not in them.

    Args:
        folder (str or Path): of a finished run.

    Raises:
        OSError: the run has no config, or the folder cannot be written to.
        LoadError: its config is damaged.
        ImportError: matplotlib is not installed.
    """
    folder = Path(folder)
    config = parsed_config(folder / CONFIG, (folder / CONFIG).read_bytes())
    rows = read_metrics(folder)
    chosen = config["training"].get("chosen_after_kimg")
    candidates = [{**row, "signs": signs_of_failure(row)} for row in rows if "score" in row]
    curves = io.BytesIO()
    drawn = any(name in row for row in rows for names in PANELS.values() for name in names)
    if drawn:
        training_curves(rows, chosen=chosen).savefig(curves, format="png", dpi=110)
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("ganaug.training", "."), PackageLoader("ganaug.evaluation.report", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS, png=_png)
    html = environment.get_template("run_page.html.j2").render(
        config=config,
        choice=_choice(candidates, chosen, of=config["training"].get("candidates", 0)),
        candidates=candidates,
        chosen=chosen,
        shares=SHARES,
        curves=curves.getvalue(),
        grids=_grids(folder / "samples", chosen),
    )
    if drawn:
        with atomic_path(folder / "training" / "curves.png") as path:
            path.write_bytes(curves.getvalue())
    write_text(folder / "training" / "run.html", html)


def _choice(candidates: list[dict[str, Any]], chosen: float | None, *, of: int) -> list[str]:
    """Which generator of how many was chosen and why, in sentences."""
    if chosen is None:
        return ["The generator that was saved is the last one. No other was scored."]
    it = next((row for row in candidates if row["kimg"] == chosen), None)
    if it is None or len(candidates) < of:
        return [
            f"The generator that was saved is the one after {chosen:g} kimg.",
            f"Of {of} scores {of - len(candidates)} are missing from training/metrics.jsonl, so the page does not say "
            "why it was chosen.",
        ]
    last = candidates[-1]
    peers = [row for row in candidates if not row["signs"]] or candidates
    best = max(peers, key=lambda row: row["score"])
    among = f"Of {len(candidates)} generators scored on real images that were held back"
    if len(peers) < len(candidates):
        among += f", {len(peers)} show no signs that training failed; of these"
    elif candidates[0]["signs"]:
        among += ", all show signs that training failed; of these"
    why = f"the best scores {number(best['score'])}, and this is the last one within 5 % of that"
    sentences = [
        f"The generator that was saved is the one after {chosen:g} kimg, with a score of {number(it['score'])}.",
        f"{among}, {'it has the best score' if it is best else why}.",
    ]
    if it is not last:
        sentences.append(
            f"The last generator of the run, after {last['kimg']:g} kimg, scores {number(last['score'])}; it is in "
            "training/last."
        )
    return sentences


def _grids(folder: Path, chosen: float | None) -> list[tuple[str, bytes, bool]]:
    """The grid of real images, then those over time: title, PNG file, and whether the chosen generator drew it."""
    found = [(int(name[1]), path) for path in folder.glob("*kimg.png") if (name := re.match(r"(\d+)kimg", path.name))]
    found.sort()
    step = max(1, -(-len(found) // MOST_GRIDS))
    shown = [
        (f"after {kimg:,} kimg", path.read_bytes(), chosen is not None and kimg == int(chosen))
        for number, (kimg, path) in enumerate(found)
        if (len(found) - 1 - number) % step == 0 or (chosen is not None and kimg == int(chosen))
    ]
    real = folder / "real.png"
    return [("real images", real.read_bytes(), False), *shown] if real.exists() else shown


def _png(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def training_curves(rows: Sequence[Mapping[str, float]], *, chosen: float | None) -> Any:
    """A matplotlib figure of monitors and scores over kimg.

    Args:
        rows (sequence of dict): lines of ``metrics.jsonl``.
        chosen (float, optional): kimg of the generator that was chosen, which is marked; None if there was no choice.

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
        grid[0].set_title(f"dashed line: chosen, after {chosen:g} kimg", fontsize="medium", loc="left")
    axes.set_xlabel("kimg (thousands of real images shown)")
    return figure
