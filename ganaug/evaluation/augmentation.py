"""How batches of real and generated images are augmented for a classifier.

Everything here draws from torch's global random state, as torchvision's transforms do;
:func:`ganaug.evaluation.train_classifier` seeds and restores it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ganaug.data import LabelledImages
from ganaug.evaluation.operations import BINS, change_at_random, usual, wide

BatchTransform = Callable[[Tensor], Tensor]  # uint8 (N, C, H, W) to the same


class ShiftFlip:
    """Classic augmentation: shift each image at random and, if allowed, mirror every second one on average.

    Source: He et al. 2016, "Deep residual learning for image recognition", section 4.2: a random crop after padding
    by 4 of 32 pixels. Here the padding is the background, not zeros.

    Args:
        max_shift (int): largest shift in each direction, in pixels.
        flip (bool): mirror images; only if a mirrored image still belongs to its class.
        background (Tensor): uint8 (C,), the colour that moves in; see :attr:`ganaug.LabelledImages.background`.
    """

    def __init__(self, max_shift: int, *, flip: bool, background: Tensor) -> None:
        self.max_shift = max_shift
        self.flip = flip
        self.background = background

    @classmethod
    def like(cls, images: LabelledImages, *, flip: bool) -> ShiftFlip:
        """Shift by up to an eighth of the side of these images, over their background."""
        return cls(images.image_size // 8, flip=flip, background=images.background)

    def __call__(self, images: Tensor) -> Tensor:
        """Augment uint8 images (N, C, H, W)."""
        (n, c, h, w), by = images.shape, self.max_shift
        # Pad every image on all sides, then cut each out again at an offset of its own.
        padded = self.background.to(images.device).view(1, c, 1, 1).repeat(n, 1, h + 2 * by, w + 2 * by)
        padded[:, :, by : by + h, by : by + w] = images
        offsets = torch.randint(2 * by + 1, (2, n, 1))
        rows, columns = torch.arange(h) + offsets[0], torch.arange(w) + offsets[1]
        if self.flip:
            columns = torch.where(torch.rand(n, 1) < 0.5, columns.flip(1), columns)
        return padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class TrivialAugment:
    """:class:`ShiftFlip`, then one random operation of random strength on each image.

    Source: Müller and Hutter 2021, "TrivialAugment: tuning-free yet state-of-the-art data augmentation", algorithm 1
    with the wide range of strengths, distributed as in ``torchvision.transforms.v2``.
    """

    def __init__(self, shift_flip: ShiftFlip) -> None:
        self.shift_flip = shift_flip

    def __call__(self, images: Tensor) -> Tensor:
        """Augment uint8 images (N, C, H, W)."""
        images = self.shift_flip(images)
        bins = torch.randint(BINS, images.shape[:1])
        return change_at_random(images, wide(), bins, self.shift_flip.background)


class RandAugment:
    """:class:`ShiftFlip`, then two random operations of medium strength on each image.

    Source: Cubuk et al. 2020, "RandAugment: practical automated data augmentation with a reduced search space", with
    the number of operations and the strength that ``torchvision.transforms.v2`` has, and distributed as there.
    """

    OPERATIONS = 2
    STRENGTH = 9  # of 31

    def __init__(self, shift_flip: ShiftFlip) -> None:
        self.shift_flip = shift_flip

    def __call__(self, images: Tensor) -> Tensor:
        """Augment uint8 images (N, C, H, W)."""
        images = self.shift_flip(images)
        table, bins = usual(images.shape[-1]), torch.full(images.shape[:1], self.STRENGTH)
        for _ in range(self.OPERATIONS):
            images = change_at_random(images, table, bins, self.shift_flip.background)
        return images


def mixup_or_cutmix(num_classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Mixes each image of a batch with another one: all by MixUp or all by CutMix, which of the two is drawn anew.

    The mixing takes float images (N, C, H, W) and classes, int64 (N,), and returns images of the same shape and the
    shares of the classes in them, float32 (N, num_classes).

    Sources: Zhang et al. 2018, "mixup: beyond empirical risk minimization"; Yun et al. 2019, "CutMix: regularization
    strategy to train strong classifiers with localizable features"; both as ``torchvision.transforms.v2`` implements
    them, with any share equally likely.
    """
    from torchvision.transforms import v2

    mixing: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = v2.RandomChoice(
        [v2.MixUp(num_classes=num_classes), v2.CutMix(num_classes=num_classes)]
    )
    return mixing
