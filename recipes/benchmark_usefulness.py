"""Do images of the default preset help a classifier? In several settings, each with the best that goes without them.

Each setting trains a generator by the default preset, on the very images it augments or on others, and evaluates it in
the way of recipes/evaluate.py, whose rule it shares: the ratio is chosen on a quarter of the held-out images, and the
others judge. Finished generators and classifiers are kept, so that a command that was stopped goes on.

    python recipes/benchmark_usefulness.py
    python recipes/benchmark_usefulness.py --table outputs/usefulness/usefulness.json
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import set_seed
from arguments import run

from ganaug import Generator, InputError, LabelledImages, open_images
from ganaug.data import joined, reduce_images
from ganaug.evaluation import UtilitySettings, evaluate
from ganaug.evaluation.cells import Cells
from ganaug.evaluation.leakage import without_overlap
from ganaug.evaluation.scores import Difference, balanced_accuracy, paired_difference
from ganaug.evaluation.study import Arm, Study
from ganaug.evaluation.utility import outcome_of
from ganaug.files import build_once, user_cache, write_json
from ganaug.pseudo_labels import pseudo_label
from ganaug.training import RunFolder, choose_preset, init_from, make_trainer, start_accelerator, train
from ganaug.training.hardware import set_cpu_threads
from ganaug.training.usefulness import OTHERS, SAME, UNLABELED

FASHION = "/usr/share/datasets/fashion-mnist"


@dataclass(frozen=True)
class Setting:
    """Images to augment, and where the generator comes from.

    Args:
        name: in words.
        images_per_class: of the training images; with long_tail, of the largest class. None: all.
        source: of the images, as :func:`ganaug.open_images` takes it; None for the bundled digits.
        long_tail: largest class to smallest.
        generator_from: what the generator is trained on.
        generator: folder of the generator, which settings may share.
        kimg: how long it is trained; by default as the preset says.
        rounds: how often a generator is trained; from the second time on it starts from the one before, which also
            helps to label.
        unlabeled: further images of each class whose labels are not used; classifiers label them.
        pseudo_labelled: whether they are training images of the classifiers too.
        alone: compare generated images alone with the real ones, instead of adding them.
        flip: whether a mirrored image is still of its class.
    """

    name: str
    images_per_class: int | None
    source: str | None = FASHION
    long_tail: float | None = None
    generator_from: str = SAME
    generator: str | None = None
    kimg: float | None = None
    rounds: int = 1
    unlabeled: int = 0
    pseudo_labelled: bool = False
    alone: bool = False
    flip: bool = True


SETTINGS = {
    "fashion-20": Setting("Fashion-MNIST, 20 of each class", 20),
    "fashion-100": Setting("Fashion-MNIST, 100 of each class", 100),
    "fashion-long-tail": Setting("Fashion-MNIST, 500 of the first class down to 5 of the last", 500, long_tail=100),
    "mnist-10": Setting("MNIST, 10 of each class", 10, source=None, flip=False),
    "fashion-20-published": Setting(
        "Fashion-MNIST, 20 of each class", 20, generator_from=OTHERS, generator="published", kimg=600
    ),
    "fashion-alone": Setting(
        "Fashion-MNIST, all, against generated alone", None, generator_from=OTHERS, generator="published", alone=True
    ),
    "fashion-20-unlabeled": Setting(
        "Fashion-MNIST, 20 of each class",
        20,
        generator_from=UNLABELED,
        generator="unlabeled",
        unlabeled=2000,
        rounds=2,
    ),
    "fashion-20-pseudo": Setting(
        "Fashion-MNIST, 20 of each class and 20,000 pseudo-labelled",
        20,
        generator_from=UNLABELED,
        generator="unlabeled",
        unlabeled=2000,
        rounds=2,
        pseudo_labelled=True,
    ),
}


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        settings: Which settings; all by default.
        utility: How the classifiers are trained.
        output_dir: Folder for the generators and usefulness.json, to which results are added.
        processes: Classifiers trained at a time on a CPU, each by one thread; by default one for each core.
        table: Train nothing: print the table of this usefulness.json.
    """

    settings: tuple[str, ...] = tuple(SETTINGS)
    utility: UtilitySettings = field(default_factory=UtilitySettings)
    output_dir: Path = Path("outputs/usefulness")
    processes: int | None = None
    table: Path | None = None


