"""What a reader finds, before classes are chosen and images are read."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ganaug.core.errors import DataError
from ganaug.core.text import composed, repeated, shortened
from ganaug.data.decoding import Conversion, UnreadImages
from ganaug.data.labelled import LabelledImages
from ganaug.data.reading import converted, read_images
from ganaug.data.stored import Pixels, StoredImages

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """The labels and class names of a source, and its images, which may be yet to be read.

    Class names are in Unicode's composed form (NFC); see :func:`ganaug.core.text.composed`.

    Args:
        images (Tensor, StoredImages or UnreadImages): uint8 (N, C, H, W), or N images to be read.
        targets (Tensor): int64 (N,), in [0, len(classes)).
        classes (tuple of str): class names; a class may have no image.
        name (str): where the images come from, in words.
        train (bool): whether they are for training. Default: True
        left_out (str): which files the reader left out, in words. Default: none
        empty_folders (tuple of str): class folders to train on that have no image. Default: none

    Raises:
        DataError: two classes have the same name.
    """

    images: Pixels | UnreadImages
    targets: Tensor
    classes: tuple[str, ...]
    name: str
    train: bool = True
    left_out: str = ""
    empty_folders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = tuple(map(composed, self.classes))
        if twice := repeated(names):
            raise DataError(f"{self.name}: two classes have the same name: {shortened(twice)}. Rename one")
        object.__setattr__(self, "classes", names)

    @property
    def numbered(self) -> bool:
        """Whether the classes have only numbers for names."""
        return all(name.isdecimal() for name in self.classes)

    def named(self, class_names: Sequence[str], *, at_least: bool) -> Found:
        """The same, with names for classes that had only numbers.

        Args:
            class_names (sequence of str): one for each class, in the order of labels.
            at_least (bool): whether there may be more names than classes, as for a split without the last class.

        Raises:
            DataError: the classes have names already, or there are too few or too many names.
        """
        if not self.numbered:
            raise DataError(f"{self.name} names its classes itself: {shortened(self.classes)}. Leave class_names out")
        if len(class_names) < len(self.classes) or (len(class_names) > len(self.classes) and not at_least):
            raise DataError(
                f"class_names has {len(class_names)} names, and {self.name} has {len(self.classes)} classes, with "
                f"labels from 0 to {len(self.classes) - 1}. Give one name for each label, in order"
            )
        return replace(self, classes=tuple(class_names))

    def only(self, classes: Iterable[str]) -> Found:
        """The images of some classes, renumbered in this order; there may be none of a class."""
        classes = tuple(classes)
        if classes == self.classes:
            return self
        number = {name: k for k, name in enumerate(classes)}
        new = torch.tensor([number.get(name, -1) for name in self.classes])
        targets = new[self.targets]
        kept = torch.nonzero(targets >= 0).squeeze(1)
        images = self.images
        if len(kept) < len(targets):
            if isinstance(images, Tensor):
                images = images[kept]
            else:
                images = images.take(kept) if isinstance(images, StoredImages) else images.take(kept.tolist())
        return replace(self, images=images, targets=targets[kept], classes=classes)

    def check_folders(self) -> None:
        """Refuse empty class folders to train on.

        Raises:
            DataError: there is one.
        """
        if self.empty_folders:
            others = f"; left out: {self.left_out}" if self.left_out else ""
            raise DataError(
                f"class folder {self.empty_folders[0]} has no image in a format that Pillow opens{others}. Add some, "
                "remove the folder, or name the classes to keep (classes)"
            )

    def without_empty(self, asked: Sequence[str]) -> Found:
        """The same without the classes that have no image; a line of the log names them.

        Raises:
            DataError: a class that is asked for has no image, or no class has any.
        """
        counts = torch.bincount(self.targets, minlength=len(self.classes)).tolist()
        empty = [name for name, count in zip(self.classes, counts, strict=True) if not count]
        if missing := sorted(set(asked).intersection(empty)):
            raise DataError(
                f"{self.name}: no image of class {shortened(missing)}. Add some, or do not ask for it in classes"
            )
        if not empty:
            return self
        if len(empty) == len(self.classes):
            self.check_folders()
            raise DataError(f"{self.name}: there is no image of any class. Add some, or open another split")
        if not self.empty_folders:  # which are refused, or told otherwise
            logger.warning(
                "%s: %d of %d classes have no image and are left out: %s",
                self.name, len(empty), len(self.classes), shortened(empty),
            )  # fmt: skip
        return self.only(name for name, count in zip(self.classes, counts, strict=True) if count)

    def read(self, conversion: Conversion) -> Found:
        """The same with converted images; images that cannot be decoded may be left out.

        Raises:
            DataError: images cannot be decoded or converted, or differ in size.
        """
        if isinstance(self.images, Pixels):
            return replace(self, images=converted(self.images, conversion))
        images, kept = read_images(self.images, conversion)
        return replace(self, images=images, targets=self.targets[kept])

    def labelled(self, *, train: bool) -> LabelledImages:
        """The images, once they are read, for training or for judging models."""
        assert isinstance(self.images, Pixels)  # after read
        return LabelledImages(self.images, self.targets, self.classes, self.name, train)
