"""Is the generator that a run chooses better than its last one? Both are judged by images that the run never saw.

Each run is trained by its recipe on few images, five times as long as by default. Then the chosen generator and the
last one are compared with held-out real images, in the features of a classifier trained on other real ones, and by the
accuracy of classifiers trained on their images alone. A run takes about 40 minutes on two cores, five times the 7.5
minutes of 200 kimg; the seven classifiers come on top. A command that was stopped goes on where it was.

    python recipes/benchmarks/selection.py --train_data_dir /usr/share/datasets/fashion-mnist --horizontal_flip
    python recipes/benchmarks/selection.py --table outputs/selection/selection.json
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from common import Results, data_flags, fill_and_show, machine, require_known, spread, train_by_recipe

from ganaug import Generator, InputError, LabelledImages
from ganaug.cli.flags import run
from ganaug.cli.images import DataArguments
from ganaug.evaluation import ShiftFlip, SmallCNN, accuracy, fidelity, train_classifier
from ganaug.hub.weights import WEIGHTS
from ganaug.training import MODELS

GENERATED = 10_000
CLASSIFIERS = 3  # trained on generated images, for their spread


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        model: Which one; its recipe trains it.
        kimg: Length of each run.
        seeds: Runs.
        horizontal_flip: Mirror the images of the classifiers; only where a mirrored image is still of its class.
        output_dir: Folder for the runs and selection.json, to which results are added.
        table: Train nothing: print the table of this selection.json.
    """

    data: DataArguments = field(default_factory=lambda: DataArguments(images_per_class=100))
    model: str = "acgan-28"
    kimg: int = 1000
    seeds: tuple[int, ...] = (0,)
    horizontal_flip: bool = False
    output_dir: Path = Path("outputs/selection")
    table: Path | None = None


def train_one(folder: Path, seed: int, args: Arguments) -> None:
    """Train to the end by the recipe's own command, unless that is done."""
    if not (folder / WEIGHTS).exists():
        flags = ["--total_kimg", str(args.kimg), "--seed", str(seed)]
        flags += ["--output_dir", str(folder), "--resume_from_checkpoint", "latest", *data_flags(args.data)]
        train_by_recipe(args.model, *flags)


def judge(generator: Generator, held_out: LabelledImages, judging: SmallCNN, args: Arguments) -> dict[str, Any]:
    """What a generator's images are like."""
    labels = torch.arange(GENERATED) % len(held_out.classes)
    made = LabelledImages(generator.sample(labels, seed=1), labels, generator.label_names, "generated images")
    found = fidelity(made, held_out, judging)
    augment = ShiftFlip.like(held_out, flip=args.horizontal_flip)
    return {
        "label_fidelity": found.label_fidelity,
        "diversity": found.mean_diversity,
        "lowest_diversity": found.lowest_diversity,
        "kd_cnn": found.generated.kd_cnn,
        "scores": [
            accuracy(train_classifier(made, seed=seed, augment=augment), held_out) for seed in range(CLASSIFIERS)
        ],
    }


def measure(args: Arguments, results: Results) -> Iterator[None]:
    """Train and judge what is not there yet."""
    scored = {name: every for name, model in MODELS.items() if (every := model.settings.evaluation_kimg)}
    require_known([args.model], scored, "model")
    if args.kimg < scored[args.model]:
        raise InputError(
            f"{args.model} is scored every {scored[args.model]:g} kimg, so there is nothing to choose in {args.kimg}. "
            "Give a larger kimg"
        )
    images, others = args.data.open_with_rest()
    held_out = args.data.open_split("test", like=images)
    if others is None:
        raise InputError("the judge is trained on images that the runs do not see: give images_per_class")
    augment = ShiftFlip.like(images, flip=args.horizontal_flip)
    judging = cast(SmallCNN, train_classifier(others, steps=2000, augment=augment))
    results |= {"data": f"{images}", "machine": machine(), "judge": accuracy(judging, held_out)}
    runs = results.setdefault("runs", {})
    for seed in args.seeds:
        name = f"{args.model}-{seed}"
        if name in runs:
            continue
        folder = args.output_dir / name
        train_one(folder, seed, args)
        both = {
            "chosen": Generator.from_pretrained(folder),
            "last": Generator.from_pretrained(folder / "training/last"),
        }
        chosen = both["chosen"].info["training"]
        runs[name] = {
            "seed": seed,
            "kimg": {"chosen": chosen["chosen_after_kimg"], "last": args.kimg},
            **{which: judge(generator, held_out, judging, args) for which, generator in both.items()},
        }
        yield


def table(results: Results) -> str:
    """Markdown table of results."""
    lines = [
        "| seed | generator | after kimg | label fidelity | diversity, mean and least | KD-cnn | CAS |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in results["runs"].values():
        for which in ("chosen", "last"):
            row = found[which]
            lines.append(
                f"| {found['seed']} | {which} | {found['kimg'][which]:,.0f} | {row['label_fidelity']:.1%} "
                f"| {row['diversity']:.2f}, {row['lowest_diversity']:.2f} | {row['kd_cnn']:.3g} "
                f"| {spread(row['scores'])} |"
            )
    return "\n".join(lines)


def main(args: Arguments) -> None:
    """Measure, and print the table of all results so far."""
    fill_and_show("selection", args, measure, table)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
