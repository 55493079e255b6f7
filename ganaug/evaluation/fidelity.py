"""How close generated images are to real ones, next to how close other real images are."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError
from ganaug.core.hardware import device_of, evaluation_mode
from ganaug.core.pixels import to_float
from ganaug.data import LabelledImages
from ganaug.data.labelled import check_comparable
from ganaug.data.stored import Pixels
from ganaug.evaluation.classifier import predict, predict_probabilities
from ganaug.evaluation.distances import frechet_distance, kernel_distance, mean_pairwise_distance, prdc
from ganaug.evaluation.networks import SmallCNN
from ganaug.generators.base import Generator
from ganaug.sampling.class_sampler import ClassSampler

_NEIGHBOURS = 5  # k of precision, recall, density and coverage, as in Naeem et al. 2020


@dataclass(frozen=True)
class SetDistances:
    """How far a set of images is from real ones, in the features of a small CNN that was trained on real images.

    These are not FID and KID, which are defined in the features of one Inception network, and cannot be compared with
    them. See :mod:`ganaug.evaluation.distances` for each. All are None if a set has fewer than 2 images.

    Attributes:
        fd_cnn (float, optional): Fréchet distance, at least 0; None for fewer than 2 D images, which are too few to
            estimate a covariance of D features.
        kd_cnn (float, optional): kernel distance, about 0 for equal distributions; can be negative.
        precision, recall, density, coverage (float, optional): with 5 neighbours, or fewer if a set has fewer than 6
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
    """Generated images against real ones, and real images against real ones, in sets of the same sizes.

    Attributes:
        num_images (int): in each of the sets that are compared.
        generated (SetDistances): from real images to generated ones.
        real (SetDistances): from the same real images to other real ones; what a perfect generator would reach.
        per_class, per_class_real (dict): class name to the same for the images of this class alone.
        label_fidelity (float): share of the generated images in which the classifier sees the right class, in [0, 1].
        label_fidelity_per_class (dict): class name to the same.
        real_label_fidelity (float), real_label_fidelity_per_class (dict): the same for the real images. It says how
            good a judge the classifier is: one that was trained on few images is wrong about real ones too.
        diversity (dict): class name to the mean distance between two generated images, divided by that between two
            real ones, in features, over all images given. About 1 for a good generator, 0 for one that repeats an
            image; None for a class with fewer than 2 images, or whose real images are all the same.
        pixel_diversity (dict): the same in pixels.
        lowest_diversity (float, optional): the smallest value in ``diversity``; far below 1 if a class has collapsed.
        lowest_diversity_class (str, optional): the class with this value.
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
        """Mean of ``diversity`` over the classes for which it is known.

        Raises:
            statistics.StatisticsError: it is not known for any class.
        """
        return statistics.mean(value for value in self.diversity.values() if value is not None)


@usual_defaults()
def fidelity(generated: LabelledImages, real: LabelledImages, classifier: SmallCNN) -> Fidelity:
    """Compare generated images with held-out real ones.

    The real images are halved, class by class. The second half is what is compared with; the first half, and equally
    many generated images of each class, are compared with it.

    Args:
        generated (LabelledImages): at least as many images of each class as the first half has. Of more, the first
            ones of each class are compared.
        real (LabelledImages): real images, at least one of each class, that neither the generator nor the classifier
            was trained on. What cannot be computed for so few is None.
        classifier (SmallCNN): trained on real images.

    Raises:
        InputError: classes or image shapes differ, or a class has too few images.
    """
    check_comparable(generated, real)
    for name, count in zip(real.classes, real.class_counts, strict=True):
        if count < 1:
            raise InputError(f"{real.name}: there is no image of class {name} to compare with. Hold some out")
    names = generated.classes

    # Three sets of the same size: the reference, other real images, and generated ones. A class with 1 real image
    # has it in ``other``.
    other, reference = real.split(0.5)
    chosen = _first_of_each_class(generated, other.class_counts)
    made = generated.subset(chosen, generated.name)
    made_features, other_features, reference_features = (
        class_features(classifier, data.images) for data in (generated, other, reference)
    )
    by_class = _of_each_class(reference_features, reference)
    other_by_class = _of_each_class(other_features, other)
    made_by_class = _of_each_class(made_features[chosen], made)
    right, right_real = ((predict(classifier, data.images) == data.targets).double() for data in (made, real))

    # Mean distances over pairs do not depend on the number of images, so diversity is measured on all of them.
    real_by_class = [torch.cat(halves) for halves in zip(by_class, other_by_class, strict=True)]
    diversity = _diversity(_of_each_class(made_features, generated), real_by_class, names)
    pixels = [_of_each_class(data.images[:].flatten(1), data) for data in (generated, real)]
    known = {name: value for name, value in diversity.items() if value is not None}
    lowest = min(known, key=known.__getitem__, default=None)
    return Fidelity(
        num_images=len(made),
        generated=_set_distances(reference_features, made_features[chosen]),
        real=_set_distances(reference_features, other_features),
        per_class=dict(zip(names, map(_set_distances, by_class, made_by_class), strict=True)),
        per_class_real=dict(zip(names, map(_set_distances, by_class, other_by_class), strict=True)),
        label_fidelity=right.mean().item(),
        label_fidelity_per_class=_means(right, made),
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
        share (float): of all images, in [0, 1].
        per_class (dict): class name to the same share.
        num_images (int): how many images were drawn.
    """

    share: float
    per_class: dict[str, float]
    num_images: int


