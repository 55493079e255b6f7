"""How close generated images are to real ones, next to how close other real images are."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganaug.core.errors import InputError
from ganaug.core.hardware import device_of, evaluation_mode
from ganaug.core.pixels import to_float
from ganaug.data import LabelledImages
from ganaug.data.labelled import check_comparable
from ganaug.evaluation.classifier import SmallCNN, predict
from ganaug.evaluation.distances import frechet_distance, kernel_distance, mean_pairwise_distance, prdc
from ganaug.generators.base import Generator

_NEIGHBOURS = 5  # k of precision, recall, density and coverage, as Naeem et al. 2020


@dataclass(frozen=True)
class SetDistances:
    """How far a set of images is from real ones, in the features of a small CNN that was trained on real images.

    They are not FID and KID, which are defined in the features of one Inception network, and cannot be compared with
    those. See :mod:`ganaug.evaluation.distances` for each.

    Attributes:
        fd_cnn (float, optional): Fréchet distance, at least 0; None for fewer than 2 D images, of which no covariance
            of D features can be estimated.
        kd_cnn (float, optional): kernel distance, about 0 for equal distributions; can be negative. None, like all
            the others, where a set has fewer than 2 images.
        precision, recall, density, coverage (float, optional): with 5 neighbours, fewer where a set has fewer than 6
            images.
    """

    fd_cnn: float | None
    kd_cnn: float | None
    precision: float | None
    recall: float | None
    density: float | None
    coverage: float | None


@dataclass(frozen=True)
class Fidelity:
    """Generated images against real ones, and real ones against real ones, at the same sizes.

    Attributes:
        num_images (int): in each of the sets compared.
        generated (SetDistances): generated images from real ones.
        real (SetDistances): other real images from the same real ones; what a perfect generator has.
        per_class, per_class_real (dict): the same of the images of one class, by class name.
        label_fidelity (float): share of the generated images that the classifier sees their class in, in [0, 1].
        label_fidelity_per_class (dict): the same for each class name.
        real_label_fidelity (float), real_label_fidelity_per_class (dict): the same of the real images, which says how
            good a judge the classifier is: one of few images is wrong about real ones too.
        diversity (dict): for each class name, mean distance of two generated images over mean distance of two real
            ones, in features, of all images given; about 1 for a good generator, 0 for one that repeats an image. None
            for a class with fewer than 2 images, or whose real ones are all the same.
        pixel_diversity (dict): the same in pixels.
        lowest_diversity (float, optional): smallest value in ``diversity``. Far below 1 for a collapsed class.
        lowest_diversity_class (str, optional): the class that has it.
    """

    num_images: int
    generated: SetDistances
    real: SetDistances
    per_class: dict[str, SetDistances]
    per_class_real: dict[str, SetDistances]
    label_fidelity: float
    label_fidelity_per_class: dict[str, float]
    real_label_fidelity: float
    real_label_fidelity_per_class: dict[str, float]
    diversity: dict[str, float | None]
    pixel_diversity: dict[str, float | None]
    lowest_diversity: float | None
    lowest_diversity_class: str | None

    @property
    def mean_diversity(self) -> float:
        """Mean over ``diversity``, of the classes that have one.

        Raises:
            statistics.StatisticsError: none has.
        """
        return statistics.mean(value for value in self.diversity.values() if value is not None)


def fidelity(generated: LabelledImages, real: LabelledImages, classifier: SmallCNN) -> Fidelity:
    """Compare generated images with held-out real ones.

    The real images are halved, class by class. One half is what is compared with; the other half, and as many
    generated images of each class, are compared with it.

    Args:
        generated (LabelledImages): at least as many images of each class as that half has; the first ones of each
            class are compared.
        real (LabelledImages): real images that neither the generator nor the classifier was trained on, of each class
            one at least; what cannot be computed of so few is None.
        classifier (SmallCNN): trained on real images.

    Raises:
        InputError: classes or image shapes differ, or a class has too few images.
    """
    check_comparable(generated, real)
    other, reference = _halve(real)
    chosen = _first_of_each_class(generated, other.class_counts)
    first = generated.subset(chosen, generated.name)
    every = class_features(classifier, generated.images)
    features = [class_features(classifier, half.images) for half in (reference, other)]
    compared, others, made = map(_of_each_class, [*features, every[chosen]], (reference, other, first))
    right, right_real = ((predict(classifier, data.images) == data.targets).double() for data in (first, real))
    names = generated.classes
    # Means over pairs do not depend on how many there are, so all images are used.
    real_parts = [torch.cat(halves) for halves in zip(compared, others, strict=True)]
    diversity = _diversity(_of_each_class(every, generated), real_parts, names)
    pixels = [_of_each_class(data.images.flatten(1), data) for data in (generated, real)]
    known = {name: value for name, value in diversity.items() if value is not None}
    lowest = min(known, key=known.__getitem__, default=None)
    return Fidelity(
        num_images=len(first),
        generated=_set_distances(features[0], every[chosen]),
        real=_set_distances(features[0], features[1]),
        per_class=dict(zip(names, map(_set_distances, compared, made), strict=True)),
        per_class_real=dict(zip(names, map(_set_distances, compared, others), strict=True)),
        label_fidelity=right.mean().item(),
        label_fidelity_per_class=_means(right, first),
        real_label_fidelity=right_real.mean().item(),
        real_label_fidelity_per_class=_means(right_real, real),
        diversity=diversity,
        pixel_diversity=_diversity(pixels[0], pixels[1], names),
        lowest_diversity=None if lowest is None else known[lowest],
        lowest_diversity_class=lowest,
    )


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


def class_features(classifier: SmallCNN, images: Tensor, *, batch_size: int = 256) -> Tensor:
    """What the last layer of a classifier sees, float32 (N, D) on the CPU, of uint8 images (N, C, H, W)."""
    device = device_of(classifier)
    with torch.inference_mode(), evaluation_mode(classifier):
        return torch.cat(
            [classifier.features(to_float(batch.to(device))).float().cpu() for batch in images.split(batch_size)]
        )


def _halve(real: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    for name, count in zip(real.classes, real.class_counts, strict=True):
        if count < 1:
            raise InputError(f"{real.name}: there is no image of class {name} to compare with. Hold some out")
    # The first is never empty: 1 image is halved into 1 and 0.
    return real.split(0.5)


def _first_of_each_class(data: LabelledImages, counts: list[int]) -> Tensor:
    """Indices of the first ``counts[k]`` images of each class k."""
    for name, wanted, there in zip(data.classes, counts, data.class_counts, strict=True):
        if there < wanted:
            raise InputError(
                f"{data.name}: class {name} has {there} images, and {wanted} are compared with as many real ones. "
                f"Generate at least {wanted}"
            )
    return torch.cat([torch.nonzero(data.targets == k).squeeze(1)[:count] for k, count in enumerate(counts)])


def _of_each_class(values: Tensor, data: LabelledImages) -> list[Tensor]:
    return [values[data.targets == k] for k in range(len(data.classes))]


def _means(values: Tensor, data: LabelledImages) -> dict[str, float]:
    """Mean over the images of each class, by its name."""
    return {name: part.mean().item() for name, part in zip(data.classes, _of_each_class(values, data), strict=True)}


def _set_distances(real: Tensor, other: Tensor) -> SetDistances:
    smaller, dimension = min(len(real), len(other)), real.shape[1]
    if smaller < 2:
        return SetDistances(None, None, None, None, None, None)
    nearest = prdc(real, other, k=min(_NEIGHBOURS, smaller - 1))
    return SetDistances(
        fd_cnn=frechet_distance(real, other) if smaller >= 2 * dimension else None,
        kd_cnn=kernel_distance(real, other),
        precision=nearest.precision,
        recall=nearest.recall,
        density=nearest.density,
        coverage=nearest.coverage,
    )


def _diversity(generated: list[Tensor], real: list[Tensor], names: tuple[str, ...]) -> dict[str, float | None]:
    ratios: dict[str, float | None] = {}
    for name, ours, theirs in zip(names, generated, real, strict=True):
        spread = mean_pairwise_distance(theirs) if min(len(ours), len(theirs)) > 1 else 0.0
        ratios[name] = mean_pairwise_distance(ours) / spread if spread else None
    return ratios
