"""Labels for images that have none, from a classifier trained on those that have."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import Tensor

from ganaug.data import LabelledImages
from ganaug.devices import best_device
from ganaug.errors import InputError
from ganaug.evaluation.augmentations import ShiftFlip
from ganaug.evaluation.classifier import predict_probabilities, train_classifier

logger = logging.getLogger(__name__)

SEEDS = 3  # classifiers whose probabilities are averaged
STEPS = 700


def pseudo_label(
    labelled: LabelledImages, unlabeled: Tensor, *, horizontal_flip: bool = False, confidence: float = 0.0
) -> LabelledImages:
    """Label images by small classifiers that were trained on labelled ones.

    Args:
        labelled (LabelledImages): what the classifiers are trained on, with classic augmentation.
        unlabeled (Tensor): uint8 (N, C, H, W), of the same form.
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
    augment = ShiftFlip(labelled.image_size // 8, flip=horizontal_flip, background=labelled.background)
    probabilities = torch.zeros(len(unlabeled), len(labelled.classes))
    for seed in range(SEEDS):
        classifier = train_classifier(labelled, steps=STEPS, seed=seed, augment=augment, device=best_device())
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
