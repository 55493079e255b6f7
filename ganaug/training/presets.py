"""The default preset for a set of images, the utility to expect of it, and how much training fits into a time."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.resources import files
from itertools import cycle, islice
from typing import Any

import torch

from ganaug.core.errors import InputError
from ganaug.core.hardware import memory_held
from ganaug.core.integers import check_minutes
from ganaug.core.text import in_points
from ganaug.data import LabelledImages
from ganaug.evaluation.classifier_names import DEFAULT
from ganaug.training.models import MODELS
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import Phase, Trainer

QUICK, WIDE, ONE_PASS = "flow", "flow-wide", "acgan"
ENOUGH = 0.5  # share of the wide network's kimg; if less fits into the budget, the narrow one is trained
# For up to so many images, the kimg of models. An acgan is a flow for as long as the narrow flow.
LENGTHS: tuple[tuple[float, dict[str, float]], ...] = (
    (500, {QUICK: 60, ONE_PASS: 110}),
    (5_000, {QUICK: 150, ONE_PASS: 275}),
    (math.inf, {QUICK: 300, WIDE: 600, ONE_PASS: 550}),
)

# What generators were trained on, in the table of measured utility.
SAME, OTHERS, UNLABELED = "the same images", "all other training images", "the same and unlabelled images"
PSEUDO_LABELLED = "those images"  # which the classifiers were trained on too
IN_WORDS = {SAME: "own images", OTHERS: "a published generator of these classes", UNLABELED: "unlabelled images"}
IMBALANCED = 5  # largest class over smallest, above which images count as imbalanced

WHY_A_FLOW = "It has no discriminator, so it cannot collapse"
WHY_ONE_PASS = "It is a flow first, meets a discriminator at the end, and draws an image in one pass"

FAR = 3  # times as many images of each class, or a third: what was measured there says little

WARM_UP = 3  # first steps, which are slower and not timed
TIMED = 10.0  # seconds, roughly, for which steps are timed
MOST_TIMED = 0.1  # of the minutes that are given


@dataclass(frozen=True)
class Preset:
    """A model and settings for a set of images.

    Attributes:
        model (str): name in :data:`MODELS`.
        settings (TrainingSettings): how long it is trained, and how.
        reason (str): why this model and length, in a sentence or two.
        expectation (str): what utility to expect, see :func:`expected_utility`.
    """

    model: str
    settings: TrainingSettings
    reason: str
    expectation: str

    @property
    def choice(self) -> str:
        """The model and length, and why."""
        return f"preset: {self.model}, {in_kimg(self.settings.total_kimg)}. {self.reason}."

    def __str__(self) -> str:
        return f"{self.choice}\n{self.expectation}."


def in_kimg(kimg: float) -> str:
    """The length of a training, and what its unit means."""
    return f"{kimg:g} kimg ({1000 * kimg:,.0f} images shown in training)"


def choose_preset(
    images: LabelledImages,
    *,
    labelled: LabelledImages | None = None,
    model: str | None = None,
    settings: TrainingSettings | None = None,
) -> Preset:
    """The default model and settings for these images; one that is there several times counts once.

    Args:
        images (LabelledImages): all images to train on.
        labelled (LabelledImages, optional): those of them that came with labels. Default: all
        model (str, optional): one of :func:`models_with_presets`. Default: the flow that draws best, given time
        settings (TrainingSettings, optional): what the run is trained with after all, where a user's flags or a budget
            go before the preset; the sentences are about these. Default: the preset's own

    Raises:
        InputError: the model has no presets.
    """
    if model is not None and model not in models_with_presets():
        raise InputError(f"there are presets of {', '.join(models_with_presets())}; got {model!r}")
    counts, known = images.distinct_counts, (labelled or images).distinct_counts
    distinct = sum(counts)
    lengths = next(lengths for most, lengths in LENGTHS if distinct <= most)
    model = model or (WIDE if WIDE in lengths else QUICK)
    kimg = lengths.get(model, lengths[QUICK])
    present = [count for count in images.class_counts if count]
    largest, smallest, imbalanced = max(present), min(present), is_imbalanced(present)
    own = preset_settings(model, kimg, imbalanced)

    held = settings or own
    times = 1000 * held.total_kimg / distinct
    repeated = "" if distinct == len(images) else f" ({len(images):,} with repetitions)"
    reason = (
        f"{WHY_ONE_PASS if model == ONE_PASS else WHY_A_FLOW}. {distinct:,} images{repeated} are shown "
        f"{f'{times:,.0f}' if times >= 10 else f'{times:.2g}'} times each"
    )
    if held.total_kimg == kimg:
        reason += "; the fewer there are, the shorter the training, so that it ends before they are copied"
    else:
        reason += f"; the preset's full length is {kimg:g} kimg"
    if model == QUICK and WIDE in lengths:
        reason += f". {WIDE}, which draws better images in the end, would need more time"
    if imbalanced:
        how = "small ones are shown more often (square-root sampling)"
        if held.class_sampling != own.class_sampling:
            how = f"class_sampling {held.class_sampling:g} decides how often small ones are shown"
        reason += f". Classes have {smallest:,} to {largest:,} images: {how}"
    expectation = expected_utility(known, generator_from=UNLABELED if sum(known) < distinct else SAME)
    if held.total_kimg < kimg:
        expectation += (
            f". All this was measured at the preset's full length: expect less after {held.total_kimg:g} kimg"
        )
    if model == ONE_PASS:
        expectation += f". All this was measured with {QUICK} and {WIDE}, and not with {ONE_PASS}"
    return Preset(model, held, reason, expectation)


def preset_within(
    images: LabelledImages,
    settings_of: Callable[[Preset], TrainingSettings],
    *,
    labelled: LabelledImages | None = None,
    model: str | None = None,
) -> Preset:
    """The preset with the settings that a run will have; by default the narrow flow's if time is short for the wide.

    Args:
        images (LabelledImages), labelled (LabelledImages, optional), model (str, optional): see
            :func:`choose_preset`.
        settings_of (callable): from a preset to what its model is trained with after all: with what the user chose,
            and for no longer than the user has. If no model is named, it is called for the wide network, and for the
            narrow one if that gets less than half of the wide one's own length.
    """
    preset = choose_preset(images, labelled=labelled, model=model)
    settings = settings_of(preset)
    if model is None and preset.model == WIDE and settings.total_kimg < ENOUGH * preset.settings.total_kimg:
        model = QUICK
        settings = settings_of(choose_preset(images, labelled=labelled, model=model))
    return choose_preset(images, labelled=labelled, model=model, settings=settings)


def models_with_presets() -> tuple[str, ...]:
    """Names of the models whose settings follow from the number of images."""
    return tuple(dict.fromkeys(model for _, lengths in LENGTHS for model in lengths))


def possible_settings(model: str | None = None) -> list[TrainingSettings]:
    """The settings of all presets of a model, for whatever images; by default, of all that are chosen by default."""
    return [
        preset_settings(name, lengths.get(name, lengths[QUICK]), imbalanced)
        for _, lengths in LENGTHS
        for name in ([model] if model else [name for name in lengths if name != ONE_PASS])
        for imbalanced in (False, True)
    ]


def preset_settings(model: str, kimg: float, imbalanced: bool) -> TrainingSettings:
    """A model's own settings for this length, and for these shares of classes."""
    own = MODELS[model].settings
    # A shorter run has as many grids.
    own = replace(own, total_kimg=kimg, sample_kimg=own.sample_kimg * kimg / own.total_kimg)
    return replace(own, class_sampling=0.5) if imbalanced else own


