"""The classifier that generated images are judged with."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganaug.data import LabelledImages
from ganaug.devices import evaluation_mode
from ganaug.pixels import to_float
from ganaug.seeding import Purpose, random_stream


class SmallCNN(nn.Module):
    """Three blocks of two 3x3 convolutions with BatchNorm, each halving the size; average pool; linear.

    Args:
        num_classes (int): number of classes.
        channels (int): of the images. Default: 1
        width (int): channels of the first block; doubled in each next one. Default: 16
    """

    def __init__(self, num_classes: int, *, channels: int = 1, width: int = 16) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        c_in = channels
        for c_out in (width, 2 * width, 4 * width):
            for c in (c_in, c_out):
                blocks += [nn.Conv2d(c, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]
            blocks.append(nn.MaxPool2d(2, ceil_mode=True))
            c_in = c_out
        self.layers = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (N, num_classes) of float images (N, C, H, W) in [-1, 1]."""
        return cast(Tensor, self.layers(images))


def train_classifier(
    data: LabelledImages, *, steps: int = 600, batch_size: int = 128, learning_rate: float = 2e-3, seed: int = 0
) -> SmallCNN:
    """Train a :class:`SmallCNN` on real images, with Adam and a one-cycle learning rate.

    Args:
        data (LabelledImages): real images.
        steps (int), batch_size (int), learning_rate (float): the budget and the peak rate.
        seed (int): of weights and order. Default: 0

    Returns:
        SmallCNN: in evaluation mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = SmallCNN(len(data.classes), channels=data.channels)
    classifier.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(classifier.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    rng = random_stream(seed, Purpose.CLASSIFIER)
    for _ in range(steps):
        indices = torch.from_numpy(rng.integers(len(data), size=batch_size))
        loss = F.cross_entropy(classifier(to_float(data.images[indices])), data.targets[indices])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return classifier.eval()


def predict(classifier: nn.Module, images: Tensor, *, batch_size: int = 256) -> Tensor:
    """Most likely class, int64 (N,), of each uint8 image (N, C, H, W)."""
    with torch.inference_mode(), evaluation_mode(classifier):
        return torch.cat([classifier(to_float(batch)).argmax(1) for batch in images.split(batch_size)])


def accuracy(classifier: nn.Module, data: LabelledImages) -> float:
    """Share of ``data`` that the classifier gets right, in [0, 1]."""
    return (predict(classifier, data.images) == data.targets).float().mean().item()
