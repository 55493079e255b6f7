"""``acgan-64``: an auxiliary classifier GAN (Odena, Olah & Shlens 2017) with networks as large as DCGAN's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganaug.generators.base import Generator
from ganaug.generators.convolutions import DoublingConv2d, HalvingConv2d
from ganaug.generators.layers import FloatTanh, ToImages, init_normal
from ganaug.hub.registry import register_generator

CONDITIONINGS = ("multiply", "concat")


@register_generator
class ACGAN64Generator(Generator):
    """Generator of ``acgan-64``: a linear layer and four transposed convolutions, each doubling the size.

    12,675,915 trainable parameters for 2 classes of 64x64x3 images and ``latent_dim=100``.

    Args:
        label_names (sequence of str): class names.
        image_size (int): side of the images, a multiple of 16. Default: 64
        channels (int): Default: 3
        latent_dim (int): Default: 100
        conditioning (str): ``"multiply"``: latent times label embedding; ``"concat"``: latent and one-hot label side
            by side. Default: multiply

    Raises:
        InputError: the size is not a multiple of 16.
        ValueError: there is no such conditioning.
    """

    architecture = "acgan-64"

    def __init__(
        self,
        label_names: Sequence[str],
        *,
        image_size: int = 64,
        channels: int = 3,
        latent_dim: int = 100,
        conditioning: str = "multiply",
    ) -> None:
        super().__init__(label_names, image_size=image_size, channels=channels, latent_dim=latent_dim)
        self._require_multiple(16)
        if conditioning not in CONDITIONINGS:
            raise ValueError(f"conditioning must be one of {', '.join(CONDITIONINGS)}, got {conditioning!r}")
        self.conditioning = conditioning
        if conditioning == "multiply":
            self.embedding = nn.Embedding(self.num_classes, latent_dim)
        n_in = latent_dim if conditioning == "multiply" else latent_dim + self.num_classes
        side = image_size // 16
        self.layers = nn.Sequential(
            nn.Linear(n_in, 1024 * side**2),
            ToImages(1024),
            nn.BatchNorm2d(1024),
            nn.ReLU(),
            *_up(1024, 512),
            *_up(512, 256),
            *_up(256, 128),
            DoublingConv2d(128, channels),
            FloatTanh(),
        )
        init_normal(self)

    def network_options(self) -> dict[str, Any]:
        """See :meth:`Generator.network_options`."""
        return {**super().network_options(), "conditioning": self.conditioning}

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """See :meth:`Generator.forward`."""
        if self.conditioning == "multiply":
            return cast(Tensor, self.layers(z * self.embedding(labels)))
        return cast(Tensor, self.layers(torch.cat([z, F.one_hot(labels, self.num_classes).to(z.dtype)], 1)))

    def make_discriminator(self) -> ACGAN64Discriminator:
        """See :meth:`Generator.make_discriminator`."""
        return ACGAN64Discriminator(self.num_classes, image_size=self.image_size, channels=self.channels)


class ACGAN64Discriminator(nn.Module):
    """Discriminator of ``acgan-64``: four convolutions, each halving the size, a real/fake head and a class head.

    11,070,851 trainable parameters for 2 classes of 64x64x3 images.

    Args:
        num_classes (int): number of classes.
        image_size (int): Default: 64
        channels (int): Default: 3
    """

    def __init__(self, num_classes: int, *, image_size: int = 64, channels: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_down(channels, 128, norm=False),
            *_down(128, 256),
            *_down(256, 512),
            *_down(512, 1024),
            nn.Flatten(),
        )
        features = 1024 * (image_size // 16) ** 2
        self.real_fake_head = nn.Linear(features, 1)
        self.class_head = nn.Linear(features, num_classes)
        init_normal(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Real/fake and class logits; see :meth:`Generator.make_discriminator`. ``labels`` are not used."""
        features = self.layers(images)
        return self.real_fake_head(features).squeeze(1), self.class_head(features)


def _up(c_in: int, c_out: int) -> list[nn.Module]:
    return [DoublingConv2d(c_in, c_out), nn.BatchNorm2d(c_out), nn.ReLU()]


def _down(c_in: int, c_out: int, *, norm: bool = True) -> list[nn.Module]:
    layers: list[nn.Module] = [HalvingConv2d(c_in, c_out)]
    if norm:
        layers.append(nn.BatchNorm2d(c_out))
    return [*layers, nn.LeakyReLU(0.2)]
