"""Labels for unlabelled images, from classifiers trained on labelled ones."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError
from ganaug.core.hardware import best_device
from ganaug.data import LabelledImages, joined
from ganaug.data.stored import Pixels
from ganaug.evaluation.augmentation import ShiftFlip, TrivialAugment
from ganaug.evaluation.classifier import predict_probabilities, train_classifier
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.inference import ConditionalGenerator

logger = logging.getLogger(__name__)

SEEDS = 3  # classifiers, whose probabilities are averaged
STEPS = 700  # of each classifier
DRAWN = 1000  # generated images of each class


@usual_defaults()
def pseudo_label(
    labelled: LabelledImages,
    unlabeled: Pixels,
    *,
    generator: ConditionalGenerator | None = None,
    horizontal_flip: bool = False,
    confidence: float = 0.0,
) -> LabelledImages:
    """Label images with small classifiers that are trained on labelled ones with TrivialAugment.

    A generator that was trained on pseudo-labelled images can improve their labels: it draws more variety than the
    labelled images have, and repeats fewer single wrong labels than the pseudo-labelled images do.

    Args:
        labelled (LabelledImages): what the classifiers are trained on.
        unlabeled (Tensor or StoredImages): images, uint8 (N, C, H, W), of the same shape as the labelled ones.
        generator (Generator or module, optional): draws half of what the classifiers are trained on. Default: none
        horizontal_flip (bool): augment by mirroring too; only for images whose mirror image is still of its class.
            Default: False
        confidence (float): least probability, in [0, 1], of an image's most probable class; images below it are left
            out. Default: 0, which keeps all

    Returns:
        LabelledImages: the images that are kept, in their order.

    Raises:
        InputError: the unlabelled images have another shape, or no image reaches ``confidence``.

    Source: Lee 2013, "Pseudo-label: the simple and efficient semi-supervised learning method for deep neural
    networks".
    """
    if unlabeled.shape[1:] != labelled.images.shape[1:]:
        raise InputError(
            f"unlabelled images must have the shape of the labelled ones, {tuple(labelled.images.shape[1:])}; got "
            f"{tuple(unlabeled.shape[1:])}"
        )
    classic = ShiftFlip.like(labelled, flip=horizontal_flip)
    augment = TrivialAugment(classic)  # with few labels it is worth percentage points
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
            f"no unlabelled image has a class with a probability of {confidence} or more; the highest is "
            f"{found.max():.2f}. Lower confidence"
        )
    name = f"{int(kept.sum()):,} pseudo-labelled images"
    logger.info("%s of %s", name, f"{len(unlabeled):,}")
    everything = replace(labelled, images=unlabeled, targets=labels)
    return everything.subset(torch.nonzero(kept).squeeze(1), name)
