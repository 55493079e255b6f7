"""Adam over weights as they lie in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class DenseAdam(torch.optim.Adam):
    """``torch.optim.Adam``, fused where the device has that, for weights in ``channels_last`` too.

    Such a weight is updated through a view of its memory in order. Given as it is, fused Adam on a CPU takes six times
    as long.

    Args:
        weights (iterable of Tensor): all on one device, their memory format settled.
        learning_rate (float)
        betas (tuple of float): decay of the first and second moment.
    """

    def __init__(self, weights: Iterable[Tensor], learning_rate: float, betas: tuple[float, float]) -> None:
        self._weights = list(weights)
        fused = self._weights[0].device.type in ("cpu", "cuda")
        super().__init__([_in_order(weight, weight) for weight in self._weights], learning_rate, betas, fused=fused)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the weights by their gradients."""
        views = self.param_groups[0]["params"]
        for view, weight in zip(views, self._weights, strict=True):
            # Fused Adam goes through memory without looking at strides: a gradient in another order must not reach it.
            view.grad = None if weight.grad is None else _in_order(weight.grad, weight).contiguous()
        return super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        super().zero_grad(set_to_none)
        for weight in self._weights:
            weight.grad = None


def _in_order(values: Tensor, weight: Tensor) -> Tensor:
    """View of the weight, or of its gradient, whose dimensions follow the order of the weight's memory."""
    last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return values.detach().permute(0, 2, 3, 1) if last else values.detach()