@cache
def measured_utility() -> dict[str, Any]:
    """The table of measured utility: ``rows`` has one for each setting.

    The columns are those of the benchmark's results that are read here or shown in the README. ``scores`` are balanced
    accuracies on the test images, one for each seed, without generated images and with them.
    """
    table: dict[str, Any] = json.loads(files("ganaug.training").joinpath("utility.json").read_text("utf-8"))
    return table


def expected_utility(class_counts: Sequence[int], *, generator_from: str = SAME) -> str:
    """What was measured with about this many real images, and what has helped: a sentence or two.

    In the settings considered, the classifier is the one that ``ganaug evaluate`` takes if it is told no other.

    Args:
        class_counts (sequence of int): number of labelled images of each class.
        generator_from (str): what the generator was trained on, in the table's words. Default: the images that it
            augments
    """
    row = nearest_row(class_counts, generator_from)
    difference = [row["difference"][key] for key in ("estimate", "low", "high")]
    at = f" at ratio {row['ratio']:g}" if row["outcome"] == "helps" else ""
    found = f"{in_points(*difference, unit=' points')} of balanced accuracy{at}"
    mean, measured = sum(class_counts) / len(class_counts), row["images_per_class"]
    far = (
        f", with far {'fewer' if measured < mean else 'more'} images" if not 1 / FAR <= measured / mean <= FAR else ""
    )
    told = (
        f"measured: the case closest to yours is {row['name']}{far}. There, {IN_WORDS[row['generator_from']]}: "
        f"{row['outcome']} ({found})"
    )
    if row["outcome"] == "helps":
        return told
    return f"{told}. What has helped: {what_has_helped(class_counts, IN_WORDS) or 'nothing that was measured'}"


