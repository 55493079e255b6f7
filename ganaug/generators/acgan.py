"""Auxiliary classifier GANs of convolutions: ``acgan-28``, small and with upsampling, and ``acgan-64``, DCGAN-sized.

Source: Odena, Olah and Shlens 2017, "Conditional image synthesis with auxiliary classifier GANs". Section 3 gives the
discriminator a class head beside its real/fake head. Both generators take the latent times an embedding of the label,
as common public versions do, where the paper concatenates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganaug.generators.base import Generator
from ganaug.generators.convolutions import DoublingConv2d, HalvingConv2d, ToGreyConv2d, UpsampledConv2d
from ganaug.generators.layers import KERAS_MOMENTUM, ByteDropout, FloatTanh, ToImages, init_normal, same_conv
from ganaug.hub.registry import register_generator

CONDITIONINGS = ("multiply", "concat")


@register_generator
class ACGAN28Generator(Generator):
    """Generator of ``acgan-28``: latent times label embedding, then nearest upsampling and 3x3 convolutions.

    326,601 trainable parameters for 10 classes of 28x28x1 images and ``latent_dim=100``.

    Args:
        label_names (sequence of str): class names.
        image_size (int): side of the images in pixels, a multiple of 4. Default: 28
        channels (int): 1 for grey, 3 for RGB. Default: 1
        latent_dim (int): length of a latent vector. Default: 100

    Raises:
        InputError: ``image_size`` is not a multiple of 4.

    Source: Odena, Olah and Shlens 2017, section 3; the layers are a public version's.
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
        blocks: list[nn.Module] = []
        for conv in [nn.Conv2d(32, 64, 3, padding=1), UpsampledConv2d(64, 128), UpsampledConv2d(128, 64)]:
            blocks += [conv, nn.BatchNorm2d(conv.out_channels, momentum=KERAS_MOMENTUM), nn.ReLU()]
        self.layers = nn.Sequential(*blocks, ToGreyConv2d(64, channels), FloatTanh())

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """See :meth:`Generator.forward`."""
        return cast(Tensor, self.layers(self.project(z * self.embedding(labels))))

    def make_discriminator(self) -> ACGAN28Discriminator:
        """See :meth:`Generator.make_discriminator`."""
        return ACGAN28Discriminator(self.num_classes, channels=self.channels)


class _TwoHeads(nn.Module):
    """A discriminator whose features two heads read: is the image real (S in the paper), and of which class (C)?

    Args:
        layers (nn.Sequential): images (N, C, H, W) to features (N, ``features``).
        features (int): length of an image's features.
        num_classes (int): number of classes.

    Source: Odena, Olah and Shlens 2017, section 3: P(S | X), P(C | X) = D(X).
    """

    def __init__(self, layers: nn.Sequential, *, features: int, num_classes: int) -> None:
        super().__init__()
        self.layers = layers
        self.real_fake_head = nn.Linear(features, 1)
        self.class_head = nn.Linear(features, num_classes)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Real/fake and class logits; see :meth:`Generator.make_discriminator`. ``labels`` are not used."""
        features = self.layers(images)
        return self.real_fake_head(features).squeeze(1), self.class_head(features)


class ACGAN28Discriminator(_TwoHeads):
    """Discriminator of ``acgan-28``: four 3x3 convolutions, a real/fake head and a class head.

    98,763 trainable parameters for 10 classes and one channel.

    Args:
        num_classes (int): number of classes.
        channels (int): 1 for grey, 3 for RGB. Default: 1

    Source: as :class:`ACGAN28Generator`.
    """

    def __init__(self, num_classes: int, *, channels: int = 1) -> None:
        def block(c_in: int, c_out: int, *, stride: int) -> list[nn.Module]:
            return [*same_conv(c_in, c_out, stride=stride), nn.LeakyReLU(0.2), ByteDropout(0.25)]

        layers = nn.Sequential(
            *block(channels, 16, stride=2),
            *block(16, 32, stride=2),
            nn.BatchNorm2d(32, momentum=KERAS_MOMENTUM),
            _PadToEven(),
            *block(32, 64, stride=2),
            nn.BatchNorm2d(64, momentum=KERAS_MOMENTUM),
            *block(64, 128, stride=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        super().__init__(layers, features=128, num_classes=num_classes)


class _PadToEven(nn.Module):
    """Zero-pad an odd height or width at the bottom or right: 7x7 becomes 8x8."""

    def forward(self, images: Tensor) -> Tensor:
        return F.pad(images, (0, images.shape[3] % 2, 0, images.shape[2] % 2))


@register_generator
class ACGAN64Generator(Generator):
    """Generator of ``acgan-64``: a linear layer and four transposed convolutions, each doubling the size.

    12,675,915 trainable parameters for 2 classes of 64x64x3 images and ``latent_dim=100``.

    Args:
        label_names (sequence of str): class names.
        image_size (int): side of the images in pixels, a multiple of 16. Default: 64
        channels (int): 1 for grey, 3 for RGB. Default: 3
        latent_dim (int): length of a latent vector. Default: 100
        conditioning (str): ``"multiply"``: latent times label embedding; ``"concat"``: latent and one-hot label side
            by side, as in the paper. Default: multiply

    Raises:
        InputError: ``image_size`` is not a multiple of 16.
        ValueError: ``conditioning`` is neither of the two.

    Source: Odena, Olah and Shlens 2017, section 3, with the generator of Radford, Metz and Chintala 2015,
    "Unsupervised representation learning with deep convolutional generative adversarial networks", figure 1.
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
        blocks: list[nn.Module] = [
            nn.Linear(n_in, 1024 * (image_size // 16) ** 2),
            ToImages(1024),
            nn.BatchNorm2d(1024),
            nn.ReLU(),
        ]
        for c_in, c_out in [(1024, 512), (512, 256), (256, 128)]:
            blocks += [DoublingConv2d(c_in, c_out), nn.BatchNorm2d(c_out), nn.ReLU()]
        self.layers = nn.Sequential(*blocks, DoublingConv2d(128, channels), FloatTanh())
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


class ACGAN64Discriminator(_TwoHeads):
    """Discriminator of ``acgan-64``: four convolutions, each halving the size, a real/fake head and a class head.

    11,070,851 trainable parameters for 2 classes of 64x64x3 images.

    Args:
        num_classes (int): number of classes.
        image_size (int): side of the images in pixels, a multiple of 16. Default: 64
        channels (int): 1 for grey, 3 for RGB. Default: 3

    Source: as :class:`ACGAN64Generator`.
    """

    def __init__(self, num_classes: int, *, image_size: int = 64, channels: int = 3) -> None:
        blocks: list[nn.Module] = [HalvingConv2d(channels, 128), nn.LeakyReLU(0.2)]
        for c_in, c_out in [(128, 256), (256, 512), (512, 1024)]:
            blocks += [HalvingConv2d(c_in, c_out), nn.BatchNorm2d(c_out), nn.LeakyReLU(0.2)]
        super().__init__(
            nn.Sequential(*blocks, nn.Flatten()), features=1024 * (image_size // 16) ** 2, num_classes=num_classes
        )
        init_normal(self)
