"""Adam for weights in any memory format, and the moving average of a generator's weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ganaug.core.errors import LoadError


class DenseAdam(torch.optim.Adam):
    """``torch.optim.Adam``, fused where the device supports it, also for weights in ``channels_last``.

    A weight in ``channels_last`` is updated through a view in the order of its memory; otherwise fused Adam on a CPU
    would take six times as long. A step whose gradients are not all finite changes nothing.

    Args:
        weights (iterable of (str, Tensor)): names and weights, all on one device; their memory format must not change
            afterwards.
        learning_rate (float): alpha.
        betas (tuple of float): decay rates of the first and second moment.

    Attributes:
        skipped (Tensor): 1 if the last step was skipped because of such a gradient, else 0; float, on the device.
        only (collection of str, optional): names of the weights that steps update. Default: all

    Source: Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 1.
    """

    def __init__(
        self, weights: Iterable[tuple[str, Tensor]], learning_rate: float, betas: tuple[float, float]
    ) -> None:
        named = dict(weights)
        self._names, self._weights = list(named), list(named.values())
        self.skipped = torch.zeros((), dtype=torch.float32, device=self._weights[0].device)
        self.only: Collection[str] | None = None
        fused = self._weights[0].device.type in ("cpu", "cuda")
        super().__init__([_in_order(weight, weight) for weight in self._weights], learning_rate, betas, fused=fused)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the weights by their gradients."""
        views = self.param_groups[0]["params"]
        for name, view, weight in zip(self._names, views, self._weights, strict=True):
            grad = weight.grad if self.only is None or name in self.only else None
            # Fused Adam ignores strides, so a gradient must lie in memory in the same order as its weight.
            view.grad = None if grad is None else _in_order(grad, weight).contiguous()
        norm = torch.nn.utils.get_total_norm([view.grad for view in views if view.grad is not None])
        self.skipped = (~norm.isfinite()).float()
        if self.defaults["fused"]:
            self.found_inf = self.skipped  # the fused kernel reads it, so the CPU need not wait
        elif self.skipped:
            return None
        return super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients."""
        super().zero_grad(set_to_none)
        for weight in self._weights:
            weight.grad = None

    def moments(self) -> dict[str, Tensor]:
        """The optimizer's state by name: moments and number of steps of each weight."""
        return {
            f"{name}.{key}": value
            for name, view in self._views()
            for key, value in cast(dict[str, Tensor], self.state.get(view, {})).items()
        }

    def set_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`moments` returned.

        Raises:
            LoadError: the moments belong to other weights.
        """
        if others := {key.rpartition(".")[0] for key in moments} - set(self._names):
            raise LoadError(f"the optimizer's state belongs to other weights: {', '.join(sorted(others)[:5])}")
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
    """A view of a weight, or of its gradient, with its dimensions in the order of the weight's memory."""
    last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return values.detach().permute(0, 2, 3, 1) if last else values.detach()


class GeneratorEMA:
    """Exponential moving average of a generator's weights and buffers.

    Early in a run the half-life is shortened to 5 % of the images shown so far, so that a short run does not end with
    an average of its initial weights.

    Args:
        generator (nn.Module): whose weights are averaged; not modified.
        half_life (float): in images.

    Attributes:
        module (nn.Module): the averaged generator.

    Source of the ramp: Karras et al. 2020, "Training generative adversarial networks with limited data", as its
    official code does it.
    """

    RAMP = 0.05

    def __init__(self, generator: nn.Module, half_life: float) -> None:
        self.half_life = half_life
        self.module = copy.deepcopy(generator)
        self._averages, self._counters = _state(self.module)
        self._values, self._counts = _state(generator)

    @torch.no_grad()
    def update(self, *, images: int, images_seen: int) -> None:
        """Add the weights after a step that showed ``images`` images; ``images_seen`` in the run includes them."""
        decay = 0.5 ** (images / min(self.half_life, self.RAMP * images_seen))
        torch._foreach_lerp_(self._averages, self._values, 1 - decay)
        for ours, theirs in zip(self._counters, self._counts, strict=True):
            ours.copy_(theirs)


def _state(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and buffers that can be averaged, and integer ones, such as BatchNorm's count of batches."""
    values = [value.detach() for value in (*module.parameters(), *module.buffers())]
    return [v for v in values if v.is_floating_point()], [v for v in values if not v.is_floating_point()]
