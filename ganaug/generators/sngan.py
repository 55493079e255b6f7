"""``sngan``: residual networks with a spectrally normalised projection discriminator (Miyato and Koyama 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ganaug.generators.base import Generator, positive_multiple
from ganaug.generators.convolutions import ToGreyConv2d, UpsampledConv2d
from ganaug.generators.layers import FloatTanh, ToImages, halvings
from ganaug.hub.registry import register_generator

NARROWEST = 32  # channels of the largest images inside the networks
SLOPE = 0.1  # of the leaky ReLU


@register_generator
class SNGANGenerator(Generator):
    """Generator of ``sngan``: residual blocks that double the size, with class-conditional BatchNorm.

    28 pixels come from 7x7 in two blocks, 32 from 8x8 in two, 64 from 8x8 in three. Latent and label embedding go
    into the first layer and into every normalisation.

    Args:
        label_names (sequence of str): class names.
        image_size (int): side of the images in pixels, even. Default: 28
        channels (int): 1 for grey, 3 for RGB. Default: 1
        latent_dim (int): length of a latent vector, and of a label's embedding. Default: 64
        width (int): channels of the smallest images inside, a multiple of 8; halved with each doubling of the size,
            down to 32. Default: 128

    Raises:
        InputError: ``image_size`` is odd, or ``width`` is not a positive multiple of 8.

    Source: Miyato and Koyama 2018, "cGANs with projection discriminator", section 5, for residual blocks with
    class-conditional BatchNorm; Brock, Donahue and Simonyan 2019, "Large scale GAN training for high fidelity natural
    image synthesis", section 3, for the latent in every normalisation.
    """

    architecture = "sngan"

    def __init__(
        self,
        label_names: Sequence[str],
        *,
        image_size: int = 28,
        channels: int = 1,
        latent_dim: int = 64,
        width: int = 128,
    ) -> None:
        super().__init__(label_names, image_size=image_size, channels=channels, latent_dim=latent_dim)
        self._require_multiple(2)
        self.width = positive_multiple("width", width, 8)
        doublings = 1 + halvings(image_size // 2)
        widths = [max(width // 2**k, min(width, NARROWEST)) for k in range(doublings + 1)]
        self.embedding = nn.Embedding(self.num_classes, latent_dim)
        self.project = nn.Sequential(
            nn.Linear(2 * latent_dim, width * (image_size // 2**doublings) ** 2), ToImages(width)
        )
        self.blocks = nn.ModuleList(_GeneratorBlock(c_in, c_out, 2 * latent_dim) for c_in, c_out in pairwise(widths))
        self.to_image = nn.Sequential(
            nn.BatchNorm2d(widths[-1]), nn.ReLU(), ToGreyConv2d(widths[-1], channels), FloatTanh()
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.orthogonal_(module.weight)
                nn.init.zeros_(cast(Tensor, module.bias))

    def network_options(self) -> dict[str, int]:
        """See :meth:`Generator.network_options`."""
        return {"latent_dim": self.latent_dim, "width": self.width}

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """See :meth:`Generator.forward`."""
        condition = torch.cat([z, self.embedding(labels)], 1)
        values = self.project(condition)
        for block in self.blocks:
            values = block(values, condition)
        return cast(Tensor, self.to_image(values))

    def make_discriminator(self) -> SNGANDiscriminator:
        """See :meth:`Generator.make_discriminator`."""
        return SNGANDiscriminator(
            self.num_classes, image_size=self.image_size, channels=self.channels, width=self.width
        )


class SNGANDiscriminator(nn.Module):
    """Discriminator of ``sngan``: residual blocks without BatchNorm, every layer spectrally normalised.

    Its real/fake logit is a linear function of the features plus their inner product with an embedding of the label,
    the projection. The class head beside it, not normalised, is for an auxiliary class loss.

    Args:
        num_classes (int): number of classes.
        image_size (int): side of the images in pixels, even. Default: 28
        channels (int): 1 for grey, 3 for RGB. Default: 1
        width (int): channels of the smallest images inside. Default: 128

    Source: Miyato, Kataoka, Koyama and Yoshida 2018, "Spectral normalization for generative adversarial networks",
    section 2.1; Miyato and Koyama 2018, "cGANs with projection discriminator", eq. 3.
    """

    def __init__(self, num_classes: int, *, image_size: int = 28, channels: int = 1, width: int = 128) -> None:
        super().__init__()
        depth = 1 + halvings(image_size // 2)
        widths = [max(width // 2 ** (depth - k), min(width, NARROWEST)) for k in range(depth + 1)]
        # The first convolution halves the size: layers at full size would take most of the time.
        self.blocks = nn.Sequential(
            spectral_norm(nn.Conv2d(channels, widths[0], 4, stride=2, padding=1)),
            *(_DiscriminatorBlock(c_in, c_out) for c_in, c_out in pairwise(widths)),
            _DiscriminatorBlock(width, width, halve=False),
            nn.LeakyReLU(SLOPE),
        )
        self.real_fake_head = spectral_norm(nn.Linear(width, 1))
        self.projection = spectral_norm(nn.Embedding(num_classes, width))
        self.class_head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Real/fake and class logits; see :meth:`Generator.make_discriminator`."""
        # Four times the mean, whatever the size: for 28 pixels, about a quarter of the sum over the 4x4 pixels left.
        features = 4 * self.blocks(images).float().mean((2, 3))
        # Miyato and Koyama 2018, eq. 3: psi(phi(x)) + y^T V phi(x), where phi(x) are the features.
        real_fake = self.real_fake_head(features).squeeze(1) + (self.projection(labels) * features).sum(1)
        return real_fake, self.class_head(features)