def fit(images: LabelledImages, folder: Path, setting: Setting, start: Generator | None = None) -> Generator:
    """A generator by the default preset, or the one that is in the folder."""

    def build(path: Path) -> None:
        preset = choose_preset(images)
        settings = replace(preset.settings, augment=("flip",) if setting.flip else ())
        settings = replace(settings, total_kimg=setting.kimg or settings.total_kimg)
        accelerator = start_accelerator(settings)
        set_seed(settings.seed)
        generator = preset.system.generator(images.classes, image_size=images.image_size, channels=images.channels)
        if start is not None:
            init_from(generator, start)
        train(make_trainer(generator, preset.system.objective, images, settings, accelerator), RunFolder(path))

    return Generator.from_pretrained(build_once(folder, build, what=f"a generator for {images.name}"))


def prepare(setting: Setting, folder: Path) -> tuple[LabelledImages, LabelledImages, Generator]:
    """Images that the classifiers train on, held-out ones, and the generator."""
    everything = open_images(setting.source)
    images, others = reduce_images(everything, images_per_class=setting.images_per_class, long_tail=setting.long_tail)
    # Published splits share a few images; all settings leave out the same ones.
    held_out = without_overlap(open_images(setting.source, split="test"), everything, ())[0]
    if setting.generator_from == SAME:
        return images, held_out, fit(images, folder, setting)
    if setting.generator_from == OTHERS:
        # Those that are left beside 20 of each class, also where all are compared with.
        return images, held_out, fit(reduce_images(everything, images_per_class=20)[1] or everything, folder, setting)
    unlabeled = cast(LabelledImages, others).take([setting.unlabeled] * len(images.classes))[0].images
    plain = pseudo_label(images, unlabeled, horizontal_flip=setting.flip)
    generator = fit(joined(images, plain), folder, setting)
    for number in range(2, setting.rounds + 1):
        better = pseudo_label(images, unlabeled, generator=generator, horizontal_flip=setting.flip)
        generator = fit(joined(images, better), folder.with_name(f"{folder.name}-{number}"), setting, generator)
    return joined(images, plain) if setting.pseudo_labelled else images, held_out, generator


def measure(key: str, args: Arguments) -> dict[str, Any]:
    """Train the generator of a setting, and evaluate it."""
    setting = SETTINGS[key]
    images, held_out, generator = prepare(setting, args.output_dir / (setting.generator or key))
    options = {
        "settings": replace(args.utility, horizontal_flip=setting.flip),
        "cache_dir": user_cache() / "evaluation",
        "processes": args.processes or set_cpu_threads(None),
    }
    compare = alone if setting.alone else mixed
    counts = [count for count in images.class_counts if count]
    return {
        "name": setting.name,
        "generator_from": setting.generator_from,
        "images_per_class": len(images) / len(images.classes),
        "imbalance": max(counts) / min(counts),
        "kimg": generator.info["training"]["total_kimg"],
        "training_minutes": generator.info["training"]["minutes"],
        **compare(images, held_out, generator, **options),
    }


def mixed(images: LabelledImages, held_out: LabelledImages, generator: Generator, **options: Any) -> dict[str, Any]:
    """What evaluate() says of generated images beside real ones."""
    found = evaluate(images, held_out, {"flow": generator}, **options)
    verdict, judged = found.utility.verdicts["flow"], found.judged["flow"]
    diversity = [value for value in judged.fidelity.diversity.values() if value is not None]
    return {
        "best_without": found.utility.reference.name,
        "with": verdict.primary.arm.name,
        "ratio": verdict.primary.arm.ratio,
        "recommended_ratio": verdict.recommended_ratio,
        "scores": {name: result.scores.tolist() for name, result in found.utility.arms.items()},
        "outcome": verdict.outcome,
        "sentence": verdict.sentence,
        "difference": ends(verdict.difference),
        "label_fidelity": judged.fidelity.label_fidelity,
        "diversity": statistics.mean(diversity),
        "lowest_diversity": judged.fidelity.lowest_diversity,
        "near_copies": judged.memorization.near_copies,
        "closer_to_train": judged.memorization.closer_to_train,
    }


