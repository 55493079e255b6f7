"""What may be wrong with labelled images: unreadable files, sizes, copies, contradicting labels, leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganaug.data.decoding import WITH_ALPHA, Conversion, Headers, read_headers
from ganaug.data.found import Found
from ganaug.data.labelled import LabelledImages
from ganaug.data.reading import converted, read_images
from ganaug.data.sources import find_images
from ganaug.data.stored import Pixels


@dataclass(frozen=True)
class Audit:
    """Result of :func:`audit_images`.

    Two images are copies if every pixel is equal once both are decoded, converted and resized; the same picture
    compressed or cropped in another way is none.

    Attributes:
        images (LabelledImages): those that can be read.
        names (tuple of str): where each of them is: a path, or a row.
        sizes (Counter): upright (width, height) in pixels before resizing, and how many images have it.
        transparent (int): how many images had a pixel that is not opaque, and were composited over the background.
        unreadable (tuple of str): where each image is that cannot be read, and why.
        left_out (str): which files are no images to the reader, in words; empty if there are none.
        empty_classes (tuple of str): classes without an image that can be read.
    """

    images: LabelledImages
    names: tuple[str, ...]
    sizes: Counter[tuple[int, int]]
    transparent: int
    unreadable: tuple[str, ...]
    left_out: str
    empty_classes: tuple[str, ...]

    @property
    def copies_within(self) -> list[int]:
        """How many images of each class are further copies of an image of that class."""
        counts = zip(self.images.class_counts, self.images.distinct_counts, strict=True)
        return [count - distinct for count, distinct in counts]

    @property
    def label_conflicts(self) -> list[list[int]]:
        """Positions of equal images that have different labels, a list for each image, in the order of the first."""
        _, number = np.unique(self.images.image_hashes.numpy(), return_inverse=True)
        pairs = np.unique(np.stack([number, self.images.targets.numpy()]), axis=1)
        several = np.flatnonzero(np.bincount(pairs[0]) > 1)
        groups: dict[int, list[int]] = {}
        for position in np.flatnonzero(np.isin(number, several)).tolist():
            groups.setdefault(int(number[position]), []).append(position)
        return list(groups.values())

    def copies_of(self, others: LabelledImages) -> Tensor:
        """Which images are copies of one of some others, bool (N,)."""
        return torch.isin(self.images.image_hashes, others.image_hashes)


def audit_images(
    source: Any = None,
    *,
    resolution: int | Callable[[int, int], int] | None = None,
    channels: int | None = None,
    background: str = "white",
    **options: Any,
) -> Audit:
    """Find out what may be wrong with labelled images. What cannot be read is noted, and ends nothing.

    Args:
        source: as for :func:`ganaug.open_images`.
        resolution (int or callable, optional): side that images are resized to. A callable is given the least height
            and the least width of all images, and returns one. Default: images keep their size
        channels (int, optional), background (str): as for :func:`ganaug.open_images`.
        options: ``config_name``, ``split``, ``classes``, ``class_names``, ``image_column``, ``label_column``, ``like``
            as for :func:`ganaug.open_images`.

    Raises:
        DataError: no image can be read, there is no such source, or images differ in size and no resolution is given.
    """
    found = find_images(source, **options)
    conversion = Conversion(None if callable(resolution) else resolution, channels, background, skip_bad_images=True)

    # Headers first: sizes as the images have them decide what all are resized to.
    headers = Headers()
    if isinstance(found.images, Pixels):
        height, width = found.images.shape[2:]
        sizes = Counter({(width, height): len(found.images)})
    else:
        headers = read_headers(found.images, replace(conversion, resolution=None))
        sizes = Counter(headers.sizes.values())
    if callable(resolution) and sizes:
        least = resolution(min(height for _, height in sizes), min(width for width, _ in sizes))
        conversion = replace(conversion, resolution=least)

    # Each image is decoded once.
    if isinstance(found.images, Pixels):
        images, kept = converted(found.images, conversion), torch.arange(len(found.images))
        names = tuple(f"{found.name}, image {i}" for i in range(len(images)))
        unreadable: tuple[str, ...] = ()
        transparent = 0
        if isinstance(found.images, Tensor) and found.images.shape[1] in WITH_ALPHA:
            transparent = int((found.images[:, -1:] < 255).flatten(1).any(1).sum())
    else:
        unread = found.images
        images, kept = read_images(unread, conversion, headers)
        names = tuple(unread[i].name for i in kept.tolist())
        transparent = len(headers.transparent)
        unreadable = tuple(f"{unread[i].name}: {error}" for i, error in sorted(headers.failures.items()))
    read = Found(images, found.targets[kept], found.classes, found.name, found.train)

    # A class may have had no image, or none that can be read.
    held_out = options.get("like") is not None
    there = {read.classes[k] for k in read.targets.unique().tolist()}
    without = [name for name in read.classes if name not in there]
    if not held_out:
        read = read.only(name for name in read.classes if name in there)
    return Audit(
        images=read.labelled(train=found.train and not held_out),
        names=names,
        sizes=sizes,
        transparent=transparent,
        unreadable=unreadable,
        left_out=found.left_out,
        empty_classes=(*(Path(folder).name for folder in found.empty_folders), *without),
    )
