"""The copy of a generator that images are drawn with, sped up where the images do not visibly change."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from ganaug.core.defaults import usual_defaults
from ganaug.core.hardware import (
    LateChecks,
    deterministic_passes,
    device_of,
    evaluation_copy,
    has_bf16,
    one_thread_each,
    to_device,
)
from ganaug.core.pixels import to_float, to_uint8
from ganaug.core.seeding import latents
from ganaug.sampling.variations import cannot_vary

# Images in every forward pass, which is filled up if fewer are wanted. Matrix products of other sizes take other code
# paths and differ in the last bit: with 1 or 3 rows instead of 64, 7 to 10 of a million bytes came out one grey level
# off. At a fixed size an image does not depend on what it is computed with. On a CPU, with one thread for each pass,
# larger passes are little faster, and cost more if few images are wanted (recipes/benchmarks/sampling.py).
ROWS = {"cpu": 16}
ROWS_ELSEWHERE = 256

FAITHFUL_SHARE = 0.999  # of the pixels of the images compared, which may be one grey level off
PROBE = 16  # images compared
MOST_CLASSES = 128  # of which an image is compared, where there are more classes than PROBE
FAITHFUL_IMAGE = 0.99  # of the pixels of each such image


class ConditionalGenerator(Protocol):
    """What images can be drawn from: a module that maps latents and labels to images.

    ``generator(z, labels)`` takes float32 ``z`` of shape (N, latent_dim), standard normal, and int64 ``labels`` of
    shape (N,), and returns float images (N, C, H, W) in [-1, 1]. One that can vary images has ``forward_from`` too;
    see :meth:`ganaug.Generator.forward_from`.

    Attributes:
        latent_dim (int): length of a latent vector.
    """

    latent_dim: int

    def __call__(self, z: Tensor, labels: Tensor) -> Tensor:
        """Images for latents and labels."""
        ...


@dataclass(frozen=True)
class Shortcuts:
    """Simplifications of a generator that leave its images as they are.

    Args:
        folded (bool): BatchNorm becomes part of the layer before it, activations work in place, and images inside are
            channels last.
        bf16 (tuple of str): names of the layers computed in bf16; the others stay in fp32. Default: ()
    """

    folded: bool
    bf16: tuple[str, ...] = ()


class InferenceCopy:
    """A copy of a generator that draws uint8 images fast, by shortcuts that do not change them.

    Each shortcut is tried on a few images, and left out unless the generator runs with it and 99.9 % of their pixels
    are within one grey level of those that the generator draws as it is.

    Args:
        generator (ConditionalGenerator): copied, on the device it is on. If its weights
            are all of one floating-point type other than fp32, images are drawn in fp32.
        shortcuts (Shortcuts, optional): those that another copy of the same generator found. Default: looked for here
        num_classes (int, optional): how many labels it knows. Default: as many as it has ``label_names``; of one
            without, whose labels cannot be tried, no layer is computed in bf16

    Attributes:
        shortcuts (Shortcuts): those taken.
        device (torch.device): where it computes.
        latent_dim (int): length of a latent vector.
        label_names (tuple of str): the generator's class names; empty if it has none.
        conditional (bool): whether images of a wanted class can be drawn.
        rows (int): images in every forward pass.

    Raises:
        ValueError: the generator returns images that are not finite.
    """

    @usual_defaults()
    def __init__(
        self, generator: ConditionalGenerator, shortcuts: Shortcuts | None = None, *, num_classes: int | None = None
    ) -> None:
        given = evaluation_copy(cast(nn.Module, generator))
        # Latents are fp32. Weights of several types are mixed on purpose, by a network that converts for itself.
        types = {weight.dtype for weight in given.parameters() if weight.is_floating_point()}
        if len(types) == 1 and types != {torch.float32}:
            given.float()
        self.device = device_of(given)
        self.latent_dim = generator.latent_dim
        self.label_names: tuple[str, ...] = tuple(getattr(given, "label_names", None) or ())
        self.conditional: bool = getattr(given, "conditional", True)
        self.rows = ROWS.get(self.device.type, ROWS_ELSEWHERE)
        known = len(self.label_names) or num_classes or (0 if self.conditional else 1)
        self.shortcuts = shortcuts or self._find_shortcuts(given, known)
        self._module = _simplified(given, self.shortcuts)
        self._late = LateChecks()

    def _find_shortcuts(self, given: nn.Module, num_classes: int) -> Shortcuts:
        """The shortcuts whose images look the same."""

        def images_of(module: nn.Module, labels: Tensor) -> Tensor:
            z = latents(0, range(len(labels)), self.latent_dim)
            passes = zip(z.split(self.rows), labels.split(self.rows), strict=True)
            with one_thread_each():
                return torch.cat([_checked(*self._draw(module, *some)) for some in passes]).short()

        def is_faithful(module: nn.Module, labels: Tensor, expected: Tensor, each: float = 0.0) -> bool:
            try:
                drawn = images_of(module, labels)
            except _MISFITS:
                return False
            shares = ((drawn - expected).abs() <= 1).float().flatten(1).mean(1)
            return shares.mean().item() >= FAITHFUL_SHARE and shares.min().item() >= each

        few = torch.arange(PROBE) % max(num_classes, 1)
        with _multiplications(given) as multiplications:
            expected = images_of(given, few)
        try:
            module = _simplified(given, Shortcuts(folded=True))
        except _MISFITS:
            return Shortcuts(folded=False)
        if not is_faithful(module, few, expected):
            return Shortcuts(folded=False)
        # All layers go to bf16 if the images stay the same, which takes one try; otherwise one after another, those
        # with the most work first, while they do.
        in_bf16: list[str] = []
        names = sorted(multiplications, key=multiplications.__getitem__, reverse=True)
        slow = {name: module.get_submodule(name) for name in names}
        if has_bf16(self.device) and num_classes:
            quick = {name: _InBf16(layer) for name, layer in slow.items()}
            _put(module, quick)
            if is_faithful(module, few, expected):
                in_bf16 = names
            else:
                _put(module, slow)
                for name in names:
                    _put(module, {name: quick[name]})
                    if is_faithful(module, few, expected):
                        in_bf16.append(name)
                    else:
                        _put(module, {name: slow[name]})
        # What holds for the first classes is given up, the latest first, until it holds for the others too.
        if in_bf16 and num_classes > PROBE:
            many = torch.arange(min(num_classes, MOST_CLASSES)) * num_classes // min(num_classes, MOST_CLASSES)
            expected = images_of(given, many)
            while in_bf16 and not is_faithful(module, many, expected, FAITHFUL_IMAGE):
                name = in_bf16.pop()
                _put(module, {name: slow[name]})
        return Shortcuts(folded=True, bf16=tuple(in_bf16))

    def __call__(
        self,
        z: Tensor,
        labels: Tensor,
        *,
        originals: Tensor | None = None,
        strength: float = 1.0,
        wait: bool = True,
    ) -> Tensor:
        """Draw up to ``rows`` images.

        Args:
            z (Tensor): float32 (N, latent_dim).
            labels (Tensor): int64 (N,), the generator's.
            originals (Tensor, optional): images to vary, uint8 (N, C, H, W). Default: they are drawn from noise alone
            strength (float): of the variations, in (0, 1]. Default: 1
            wait (bool): until a GPU has drawn them; if not, an image that is not finite is told of by a later call.
                Default: True

        Returns:
            Tensor: uint8 (N, C, H, W), on :attr:`device`.

        Raises:
            InputError: the generator cannot vary images.
            ValueError: an image is not finite.
        """
        if originals is None:
            images, finite = self._draw(self._module, z, labels)
        else:
            images, finite = self._draw(self._varying(strength), z, labels, originals)
        if wait:
            return _checked(images, finite)
        self._late.expect(finite, _not_finite)
        return images

    def _varying(self, strength: float) -> Callable[..., Tensor]:
        """The function of latents, labels and images that varies these."""
        forward_from = getattr(self._module, "forward_from", None)
        if forward_from is None:
            raise cannot_vary(type(self._module).__name__, "it has no forward_from, which begins with an image")
        return lambda z, labels, originals: forward_from(z, labels, to_float(originals), strength)

    def _draw(self, draw: Callable[..., Tensor], *values: Tensor) -> tuple[Tensor, Tensor]:
        """Images for the values that ``draw`` takes, and whether all of them are finite, bool ()."""
        inputs = [to_device(fill_rows(each, self.rows), self.device) for each in values]
        # A training loop around this may have autocast on, which would change the images.
        autocast = torch.autocast(self.device.type, enabled=False)
        with torch.inference_mode(), autocast, deterministic_passes(self.device):
            images = draw(*inputs)[: len(values[0])]
            return to_uint8(images), torch.isfinite(images).all()


def _checked(images: Tensor, finite: Tensor) -> Tensor:
    if not finite:
        raise _not_finite()
    return images


def _not_finite() -> ValueError:
    return ValueError(
        "the generator returned images with NaN or infinite values; its weights are unusable. Train it again"
    )


def fill_rows(values: Tensor, rows: int) -> Tensor:
    """``values`` (N, ...), followed by zeros up to ``rows`` rows."""
    return torch.cat([values, values.new_zeros(rows - len(values), *values.shape[1:])])


# Errors of a generator that looks into its own layers, as with tied weights, and finds others there.
_MISFITS = RuntimeError, AttributeError, TypeError, ValueError, LookupError
_WITH_WEIGHTS = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


def _simplified(given: nn.Module, shortcuts: Shortcuts) -> nn.Module:
    """Copy of a generator with shortcuts taken; the generator itself if there are none."""
    if not shortcuts.folded:
        return given
    module = copy.deepcopy(given)
    for sequence in [part for part in module.modules() if isinstance(part, nn.Sequential)]:
        # A BatchNorm that follows a layer becomes part of the layer's weights.
        for index, (layer, norm) in enumerate(pairwise(list(sequence))):
            fused = _fused(layer, norm)
            if fused is not None:
                sequence[index], sequence[index + 1] = fused, nn.Identity()
        for activation in sequence[1:]:
            if isinstance(activation, nn.ReLU | nn.LeakyReLU):
                activation.inplace = True
    _put(module, {name: _InBf16(module.get_submodule(name)) for name in shortcuts.bf16})
    return module.to(memory_format=torch.channels_last)


def _put(module: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    """Put layers in the place of those of these names."""
    for name, layer in layers.items():
        parent, _, place = name.rpartition(".")
        setattr(module.get_submodule(parent), place, layer)


@contextmanager
def _multiplications(module: nn.Module) -> Iterator[dict[str, int]]:
    """Estimate, by name, how many multiplications each layer takes per image, in passes within the block."""
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
        self.layer = copy.deepcopy(layer).to(torch.bfloat16)  # another layer may have the same weights

    def forward(self, values: Tensor) -> Tensor:
        return cast(Tensor, self.layer(values.to(torch.bfloat16))).float()


def _fused(layer: Any, norm: Any) -> nn.Module | None:
    """A layer with the BatchNorm after it in its weights; None if ``norm`` is not one, or keeps no statistics."""
    if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) or not norm.track_running_stats:
        return None
    if isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
        return fuse_linear_bn_eval(layer, norm)
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d):
        return fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, nn.ConvTranspose2d))
    return None
