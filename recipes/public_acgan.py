"""An auxiliary classifier GAN as public PyTorch code mostly has it: the baseline that others measure against.

32x32 images, nearest upsampling and 3x3 convolutions in the generator, four strided convolutions in the discriminator.
Layers are torch's own. It is here for its speed; the systems to train are in ganaug/generators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from ganaug.generators import Generator
from ganaug.generators.convolutions import ToGreyConv2d, UpsampledConv2d
from ganaug.generators.layers import ByteDropout, FloatTanh, ToImages


class PublicACGANGenerator(Generator):
    """Latent times label embedding, a linear layer to 128x8x8, then convolutions of 128, 64 and 1 channels."""

    architecture = "public-acgan-32"

    def __init__(
        self, label_names: Sequence[str], *, image_size: int = 32, channels: int = 1, latent_dim: int = 100
    ) -> None:
        super().__init__(label_names, image_size=image_size, channels=channels, latent_dim=latent_dim)
        self._require_multiple(16)
        side = image_size // 4
        self.embedding = nn.Embedding(self.num_classes, latent_dim)
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, 128 * side**2),
            ToImages(128),
            nn.BatchNorm2d(128),
            UpsampledConv2d(128, 128),
            nn.BatchNorm2d(128),
            nn.LeakyReLU(0.2),
            UpsampledConv2d(128, 64),
            nn.BatchNorm2d(64),
            nn.LeakyReLU(0.2),
            ToGreyConv2d(64, channels),
            FloatTanh(),
        )

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """See :meth:`Generator.forward`."""
        return cast(Tensor, self.layers(z * self.embedding(labels)))

    def make_discriminator(self) -> PublicACGANDiscriminator:
        """See :meth:`Generator.make_discriminator`."""
        return PublicACGANDiscriminator(self.num_classes, image_size=self.image_size, channels=self.channels)


class PublicACGANDiscriminator(nn.Module):
    """Four 3x3 convolutions of stride 2, with 16, 32, 64 and 128 channels, and two linear heads."""

    def __init__(self, num_classes: int, *, image_size: int, channels: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for c_in, c_out in [(channels, 16), (16, 32), (32, 64), (64, 128)]:
            blocks += [nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), nn.LeakyReLU(0.2), ByteDropout(0.25)]
            if c_out > 16:
                blocks.append(nn.BatchNorm2d(c_out))
        self.layers = nn.Sequential(*blocks, nn.Flatten())
        features = 128 * (image_size // 16) ** 2
        self.real_fake_head, self.class_head = nn.Linear(features, 1), nn.Linear(features, num_classes)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Real/fake and class logits."""
        features = self.layers(images)
        return self.real_fake_head(features).squeeze(1), self.class_head(features)
