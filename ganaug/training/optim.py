"""The optimizer, and the moving average of the weights that it leaves."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ganaug.core.errors import LoadError


class DenseAdam(torch.optim.Adam):
    """``torch.optim.Adam``, fused where the device has that, for weights in ``channels_last`` too.

    Such a weight is updated through a view of its memory in order. Given as it is, fused Adam on a CPU takes six times
    as long. A step with a gradient that is not finite changes nothing.

    Args:
        weights (iterable of (str, Tensor)): with their names; all on one device, their memory format settled.
        learning_rate (float)
        betas (tuple of float): decay of the first and second moment.

    Attributes:
        skipped (Tensor): whether the last step had such a gradient, float of 0 or 1 on the device.
    """

    def __init__(
        self, weights: Iterable[tuple[str, Tensor]], learning_rate: float, betas: tuple[float, float]
    ) -> None:
        named = dict(weights)
        self._names, self._weights = list(named), list(named.values())
        self.skipped = torch.zeros((), device=self._weights[0].device)
        fused = self._weights[0].device.type in ("cpu", "cuda")
        super().__init__([_in_order(weight, weight) for weight in self._weights], learning_rate, betas, fused=fused)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the weights by their gradients."""
        views = self.param_groups[0]["params"]
        for view, weight in zip(views, self._weights, strict=True):
            # Fused Adam goes through memory without looking at strides: a gradient in another order must not reach it.
            view.grad = None if weight.grad is None else _in_order(weight.grad, weight).contiguous()
        norm = torch.nn.utils.get_total_norm([view.grad for view in views if view.grad is not None])
        self.skipped = (~norm.isfinite()).float()
        if self.defaults["fused"]:
            self.found_inf = self.skipped  # the kernel looks at it, so that nobody waits for the device
        elif self.skipped:
            return None
        return super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        super().zero_grad(set_to_none)
        for weight in self._weights:
            weight.grad = None

    def moments(self) -> dict[str, Tensor]:
        """What has been learnt of the gradients: of each weight its moments and number of steps, by name."""
        return {
            f"{name}.{key}": value
            for name, view in self._views()
            for key, value in cast(dict[str, Tensor], self.state.get(view, {})).items()
        }

    def set_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`moments` gave.

        Raises:
            LoadError: they are of other weights.
        """
        if others := {key.rpartition(".")[0] for key in moments} - set(self._names):
            raise LoadError(f"the optimizer's state is of other weights: {', '.join(sorted(others)[:5])}")
        for name, view in self._views():
            prefix = f"{name}."
            self.state[view] = {
                key.removeprefix(prefix): value.to(view.device)
                for key, value in moments.items()
                if key.startswith(prefix)
            }

    def _views(self) -> Iterator[tuple[str, Tensor]]:
        return zip(self._names, self.param_groups[0]["params"], strict=True)


def _in_order(values: Tensor, weight: Tensor) -> Tensor:
    """View of the weight, or of its gradient, whose dimensions follow the order of the weight's memory."""
    last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return values.detach().permute(0, 2, 3, 1) if last else values.detach()


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
