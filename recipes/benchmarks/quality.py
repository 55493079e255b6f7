"""How good generated images are for the minutes of training they took: classification accuracy score against time.

Each model is trained anew by its recipe for every budget. Then classifiers are trained on 10,000 of its images alone,
with the network, steps and classic augmentation of recipes/evaluate.py, and asked about held-out real ones (Ravuri and
Vinyals 2019). They are compared with the same classifiers trained on the real images. Eight of the twelve trainings
took 48 minutes on two cores, and each of the 65 classifiers takes 60 to 100 seconds of one core. What is finished is
kept, so that a command that was stopped goes on.

    python recipes/benchmarks/quality.py --train_data_dir /usr/share/datasets/fashion-mnist --horizontal_flip
    python recipes/benchmarks/quality.py --table outputs/quality/quality.json
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from common import (
    Results,
    data_flags,
    fill_and_show,
    machine,
    plot_accuracy,
    require_known,
    spread,
    train_by_recipe,
)

from ganaug import Generator
from ganaug.cli.flags import run
from ganaug.cli.images import DataArguments
from ganaug.core.hardware import set_cpu_threads
from ganaug.evaluation import UtilitySettings, classification_accuracy
from ganaug.evaluation.cells import Answers
from ganaug.evaluation.leakage import without_overlap
from ganaug.evaluation.study import POOL
from ganaug.training import CLASSIC_MODELS, MODELS


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        models: Which models of recipes/train_acgan.py and train_flow.py.
        kimg: Budgets, in thousands of real images shown; each is a training run of its own.
        settings: How the classifiers are trained; of them, only seeds, steps, batch_size and horizontal_flip are used.
        output_dir: Folder for the generators and quality.json, to which results are added.
        processes: Classifiers trained at a time on a CPU, each by one thread; by default one for each core.
        table: Train nothing: print the table of this quality.json.
    """

    data: DataArguments = field(default_factory=DataArguments)
    settings: UtilitySettings = field(default_factory=lambda: UtilitySettings(steps=2000))
    models: tuple[str, ...] = ("acgan-28", "sngan", "flow", "flow-wide")
    kimg: tuple[int, ...] = (100, 200, 400)
    output_dir: Path = Path("outputs/quality")
    processes: int | None = None
    table: Path | None = None


def train_one(model: str, kimg: int, folder: Path, args: Arguments) -> float:
    """Train by the recipe's own command, and return its wall time in seconds."""
    flags = ["--total_kimg", str(kimg), "--output_dir", str(folder), *data_flags(args.data)]
    if args.settings.horizontal_flip and model not in CLASSIC_MODELS:
        flags += ["--augment", *MODELS[model].settings.augment, "flip"]
    started = time.perf_counter()
    train_by_recipe(model, *flags)
    return time.perf_counter() - started


def measure(args: Arguments, results: Results) -> Iterator[None]:
    """Train and judge what is not there yet."""
    require_known(args.models, [name for name, model in MODELS.items() if model.conditional], "models")
    train = args.data.open()
    held_out = args.data.open_split("test", like=train)
    held_out = without_overlap(held_out, [(train, ())])[0]  # published splits share a few images
    results.setdefault("data", f"{train}")
    results.setdefault("machine", machine())
    processes = args.processes or set_cpu_threads(None)
    judge = partial(classification_accuracy, held_out=held_out, settings=args.settings, processes=processes)

    def shares(answers: Answers) -> list[float]:
        return answers.correct.double().mean(1).tolist()

    if "real" not in results:
        results["real"] = shares(judge(train))
        yield
    # As many images are generated as there are real ones, or POOL where these are fewer: so it is POOL.
    few = train.take([min(count, POOL // len(train.classes)) for count in train.class_counts])[0]
    runs = results.setdefault("runs", {})
    for kimg in args.kimg:
        for model in args.models:
            name = f"{model}-{kimg}"
            if name in runs:
                continue
            seconds = train_one(model, kimg, args.output_dir / name, args)
            scores = shares(judge(few, generator=Generator.from_pretrained(args.output_dir / name)))
            runs[name] = {"model": model, "kimg": kimg, "seconds": round(seconds, 1), "scores": scores}
            yield


def table(results: Results) -> str:
    """Markdown table of results."""
    lines = ["| trained on | kimg | minutes of training | accuracy, mean ± standard deviation |", "|---|---|---|---|"]
    lines.append(f"| real images | | | {spread(results['real'])} |")
    lines += [
        f"| `{row['model']}` | {row['kimg']} | {row['seconds'] / 60:.1f} | {spread(row['scores'])} |"
        for row in sorted(results["runs"].values(), key=lambda row: (row["model"], row["kimg"]))
    ]
    return "\n".join(lines)


def plot(results: Results, path: Path) -> None:
    """Accuracy against minutes, a line for each model."""
    lines: dict[str, list[tuple[float, list[float]]]] = {}
    for row in results.get("runs", {}).values():
        lines.setdefault(row["model"], []).append((row["seconds"] / 60, row["scores"]))
    plot_accuracy(path, lines, results["real"], "minutes of training")


def main(args: Arguments) -> None:
    """Measure, and print the table of all results so far."""
    fill_and_show("quality", args, measure, table, plot)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
