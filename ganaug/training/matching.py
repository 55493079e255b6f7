"""Distribution matching: two flows say where generated images are more frequent than real ones."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ganaug.training.batches import BatchNoise

TIMES = 0.02, 0.98  # on the way from noise to image, at which they are asked
LEAST_DISTANCE = 1e-3  # that a gradient is divided by


class Flow(Protocol):
    """What tells where images on their way from noise are heading, as a :class:`FlowGenerator` does."""

    def velocity(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Float (N, C, H, W), the change of each of x_t for each unit of time t (N,)."""
        ...


def matching_loss(images: Tensor, labels: Tensor, real: Flow, fake: Flow, noise: BatchNoise) -> Tensor:
    """A loss whose gradient moves generated images to where real ones are more frequent.

    It is the gradient of an approximate KL divergence of the generated from the real images: the difference between
    the images where two flows see the same noisy ones end.

    Args:
        images (Tensor): generated, float (N, C, H, W) in [-1, 1], with a gradient.
        labels (Tensor): int64 (N,).
        real (Flow): learned the real images.
        fake (Flow): learned the generated ones, as they are by now.
        noise (BatchNoise): where what is random comes from.

    Returns:
        Tensor: half the mean square of that difference, each image's in units of how far it is from where the flow of
        real images sees it end.

    Source: Yin et al. 2024, "One-step diffusion with distribution matching distillation", eq. 7 and 8, without the
    factor alpha_t that these leave of them.
    """
    with torch.no_grad():
        # Put the images on their way from noise, at a time of its own for each.
        least, most = TIMES
        t = least + (most - least) * noise.rand(len(images))
        share = t[:, None, None, None]
        x_t = torch.lerp(noise.randn(*images.shape), images, share)

        # Where each flow sees them end: x_1 = x_t + (1 - t) v.
        of_real, of_fake = (x_t + (1 - share) * flow.velocity(x_t, t, labels) for flow in (real, fake))

        distance = (images - of_real).abs().mean((1, 2, 3), keepdim=True).clamp(min=LEAST_DISTANCE)
        wanted = images - (of_fake - of_real) / distance
    return 0.5 * (images - wanted).square().mean()
