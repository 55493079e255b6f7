"""How good the answers of classifiers are, and whether those of one arm are better than those of another.

Answers are bool or int tensors (S, N): of S classifiers, one for each seed, about N held-out images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

_LEAST_P = 1e-6  # smaller p-values are not told apart


@dataclass(frozen=True)
class Difference:
    """Difference between the balanced accuracies of two arms, in [-1, 1], with a 95 % interval.

    Attributes:
        estimate (float): first arm minus second arm.
        low, high (float): ends of the interval.
        p (float): two-sided p-value of the hypothesis of no difference, not corrected for other comparisons.
        repeats (int): how often the comparison was repeated: the number of draws, or of seeds if there is one draw.
        repeat_variance (float): the part of the squared standard error that shrinks with more repeats; it has one
            degree of freedom fewer than there are repeats.
        image_variance (float): the part that stays however many there are, and shrinks with more held-out images.
        image_freedom (float): its degrees of freedom.
        shared_variance (float): the part that stays because the draws have images in common; it has as many degrees
            of freedom as the first. Default: 0
    """

    estimate: float
    low: float
    high: float
    p: float
    repeats: int
    repeat_variance: float
    image_variance: float
    image_freedom: float
    shared_variance: float = 0.0

    @property
    def standard_error(self) -> float:
        """Standard error of the estimate."""
        return math.sqrt(self.repeat_variance + self.shared_variance + self.image_variance)

    def interval(self, level: float) -> tuple[float, float]:
        """Ends of the interval with a level of confidence, in (0, 1).

        Both parts of the variance are estimated, the one from a few repeats, the other from many images. The quantile
        is the mean of the t quantiles of both, weighted by their variances. It covers at least what it says but for
        fractions of a per cent, even with two repeats, from which Satterthwaite's approximation covers far less.

        Source: Cochran 1964, "Approximate significance levels of the Behrens-Fisher test".
        """
        half = self._quantile((1 + level) / 2) * self.standard_error
        return self.estimate - half, self.estimate + half

    def _quantile(self, probability: float) -> float:
        from scipy import special

        of_draws = self.repeat_variance + self.shared_variance
        total = of_draws + self.image_variance
        if total == 0:
            return 0.0
        of_repeats = special.stdtrit(self.repeats - 1, probability)
        of_images = special.stdtrit(self.image_freedom, probability)
        return float(of_draws * of_repeats + self.image_variance * of_images) / total


def recalls(correct: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Share of each class's images that were answered right, float64 (S, K), from bool (S, N)."""
    sums = torch.zeros(len(correct), num_classes, dtype=torch.float64).index_add_(1, targets, correct.double())
    return sums / torch.bincount(targets, minlength=num_classes)


