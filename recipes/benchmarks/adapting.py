"""What adapting a generator of other classes is worth, by random splits of a dataset's classes into others' and own.

Half of the classes are the source's, with all their images; of the others the user has a few images each. Classifiers
learn the user's classes from these alone, or with half of the images from a generator: of the few images alone; of
the source, trained further as --init_from does; and of the source, adapted. They start from scratch, or were trained
on the source's classes first. All have TrivialAugment. Held-out images of the user's classes judge, and a classifier
of all their real images says how often a generator draws what it is asked for. Results depend on the split, so there
are several, listed one by one; the means have t intervals over the splits. From the speed of its parts, a split takes
about an hour for each number of images on two cores without bf16. What is finished is kept, so that a command that
was stopped goes on.

    python recipes/benchmarks/adapting.py --train_data_dir /usr/share/datasets/fashion-mnist --horizontal_flip
    python recipes/benchmarks/adapting.py --table outputs/adapting/adapting.json
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Results, fill_and_show, kept_classifier, machine
from torch import nn

from ganaug import Generator, InputError, LabelledImages
from ganaug.cli.flags import run
from ganaug.cli.images import DataArguments
from ganaug.core.files import build_once, read_tensors
from ganaug.core.hardware import set_cpu_threads
from ganaug.core.text import in_points
from ganaug.evaluation import ShiftFlip, SmallCNN, UtilitySettings, accuracy, train_classifier
from ganaug.evaluation.cells import Cells, Job, answers_of
from ganaug.evaluation.leakage import without_overlap
from ganaug.evaluation.study import Arm, Study
from ganaug.training import MODELS, AdaptingTrainer, TrainingSettings, choose_preset, fit, init_from
from ganaug.training.adapting import adapting_settings
from ganaug.training.fit import train_to_the_end
from ganaug.training.presets import QUICK

NONE, ALONE, FURTHER, ADAPTED = "none", "few images alone", "--init_from", "adapted"
GENERATORS = (ALONE, FURTHER, ADAPTED)
SCRATCH, PRETRAINED = "from scratch", "pre-trained"
CLASSIFIERS = (SCRATCH, PRETRAINED)
RATIO = 0.5  # of the images that a classifier sees are generated
JUDGED = 1000  # generated images, for label fidelity


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        settings: How the classifiers are trained; of them, only seeds, steps, batch_size and horizontal_flip are used.
        splits: Seeds of the splits; those from 100 on are for choices, the others for results.
        numbers: Images of each of the user's classes.
        source_kimg: Length of the source's training.
        cpu_threads: Of the trainings of generators, which run one by one.
        output_dir: Folder for the generators, classifiers and adapting.json, to which results are added.
        processes: Classifiers trained at a time on a CPU, each by one thread; by default one for each core.
        table: Train nothing: print the table of this adapting.json.
    """

    data: DataArguments = field(default_factory=DataArguments)
    settings: UtilitySettings = field(default_factory=lambda: UtilitySettings(seeds=3))
    splits: tuple[int, ...] = tuple(range(8))
    numbers: tuple[int, ...] = (20,)
    source_kimg: float = 120
    cpu_threads: int = 1
    output_dir: Path = Path("outputs/adapting")
    processes: int | None = None
    table: Path | None = None


@dataclass(frozen=True)
class Pretrained:
    """Makes a small CNN whose body was trained on other classes.

    Args:
        weights: file of the CNN's weights.
    """

    weights: Path

    def __call__(self, num_classes: int, *, channels: int, image_size: int) -> SmallCNN:
        """See :class:`ganaug.evaluation.ClassifierFactory`."""
        classifier = SmallCNN(num_classes, channels=channels, image_size=image_size)
        body = {name: value for name, value in read_tensors(self.weights).items() if not name.startswith("head.")}
        classifier.load_state_dict({**classifier.state_dict(), **body})
        return classifier


@dataclass(frozen=True)
class Split:
    """A split of the classes, and what is trained on its parts.

    Attributes:
        source (LabelledImages): all images of the others' classes.
        own (LabelledImages): all images of the user's classes, of which few are taken.
        held_out (LabelledImages): of the user's classes, to judge by.
        folder (Path): for what is trained.
        seed (int): of the split, and of all that is trained.
    """

    source: LabelledImages
    own: LabelledImages
    held_out: LabelledImages
    folder: Path
    seed: int