def what_has_helped(class_counts: Sequence[int], kinds: Iterable[str]) -> str:
    """Which generators have helped, with the gain at the nearest number of images; empty if none has.

    Args:
        class_counts (sequence of int): number of labelled images of each class.
        kinds (iterable of str): what the generators were trained on, in the table's words.
    """
    helped = []
    for kind in kinds:
        if rows := [row for row in _rows(kind) if row["outcome"] == "helps"]:
            row = min(rows, key=partial(_distance, class_counts))
            gain, size = 100 * row["difference"]["estimate"], row["images_per_class"]
            helped.append(f"{IN_WORDS[kind]} ({gain:+.1f} at {size:g} of each class)")
    return ", ".join(helped)


def nearest_row(class_counts: Sequence[int], generator_from: str) -> dict[str, Any]:
    """The row of the table whose images are most like these in number and balance."""
    imbalanced = is_imbalanced(class_counts)
    rows = _rows(generator_from) or _rows(SAME)
    rows = [row for row in rows if (row["imbalance"] > IMBALANCED) == imbalanced] or rows
    return min(rows, key=partial(_distance, class_counts))


def least_measured() -> float:
    """The least number of images of each class for which a generator of one's own images was judged."""
    return float(min(row["images_per_class"] for row in _rows(SAME)))


def is_imbalanced(class_counts: Sequence[int]) -> bool:
    """Whether the largest class has more than :data:`IMBALANCED` times the images of the smallest that has any."""
    present = [count for count in class_counts if count]
    return max(present) > IMBALANCED * min(present)


def _rows(generator_from: str) -> list[dict[str, Any]]:
    """Rows of the usual classifier in which generated images are added to real ones, not put in their place."""
    return [
        row
        for row in measured_utility()["rows"].values()
        if row["classifier"] == DEFAULT and row["generator_from"] == generator_from and row["ratio"] < 1
    ]


def _distance(class_counts: Sequence[int], row: dict[str, Any]) -> tuple[float, float]:
    """How far a row's number of images is from these; of rows equally far, the one that promises least is nearest."""
    mean = sum(class_counts) / len(class_counts)
    return abs(math.log(mean / row["images_per_class"])), row["difference"]["estimate"]


