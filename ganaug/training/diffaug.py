"""Differentiable augmentation, which real and generated images alike go through before the discriminator."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ganaug.training.batches import BatchNoise

Operation = Literal["shift", "flip", "cutout", "brightness"]


class DifferentiableAugmentation:
    """Random operations on each image, through which gradients reach the generator.

    A discriminator that sees few images learns them by heart, unless it sees them shifted, mirrored and partly hidden.
    Generated images go through the same operations, so the generator does not learn to draw their traces.

    Pixels that a shift brings into view, and those that a cutout hides, get the colour of the background: grey
    appears in no image of a digit.

    Args:
        operations (sequence of str): any of ``"shift"`` (by up to 1/8 of the side, in both directions), ``"flip"``
            (mirrors half of the images; only for images whose mirror image is still of its class), ``"cutout"`` (a
            square with 0.4 of the side, at a random place, sometimes partly outside) and ``"brightness"`` (multiplies
            the difference from the background by 0.8 to 1.2).
        background (Tensor): float (C,) in [-1, 1], on the images' device; see
            :attr:`ganaug.LabelledImages.background`.
        noise (BatchNoise): where random numbers come from, on the images' device.

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
        background = self.background[:, None, None]
        with torch.autocast(images.device.type, enabled=False):  # operations must not round pixels
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
        # A shift or flip is a product with matrices of zeros and ones: gradients of indexing are far slower on a CPU.
        largest = [round(side * self.SHIFT) if "shift" in self.operations else 0 for side in values.shape[2:]]
        rows, columns = (
            self._sources(len(values), side, by) for side, by in zip(values.shape[2:], largest, strict=True)
        )
        if "flip" in self.operations:
            mirrored = self.noise.rand(len(values), 1) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        return _selection(rows) @ values @ _selection(columns).mT

    def _sources(self, count: int, side: int, largest_shift: int) -> Tensor:
        """Where each row (or column) of each image comes from, int64 (N, side); outside [0, side) is background."""
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
    """Matrices of zeros and ones whose product with an image picks those rows, float (N, 1, side, side)."""
    return (sources[:, None, :, None] == torch.arange(sources.shape[1], device=sources.device)).float()
