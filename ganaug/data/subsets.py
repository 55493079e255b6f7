"""Fewer images, or imbalanced ones, for experiments: so many of each class, or a long tail."""

from __future__ import annotations

import math

from ganaug.core.errors import DataError
from ganaug.core.integers import positive_int
from ganaug.data.labelled import LabelledImages


def reduce_images(
    data: LabelledImages, *, images_per_class: int | None = None, long_tail: float | None = None
) -> tuple[LabelledImages, LabelledImages | None]:
    """Keep a part of the images, the same part every time.

    Args:
        data (LabelledImages): all images.
        images_per_class (int, optional): number to keep of each class; with ``long_tail``, of the largest one.
        long_tail (float, optional): size of the largest class divided by that of the smallest, at least 1; see
            :func:`long_tail_counts`. Without ``images_per_class`` the largest becomes as large as the smallest in
            ``data``.

    Returns:
        (LabelledImages, LabelledImages or None): the images kept, and the others if there are any.

    Raises:
        DataError: a number is out of range, or a class has too few images.
    """
    if images_per_class is None and long_tail is None:
        return data, None
    if images_per_class is not None:
        images_per_class = positive_int("images_per_class", images_per_class, error=DataError)
    most = min(data.class_counts)
    scarce = data.classes[data.class_counts.index(most)]
    if not most:
        raise DataError(f"{data.name}: no image of class {scarce}. Add some, or remove the class")
    largest = most if images_per_class is None else images_per_class
    if long_tail is None and largest > most:
        raise DataError(
            f"{data.name}: images_per_class is {largest}, and class {scarce} has {most} images. Ask for {most} at most"
        )
    counts = [largest] * len(data.classes)
    kept, rest = data.take(counts if long_tail is None else long_tail_counts(largest, long_tail, len(counts)))
    return kept, rest if len(rest) else None


def long_tail_counts(largest: int, imbalance_ratio: float, num_classes: int) -> list[int]:
    """Numbers of images that fall exponentially from the first class to the last, at least 1 each.

    Class k of K has ``largest * imbalance_ratio ** (-k / (K - 1))``, rounded.

    Args:
        largest (int): number of images of the first class.
        imbalance_ratio (float): that number divided by the last class's, at least 1.
        num_classes (int): K.

    Returns:
        list of int: one number for each class.

    Source: Cui et al. 2019, "Class-balanced loss based on effective number of samples", section 5.1; Cao et al. 2019,
    "Learning imbalanced datasets with label-distribution-aware margin loss".

    Raises:
        DataError: ``largest`` is not a positive int, or ``imbalance_ratio`` is not a finite number of at least 1.
    """
    largest = positive_int("the number of images of the largest class", largest, error=DataError)
    if isinstance(imbalance_ratio, bool) or not (math.isfinite(imbalance_ratio) and imbalance_ratio >= 1):
        raise DataError(
            f"long_tail must be a number of at least 1, largest class to smallest; got {imbalance_ratio!r}"
        )
    steps = max(num_classes - 1, 1)
    return [max(1, round(largest * imbalance_ratio ** (-k / steps))) for k in range(num_classes)]
