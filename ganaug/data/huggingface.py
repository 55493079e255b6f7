"""Readers of Hugging Face ``datasets``, which is imported only when needed; each returns :class:`LabelledImages`."""

from __future__ import annotations

import io
import re
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ganaug.core.errors import DataError
from ganaug.data.decoding import Conversion, UnreadImage, read_images
from ganaug.data.labelled import LabelledImages


def from_hub(name: str, config_name: str | None, *, split: str, conversion: Conversion) -> LabelledImages:
    """Images of a dataset that ``load_dataset`` opens: a Hub id or a local folder.

    Raises:
        DataError: the dataset cannot be opened; or see :func:`from_hf_dataset`.
    """
    from datasets import load_dataset

    try:
        dataset = load_dataset(name, config_name, split=split)
    except (OSError, ValueError) as error:  # DatasetNotFoundError and connection errors are OSErrors
        raise DataError(
            f"dataset {name!r}, split {split!r}, cannot be opened: {error}. Give an existing folder, "
            "torchvision:NAME, sklearn:digits, or the id of a dataset on the Hugging Face Hub"
        ) from error
    # The name has no path of this machine in it, but the commit of a Hub dataset, which names its folder in the cache.
    folders = {Path(file["filename"]).parent.name for file in dataset.cache_files}
    commits = [folder for folder in folders if re.fullmatch("[0-9a-f]{40}", folder)]
    published = Path(name).name if Path(name).is_dir() else "@".join([name, *commits])
    return from_hf_dataset(dataset, name=f"HF dataset {published}, {split} split", conversion=conversion)


def from_saved(folder: Path, *, split: str, conversion: Conversion) -> LabelledImages:
    """Images of a folder that ``save_to_disk`` of a ``Dataset`` or ``DatasetDict`` wrote.

    Raises:
        DataError: the folder cannot be opened, or has no such split; or see :func:`from_hf_dataset`.
    """
    from datasets import load_from_disk

    try:
        saved = load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} looks like a dataset of save_to_disk, but cannot be opened: {error}") from error
    dataset = pick_split(saved, split, name=str(folder))
    return from_hf_dataset(dataset, name=f"saved dataset {folder.name}, {split} split", conversion=conversion)


def is_hf_object(value: Any) -> bool:
    """Whether a value is a dataset of HF ``datasets``, or a dict of them; ``datasets`` is not imported to find out."""
    modules = {f"datasets.{name}" for name in ("arrow_dataset", "dataset_dict", "iterable_dataset")}
    return any(base.__module__ in modules for base in type(value).__mro__)


def pick_split(found: Any, split: str, *, name: str) -> Any:
    """The ``datasets.Dataset`` of a split.

    Args:
        found (Dataset or DatasetDict): a dataset, which counts as ``"train"``, or the splits to pick from.
        split (str): which one.
        name (str): what ``found`` is, for an error message.

    Raises:
        DataError: there is no such split, or its rows can only be iterated.
    """
    import datasets

    if isinstance(found, datasets.IterableDataset | datasets.IterableDatasetDict):
        raise DataError(f"{name} streams its rows. Load it without streaming=True: all images are held in memory")
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise DataError(f"{name} has the splits {', '.join(found)}, got {split!r}")
        return found[split]
    if split != "train":
        raise DataError(f"{name} is one dataset, which has no split {split!r}. Leave split out")
    return found


def from_hf_dataset(dataset: Any, *, name: str, conversion: Conversion) -> LabelledImages:
    """Images of a ``datasets.Dataset``, whose columns are found by their types: one Image and one ClassLabel.

    Raises:
        DataError: there is not exactly one column of each type, there are no rows, a row has no label, or an image
            cannot be decoded.
    """
    import datasets

    image_column = only_column(dataset, datasets.Image, name)
    label_column = only_column(dataset, datasets.ClassLabel, name)
    labels = labels_of_rows(dataset, label_column, name)
    rows = dataset.with_format(None).select_columns(image_column)
    rows = rows.cast_column(image_column, datasets.Image(decode=False))
    unread = [UnreadImage(f"{name}, row {i}", partial(_open_row, rows, i, image_column)) for i in range(len(rows))]
    images, kept = read_images(unread, conversion)
    classes = tuple(dataset.features[label_column].names)
    return LabelledImages(images, labels[kept], classes, name)


def labels_of_rows(dataset: Any, column: str, name: str) -> Tensor:
    """Labels in a ClassLabel column of a ``datasets.Dataset``, int64 (N,).

    Raises:
        DataError: there are no rows, or a row has no label.
    """
    if not len(dataset):
        raise DataError(f"{name} has no rows. Pass a dataset or split with images")
    labels = [-1 if label is None else label for label in dataset.with_format(None)[column][:]]
    if -1 in labels:
        raise DataError(f"{name}: {labels.count(-1)} rows have no label (-1). Pass a labelled split")
    return torch.tensor(labels, dtype=torch.int64)


def only_column(dataset: Any, kind: type, name: str) -> str:
    """Name of the only column of a ``datasets.Dataset`` that has a type, such as ``datasets.Image``.

    Raises:
        DataError: no column has that type, or more than one has.
    """
    found: list[str] = [column for column, feature in dataset.features.items() if isinstance(feature, kind)]
    if len(found) != 1:
        raise DataError(
            f"{name} must have one {kind.__name__} column, found {found or 'none'}; its columns are "
            f"{dict(dataset.features)}. Use cast_column, or select_columns to keep one"
        )
    return found[0]


def _open_row(rows: Any, index: int, column: str) -> Image.Image:
    cell = rows[index][column]
    if cell is None:
        raise ValueError("the row has no image")
    return Image.open(cell["path"] if cell["bytes"] is None else io.BytesIO(cell["bytes"]))
