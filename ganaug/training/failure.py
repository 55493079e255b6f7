"""Signs that adversarial training has failed: each class is one picture, or the discriminator has won."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 8  # pixels: images are compared after averaging down to this, since noise is not diversity
LEAST_DIVERSITY = 0.3  # relative to real images, mean over the classes
MOST_ACCURACY = 0.99  # of the discriminator, on real and on generated images


def relative_diversity(generated: Tensor, real: Tensor, labels: Tensor) -> Tensor:
    """How far apart the generated images of each class are, as a multiple of how far apart the real ones are.

    The distance within a class is the mean Euclidean distance between two of its images, averaged down to 8x8 pixels.

    Args:
        generated, real (Tensor): float (N, C, H, W), both with these labels.
        labels (Tensor): int64 (N,). A class is left out if it has fewer than two images, or if all its real images are
            the same.

    Returns:
        Tensor: float (C,) on the CPU, one value for each class that is not left out; 1 is as diverse as real images.
    """
    found = []
    for label in labels.unique():
        ours, theirs = (_mean_distance(images[labels == label]) for images in (generated, real))
        if theirs > 0:
            found.append(ours / theirs)
    return torch.stack(found) if found else torch.empty(0)


def _mean_distance(images: Tensor) -> Tensor:
    side = min(SIDE, images.shape[-1])
    flat = F.adaptive_avg_pool2d(images.float(), side).flatten(1).cpu()  # pdist does not run on Apple's GPUs
    return torch.pdist(flat).mean() if len(flat) > 1 else torch.zeros(())


def signs_of_failure(monitors: Mapping[str, float]) -> list[str]:
    """Sentences that warn of failure, one for each sign in what :meth:`ganaug.training.Trainer.closer_look` found."""
    found = []
    diversity = monitors.get("diversity")
    if diversity is not None and diversity < LEAST_DIVERSITY:
        found.append(
            f"images of a class are nearly one picture: they have {diversity:.2f} of the diversity of the real ones. "
            "An earlier checkpoint may be better; so may augment, or another model"
        )
    accuracies = [monitors.get(f"evaluated_accuracy_{kind}", 0.0) for kind in ("real", "fake")]
    if min(accuracies) >= MOST_ACCURACY:
        found.append(
            f"the discriminator is right on {accuracies[0]:.0%} of real and {accuracies[1]:.0%} of generated images: "
            "it has won, and the generator learns little from it. Try a lower discriminator_learning_rate, or augment"
        )
    return found
