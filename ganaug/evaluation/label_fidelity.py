from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ganaug.core.errors import InputError
from ganaug.evaluation.classifier import predict
from ganaug.generators.base import Generator


@dataclass(frozen=True)
class LabelFidelity:
    """How often a classifier sees the class that was asked for.

    Attributes:
        share (float): over all images, in [0, 1].
        per_class (dict): the same for each class name.
        num_images (int): how many images were drawn.
    """

    share: float
    per_class: dict[str, float]
    num_images: int


def label_fidelity(
    generator: Generator, classifier: nn.Module, *, num_images: int = 1000, seed: int = 0
) -> LabelFidelity:
    """Share of generated images that a classifier trained on real ones assigns to the class they were asked for.

    Args:
        generator (Generator): with the classifier's classes, in its order.
        classifier (nn.Module): maps float (N, C, H, W) in [-1, 1] to class logits.
        num_images (int): drawn, the classes in turn. Default: 1000
        seed (int): of the images. Default: 0

    Raises:
        InputError: the generator is unconditional, so no class can be asked for.
    """
    if not generator.conditional:
        raise InputError(f"label fidelity is of conditional generators; this {generator.architecture} has no classes")
    labels = torch.arange(num_images) % generator.num_classes
    right = (predict(classifier, generator.sample(labels, seed=seed)) == labels).float()
    per_class = {name: right[labels == k].mean().item() for k, name in enumerate(generator.label_names)}
    return LabelFidelity(right.mean().item(), per_class, num_images)
