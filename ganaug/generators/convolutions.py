"""Convolutions with the weights and results of torch's own, computed in ways that are faster on a CPU."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UpsampledConv2d(nn.Conv2d):
    """Nearest upsampling to twice the size, then ``nn.Conv2d`` with 3x3 kernels and padding 1.

    Computed as a transposed convolution of stride 2 with the same kernel, whose results are then summed over 2x2
    neighbours: 9 products for each pixel before the upsampling, instead of 36.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, 2 H, 2 W)."""
        values, kernel = _autocast(values, self.weight)
        kernel = kernel.transpose(0, 1).flip(2, 3).contiguous(memory_format=torch.channels_last)
        return _add_bias(_AddNeighbours.apply(F.conv_transpose2d(values, kernel, stride=2)), self.bias)


class ToGreyConv2d(nn.Conv2d):
    """``nn.Conv2d`` with 3x3 kernels and padding 1, to one channel or a few.

    One channel on a CPU is computed as a matrix product, whose nine values for each pixel are then added where they
    belong: oneDNN would compute sixteen channels and drop fifteen. If fp32 gradients are wanted, torch computes it
    after all, since they would take longer this way.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        values, kernel = _autocast(values, self.weight)
        slow = values.dtype != torch.bfloat16 and torch.is_grad_enabled()
        if values.device.type != "cpu" or self.out_channels > 1 or slow:
            return F.conv2d(values, kernel, cast(Tensor, self.bias).to(kernel.dtype), padding=1)
        matrix = kernel.flip(2, 3).view(self.in_channels, 9)
        if torch.is_grad_enabled():
            products = _rows(values) @ matrix
        else:
            products = (_rows(values) @ F.pad(matrix, (0, 7)))[:, :9]  # in fp32, 16 columns take less time than 9
        planes = products.view(len(values), -1, 9).transpose(1, 2)
        return _add_bias(F.fold(planes, values.shape[2:], 3, padding=1), self.bias)


class DoublingConv2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` with a 4x4 kernel, stride 2 and padding 1, which doubles height and width."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 4, stride=2, padding=1)

    def forward(self, values: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, 2 H, 2 W)."""
        values, kernel = _autocast(values, self.weight)
        if _few_pixels(values.shape[0] * values.shape[2] * values.shape[3], self.in_channels, values):
            return _add_bias(_Double.apply(values, kernel), self.bias)
        # With a bias, oneDNN would take as long for its gradient as for the kernel's.
        return _add_bias(F.conv_transpose2d(values, kernel, stride=2, padding=1), self.bias)


class HalvingConv2d(nn.Conv2d):
    """``nn.Conv2d`` with a 4x4 kernel, stride 2 and padding 1, which halves height and width, both even."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 4, stride=2, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H / 2, W / 2)."""
        values, kernel = _autocast(values, self.weight)
        if not _few_pixels(values.shape[0] * values.shape[2] * values.shape[3] // 4, self.out_channels, values):
            return F.conv2d(values, kernel, cast(Tensor, self.bias).to(kernel.dtype), stride=2, padding=1)
        return _add_bias(_Halve.apply(values, kernel), self.bias)


def _few_pixels(pixels: int, channels: int, values: Tensor) -> bool:
    """Whether this is a CPU, and the patches of the batch take no more memory than the kernel.

    oneDNN then takes up to six times as long for the kernel's gradient as a matrix product does.
    """
    return values.device.type == "cpu" and pixels <= channels


class _Halve(torch.autograd.Function):
    """Convolution of stride 2 with a 4x4 kernel, as a product of patches and kernel."""

    @staticmethod
    def forward(ctx: Any, large: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(large, kernel)
        return _images(_patches(large) @ _matrix(kernel).t(), large.shape[0])

    @staticmethod
    def backward(ctx: Any, small: Tensor) -> tuple[Tensor | None, Tensor | None]:
        large, kernel = ctx.saved_tensors
        for_large, for_kernel = ctx.needs_input_grad
        return (
            F.conv_transpose2d(small, kernel, stride=2, padding=1) if for_large else None,
            _kernel(_rows(small).t() @ _patches(large)) if for_kernel else None,
        )


class _Double(torch.autograd.Function):
    """Transposed convolution of stride 2 with a 4x4 kernel, whose gradients are products with patches."""

    @staticmethod
    def forward(ctx: Any, small: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(small, kernel)
        return F.conv_transpose2d(small, kernel, stride=2, padding=1)

    @staticmethod
    def backward(ctx: Any, large: Tensor) -> tuple[Tensor | None, Tensor | None]:
        small, kernel = ctx.saved_tensors
        for_small, for_kernel = ctx.needs_input_grad
        patches = _patches(large)
        return (
            _images(patches @ _matrix(kernel).t(), small.shape[0]) if for_small else None,
            _kernel(_rows(small).t() @ patches) if for_kernel else None,
        )


class _AddNeighbours(torch.autograd.Function):
    """Sums of 2x2 pixels at stride 1. The gradient is such sums again, and torch's takes seven times as long."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return F.avg_pool2d(images, 2, stride=1, divisor_override=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return F.avg_pool2d(gradient, 2, stride=1, padding=1, divisor_override=1)


def _patches(images: Tensor) -> Tensor:
    """4x4 patches at stride 2 of (N, C, H, W) images padded by 1, as rows: (N * H/2 * W/2, 4 * 4 * C)."""
    padded = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    patches = padded.unfold(1, 4, 2).unfold(2, 4, 2).permute(0, 1, 2, 4, 5, 3)
    return patches.reshape(-1, 16 * images.shape[1])


def _rows(images: Tensor) -> Tensor:
    """(N, C, H, W) to (N * H * W, C)."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


def _images(rows: Tensor, count: int) -> Tensor:
    """(N * H * W, C) to (N, C, H, W), square."""
    side = round((len(rows) // count) ** 0.5)
    return rows.view(count, side, side, -1).permute(0, 3, 1, 2)


def _matrix(kernel: Tensor) -> Tensor:
    """(A, B, 4, 4) to (A, 4 * 4 * B)."""
    return kernel.permute(0, 2, 3, 1).reshape(len(kernel), -1)


def _kernel(matrix: Tensor) -> Tensor:
    """(A, 4 * 4 * B) to (A, B, 4, 4)."""
    return matrix.view(len(matrix), 4, 4, -1).permute(0, 3, 1, 2)


def _add_bias(images: Tensor, bias: Tensor | None) -> Tensor:
    added = cast(Tensor, bias).to(images.dtype)[:, None, None]
    return images + added if torch.is_grad_enabled() else images.add_(added)


def _autocast(values: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """The arguments of a convolution as autocast would pass them on, if it is on."""
    device = values.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else values.dtype
    # In the order of memory: cast directly, a kernel in channels_last takes six times as long.
    return values.to(dtype), kernel.permute(0, 2, 3, 1).to(dtype).permute(0, 3, 1, 2)
