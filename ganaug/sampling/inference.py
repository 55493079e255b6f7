"""The form of a generator that images are drawn with: the same network without what only training needs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from ganaug.core.hardware import deterministic_passes, device_of, has_bf16, one_thread_each
from ganaug.core.pixels import to_uint8
from ganaug.core.seeding import latents

# Images in every forward pass, filled up where fewer are asked for. Matrix products of other sizes take other code
# paths and differ in the last bit: with 1 or 3 rows instead of 64, 7 to 10 of a million bytes came out one grey level
# off. At a fixed size an image does not depend on what it is computed with. On a CPU, with one thread for each pass,
# larger ones are little faster and cost more where few images are wanted (recipes/benchmarks/sampling.py).
ROWS = {"cpu": 16}
ROWS_ELSEWHERE = 256

FAITHFUL_SHARE = 0.999  # of the probe's pixels, at most one grey level off
PROBE = 16  # images


class ConditionalGenerator(Protocol):
    """What can be sampled: a module that maps (latents, labels) to images.

    ``generator(z, labels)`` takes float32 ``z`` of shape (N, latent_dim), standard normal, and int64 ``labels`` of
    shape (N,), and returns float images (N, C, H, W) in [-1, 1].
    """

    latent_dim: int

    def __call__(self, z: Tensor, labels: Tensor) -> Tensor:
        """Images for latents and labels."""
        ...


@dataclass(frozen=True)
class Shortcuts:
    """What a generator can be simplified by while its images stay the same.

    Args:
        folded (bool): BatchNorm is part of the layer before it, activations work in place, images are channels last.
        bf16 (tuple of str): layers computed in bf16, the rest being in fp32.
    """

    folded: bool
    bf16: tuple[str, ...] = ()


class DrawingForm:
    """A copy of a generator that draws uint8 images fast, by shortcuts that do not change them.

    Each shortcut is tried on a few images, and left out unless 99.9 % of their pixels are at most one grey level from
    those of the generator as it is.

    Args:
        generator (ConditionalGenerator): copied, on the device it is on.
        shortcuts (Shortcuts, optional): those that another form of the same generator found. Default: found anew

    Attributes:
        shortcuts (Shortcuts): those taken.
        device (torch.device): where it computes.
        latent_dim (int): of the generator.
        rows (int): images in every forward pass.
    """

    def __init__(self, generator: ConditionalGenerator, shortcuts: Shortcuts | None = None) -> None:
        given = copy.deepcopy(cast(nn.Module, generator)).eval().requires_grad_(False)
        self.device = device_of(given)
        self.latent_dim = generator.latent_dim
        self.rows = ROWS.get(self.device.type, ROWS_ELSEWHERE)
        self._module = given
        self.shortcuts = shortcuts or self._find_shortcuts(given)
        self._module = _simplified(given, self.shortcuts)

    def _find_shortcuts(self, given: nn.Module) -> Shortcuts:
        with _multiplications(given) as counted:
            expected = self._probe(given)
        found = Shortcuts(folded=True)
        if not self._is_faithful(given, found, expected):
            return Shortcuts(folded=False)
        if has_bf16(self.device):
            for name in sorted(counted, key=counted.__getitem__, reverse=True):
                wider = Shortcuts(folded=True, bf16=(*found.bf16, name))
                found = wider if self._is_faithful(given, wider, expected) else found
        return found

    def _is_faithful(self, given: nn.Module, shortcuts: Shortcuts, expected: Tensor) -> bool:
        self._module = _simplified(given, shortcuts)
        near = (self._probe(given).short() - expected.short()).abs() <= 1
        return near.float().mean().item() >= FAITHFUL_SHARE

    def _probe(self, given: nn.Module) -> Tensor:
        """The images that forms are compared by."""
        labels = torch.arange(PROBE) % max(len(getattr(given, "label_names", None) or ()), 1)
        z = latents(0, range(PROBE), self.latent_dim)
        with one_thread_each():
            return torch.cat([self(*rows) for rows in zip(z.split(self.rows), labels.split(self.rows), strict=True)])

    def __call__(self, z: Tensor, labels: Tensor) -> Tensor:
        """Draw up to ``rows`` images.

        Args:
            z (Tensor): float32 (N, latent_dim).
            labels (Tensor): int64 (N,), the generator's.

        Returns:
            Tensor: uint8 (N, C, H, W), on the device.

        Raises:
            ValueError: an image is not finite.
        """
        inputs = [fill_rows(values, self.rows).to(self.device) for values in (z, labels)]
        # Autocast, as of a training loop around this, would change the images.
        autocast = torch.autocast(self.device.type, enabled=False)
        with torch.inference_mode(), autocast, deterministic_passes(self.device):
            images = self._module(*inputs)[: len(z)]
            if not torch.isfinite(images).all():
                raise ValueError("the generator returned images with NaN or infinite values; its weights are unusable")
            return to_uint8(images)


def fill_rows(values: Tensor, rows: int) -> Tensor:
    """Add zeros up to ``rows`` rows."""
    return torch.cat([values, values.new_zeros(rows - len(values), *values.shape[1:])])


_WITH_WEIGHTS = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


def _simplified(given: nn.Module, shortcuts: Shortcuts) -> nn.Module:
    """Copy of a generator with shortcuts taken; the original where there are none."""
    if not shortcuts.folded:
        return given
    module = copy.deepcopy(given)
    _fold_norms(module)
    for sequence in [part for part in module.modules() if isinstance(part, nn.Sequential)]:
        for activation in sequence[1:]:
            if isinstance(activation, nn.ReLU | nn.LeakyReLU):
                activation.inplace = True
    for name in shortcuts.bf16:
        parent, _, place = name.rpartition(".")
        setattr(module.get_submodule(parent), place, _InBf16(module.get_submodule(name)))
    return module.to(memory_format=torch.channels_last)


@contextmanager
def _multiplications(module: nn.Module) -> Iterator[dict[str, int]]:
    """Count about how many multiplications each layer with weights takes for an image, in the passes made within."""
    counted: dict[str, int] = {}
    hooks = []

    def count(name: str, layer: Any, _: Any, made: Tensor) -> None:
        counted[name] = layer.weight.numel() * max(made[0, 0].numel(), 1)

    for name, part in module.named_modules():
        if isinstance(part, _WITH_WEIGHTS):
            hooks.append(part.register_forward_hook(partial(count, name)))
    yield counted
    for hook in hooks:
        hook.remove()


class _InBf16(nn.Module):
    """A layer computed in bf16, from and to fp32."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.to(torch.bfloat16)

    def forward(self, values: Tensor) -> Tensor:
        return cast(Tensor, self.layer(values.to(torch.bfloat16))).float()


def _fold_norms(module: nn.Module) -> None:
    """Put the BatchNorm that follows a layer in a Sequential into that layer's weights."""
    for sequence in [part for part in module.modules() if isinstance(part, nn.Sequential)]:
        for (name, layer), (place, norm) in pairwise(list(sequence.named_children())):
            fused = _fused(layer, norm)
            if fused is not None:
                setattr(sequence, name, fused)
                setattr(sequence, place, nn.Identity())


def _fused(layer: Any, norm: Any) -> nn.Module | None:
    if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) or not norm.track_running_stats:
        return None
    if isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
        return fuse_linear_bn_eval(layer, norm)
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d):
        return fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, nn.ConvTranspose2d))
    return None
