"""Images in three forms: grey levels, the floats that networks are given, and PIL.

The two functions for PIL do what torchvision's do, whose import takes as long as all of torch.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """Map float images of any shape from [-1, 1] to uint8 in [0, 255]: clamped, then rounded to the nearest level.

    Truncating, or wrapping values outside the range, would mark generated images in a way a classifier can learn.
    """
    return images.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def to_float(images: Tensor) -> Tensor:
    """Map uint8 images (N, C, H, W) to float32 in [-1, 1], channels last, as networks are given them."""
    return images.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1)


def to_pil(image: Tensor) -> Image.Image:
    """PIL image of a uint8 (C, H, W) tensor on the CPU, with mode L, LA, RGB or RGBA for 1 to 4 channels."""
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def from_pil(image: Image.Image) -> Tensor:
    """Copy of the pixels of an 8-bit PIL image, uint8 (C, H, W)."""
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