class _GeneratorBlock(nn.Module):
    """Residual block that doubles the size: (N, c_in, H, W) to (N, c_out, 2 H, 2 W)."""

    def __init__(self, c_in: int, c_out: int, condition_dim: int) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm2d(c_in, condition_dim)
        self.norm2 = ConditionalBatchNorm2d(c_out, condition_dim)
        self.conv1 = UpsampledConv2d(c_in, c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.shortcut = nn.Conv2d(c_in, c_out, 1)

    def forward(self, values: Tensor, condition: Tensor) -> Tensor:
        residual = self.conv1(F.relu(self.norm1(values, condition)))
        residual = self.conv2(F.relu(self.norm2(residual, condition)))
        return cast(Tensor, residual + F.interpolate(self.shortcut(values), scale_factor=2))


class _DiscriminatorBlock(nn.Module):
    """Residual block that halves the size by averaging: (N, c_in, H, W) to (N, c_out, ceil(H / 2), ceil(W / 2))."""

    def __init__(self, c_in: int, c_out: int, *, halve: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LeakyReLU(SLOPE),
            spectral_norm(nn.Conv2d(c_in, c_out, 3, padding=1)),
            nn.LeakyReLU(SLOPE),
            spectral_norm(nn.Conv2d(c_out, c_out, 3, padding=1)),
        )
        self.shortcut = spectral_norm(nn.Conv2d(c_in, c_out, 1)) if halve or c_in != c_out else nn.Identity()
        self.pool = nn.AvgPool2d(2, ceil_mode=True) if halve else nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        # A 1x1 convolution and an average may swap places; after the average, the convolution is a quarter the work.
        return cast(Tensor, self.pool(self.layers(values)) + self.shortcut(self.pool(values)))


class ConditionalBatchNorm2d(nn.Module):
    """BatchNorm whose scale and shift are linear functions of a condition.

    Args:
        channels (int): channels of the images inside.
        condition_dim (int): length of the condition.

    Source: Dumoulin, Shlens and Kudlur 2017, "A learned representation for artistic style", section 2.2; de Vries et
    al. 2017, "Modulating early visual processing by language", section 3.
    """

    def __init__(self, channels: int, condition_dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale_shift = nn.Linear(condition_dim, 2 * channels)
        nn.init.normal_(self.scale_shift.weight, std=0.02)
        nn.init.zeros_(self.scale_shift.bias)

    def forward(self, values: Tensor, condition: Tensor) -> Tensor:
        """(N, C, H, W) and (N, condition_dim) to (N, C, H, W)."""
        scale, shift = self.scale_shift(condition)[:, :, None, None].chunk(2, 1)
        return cast(Tensor, self.norm(values) * (1 + scale) + shift)
