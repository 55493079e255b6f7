"""``cgan-mlp``: the conditional GAN (Mirza & Osindero 2014) with plain fully connected networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ganaug.generators.base import Generator
from ganaug.generators.layers import ByteDropout, FloatTanh
from ganaug.hub.registry import register_generator

# Public versions write BatchNorm1d(n, 0.8), which sets eps. Keras' momentum 0.8 was meant: 0.2 in PyTorch's terms.
BATCH_NORM_MOMENTUM = 0.2


@register_generator
class CGANMLPGenerator(Generator):
    """Generator of ``cgan-mlp``: label embedding and latent, concatenated, through four hidden layers.

    1,511,412 trainable parameters for 10 classes of 28x28x1 images and ``latent_dim=100``.

    Args:
        label_names (sequence of str): class names.
        image_size (int): side of the images. Default: 28
        channels (int): Default: 1
        latent_dim (int): Default: 100
    """

    architecture = "cgan-mlp"

    def __init__(
        self, label_names: Sequence[str], *, image_size: int = 28, channels: int = 1, latent_dim: int = 100
    ) -> None:
        super().__init__(label_names, image_size=image_size, channels=channels, latent_dim=latent_dim)
        self.embedding = nn.Embedding(self.num_classes, self.num_classes)
        self.layers = nn.Sequential(
            *_hidden(latent_dim + self.num_classes, 128, norm=False),
            *_hidden(128, 256),
            *_hidden(256, 512),
            *_hidden(512, 1024),
            nn.Linear(1024, channels * image_size**2),
            FloatTanh(),
            nn.Unflatten(1, (channels, image_size, image_size)),
        )

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """See :meth:`Generator.forward`."""
        return cast(Tensor, self.layers(torch.cat([self.embedding(labels), z], 1)))

    def make_discriminator(self) -> CGANMLPDiscriminator:
        """See :meth:`Generator.make_discriminator`."""
        return CGANMLPDiscriminator(self.num_classes, image_size=self.image_size, channels=self.channels)


class CGANMLPDiscriminator(nn.Module):
    """Discriminator of ``cgan-mlp``: image and label embedding, concatenated, through three hidden layers.

    932,965 trainable parameters for 10 classes of 28x28x1 images.

    Args:
        num_classes (int): number of classes.
        image_size (int): Default: 28
        channels (int): Default: 1
    """

    def __init__(self, num_classes: int, *, image_size: int = 28, channels: int = 1) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_classes, num_classes)
        self.layers = nn.Sequential(
            nn.Linear(channels * image_size**2 + num_classes, 512),
            nn.LeakyReLU(0.2),
            nn.Linear(512, 512),
            nn.LeakyReLU(0.2),
            ByteDropout(0.4),
            nn.Linear(512, 512),
            nn.LeakyReLU(0.2),
            ByteDropout(0.4),
            nn.Linear(512, 1),
        )

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, None]:
        """Real/fake logits of images with these labels; see :meth:`Generator.make_discriminator`."""
        return self.layers(torch.cat([images.flatten(1), self.embedding(labels)], 1)).squeeze(1), None


def _hidden(n_in: int, n_out: int, *, norm: bool = True) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Linear(n_in, n_out)]
    if norm:
        layers.append(nn.BatchNorm1d(n_out, momentum=BATCH_NORM_MOMENTUM))
    return [*layers, nn.LeakyReLU(0.2)]
