"""Signs that adversarial training has failed: every class one picture, or a discriminator that has won."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 8  # pixels: images are compared after averaging down to this, since noise is no diversity
LEAST_DIVERSITY = 0.3  # of the real images', mean over the classes
MOST_ACCURACY = 0.99  # of the discriminator, on real and on generated images


def relative_diversity(generated: Tensor, real: Tensor, labels: Tensor) -> Tensor:
    """How far apart generated images of a class are, as a multiple of how far real ones are, float (C,) on the CPU.

    Distances are Euclidean ones of images averaged down to 8 pixels a side; each class has the mean over its pairs.

    Args:
        generated, real (Tensor): float (N, C, H, W), both with these labels.
        labels (Tensor): int64 (N,). Classes with fewer than two images, or real ones that are all the same, are left
            out.
    """
    found = []
    for label in labels.unique():
        ours, theirs = (_mean_distance(images[labels == label]) for images in (generated, real))
        if theirs > 0:
            found.append(ours / theirs)
    return torch.stack(found) if found else torch.empty(0)


def _mean_distance(images: Tensor) -> Tensor:
    side = min(SIDE, images.shape[-1])
    flat = F.adaptive_avg_pool2d(images.float(), side).flatten(1).cpu()  # Apple's GPUs have no pdist
    return torch.pdist(flat).mean() if len(flat) > 1 else torch.zeros(())


def signs_of_failure(monitors: Mapping[str, float]) -> list[str]:
    """What a user should know of the monitors of a sample grid, in a sentence each."""
    found = []
    diversity = monitors.get("diversity")
    if diversity is not None and diversity < LEAST_DIVERSITY:
        found.append(
            f"images of a class are nearly one picture: {diversity:.2f} of the diversity of the real ones. An earlier "
            "checkpoint may be better; so may augment, or another model"
        )
    accuracies = [monitors.get(f"evaluated_accuracy_{kind}", 0.0) for kind in ("real", "fake")]
    if min(accuracies) >= MOST_ACCURACY:
        found.append(
            f"the discriminator is right on {accuracies[0]:.0%} of real and {accuracies[1]:.0%} of generated images: "
            "it has won, and the generator learns little from it. Try a lower discriminator_learning_rate, or augment"
        )
    return found
