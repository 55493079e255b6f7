"""The real images of a dataset, as a generator draws them, to be varied."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from ganaug.data import open_images
from ganaug.sampling.class_sampler import ClassSampler


def with_originals(sampler: ClassSampler, dataset: Any, labels: Tensor, **columns: Any) -> ClassSampler:
    """A sampler that varies images, with those of a dataset; any other sampler as it is.

    Args:
        sampler (ClassSampler): with the dataset's classes.
        dataset: an object that :func:`ganaug.open_images` takes; its images before any transform.
        labels (Tensor): int64 (N,), those of the dataset.
        columns: arguments of :func:`ganaug.open_images`, for a dataset that has columns.

    Raises:
        DataError: the images cannot be read.
        InputError: a class has no image to vary.
    """
    if sampler.vary is None:
        return sampler
    channels, side, _ = sampler.image_shape
    found = open_images(dataset, resolution=side, channels=channels, **columns)
    # Opened by themselves, images have only the classes that they need.
    return sampler.with_originals(replace(found, targets=labels, classes=sampler.classes))