def alone(
    images: LabelledImages,
    held_out: LabelledImages,
    generator: Generator,
    *,
    settings: UtilitySettings,
    cache_dir: Path,
    processes: int,
) -> dict[str, Any]:
    """Generated images alone against real ones (classification accuracy score; Ravuri and Vinyals 2019)."""
    study = Study(images, held_out, {"flow": generator}, settings=settings)
    real = Arm("real + classic")
    generated = study.generated_arm("flow", real)
    answers = Cells(study, cache_dir, processes=processes).run([real, generated], "generated images alone")
    right = {
        name: torch.stack([each.predicted == held_out.targets for each in cells]) for name, cells in answers.items()
    }
    classes = len(held_out.classes)
    difference = paired_difference(right[generated.name], right[real.name], held_out.targets, classes)
    return {
        "best_without": real.name,
        "with": generated.name,
        "ratio": 1.0,
        "scores": {
            name: balanced_accuracy(answer, held_out.targets, classes).tolist() for name, answer in right.items()
        },
        "outcome": outcome_of(difference),
        "difference": ends(difference),
    }


def ends(difference: Difference) -> dict[str, float]:
    """A difference as JSON values."""
    return {key: getattr(difference, key) for key in ("estimate", "low", "high", "p")}


def table(results: dict[str, Any]) -> str:
    """Markdown table of results."""
    lines = [
        "| real images | generator trained on | best without generated images | with them, at ratio "
        "| difference, points [95 % interval] | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for found in results["rows"].values():
        scores, gain = found["scores"], found["difference"]
        effort = f"{found['kimg']:g} kimg, {found['training_minutes']:.0f} min"
        lines.append(
            f"| {found['name']} | {found['generator_from']}, {effort} "
            f"| {found['best_without']}: {spread(scores[found['best_without']])} "
            f"| {spread(scores[found['with']])} at {found['ratio']:g} "
            f"| **{100 * gain['estimate']:+.1f}** [{100 * gain['low']:.1f}, {100 * gain['high']:.1f}] "
            f"| {found['outcome']} |"
        )
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds, in per cent."""
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f} %"


def plot(results: dict[str, Any], path: Path) -> None:
    """Differences with their intervals, one line for each setting."""
    from matplotlib.figure import Figure

    rows = list(results["rows"].values())
    figure = Figure(figsize=(8, 0.6 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    for y, found in enumerate(rows):
        low, middle, high = (100 * found["difference"][key] for key in ("low", "estimate", "high"))
        axes.errorbar(middle, y, xerr=[[middle - low], [high - middle]], fmt="o", color="C0", capsize=3)
    axes.axvline(0, color="grey", linewidth=1)
    axes.set_yticks(range(len(rows)), [f"{found['name']}\n(generator: {found['generator_from']})" for found in rows])
    axes.invert_yaxis()
    axes.set_xlabel("gain by generated images, points of balanced accuracy")
    figure.savefig(path, dpi=110)


def main(args: Arguments) -> None:
    """Fill what is not there yet, and print the table of all results so far."""
    path = args.table or args.output_dir / "usefulness.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() or args.table else {"rows": {}}
    if not args.table:
        unknown = [key for key in args.settings if key not in SETTINGS]
        if unknown:
            raise InputError(f"settings must be of {', '.join(SETTINGS)}; got {unknown[0]}")
        results["machine"] = f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, torch {torch.__version__}"
        for key in args.settings:
            if key not in results["rows"]:
                results["rows"][key] = measure(key, args)
                write_json(path, results)
                plot(results, path.with_suffix(".png"))
    print(table(results))


if __name__ == "__main__":
    run(Arguments, main, __doc__)
