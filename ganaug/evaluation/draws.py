"""Draws: the images that could also have been collected, so that a verdict is about more than the ones that were."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ganaug.core.errors import InputError
from ganaug.core.integers import positive_int
from ganaug.core.seeding import Purpose, random_stream
from ganaug.data import LabelledImages, joined
from ganaug.data.labelled import check_comparable
from ganaug.sampling.inference import ConditionalGenerator


@dataclass(frozen=True)
class Draw:
    """What judged classifiers are trained on in one draw.

    Attributes:
        train (LabelledImages): the real images.
        generators (mapping): generators by name; those that are trained on such images, on these.
        extra (LabelledImages, optional): further real images, none of which is in ``train``.
    """

    train: LabelledImages
    generators: Mapping[str, ConditionalGenerator]
    extra: LabelledImages | None = None


@dataclass(frozen=True)
class Draws:
    """Several draws, and how much they say together.

    Attributes:
        each (tuple of Draw): the draws, two or more.
        kind (str): what they are, in words.
        shared (float): how much of the variance between them does not shrink with more of them, because they have
            images in common: the variance of what they share over the variance between them. 0 for independent draws;
            of those by :func:`draw_images`, what :func:`shared_by_draws` says.
        train_generators (callable, optional): trains the generators that are to be trained on each draw, and returns
            the draws with them; until then others stand in. Default: all are there
        seconds (float): that this will take, about.

    Raises:
        InputError: there are fewer than two draws, which do not tell how much draws vary, or ``shared`` is negative.
    """

    each: tuple[Draw, ...]
    kind: str = "independent draws of the images"
    shared: float = 0.0
    train_generators: Callable[[Draws], Draws] | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if len(self.each) < 2:
            raise InputError(
                f"draws must be two or more, to tell how much they vary; got {len(self.each)}. To judge the given "
                "images alone, give none"
            )
        if not 0 <= self.shared < math.inf:
            raise InputError(f"shared must not be negative, got {self.shared}")


def draw_images(
    train: LabelledImages, extra: LabelledImages | None, *, draw: int
) -> tuple[LabelledImages, LabelledImages | None]:
    """Images as they could also have been collected, in the same class counts.

    Where ``extra`` has at least as many images of each class, they are a random subset of both without replacement,
    and the rest is the new ``extra``. Elsewhere they are a bootstrap sample of ``train``: of each class as many images
    as there are, with replacement.

    Args:
        train (LabelledImages): the images that were collected.
        extra (LabelledImages, optional): others of the same kind, none of which is in ``train``.
        draw (int): number of the draw, from 1; the same number gives the same images.

    Returns:
        tuple: the images, in the order they have in ``train`` and ``extra``; and the others, None if there is no
        ``extra``.

    Raises:
        InputError: the classes or forms of the two differ.
        ValueError: ``draw`` is not a positive int.

    Source: Efron 1979, "Bootstrap methods: another look at the jackknife"; here within each class.
    """
    draw = positive_int("draw", draw)
    subset = is_subset(train, extra)
    pool = joined(train, extra) if subset and extra is not None else train
    picked = []
    for k, count in enumerate(train.class_counts):
        rng, of_class = random_stream(draw, Purpose.DRAW, index=k), torch.nonzero(pool.targets == k).squeeze(1).numpy()
        picked.append(np.sort(rng.choice(of_class, count, replace=not subset)) if count else of_class[:0])
    indices = torch.from_numpy(np.sort(np.concatenate(picked)))
    drawn = pool.subset(indices, f"{train.name}, draw {draw}")
    if not subset:
        return drawn, extra

    left = torch.ones(len(pool), dtype=torch.bool)
    left[indices] = False
    rest = torch.nonzero(left).squeeze(1)
    return drawn, pool.subset(rest, f"{pool.name}, the {len(rest):,} that are not in draw {draw}")


def kind_of_draws(train: LabelledImages, extra: LabelledImages | None) -> str:
    """What :func:`draw_images` draws, in words, such as "random subsets of the 6,000 images"."""
    if is_subset(train, extra):
        return f"random subsets of the {len(train) + len(extra or ()):,} images"
    return f"bootstrap samples of the {len(train):,} images, with about 63 % of them in each"


def shared_by_draws(train: LabelledImages, extra: LabelledImages | None) -> float:
    """What such draws share; see :attr:`Draws.shared`.

    All bootstrap samples come from one set of images, whose luck varies as much as they do. Random subsets of n of P
    images vary by 1/n - 1/P around the mean of all, which itself varies by 1/P, both times the variance between images
    (sampling without replacement): the ratio is n / (P - n), and the largest of the classes' is returned.
    """
    if not is_subset(train, extra) or extra is None:
        return 1.0
    return max(count / more for count, more in zip(train.class_counts, extra.class_counts, strict=True) if count)


def is_subset(train: LabelledImages, extra: LabelledImages | None) -> bool:
    """Whether there are enough images to draw from without replacement."""
    if extra is None:
        return False
    check_comparable(train, extra)
    return all(more >= count for more, count in zip(extra.class_counts, train.class_counts, strict=True))
