"""What is known before a training starts: the images, the model and why, what it takes here, what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ganaug.core.hardware import in_gibibytes
from ganaug.data import LabelledImages, classes_with_counts
from ganaug.training.presets import (
    IN_WORDS,
    SAME,
    Pace,
    Preset,
    nearest_row,
    time_training,
    what_has_helped,
)
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import Trainer

FEW_STEPS = 100  # a training of no more steps is over before it is timed
TIMED = 3.0  # seconds, roughly, for which steps are timed


@dataclass(frozen=True)
class Preflight:
    """What to say before a training starts; ``str`` of it is the text.

    Attributes:
        images (LabelledImages): that came with labels.
        model (Preset or str): what is trained and why; in words where the user chose it.
        takes (str): what the training takes here, in words; see :func:`cost_of`.
    """

    images: LabelledImages
    model: Preset | str
    takes: str

    @property
    def lines(self) -> list[str]:
        """Model, what it takes, and, of a preset, what was measured."""
        if isinstance(self.model, str):
            return [f"model: {self.model}", f"takes: {self.takes}"]
        return [self.model.choice, f"takes: {self.takes}", f"{self.model.expectation}."]

    def __str__(self) -> str:
        return "\n".join([f"classes: {classes_with_counts(self.images)}", *self.lines])


def cost_of(new_trainer: Callable[[], Trainer], settings: TrainingSettings) -> str:
    """What a training takes on this machine, in words, by timing a few of its steps.

    All processes must call this together.

    Args:
        new_trainer (callable): makes a trainer, which takes the steps.
        settings (TrainingSettings): that it is made with.
    """
    steps = math.ceil(1000 * settings.total_kimg / settings.train_batch_size)
    if steps <= FEW_STEPS:
        return f"{steps} step{'s' if steps > 1 else ''}, too few to time first"
    if settings.compile:
        return "not timed, since the networks would be compiled for that alone"
    return cost(time_training(new_trainer(), seconds=TIMED), settings.total_kimg)


def cost(pace: Pace, kimg: float) -> str:
    """What a training of this pace and length takes on this machine, in words."""
    minutes, held = pace.minutes(kimg), f"{in_gibibytes(pace.memory)} of memory"
    if pace.device_memory:
        held += f" and {in_gibibytes(pace.device_memory)} of the GPU's"
    about = "less than a minute" if minutes < 1 else f"about {_in_words(minutes)}"
    return f"{about} here and {held}, estimated from a few steps"


def _in_words(minutes: float) -> str:
    if minutes >= 120:
        return f"{minutes / 60:.1f} hours"
    return f"{math.ceil(minutes)} minute{'s' if minutes > 1 else ''}"


def too_few_or_too_short(images: LabelledImages, preset: Preset) -> str:
    """Whether more images or more training is what a set of images lacks, as far as measurements tell: a sentence.

    Args:
        images (LabelledImages): with labels.
        preset (Preset): what they would be trained with.
    """
    counts, length = images.distinct_counts, f"{preset.settings.total_kimg:g} kimg"
    if nearest_row(counts, SAME)["outcome"] == "helps":
        return f"A generator trained on about this many images, for the preset's length (here {length}), has helped"
    elsewhere = what_has_helped(counts, [kind for kind in IN_WORDS if kind != SAME])
    return (
        f"A generator trained on about this many images, for the preset's length (here {length}), has not helped. "
        f"{'What has helped brought in other images' if elsewhere else 'Nothing that was measured has helped'}. "
        "Whether longer training would help was not measured"
    )
