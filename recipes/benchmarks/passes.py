"""What fewer passes cost: images of `acgan` and of a flow of two passes against those of the flow that they began as.

Each is trained by its recipe until it has been a flow for as long as the plain one, and then for what it needs to draw
in fewer passes. Classifiers are trained on 10,000 images of each alone and asked about held-out real ones (Ravuri and
Vinyals 2019), the images are compared with real ones, and drawing is timed, in turns and by one thread. On one core of
an AMD EPYC with bf16 it takes half an hour at the defaults. What is finished is kept, so that a command that was
stopped goes on.

    python recipes/benchmarks/passes.py --train_data_dir /usr/share/datasets/fashion-mnist --horizontal_flip
    python recipes/benchmarks/passes.py --table outputs/passes/passes.json
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from common import Results, data_flags, fill_and_show, machine, spread, train_by_recipe
from timing import in_turns

from ganaug import Generator
from ganaug.cli.flags import run
from ganaug.cli.images import DataArguments
from ganaug.core.hardware import set_cpu_threads
from ganaug.data import LabelledImages
from ganaug.evaluation import ShiftFlip, UtilitySettings, classification_accuracy, fidelity, train_classifier
from ganaug.evaluation.leakage import without_overlap
from ganaug.evaluation.study import POOL
from ganaug.training import ACGANTrainer, FlowTrainer

PLAIN, TWO, ONE = "flow", "flow, two passes", "acgan"
ARMS = {PLAIN: ["flow"], TWO: ["flow", "--passes", "2"], ONE: ["acgan"]}  # model and flags
# kimg in all for each of the flow that an arm begins as
LONGER = {
    PLAIN: 1.0,
    TWO: sum(FlowTrainer.LENGTHS) / FlowTrainer.LENGTHS[0],
    ONE: sum(ACGANTrainer.LENGTHS) / ACGANTrainer.LENGTHS[0],
}
DRAWN = 1024  # images, for each timing


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        settings: How the classifiers are trained; of them, only seeds, steps, batch_size and horizontal_flip are used.
        kimg: How long each is a flow, in thousands of real images shown.
        training_seeds: Each is a training of every arm.
        cpu_threads: Of the trainings, which run one by one.
        rounds: How often drawing is timed.
        output_dir: Folder for the generators and passes.json, to which results are added.
        processes: Classifiers trained at a time on a CPU, each by one thread; by default one for each core.
        table: Train nothing: print the table of this passes.json.
    """

    data: DataArguments = field(default_factory=DataArguments)
    settings: UtilitySettings = field(default_factory=lambda: UtilitySettings(steps=2000, seeds=4))
    kimg: float = 150
    training_seeds: tuple[int, ...] = (0,)
    cpu_threads: int = 1
    rounds: int = 7
    output_dir: Path = Path("outputs/passes")
    processes: int | None = None
    table: Path | None = None


def train_one(arm: str, seed: int, folder: Path, args: Arguments) -> float:
    """Train by the recipe's own command, and return how many seconds of a core that took."""
    kimg = f"{args.kimg * LONGER[arm]:g}"
    model, *flags = ARMS[arm]
    flags += ["--total_kimg", kimg, "--seed", str(seed), "--cpu_threads", str(args.cpu_threads)]
    flags += ["--output_dir", str(folder), *data_flags(args.data)]
    return train_by_recipe(model, *flags, *(["--augment", "flip"] if args.settings.horizontal_flip else []))


def judge(generator: Generator, train: LabelledImages, held_out: LabelledImages, args: Arguments) -> dict[str, Any]:
    """What classifiers learn from the generator's images, and how far these are from real ones."""
    few = train.take([min(count, POOL // len(train.classes)) for count in train.class_counts])[0]
    processes = args.processes or set_cpu_threads(None)
    answers = classification_accuracy(
        few, generator=generator, held_out=held_out, settings=args.settings, processes=processes
    )
    augment = ShiftFlip.like(train, flip=args.settings.horizontal_flip)
    classifier = train_classifier(train, steps=args.settings.steps, augment=augment)
    targets = held_out.targets
    images = LabelledImages(generator.sample(targets, seed=1), targets, held_out.classes, "generated images")
    found = fidelity(images, held_out, classifier)
    return {
        "scores": answers.correct.double().mean(1).tolist(),
        "label_fidelity": found.label_fidelity,
        "diversity": found.mean_diversity,
        "coverage": found.generated.coverage,
    }


def measure(args: Arguments, results: Results) -> Iterator[None]:
    """Train and judge what is not there yet, and time drawing."""
    train = args.data.open()
    held_out = args.data.open_split("test", like=train)
    held_out = without_overlap(held_out, [(train, ())])[0]  # published splits share a few images
    results |= {"data": f"{train}", "machine": machine(), "kimg": args.kimg}
    runs = results.setdefault("runs", {})
    for seed in args.training_seeds:
        for number, arm in enumerate(ARMS):
            if (name := f"{arm}, seed {seed}") not in runs:
                folder = args.output_dir / f"{number}-{seed}"
                seconds = train_one(arm, seed, folder, args)
                runs[name] = {"arm": arm, "folder": str(folder), "seconds": round(seconds, 1)}
                yield
            if "scores" not in runs[name]:
                runs[name] |= judge(Generator.from_pretrained(runs[name]["folder"]), train, held_out, args)
                yield
    if "drawing" not in results:
        labels = torch.arange(DRAWN) % len(train.classes)
        generators = {runs[name]["arm"]: Generator.from_pretrained(runs[name]["folder"]) for name in reversed(runs)}
        set_cpu_threads(1)
        timed = in_turns({arm: lambda it=it: it.sample(labels) for arm, it in generators.items()}, args.rounds)
        results["drawing"] = {arm: [DRAWN / seconds for seconds in timed[arm]] for arm in ARMS}
        yield


def table(results: Results) -> str:
    """Markdown table of results; what is compared with the plain flow is in brackets."""
    lines = [
        "| model | training, core-minutes [times the flow's] | accuracy of classifiers | points less than the flow "
        "| label fidelity | diversity, coverage [times the flow's] | drawn per second by one thread [times its] |",
        "|---|---|---|---|---|---|---|",
    ]

    def of(arm: str, what: str) -> float:
        return statistics.mean(run[what] for run in results["runs"].values() if run["arm"] == arm)

    def beside(arm: str, what: str, number: str) -> str:
        return f"{of(arm, what):{number}} [{of(arm, what) / of(PLAIN, what):.2f}]"

    scores = {arm: [run["scores"] for run in results["runs"].values() if run["arm"] == arm] for arm in ARMS}
    pooled = {arm: [score for run in runs for score in run] for arm, runs in scores.items()}
    rates = {arm: statistics.median(rates) for arm, rates in results["drawing"].items()}
    for arm in ARMS:
        minutes, ratio = of(arm, "seconds") / 60, of(arm, "seconds") / of(PLAIN, "seconds")
        less = 100 * (statistics.mean(pooled[PLAIN]) - statistics.mean(pooled[arm]))
        lines.append(
            f"| {arm} | {minutes:.1f} [{ratio:.2f}] | {spread(pooled[arm])} | {less:.1f} "
            f"| {100 * of(arm, 'label_fidelity'):.1f} % "
            f"| {beside(arm, 'diversity', '.3f')}, {beside(arm, 'coverage', '.3f')} "
            f"| {rates[arm]:,.0f} [{rates[arm] / rates[PLAIN]:.1f}] |"
        )
    return "\n".join(lines)


def main(args: Arguments) -> None:
    """Measure, and print the table of all results so far."""
    fill_and_show("passes", args, measure, table)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
