"""Grey levels and what networks are given for them."""

from __future__ import annotations

import torch
from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """Map images from [-1, 1] to uint8 in [0, 255]: clamped, then rounded to the nearest grey level.

    Truncating, or wrapping values that leave the range, would mark generated images in a way a classifier can learn.
    """
    return images.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def to_float(images: Tensor) -> Tensor:
    """Map uint8 images (N, C, H, W) to float32 in [-1, 1], channels last: what networks are given."""
    return images.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1)
