"""Differentiable augmentation: what the discriminator sees of real and generated images alike."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ganaug.training.batches import BatchNoise

Operation = Literal["shift", "flip", "cutout", "brightness"]


class DifferentiableAugmentation:
    """Random operations on each image, through which gradients reach the generator.

    A discriminator that sees a few images only learns them by heart; one that sees them moved, mirrored and partly
    hidden cannot. Generated images go through the same, so the generator is not led to draw such images itself.

    What comes into view at a border and what a cutout hides has the colour of the background: grey in their place is
    in no image of a digit.

    Args:
        operations (sequence of str): any of ``"shift"`` (by up to 1/8 of the side, in both directions), ``"flip"``
            (mirror half of the images; only where a mirrored image is still of its class), ``"cutout"`` (a square of
            0.4 of the side, at a random place, partly outside at times) and ``"brightness"`` (difference to the
            background times 0.8 to 1.2).
        background (Tensor): float (C,) in [-1, 1]; see :attr:`ganaug.LabelledImages.background`.
        noise (BatchNoise): what is drawn from, on the images' device.

    Source: Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training".
    """

    SHIFT, CUTOUT, BRIGHTNESS = 1 / 8, 0.4, 0.2

    def __init__(self, operations: tuple[Operation, ...], background: Tensor, noise: BatchNoise) -> None:
        self.operations = operations
        self.background = background
        self.noise = noise

    def __call__(self, images: Tensor) -> Tensor:
        """Augment float images (N, C, H, W) in [-1, 1]."""
        if not self.operations:
            return images
        background = self.background.to(images.device)[:, None, None]
        with torch.autocast(images.device.type, enabled=False):  # a shift moves pixels, it does not round them
            values = images.float() - background
            if "shift" in self.operations or "flip" in self.operations:
                values = self._moved(values)
            if "cutout" in self.operations:
                values = values * self._outside_squares(values)
            if "brightness" in self.operations:
                factor = 1 + self.BRIGHTNESS * (2 * self.noise.rand(len(values), 1, 1, 1) - 1)
                values = values * factor
            return (values + background).contiguous(memory_format=torch.channels_last)

    def _moved(self, values: Tensor) -> Tensor:
        # As products with matrices of zeros and ones: the gradient of indexing takes far longer on a CPU.
        largest = [round(side * self.SHIFT) if "shift" in self.operations else 0 for side in values.shape[2:]]
        rows, columns = (
            self._sources(len(values), side, by) for side, by in zip(values.shape[2:], largest, strict=True)
        )
        if "flip" in self.operations:
            mirrored = self.noise.rand(len(values), 1) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        return _selection(rows) @ values @ _selection(columns).mT

    def _sources(self, count: int, side: int, largest_shift: int) -> Tensor:
        """For each image, the rows (or columns) that its rows come from, int64 (N, side); outside is background."""
        shift = self.noise.randint(-largest_shift, largest_shift + 1, count, 1)
        return torch.arange(side, device=shift.device) + shift

    def _outside_squares(self, values: Tensor) -> Tensor:
        """1 outside a random square of each image and 0 inside it, float (N, 1, H, W)."""
        inside = []
        for side in values.shape[2:]:
            centre = side * self.noise.rand(len(values), 1)
            pixels = torch.arange(side, device=values.device) + 0.5
            inside.append((pixels - centre).abs() < self.CUTOUT * side / 2)
        return ~(inside[0][:, None, :, None] & inside[1][:, None, None, :])


def _selection(sources: Tensor) -> Tensor:
    """Matrices that pick rows, float (N, 1, side, side)."""
    return (sources[:, None, :, None] == torch.arange(sources.shape[1], device=sources.device)).float()
