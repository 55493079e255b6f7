"""How good the answers of classifiers are, and whether those of one arm are better than those of another.

Answers are bool or int tensors (S, N): of S classifiers, one for each seed, about N held-out images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Difference:
    """Difference between the balanced accuracies of two arms, in [-1, 1], with a 95 % interval.

    Attributes:
        estimate (float): first arm minus second arm.
        low, high (float): ends of the interval.
        p (float): two-sided p-value of the hypothesis of no difference, not corrected for other comparisons.
        standard_error (float), degrees_of_freedom (float): of the t distribution that the interval comes from.
        repeats (int): how often the comparison was repeated: the number of draws, or of seeds if there is one draw.
        repeat_variance (float): the part of the squared standard error that shrinks with more repeats.
        image_variance (float): the part that stays however many there are, and shrinks with more held-out images.
    """

    estimate: float
    low: float
    high: float
    p: float
    standard_error: float
    degrees_of_freedom: float
    repeats: int
    repeat_variance: float
    image_variance: float

    def interval(self, level: float) -> tuple[float, float]:
        """Ends of the interval with another level of confidence, in (0, 1)."""
        half = t_quantile((1 + level) / 2, self.degrees_of_freedom) * self.standard_error
        return self.estimate - half, self.estimate + half


def recalls(correct: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Share of each class's images that were answered right, float64 (S, K), from bool (S, N)."""
    sums = torch.zeros(len(correct), num_classes, dtype=torch.float64).index_add_(1, targets, correct.double())
    return sums / torch.bincount(targets, minlength=num_classes)


def balanced_accuracy(correct: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Mean of the classes' recalls, float64 (S,); equal to the accuracy if all classes have equally many images."""
    return recalls(correct, targets, num_classes).mean(1)


def macro_f1(predicted: Tensor, targets: Tensor, num_classes: int) -> float:
    """Mean of the classes' F1 scores, averaged over the seeds."""
    from sklearn.metrics import f1_score

    labels = range(num_classes)
    each = [f1_score(targets, row, labels=labels, average="macro", zero_division=0) for row in predicted]
    return float(sum(each) / len(each))


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
    one: Tensor, other: Tensor, targets: Tensor, num_classes: int, draws: Sequence[int] | None = None
) -> Difference:
    """Difference of the balanced accuracies of two arms that were trained with the same seeds.

    Repeats and held-out images are both samples: of trainings that could have happened, and of images that could have
    been held out. The variance is that of a mean over a crossed design, s_repeats^2 / R + s_images^2 / N minus what
    varies with both, which would be counted twice. Images are sampled within their class. A repeat is a seed; where
    there are several draws of the training images, it is a draw, and its seeds are averaged first.

    Sources: Owen 2007, "The pigeonhole bootstrap", section 3 (the variance); Satterthwaite 1946, "An approximate
    distribution of estimates of variance components" (the degrees of freedom).

    Args:
        one, other (Tensor): bool (S, N), whether each answer is right; at least 2 images of each class.
        targets (Tensor): int64 (N,).
        num_classes (int): K.
        draws (sequence of int, optional): the draw that each seed belongs to, equally many in each. Default: one draw

    Raises:
        ValueError: there are fewer than 2 repeats.
    """
    from scipy import stats

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
    of_images = _variance_of_mean(per_image, targets, num_classes)
    of_both = sum(_variance_of_mean(row, targets, num_classes) for row in residual) / (repeats * (repeats - 1))
    image_variance = max(of_images - of_both, 0.0)
    variance = max(of_repeats + image_variance, of_images)
    if variance == 0:  # the two arms agree on every image
        return Difference(estimate, estimate, estimate, 1.0, 0.0, float(repeats - 1), repeats, 0.0, 0.0)

    # Student's t interval with Satterthwaite's degrees of freedom, never fewer than those of the repeats alone. From
    # two repeats their variance is known too badly for his approximation, which then covers 90 instead of 95 %.
    freedom = float(repeats - 1)
    if repeats > 2:
        of_each = of_repeats**2 / (repeats - 1) + of_images**2 / (len(targets) - num_classes)
        freedom = max(variance**2 / of_each, freedom)
    error = variance**0.5
    half = t_quantile(0.975, freedom) * error
    p = 2 * float(stats.t.sf(abs(estimate) / error, freedom))
    return Difference(
        estimate,
        estimate - half,
        estimate + half,
        p,
        error,
        freedom,
        repeats,
        variance - image_variance,
        image_variance,
    )


def _variance_of_mean(values: Tensor, targets: Tensor, num_classes: int) -> float:
    """Variance of the mean of the classes' means of float64 (N,), if images are sampled within their class."""
    counts = torch.bincount(targets, minlength=num_classes).double()
    means = torch.zeros(num_classes, dtype=torch.float64).index_add_(0, targets, values) / counts
    squares = torch.zeros(num_classes, dtype=torch.float64).index_add_(0, targets, (values - means[targets]) ** 2)
    return (squares / (counts - 1) / counts).sum().item() / num_classes**2


def t_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t distribution."""
    from scipy import stats

    return float(stats.t.ppf(probability, freedom))
