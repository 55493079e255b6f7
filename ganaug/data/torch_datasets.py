"""Readers of map-style datasets, torchvision's among them."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ganaug.core.errors import DataError
from ganaug.core.pixels import to_pil
from ganaug.data import inspection
from ganaug.data.arrays import as_uint8
from ganaug.data.decoding import UnreadImage, UnreadImages
from ganaug.data.examination import Examination, examine
from ganaug.data.found import Found
from ganaug.data.item_reading import ItemReader

logger = logging.getLogger(__name__)

# The datasets that can be downloaded, have one class per image, and take `train` or `split`.
TORCHVISION_NAMES = (
    "CIFAR10", "CIFAR100", "Country211", "DTD", "FGVCAircraft", "FashionMNIST", "Flowers102", "Food101", "GTSRB",
    "Imagenette", "KMNIST", "MNIST", "OxfordIIITPet", "PCAM", "QMNIST", "RenderedSST2", "STL10", "SVHN", "USPS",
)  # fmt: skip


def from_torchvision(name: str, *, split: str) -> Found:
    """Images of ``torchvision.datasets.<name>`` in the folder ``data``, downloaded if they are not there yet.

    Raises:
        DataError: there is no such dataset or split, or it cannot be downloaded.
    """
    from torchvision import datasets

    if name not in TORCHVISION_NAMES or not hasattr(datasets, name):
        raise DataError(
            f"torchvision:{name} is not known; the names are {', '.join(TORCHVISION_NAMES)}. Any other can be passed "
            "as a dataset object: open_images(dataset)"
        )
    make = getattr(datasets, name)
    part: dict[str, Any] = {"split": split}
    if "train" in inspect.signature(make).parameters:
        if split not in ("train", "test"):
            raise DataError(f"torchvision:{name} has the splits train and test, got {split!r}")
        part = {"train": split == "train"}
    try:
        dataset = make("data", **part, download=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"torchvision:{name}, split {split!r}, cannot be opened: {error}. If it could not be downloaded to the "
            "folder data, check the connection and the space there; otherwise open it with torchvision and pass the "
            "object"
        ) from error
    return from_dataset(dataset, name=f"torchvision {name}, {split} split")


def from_dataset(dataset: Dataset[Any], *, name: str, class_names: Sequence[str] | None = None) -> Found:
    """Images of a map-style dataset of (image, label), before its transforms.

    Images of torchvision's MNIST and CIFAR families share the memory of ``dataset.data``.

    Raises:
        DataError: the dataset is not map-style, its items are not such pairs, or its images are neither PIL images nor
            uint8 tensors, or cannot be decoded.
    """
    try:
        # Images that cannot be decoded are reported when they are read.
        found = examine(dataset, class_names, skip_damaged=True)
    except (TypeError, ValueError, LookupError, OSError) as error:
        raise DataError(f"{name} cannot be read: {error}{_how_to_pair(dataset)}") from error
    image, targets, classes = found.image, found.labels, found.classes
    stored = _stored_images(dataset)
    if stored is not None:
        return Found(stored, targets, classes, name)
    if not _is_readable(image):
        raise DataError(
            f"images of {name} must be PIL images or uint8 (C, H, W) tensors before its transform, got "
            f"{inspection.describe(image)}{_because(found)}{_how_to_convert(image)}"
        )
    if found.reader.obstacle:
        logger.warning("images of %s are read with its transforms applied%s", name, _because(found))
    count = len(cast(Sized, dataset))

    def describe(i: int) -> UnreadImage:
        return UnreadImage(f"{name}, item {i}", partial(_open_item, found.reader, i))

    unread = UnreadImages(describe, range(count))
    return Found(unread, targets, classes, name)


def _how_to_pair(dataset: Any) -> str:
    """How to turn items that are dicts into pairs; empty for other items."""
    try:
        item = dataset[0]
    except (TypeError, ValueError, LookupError, AttributeError, OSError, RuntimeError):
        return ""
    if not isinstance(item, Mapping) or len(item) < 2:
        return ""
    image = next((key for key, value in item.items() if np.ndim(value) > 1 or isinstance(value, Image.Image)), "image")
    label = next((key for key in item if str(key) in ("label", "labels", "target", "class", "y")), None)
    label = label or next(key for key in item if key != image)
    return (
        f". Turn them into pairs: open_images([(item[{image!r}], item[{label!r}]) for item in "
        "map(dataset.__getitem__, range(len(dataset)))])"
    )


def _how_to_convert(image: Any) -> str:
    """How to convert an array, or a tensor of another type; empty for other values."""
    if isinstance(image, Tensor):
        return f". Convert them, this one by {as_uint8(image, 'image')}"
    if isinstance(image, np.ndarray):
        pixels = "image" if image.dtype == np.uint8 else as_uint8(image, "image")
        return f". Convert them, this one by Image.fromarray({pixels})"
    return ""


def _stored_images(dataset: Dataset[Any]) -> Tensor | None:
    """A view (N, C, H, W) of all images, if the dataset has them in one array; else None."""
    from torchvision import datasets

    read_item = getattr(type(dataset), "__getitem__", None)
    if read_item is datasets.MNIST.__getitem__:
        return cast(Tensor, cast(Any, dataset).data).unsqueeze(1)
    if read_item is datasets.CIFAR10.__getitem__:
        return torch.from_numpy(cast(Any, dataset).data).permute(0, 3, 1, 2)
    return None


def _is_readable(image: Any) -> bool:
    return isinstance(image, Image.Image) or inspection.image_kind(image) is not None


def _because(found: Examination) -> str:
    return f", because {found.reader.obstacle}" if found.reader.obstacle else ""


def _open_item(reader: ItemReader, index: int) -> AbstractContextManager[Image.Image]:
    """Item of a dataset as a PIL image, which is not closed afterwards, for it may be the dataset's own."""
    image = reader.read([index], lambda image, _: image)[index]
    if not _is_readable(image):
        raise ValueError(f"it is neither a PIL image nor a uint8 (C, H, W) tensor, but {inspection.describe(image)}")
    return nullcontext(image if isinstance(image, Image.Image) else to_pil(image))
