"""The plan of a mixed dataset as pure functions: how many generated images, of which class, in whose place."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from numbers import Real

import torch
from torch import Tensor

from ganaug.core.integers import to_int
from ganaug.core.seeding import Purpose, random_stream
from ganaug.core.text import composed, numbers_of
from ganaug.sampling.variations import places_in_class

DEFAULT_RATIO = 0.3
BY_RATIO = ("match", "uniform")
FILL_UP = ("auto", "not majority", "not minority", "minority", "all")

Strategy = str | Mapping[str | int, int] | Callable[[dict[str, int]], Mapping[str | int, int]]


def check_ratio(ratio: float) -> Fraction:
    """Return ``ratio`` as the exact decimal fraction that was written.

    0.2 means 1/5 here, not the nearest binary number, which lies on the other side of some ties.

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


def num_replaced(n_real: int, ratio: float) -> int:
    """How many of ``n_real`` real images to replace: ``round(r * n_real)``, exactly.

    Raises:
        ValueError: ``ratio`` is not a number in [0, 1).
    """
    return round(check_ratio(ratio) * n_real)


def class_quotas(shares: Sequence[int], total: int) -> list[int]:
    """Divide ``total`` over classes in proportion to ``shares``, by largest remainder.

    Every quota is within one of the exact share, and together they make ``total``. Of equal remainders, those of the
    first classes are served first.

    Args:
        shares (sequence of int): one non-negative weight per class, for instance its count.
        total (int): what to divide.

    Returns:
        list of int: one quota per class.

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


def append_quotas(
    counts: Sequence[int], classes: Sequence[str], *, ratio: float | None = None, strategy: Strategy = "match"
) -> list[int]:
    """How many generated images of each class to append.

    Args:
        counts (sequence of int): number of real images of each class.
        classes (sequence of str): their names.
        ratio (float, optional): in [0, 1), of the mixed dataset; with ``"match"`` and ``"uniform"`` only, where None
            means 0.3.
        strategy (str, mapping or callable): ``"match"``: the class shares of the real images; ``"uniform"``: equally
            many of every class that has images. In imbalanced-learn's words, the classes to fill up to the size of the
            largest: ``"not majority"`` or ``"auto"``, ``"minority"`` (all that tie for it), ``"not minority"``,
            ``"all"``. Or {class name or index: total wanted, real ones included}; or a function from {class name:
            count} to such a mapping.

    Returns:
        list of int: one quota per class.

    Raises:
        ValueError: the ratio or the strategy is not one of the above, or both say how many.
    """
    if isinstance(strategy, str) and strategy in BY_RATIO:
        total = num_generated(sum(counts), DEFAULT_RATIO if ratio is None else ratio)
        return class_quotas(counts if strategy == "match" else [min(count, 1) for count in counts], total)
    if ratio is not None:
        raise ValueError(
            f"two amounts: ratio {ratio!r}, and sampling_strategy {strategy!r}, which fixes the number of generated "
            f"images by itself. Leave out one of them; the strategies that take a ratio are {', '.join(BY_RATIO)}"
        )
    if isinstance(strategy, str):
        return _fill_up(counts, strategy)
    wanted = strategy(dict(zip(classes, counts, strict=True))) if callable(strategy) else strategy
    if not isinstance(wanted, Mapping):
        raise ValueError(f"sampling_strategy must give {{class: total wanted}}, got {wanted!r}")
    return _up_to_totals(counts, classes, wanted)


def replace_quotas(counts: Sequence[int], *, ratio: float | None = None, strategy: Strategy = "match") -> list[int]:
    """How many images of each class to replace by generated ones.

    Args:
        counts (sequence of int): number of real images of each class.
        ratio (float, optional): in [0, 1), of the dataset. None means 0.3.
        strategy (str): ``"match"``: the same share of every class; ``"uniform"``: equally many of every class, as far
            as it has that many.

    Returns:
        list of int: one quota per class.

    Raises:
        ValueError: the ratio is out of range, or the strategy is neither of the two.
    """
    if not isinstance(strategy, str) or strategy not in BY_RATIO:
        raise ValueError(
            f"mode 'replace' keeps the number of images of every class, so sampling_strategy must be one of "
            f"{', '.join(BY_RATIO)}; got {strategy!r}. Take mode 'append' to fill classes up"
        )
    total = num_replaced(sum(counts), DEFAULT_RATIO if ratio is None else ratio)
    if strategy == "match":
        return class_quotas(counts, total)
    # A class that is used up leaves its part to the others: each class gives up to one level, a few one image more.
    level = bisect_right(range(max(counts) + 1), total, key=lambda cut: sum(min(count, cut) for count in counts)) - 1
    quotas = [min(count, level) for count in counts]
    for k in [k for k, count in enumerate(counts) if count > level][: total - sum(quotas)]:
        quotas[k] += 1
    return quotas


def replaced_indices(targets: Tensor, quotas: Sequence[int], *, seed: int, epoch: int) -> Tensor:
    """Which items are generated in an epoch: in each class, a window that moves through its items in shuffled order.

    Over the epochs, all items of a class are replaced equally often.

    Args:
        targets (Tensor): int64 (N,), labels.
        quotas (sequence of int): how many to replace of each class.
        seed (int): decides the order.
        epoch (int): from 0, decides where the window stands.

    Returns:
        Tensor: int64 (sum of quotas,), indices in ascending order.
    """
    chosen = [torch.empty(0, dtype=torch.int64)]
    for k, quota in enumerate(quotas):
        if quota:
            members = torch.nonzero(targets == k).squeeze(1)
            order = torch.from_numpy(random_stream(seed, Purpose.REPLACED, index=k).permutation(len(members)))
            window = (torch.arange(quota) + epoch * quota % len(members)) % len(members)
            chosen.append(members[order[window]])
    return torch.cat(chosen).sort().values


def labels_in_class_order(quotas: Sequence[int]) -> Tensor:
    """Labels of appended images, int64 (sum of quotas,)."""
    return torch.repeat_interleave(torch.arange(len(quotas)), torch.tensor(quotas, dtype=torch.int64))


class Plan:
    """Which items of a mixed dataset are generated, and of which class.

    Args:
        labels (Tensor): int64 (N,), of the real items.
        classes (sequence of str): class names; label k is ``classes[k]``.
        mode (str): ``"append"`` or ``"replace"``.
        ratio (float, optional), strategy (Strategy): see :func:`append_quotas` and :func:`replace_quotas`.
        seed (int): in [0, 2**64), decides which items are replaced.

    Attributes:
        targets (Tensor): int64, labels of all items; in mode append the generated ones follow, in class order.
        places (Tensor): int64, place of each item among those of its class; appended ones are counted by themselves.
        quotas (list of int): generated items of each class, in every epoch.
        present (tuple of str): the classes that have items, real or generated.

    Raises:
        ValueError: an argument is not one of the above.
    """

    def __init__(
        self, labels: Tensor, classes: Sequence[str], *, mode: str, ratio: float | None, strategy: Strategy, seed: int
    ) -> None:
        counts: list[int] = torch.bincount(labels, minlength=len(classes)).tolist()
        if mode == "append":
            self.quotas = append_quotas(counts, classes, ratio=ratio, strategy=strategy)
            appended = labels_in_class_order(self.quotas)
            self.targets = torch.cat([labels, appended])
            self.places = torch.cat([places_in_class(labels), places_in_class(appended)])
        elif mode == "replace":
            self.quotas = replace_quotas(counts, ratio=ratio, strategy=strategy)
            self.targets, self.places = labels, places_in_class(labels)
        else:
            raise ValueError(f"mode must be 'append' or 'replace', got {mode!r}")
        self.present = tuple(classes[k] for k in self.targets.unique().tolist())
        self.mode, self._seed, self._n_real = mode, seed, len(labels)

    def fakes(self, epoch: int) -> Tensor:
        """Indices of the generated items in an epoch, int64 (n_fake,), ascending."""
        if self.mode == "append":
            return torch.arange(self._n_real, len(self.targets))
        return replaced_indices(self.targets, self.quotas, seed=self._seed, epoch=epoch)


def classes_due(debts: dict[int, int], label: int, per_real: Fraction) -> list[int]:
    """Labels of the images to generate after a real one of class ``label``, in a stream.

    This is error diffusion over classes. Every real item adds to what its class is owed, and whenever half an image or
    more is owed in all, the class that is owed most gets one.

    Args:
        debts (dict): {label: what its class is owed}, in units of 1 / ``per_real.denominator`` images; changed here.
        label (int): of the real item.
        per_real (Fraction): generated images for each real one, r / (1 - r).

    Returns:
        list of int: labels, in the order to generate them.
    """
    debts[label] = debts.get(label, 0) + per_real.numerator
    due = []
    while 2 * sum(debts.values()) >= per_real.denominator:
        due.append(min(debts, key=lambda k: (-debts[k], k)))
        debts[due[-1]] -= per_real.denominator
    return due


def _fill_up(counts: Sequence[int], strategy: str) -> list[int]:
    if strategy not in FILL_UP:
        raise ValueError(
            f"sampling_strategy must be one of {', '.join((*BY_RATIO, *FILL_UP))}, a mapping {{class: total wanted}} "
            f"or a function from counts to one; got {strategy!r}"
        )
    present = [count for count in counts if count]
    fewest, most = min(present), max(present)
    # The majority lacks nothing, so "auto", "not majority" and "all" fill up the same classes.
    filled = {
        "minority": [count == fewest for count in counts],
        "not minority": [count > fewest for count in counts],
    }.get(strategy, [count > 0 for count in counts])
    return [most - count if fill else 0 for count, fill in zip(counts, filled, strict=True)]


def _up_to_totals(counts: Sequence[int], classes: Sequence[str], wanted: Mapping[str | int, int]) -> list[int]:
    numbers, quotas = numbers_of(classes), [0] * len(counts)
    for key, total in wanted.items():
        k = numbers.get(composed(key), -1) if isinstance(key, str) else to_int(key)
        if k is None or not 0 <= k < len(classes):
            raise ValueError(
                f"sampling_strategy has {key!r}, which is neither a class name nor an index; the classes are "
                f"{', '.join(classes)}"
            )
        if not _is_count(total) or total < counts[k]:
            raise ValueError(
                f"sampling_strategy wants {total!r} images of class {classes[k]}, which has {counts[k]} real ones. "
                "Give the total, an int, real ones included: no real image is left out"
            )
        quotas[k] = int(total) - counts[k]
    return quotas


def _is_count(value: object) -> bool:
    number = to_int(value)
    return number is not None and number >= 0
