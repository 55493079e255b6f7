"""Small real images, a quick classifier, and generators that are known to be good or bad; importable by workers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ganaug import LabelledImages, open_images
from ganaug.evaluation import UtilitySettings
from ganaug.evaluation.cells import Cell, Job

QUICK = UtilitySettings(seeds=3, steps=60, max_steps=60, batch_size=32, augmentations=("none", "classic"))


class TinyClassifier(nn.Module):
    """One hidden layer."""

    learning_rate = 2e-2

    def __init__(self, num_classes: int, *, channels: int, image_size: int) -> None:
        super().__init__()
        pixels = channels * image_size**2
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 32), nn.ReLU(), nn.Linear(32, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


class Replay(nn.Module):
    """Generator that returns given images: of the class asked for, one that the latent picks.

    Args:
        data (LabelledImages): what it returns.
        first (int, optional): use this many images of each class only.
    """

    latent_dim = 2

    def __init__(self, data: LabelledImages, *, first: int | None = None) -> None:
        super().__init__()
        order = torch.argsort(data.targets, stable=True)
        counts = torch.bincount(data.targets, minlength=len(data.classes))
        self.register_buffer("images", data.images[order] / 127.5 - 1)
        self.register_buffer("starts", counts.cumsum(0) - counts)
        self.register_buffer("counts", counts if first is None else counts.clamp(max=first))

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        picked = torch.special.ndtr(z[:, 0]).clamp(max=1 - 1e-6) * self.counts[labels]
        return self.images[self.starts[labels] + picked.long()]


class OftenNextClass(Replay):
    """Good images, half of them of the wrong class."""

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return super().forward(z, (labels + (z[:, 1] > 0)) % len(self.counts))


class NextClass(Replay):
    """Good images of the wrong class."""

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return super().forward(z, (labels + 1) % len(self.counts))


class Noise(nn.Module):
    """Images that show nothing."""

    latent_dim = 64

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (z / 2).clamp(-1, 1).unflatten(1, (1, 8, 8))


class MadeUpCells:
    """Cells that nobody trained, and what was asked for.

    Args:
        accuracy (callable): job to the chance that an answer is right.
        on (slice): the held-out images of which that is so; of the others, 0.7.
    """

    processes = 1

    def __init__(self, accuracy: Callable[[Job], float] = lambda job: 0.7, on: slice = slice(None)) -> None:
        self.accuracy, self.on = accuracy, on
        self.used: list[Cell] = []
        self.asked: dict[str, list[Job]] = {}  # by title

    def run(self, jobs, title) -> list[Cell]:
        self.asked.setdefault(title, []).extend(jobs)
        cells = [self._cell(job, len(self.used) + number) for number, job in enumerate(jobs)]
        self.used += cells
        return cells

    def _cell(self, job: Job, number: int) -> Cell:
        targets = job.study.held_out.targets
        chance = torch.full((len(targets),), 0.7)
        chance[self.on] = self.accuracy(job)
        right = torch.rand(len(targets), generator=torch.Generator().manual_seed(number)) < chance
        wrong = (targets + 1) % len(job.study.held_out.classes)
        return Cell(torch.where(right, targets, wrong), torch.full((len(targets),), 0.5), 1.0)


def digits_in_parts(train: int, oracle: int, *, seed: int = 0) -> tuple[LabelledImages, ...]:
    """8x8 digits, none of them twice: training, oracle's and further images, the first two in images of each class,
    and 350 held-out ones."""
    images = open_images("sklearn:digits")
    kept, rest = images.take([train] * 10, seed=seed)
    known, further = rest.take([oracle] * 10, seed=seed)
    return kept, known, further, open_images("sklearn:digits", split="test")
