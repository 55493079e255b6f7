"""``acgan-28``: the small upsampling variant of the auxiliary classifier GAN (Odena, Olah & Shlens 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from ganaug.generators.base import Generator
from ganaug.generators.convolutions import ToGreyConv2d, UpsampledConv2d
from ganaug.generators.layers import ByteDropout, FloatTanh, ToImages, same_conv
from ganaug.hub.registry import register_generator

# Keras' BatchNormalization(momentum=0.8) keeps 0.8 of the running value; PyTorch's momentum is what it replaces.
BATCH_NORM_MOMENTUM = 0.2


@register_generator
class ACGAN28Generator(Generator):
    """Generator of ``acgan-28``: latent times label embedding, then nearest upsampling and 3x3 convolutions.

    326,601 trainable parameters for 10 classes of 28x28x1 images and ``latent_dim=100``.

    Args:
        label_names (sequence of str): class names.
        image_size (int): side of the images, a multiple of 4. Default: 28
        channels (int): Default: 1
        latent_dim (int): Default: 100

    Raises:
        InputError: the size is not a multiple of 4.
    """

    architecture = "acgan-28"

    def __init__(
        self, label_names: Sequence[str], *, image_size: int = 28, channels: int = 1, latent_dim: int = 100
    ) -> None:
        super().__init__(label_names, image_size=image_size, channels=channels, latent_dim=latent_dim)
        self._require_multiple(4)
        self.embedding = nn.Embedding(self.num_classes, latent_dim)
        self.project = nn.Sequential(
            nn.Linear(latent_dim, 32 * (image_size // 4) ** 2),
            nn.ReLU(),
            ToImages(32),
        )
        self.layers = nn.Sequential(
            *_generator_block(32, 64),
            *_generator_block(64, 128, upsampled=True),
            *_generator_block(128, 64, upsampled=True),
            ToGreyConv2d(64, channels),
            FloatTanh(),
        )

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """See :meth:`Generator.forward`."""
        return cast(Tensor, self.layers(self.project(z * self.embedding(labels))))

    def make_discriminator(self) -> ACGAN28Discriminator:
        """See :meth:`Generator.make_discriminator`."""
        return ACGAN28Discriminator(self.num_classes, channels=self.channels)


class ACGAN28Discriminator(nn.Module):
    """Discriminator of ``acgan-28``: four 3x3 convolutions, a real/fake head and a class head.

    98,763 trainable parameters for 10 classes and one channel.

    Args:
        num_classes (int): number of classes.
        channels (int): Default: 1
    """

    def __init__(self, num_classes: int, *, channels: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_discriminator_block(channels, 16, stride=2, norm=False),
            *_discriminator_block(16, 32, stride=2, norm=True),
            _PadToEven(),
            *_discriminator_block(32, 64, stride=2, norm=True),
            *_discriminator_block(64, 128, stride=1, norm=False),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.real_fake_head = nn.Linear(128, 1)
        self.class_head = nn.Linear(128, num_classes)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Real/fake and class logits; see :meth:`Generator.make_discriminator`. ``labels`` are not used."""
        features = self.layers(images)
        return self.real_fake_head(features).squeeze(1), self.class_head(features)


def _generator_block(c_in: int, c_out: int, *, upsampled: bool = False) -> list[nn.Module]:
    return [
        UpsampledConv2d(c_in, c_out) if upsampled else nn.Conv2d(c_in, c_out, 3, padding=1),
        nn.BatchNorm2d(c_out, momentum=BATCH_NORM_MOMENTUM),
        nn.ReLU(),
    ]


def _discriminator_block(c_in: int, c_out: int, *, stride: int, norm: bool) -> list[nn.Module]:
    block = [*same_conv(c_in, c_out, stride=stride), nn.LeakyReLU(0.2), ByteDropout(0.25)]
    if norm:
        block.append(nn.BatchNorm2d(c_out, momentum=BATCH_NORM_MOMENTUM))
    return block


class _PadToEven(nn.Module):
    """Zero-pad an odd height or width at the bottom or right: 7x7 becomes 8x8."""

    def forward(self, images: Tensor) -> Tensor:
        return F.pad(images, (0, images.shape[3] % 2, 0, images.shape[2] % 2))
