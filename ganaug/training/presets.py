"""What is trained where nobody says what: the default preset, what to expect of it, and how much fits into a time."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import torch

from ganaug.core.errors import InputError
from ganaug.data import LabelledImages
from ganaug.training.models import MODELS
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import Trainer

QUICK, WIDE = "flow", "flow-wide"
ENOUGH = 0.5  # of the wide network's kimg; with a budget of less, the narrow one is trained
LENGTHS: tuple[tuple[float, dict[str, float]], ...] = (  # up to so many images: kimg of the models for them
    (500, {QUICK: 60}),
    (5_000, {QUICK: 150}),
    (math.inf, {QUICK: 300, WIDE: 600}),
)

# What a generator was trained on, in the table of measured utility.
SAME, OTHERS, UNLABELED = "the same images", "all other training images", "the same and unlabelled images"
PSEUDO_LABELLED = "those images"  # which the classifiers see too
IMBALANCED = 5  # largest class to smallest, from which on the rows of imbalanced images are the nearest

WARM_UP = 3  # steps, which are slower
TIMED = 10.0  # seconds, about


@dataclass(frozen=True)
class Preset:
    """A way to train, chosen for a set of images.

    Attributes:
        model (str): name in :data:`MODELS`.
        settings (TrainingSettings): how long and how.
        reason (str): why this one, in a sentence or two.
        expectation (str): what images of such a generator were found to be good for.
    """

    model: str
    settings: TrainingSettings
    reason: str
    expectation: str

    def __str__(self) -> str:
        return f"preset: {self.model}, {self.settings.total_kimg:g} kimg. {self.reason}.\n{self.expectation}."


def choose_preset(images: LabelledImages, *, labelled: LabelledImages | None = None, quick: bool = False) -> Preset:
    """The default way to train on these images.

    Args:
        images (LabelledImages): what will be trained on.
        labelled (LabelledImages, optional): those of it that came with labels. Default: all
        quick (bool): the narrow network also where the wide one is better, if it has the time. Default: False
    """
    lengths = next(lengths for most, lengths in LENGTHS if len(images) <= most)
    model = WIDE if WIDE in lengths and not quick else QUICK
    kimg = lengths[model]
    settings = MODELS[model].settings
    reason = (
        f"It has no discriminator, so there is nothing that can collapse. {len(images):,} images are "
        f"shown {1000 * kimg / len(images):,.0f} times each; the fewer they are, the shorter the training, "
        "before they are copied"
    )
    if quick and WIDE in lengths:
        reason += f". {WIDE}, which draws better images in the end, would need more time"
    largest, smallest = max(images.class_counts), max(1, min(images.class_counts))
    if largest > IMBALANCED * smallest:
        settings = replace(settings, class_sampling=0.5)
        reason += f". Classes have {smallest:,} to {largest:,} images: small ones are shown more often (square root)"
    # Shorter runs have as many grids.
    share = kimg / settings.total_kimg
    settings = replace(settings, total_kimg=kimg, sample_kimg=settings.sample_kimg * share)
    known = labelled or images
    expectation = expected_utility(known.class_counts, unlabeled=len(known) < len(images))
    return Preset(model, settings, reason, expectation)


@cache
def measured_utility() -> dict[str, Any]:
    """The table as it was measured, of which ``rows`` are the settings."""
    table: dict[str, Any] = json.loads(files("ganaug.training").joinpath("utility.json").read_text("utf-8"))
    return table


def expected_utility(class_counts: Sequence[int], *, unlabeled: bool = False) -> str:
    """What a generator trained on the images that it augments brought for about so many, in a sentence or two.

    Args:
        class_counts (sequence of int): labelled images of each class.
        unlabeled (bool): whether unlabelled ones are trained on too. Default: False
    """
    present = [count for count in class_counts if count]
    imbalanced = max(present) > IMBALANCED * min(present)
    table = list(measured_utility()["rows"].values())
    own, helped_by_unlabeled = ([row for row in table if row["generator_from"] == what] for what in (SAME, UNLABELED))
    rows = helped_by_unlabeled if unlabeled and helped_by_unlabeled else own
    rows = [row for row in rows if (row["imbalance"] > IMBALANCED) == imbalanced] or rows
    mean = sum(class_counts) / len(class_counts)
    # Of several at one size, the one that promises least.
    row = min(rows, key=lambda row: (abs(math.log(mean / row["images_per_class"])), row["difference"]["estimate"]))
    estimate, low, high = (100 * row["difference"][key] for key in ("estimate", "low", "high"))
    found = f"{estimate:+.1f} points [{low:.1f}, {high:.1f}] of balanced accuracy"
    advice = {
        "helped": f"Expect about as much, at ratio {row['ratio']:g}",
        "no measurable effect": "Expect no gain",
        "hurt": "Expect harm",
    }[row["outcome"]]
    return (
        f"what to expect: nearest to your images, of what was measured, is {row['name']}. There, images of this "
        f"preset brought {found}. {advice}, and measure: recipes/evaluate.py"
    )


def kimg_within(minutes: float, trainer: Trainer) -> float:
    """Thousands of images that training shows in so many minutes on this machine, by a few steps that are timed.

    Args:
        minutes (float): for the steps alone; opening the images and writing grids come on top.
        trainer (Trainer): trained for these steps, and of no use afterwards. Of several processes all must ask.

    Raises:
        InputError: ``minutes`` is not positive and finite.
    """
    if not 0 < minutes < float("inf"):
        raise InputError(f"budget_minutes must be positive and finite, got {minutes}")
    with torch.random.fork_rng():
        _time_steps(trainer, 0, WARM_UP)
        one = _time_steps(trainer, WARM_UP, 1)
        steps = max(1, min(100, round(TIMED / one)))
        each = _time_steps(trainer, WARM_UP + 1, steps) / steps
    return max(minutes * 60 / each, 1) * trainer.images_per_step / 1000


def _time_steps(trainer: Trainer, first: int, count: int) -> float:
    """Seconds that steps take, the same number on all processes."""
    started = time.perf_counter()
    for step in range(first, first + count):
        monitors = trainer.step(step)
    next(iter(monitors.values())).item()  # waits for the device
    seconds = torch.tensor(time.perf_counter() - started, device=trainer.accelerator.device)
    return float(trainer.accelerator.reduce(seconds, "mean"))
