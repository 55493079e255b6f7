"""From labels to uint8 images: batched, and seeded image by image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from ganaug.seeding import Purpose, check_seed, random_stream

# Images in every forward pass, filled up where fewer are asked for. Matrix products of other sizes take other code
# paths and differ in the last bit: with 1 or 3 rows instead of 64, 7 to 10 of a million bytes came out one grey level
# off. At a fixed size an image does not depend on what it is computed with.
ROWS = 8


class ConditionalGenerator(Protocol):
    """What can be sampled: a module that maps (latents, labels) to images.

    ``generator(z, labels)`` takes float32 ``z`` of shape (N, latent_dim), standard normal, and int64 ``labels`` of
    shape (N,), and returns float images (N, C, H, W) in [-1, 1].
    """

    latent_dim: int

    def __call__(self, z: Tensor, labels: Tensor) -> Tensor:
        """Images for latents and labels."""
        ...


def latents(seed: int, indices: Sequence[int], latent_dim: int, *, epoch: int = 0, attempt: int = 0) -> Tensor:
    """Standard normal latents, one private stream per index.

    Returns:
        Tensor: float32 of shape (len(indices), latent_dim), on the CPU whatever device the generator is on, so that
        an image does not depend on the machine that draws it.
    """
    z = np.empty((len(indices), latent_dim), dtype=np.float32)
    for row, index in zip(z, indices, strict=True):
        random_stream(seed, Purpose.SAMPLE, epoch=epoch, index=int(index), attempt=attempt).standard_normal(
            dtype=np.float32, out=row
        )
    return torch.from_numpy(z)


def to_uint8(images: Tensor) -> Tensor:
    """Map images from [-1, 1] to uint8 in [0, 255]: clamped, then rounded to the nearest grey level.

    Truncating, or wrapping values that leave the range, would mark generated images in a way a classifier can learn.
    """
    return images.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def to_float(images: Tensor) -> Tensor:
    """Map uint8 images (N, C, H, W) to float32 in [-1, 1], channels last: what networks are given."""
    return images.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1)


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters are; the CPU for one without."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def best_device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def check_usable_here(device: torch.device, what: str) -> None:
    """Refuse to compute on a device that a DataLoader worker cannot use.

    Raises:
        RuntimeError: this is a worker, and ``device`` is not the CPU.
    """
    if device.type != "cpu" and get_worker_info() is not None:
        raise RuntimeError(
            f"{what} is on {device}, and a DataLoader worker cannot use it there. Call materialize() on a "
            "ConditionalGANAugment before the loader starts, keep the network on the CPU, or use num_workers=0"
        )


def sample(
    generator: ConditionalGenerator,
    labels: Sequence[int] | Tensor,
    *,
    seed: int = 0,
    indices: Sequence[int] | None = None,
    epoch: int = 0,
    attempt: int = 0,
) -> Tensor:
    """Draw one image per label.

    Image ``k`` depends on the generator, ``labels[k]`` and (seed, epoch, indices[k], attempt) alone: not on the batch
    it is computed in, the number of workers or the global random state.

    Args:
        generator (ConditionalGenerator): used on the device it is on and in evaluation mode; left as it was.
        labels (sequence of int or Tensor): shape (N,).
        seed (int): in [0, 2**64). Default: 0
        indices (sequence of int, optional): the number of each image in the seed's sequence. Default: 0 .. N-1
        epoch (int): another sequence of the same seed. Default: 0
        attempt (int): another image for the same index, such as after one that a filter refused. Default: 0

    Returns:
        Tensor: uint8 of shape (N, C, H, W), on the CPU.

    Raises:
        ValueError: the seed or the labels are not what they should be, or the generator returns images that are not
            finite.
    """
    check_seed(seed)
    label_tensor = torch.as_tensor(labels)
    if label_tensor.ndim != 1 or (label_tensor.numel() and label_tensor.dtype.is_floating_point):
        raise ValueError(
            f"labels must be a flat sequence of ints, got shape {tuple(label_tensor.shape)}, {label_tensor.dtype}"
        )
    label_tensor = label_tensor.to(torch.int64)
    if indices is None:
        indices = range(len(label_tensor))
    elif len(indices) != len(label_tensor):
        raise ValueError(f"indices and labels must be of one length, got {len(indices)} and {len(label_tensor)}")

    module = cast(nn.Module, generator)
    device = device_of(module)
    chunks = []
    # Autocast, as of a training loop around this, would change the images.
    with torch.inference_mode(), torch.autocast(device.type, enabled=False), evaluation_mode(module):
        # Without labels one pass is made all the same, for the shape of its images.
        for start in range(0, max(len(label_tensor), 1), ROWS):
            z = latents(seed, indices[start : start + ROWS], generator.latent_dim, epoch=epoch, attempt=attempt)
            rows = fill_rows(z).to(device), fill_rows(label_tensor[start : start + ROWS]).to(device)
            images = generator(*rows)[: len(z)]
            if not torch.isfinite(images).all():
                raise ValueError("the generator returned images with NaN or infinite values; its weights are unusable")
            chunks.append(to_uint8(images).cpu())
    return torch.cat(chunks)


def fill_rows(values: Tensor) -> Tensor:
    """Add zeros up to ``ROWS`` rows."""
    return torch.cat([values, values.new_zeros(ROWS - len(values), *values.shape[1:])])


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module and all its parts in evaluation mode, and each back as it was."""
    modes: list[tuple[Any, bool]] = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
