"""``dcgan-32``: a small DCGAN without BatchNorm, unconditional or conditional.

Source: Radford, Metz and Chintala 2015, "Unsupervised representation learning with deep convolutional generative
adversarial networks", section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from ganaug.generators.base import Generator
from ganaug.generators.convolutions import DoublingConv2d, ToGreyConv2d
from ganaug.generators.layers import ByteDropout, FloatTanh, ToImages, init_normal, same_conv
from ganaug.hub.registry import register_generator


@register_generator
class DCGAN32Generator(Generator):
    """Generator of ``dcgan-32``: a linear layer and three transposed convolutions, each doubling the size.

    Unconditional without label names: 1,466,115 trainable parameters for 32x32x3 images and ``latent_dim=100``. With
    label names the latent is multiplied by a label embedding.

    Args:
        label_names (sequence of str): class names; none for an unconditional generator. Default: ()
        image_size (int): side of the images in pixels, a multiple of 8. Default: 32
        channels (int): 1 for grey, 3 for RGB. Default: 3
        latent_dim (int): length of a latent vector. Default: 100

    Raises:
        InputError: ``image_size`` is not a multiple of 8.

    Source: Radford, Metz and Chintala 2015, section 3, but for BatchNorm; the widths are a public version's.
    """

    architecture = "dcgan-32"
    can_be_unconditional = True

    def __init__(
        self, label_names: Sequence[str] = (), *, image_size: int = 32, channels: int = 3, latent_dim: int = 100
    ) -> None:
        super().__init__(label_names, image_size=image_size, channels=channels, latent_dim=latent_dim)
        self._require_multiple(8)
        if self.conditional:
            self.embedding = nn.Embedding(self.num_classes, latent_dim)
        blocks: list[nn.Module] = [
            nn.Linear(latent_dim, 256 * (image_size // 8) ** 2),
            nn.LeakyReLU(0.2),
            ToImages(256),
        ]
        for c_in, c_out in [(256, 128), (128, 128), (128, 128)]:
            blocks += [DoublingConv2d(c_in, c_out), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*blocks, ToGreyConv2d(128, channels), FloatTanh())
        _init_kaiming(self.layers)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """See :meth:`Generator.forward`; an unconditional generator does not use ``labels``."""
        return cast(Tensor, self.layers(z * self.embedding(labels) if self.conditional else z))

    def make_discriminator(self) -> DCGAN32Discriminator:
        """See :meth:`Generator.make_discriminator`."""
        return DCGAN32Discriminator(self.num_classes, image_size=self.image_size, channels=self.channels)


class DCGAN32Discriminator(nn.Module):
    """Discriminator of ``dcgan-32``: four 3x3 convolutions, dropout, a real/fake head, a class head if conditional.

    522,497 trainable parameters for 32x32x3 images without classes.

    Args:
        num_classes (int): number of classes; 0 for an unconditional generator's discriminator. Default: 0
        image_size (int): side of the images in pixels, a multiple of 8. Default: 32
        channels (int): 1 for grey, 3 for RGB. Default: 3

    Source: as :class:`DCGAN32Generator`.
    """

    def __init__(self, num_classes: int = 0, *, image_size: int = 32, channels: int = 3) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        c_in = channels
        for c_out, stride in [(64, 1), (128, 2), (128, 2), (256, 2)]:
            blocks += [*same_conv(c_in, c_out, stride=stride), nn.LeakyReLU(0.2)]
            c_in = c_out
        self.layers = nn.Sequential(*blocks, nn.Flatten(), ByteDropout(0.4))
        features = 256 * (image_size // 8) ** 2
        self.real_fake_head = nn.Linear(features, 1)
        self.class_head = nn.Linear(features, num_classes) if num_classes else None
        init_normal(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Real/fake and class logits; see :meth:`Generator.make_discriminator`. ``labels`` are not used."""
        features = self.layers(images)
        return self.real_fake_head(features).squeeze(1), self.class_head(features) if self.class_head else None


def _init_kaiming(layers: nn.Sequential) -> None:
    """Start from weights that keep the variance of what passes through them, and from biases of 0.

    Without BatchNorm, DCGAN's N(0, 0.02) would leave next to nothing of the latent after four layers.

    Source: He et al. 2015, "Delving deep into rectifiers", eq. 15 with a = 0.2.
    """
    for part in layers:
        if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            # Of a transposed convolution of stride 2, a quarter of the kernel meets in each pixel.
            fan_in = part.weight[:, 0].numel() / 4 if isinstance(part, nn.ConvTranspose2d) else part.weight[0].numel()
            nn.init.normal_(part.weight, std=math.sqrt(2 / (1 + 0.2**2) / fan_in))
            nn.init.zeros_(cast(Tensor, part.bias))