def split_of(args: Arguments, seed: int) -> Split:
    """A random half of the classes for the source, and the others for the user."""
    classes = args.data.open().classes
    if len(classes) < 4:
        raise InputError(f"two classes at least on either side take four, and the images have {len(classes)}")
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed)).tolist()
    half = len(classes) // 2
    source, own = (
        replace(args.data, classes=tuple(classes[k] for k in sorted(part))) for part in (order[:half], order[half:])
    )
    images = own.open()
    held_out = own.open_split("test", like=images)
    held_out = without_overlap(held_out, [(images, ())])[0]  # published splits share a few images
    return Split(source.open(), images, held_out, args.output_dir / str(seed), seed)


def generator_of(arm: str, images: LabelledImages, split: Split, args: Arguments) -> Generator:
    """The generator of an arm for the user's few images, or the one that was trained before."""

    def build(folder: Path) -> None:
        if arm == ADAPTED:
            source, settings = source_of(split, args), with_own(adapting_settings(images), split, args)
            train_to_the_end(lambda own, found: AdaptingTrainer(source, images, own, found), settings, folder)
            return

        def make() -> Generator:
            generator = MODELS[QUICK].make_generator(images)
            if arm == FURTHER:
                init_from(generator, source_of(split, args))
            return generator

        settings = choose_preset(images, model=QUICK).settings
        fit(make, MODELS[QUICK].objective, images, with_own(settings, split, args), folder)

    place = split.folder / f"{GENERATORS.index(arm)}-{len(images)}"
    return Generator.from_pretrained(build_once(place, build, what=f"the generator of {arm}"))


def source_of(split: Split, args: Arguments) -> Generator:
    """The generator of the others' classes, or the one that was trained before."""

    def build(folder: Path) -> None:
        settings = replace(MODELS[QUICK].settings, total_kimg=args.source_kimg)
        make, objective = lambda: MODELS[QUICK].make_generator(split.source), MODELS[QUICK].objective
        fit(make, objective, split.source, with_own(settings, split, args), folder)

    return Generator.from_pretrained(build_once(split.folder / "source", build, what="the source"))


def with_own(settings: TrainingSettings, split: Split, args: Arguments) -> TrainingSettings:
    """Settings with the seed of a split, and with what the flags say."""
    augment = ("flip",) if args.settings.horizontal_flip else ()
    return replace(settings, seed=split.seed, augment=augment, cpu_threads=args.cpu_threads)


def classifier_of(images: LabelledImages, name: str, split: Split, args: Arguments) -> tuple[SmallCNN, Path]:
    """A classifier of all these images, or the one that was trained before, and the file with its weights."""
    settings = args.settings

    def learn() -> nn.Module:
        augment = ShiftFlip.like(images, flip=settings.horizontal_flip)
        return train_classifier(
            images, steps=settings.steps, batch_size=settings.batch_size, seed=split.seed, augment=augment
        )

    path = split.folder / f"{name}.safetensors"
    return kept_classifier(path, images, learn, what=f"the classifier {name}"), path


def scores_of(classifier: str, arm: str, images: LabelledImages, split: Split, args: Arguments) -> list[float]:
    """Balanced accuracies of classifiers that learn an arm's images, one for each seed."""
    factory = Pretrained(classifier_of(split.source, "pretrained", split, args)[1])
    study = Study(
        images,
        split.held_out,
        {} if arm == NONE else {arm: generator_of(arm, images, split, args)},
        factory=SmallCNN if classifier == SCRATCH else factory,
        settings=args.settings,
    )
    real = Arm("real", args.settings.steps, augmentation="trivial")
    trained = real if arm == NONE else study.mixed_arm(arm, real, RATIO)
    cells = Cells([study], args.output_dir / "cells", processes=args.processes or set_cpu_threads(None))
    jobs = [Job(study, trained, seed) for seed in range(args.settings.seeds)]
    return answers_of(cells.run(jobs, f"split {split.seed}, {arm}"), split.held_out).scores.tolist()


def label_fidelity_of(generator: Generator, split: Split, args: Arguments) -> float:
    """How often a classifier of all real images of the user's classes sees what a generator was asked for."""
    judge, _ = classifier_of(split.own, "judge", split, args)
    labels = torch.arange(JUDGED) % generator.num_classes
    made = LabelledImages(generator.sample(labels, seed=1), labels, generator.label_names, "generated images")
    return accuracy(judge, made)


