"""Random numbers for each image of a step, the same whatever number of processes shares the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from ganaug.core.seeding import Purpose, random_stream


class BatchNoise:
    """Random numbers for the images of a global batch, of which each process takes those of its own images.

    Args:
        seed (int): of the run, in [0, 2**64).
        device (torch.device): where they are drawn.
        rank (int), world_size (int): this process, and how many there are.
    """

    def __init__(self, seed: int, device: torch.device, *, rank: int = 0, world_size: int = 1) -> None:
        self._seed, self._device = seed, device
        self._rank, self._world_size = rank, world_size
        self._rng = torch.Generator(device)

    def start(self, step: int) -> None:
        """Draw what belongs to a step from now on."""
        rng = random_stream(self._seed, Purpose.BATCH_NOISE, index=step)
        self._rng.manual_seed(int(rng.integers(2**32)))

    def rand(self, count: int, *shape: int) -> Tensor:
        """Uniform in [0, 1), float32 (count, *shape)."""
        return self._mine(count, torch.rand(self._all(count, shape), generator=self._rng, device=self._device))

    def randn(self, count: int, *shape: int) -> Tensor:
        """Standard normal, float32 (count, *shape)."""
        return self._mine(count, torch.randn(self._all(count, shape), generator=self._rng, device=self._device))

    def randint(self, low: int, high: int, count: int, *shape: int) -> Tensor:
        """Uniform in [low, high), int64 (count, *shape)."""
        size = self._all(count, shape)
        return self._mine(count, torch.randint(low, high, size, generator=self._rng, device=self._device))

    def _all(self, count: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (count * self._world_size, *shape)

    def _mine(self, count: int, drawn: Tensor) -> Tensor:
        return drawn[self._rank * count : (self._rank + 1) * count]
