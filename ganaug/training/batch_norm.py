"""BatchNorm over the batches of all processes."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a network takes mean and variance of the images of a batch; of a single one it cannot."""
    return any(isinstance(part, _BatchNorm) for part in network.modules())


def synchronise_batch_norm(network: nn.Module, device: torch.device) -> None:
    """Let the BatchNorm layers of a network take mean and variance over all processes; its state is named as before.

    Args:
        network (nn.Module): changed in place; no BatchNorm layer itself.
        device (torch.device): that it will be on. torch's own layer has no implementation for CPUs.
    """
    if device.type != "cpu":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return
    for part in network.modules():
        if isinstance(part, _BatchNorm):
            part.forward = _Synchronised(part)  # type: ignore[assignment]


class _Synchronised:
    """Forward pass of a BatchNorm layer, with plain tensor operations."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.alone = layer.forward

    def __call__(self, values: Tensor) -> Tensor:
        layer = self.layer
        if not layer.training:
            return cast(Tensor, self.alone(values))
        dims = [0, *range(2, values.ndim)]
        shape = [1, -1, *[1] * (values.ndim - 2)]
        wide = values.to(layer.running_mean.dtype)
        mean = _mean_over_processes(wide.mean(dims))
        centred = wide - mean.view(shape)
        variance = _mean_over_processes(centred.square().mean(dims))
        self._follow(mean.detach(), variance.detach(), values.numel() // values.shape[1] * dist.get_world_size())
        out = centred * (variance + layer.eps).rsqrt().view(shape)
        if layer.affine:
            out = out * layer.weight.view(shape) + layer.bias.view(shape)
        return cast(Tensor, out.to(values.dtype))

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        layer = self.layer
        layer.num_batches_tracked += 1
        layer.running_mean.lerp_(mean, layer.momentum)
        layer.running_var.lerp_(variance * count / (count - 1), layer.momentum)


class _MeanOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values / dist.get_world_size()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # Each process's value went into the mean of all, and so into the loss of all.
        return _MeanOverProcesses.forward(ctx, gradients[0])


def _mean_over_processes(values: Tensor) -> Tensor:
    return _MeanOverProcesses.apply(values)  # type: ignore[no-any-return, no-untyped-call]