@dataclass(frozen=True)
class Pace:
    """How fast a training runs on this machine.

    Attributes:
        seconds_per_step (float): as a mean over the processes.
        images_per_step (int): real images shown in a step by all processes together.
        memory (int): bytes that a process of the training holds.
        device_memory (int): bytes of an accelerator's own memory that it took; 0 on the CPU.
    """

    seconds_per_step: float
    images_per_step: int
    memory: int
    device_memory: int

    def kimg_within(self, minutes: float) -> float:
        """How many thousand images it shows in so many minutes, at least those of one step.

        Raises:
            InputError: ``minutes`` is not positive and finite.
        """
        check_minutes("budget_minutes", minutes)
        kimg = max(minutes * 60 / self.seconds_per_step, 1) * self.images_per_step / 1000
        return float(f"{kimg:.3g}")  # no more digits than are measured, so that what is told is what is trained

    def minutes(self, kimg: float) -> float:
        """How long it takes to show so many thousand images."""
        return 1000 * kimg / self.images_per_step * self.seconds_per_step / 60


def time_training(trainer: Trainer, *, seconds: float) -> Pace:
    """Time a few steps of a training, after some that are not timed.

    All processes must call this together.

    Args:
        trainer (Trainer): takes the steps, and must not be used afterwards.
        seconds (float): for about how long steps are timed.
    """
    accelerator = trainer.accelerator
    on_cuda = accelerator.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(accelerator.device)
    with torch.random.fork_rng():
        each = sum(_time_phase(trainer, phase, seconds / len(trainer.phases)) for phase in trainer.phases)
    each /= trainer.total_steps
    memory = memory_held()
    on_device = torch.cuda.max_memory_allocated(accelerator.device) if on_cuda else 0
    accelerator.free_memory()  # which holds on to the networks otherwise
    return Pace(each, trainer.images_per_step, memory, on_device)


def seconds_to_time(minutes: float) -> float:
    """For how long to time steps where so many minutes are given.

    Raises:
        InputError: ``minutes`` is not positive and finite.
    """
    check_minutes("budget_minutes", minutes)
    return min(TIMED, MOST_TIMED * 60 * minutes)


def kimg_within(minutes: float, trainer: Trainer) -> float:
    """How many thousand images training shows in so many minutes on this machine, estimated by timing a few steps.

    All processes must call this together.

    Args:
        minutes (float): for the steps alone; opening the images, grids and scores take extra time.
        trainer (Trainer): takes the timed steps, and must not be used afterwards.

    Returns:
        float: kimg of all processes together.

    Raises:
        InputError: ``minutes`` is not positive and finite.
    """
    return time_training(trainer, seconds=seconds_to_time(minutes)).kimg_within(minutes)


def _time_phase(trainer: Trainer, phase: Phase, seconds: float) -> float:
    """Seconds that a phase will take, by about so many seconds of its steps."""
    length = phase.last - phase.first
    before = _mean_over_processes(trainer, trainer.rehearse(phase))
    # A phase after the first may begin with steps that are shorter than the others.
    numbers = cycle(range(phase.first + (length // 2 if phase.first else 0), phase.last))
    _time_steps(trainer, numbers, WARM_UP)
    one = _time_steps(trainer, numbers, 1)
    steps = max(1, min(100, round(seconds / one)))
    return before + length * _time_steps(trainer, numbers, steps) / steps


def _time_steps(trainer: Trainer, numbers: Iterator[int], count: int) -> float:
    """Seconds that the next of these steps take, as a mean over the processes."""
    started = time.perf_counter()
    for step in islice(numbers, count):
        monitors = trainer.step(step)
    next(iter(monitors.values())).item()  # waits until the device has finished
    return _mean_over_processes(trainer, time.perf_counter() - started)


def _mean_over_processes(trainer: Trainer, seconds: float) -> float:
    return float(trainer.accelerator.reduce(torch.tensor(seconds, device=trainer.accelerator.device), "mean"))
