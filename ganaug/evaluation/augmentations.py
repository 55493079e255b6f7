"""Classic augmentation of training batches: what generated images have to improve on.

Both draw from torch's global random state, as torchvision's transforms do; :func:`train_classifier` seeds and restores
it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ganaug.data import LabelledImages


class ShiftFlip:
    """Move each image by up to ``max_shift`` pixels in both directions and, where allowed, mirror half of them.

    It is the random crop after padding of He et al. 2016 (4 of 32 pixels), padded with the background.

    Args:
        max_shift (int): in pixels.
        flip (bool): whether a mirrored image is still of its class.
        background (Tensor): uint8 (C,), see :attr:`ganaug.LabelledImages.background`.
    """

    def __init__(self, max_shift: int, *, flip: bool, background: Tensor) -> None:
        self.max_shift = max_shift
        self.flip = flip
        self.background = background

    @classmethod
    def like(cls, images: LabelledImages, *, flip: bool) -> ShiftFlip:
        """By up to an eighth of the side, over the background of some images."""
        return cls(images.image_size // 8, flip=flip, background=images.background)

    def __call__(self, images: Tensor) -> Tensor:
        """Augment uint8 images (N, C, H, W)."""
        (n, c, h, w), by = images.shape, self.max_shift
        padded = self.background.to(images.device).view(1, c, 1, 1).repeat(n, 1, h + 2 * by, w + 2 * by)
        padded[:, :, by : by + h, by : by + w] = images
        offsets = torch.randint(2 * by + 1, (2, n, 1))
        rows, columns = torch.arange(h) + offsets[0], torch.arange(w) + offsets[1]
        if self.flip:
            columns = torch.where(torch.rand(n, 1) < 0.5, columns.flip(1), columns)
        return padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class TrivialAugment:
    """:class:`ShiftFlip`, then one random operation of random strength on each image.

    Source: Müller and Hutter 2021, "TrivialAugment: tuning-free yet state-of-the-art data augmentation", with the wide
    range of strengths, by ``torchvision.transforms.v2``.
    """

    def __init__(self, shift_flip: ShiftFlip) -> None:
        from torchvision.transforms import v2

        self.shift_flip = shift_flip
        self.operation = v2.TrivialAugmentWide(fill=shift_flip.background.tolist())

    def __call__(self, images: Tensor) -> Tensor:
        """Augment uint8 images (N, C, H, W)."""
        return torch.stack([self.operation(image) for image in self.shift_flip(images)])
