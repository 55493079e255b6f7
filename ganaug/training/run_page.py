"""The page of a finished training run: how it went, which generator was chosen, and why."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from ganaug.core.files import atomic_path, write_text
from ganaug.evaluation.report.drawing import COLOURS, INK, LINE, data_uri, svg
from ganaug.evaluation.report.wording import FILTERS, kimg, number
from ganaug.hub.config import CONFIG, parsed_config, training_seconds
from ganaug.training.failure import LEAST_DIVERSITY, signs_of_failure
from ganaug.training.run_folder import read_metrics

SHARES = ("label_fidelity", "class_diversity", "closeness", "usefulness")  # whose product is the score
MOST_GRIDS = 12  # besides that of the chosen generator
MOST_COLUMNS = 15  # of a grid that is shown as wide as the page, which may be a phone's
FEW_POINTS = 30  # a line through so few is marked at each


@dataclass(frozen=True)
class Panel:
    """A plot of monitors over kimg.

    Args:
        title (str): its heading.
        caption (str): what the lines are, and how to read them.
        lines (dict): name of the monitor to the name of its line.
    """

    title: str
    caption: str
    lines: dict[str, str]


PANELS = (
    Panel(
        "Score",
        "Of the averaged generator, on real images that were held back, with the shares whose product it is. "
        "Each is 1 for images like real ones.",
        {"score": "score", **{share: share.replace("_", " ") for share in SHARES}},
    ),
    Panel(
        "Loss",
        "Mean squared error of the velocity that the network predicts: each point is a mean over the steps since the "
        "one before.",
        {"loss": "loss"},
    ),
    Panel(
        "Distance",
        "Mean squared error between an image as it is drawn in few passes and the one to be drawn from the same "
        "noise: each point is a mean over the steps since the one before.",
        {"distance": "distance"},
    ),
    Panel(
        "Losses",
        "Each point is a mean over the steps since the one before. The networks play against each other, so neither "
        "loss must fall for the images to become better.",
        {"D_loss": "discriminator", "G_loss": "generator"},
    ),
    Panel(
        "What the discriminator says",
        "Its output, high for what it takes for real: each point is a mean over the steps since the one before. The "
        "closer the lines, the less it tells real from generated.",
        {
            "D(x)": "of real images, D(x)",
            "D(G(z))_before": "of generated ones, D(G(z)), before its update",
            "D(G(z))_after": "of generated ones, after its update",
        },
    ),
    Panel(
        "How often the discriminator is right",
        "Shares of the images in training: each point is a mean over the steps since the one before. Half of real and "
        "of generated ones is guessing; nearly all of both, and the generator learns little from it.",
        {
            "accuracy_real": "that real images are real",
            "accuracy_fake": "that generated ones are not",
            "class_accuracy_real": "the class of real images",
            "class_accuracy_fake": "the class of generated ones",
        },
    ),
    Panel(
        "Diversity",
        "How far apart the generated images of a class are, as a multiple of the real ones, measured at each point. "
        f"Below {LEAST_DIVERSITY:g} the images of a class are nearly one picture.",
        {"diversity": "relative diversity"},
    ),
)


def write_run_page(folder: str | Path) -> None:
    """Write ``training/run.html``, a page in a single file, and its curves, ``training/curves.png``.

    Lines of ``metrics.jsonl`` that are missing or damaged are not in them, nor are those of steps that were taken
    again after the run went back to a checkpoint.

    Args:
        folder (str or Path): of a finished run.

    Raises:
        OSError: the run has no config, or the folder cannot be written to.
        LoadError: its config is damaged.
        ImportError: matplotlib is not installed.
    """
    folder = Path(folder)
    config = parsed_config(folder / CONFIG, (folder / CONFIG).read_bytes())
    training = config["training"]
    chosen = training.get("chosen_after_kimg")
    logged = read_metrics(folder)
    rows = [row for k, row in enumerate(logged) if all(row["kimg"] < later["kimg"] for later in logged[k + 1 :])]
    went_back = sum(later["kimg"] <= row["kimg"] for row, later in pairwise(logged))
    candidates = [{**row, "signs": signs_of_failure(row)} for row in rows if "score" in row]
    panels = [panel for panel in PANELS if any(name in row for row in rows for name in panel.lines)]
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("ganaug.training", "."), PackageLoader("ganaug.evaluation.report", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS, uri=data_uri)
    html = environment.get_template("run_page.html.j2").render(
        config=config,
        end=_end(training, rows, len(candidates)),
        seconds=training_seconds(training),
        went_back=went_back,
        quality=_quality(candidates, chosen),
        choice=_choice(candidates, chosen, of=training.get("candidates", 0)),
        signs=signs_of_failure(rows[-1]) if rows else [],
        candidates=candidates,
        chosen=chosen,
        shares=SHARES,
        curves=[(panel, _curve(panel, rows, chosen), _in_words(panel, rows)) for panel in panels],
        grids=_grids(folder / "samples", rows, chosen),
        wide=len(config["label_names"]) > MOST_COLUMNS,
    )
    if panels:
        picture = io.BytesIO()
        training_curves(rows, chosen=chosen).savefig(picture, format="png", dpi=110)
        with atomic_path(folder / "training" / "curves.png") as path:
            path.write_bytes(picture.getvalue())
    write_text(folder / "training" / "run.html", html)


def _end(training: Mapping[str, Any], rows: Sequence[Mapping[str, float]], scored: int) -> tuple[str, str]:
    """How the run ended, as a headline, and why, to go on after "it was trained ..."; unknown if lines are missing."""
    budget, patience = training.get("total_kimg"), training.get("patience")
    if budget is None:
        return "Trained", ""
    if not rows or scored < training.get("candidates", 0):
        return f"Trained on a budget of {kimg(budget)} kimg", ""
    reached = rows[-1]["kimg"]
    if reached >= budget:
        return f"Trained to the end of its {kimg(budget)} kimg", ""
    early = f"Stopped early, after {kimg(reached)} of {kimg(budget)} kimg"
    if patience is None or not scored:
        return early, ""
    return early, f", until {patience} scores in a row were no better than an earlier one"


def _quality(candidates: list[dict[str, Any]], chosen: float | None) -> str:
    """How good the saved generator is, to go on in the headline; empty if its score is missing."""
    if chosen is None:
        return ", quality not measured"
    score = next((row["score"] for row in candidates if row["kimg"] == chosen), None)
    return "" if score is None else f", with a score of {number(score)} out of 1"


def _choice(candidates: list[dict[str, Any]], chosen: float | None, *, of: int) -> list[str]:
    """Which generator of how many was chosen and why, in sentences."""
    if chosen is None:
        return [
            "How good its images are was not measured. See them below, beside real ones; whether they help a "
            "classifier is what ganaug evaluate finds out.",
            "The generator that was saved is the last one; without evaluation_kimg, none is scored during training.",
        ]
    it = next((row for row in candidates if row["kimg"] == chosen), None)
    if it is None or len(candidates) < of:
        return [
            f"The generator that was saved is the one after {kimg(chosen)} kimg.",
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
    if best["score"] == 0:
        why = "all score 0, which says nothing about which is better, and this is the last one"
    sentences = [
        f"The generator that was saved is the one after {kimg(chosen)} kimg; images like the real ones would score 1.",
        f"{among}, {'it has the best score' if it is best and best['score'] else why}.",
    ]
    if it is not last:
        sentences.append(
            f"The last generator of the run, after {kimg(last['kimg'])} kimg, scores {number(last['score'])}; "
            "it is in training/last."
        )
    return sentences


def _grids(folder: Path, rows: Sequence[Mapping[str, float]], chosen: float | None) -> list[tuple[str, bytes, bool]]:
    """The grid of real images, then those over time: title, PNG file, and whether the chosen generator drew it."""
    found = [(int(name[1]), path) for path in folder.glob("*kimg.png") if (name := re.match(r"(\d+)kimg", path.name))]
    found.sort()
    exactly = {int(row["kimg"]): row["kimg"] for row in rows}  # a file's name has whole ones
    step = max(1, -(-len(found) // MOST_GRIDS))
    shown = [
        (f"after {kimg(exactly.get(seen, seen))} kimg", path.read_bytes(), chosen is not None and seen == int(chosen))
        for k, (seen, path) in enumerate(found)
        if (len(found) - 1 - k) % step == 0 or (chosen is not None and seen == int(chosen))
    ]
    real = folder / "real.png"
    return [("real images", real.read_bytes(), False), *shown] if real.exists() else shown


def _curve(panel: Panel, rows: Sequence[Mapping[str, float]], chosen: float | None) -> str:
    """A panel by itself, as SVG."""

    def draw(axes: Any) -> None:
        _plot(axes, panel, rows, chosen)
        axes.set_xlabel("kimg")
        if lines > 1:
            axes.figure.legend(loc="outside lower left", handlelength=1.6)

    lines = sum(any(name in row for row in rows) for name in panel.lines)
    return svg(2.6 + (0.3 + LINE * lines if lines > 1 else 0), draw)


def _in_words(panel: Panel, rows: Sequence[Mapping[str, float]]) -> str:
    """A panel for those who cannot see it: the first and the last value of each line."""
    told = []
    for name, line in panel.lines.items():
        values = [row[name] for row in rows if name in row]
        if values:
            told.append(f"{line}: {number(values[0])} at first, {number(values[-1])} at last")
    return f"{panel.title} over kimg; {'; '.join(told)}."


def training_curves(rows: Sequence[Mapping[str, float]], *, chosen: float | None) -> Any:
    """A matplotlib figure of monitors and scores over kimg.

    Args:
        rows (sequence of dict): lines of ``metrics.jsonl``.
        chosen (float, optional): kimg of the generator that was chosen, which is marked; None if there was no choice.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    panels = [panel for panel in PANELS if any(name in row for row in rows for name in panel.lines)]
    figure = Figure(figsize=(9, 1 + 2 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(grid, panels, strict=True):
        _plot(axes, panel, rows, chosen)
        axes.set_title(panel.title, fontsize="medium", loc="left")
        if len(axes.get_legend_handles_labels()[1]) > 1:
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    if chosen is not None:
        grid[0].set_title(f"dashed line: saved, after {kimg(chosen)} kimg", fontsize="medium", loc="right")
    axes.set_xlabel("kimg (thousands of real images shown)")
    return figure


def _plot(axes: Any, panel: Panel, rows: Sequence[Mapping[str, float]], chosen: float | None) -> None:
    """The lines of a panel, and the generator that was chosen."""
    colours = {"score": INK, **dict(zip([name for name in panel.lines if name != "score"], COLOURS, strict=False))}
    for name, line in panel.lines.items():
        points = [(row["kimg"], row[name]) for row in rows if name in row]
        if points:
            look = {"color": colours[name], "linewidth": 2.6 if name == "score" else 1.5}
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < FEW_POINTS else None, label=line, **look)
    if chosen is not None:
        axes.axvline(chosen, color=INK, linestyle="--", linewidth=1)
    axes.grid(alpha=0.35, linewidth=0.6)
