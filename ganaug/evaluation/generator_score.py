"""One number for how good a generator is, by which the best one of a training run is chosen."""

from __future__ import annotations

import math
import statistics
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from ganaug.core.errors import InputError
from ganaug.core.hardware import best_device
from ganaug.data import LabelledImages
from ganaug.data.labelled import check_comparable
from ganaug.evaluation.augmentation import ShiftFlip
from ganaug.evaluation.classifier import predict, train_classifier
from ganaug.evaluation.distances import kernel_distance, mean_pairwise_distance
from ganaug.evaluation.fidelity import class_features
from ganaug.evaluation.networks import SmallCNN
from ganaug.evaluation.statistics import recalls
from ganaug.generators.base import Generator

IMAGES = 1000  # generated for a score, rounded up to equally many of each class, and at least two
STEPS = 200  # of the classifier that is trained on them
REFERENCE_STEPS = 600  # of the one that is trained on real images, once
BATCH_SIZE = 64


class GeneratorScore:
    """Scores generators by real images that they were not trained on.

    The score is the product of shares, each of them 1 for images like real ones and 0 for worthless ones:

    - ``label_fidelity``: share of generated images in which a classifier trained on real ones sees the class that was
      asked for;
    - ``class_diversity``: mean distance between two generated images of a class, divided by that between two held-out
      ones, in that classifier's features; at most 1, averaged over the classes;
    - ``closeness``: 1 - (d / d')^(1/2), where d is the (squared) kernel distance between generated and held-out images
      in these features, and d' that between the held-out images of one class and of all others, averaged over the
      classes;
    - ``usefulness``, as it is called in every run that was saved: balanced accuracy on the held-out images of a
      classifier that was trained for 200 steps on the generated images alone (a quick classification accuracy score).

    An unconditional generator has only the second and the third, as if all images were of one class. All scores use
    the same seeds for images, weights and batches, so that only the generators differ.

    Args:
        train (LabelledImages): real images that the classifier is trained on; generators may be trained on them too.
        held_out (LabelledImages): real images that no generator was trained on.
        horizontal_flip (bool): mirror the classifiers' images; only if a mirrored image still belongs to its class.
            Default: False

    Raises:
        InputError: the two sets differ in classes or image shape, or fewer than two classes have two held-out images.

    Sources: Ravuri and Vinyals 2019, "Classification accuracy score for conditional generative models"; of the
    distances, see :mod:`ganaug.evaluation.distances`.
    """

    def __init__(self, train: LabelledImages, held_out: LabelledImages, *, horizontal_flip: bool = False) -> None:
        check_comparable(train, held_out)
        if sum(count > 1 for count in held_out.class_counts) < 2:
            raise InputError(
                f"{held_out.name}: a score needs at least two images of each of two classes; the classes have "
                f"{', '.join(map(str, held_out.class_counts))}. Hold out more"
            )
        self._train, self._held_out = train, held_out
        self._augment = ShiftFlip.like(train, flip=horizontal_flip)

    def __call__(self, generator: Generator) -> dict[str, float]:
        """The score, under the key ``score``, and the shares that it is the product of.

        Neither the global random state nor the generator is changed.

        Raises:
            InputError: the generator's classes or image shape differ from those of the real images.
        """
        real, classes = self._held_out, self._held_out.classes
        names = generator.label_names if generator.conditional else classes
        labels = torch.arange(len(names) if generator.conditional else 1)
        labels = labels.repeat(max(2, -(-IMAGES // len(labels))))
        made = LabelledImages(generator.sample(labels), labels, names, "generated images")
        check_comparable(made, real)
        features = class_features(self._reference, made.images)
        targets = real.targets if generator.conditional else torch.zeros_like(real.targets)
        shares = {
            "class_diversity": _diversity(features, labels, self._real_features, targets),
            "closeness": self._closeness(features),
        }
        if generator.conditional:
            right = predict(self._reference, made.images) == labels
            shares |= {"label_fidelity": right.double().mean().item(), "usefulness": self._usefulness(made)}
        return {"score": math.prod(shares.values()), **shares}

    def _closeness(self, features: Tensor) -> float:
        squared = max(0.0, kernel_distance(self._real_features, features)) / self._class_distance
        return max(0.0, 1 - math.sqrt(squared))

    def _usefulness(self, made: LabelledImages) -> float:
        student = self._learn(made, STEPS)
        right = (predict(student, self._held_out.images) == self._held_out.targets)[None]
        # A class without held-out images has no recall.
        return recalls(right, self._held_out.targets, len(made.classes)).nanmean().item()

    def _learn(self, images: LabelledImages, steps: int) -> SmallCNN:
        classifier = train_classifier(
            images, steps=steps, batch_size=BATCH_SIZE, augment=self._augment, device=best_device()
        )
        return cast(SmallCNN, classifier)

    @cached_property
    def _reference(self) -> SmallCNN:
        return self._learn(self._train, REFERENCE_STEPS)

    @cached_property
    def _real_features(self) -> Tensor:
        return class_features(self._reference, self._held_out.images)

    @cached_property
    def _class_distance(self) -> float:
        """Kernel distance between the held-out images of a class and all others, averaged over the classes."""
        features, targets = self._real_features, self._held_out.targets
        parts = [(features[targets == k], features[targets != k]) for k in targets.unique()]
        distance = statistics.fmean(kernel_distance(own, others) for own, others in parts if len(own) > 1)
        return max(distance, 1e-9)  # an unbiased estimate may be negative, if classes look alike


def _diversity(made: Tensor, labels: Tensor, real: Tensor, targets: Tensor) -> float:
    """Mean over classes with two real images. Each is capped at 1, so that no class can make up for another."""
    ratios = []
    for label in targets.unique():
        theirs = real[targets == label]
        if len(theirs) > 1:
            spread = max(mean_pairwise_distance(theirs), 1e-9)  # real images of a class may be all the same
            ratios.append(min(1.0, mean_pairwise_distance(made[labels == label]) / spread))
    return statistics.fmean(ratios)
