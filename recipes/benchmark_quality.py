"""How good generated images are for the minutes of training they took: classification accuracy score against time.

Each model is trained anew by its recipe for every budget; then classifiers are trained on 10,000 generated images
alone and asked about real held-out ones (Ravuri and Vinyals 2019), in the way of recipes/evaluate.py: same network,
steps and classic augmentation. Beside them, the same classifiers trained on the real images. Finished parts are kept,
so that a command that was stopped goes on.

    python recipes/benchmark_quality.py --train_data_dir /usr/share/datasets/fashion-mnist --horizontal_flip
    python recipes/benchmark_quality.py --table outputs/quality/quality.json
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launching import data_flags, train_by_recipe
from results import machine, spread

from ganaug import Generator, InputError, LabelledImages
from ganaug.cli.flags import run
from ganaug.cli.images import DataArguments
from ganaug.core.files import write_json
from ganaug.core.hardware import set_cpu_threads
from ganaug.evaluation import UtilitySettings
from ganaug.evaluation.cells import Cells, right_answers
from ganaug.evaluation.leakage import without_overlap
from ganaug.evaluation.study import POOL, Arm, Study
from ganaug.training import CLASSIC_MODELS, MODELS

REAL = Arm("real images")


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        models: Which models of recipes/train_acgan.py.
        kimg: Budgets, in thousands of real images shown; each is a training run of its own.
        settings: How the classifiers are trained; of them, ratios and trivial_augment are not used.
        output_dir: Folder for the generators and quality.json, to which results are added.
        processes: Classifiers trained at a time on a CPU, each by one thread; by default one for each core.
        table: Train nothing: print the table of this quality.json.
    """

    data: DataArguments = field(default_factory=DataArguments)
    settings: UtilitySettings = field(default_factory=UtilitySettings)
    models: tuple[str, ...] = ("acgan-28", "sngan", "flow", "flow-wide")
    kimg: tuple[int, ...] = (100, 200, 400)
    output_dir: Path = Path("outputs/quality")
    processes: int | None = None
    table: Path | None = None


def train_one(model: str, kimg: int, folder: Path, args: Arguments) -> float:
    """Train by the recipe's own command; returns its wall time in seconds."""
    flags = ["--model", model, "--total_kimg", str(kimg), "--output_dir", str(folder), *data_flags(args.data)]
    if args.settings.horizontal_flip and model not in CLASSIC_MODELS:
        flags += ["--augment", *MODELS[model].settings.augment, "flip"]
    started = time.perf_counter()
    train_by_recipe("train_acgan", *flags)
    return time.perf_counter() - started


def scores(
    train: LabelledImages, held_out: LabelledImages, generator: Generator | None, args: Arguments
) -> list[float]:
    """Accuracy on held-out images of classifiers trained on generated images, or on real ones, for each seed."""
    if generator:  # a study draws as many images as there are real ones, where those are more than POOL
        train = train.take([min(count, POOL // len(train.classes)) for count in train.class_counts])[0]
    study = Study(train, held_out, {"it": generator} if generator else {}, settings=args.settings)
    arm = study.generated_arm("it", REAL) if generator else REAL
    cells = Cells(study, processes=args.processes or set_cpu_threads(None))
    answers = cells.run([arm], arm.name)[arm.name]
    return right_answers(answers, held_out.targets).double().mean(1).tolist()


def measure(args: Arguments, results: dict[str, Any], path: Path) -> None:
    """Fill what is not there yet."""
    train = args.data.open()
    held_out = without_overlap(args.data.open_split("test"), train, ())[0]  # published splits share a few images
    results.setdefault("data", f"{train}")
    results.setdefault("machine", machine())
    if "real" not in results:
        results["real"] = scores(train, held_out, None, args)
        write_json(path, results)
    runs = results.setdefault("runs", {})
    for kimg in args.kimg:
        for model in args.models:
            name = f"{model}-{kimg}"
            if name in runs:
                continue
            folder = args.output_dir / name
            seconds = train_one(model, kimg, folder, args)
            found = scores(train, held_out, Generator.from_pretrained(folder), args)
            runs[name] = {"model": model, "kimg": kimg, "seconds": round(seconds, 1), "scores": found}
            write_json(path, results)
            plot(results, path.with_suffix(".png"))


def table(results: dict[str, Any]) -> str:
    """Markdown table of results."""
    lines = ["| trained on | kimg | minutes of training | accuracy, mean ± standard deviation |", "|---|---|---|---|"]
    lines.append(f"| real images | | | {spread(results['real'])} |")
    lines += [
        f"| `{row['model']}` | {row['kimg']} | {row['seconds'] / 60:.1f} | {spread(row['scores'])} |"
        for row in sorted(results["runs"].values(), key=lambda row: (row["model"], row["kimg"]))
    ]
    return "\n".join(lines)


def plot(results: dict[str, Any], path: Path) -> None:
    """Accuracy against minutes, a line for each model."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    rows = list(results["runs"].values())
    for model in dict.fromkeys(row["model"] for row in rows):
        own = sorted((row for row in rows if row["model"] == model), key=lambda row: row["seconds"])
        means, errors = zip(
            *((100 * statistics.mean(row["scores"]), 100 * statistics.stdev(row["scores"])) for row in own),
            strict=True,
        )
        axes.errorbar([row["seconds"] / 60 for row in own], means, errors, marker=".", capsize=3, label=model)
    axes.axhline(100 * statistics.mean(results["real"]), color="black", linestyle=":", label="real images")
    axes.set_xlabel("minutes of training")
    axes.set_ylabel("accuracy of classifiers trained on them, %")
    axes.set_ylim(top=100)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main(args: Arguments) -> None:
    """Train and judge, and print the table of all results so far."""
    path = args.table or args.output_dir / "quality.json"
    results = json.loads(path.read_text()) if path.exists() or args.table else {}
    unknown = [model for model in args.models if model not in MODELS or not MODELS[model].conditional]
    if unknown:
        raise InputError(f"models must be conditional ones of {', '.join(MODELS)}; got {unknown[0]}")
    if not args.table:
        measure(args, results, path)
    print(table(results))


if __name__ == "__main__":
    run(Arguments, main, __doc__)
