"""Labels for images that have none, from a classifier trained on those that have."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import Tensor

from ganaug.core.errors import InputError
from ganaug.core.hardware import best_device
from ganaug.data import LabelledImages, joined
from ganaug.evaluation.classifier import ShiftFlip, TrivialAugment, predict_probabilities, train_classifier
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.inference import ConditionalGenerator

logger = logging.getLogger(__name__)

SEEDS = 3  # classifiers whose probabilities are averaged
STEPS = 700
DRAWN = 1000  # generated images of each class


def pseudo_label(
    labelled: LabelledImages,
    unlabeled: Tensor,
    *,
    generator: ConditionalGenerator | None = None,
    horizontal_flip: bool = False,
    confidence: float = 0.0,
) -> LabelledImages:
    """Label images by small classifiers that were trained on labelled ones.

    A generator that was trained on such labels can make better ones: its images show more than the labelled ones do,
    and less of single wrong labels than the pseudo-labelled ones.

    Args:
        labelled (LabelledImages): what the classifiers are trained on, with TrivialAugment.
        unlabeled (Tensor): uint8 (N, C, H, W), of the same form.
        generator (Generator or module, optional): half of what the classifiers are trained on is drawn from it.
        horizontal_flip (bool): augment by mirroring too; only where a mirrored image is still of its class. Default:
            False
        confidence (float): leave out images whose class has a lower probability, in [0, 1]. Default: 0, which keeps
            all

    Returns:
        LabelledImages: those kept, in their order.

    Source: Lee 2013, "Pseudo-label: the simple and efficient semi-supervised learning method for deep neural
    networks".

    Raises:
        InputError: the images are of another form, or none is as confident as that.
    """
    if unlabeled.shape[1:] != labelled.images.shape[1:]:
        raise InputError(
            f"unlabelled images must have the shape of the labelled ones, {tuple(labelled.images.shape[1:])}; they "
            f"have {tuple(unlabeled.shape[1:])}"
        )
    classic = ShiftFlip.like(labelled, flip=horizontal_flip)
    augment = TrivialAugment(classic)  # with few labels it is worth points
    probabilities = torch.zeros(len(unlabeled), len(labelled.classes))
    data, weights = labelled, None
    if generator is not None:
        labels = torch.arange(len(labelled.classes)).repeat_interleave(DRAWN)
        images = ClassSampler(generator, labelled.classes, device=best_device()).draw(labels, range(len(labels)))
        data = joined(labelled, LabelledImages(images, labels, labelled.classes, "generated images"))
        sizes = torch.tensor([len(labelled)] * len(labelled) + [len(labels)] * len(labels))
        weights = 1 / sizes
    for seed in range(SEEDS):
        classifier = train_classifier(
            data, steps=STEPS, seed=seed, weights=weights, augment=augment, device=best_device()
        )
        probabilities += predict_probabilities(classifier, unlabeled) / SEEDS
    found, labels = probabilities.max(1)
    kept = found >= confidence
    if not kept.any():
        raise InputError(
            f"no unlabelled image has a class of probability {confidence}; the highest is {found.max():.2f}"
        )
    name = f"{int(kept.sum()):,} pseudo-labelled images"
    logger.info("%s of %s", name, f"{len(unlabeled):,}")
    return replace(labelled, images=unlabeled[kept], targets=labels[kept], name=name)
