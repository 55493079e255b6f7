"""Images of numbered classes, each filled with the grey level of its label, so that a test can see which it shows.

Those of :class:`helpers.generators.Honest` show classes that have names instead.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from ganaug import LabelledImages

TEN = tuple(map(str, range(10)))


class Grey(nn.Module):
    """Draws class k as a square of grey level 20 * k + 10."""

    latent_dim = 1

    def __init__(self, label_names: tuple[str, ...] | None = TEN, side: int = 8, channels: int = 1):
        super().__init__()
        self.label_names, self.shape = label_names, (channels, side, side)

    def forward(self, z, labels):
        return ((20 * labels.float() + 10) / 127.5 - 1)[:, None, None, None].expand(-1, *self.shape)


def grey_images(labels, classes=TEN, side: int = 8, channels: int = 1) -> LabelledImages:
    """Images of some labels, as the generator draws them."""
    labels = torch.as_tensor(labels)
    pixels = (20 * labels + 10).to(torch.uint8)[:, None, None, None].expand(-1, channels, side, side)
    return LabelledImages(pixels.contiguous(), labels, tuple(classes), "greys")


def shown(image) -> int:
    """Which class a picture, uint8 or PIL, shows."""
    return round((float(np.asarray(image).mean()) - 10) / 20)


class Greys(Dataset):
    """PIL images of some labels, as torchvision's datasets are; ``form`` makes the label of an item."""

    def __init__(self, labels, transform=None, target_transform=None, form=int):
        self.targets, self.form = [int(k) for k in labels], form
        self.transform, self.target_transform = transform, target_transform

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        image = Image.new("L", (8, 8), 20 * self.targets[index] + 10)
        label = self.form(self.targets[index])
        return (
            self.transform(image) if self.transform else image,
            self.target_transform(label) if self.target_transform else label,
        )


def labels_and_classes(train) -> set[tuple]:
    """(label, class shown, whether generated) of all items of a mixed dataset."""
    return {(train[i][1], shown(train[i][0]), bool(train.source[i])) for i in range(len(train))}