@usual_defaults()
def label_fidelity(
    generator: Generator,
    classifier: nn.Module,
    *,
    classes: Sequence[str] | None = None,
    num_images: int = 1000,
    seed: int = 0,
) -> LabelFidelity:
    """Share of generated images in which a classifier trained on real ones sees the class that was asked for.

    Args:
        generator (Generator): knows the classes of the classifier, by name.
        classifier (nn.Module): maps float (N, C, H, W) in [-1, 1] to class logits.
        classes (sequence of str, optional): the classifier's, in the order of its logits, as in the ``classes`` of the
            images that it was trained on. Default: the generator's
        num_images (int): how many are drawn, of the classes in turn. Default: 1000
        seed (int): of the images. Default: 0

    Raises:
        InputError: the generator is unconditional, so no class can be asked for, or does not know one; or the
            classifier has another number of classes.
    """
    if not generator.conditional:
        raise InputError(
            f"label fidelity needs a conditional generator; this {generator.architecture} has no classes. Give another"
        )
    names = generator.label_names if classes is None else tuple(classes)
    labels = torch.arange(num_images) % len(names)
    images = ClassSampler(generator, names, seed=seed).draw(labels, range(num_images))
    probabilities = predict_probabilities(classifier, images)
    if probabilities.shape[1] != len(names):
        raise InputError(
            f"the classifier knows {probabilities.shape[1]} classes, and {len(names)} are asked for: "
            f"{', '.join(names)}. Give classes: the classifier's, in the order of its logits"
        )
    right = (probabilities.argmax(1) == labels).float()
    per_class = {name: right[labels == k].mean().item() for k, name in enumerate(names)}
    return LabelFidelity(right.mean().item(), per_class, num_images)


@usual_defaults()
def class_features(classifier: SmallCNN, images: Pixels, *, batch_size: int = 256) -> Tensor:
    """Features, which the last layer of a classifier sees, float32 (N, D) on the CPU, of uint8 images (N, C, H, W)."""
    device = device_of(classifier)
    with torch.inference_mode(), evaluation_mode(classifier):
        return torch.cat(
            [classifier.features(to_float(batch.to(device))).float().cpu() for batch in images.split(batch_size)]
        )


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
    """Class name to the mean over the images of this class."""
    return {name: part.mean().item() for name, part in zip(data.classes, _of_each_class(values, data), strict=True)}


def _set_distances(real: Tensor, other: Tensor) -> SetDistances:
    """Distances between features (N, D) and (M, D)."""
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
    """Class name to the mean distance of two generated points over that of two real ones."""
    ratios: dict[str, float | None] = {}
    for name, ours, theirs in zip(names, generated, real, strict=True):
        spread = mean_pairwise_distance(theirs) if min(len(ours), len(theirs)) > 1 else 0.0
        ratios[name] = mean_pairwise_distance(ours) / spread if spread else None
    return ratios