def balanced_accuracy(correct: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Mean of the classes' recalls, float64 (S,); equal to the accuracy if all classes have equally many images."""
    return recalls(correct, targets, num_classes).mean(1)


def macro_f1(predicted: Tensor, targets: Tensor, num_classes: int) -> float:
    """Mean of the classes' F1 scores, averaged over the seeds; 0 for a class that is never found."""
    # F1 = 2 TP / (2 TP + FP + FN): twice the hits of a class by the images that are or are said to be of it.
    there, said = (functional.one_hot(labels, num_classes).bool() for labels in (targets, predicted))
    either = there.sum(0) + said.sum(1)
    return (2 * (there & said).sum(1) / either.clamp(min=1).double()).mean().item()


def calibration_error(confidence: Tensor, correct: Tensor, *, bins: int = 15) -> float:
    """Expected calibration error (ECE) over equally wide bins, averaged over the seeds.

    Source: Guo et al. 2017, "On calibration of modern neural networks", equation 3.

    Args:
        confidence (Tensor): float (S, N), probability of the predicted class.
        correct (Tensor): bool (S, N).
        bins (int): number of bins. Default: 15
    """
    # Bin m is (m/M, (m+1)/M]. The sum of confidence minus correctness over a bin is |B_m| (conf(B_m) - acc(B_m)).
    which = (confidence.double() * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(len(confidence), bins, dtype=torch.float64)
    gaps.scatter_add_(1, which, confidence.double() - correct.double())
    return (gaps.abs().sum(1) / confidence.shape[1]).mean().item()


def paired_difference(
    one: Tensor,
    other: Tensor,
    targets: Tensor,
    num_classes: int,
    draws: Sequence[int] | None = None,
    *,
    shared: float = 0.0,
) -> Difference:
    """Difference of the balanced accuracies of two arms that were trained with the same seeds.

    Repeats and held-out images are both samples: of trainings that could have happened, and of images that could have
    been held out. The variance is that of a mean over a crossed design, s_repeats^2 / R + s_images^2 / N minus what
    varies with both, which would be counted twice. Images are sampled within their class. A repeat is a seed; where
    there are several draws of the training images, it is a draw, and its seeds are averaged first.

    Sources: Owen 2007, "The pigeonhole bootstrap", section 3 (the variance); Welch 1947, "The generalization of
    'Student's' problem when several different population variances are involved" (the images' degrees of freedom);
    and :meth:`Difference.interval`.

    Args:
        one, other (Tensor): bool (S, N), whether each answer is right; at least 2 images of each class.
        targets (Tensor): int64 (N,).
        num_classes (int): K.
        draws (sequence of int, optional): the draw that each seed belongs to, equally many in each. Default: one draw
        shared (float): see :attr:`ganaug.evaluation.draws.Draws.shared`. Default: 0

    Raises:
        ValueError: there are fewer than 2 repeats.
    """
    difference = one.double() - other.double()
    if draws is not None and len(set(draws)) > 1:
        members = [torch.tensor([each == draw for each in draws]) for draw in sorted(set(draws))]
        difference = torch.stack([difference[member].mean(0) for member in members])
    repeats = len(difference)
    if repeats < 2:
        raise ValueError(f"an interval needs at least 2 seeds, got {repeats}")
    per_repeat = recalls(difference, targets, num_classes)  # (R, K)
    estimate = per_repeat.mean().item()

    # Variance of the mean over repeats, over images, and over the residuals of both, which is in each of the former.
    of_repeats = per_repeat.mean(1).var().item() / repeats
    per_image = difference.mean(0)
    residual = difference - per_image - per_repeat[:, targets] + per_repeat.mean(0)[targets]
    of_images = _variances_of_mean(per_image[None], targets, num_classes)[0]
    of_both = _variances_of_mean(residual, targets, num_classes).sum().item() / (repeats * (repeats - 1))

    # The images' degrees of freedom are few if most of their variance is that of classes with few images (Welch).
    fewer = torch.bincount(targets, minlength=num_classes) - 1
    freedom = of_images.sum() ** 2 / (of_images**2 / fewer).sum() if of_images.any() else fewer.sum()
    found = Difference(
        estimate=estimate,
        low=estimate,
        high=estimate,
        p=1.0 if estimate == 0 else 0.0,
        repeats=repeats,
        repeat_variance=of_repeats,
        image_variance=max(of_images.sum().item() - of_both, 0.0),
        image_freedom=float(freedom),
        shared_variance=shared * of_repeats * repeats,
    )
    if found.standard_error == 0:
        # All repeats and images agree, as few images may by chance. So it is taken as if one of each class did not.
        one_of_each = (1 / torch.bincount(targets, minlength=num_classes).double() / num_classes).square().sum().item()
        found = replace(found, image_variance=one_of_each)
    low, high = found.interval(0.95)
    return replace(found, low=low, high=high, p=_p_value(found))


def _p_value(difference: Difference) -> float:
    """One minus the level of the interval that ends at zero."""
    from scipy import optimize

    def end(p: float) -> float:
        low, high = difference.interval(1 - p)
        return low if difference.estimate > 0 else -high

    if difference.estimate == 0:
        return 1.0
    return float(optimize.brentq(end, _LEAST_P, 1)) if end(_LEAST_P) < 0 else _LEAST_P


def _variances_of_mean(values: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """What each class adds to the variance of the mean of the classes' means of float64 (S, N), float64 (S, K).

    Images are sampled within their class.
    """
    counts = torch.bincount(targets, minlength=num_classes).double()
    means = torch.zeros(len(values), num_classes, dtype=torch.float64).index_add_(1, targets, values) / counts
    squares = torch.zeros_like(means).index_add_(1, targets, (values - means[:, targets]) ** 2)
    return squares / (counts - 1) / counts / num_classes**2
