"""How many labels are right that classifiers give to unlabelled images, with and without learning from these.

Of the images a few of each class keep their labels, in several draws, and others lose them. They are labelled in two
ways: by classifiers of the labelled images alone, and as --unlabeled_data and ganaug.pseudo_label do it. A draw with
20,000 unlabelled images of 28x28 took an hour on two cores without bf16 that had other work. What is finished is kept,
so that a command that was stopped goes on; its minutes are those since then.

    python recipes/benchmarks/labels.py --train_data_dir /usr/share/datasets/fashion-mnist --horizontal_flip
    python recipes/benchmarks/labels.py --labelled 5 --output_dir outputs/labels-mnist
    python recipes/benchmarks/labels.py --table outputs/labels/labels.json
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from common import Results, fill_and_show, machine
from torch import Tensor

from ganaug import InputError, LabelledImages
from ganaug.cli.flags import run
from ganaug.cli.images import DataArguments
from ganaug.core.hardware import best_device, set_cpu_threads
from ganaug.evaluation import ShiftFlip, TrivialAugment, predict_probabilities, train_classifier
from ganaug.training import pseudo_label
from ganaug.training.pseudo_labels import MEMBERS, SURE

ALONE, BOTH = "labelled images alone", "labelled and unlabelled images"
STEPS = 700  # of classifiers of the labelled images alone, which are no better after more


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        labelled: Images of each class that keep their label.
        unlabeled: Further ones of each class that lose it, or as many as there are.
        draws: Seeds of the draws; those from 100 on are for choices, the others for results.
        horizontal_flip: Mirror images too; only where mirrored ones are still of their class.
        cpu_threads: Of the trainings; by default one for each core.
        output_dir: Folder for labels and labels.json, to which results are added.
        table: Train nothing: print the table of this labels.json.
    """

    data: DataArguments = field(default_factory=DataArguments)
    labelled: int = 20
    unlabeled: int = 2000
    draws: tuple[int, ...] = (0, 1, 2)
    horizontal_flip: bool = False
    cpu_threads: int | None = None
    output_dir: Path = Path("outputs/labels")
    table: Path | None = None


def measure(args: Arguments, results: Results) -> Iterator[None]:
    """Label the draws that are not there yet, in both ways."""
    results["machine"] = machine()
    set_cpu_threads(args.cpu_threads)
    images = args.data.open()
    of = {"images": images.fingerprint, "horizontal_flip": args.horizontal_flip}
    of |= {"labelled": args.labelled, "unlabeled": args.unlabeled}
    if results.setdefault("of", of) != of:
        raise InputError(f"{args.output_dir} has results of other images or flags. Give another --output_dir")
    for draw in args.draws:
        of_draw = results.setdefault("draws", {}).setdefault(str(draw), {})
        labelled, others = images.take([args.labelled] * len(images.classes), seed=draw)
        unlabeled = others.take([min(args.unlabeled, count) for count in others.class_counts], seed=draw)[0]
        for way, label in ((ALONE, by_labelled_alone), (BOTH, by_both)):
            if way not in of_draw:
                begin = time.perf_counter()
                of_draw[way] = label(labelled, unlabeled, args) | {"seconds": time.perf_counter() - begin}
                yield


def by_labelled_alone(labelled: LabelledImages, unlabeled: LabelledImages, args: Arguments) -> dict[str, float]:
    """Labels by classifiers that learn from the labelled images, with TrivialAugment."""
    augment = TrivialAugment(ShiftFlip.like(labelled, flip=args.horizontal_flip))
    probabilities = torch.zeros(len(unlabeled), len(labelled.classes))
    for seed in range(MEMBERS):
        classifier = train_classifier(labelled, steps=STEPS, seed=seed, augment=augment, device=best_device())
        probabilities += predict_probabilities(classifier, unlabeled.images) / MEMBERS
    return told(probabilities, unlabeled.targets)


def by_both(labelled: LabelledImages, unlabeled: LabelledImages, args: Arguments) -> dict[str, float]:
    """Labels as --unlabeled_data gives them, and what the labelled images that were left out say of them."""
    found = pseudo_label(
        labelled, unlabeled.images, horizontal_flip=args.horizontal_flip, cache_dir=args.output_dir / "kept"
    )
    judged = {
        "left_out": len(found.held_back),
        "of_them_right": int((found.answers.argmax(1) == found.held_back).sum()),
    }
    return told(found.probabilities, unlabeled.targets) | judged


def told(probabilities: Tensor, targets: Tensor) -> dict[str, float]:
    """How many labels are right, of all and of the sure ones, and how sure the classifiers are."""
    confidence, labels = probabilities.max(1)
    right, sure = labels == targets, confidence >= SURE
    return {
        "images": len(targets),
        "right": right.double().mean().item(),
        "confidence": confidence.double().mean().item(),
        "sure": sure.double().mean().item(),
        "right_of_sure": right[sure].double().mean().item() if sure.any() else 0.0,
    }


def table(results: Results) -> str:
    """Markdown with a row for each draw and way, and the mean difference between the ways."""
    lines = [
        f"| draw | classifiers of | labels right | mean probability | with {SURE} or more: share, right "
        "| labelled images left out: right | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for draw, ways in results["draws"].items():
        for way, found in ways.items():
            judged = f"{found['of_them_right']} of {found['left_out']}" if "left_out" in found else ""
            sure = f"{100 * found['sure']:.0f} %, {100 * found['right_of_sure']:.1f} %"
            lines.append(
                f"| {draw} | {way} | {100 * found['right']:.1f} % | {found['confidence']:.2f} | {sure} | {judged} "
                f"| {found['seconds'] / 60:.1f} |"
            )
    gains = [100 * (ways[BOTH]["right"] - ways[ALONE]["right"]) for ways in results["draws"].values() if BOTH in ways]
    if gains:
        by_draw = ", ".join(f"{gain:+.1f}" for gain in gains)
        lines += [
            "",
            f"More labels right by learning from unlabelled images: {statistics.mean(gains):+.1f} points ({by_draw})",
        ]
    return "\n".join(lines)


def main(args: Arguments) -> None:
    """Measure, and print the table of all results so far."""
    fill_and_show("labels", args, measure, table)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
