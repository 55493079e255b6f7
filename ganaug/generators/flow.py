"""``flow``: images by flow matching (Lipman et al. 2023), from a small U-Net that is followed in a few steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganaug.generators.base import Generator, require_positive_multiple
from ganaug.generators.convolutions import UpsampledConv2d
from ganaug.generators.layers import halvings
from ganaug.hub.registry import register_generator

NARROWEST = 32  # channels of the largest images inside
CONDITION = 128  # length of the vector that time and label are told by
FREQUENCIES = 32  # of the time's sines and cosines
GROUPS = 8  # of GroupNorm
EARLY = 1.5  # power that makes the first steps the shorter ones: the way bends most near the noise


@register_generator
class FlowGenerator(Generator):
    """Generator of ``flow``: noise that moves along a learned velocity, for its class, until it is an image.

    The latent is the noise itself, one number for each value of the image. The velocity comes from a U-Net that sees
    the image as 2x2 patches, so that its largest layers have a quarter of the pixels. Drawing takes ``steps``
    passes through it, where other generators take one.

    Args:
        label_names (sequence of str): class names.
        image_size (int): side of the images, even. Default: 28
        channels (int): Default: 1
        width (int): channels of the smallest images inside; a third with each doubling of the size, down to 32.
            Default: 96
        steps (int): from noise to image. Default: 8

    Raises:
        InputError: the size is odd, or the width or the number of steps is not what it can be.

    Source: Lipman et al. 2023, "Flow matching for generative modeling", with straight paths; Liu, Gong and Liu 2023,
    "Flow straight and fast".
    """

    architecture = "flow"

    def __init__(
        self,
        label_names: Sequence[str],
        *,
        image_size: int = 28,
        channels: int = 1,
        width: int = 96,
        steps: int = 8,
    ) -> None:
        super().__init__(
            label_names, image_size=image_size, channels=channels, latent_dim=channels * image_size * image_size
        )
        self._require_multiple(2)
        require_positive_multiple("width", width, GROUPS)
        require_positive_multiple("steps", steps, 1)
        self.width, self.steps = width, steps
        self.label_embedding = nn.Embedding(self.num_classes, CONDITION)
        self.unet = VelocityUNet(4 * channels, side=image_size // 2, width=width)

    def network_options(self) -> dict[str, int]:
        """See :meth:`Generator.network_options`."""
        return {"width": self.width, "steps": self.steps}

    def velocity(self, images: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        """Where images on their way from noise are heading.

        Args:
            images (Tensor): float (N, C, H, W).
            times (Tensor): float (N,), 0 for noise and 1 for images.
            labels (Tensor): int64 (N,).

        Returns:
            Tensor: float (N, C, H, W), the change for each unit of time.
        """
        patches = F.pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last)
        return F.pixel_shuffle(self.unet(patches, times, self.label_embedding(labels)), 2).float()

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """See :meth:`Generator.forward`.

        By Adams and Bashforth's method of two steps, which is of second order with one pass for each step. With so few
        passes it ended nearer to the exact end of the way than Heun's or the midpoint method did.
        """
        images = z.view(-1, self.channels, self.image_size, self.image_size)
        times = [(k / self.steps) ** EARLY for k in range(self.steps + 1)]
        last_velocity, last_step = None, 1.0
        for start, end in pairwise(times):
            velocity, step = self.velocity(images, images.new_full((len(z),), start), labels), end - start
            if last_velocity is None:
                images = images + step * velocity
            else:
                images = images + step * (velocity + step / (2 * last_step) * (velocity - last_velocity))
            last_velocity, last_step = velocity, step
        return images.clamp(-1, 1)


class VelocityUNet(nn.Module):
    """U-Net of residual blocks: (N, C, side, side), times (N,) and conditions (N, 128) to (N, C, side, side).

    Args:
        channels (int): C.
        side (int): in pixels; halved until it is 8 or odd.
        width (int): channels of the smallest images inside.
    """

    frequencies: Tensor

    def __init__(self, channels: int, *, side: int, width: int) -> None:
        super().__init__()
        times = halvings(side)
        shares = [width // 3 ** (times - k) // GROUPS * GROUPS for k in range(times + 1)]
        widths = [max(share, min(width, NARROWEST)) for share in shares]
        pairs = list(pairwise(widths))
        self.register_buffer("frequencies", torch.logspace(0, math.log10(200), FREQUENCIES))
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, CONDITION), nn.SiLU(), nn.Linear(CONDITION, CONDITION))
        self.enter = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_Block(c, c) for c, _ in pairs)
        self.shrink = nn.ModuleList(nn.Conv2d(c, wider, 3, stride=2, padding=1) for c, wider in pairs)
        self.middle = nn.ModuleList(_Block(width, width) for _ in range(2))
        self.enlarge = nn.ModuleList(UpsampledConv2d(wider, c) for c, wider in pairs)
        self.up = nn.ModuleList(_Block(2 * c, c) for c, _ in pairs)
        self.leave = nn.Sequential(
            nn.GroupNorm(GROUPS, widths[0]), nn.SiLU(), _zeroed(nn.Conv2d(widths[0], channels, 3, padding=1))
        )

    def forward(self, values: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        """See the class."""
        angles = times[:, None] * self.frequencies
        condition = F.silu(self.time(torch.cat([angles.sin(), angles.cos()], 1)) + condition)
        values, seen = self.enter(values), []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            seen.append(block(values, condition))
            values = shrink(seen[-1])
        for block in self.middle:
            values = block(values, condition)
        for block, enlarge, skip in reversed(list(zip(self.up, self.enlarge, seen, strict=True))):
            values = block(torch.cat([enlarge(values), skip], 1), condition)
        return cast(Tensor, self.leave(values))


class _Block(nn.Module):
    """Residual block whose second normalisation is scaled and shifted by the condition."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.GroupNorm(GROUPS, c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, 3, padding=1))
        self.norm = nn.GroupNorm(GROUPS, c_out, affine=False)
        self.scale_shift = nn.Linear(CONDITION, 2 * c_out)
        self.after = nn.Sequential(nn.SiLU(), _zeroed(nn.Conv2d(c_out, c_out, 3, padding=1)))
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, values: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.scale_shift(condition)[:, :, None, None].chunk(2, 1)
        residual = self.norm(self.before(values)) * (1 + scale) + shift
        return cast(Tensor, self.shortcut(values) + self.after(residual))


def _zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with weights of 0: a block starts as the identity, and the velocity as 0."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(cast(Tensor, layer.bias))
    return layer