def measure(args: Arguments, results: Results) -> Iterator[None]:
    """Train and judge what is not there yet."""
    results["machine"] = machine()
    for seed in args.splits:
        of_split = results.setdefault("splits", {}).setdefault(str(seed), {"numbers": {}})
        wanted = {(number, arm) for number in args.numbers for arm in (NONE, *GENERATORS)}
        done = {
            (int(number), arm)
            for number, found in of_split["numbers"].items()
            for arm, scores in found["scores"].items()
            if len(scores) == len(CLASSIFIERS)
        }
        if wanted <= done:
            continue
        split = split_of(args, seed)
        of_split |= {"source": split.source.classes, "own": split.own.classes}
        for number in args.numbers:
            images = split.own.take([number] * len(split.own.classes), seed=seed)[0]
            found = of_split["numbers"].setdefault(str(number), {"scores": {}, "label_fidelity": {}, "seconds": {}})
            for arm in (NONE, *GENERATORS):
                if arm != NONE and arm not in found["label_fidelity"]:
                    generator = generator_of(arm, images, split, args)
                    found["label_fidelity"][arm] = label_fidelity_of(generator, split, args)
                    found["seconds"][arm] = generator.info["training"]["seconds"]
                    yield
                for classifier in CLASSIFIERS:
                    of_arm = found["scores"].setdefault(arm, {})
                    if classifier not in of_arm:
                        of_arm[classifier] = scores_of(classifier, arm, images, split, args)
                        yield


def table(results: Results) -> str:
    """Markdown of each number of images: a table with a row for each split, and the differences."""
    numbers = sorted({int(number) for split in results["splits"].values() for number in split["numbers"]})
    return "\n\n".join(table_of(number, results) for number in numbers)


def table_of(number: int, results: Results) -> str:
    """Balanced accuracies in each split that is finished, and label fidelity; mean differences over the splits."""
    finished = {
        seed: split["numbers"][str(number)]
        for seed, split in results["splits"].items()
        if is_finished(split["numbers"].get(str(number)))
    }
    arms = [(classifier, arm) for classifier in CLASSIFIERS for arm in (NONE, *GENERATORS)]
    lines = [
        f"{number} images of each class:",
        "",
        f"| split | the user's classes | {' | '.join(f'{classifier}: {arm}' for classifier, arm in arms)} "
        f"| {' | '.join(f'label fidelity: {arm}' for arm in GENERATORS)} |",
        "|---|---|" + "---|" * (len(arms) + len(GENERATORS)),
    ]
    scores = {
        (classifier, arm): [statistics.mean(found["scores"][arm][classifier]) for found in finished.values()]
        for classifier, arm in arms
    }
    fidelities = {arm: [found["label_fidelity"][arm] for found in finished.values()] for arm in GENERATORS}
    for k, seed in enumerate(finished):
        cells = [f"{100 * scores[each][k]:.1f}" for each in arms]
        cells += [f"{100 * fidelities[arm][k]:.1f} %" for arm in GENERATORS]
        lines.append(f"| {seed} | {', '.join(results['splits'][seed]['own'])} | {' | '.join(cells)} |")
    if len(finished) < 2:
        return "\n".join(lines)

    # Each generator against the same classifier without one, and against the better of the two classifiers without.
    best = max(CLASSIFIERS, key=lambda classifier: statistics.mean(scores[classifier, NONE]))
    lines += [
        "",
        "| classifier | generator | difference to none, points [95 % interval] | splits that it hurts "
        f"| difference to {best}: none |",
        "|---|---|---|---|---|",
    ]
    for classifier, arm in arms:
        to_none, to_best = (
            [ours - theirs for ours, theirs in zip(scores[classifier, arm], scores[other, NONE], strict=True)]
            for other in (classifier, best)
        )
        hurt = sum(value < 0 for value in to_none)
        first = "| |" if arm == NONE else f"{mean_and_interval(to_none)} | {hurt} of {len(to_none)} |"
        second = "" if (classifier, arm) == (best, NONE) else mean_and_interval(to_best)
        lines.append(f"| {classifier} | {arm} | {first} {second} |")
    return "\n".join(lines)


def is_finished(found: dict[str, Any] | None) -> bool:
    """Whether all arms of a split were judged by both classifiers."""
    arms = (found or {"scores": {}})["scores"]
    return all(len(arms.get(arm, ())) == len(CLASSIFIERS) for arm in (NONE, *GENERATORS))


def mean_and_interval(differences: list[float]) -> str:
    """The mean of differences between shares, with Student's t interval, in points."""
    from scipy import special

    mean = statistics.mean(differences)
    half = special.stdtrit(len(differences) - 1, 0.975) * np.std(differences, ddof=1) / len(differences) ** 0.5
    return in_points(mean, mean - half, mean + half)


def main(args: Arguments) -> None:
    """Measure, and print the table of all results so far."""
    fill_and_show("adapting", args, measure, table)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
