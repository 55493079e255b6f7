"""Images and labels in two arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganaug.core.errors import DataError
from ganaug.core.integers import to_int
from ganaug.data import inspection
from ganaug.data.found import Found

_CHANNELS = (1, 2, 3, 4)  # grey or RGB, with or without alpha


def is_arrays(source: Any) -> bool:
    """Whether a source is a pair (X, y) whose images are in one numpy array or tensor."""
    return isinstance(source, tuple | list) and len(source) == 2 and isinstance(source[0], np.ndarray | Tensor)


def from_arrays(images: Any, labels: Any) -> Found:
    """Images and labels in numpy arrays or tensors; the classes are numerals, or the names in ``labels``, sorted.

    Args:
        images (array or Tensor): uint8 (N, H, W), (N, H, W, C) or (N, C, H, W) in [0, 255]; the axis of
            length 1 to 4 is the channels.
        labels (array, Tensor or sequence): N ints of 0 or more, or N strings, of shape (N,) or (N, 1).

    Raises:
        DataError: the arrays are not of these shapes and types, or two axes could be the channels.
    """
    pixels = _pixels(images)
    targets, classes = _targets(labels)
    if len(pixels) != len(targets) or not len(targets):
        raise DataError(
            f"arrays (X, y): X has {len(pixels):,} images and y {len(targets):,} labels. Give one label per image"
        )
    return Found(pixels, targets, classes, "arrays")


def as_uint8(values: Any, name: str) -> str:
    """An expression, to show in a message, that turns pixels of another type into uint8 in [0, 255].

    Args:
        values (array or Tensor): the pixels.
        name (str): what they are called in the expression.
    """
    cast = ".to(torch.uint8)" if isinstance(values, Tensor) else '.astype("uint8")'
    pixels = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else values
    if pixels.dtype.kind not in "buif" or not pixels.size:
        return f"{name}{cast}"
    low, high = float(pixels.min()), float(pixels.max())
    whole = not values.is_floating_point() if isinstance(values, Tensor) else values.dtype.kind in "bui"
    if low >= 0 and high <= 1:
        return f"{name}{cast} * 255" if whole else f"({name} * 255).round(){cast}"
    if low >= 0 and high <= 255:
        return f"{name}{cast}" if whole else f"{name}.round(){cast}"
    if low >= -1 and high <= 1:
        return f"(({name} + 1) * 127.5).round(){cast}"
    return f"(({name} - lowest) * (255 / (highest - lowest))).round(){cast} with the lowest and highest possible value"


def _pixels(images: Any) -> Tensor:
    """The images as uint8 (N, C, H, W), in the memory they are in already if torch can use that."""
    if images.dtype not in (np.uint8, torch.uint8):
        raise DataError(
            f"arrays (X, y): X must be uint8 in [0, 255], got {inspection.describe(images)}. Convert it: "
            f"X = {as_uint8(images, 'X')}"
        )
    pixels = images.cpu() if isinstance(images, Tensor) else torch.from_numpy(np.require(images, None, ["C", "W"]))
    if pixels.ndim == 3:
        return pixels.unsqueeze(1)
    first, last = pixels.ndim == 4 and pixels.shape[1] in _CHANNELS, pixels.ndim == 4 and pixels.shape[3] in _CHANNELS
    if first and last:
        raise DataError(
            f"arrays (X, y): X has the shape {tuple(images.shape)}, so axis 1 or 3 could be the channels. Pass "
            "pairs with (C, H, W) images: open_images(list(zip(torch.as_tensor(X), y.tolist())))"
        )
    if not first and not last:
        raise DataError(
            f"arrays (X, y): X must have the shape (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 to 4 channels, got "
            f"{tuple(images.shape)}. Give it one: X = X.reshape(-1, height, width)"
        )
    return pixels if first else pixels.permute(0, 3, 1, 2)


def _targets(labels: Any) -> tuple[Tensor, tuple[str, ...]]:
    """The labels as int64 (N,), and the class names."""
    if isinstance(labels, Tensor):
        labels = labels.cpu().numpy()
    # As objects, "7" and 7 stay what they are.
    found = labels if isinstance(labels, np.ndarray) else np.array(labels, dtype=object)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1:
        advice = "If it is one-hot: y = y.argmax(1)" if found.ndim == 2 else "Give one label for each image"
        raise DataError(f"arrays (X, y): y must have the shape (N,) or (N, 1), got {found.shape}. {advice}")
    values = found.tolist()
    if all(isinstance(label, str) for label in values):
        names, places = np.unique(found.astype(str), return_inverse=True)
        return torch.from_numpy(places.astype(np.int64)), tuple(map(str, names))
    numbers = [to_int(label) for label in values]
    strange = [label for label, number in zip(values, numbers, strict=True) if number is None]
    if strange and found.dtype == object:
        named = any(isinstance(label, str) for label in strange)
        odd = next(label for label in (values if named else strange) if not isinstance(label, str))
        raise DataError(
            f"arrays (X, y): y must be ints or strings, all of one kind, got {odd!r} among them. Leave such labels "
            "out, or turn all into strings: y = [str(label) for label in y]"
        )
    if strange:
        raise DataError(
            f"arrays (X, y): y must be ints or strings, got {inspection.describe(found)}. Convert it: "
            'y = y.astype("int64")'
        )
    targets = torch.tensor(numbers, dtype=torch.int64)
    if targets.min() < 0:
        raise DataError(
            f"arrays (X, y): {int((targets < 0).sum()):,} labels are negative, so they name no class. Leave them out: "
            "X, y = X[y >= 0], y[y >= 0]"
        )
    return targets, inspection.numerals(int(targets.max()))
