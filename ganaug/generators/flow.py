"""``flow``: images by flow matching (Lipman et al. 2023); a small U-Net says which way to go, for a few steps.

Symbols are those of that paper: t is the time, from 0 for noise to 1 for images; x_t is an image on its way, x_0 noise
and x_1 an image; v is the velocity that the network learns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganaug.core.errors import InputError
from ganaug.core.integers import to_int
from ganaug.core.shares import each_image_by_itself
from ganaug.generators.base import Generator, positive_multiple
from ganaug.generators.convolutions import UpsampledConv2d
from ganaug.generators.layers import FloatGroupNorm, halvings
from ganaug.hub.registry import register_generator
from ganaug.sampling.variations import cannot_vary

NARROWEST = 32  # channels of the largest images inside
CONDITION = 128  # length of the vector that tells the network time and label
FREQUENCIES = 32  # of the sines and cosines that encode the time
GROUPS = 8  # of GroupNorm
TEACHER_STEPS = 8  # a flow of fewer learns its own from one of these, and forgets the rest of the way
MOST_STEPS = 1_000  # beyond which nobody would wait for an image
EARLY = 1.5  # power that makes the first steps shorter: the path bends most near the noise
MARGIN = 0.1  # by which the ends of [-1, 1] are moved outwards


def distils(steps: int) -> bool:
    """Whether a flow of so many steps learns to take so few, in phases after the first."""
    return steps < TEACHER_STEPS


def with_margin(images: Tensor) -> Tensor:
    """Images as a flow learns them: values at the ends of [-1, 1], in any channel, are moved 0.1 outwards.

    A network is never quite right. Where real images are pure black, white or red, as behind things that were drawn or
    cut out, what it draws would have a grain of a few grey levels, by which a classifier could tell generated images
    from real ones. Errors below the margin are clamped away when images are drawn.

    Args:
        images (Tensor): float, of any shape, in [-1, 1].

    Returns:
        Tensor: of the same shape and dtype, in [-1.1, 1.1].
    """
    return torch.where(images.abs() < 1, images, images * (1 + MARGIN))


@register_generator
class FlowGenerator(Generator):
    """Generator of ``flow``: noise moves along a learned velocity, which depends on the class, until it is an image.

    The latent is the noise itself, one number for each value of the image. The velocity comes from a U-Net that sees
    the image as 2x2 patches, so that its largest layers have a quarter of the pixels. Drawing takes ``steps``
    passes through it, where other generators take one.

    Args:
        label_names (sequence of str): class names.
        image_size (int): side of the images in pixels, even. Default: 28
        channels (int): 1 for grey, 3 for RGB. Default: 1
        width (int): channels of the smallest images inside, a multiple of 8; a third with each doubling of the size,
            down to 32. Default: 96
        steps (int): steps from noise to image, at most 1,000. Default: 8

    Raises:
        InputError: ``image_size`` is odd, ``width`` is not a positive multiple of 8, or ``steps`` is not an
            int from 1 to 1,000.

    Source: Lipman et al. 2023, "Flow matching for generative modeling", section 4.1, example II: straight paths from
    noise to images; Liu, Gong and Liu 2023, "Flow straight and fast".
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
        self.width = positive_multiple("width", width, GROUPS)
        self.steps = check_steps(steps)
        self.label_embedding = nn.Embedding(self.num_classes, CONDITION)
        self.unet = VelocityUNet(4 * channels, side=image_size // 2, width=width)

    def network_options(self) -> dict[str, int]:
        """See :meth:`Generator.network_options`."""
        return {"width": self.width, "steps": self.steps}

    def velocity(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """v_t(x_t), where images on their way from noise are heading.

        Args:
            x_t (Tensor): float (N, C, H, W).
            t (Tensor): float (N,), 0 for noise and 1 for images.
            labels (Tensor): int64 (N,), in [0, num_classes).

        Returns:
            Tensor: float32 (N, C, H, W), the change for each unit of time.

        Source: Lipman et al. 2023, eq. 1. It is trained by eq. 23 with sigma_min = 0.
        """
        patches = F.pixel_unshuffle(x_t, 2).contiguous(memory_format=torch.channels_last)
        return F.pixel_shuffle(self.unet(patches, t, self.label_embedding(labels)), 2).float()

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """See :meth:`Generator.forward`."""
        return self.follow(z, labels).clamp(-1, 1)

    def forward_from(self, z: Tensor, labels: Tensor, images: Tensor, strength: float) -> Tensor:
        """See :meth:`Generator.forward_from`; it takes fewer steps, since it goes a part of the way."""
        if distils(self.steps):
            why = f"it was taught to draw in {self.steps} of {TEACHER_STEPS} passes, from noise alone"
            raise cannot_vary(self.architecture, why)
        times = self._times_from(1 - strength)
        # x_t = (1 - t) x_0 + t x_1, as in training, with the image for x_1.
        x_t = torch.lerp(z.view_as(images), with_margin(images), times[0])
        return self._go(x_t, times, labels).clamp(-1, 1)

    def follow(self, z: Tensor, labels: Tensor) -> Tensor:
        """The images that the steps end at, float32 (N, C, H, W), as :func:`with_margin` makes them, before clamping.

        Args:
            z, labels (Tensor): as in :meth:`forward`.
        """
        return self._go(z.view(-1, self.channels, self.image_size, self.image_size), self.times, labels)

    def follow_back(self, images: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        """The latents from which steps lead to nearly these images, float32 (N, latent_dim).

        It starts at the last time before 1, from images on their way to which the noise belongs. Latents that were
        followed back from the images themselves would not be as spread as N(0, I), because all noise ends at the same
        value where images have no detail.

        Args:
            images (Tensor): float (N, C, H, W), as :func:`with_margin` makes them.
            labels (Tensor): int64 (N,), in [0, num_classes).
            noise (Tensor): float (N, latent_dim), from N(0, I).
        """
        *times, t, _ = self.times
        x_t = torch.lerp(noise.view_as(images), images, t)
        return self._go(x_t, [t, *reversed(times)], labels).flatten(1)

    @property
    def times(self) -> list[float]:
        """Where the steps begin and end, from 0 to 1."""
        return self._times_from(0.0)

    def _times_from(self, t: float) -> list[float]:
        """Where steps begin and end from ``t`` to 1, each about as long as those there on the whole way."""
        done = t ** (1 / EARLY)  # share of the steps of the whole way
        count = max(1, math.ceil((1 - done) * self.steps))  # of a strength that rounding swallows, one
        return [(done + (1 - done) * k / count) ** EARLY for k in range(count + 1)]

    def _go(self, x_t: Tensor, times: Sequence[float], labels: Tensor) -> Tensor:
        """Follow the velocity from the first of the times to the last, forwards or backwards.

        By the two-step Adams-Bashforth method, which is of second order with one pass for each step. With so few
        passes it ended nearer to the exact end of the path than Heun's or the midpoint method.
        """
        v_before, h_before = None, 1.0
        # Lipman et al. 2023, eq. 1: d x_t / dt = v_t(x_t), in steps of length h.
        for t, t_next in pairwise(times):
            v, h = self.velocity(x_t, x_t.new_full((len(x_t),), t), labels), t_next - t
            # Along a step the velocity is taken to change as it did along the one before; along the first, not at all.
            change = 0 if v_before is None else h / (2 * h_before) * (v - v_before)
            x_t = x_t + h * (v + change)
            v_before, h_before = v, h
        return x_t


def check_steps(steps: object, name: str = "steps") -> int:
    """The steps of a flow as a plain int.

    Args:
        steps: what was asked for.
        name (str): what they are called where that was. Default: as here

    Raises:
        InputError: it is not an int from 1 to 1,000.
    """
    number = to_int(steps)
    if number is None or not 1 <= number <= MOST_STEPS:
        raise InputError(f"{name} must be an int from 1 to {MOST_STEPS:,}, got {steps!r}")
    return number


class VelocityUNet(nn.Module):
    """U-Net of residual blocks that predicts the velocity, float (N, C, side, side), of images of that shape.

    Args:
        channels (int): C.
        side (int): height and width in pixels; halved inside until it is odd, or 8 or less.
        width (int): channels of the smallest images inside.

    Attributes:
        seen_channels (list of int): channels of each of its :meth:`features`.

    Source: Ronneberger, Fischer and Brox 2015, "U-net"; Ho, Jain and Abbeel 2020, "Denoising diffusion probabilistic
    models", appendix B, for residual blocks that are told the time by sines and cosines.
    """

    frequencies: Tensor

    def __init__(self, channels: int, *, side: int, width: int) -> None:
        super().__init__()
        # Channels of the images inside, from the largest to the smallest images.
        depth = halvings(side)
        shares = [width // 3 ** (depth - k) // GROUPS * GROUPS for k in range(depth + 1)]
        widths = [max(share, min(width, NARROWEST)) for share in shares]
        pairs = list(pairwise(widths))
        self.seen_channels = [*widths, *reversed(widths[:-1])]
        self.register_buffer("frequencies", torch.logspace(0, math.log10(200), FREQUENCIES))
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, CONDITION), nn.SiLU(), nn.Linear(CONDITION, CONDITION))
        self.enter = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_Block(c, c) for c, _ in pairs)
        self.shrink = nn.ModuleList(nn.Conv2d(c, wider, 3, stride=2, padding=1) for c, wider in pairs)
        self.middle = nn.ModuleList(_Block(width, width) for _ in range(2))
        self.enlarge = nn.ModuleList(UpsampledConv2d(wider, c) for c, wider in pairs)
        self.up = nn.ModuleList(_Block(2 * c, c) for c, _ in pairs)
        self.leave = nn.Sequential(
            FloatGroupNorm(GROUPS, widths[0]), nn.SiLU(), _zeroed(nn.Conv2d(widths[0], channels, 3, padding=1))
        )

    @each_image_by_itself
    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Velocity of images at a time.

        Args:
            x_t (Tensor): float (N, C, side, side).
            t (Tensor): float (N,), in [0, 1].
            condition (Tensor): float (N, 128), what else the velocity depends on.
        """
        return cast(Tensor, self.leave(self.features(x_t, t, condition)[-1]))

    @each_image_by_itself
    def features(self, x_t: Tensor, t: Tensor, condition: Tensor) -> list[Tensor]:
        """What the network sees in images, from the first block on the way down to the last on the way up.

        Args:
            x_t, t, condition (Tensor): as in :meth:`forward`.

        Returns:
            list of Tensor: float (N, c, h, w): after the block of each size on the way down, after those in the
            middle, and after the block of each size on the way up.
        """
        # The condition that all blocks get: time and label.
        angles = t[:, None] * self.frequencies
        condition = F.silu(self.time(torch.cat([angles.sin(), angles.cos()], 1)) + condition)
        # Down to the smallest images, keeping those of each size for the way up.
        values, skips = self.enter(x_t), []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            skips.append(block(values, condition))
            values = shrink(skips[-1])
        for block in self.middle:
            values = block(values, condition)
        seen = [*skips, values]
        # And up again, each size together with what was kept of it.
        for block, enlarge, skip in reversed(list(zip(self.up, self.enlarge, skips, strict=True))):
            values = block(torch.cat([enlarge(values), skip], 1), condition)
            seen.append(values)
        return seen


class _Block(nn.Module):
    """Residual block, (N, c_in, H, W) to (N, c_out, H, W), whose second norm is scaled and shifted by the condition.

    Source: Dhariwal and Nichol 2021, "Diffusion models beat GANs on image synthesis", section 3.1 (adaptive group
    normalisation).
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.before = nn.Sequential(FloatGroupNorm(GROUPS, c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, 3, padding=1))
        self.norm = FloatGroupNorm(GROUPS, c_out, affine=False)
        self.scale_shift = nn.Linear(CONDITION, 2 * c_out)
        self.after = nn.Sequential(nn.SiLU(), _zeroed(nn.Conv2d(c_out, c_out, 3, padding=1)))
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, values: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.scale_shift(condition)[:, :, None, None].chunk(2, 1)
        residual = self.norm(self.before(values)) * (1 + scale) + shift
        return cast(Tensor, self.shortcut(values) + self.after(residual))


def _zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer, its weights set to 0, so that a block starts as the identity and the velocity as 0."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(cast(Tensor, layer.bias))
    return layer
