"""Images that show their class by how grey they are, real ones and those of a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

CLASSES = ("ant", "bee", "cat")
LEVELS = {"ant": -0.75, "bee": 0.0, "cat": 0.75}  # mean of an image in [-1, 1]
NOISE = 0.1  # at most, of an image's mean and, generated ones, of its pixels


class GreyGenerator(nn.Module):
    """Draws a class as a grey level; its classes come in another order than the datasets'."""

    latent_dim = 1 + 4 * 4
    label_names = ("cat", "ant", "bee")

    def __init__(self, size: int = 16) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("levels", torch.tensor([LEVELS[name] for name in self.label_names]))

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        mean, texture = z[:, 0, None, None, None], z[:, 1:].reshape(-1, 1, 4, 4)
        values = self.levels[labels][:, None, None, None] + NOISE * (torch.tanh(mean) + torch.tanh(texture))
        return nn.functional.interpolate(values, size=self.size).expand(-1, 3, -1, -1).contiguous()


def grey_picture(name: str, number: int, size: int = 16) -> Image.Image:
    value = LEVELS[name] + NOISE * (number % 5 - 2) / 2
    return Image.new("RGB", (size, size), (round((value + 1) * 127.5),) * 3)


def write_grey_folders(folder: Path, per_class: int = 8) -> Path:
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            grey_picture(name, number).save(folder / name / f"{number}.png")
    return folder


def levels(names: tuple[str, ...] = CLASSES) -> Tensor:
    """Mean of the images of each class, float (C,)."""
    return torch.tensor([LEVELS[name] for name in names])


def assert_as_labelled(images: Tensor, labels: Tensor) -> None:
    """Float images in [-1, 1] (N, C, H, W) show the classes of int labels (N,), or mixtures in shares (N, C)."""
    shares = torch.nn.functional.one_hot(labels, len(CLASSES)).float() if labels.ndim == 1 else labels
    assert len(images)
    assert ((images.mean((1, 2, 3)) - shares @ levels()).abs() <= 2 * NOISE + 0.01).all()


def train_on(loader: DataLoader, steps: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Train a linear classifier for a few steps; all batches of the loader."""
    batches: list[Any] = list(loader)
    network = nn.Linear(batches[0][0][0].numel(), len(CLASSES))
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    for images, labels in batches[:steps]:
        loss = nn.functional.cross_entropy(network(images.flatten(1)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(weight.isfinite().all() for weight in network.parameters())
    return batches
