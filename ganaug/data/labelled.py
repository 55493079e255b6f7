"""Labelled images, and how to take parts of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ganaug.core import fingerprints
from ganaug.core.errors import DataError, InputError
from ganaug.core.seeding import Purpose, random_stream
from ganaug.data.stored import Pixels, StoredImages, at_a_time, followed_by

_TRAINING = ", training part"  # said once of a part of a part
_MOST_BORDERS = 10_000  # images whose borders are looked at


@dataclass(frozen=True, eq=False, repr=False)
class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Images of one size; also a map-style dataset of (uint8 image (C, H, W), int label).

    Args:
        images (Tensor or StoredImages): uint8 (N, C, H, W) in [0, 255]; in files, if they are many.
        targets (Tensor): int64 (N,), in [0, len(classes)).
        classes (tuple of str): class names; label k is ``classes[k]``.
        name (str): where the images come from, in words.
        train (bool): whether they are for training; False for a split that models are judged on. Default: True

    Raises:
        ValueError: a shape or dtype is not one of the above, or a label is out of range.
    """

    images: Pixels
    targets: Tensor
    classes: tuple[str, ...]
    name: str
    train: bool = True

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != torch.uint8:
            raise ValueError(f"images must be uint8 (N, C, H, W), got {self.images.dtype} {tuple(self.images.shape)}")
        if self.targets.shape != self.images.shape[:1] or self.targets.dtype != torch.int64:
            raise ValueError(
                f"targets must be int64 ({len(self.images)},), got {self.targets.dtype} {tuple(self.targets.shape)}"
            )
        if len(self.targets) and not 0 <= int(self.targets.min()) <= int(self.targets.max()) < len(self.classes):
            raise ValueError(
                f"targets must be from 0 to {len(self.classes) - 1} for {len(self.classes)} classes, got "
                f"{int(self.targets.min())} to {int(self.targets.max())}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.targets[index])

    def __repr__(self) -> str:
        return f"LabelledImages({self.name}: {tuple(self.images.shape)} uint8, {len(self.classes)} classes)"

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return self.images.shape[1]

    @property
    def image_size(self) -> int:
        """Side of the images, in pixels.

        Raises:
            DataError: the images are not square.
        """
        height, width = self.images.shape[2:]
        if height != width:
            raise DataError(f"{self.name}: images must be square, got {width}x{height}. Give a resolution to crop to")
        return height

    @property
    def class_counts(self) -> list[int]:
        """Number of images of each class."""
        return [int(count) for count in torch.bincount(self.targets, minlength=len(self.classes))]

    @cached_property
    def of_each_class(self) -> tuple[Tensor, ...]:
        """Indices of the images of each class, int64 and ascending; found in one go, for there may be many classes."""
        return tuple(torch.split(self.targets.argsort(stable=True), self.class_counts))

    @cached_property
    def distinct_counts(self) -> list[int]:
        """Number of different images of each class: one that is there several times counts once."""
        return [len(self.image_hashes[of_class].unique()) for of_class in self.of_each_class]

    @cached_property
    def background(self) -> Tensor:
        """Median of the pixels on the borders of the images, uint8 (C,); if they are in files, of 10,000 of them."""
        some = self.images
        if isinstance(some, StoredImages):
            order = random_stream(0, Purpose.SUBSAMPLE).permutation(len(self))
            some = some[torch.from_numpy(order[:_MOST_BORDERS])]
        borders = [some[:, :, 0], some[:, :, -1], some[..., 0], some[..., -1]]
        return torch.cat(borders, 2).transpose(0, 1).flatten(1).median(1).values

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape, class names, pixels and labels."""
        digest = hashlib.sha256(repr((tuple(self.images.shape), self.classes)).encode())
        for some in self.images.split(at_a_time(self.images.shape[1:])):
            digest.update(some.contiguous().numpy().data)
        digest.update(self.targets.contiguous().numpy().data)
        return digest.hexdigest()

    @cached_property
    def image_hashes(self) -> Tensor:
        """:func:`ganaug.core.fingerprints.of_images` of each image, int64 (N,)."""
        return self.images.hashes if isinstance(self.images, StoredImages) else fingerprints.of_images(self.images)

    def subset(self, indices: Tensor, name: str) -> LabelledImages:
        """The images at ``indices``, int64 (M,), under another name."""
        images = self.images.take(indices) if isinstance(self.images, StoredImages) else self.images[indices]
        return LabelledImages(images, self.targets[indices], self.classes, name, self.train)

    def split(self, held_out: float, *, seed: int = 0) -> tuple[LabelledImages, LabelledImages]:
        """Split into (train, held out), class by class, so that both keep the class shares.

        An image that is there several times is on one side with all its copies, as in a bootstrap sample.

        Args:
            held_out (float): fraction of each class's different images to hold out, in (0, 1), rounded to whole ones.
            seed (int): decides which images; in [0, 2**64). Default: 0

        Raises:
            ValueError: ``held_out`` is not in (0, 1).
        """
        if not 0 < held_out < 1:
            raise ValueError(f"held_out must be a fraction in (0, 1), got {held_out!r}")
        _, first = np.unique(self.image_hashes.numpy(), return_index=True)
        once = torch.from_numpy(np.sort(first))
        different = self if len(once) == len(self) else self.subset(once, self.name)
        counts = [round(held_out * count) for count in different.class_counts]
        chosen = torch.isin(self.image_hashes, different.image_hashes[different._choose(counts, seed, Purpose.SPLIT)])
        train, rest = torch.nonzero(~chosen).squeeze(1), torch.nonzero(chosen).squeeze(1)
        held = replace(self.subset(rest, f"{self.name}, held-out part"), train=False)
        return self.subset(train, f"{self.name.removesuffix(_TRAINING)}{_TRAINING}"), held

    def take(self, counts: Sequence[int], *, seed: int = 0) -> tuple[LabelledImages, LabelledImages]:
        """Take some images of each class: (those, the others), both in the order they have here.

        With the same seed, a smaller count takes some of the images that a larger one takes.

        Args:
            counts (sequence of int): number of images to take of each class, 0 or more.
            seed (int): decides which images; in [0, 2**64). Default: 0

        Raises:
            DataError: a class has fewer images than are to be taken.
            ValueError: a number is negative, or there is not one for each class.
        """
        for name, wanted, there in zip(self.classes, counts, self.class_counts, strict=True):
            if wanted < 0:
                raise ValueError(f"counts must not be negative, got {wanted} for class {name}")
            if wanted > there:
                raise DataError(
                    f"{self.name}: class {name} has {there} images, and {wanted} are asked for. Take fewer"
                )
        chosen = self._choose(counts, seed, Purpose.SUBSAMPLE)
        some, others = torch.nonzero(chosen).squeeze(1), torch.nonzero(~chosen).squeeze(1)
        return (
            self.subset(some, f"{self.name}, {len(some):,} of {len(self):,} images"),
            self.subset(others, f"{self.name}, the other {len(others):,} images"),
        )

    def _choose(self, counts: Sequence[int], seed: int, purpose: Purpose) -> Tensor:
        """Which images are among the first ``counts[k]`` of class k in a random order, bool (N,)."""
        chosen = torch.zeros(len(self), dtype=torch.bool)
        for k, (wanted, there) in enumerate(zip(counts, self.class_counts, strict=True)):
            order = torch.from_numpy(random_stream(seed, purpose, index=k).permutation(there))
            chosen[self.of_each_class[k][order[:wanted]]] = True
        return chosen


def classes_with_counts(images: LabelledImages, *, most: int = 20) -> str:
    """Classes with their numbers of images, in one line; if they are more than ``most``, only the first ones."""
    named = [f"{name} {count:,}" for name, count in zip(images.classes, images.class_counts, strict=True)]
    if len(named) <= most:
        return ", ".join(named)
    counts = images.class_counts[most // 2 :]
    each = f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"
    return f"{', '.join(named[: most // 2])} and {len(counts):,} more with {each} images"


def joined(one: LabelledImages, other: LabelledImages) -> LabelledImages:
    """The images of both, one after the other.

    Raises:
        InputError: the classes or shapes differ.
    """
    check_comparable(one, other)
    images, targets = followed_by(one.images, other.images), torch.cat([one.targets, other.targets])
    return LabelledImages(images, targets, one.classes, f"{one.name} and {other.name}")


def check_comparable(one: LabelledImages, other: LabelledImages) -> None:
    """Refuse two sets of images with different classes or shapes.

    Raises:
        InputError: the classes or shapes differ.
    """
    pair = f"{one.name} and {other.name} cannot be compared"
    if one.classes != other.classes:
        raise InputError(
            f"{pair}, because their classes differ: {', '.join(one.classes)}; {', '.join(other.classes)}. Give both "
            "the same classes, in the same order"
        )
    ours, theirs = tuple(one.images.shape[1:]), tuple(other.images.shape[1:])
    if ours != theirs:
        raise InputError(
            f"{pair}, because their image shapes (C, H, W) differ: {ours} and {theirs}. Give both the same resolution "
            "and channels"
        )
