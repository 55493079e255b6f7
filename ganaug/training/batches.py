"""What a training step draws, which depends on seed and step alone and not on the number of processes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ganaug.core.hardware import to_device
from ganaug.core.pixels import to_float
from ganaug.core.seeding import Purpose, random_stream
from ganaug.data import LabelledImages


class TrainingBatches:
    """The real images and latents of any step, without a data loader whose state would have to be saved.

    Epochs follow one another without a gap: a batch may hold the end of one and the start of the next. So every image
    is shown equally often, and any number of images works with any batch size. All processes draw the same global
    batch, and each takes its own slice of it, so a step sees the same images and latents however many there are.

    Args:
        data (LabelledImages): the training images.
        latent_dim (int): length of a latent.
        batch_size (int): real images per process and part.
        parts (int): parts of a batch, whose gradients are added up for one update. Default: 1
        latents_per_image (int): latents per real image. Default: 1
        class_sampling (float): q: a class of n images gets a share of the batches proportional to n**q. At 1 every
            epoch shows every image once; below 1 an epoch is as long, but images are drawn with replacement. Default:
            1
        seed (int): in [0, 2**64).
        device (torch.device): where batches are put.
        rank (int), world_size (int): the number of this process, and how many there are.
    """

    def __init__(
        self,
        data: LabelledImages,
        *,
        latent_dim: int,
        batch_size: int,
        seed: int,
        device: torch.device,
        parts: int = 1,
        latents_per_image: int = 1,
        class_sampling: float = 1.0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.data = data
        self.latent_dim = latent_dim
        self.seed = seed
        self.device = device
        self.global_batch = batch_size * world_size * parts
        self._latents_per_image = latents_per_image
        self._batch_size, self._rank, self._world_size = batch_size, rank, world_size
        self._shares = _image_shares(data, class_sampling) if class_sampling != 1 else None
        self._epoch, self._order = -1, np.empty(0, np.int64)
        # Of which step, and the latents and labels of all its parts.
        self._latents = (-1, torch.empty(0), torch.empty(0))

    def real(self, step: int, part: int = 0) -> tuple[Tensor, Tensor]:
        """Real images, float (N, C, H, W) in [-1, 1], and their labels, int64 (N,)."""
        indices = torch.from_numpy(self._indices(step)[self._mine(part)])
        images, labels = self.data.images[indices], self.data.targets[indices]
        return to_float(to_device(images, self.device)), to_device(labels, self.device)

    def latent(self, step: int, part: int = 0) -> tuple[Tensor, Tensor]:
        """Latents from N(0, I), float (M, latent_dim), and labels, int64 (M,).

        Labels have the class shares of the real images: with others, the discriminator could tell real from generated
        images by their classes alone.
        """
        if step != self._latents[0]:
            # The whole batch is drawn at once, and kept for its other parts: all of them are in one random stream.
            rng = random_stream(self.seed, Purpose.TRAINING_LATENT, index=step)
            count = self.global_batch * self._latents_per_image
            drawn = rng.standard_normal((count, self.latent_dim), dtype=np.float32)
            labels = self.data.targets[torch.from_numpy(self._draw(rng, count))]
            self._latents = (step, torch.from_numpy(drawn), labels)
        mine = self._mine(part, self._latents_per_image)
        _, z, labels = self._latents
        return to_device(z[mine], self.device), to_device(labels[mine], self.device)

    def _mine(self, part: int, each: int = 1) -> slice:
        """This rank's rows of a global batch, which has one block for each rank in each part."""
        first = (part * self._world_size + self._rank) * self._batch_size
        return slice(first * each, (first + self._batch_size) * each)

    def _indices(self, step: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        positions = np.arange(step * self.global_batch, (step + 1) * self.global_batch)
        epochs, offsets = np.divmod(positions, len(self.data))
        indices = np.empty_like(positions)
        for epoch in np.unique(epochs):
            indices[epochs == epoch] = self._permutation(int(epoch))[offsets[epochs == epoch]]
        return indices

    def _permutation(self, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        if epoch != self._epoch:
            rng = random_stream(self.seed, Purpose.TRAINING_ORDER, epoch=epoch)
            whole = self._shares is None
            self._epoch = epoch
            self._order = rng.permutation(len(self.data)) if whole else self._draw(rng, len(self.data))
        return self._order

    def _draw(self, rng: np.random.Generator, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Indices of images, drawn with replacement."""
        if self._shares is None:
            return rng.integers(len(self.data), size=count)
        return rng.choice(len(self.data), size=count, p=self._shares)


def _image_shares(data: LabelledImages, q: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The probability of drawing each image, float64 (N,)."""
    counts = np.array(data.class_counts, dtype=np.float64)
    weights = counts[data.targets.numpy()] ** (q - 1)
    return np.asarray(weights / weights.sum())


class BatchNoise:
    """Random numbers for the images of a global batch; each process gets those for its own images.

    All processes draw the numbers for the whole batch, so an image gets the same ones however many there are.

    Args:
        seed (int): of the run, in [0, 2**64).
        device (torch.device): where the numbers are drawn.
        rank (int), world_size (int): the number of this process, and how many there are.
    """

    def __init__(self, seed: int, device: torch.device, *, rank: int = 0, world_size: int = 1) -> None:
        self._seed, self._device = seed, device
        self._rank, self._world_size = rank, world_size
        self._rng = torch.Generator(device)

    def start(self, step: int) -> None:
        """Restart the random stream with the one that belongs to a step."""
        rng = random_stream(self._seed, Purpose.BATCH_NOISE, index=step)
        self._rng.manual_seed(int(rng.integers(2**32)))

    def rand(self, count: int, *shape: int) -> Tensor:
        """Uniform in [0, 1), float32 (count, *shape)."""
        drawn = torch.rand(self._all(count, shape), generator=self._rng, dtype=torch.float32, device=self._device)
        return self._mine(count, drawn)

    def randn(self, count: int, *shape: int) -> Tensor:
        """Standard normal, float32 (count, *shape)."""
        drawn = torch.randn(self._all(count, shape), generator=self._rng, dtype=torch.float32, device=self._device)
        return self._mine(count, drawn)

    def randint(self, low: int, high: int, count: int, *shape: int) -> Tensor:
        """Uniform in [low, high), int64 (count, *shape)."""
        size = self._all(count, shape)
        return self._mine(count, torch.randint(low, high, size, generator=self._rng, device=self._device))

    def _all(self, count: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (count * self._world_size, *shape)

    def _mine(self, count: int, drawn: Tensor) -> Tensor:
        return drawn[self._rank * count : (self._rank + 1) * count]
