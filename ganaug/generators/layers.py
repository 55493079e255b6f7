"""Layers that several networks are made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SMALLEST = 8  # pixels: the side of the smallest images inside a network is at most this, where it can be


def same_conv(c_in: int, c_out: int, *, stride: int = 1) -> list[nn.Module]:
    """3x3 convolution with Keras' "same" zero padding: at stride 2 on an even size, bottom and right only."""
    if stride == 1:
        return [nn.Conv2d(c_in, c_out, 3, padding=1)]
    return [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(c_in, c_out, 3, stride=stride)]


def init_normal(module: nn.Module, *, std: float = 0.02) -> None:
    """Initialise linear and convolution weights from N(0, std), BatchNorm weights with 1, all biases with 0.

    Source: Radford, Metz & Chintala 2015 (DCGAN), section 4.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, std=std)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)


class ToImages(nn.Module):
    """(N, C * H * W) to square images (N, C, H, W) in channels_last, which convolutions and BatchNorm work fastest on.

    Args:
        channels (int): C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, values: Tensor) -> Tensor:
        """See the class."""
        side = math.isqrt(values.shape[1] // self.channels)
        return values.view(-1, self.channels, side, side).contiguous(memory_format=torch.channels_last)

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return str(self.channels)


class FloatTanh(nn.Module):
    """Tanh in fp32, also under autocast: in bf16 a dark pixel rounds to -1 exactly and has no gradient any more."""

    def forward(self, values: Tensor) -> Tensor:
        """Elementwise, to [-1, 1]."""
        return values.float().tanh()


class ByteDropout(nn.Module):
    """Dropout whose mask is drawn with one byte per value, or two where ``p`` is no multiple of 1/256.

    ``nn.Dropout`` on a CPU draws its values one after another, which took an eighth of a training step of acgan-28;
    eight bytes at a time take a fifth of that. Uses torch's global random state, as ``nn.Dropout`` does.

    Args:
        p (float): probability of setting a value to 0, rounded to a multiple of 1/65536; the others are divided by 1
            minus that.

    Raises:
        ValueError: ``p`` is not in [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p must be in [0, 1), got {p}")
        if p * 256 == int(p * 256):
            self._dtype, self._lowest_kept = torch.uint8, int(p * 256)
            self.p = p
        else:  # signed: torch does not compare uint16
            self._dtype, self._lowest_kept = torch.int16, round(p * 65536) - 32768
            self.p = round(p * 65536) / 65536

    def forward(self, values: Tensor) -> Tensor:
        """Drop values in training mode; the identity in evaluation mode."""
        if not self.training or not self.p:
            return values
        size = values.numel() * self._dtype.itemsize
        words = torch.empty((size + 7) // 8, dtype=torch.int64, device=values.device)
        levels = words.random_(-(2**63), None).view(self._dtype)
        # Laid out in memory as the values are, whose format (channels last) is thus kept.
        mask = levels.as_strided(values.shape, values.stride()) >= self._lowest_kept
        return values * mask.to(values.dtype).div_(1 - self.p)

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"p={self.p}"


def halvings(side: int) -> int:
    """How often images inside a network are halved: until their side is 8 pixels, less, or odd."""
    count = 0
    while side > SMALLEST and side % 2 == 0:
        count, side = count + 1, side // 2
    return count
