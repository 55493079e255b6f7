"""Conditional GANs of fully connected networks: ``cgan-mlp``, and ``cgan-maxout`` as in the paper.

Source: Mirza and Osindero 2014, "Conditional generative adversarial nets"; section 3.2 gives both networks the label
as a further input, which all networks here do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganaug.generators.base import Generator
from ganaug.generators.layers import KERAS_MOMENTUM, ByteDropout, FloatTanh
from ganaug.hub.registry import register_generator


@register_generator
class CGANMLPGenerator(Generator):
    """Generator of ``cgan-mlp``: label embedding and latent, concatenated, through four hidden layers.

    1,511,412 trainable parameters for 10 classes of 28x28x1 images and ``latent_dim=100``.

    Args:
        label_names (sequence of str): class names.
        image_size (int): side of the images, in pixels. Default: 28
        channels (int): 1 for grey, 3 for RGB. Default: 1
        latent_dim (int): length of a latent vector. Default: 100

    Source: Mirza and Osindero 2014, section 3.2, for the label as an input; layers and widths are those of widespread
    public versions, not the paper's.
    """

    architecture = "cgan-mlp"

    def __init__(
        self, label_names: Sequence[str], *, image_size: int = 28, channels: int = 1, latent_dim: int = 100
    ) -> None:
        super().__init__(label_names, image_size=image_size, channels=channels, latent_dim=latent_dim)
        self.embedding = nn.Embedding(self.num_classes, self.num_classes)
        hidden: list[nn.Module] = [nn.Linear(latent_dim + self.num_classes, 128), nn.LeakyReLU(0.2)]
        for n_in, n_out in [(128, 256), (256, 512), (512, 1024)]:
            # Public versions write BatchNorm1d(n, 0.8), which sets eps; Keras' momentum of 0.8 was meant.
            hidden += [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out, momentum=KERAS_MOMENTUM), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(
            *hidden,
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
        image_size (int): side of the images, in pixels. Default: 28
        channels (int): 1 for grey, 3 for RGB. Default: 1

    Source: as :class:`CGANMLPGenerator`.
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


@register_generator
class CGANMaxoutGenerator(Generator):
    """Generator of ``cgan-maxout``: latent and one-hot label each go through a dense branch, then on together.

    1,125,296 trainable parameters for 10 classes of 28x28x1 images and ``latent_dim=100``. The network ends in a
    sigmoid, as in the paper, whose pixels are in [0, 1]; here they are then mapped to [-1, 1].

    Args:
        label_names (sequence of str): class names.
        image_size (int): side of the images, in pixels. Default: 28
        channels (int): 1 for grey, 3 for RGB. Default: 1
        latent_dim (int): length of a latent vector. Default: 100
        norm_after_sigmoid (bool): whether the last BatchNorm follows the sigmoid, as in the public version that this
            network is taken from. There it takes pixels out of [0, 1], and they are clipped; before the sigmoid, with
            the same number of weights, it cannot. Default: False

    Raises:
        ValueError: ``norm_after_sigmoid`` is not a bool.

    Source: Mirza and Osindero 2014, section 4.1: two branches and a joint layer. BatchNorm is a public version's, and
    so is the joint layer's width of 512, where the paper has 1200.
    """

    architecture = "cgan-maxout"

    def __init__(
        self,
        label_names: Sequence[str],
        *,
        image_size: int = 28,
        channels: int = 1,
        latent_dim: int = 100,
        norm_after_sigmoid: bool = False,
    ) -> None:
        super().__init__(label_names, image_size=image_size, channels=channels, latent_dim=latent_dim)
        if not isinstance(norm_after_sigmoid, bool):
            raise ValueError(f"norm_after_sigmoid must be True or False, got {norm_after_sigmoid!r}")
        self.norm_after_sigmoid = norm_after_sigmoid
        pixels = channels * image_size**2
        self.label_branch = nn.Sequential(nn.Linear(self.num_classes, 200), nn.BatchNorm1d(200), nn.ReLU())
        self.latent_branch = nn.Sequential(nn.Linear(latent_dim, 1000), nn.BatchNorm1d(1000), nn.ReLU())
        self.layers = nn.Sequential(
            nn.Linear(1200, 512), nn.LeakyReLU(0.2), nn.BatchNorm1d(512), nn.Linear(512, pixels)
        )
        self.norm = nn.BatchNorm1d(pixels)

    def network_options(self) -> dict[str, Any]:
        """See :meth:`Generator.network_options`."""
        return {**super().network_options(), "norm_after_sigmoid": self.norm_after_sigmoid}

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """See :meth:`Generator.forward`."""
        label = self.label_branch(F.one_hot(labels, self.num_classes).float())
        # In fp32 under autocast too: near its ends, a sigmoid in bf16 has next to no gradient.
        pixels: Tensor = self.layers(torch.cat([self.latent_branch(z), label], 1)).float()
        literal = self.norm_after_sigmoid
        pixels = self.norm(pixels.sigmoid()).clamp(0, 1) if literal else self.norm(pixels).sigmoid()
        return pixels.mul(2).sub(1).view(-1, self.channels, self.image_size, self.image_size)

    def make_discriminator(self) -> CGANMaxoutDiscriminator:
        """See :meth:`Generator.make_discriminator`."""
        return CGANMaxoutDiscriminator(self.num_classes, image_size=self.image_size, channels=self.channels)


class CGANMaxoutDiscriminator(nn.Module):
    """Discriminator of ``cgan-maxout``: image and one-hot label each go through a maxout layer, then on together.

    1,224,351 trainable parameters for 10 classes of 28x28x1 images. Half of every maxout layer's outputs are dropped
    in training, as in the paper: without it the discriminator knows 4,000 digits by heart before it uses the label.

    Args:
        num_classes (int): number of classes.
        image_size (int): side of the images, in pixels. Default: 28
        channels (int): 1 for grey, 3 for RGB. Default: 1

    Source: Mirza and Osindero 2014, section 4.1.
    """

    def __init__(self, num_classes: int, *, image_size: int = 28, channels: int = 1) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.image_branch = nn.Sequential(Maxout(channels * image_size**2, 240, pieces=5), ByteDropout(0.5))
        self.label_branch = nn.Sequential(Maxout(num_classes, 50, pieces=5), ByteDropout(0.5))
        self.layers = nn.Sequential(Maxout(290, 240, pieces=4), ByteDropout(0.5), nn.Linear(240, 1))

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, None]:
        """Real/fake logits of images with these labels; see :meth:`Generator.make_discriminator`."""
        image = self.image_branch(images.flatten(1).add(1).div(2))  # pixels in [0, 1], as in the paper
        label = self.label_branch(F.one_hot(labels, self.num_classes).float())
        return self.layers(torch.cat([image, label], 1)).squeeze(1), None


class Maxout(nn.Module):
    """Elementwise maximum over affine maps, whose weights and biases start from N(0, 0.02).

    Args:
        n_in (int), n_out (int): features.
        pieces (int): affine maps per output feature.

    Source: Goodfellow et al. 2013, "Maxout networks", section 3.
    """

    def __init__(self, n_in: int, n_out: int, *, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces
        self.affine = nn.Linear(n_in, n_out * pieces)
        nn.init.normal_(self.affine.weight, std=0.02)
        nn.init.normal_(self.affine.bias, std=0.02)

    def forward(self, values: Tensor) -> Tensor:
        """(N, n_in) to (N, n_out)."""
        maps: Tensor = self.affine(values)
        return maps.view(len(values), -1, self.pieces).amax(2)
