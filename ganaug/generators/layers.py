"""Layers that several networks share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SMALLEST = 8  # pixels: images inside a network are halved down to this side, as far as it divides
# Keras' BatchNormalization(momentum=0.8) keeps 0.8 of the running value; PyTorch's momentum is the part it replaces.
KERAS_MOMENTUM = 0.2


def same_conv(c_in: int, c_out: int, *, stride: int = 1) -> list[nn.Module]:
    """3x3 convolution with Keras' "same" zero padding: at stride 2, even sizes are padded at bottom and right only."""
    if stride == 1:
        return [nn.Conv2d(c_in, c_out, 3, padding=1)]
    return [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(c_in, c_out, 3, stride=stride)]


def init_normal(module: nn.Module, *, std: float = 0.02) -> None:
    """Initialise linear and convolution weights from N(0, std), BatchNorm weights to 1, and all biases to 0.

    Source: Radford, Metz and Chintala 2015, "Unsupervised representation learning with deep convolutional generative
    adversarial networks", section 4.
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
    """(N, C * H * W) to square images (N, C, H, W) in channels_last, where convolutions and BatchNorm are fastest.

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


class FloatGroupNorm(nn.GroupNorm):
    """GroupNorm that computes in fp32 or wider on a CPU: in bf16 and channels_last, torch's takes nine times as long.

    Source: Wu and He 2018, "Group normalization", equations 1 to 7.
    """

    def _get_name(self) -> str:
        return "GroupNorm"  # so that fingerprints of networks, which are of how they are printed, stay as they were

    def forward(self, values: Tensor) -> Tensor:
        """Normalise float (N, C, H, W); the result has the same dtype, but where autocast says otherwise."""
        if values.device.type != "cpu":
            return super().forward(values)
        wide = values.to(torch.promote_types(values.dtype, torch.float32))
        return super().forward(wide).to(values.dtype)


class FloatTanh(nn.Module):
    """Tanh in fp32, under autocast too: in bf16 a dark pixel rounds to exactly -1 and no longer has a gradient."""

    def forward(self, values: Tensor) -> Tensor:
        """Elementwise, to [-1, 1]."""
        return values.float().tanh()


class ByteDropout(nn.Module):
    """Dropout whose mask is drawn with one byte per value, or two if ``p`` is not a multiple of 1/256.

    ``nn.Dropout`` on a CPU draws its values one at a time, which took an eighth of a training step of acgan-28; eight
    bytes at a time take a fifth of that. Like ``nn.Dropout``, it uses torch's global random state.

    Args:
        p (float): probability of setting a value to 0, rounded to a multiple of 1/65536; the other values are divided
            by 1 minus that.

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
        # The mask is laid out in memory as the values are, so that their format (channels last) is kept.
        mask = levels.as_strided(values.shape, values.stride()) >= self._lowest_kept
        return values * mask.to(values.dtype).div_(1 - self.p)

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"p={self.p}"


def halvings(side: int) -> int:
    """How often images inside a network are halved: until their side is odd, or 8 pixels or less."""
    count = 0
    while side > SMALLEST and side % 2 == 0:
        count, side = count + 1, side // 2
    return count
