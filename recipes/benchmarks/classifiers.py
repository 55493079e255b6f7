"""What a training step of an evaluation's classifier takes, and what was thought of to make it shorter.

A step of 64 images by one thread: without augmentation, and with TrivialAugment and RandAugment, by torchvision image
by image (the baseline) and by ganaug for the whole batch. Then several classifiers, one after another (the baseline)
and as one network, whose convolutions have a group for each of them. Then, for larger images in colour, the small CNN
of blocks alone (the baseline) and as it is, with convolutions of stride 2 before them. It takes a minute and a half on
two cores with bf16, and five minutes without.

    python recipes/benchmarks/classifiers.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from accelerate.utils import set_seed
from minutes import random_images
from timing import hardware, in_turns, report
from torch import Tensor, nn
from torchvision.transforms import v2

from ganaug import open_images
from ganaug.cli.flags import run
from ganaug.core.files import write_json
from ganaug.core.hardware import best_device, has_bf16, keep_freed_memory
from ganaug.core.pixels import to_float
from ganaug.data import LabelledImages
from ganaug.evaluation import RandAugment, ShiftFlip, SmallCNN, TrivialAugment, networks, train_classifier

BATCH = 64


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        steps: In each round.
        rounds: How often each arm is timed.
        together: Networks that are trained as one.
        sizes: Sides of the larger images, in pixels; their arms have a tenth of the steps.
        output: Write the numbers to this JSON file too.
    """

    steps: int = 50
    rounds: int = 5
    together: tuple[int, ...] = (2, 5)
    sizes: tuple[int, ...] = (64, 128)
    output: Path | None = None


class OneByOne:
    """Shifts, then an operation of torchvision on one image after the other."""

    def __init__(self, shift_flip: ShiftFlip, operation: nn.Module) -> None:
        self.shift_flip, self.operation = shift_flip, operation

    def __call__(self, images: Tensor) -> Tensor:
        """Augment uint8 images (N, C, H, W)."""
        return torch.stack([self.operation(image) for image in self.shift_flip(images)])


def grouped(network: nn.Module, number: int) -> nn.Module:
    """As many networks like this one in one, each of which has a group of the channels."""
    layers: list[nn.Module] = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            channels = number * layer.in_channels, number * layer.out_channels
            layers.append(nn.Conv2d(*channels, 3, padding=1, bias=False, groups=number))
        elif isinstance(layer, nn.BatchNorm2d):
            layers.append(nn.BatchNorm2d(number * layer.num_features))
        elif isinstance(layer, nn.Linear):
            channels = number * layer.in_features, number * layer.out_features
            layers += [nn.Conv2d(*channels, 1, groups=number), nn.Flatten()]
        elif isinstance(layer, nn.ReLU | nn.MaxPool2d | nn.AdaptiveAvgPool2d):
            layers.append(layer)
    return nn.Sequential(*layers)


def blocks_alone(size: int) -> nn.Module:
    """The small CNN for images of that side, without convolutions before its blocks."""
    with patch.object(networks, "LARGE", size + 1):
        return SmallCNN(10, channels=3, image_size=size)


def steps_of(classifiers: list[nn.Module], images: LabelledImages, each: int, steps: int) -> Callable[[], None]:
    """A function that trains networks, each of which is so many in one, one after another; without augmentation."""
    made = [network.to(memory_format=torch.channels_last).train() for network in classifiers]
    optimizers = [torch.optim.Adam(network.parameters(), fused=True) for network in made]
    values, targets = to_float(images.images[:BATCH]).repeat(1, each, 1, 1), images.targets[:BATCH]
    values = values.contiguous(memory_format=torch.channels_last)

    def train() -> None:
        for network, optimizer in zip(made, optimizers, strict=True):
            for _ in range(steps):
                with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16(torch.device("cpu"))):
                    logits = network(values).float().unflatten(1, (each, -1))
                    loss = F.cross_entropy(logits.flatten(0, 1), targets.repeat_interleave(each)) * each
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    return train


def main(args: Arguments) -> None:
    """Measure, and print milliseconds for each step of each network."""
    torch.set_num_threads(1)
    keep_freed_memory()
    set_seed(0)
    images = open_images()
    shift_flip = ShiftFlip.like(images, flip=False)
    fill = shift_flip.background.tolist()
    machine = hardware(best_device())
    print(machine)
    found: dict[str, object] = {"machine": machine}
    for name, theirs, ours in (
        ("TrivialAugment", v2.TrivialAugmentWide, TrivialAugment),
        ("RandAugment", v2.RandAugment, RandAugment),
    ):
        augmentations = {
            "no augmentation": None,
            "image by image": OneByOne(shift_flip, theirs(fill=fill)),
            "whole batches": ours(shift_flip),
        }
        arms = {
            arm: partial(train_classifier, images, steps=args.steps, batch_size=BATCH, augment=augment)
            for arm, augment in augmentations.items()
        }
        found[name] = in_milliseconds(name, arms, args.rounds, args.steps)
    for number in args.together:
        classifiers: list[nn.Module] = [SmallCNN(10) for _ in range(number)]
        arms = {
            "one after another": steps_of(classifiers, images, 1, args.steps),
            "as one network": steps_of([grouped(classifiers[0], number)], images, number, args.steps),
        }
        title = f"{number} classifiers"
        found[title] = in_milliseconds(title, arms, args.rounds, number * args.steps)
    for size in args.sizes:
        steps, larger = max(1, args.steps // 10), random_images(BATCH, size)
        arms = {
            "blocks alone": steps_of([blocks_alone(size)], larger, 1, steps),
            "halved first": steps_of([SmallCNN(10, channels=3, image_size=size)], larger, 1, steps),
        }
        title = f"{size} pixels"
        found[title] = in_milliseconds(title, arms, args.rounds, steps)
    if args.output:
        write_json(args.output, found)


def in_milliseconds(
    title: str, arms: dict[str, Callable[[], object]], rounds: int, steps: int
) -> dict[str, list[float]]:
    """Time arms in turns, and print what a step takes."""
    timed = {name: [1000 * taken / steps for taken in each] for name, each in in_turns(arms, rounds).items()}
    return report(title, timed, unit="ms")


if __name__ == "__main__":
    run(Arguments, main, __doc__)
