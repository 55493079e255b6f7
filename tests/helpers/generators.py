"""Generators that are always the same, generators whose images show their class, and users' own generators."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganaug import Generator, register_generator
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


class Blend(nn.Module):
    """Images of noise, and variations that are so much noise and so much the image that is varied."""

    def __init__(self, *names: str, side: int = 8, channels: int = 1):
        super().__init__()
        self.label_names, self.shape = names, (channels, side, side)
        self.latent_dim = channels * side**2

    def forward(self, z, labels):
        return z.tanh().view(-1, *self.shape)

    def forward_from(self, z, labels, images, strength):
        return torch.lerp(self(z, labels), images, 1 - strength)


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


class TwoLayers(Generator):
    """A small network; what makes one a case of its own is in :meth:`build` and :meth:`images`."""

    architecture = "two-layers"

    def __init__(self, label_names, *, image_size=8, channels=1, latent_dim=64):
        super().__init__(label_names, image_size=image_size, channels=channels, latent_dim=latent_dim)
        self.embedding = nn.Embedding(self.num_classes, latent_dim)
        self.first, self.second = nn.Linear(latent_dim, 64), nn.Linear(64, channels * image_size**2)
        self.build()

    def build(self) -> None:
        """Change the layers."""

    def images(self, values: Tensor) -> Tensor:
        return self.second(self.first(values).relu())

    def forward(self, z, labels):
        flat = self.images(z * self.embedding(labels)).tanh()
        return flat.unflatten(1, (self.channels, self.image_size, self.image_size))

    def make_discriminator(self):
        return FlatDiscriminator(self.channels * self.image_size**2, self.num_classes)


class FlatDiscriminator(nn.Module):
    def __init__(self, pixels, num_classes):
        super().__init__()
        self.real, self.classes = nn.Linear(pixels, 1), nn.Linear(pixels, num_classes)

    def forward(self, images, labels):
        return self.real(images.flatten(1)).squeeze(1), self.classes(images.flatten(1))


def own_class(name: str, **members: Any) -> type[TwoLayers]:
    """A registered class of generators, made once in a process and found by pickle."""
    if name not in globals():
        members |= {"architecture": name, "__module__": __name__}
        globals()[name] = register_generator(type(name, (TwoLayers,), members))
    return globals()[name]


def own_generator(name: str, names: tuple[str, ...] = ("cat", "dog"), **members: Any) -> TwoLayers:
    """Untrained generator of :func:`own_class`, always the same."""
    kind = own_class(name, **members)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(names).eval()


def tie(generator: TwoLayers) -> None:
    """One weight for both layers."""
    generator.second.weight = generator.first.weight


def times_w(generator: TwoLayers, values: Tensor) -> Tensor:
    """``images`` that depend on a tensor ``w``."""
    return TwoLayers.images(generator, values) * generator.w
