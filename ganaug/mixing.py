"""The plan of a mixed dataset as pure functions: how many generated images, and of which class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from numbers import Real


def check_ratio(ratio: float) -> Fraction:
    """Return ``ratio`` as the exact decimal fraction that was written.

    0.2 means 1/5 here, not the binary number nearest to it, which lies on the other side of some ties.

    Raises:
        ValueError: ``ratio`` is not a number in [0, 1).
    """
    if isinstance(ratio, bool) or not isinstance(ratio, Real) or math.isnan(ratio) or not 0 <= ratio < 1:
        raise ValueError(
            f"ratio must be a number in [0, 1): the fraction of the mixed dataset that is generated; got {ratio!r}. "
            "For 300 generated images beside 700 real ones it is 0.3."
        )
    return ratio if isinstance(ratio, Fraction) else Fraction(repr(float(ratio)))


def num_generated(n_real: int, ratio: float) -> int:
    """How many generated images to append to ``n_real`` real ones.

    ``n_fake = round(r / (1 - r) * n_real)``, so that ``n_fake / (n_real + n_fake)`` is r up to rounding. The
    arithmetic is exact and ties go to the even number, as in Python's ``round``.

    Raises:
        ValueError: ``ratio`` is not a number in [0, 1).
    """
    exact = check_ratio(ratio)
    return round(exact / (1 - exact) * n_real)


def class_quotas(shares: Sequence[int], total: int) -> list[int]:
    """Divide ``total`` over classes in proportion to ``shares``, by largest remainder.

    Every quota is within one of the exact share and they sum to ``total``. Equal remainders are served in class order.

    Args:
        shares (sequence of int): one non-negative weight per class, for instance its count.
        total (int): what to divide.

    Raises:
        ValueError: there is something to divide and all shares are 0.
    """
    whole = sum(shares)
    if total and not whole:
        raise ValueError(f"cannot divide {total} over {len(shares)} classes whose shares are all 0")
    quotas = [total * share // whole if whole else 0 for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda k: -(total * shares[k] % whole) if whole else 0)
    for k in by_remainder[: total - sum(quotas)]:
        quotas[k] += 1
    return quotas


def match_plan(counts: Sequence[int], ratio: float) -> list[int]:
    """Label of each generated image, in class order, where generated classes have the shares of the real ones.

    Args:
        counts (sequence of int): number of real images of each class.
        ratio (float): in [0, 1), see :func:`num_generated`.
    """
    quotas = class_quotas(counts, num_generated(sum(counts), ratio))
    return [label for label, quota in enumerate(quotas) for _ in range(quota)]
