"""What several benchmarks share: training by a recipe's own command, and results that a stopped run goes on with."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ganaug import InputError, LabelledImages
from ganaug.cli.images import DataArguments
from ganaug.core.files import build_once, read_tensors, write_json, write_tensors
from ganaug.core.hardware import usable_cores
from ganaug.evaluation import SmallCNN
from ganaug.evaluation.report.drawing import TEXT, WIDTH

RECIPES = Path(__file__).parents[1]
Results = dict[str, Any]  # as in the JSON file


def fill_and_show(
    name: str,
    args: Any,
    measure: Callable[[Any, Results], Iterable[None]],
    table: Callable[[Results], str],
    plot: Callable[[Results, Path], None] | None = None,
) -> None:
    """Measure what ``NAME.json`` in the output folder lacks, and print the table of everything in it.

    Args:
        name: of the file.
        args: flags of the benchmark, with ``output_dir`` and ``table``; where ``table`` is a file of results, nothing
            is measured.
        measure: called with the flags and the results so far, to which it adds; it yields after every part that is
            worth keeping, and the file is written.
        table: results as Markdown.
        plot: called with the results and the path of a PNG whenever the file is written.
    """
    path = args.table or args.output_dir / f"{name}.json"
    results: Results = json.loads(path.read_text(encoding="utf-8")) if path.exists() or args.table else {}
    if not args.table:
        for _ in measure(args, results):
            write_json(path, results)
            if plot:
                plot(results, path.with_suffix(".png"))
    print(table(results))


@contextmanager
def plot_for_a_phone(path: Path, height: float) -> Iterator[Any]:
    """Matplotlib axes to draw on, so narrow that a phone shows their letters large enough; saved as a PNG.

    Args:
        path: of the PNG.
        height: in inches; the width is 4.5.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": TEXT}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure.subplots()
        figure.savefig(path, dpi=200)


def plot_accuracy(
    path: Path, lines: Mapping[str, Sequence[tuple[float, Sequence[float]]]], real: Sequence[float], minutes: str
) -> None:
    """Draw how accurate classifiers are against minutes of training, a line for each model with standard deviations.

    Args:
        path: of the PNG.
        lines: of each model, minutes and shares that are right, in [0, 1].
        real: shares that are right of classifiers trained on real images.
        minutes: what the minutes are, in words.
    """
    with plot_for_a_phone(path, 4.5) as axes:
        for model, points in lines.items():
            x, scores = zip(*sorted(points), strict=True)
            means, errors = ([100 * of(each) for each in scores] for of in (statistics.mean, statistics.stdev))
            axes.errorbar(x, means, errors, marker=".", capsize=3, label=model)
        axes.axhline(100 * statistics.mean(real), color="black", linestyle=":", label="real images")
        axes.set_xlabel(minutes)
        axes.set_ylabel("accuracy of classifiers, %")
        axes.set_ylim(top=100)
        axes.grid(alpha=0.3)
        axes.legend(loc="best")


def kept_classifier(path: Path, images: LabelledImages, train: Callable[[], nn.Module], *, what: str) -> SmallCNN:
    """A small CNN for images of this form, with the weights that are in a file; it is trained if there is none."""
    path = build_once(path, lambda path: write_tensors(path, train().state_dict()), what=what)
    classifier = SmallCNN(len(images.classes), channels=images.channels, image_size=images.image_size)
    classifier.load_state_dict(read_tensors(path))
    return classifier.eval()


def require_known(names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse names that are not among the known ones.

    Raises:
        InputError: there is such a name.
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise InputError(f"{what} must be of {', '.join(known)}; got {name}")


def train_by_recipe(model: str, *flags: str) -> float:
    """Run ``accelerate launch`` of the recipe that trains the model, with these flags, to its end.

    Returns:
        float: seconds of a core that it took, which other work beside it changes little; on Windows, 0.

    Raises:
        subprocess.CalledProcessError: the recipe fails.
    """
    name = "acgan" if model == "sngan" else model.partition("-")[0]
    command = [str(RECIPES / f"train_{name}.py"), "--model", model, *flags]
    before = os.times()
    subprocess.run([sys.executable, "-m", "accelerate.commands.launch", *command], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def data_flags(data: DataArguments) -> list[str]:
    """The flags that give another command the same images; those at their defaults are left out."""
    changed = [(field.name, getattr(data, field.name)) for field in fields(data)]
    changed = [(name, value) for name, value in changed if value != getattr(DataArguments, name)]
    words = []
    for name, value in changed:
        values = value if isinstance(value, tuple) else () if value is True else (value,)
        words += [f"--{name}", *map(str, values)]
    return words


def machine() -> str:
    """Processor and version of torch that results were measured with."""
    return f"{usable_cores()} cores, {platform.machine()}, torch {torch.__version__}"


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation of shares, in per cent."""
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f} %"
