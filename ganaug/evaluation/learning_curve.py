"""How accuracy grows with the number of real images, and so what a gain is worth in images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganaug.core.seeding import Purpose, random_stream
from ganaug.evaluation.statistics import Difference

Array = np.ndarray[Any, np.dtype[np.float64]]

_FARTHEST = 10  # times the largest measured training set; the worth of a gain beyond that is not given as a number
_RESAMPLES = 500


@dataclass(frozen=True)
class PowerLaw:
    """``score = a - b * images**-c``, the usual shape of a learning curve.

    Source: Hestness et al. 2017, "Deep learning scaling is predictable, empirically" (there of the error).

    Attributes:
        a, b, c (float): fitted; a at most 1, b not negative, c from 0.01 to 3.
    """

    a: float
    b: float
    c: float

    def score(self, images: float) -> float:
        """Balanced accuracy with a number of real images."""
        return float(self.a - self.b * images**-self.c)

    def images(self, score: float) -> float:
        """Number of real images that gives a balanced accuracy; infinity if no number does."""
        if score >= self.a:
            return math.inf
        if self.b == 0:
            return 0.0
        exponent = (math.log(self.b) - math.log(self.a - score)) / self.c
        return math.exp(exponent) if exponent < 700 else math.inf  # beyond what a float can hold


@dataclass(frozen=True)
class Worth:
    """A difference between two arms as a number of real images.

    Attributes:
        images (int): additional real images that would have given the same gain; negative for a loss.
        low, high (int, optional): ends of a 95 % interval; None if it is not bounded on that side.
        extrapolated (bool): whether this lies beyond the training sets that were measured.
        beyond (bool): whether the gain is worth more than ``images``, by too much to say how many.
    """

    images: int
    low: int | None
    high: int | None
    extrapolated: bool
    beyond: bool


@dataclass(frozen=True)
class LearningCurve:
    """Balanced accuracy of the reference arm with different numbers of real images.

    Attributes:
        images (tuple of int): sizes of the training sets, ascending.
        scores (Tensor): float64 (P, S), of each size and seed.
    """

    images: tuple[int, ...]
    scores: Tensor

    def fit(self) -> PowerLaw | None:
        """Least-squares power law through the means of the seeds; None for fewer than three sizes."""
        return _power_law(self.images, self.scores.mean(1)) if len(self.images) > 2 else None

    def worth(self, difference: Difference, images: int) -> Worth | None:
        """How many additional real images would have given a difference; None if no curve can be fitted.

        The interval is a percentile bootstrap: the seeds of the curve are resampled, and the difference is drawn from
        the t distributions of its two parts.

        Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", section 13.3.

        Args:
            difference (Difference): an arm minus the reference arm.
            images (int): number of real images of the reference arm.
        """
        law = self.fit()
        if law is None:
            return None
        limit = _FARTHEST * self.images[-1]
        best = _extra(law, images, difference.estimate)
        rng = random_stream(0, Purpose.BOOTSTRAP)
        seeds = self.scores.shape[1]
        draws = []
        for _ in range(_RESAMPLES):
            again = _power_law(self.images, self.scores[:, rng.integers(seeds, size=seeds)].mean(1))
            shift = math.sqrt(difference.repeat_variance) * rng.standard_t(difference.repeats - 1)
            shift += math.sqrt(difference.image_variance) * rng.standard_t(difference.image_freedom)
            draws.append(_extra(again, images, difference.estimate + shift))
        low, high = np.quantile(draws, [0.025, 0.975], method="nearest")
        return Worth(
            images=round(min(best, limit)),
            low=round(low) if abs(low) <= limit else None,
            high=round(high) if abs(high) <= limit else None,
            extrapolated=images + best > self.images[-1],
            beyond=best > limit,
        )


def _power_law(sizes: Sequence[int], scores: Tensor) -> PowerLaw:
    from scipy.optimize import minimize_scalar

    x, y = np.asarray(sizes, dtype=np.float64), scores.numpy()
    # For a given exponent c the rest is a straight line in images**-c, so only c has to be searched for.
    c = float(minimize_scalar(lambda c: _line(x**-c, y)[2], bounds=(0.01, 3), method="bounded").x)
    a, b, _ = _line(x**-c, y)
    return PowerLaw(a, b, c)


def _line(x: Array, y: Array) -> tuple[float, float, float]:
    """Least-squares a and b of ``y = a - b * x``, a at most 1 and b not negative, and the sum of squared residuals."""
    dx, dy = x - x.mean(), y - y.mean()
    b = max(0.0, float(-(dx * dy).sum() / (dx * dx).sum()))
    a = float(y.mean() + b * x.mean())
    if a > 1:
        a, b = 1.0, float(((1 - y) * x).sum() / (x * x).sum())
    return a, b, float(((a - b * x - y) ** 2).sum())


def _extra(law: PowerLaw, images: int, gain: float) -> float:
    """How many real images beside ``images`` make the curve rise by ``gain``."""
    return law.images(law.score(images) + gain) - images


def learning_curve(sizes: Sequence[int], scores: Sequence[Tensor]) -> LearningCurve:
    """The curve through training-set sizes, in any order, and the balanced accuracies (S,) at each size."""
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    return LearningCurve(tuple(sizes[k] for k in order), torch.stack([scores[k] for k in order]))
