"""``acgan``: images in one pass through a flow's network, judged by a discriminator with an auxiliary classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ganaug.generators.flow import CONDITION, GROUPS, FlowGenerator, VelocityUNet
from ganaug.generators.layers import FloatGroupNorm, halvings
from ganaug.hub.registry import register_generator

LOOK = 64  # features of each size of images inside, for the discriminator's heads
SLOPE = 0.2  # of LeakyReLU
LEAST_TIME = 0.5  # on the way from noise to image: below, noise hides what tells real images from generated ones


@register_generator
class ACGANGenerator(FlowGenerator):
    """Generator of ``acgan``: the network of ``flow`` that goes the whole way from noise to image in one pass.

    Args:
        label_names (sequence of str): class names.
        image_size (int): side of the images in pixels, even. Default: 28
        channels (int): 1 for grey, 3 for RGB. Default: 1
        width (int): see :class:`FlowGenerator`. Default: 96

    Raises:
        InputError: ``image_size`` is odd, or ``width`` is not a positive multiple of 8.

    Source: see :class:`ganaug.training.ACGANTrainer`.
    """

    architecture = "acgan"

    def __init__(
        self, label_names: Sequence[str], *, image_size: int = 28, channels: int = 1, width: int = 96
    ) -> None:
        super().__init__(label_names, image_size=image_size, channels=channels, width=width, steps=1)

    def network_options(self) -> dict[str, int]:
        """See :meth:`Generator.network_options`."""
        return {"width": self.width}

    def make_discriminator(self) -> FlowDiscriminator:
        """See :meth:`Generator.make_discriminator`."""
        return FlowDiscriminator(
            self.num_classes, image_size=self.image_size, channels=self.channels, width=self.width
        )


class FlowDiscriminator(nn.Module):
    """Discriminator of ``acgan``: a few layers and heads on what a trained flow's network sees in images.

    The flow's network stays as it was trained, and only the other layers learn. It sees images as in its own training,
    but without a margin around black and white: on their way from noise, at a time of its own for each image; in
    evaluation mode it sees them at the end of the way. It is not told the class: its condition is the mean of all
    classes'.

    Args:
        num_classes (int): number of classes.
        image_size (int): side of the images in pixels, even. Default: 28
        channels (int): 1 for grey, 3 for RGB. Default: 1
        width (int): of the flow's network. Default: 96

    Source: Sauer et al. 2024, "Fast high-resolution image synthesis with latent adversarial diffusion distillation",
    section 4, for heads on a frozen diffusion network at noisy images; Miyato and Koyama 2018, "cGANs with projection
    discriminator", eq. 3; Odena, Olah and Shlens 2017 for the class head.
    """

    def __init__(self, num_classes: int, *, image_size: int = 28, channels: int = 1, width: int = 96) -> None:
        super().__init__()
        self.label_embedding = nn.Embedding(num_classes, CONDITION)
        self.unet = VelocityUNet(4 * channels, side=image_size // 2, width=width)
        for weight in self.parameters():
            weight.requires_grad_(False)
        self.looks = nn.ModuleList(_look(c) for c in self.unet.seen_channels)
        features = LOOK * len(self.looks)
        self.real_fake_head = spectral_norm(nn.Linear(features, 1))
        self.projection = spectral_norm(nn.Embedding(num_classes, features))
        smallest = image_size // 2 // 2 ** halvings(image_size // 2)
        self.class_head = nn.Sequential(
            FloatGroupNorm(GROUPS, width, affine=False), nn.Flatten(), nn.Linear(width * smallest**2, num_classes)
        )

    def see_as(self, flow: FlowGenerator) -> None:
        """Take the network and the classes of a trained flow.

        Args:
            flow (FlowGenerator): of the same classes, size, channels and width.
        """
        self.unet.load_state_dict(flow.unet.state_dict())
        self.label_embedding.load_state_dict(flow.label_embedding.state_dict())

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Real/fake and class logits; see :meth:`Generator.make_discriminator`."""
        t = images.new_ones(len(images))
        if self.training:
            t = LEAST_TIME + (1 - LEAST_TIME) * torch.rand_like(t)
            images = torch.lerp(torch.randn_like(images), images, t[:, None, None, None])
        patches = F.pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last)
        condition = self.label_embedding.weight.mean(0).expand(len(images), -1)
        seen = self.unet.features(patches, t, condition)
        phi = torch.cat([look(each).float().mean((2, 3)) for look, each in zip(self.looks, seen, strict=True)], 1)
        # Miyato and Koyama 2018, eq. 3: psi(phi(x)) + y^T V phi(x).
        real_fake = self.real_fake_head(phi).squeeze(1) + (self.projection(labels) * phi).sum(1)
        # Of the smallest images inside, with where each feature is: a mean over all places says too little of classes.
        return real_fake, self.class_head(seen[len(seen) // 2].float())


def _look(channels: int) -> nn.Sequential:
    """Layers for what is seen in one size, float (N, channels, H, W) to (N, LOOK, ceil(H / 2), ceil(W / 2))."""
    return nn.Sequential(
        FloatGroupNorm(GROUPS, channels, affine=False),
        spectral_norm(nn.Conv2d(channels, LOOK, 1)),
        nn.LeakyReLU(SLOPE),
        spectral_norm(nn.Conv2d(LOOK, LOOK, 3, stride=2, padding=1)),
        nn.LeakyReLU(SLOPE),
    )
