"""What is trained where nobody says what: the default preset, for so many images, and what to expect of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ganaug.data import LabelledImages
from ganaug.training.models import MODELS
from ganaug.training.settings import TrainingSettings
from ganaug.training.usefulness import IMBALANCED, expected_usefulness

QUICK, WIDE = "flow", "flow-wide"
ENOUGH = 0.5  # of the wide network's kimg; with a budget of less, the narrow one is trained
LENGTHS: tuple[tuple[float, dict[str, float]], ...] = (  # up to so many images: kimg of the models for them
    (500, {QUICK: 60}),
    (5_000, {QUICK: 150}),
    (math.inf, {QUICK: 300, WIDE: 600}),
)


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
    expectation = expected_usefulness(known.class_counts, unlabeled=len(known) < len(images))
    return Preset(model, settings, reason, expectation)
