from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


class GeneratorEMA:
    """Exponential moving average of a generator's weights and buffers, with its half-life in images.

    Early on the half-life is shortened to 5 % of the images seen, so that a short run does not publish its initial
    weights.

    Args:
        generator (nn.Module): copied; not modified.
        half_life (float): in images.

    Source of the ramp: Karras et al. 2020, "Training generative adversarial networks with limited data", appendix.
    """

    RAMP = 0.05

    def __init__(self, generator: nn.Module, half_life: float) -> None:
        self.half_life = half_life
        self._decay = 0.0
        self._averaged = AveragedModel(generator, multi_avg_fn=self._blend, use_buffers=True)

    @property
    def module(self) -> nn.Module:
        """The averaged generator."""
        return self._averaged.module

    def update(self, generator: nn.Module, *, images: int, images_seen: int) -> None:
        """Take in the weights after a step over ``images`` images; ``images_seen`` includes them."""
        self._decay = 0.5 ** (images / min(self.half_life, self.RAMP * images_seen))
        self._averaged.update_parameters(generator)

    @torch.no_grad()
    def _blend(self, averaged: Tensors, current: Tensors, _: Tensor | int) -> None:
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - self._decay)
        else:  # BatchNorm's counter of batches
            torch._foreach_copy_(averaged, current)
