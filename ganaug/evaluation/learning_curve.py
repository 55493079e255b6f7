"""How accuracy grows with the number of real images, and so what a gain is worth in images."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ganaug.evaluation.scores import Difference
from ganaug.seeding import Purpose, random_stream

_FARTHEST = 10  # times the largest measured training set: what lies beyond is not put into a number
_RESAMPLES = 200


@dataclass(frozen=True)
class PowerLaw:
    """``score = a - b * images**-c``; the usual shape of learning curves (Hestness et al. 2017).

    Attributes:
        a, b, c (float): fitted; a in [0, 1], b and c not negative.
    """

    a: float
    b: float
    c: float

    def score(self, images: float) -> float:
        """Balanced accuracy with a number of real images."""
        return float(self.a - self.b * images**-self.c)

    def images(self, score: float) -> float:
        """Number of real images that gives a balanced accuracy; infinity where none does."""
        if score >= self.a or self.b == 0 or self.c == 0:
            return math.inf
        return float((self.b / (self.a - score)) ** (1 / self.c))


@dataclass(frozen=True)
class Worth:
    """A difference between two arms as a number of real images.

    Attributes:
        images (int): additional real images that would have given the same gain; negative for a loss.
        low, high (int, optional): a 95 % interval of it; None where it has no bound.
        extrapolated (bool): whether it lies beyond the training sets that were measured.
        beyond (bool): whether it is more than ``images``, too far to say how many.
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

    def fit(self, columns: Sequence[int] | None = None) -> PowerLaw | None:
        """Least-squares power law through the means of the seeds; None for fewer than three sizes, or where none fits.

        Args:
            columns (sequence of int, optional): which seeds; default: all.
        """
        if len(self.images) < 3:
            return None
        from scipy.optimize import OptimizeWarning, curve_fit

        chosen = self.scores if columns is None else self.scores[:, columns]
        sizes, means = np.asarray(self.images, dtype=np.float64), chosen.mean(1).numpy()
        # In units of the largest set, b is the distance to the asymptote there, and the three are of one size.
        start = [min(1.0, float(means.max()) + 0.02), 0.05, 0.5]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", OptimizeWarning)
                (a, b, c), _ = curve_fit(
                    lambda size, a, b, c: a - b * size**-c,
                    sizes / sizes[-1],
                    means,
                    p0=start,
                    bounds=([0, 0, 0.01], [1, 1, 3]),
                )
        except RuntimeError:  # no convergence
            return None
        return PowerLaw(float(a), float(b * sizes[-1] ** c), float(c))

    def worth(self, difference: Difference, images: int) -> Worth | None:
        """How many additional real images would have given a difference; None where no curve can be fitted.

        The interval is a bootstrap: seeds of the curve are drawn anew, and the difference from its t distribution.

        Args:
            difference (Difference): to the reference arm.
            images (int): real images that the reference arm has.
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
            again = self.fit(rng.integers(seeds, size=seeds).tolist())
            shift = rng.standard_t(difference.degrees_of_freedom) * difference.standard_error
            if again is not None:
                draws.append(_extra(again, images, difference.estimate + shift))
        low, high = np.quantile(draws, [0.025, 0.975], method="nearest") if draws else (-math.inf, math.inf)
        beyond = best > limit
        return Worth(
            images=round(min(best, limit)),
            low=round(low) if abs(low) <= limit else None,
            high=round(high) if abs(high) <= limit else None,
            extrapolated=images + best > self.images[-1],
            beyond=beyond,
        )


def _extra(law: PowerLaw, images: int, gain: float) -> float:
    """Real images that the curve needs beside ``images`` to rise by ``gain`` from where it is there."""
    return law.images(law.score(images) + gain) - images


def learning_curve(sizes: Sequence[int], scores: Sequence[Tensor]) -> LearningCurve:
    """Curve of training-set sizes and the balanced accuracies (S,) at each of them, in any order."""
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    return LearningCurve(tuple(sizes[k] for k in order), torch.stack([scores[k] for k in order]))
