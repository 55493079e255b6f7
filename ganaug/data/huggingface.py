"""Readers of Hugging Face ``datasets``, which is imported only when needed."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from weakref import finalize

import torch
from PIL import Image
from torch import Tensor

from ganaug.core.errors import DataError
from ganaug.data.decoding import UnreadImage, UnreadImages
from ganaug.data.folders import file_identity
from ganaug.data.found import Found

logger = logging.getLogger(__name__)

SOURCES = ("real", "generated")  # class names of a source column, which says where each row is from


@dataclass(frozen=True)
class Columns:
    """Names of the columns with images and with labels; None: the only one of its type."""

    image: str | None = None
    label: str | None = None


def from_hub(name: str, config_name: str | None, *, split: str, columns: Columns) -> Found:
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
    return from_hf_dataset(dataset, name=f"HF dataset {published}, {split} split", columns=columns)


def from_saved(folder: Path, *, split: str, columns: Columns) -> Found:
    """Images of a folder that ``save_to_disk`` of a ``Dataset`` or ``DatasetDict`` wrote.

    Raises:
        DataError: the folder cannot be opened, or has no such split; or see :func:`from_hf_dataset`.
    """
    from datasets import load_from_disk

    try:
        saved = load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder} looks like a dataset of save_to_disk, but cannot be opened: {error}. Save it again, or give "
            "its images in Parquet files or in one folder per class"
        ) from error
    dataset = pick_split(saved, split, name=str(folder))
    return from_hf_dataset(dataset, name=f"saved dataset {folder.name}, {split} split", columns=columns)


def is_hf_object(value: Any) -> bool:
    """Whether a value is a dataset of HF ``datasets``, or a dict of them; ``datasets`` is not imported to find out."""
    modules = {f"datasets.{name}" for name in ("arrow_dataset", "dataset_dict", "iterable_dataset")}
    return any(base.__module__ in modules for base in type(value).__mro__)


def pick_split(found: Any, split: str, *, name: str) -> Any:
    """The dataset of a split.

    Args:
        found (Dataset, IterableDataset or a dict of either): a dataset, which counts as ``"train"``, or the splits to
            pick from.
        split (str): which one.
        name (str): what ``found`` is, for an error message.

    Raises:
        DataError: there is no such split.
    """
    import datasets

    if isinstance(found, datasets.DatasetDict | datasets.IterableDatasetDict):
        if split not in found:
            raise DataError(f"{name} has the splits {', '.join(found)}, got {split!r}")
        return found[split]
    if split != "train":
        raise DataError(
            f"{name} is one dataset, which has no split {split!r}. Leave split out, or give "
            "those images as another dataset (--test_data_dir)"
        )
    return found


def from_hf_dataset(dataset: Any, *, name: str, columns: Columns) -> Found:
    """Images of a ``datasets.Dataset`` or ``IterableDataset``, whose columns are found by their types if not named.

    Raises:
        DataError: a column is missing, has another type, or is one of several; there are no rows; a row has no label;
            or a stream breaks off, or does not say what is in its columns.
    """
    import datasets

    streams = isinstance(dataset, datasets.IterableDataset)
    if streams and dataset.features is None:
        raise DataError(
            f"{name} streams rows and does not say what is in its columns. Tell it: dataset = dataset.cast("
            'datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"])))'
        )
    image_column = image_column_of(dataset, name, columns.image)
    label_column = label_column_of(dataset, name, columns.label)
    if streams:
        wanted = [image_column, label_column, *source_columns(dataset.features)]
        dataset = _collected(dataset.select_columns(wanted), image_column, name)
    labels = labels_of_rows(dataset, label_column, name)
    warn_of_generated(dataset, name)
    rows = dataset.with_format(None).select_columns(image_column)
    rows = rows.cast_column(image_column, datasets.Image(decode=False))
    # The fingerprint of rows covers their paths, and not the files there.
    in_files = any(chunk.field("bytes").null_count for chunk in rows.data.column(image_column).chunks)

    def describe(i: int) -> UnreadImage:
        identity = None if streams else partial(_identity, rows, i, image_column if in_files else None)
        return UnreadImage(f"{name}, row {i}", partial(_open_row, rows, i, image_column), identity)

    unread = UnreadImages(describe, range(len(rows)))
    return Found(unread, labels, tuple(class_label_of(dataset.features[label_column]).names), name)


def _collected(stream: Any, image_column: str, name: str) -> Any:
    """The rows of a ``datasets.IterableDataset``, their images still encoded, as a ``Dataset`` in a temporary folder.

    Labels are needed before images are decoded, and a stream is read once.

    Raises:
        DataError: the stream breaks off.
    """
    import datasets

    stream = stream.cast_column(image_column, datasets.Image(decode=False))
    folder = TemporaryDirectory(prefix="ganaug-stream-", ignore_cleanup_errors=True)
    try:
        found = datasets.Dataset.from_generator(partial(iter, stream), features=stream.features, cache_dir=folder.name)
    except datasets.exceptions.DatasetGenerationError as error:
        folder.cleanup()
        raise DataError(
            f"{name} breaks off: {error.__cause__ or error}. Try again, or load it without streaming"
        ) from error
    finalize(found, folder.cleanup)
    return found


def warn_of_generated(dataset: Any, name: str) -> None:
    """Log how many rows of a ``datasets.Dataset`` are generated, where a column says so."""
    for column in source_columns(dataset.features):
        generated = dataset.with_format(None)[column][:].count(SOURCES.index("generated"))
        logger.warning("%s: %d of %d rows are generated images (column %s)", name, generated, len(dataset), column)


def source_columns(features: Mapping[str, Any]) -> list[str]:
    """Names of the columns that say where each row is from (:data:`SOURCES`)."""
    return [name for name, feature in features.items() if tuple(getattr(feature, "names", ())) == SOURCES]


def labels_of_rows(dataset: Any, column: str, name: str) -> Tensor:
    """Labels in a ClassLabel column of a ``datasets.Dataset``, or in one of lists of one ClassLabel, int64 (N,).

    Raises:
        DataError: there are no rows, or a row has no label or more than one.
    """
    if not len(dataset):
        raise DataError(f"{name} has no rows. Pass a dataset or split with images")
    cells = dataset.with_format(None)[column][:]
    several = [i for i, cell in enumerate(cells) if isinstance(cell, list) and len(cell) > 1]
    if several:
        raise DataError(
            f"{name}: {len(several)} rows have several labels, the first is row {several[0]} with {cells[several[0]]} "
            f"in {column}. Leave them out with dataset.filter, or give every image one class"
        )
    cells = [next(iter(cell), None) if isinstance(cell, list) else cell for cell in cells]
    labels = [-1 if label is None else label for label in cells]
    if -1 in labels:
        raise DataError(f"{name}: {labels.count(-1)} rows have no label (-1). Pass a labelled split")
    return torch.tensor(labels, dtype=torch.int64)


def image_column_of(dataset: Any, name: str, wanted: str | None = None) -> str:
    """Name of the column with the images: the wanted one, or the only one of type Image.

    Raises:
        DataError: there is no such column, or it has another type; or no column has that type, or several have.
    """
    import datasets

    images = [column for column, feature in dataset.features.items() if isinstance(feature, datasets.Image)]
    instead = f"dataset = dataset.cast_column({wanted or 'NAME'!r}, datasets.Image()) turns files or bytes into one"
    return _chosen_column(dataset, "Image", images, wanted, name, flag="image_column", instead=instead)


def label_column_of(dataset: Any, name: str, wanted: str | None = None) -> str:
    """Name of the column with the labels: the wanted one, or the only one of type ClassLabel.

    Columns that say where rows are from (:data:`SOURCES`) do not count. Columns of lists of one ClassLabel, which
    labels of shape (N, 1) become, count if there is no plain one.

    Raises:
        DataError: see :func:`image_column_of`.
    """
    import datasets

    features = dataset.features
    sources = source_columns(features)
    labels = [column for column in features if class_label_of(features[column]) and column not in sources]
    plain = [column for column in labels if isinstance(features[column], datasets.ClassLabel)]
    column = wanted or next((column for column in features if "label" in column or "class" in column), "NAME")
    in_lists = hasattr(features.get(column), "feature")
    first = f".map(lambda row: {{{column!r}: row[{column!r}][0]}})" if in_lists else ""
    instead = f"dataset = dataset{first}.class_encode_column({column!r}) turns ints or strings into one"
    found = labels if wanted else plain or labels
    return _chosen_column(dataset, "ClassLabel", found, wanted, name, flag="label_column", instead=instead)


def class_label_of(feature: Any) -> Any:
    """The ``datasets.ClassLabel`` of a column of labels or of lists of labels; None for any other column."""
    import datasets

    inner = getattr(feature, "feature", feature)
    return inner if isinstance(inner, datasets.ClassLabel) else None


def _chosen_column(
    dataset: Any, kind: str, found: list[str], wanted: str | None, name: str, *, flag: str, instead: str
) -> str:
    """The wanted column, if it is among those found of its type; the only one of them, if none is wanted."""
    if wanted is not None and wanted in found:
        return wanted
    if wanted is not None and wanted in dataset.features:
        raise DataError(f"{name}: column {wanted!r} must be of type {kind}, got {dataset.features[wanted]}; {instead}")
    if wanted is not None:
        raise DataError(f"{name} has no column {wanted!r}; its columns are {', '.join(dataset.features)}")
    if len(found) == 1:
        return found[0]
    advice = f"say which: {flag}={found[0]!r} (--{flag} {found[0]})" if found else instead
    raise DataError(
        f"{name} must have one {kind} column, found {found or 'none'}; its columns are "
        f"{dict(dataset.features)}; {advice}"
    )


def _identity(rows: Any, index: int, column: str | None) -> tuple[object, ...]:
    """What a row's image was decoded from; ``column`` is given if it may be a path to a file of its own."""
    cell = rows[index][column] if column is not None else None
    file = file_identity(cell["path"]) if cell and cell["bytes"] is None else ()
    return rows._fingerprint, index, *file  # datasets derives the first from the rows' files, or from their content


def _open_row(rows: Any, index: int, column: str) -> Image.Image:
    cell = rows[index][column]
    if cell is None:
        raise ValueError("the row has no image")
    return Image.open(cell["path"] if cell["bytes"] is None else io.BytesIO(cell["bytes"]))
