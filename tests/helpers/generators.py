"""Generators that are always the same."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ganaug.generators import ACGAN28Generator


def make_generator(names: tuple[str, ...] = tuple("0123456789"), **options: int) -> ACGAN28Generator:
    """Untrained generator whose weights are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = ACGAN28Generator(names, **options)
        # One forward pass in training mode gives BatchNorm statistics that an evaluation pass can use.
        generator(torch.randn(64, generator.latent_dim), torch.arange(64) % len(names))
    return generator.eval()


LEVELS = {"ant": 40.0, "bee": 100.0, "cat": 160.0, "dog": 220.0}  # grey level of the images of each class


def shown(image) -> str:
    """The class that an image shows, of any kind whose values are in [0, 255]."""
    level = float(np.asarray(image, dtype=np.float64).mean())
    return min(LEVELS, key=lambda name: abs(LEVELS[name] - level))


class Honest(nn.Module):
    """Images of 4x4 pixels that show the class that is asked for, but a share ``wrong`` of them the next one."""

    latent_dim = 1

    def __init__(self, *names: str, wrong: float = 0.0):
        super().__init__()
        self.label_names, self.wrong = names, wrong
        self.register_buffer("levels", torch.tensor([LEVELS[name] for name in names]))

    def forward(self, z, labels):
        missed = (torch.special.ndtr(z[:, 0]) < self.wrong).long()
        level = self.levels[(labels + missed) % len(self.levels)]
        return (level / 127.5 - 1).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)


class Sees(nn.Module):
    """A classifier of :class:`Honest`'s images; its logits are in the order of ``names``."""

    def __init__(self, *names: str):
        super().__init__()
        self.register_buffer("levels", torch.tensor([LEVELS[name] for name in names]) / 127.5 - 1)

    def forward(self, images):
        return -((images.mean((1, 2, 3))[:, None] - self.levels) ** 2) * 100


class Projection(nn.Module):
    """A conditional discriminator of :class:`Honest`'s images, in the generator's order of classes."""

    def __init__(self, *names: str):
        super().__init__()
        self.sees = Sees(*names)

    def forward(self, images, labels):
        return (self.sees(images).argmax(1) == labels) * 2.0 - 1, None
