"""How good the answers of classifiers are, and whether those of one arm are better than those of another.

Answers are bool or int tensors (S, N): of S classifiers, one for each seed, about N held-out images.
"""

from __future__ import annotations

import math
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
    """

    estimate: float
    low: float
    high: float
    p: float
    standard_error: float
    degrees_of_freedom: float


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


def clear_gain(scores: Tensor, reference: Tensor) -> tuple[float, float, bool]:
    """Mean gain over paired seeds, its standard error, and whether the gain is the larger of the two.

    This is the one-standard-error rule: the simpler choice, here the reference, is kept unless the other one is better
    by more than a standard error.

    Source: Breiman et al. 1984, "Classification and regression trees", section 3.4.3.

    Args:
        scores, reference (Tensor): float64 (S,), of the same seeds.
    """
    differences = scores - reference
    gain, error = differences.mean().item(), differences.std().item() / math.sqrt(len(differences))
    return gain, error, gain > error


def paired_difference(one: Tensor, other: Tensor, targets: Tensor, num_classes: int) -> Difference:
    """Difference of the balanced accuracies of two arms that were trained with the same seeds.

    Seeds and held-out images are both samples: of trainings that could have happened, and of images that could have
    been held out. The variance is that of a mean over a crossed design, s_seeds^2 / S + s_images^2 / N minus what
    varies with both, which would be counted twice. Images are sampled within their class.

    Sources: Owen 2007, "The pigeonhole bootstrap", section 3 (the variance); Satterthwaite 1946, "An approximate
    distribution of estimates of variance components" (the degrees of freedom).

    Args:
        one, other (Tensor): bool (S, N), whether each answer is right; S at least 2, at least 2 images of each class.
        targets (Tensor): int64 (N,).
        num_classes (int): K.
    """
    from scipy import stats

    difference = one.double() - other.double()
    seeds = len(difference)
    per_seed = recalls(difference, targets, num_classes)  # (S, K)
    estimate = per_seed.mean().item()

    # Variance of the mean over seeds, over images, and over the residuals of both, which is in each of the former.
    of_seeds = per_seed.mean(1).var().item() / seeds
    per_image = difference.mean(0)
    residual = difference - per_image - per_seed[:, targets] + per_seed.mean(0)[targets]
    of_images = _variance_of_mean(per_image, targets, num_classes)
    of_both = sum(_variance_of_mean(row, targets, num_classes) for row in residual) / (seeds * (seeds - 1))
    variance = max(of_seeds + of_images - of_both, of_seeds, of_images)
    if variance == 0:  # the two arms agree on every image
        return Difference(estimate, estimate, estimate, 1.0, 0.0, float(seeds - 1))

    # Student's t interval with Satterthwaite's degrees of freedom, never fewer than those of the seeds alone.
    freedom = max(variance**2 / (of_seeds**2 / (seeds - 1) + of_images**2 / (len(targets) - num_classes)), seeds - 1)
    error = variance**0.5
    half = float(stats.t.ppf(0.975, freedom)) * error
    p = 2 * float(stats.t.sf(abs(estimate) / error, freedom))
    return Difference(estimate, estimate - half, estimate + half, p, error, freedom)


def _variance_of_mean(values: Tensor, targets: Tensor, num_classes: int) -> float:
    """Variance of the mean of the classes' means of float64 (N,), if images are sampled within their class."""
    counts = torch.bincount(targets, minlength=num_classes).double()
    means = torch.zeros(num_classes, dtype=torch.float64).index_add_(0, targets, values) / counts
    squares = torch.zeros(num_classes, dtype=torch.float64).index_add_(0, targets, (values - means[targets]) ** 2)
    return (squares / (counts - 1) / counts).sum().item() / num_classes**2


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple comparisons, so that the chance of any false claim stays at the chosen level.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure": the k-th smallest of n p-values is
    multiplied by n - k + 1, and none becomes smaller than the one before it.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, k in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[k]))
        adjusted[k] = highest
    return adjusted
