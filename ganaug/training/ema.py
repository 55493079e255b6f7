from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class GeneratorEMA:
    """Exponential moving average of a generator's weights and buffers, with its half-life in images.

    Early on the half-life is shortened to 5 % of the images seen, so that a short run does not publish its initial
    weights.

    Args:
        generator (nn.Module): followed; not modified.
        half_life (float): in images.

    Attributes:
        module (nn.Module): the averaged generator.

    Source of the ramp: Karras et al. 2020, "Training generative adversarial networks with limited data", appendix.
    """

    RAMP = 0.05

    def __init__(self, generator: nn.Module, half_life: float) -> None:
        self.half_life = half_life
        self.module = copy.deepcopy(generator)
        self._averages, self._counters = _state(self.module)
        self._values, self._counts = _state(generator)

    @torch.no_grad()
    def update(self, *, images: int, images_seen: int) -> None:
        """Take in the weights after a step over ``images`` images; ``images_seen`` includes them."""
        decay = 0.5 ** (images / min(self.half_life, self.RAMP * images_seen))
        torch._foreach_lerp_(self._averages, self._values, 1 - decay)
        for ours, theirs in zip(self._counters, self._counts, strict=True):
            ours.copy_(theirs)


def _state(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and buffers that can be averaged, and those that count, as BatchNorm's number of batches."""
    values = [value.detach() for value in (*module.parameters(), *module.buffers())]
    return [v for v in values if v.is_floating_point()], [v for v in values if not v.is_floating_point()]
