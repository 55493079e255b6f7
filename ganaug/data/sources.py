"""One way to open labelled images, wherever they are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Subset

from ganaug.core.errors import DataError
from ganaug.core.text import composed, shortened
from ganaug.data import inspection
from ganaug.data.arrays import from_arrays, is_arrays
from ganaug.data.decoding import Conversion
from ganaug.data.examination import ExaminedItems
from ganaug.data.folders import from_class_folders, tell_left_out
from ganaug.data.found import Found
from ganaug.data.huggingface import Columns, from_hf_dataset, from_hub, from_saved, is_hf_object, pick_split
from ganaug.data.labelled import LabelledImages
from ganaug.data.nesting import base_dataset
from ganaug.data.readers import bundled_digits, from_idx, sklearn_digits
from ganaug.data.torch_datasets import from_dataset, from_torchvision


def open_images(
    source: Any = None,
    *,
    config_name: str | None = None,
    split: str = "train",
    classes: Iterable[str] | None = None,
    class_names: Iterable[str] | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    like: LabelledImages | None = None,
    resolution: int | None = None,
    channels: int | None = None,
    background: str = "white",
    skip_bad_images: bool = False,
) -> LabelledImages:
    """Open labelled images from anywhere, as one uint8 tensor, or, if they are many, from a file.

    Args:
        source: one of

            - None: the bundled MNIST digits;
            - a Path, or a str that names an existing folder: class folders (``folder/<class>/**``), also with a folder
              for each split around or inside them (``folder/train/<class>/**``), IDX files as MNIST's, Parquet files,
              or what ``save_to_disk`` of HF ``datasets`` wrote;
            - ``"torchvision:NAME"``, such as ``"torchvision:FashionMNIST"``, downloaded to the folder ``data``;
            - ``"sklearn:digits"``: scikit-learn's digits of 8x8 pixels;
            - another str: the id of a dataset on the Hugging Face Hub;
            - a pair ``(X, y)`` of arrays or tensors; see :func:`ganaug.data.arrays.from_arrays`;
            - an object: LabelledImages, a map-style dataset of (image, label), torchvision's among them, or a
              ``Dataset``, ``IterableDataset`` or a dict of them of HF ``datasets``.
        config_name (str, optional): configuration of the dataset, if HF ``load_dataset`` opens the source.
        split (str): ``"train"`` or ``"test"``, or any split that the source has; dataset objects, and class folders
            that are not divided into splits, only have ``"train"``. Default: train
        classes (iterable of str, optional): names of the classes to open; they keep the order of the source. Default:
            all that have an image; a line of the log names the others
        class_names (iterable of str, optional): one name for each label, for a source that has only numbers, such as
            IDX files and arrays, or for an object whose class names are not known.
        image_column (str, optional), label_column (str, optional): for a dataset of HF ``datasets``. Default: the
            only ones of type Image and ClassLabel
        like (LabelledImages, optional): the training images, when held-out ones are opened. These get the same
            classes in the same order: a class without an image here stays, and images of any other class are refused
            unless ``classes`` leaves them out.
        resolution (int, optional), channels (int, optional), background (str), skip_bad_images (bool): how the images
            are converted; see :class:`ganaug.data.decoding.Conversion`.

    Returns:
        LabelledImages: uint8 (N, C, H, W). Images that are in memory already and need no change share that memory.
        Others that take more than 1 GiB are decoded once into a file; see :mod:`ganaug.data.reading`.

    Raises:
        DataError: the source has no usable images, or a class that is asked for has none; the message says what was
            found and what to do.
    """
    conversion = Conversion(resolution, channels, background, skip_bad_images)
    found = find_images(
        source,
        config_name=config_name,
        split=split,
        classes=classes,
        class_names=class_names,
        image_column=image_column,
        label_column=label_column,
        like=like,
    )
    found.check_folders()
    tell_left_out(source, found.left_out)
    found = found.read(conversion)
    if like is None:
        found = found.without_empty(found.classes)  # one may have lost its images to skip_bad_images
    held_out = inspection.is_evaluation_name(split) or inspection.evaluation_split(source) or like is not None
    return found.labelled(train=found.train and not held_out)


def find_images(
    source: Any,
    *,
    config_name: str | None = None,
    split: str = "train",
    classes: Iterable[str] | None = None,
    class_names: Iterable[str] | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    like: LabelledImages | None = None,
) -> Found:
    """The images that :func:`open_images` would read, with their labels.

    Args:
        source, config_name, split, classes, class_names, image_column, label_column, like: as for open_images.

    Raises:
        DataError: as open_images, but for what is seen only when images are read, and for empty class folders.
    """
    asked, columns = _names(classes, "classes"), Columns(image_column, label_column)
    names = None if class_names is None else _names(class_names, "class_names")
    try:
        found = _read(source, config_name, split, columns, asked or None, names)
    except PermissionError as error:
        raise DataError(f"{error.filename} may not be read: {error.strerror}. Make it readable for you") from error
    if names and names != found.classes and (like is None or found.numbered):  # held-out images may have them already
        found = found.named(names, at_least=like is not None)
    return _of_classes(found, asked, like)


def _names(given: Iterable[str] | None, argument: str) -> tuple[str, ...]:
    if isinstance(given, str):
        raise DataError(f"{argument} must be a list of names, got {given!r}. Write [{given!r}]")
    return tuple(composed(str(name)) for name in given or ())


def _of_classes(found: Found, asked: tuple[str, ...], like: LabelledImages | None) -> Found:
    """The images of the classes asked for, or of all that have images; numbered as in ``like``, if that is given."""
    known = found.classes if like is None else (*found.classes, *like.classes)
    if unknown := sorted(set(asked) - set(known)):
        advice = ", or name all of them with class_names (--class_names)" if found.numbered else ""
        raise DataError(
            f"{found.name} has no class {', '.join(unknown)}; its classes are {', '.join(found.classes)}. Ask for "
            f"some of these{advice}"
        )
    if asked:
        wanted = set(asked)
        found = found.only(name for name in found.classes if name in wanted)
    if like is None:
        return found.without_empty(asked)
    there = {found.classes[k] for k in found.targets.unique().tolist()}
    if further := sorted(there - set(like.classes)):
        raise DataError(
            f"{found.name} has images of {shortened(further)}, which {like.name} does not; its classes are "
            f"{', '.join(like.classes)}. Leave them out with classes (--classes)"
        )
    if not there:
        raise DataError(f"{found.name} has no image of the classes of {like.name}: {', '.join(like.classes)}")
    return found.only(like.classes)


def _read(
    source: Any,
    config_name: str | None,
    split: str,
    columns: Columns,
    asked: tuple[str, ...] | None,
    names: tuple[str, ...] | None,
) -> Found:
    if isinstance(source, str | Path):
        source = type(source)(os.path.expanduser(source))  # which a shell does not do within quotes or after an =
        if Path(source).is_file():
            raise DataError(f"{source} is a file. Give a folder, of an archive the one that it unpacks to")
    name = _name_for_load_dataset(source)
    if name is not None:
        return from_hub(name, config_name, split=split, columns=columns)
    if config_name is not None:
        raise DataError(
            f"config_name {config_name!r} has no meaning here: only a dataset of the Hub or of Parquet files has "
            "configurations. Leave it out"
        )
    if is_hf_object(source):
        name = f"{type(source).__name__} of HF datasets"
        return from_hf_dataset(pick_split(source, split, name=name), name=name, columns=columns)
    if isinstance(source, str | Path) and _is_saved(Path(source)):
        return from_saved(Path(source), split=split, columns=columns)
    given = {"image_column": columns.image, "label_column": columns.label}
    for argument, column in given.items():
        if column is not None:
            raise DataError(
                f"{argument} {column!r} has no meaning here: only a dataset of HF datasets has columns. Leave it out"
            )
    if source is None:
        return _in_memory(bundled_digits(split))
    if isinstance(source, str) and not Path(source).is_dir():
        return _read_named(source, split)
    if isinstance(source, str | Path):
        return _read_folder(Path(source), split, asked)
    return _read_object(source, split, names)


def _in_memory(images: LabelledImages) -> Found:
    return Found(images.images, images.targets, images.classes, images.name, images.train)


def _name_for_load_dataset(source: Any) -> str | None:
    """The source, if ``load_dataset`` is to open it: a Hub id or a folder of Parquet files; else None."""
    if isinstance(source, str | Path) and Path(source).is_dir():
        holds_parquet = any(next(Path(source).glob(pattern), None) for pattern in ("*.parquet", "*/*.parquet"))
        return str(source) if holds_parquet else None
    if isinstance(source, str) and not source.startswith(("torchvision:", "sklearn:")):
        return source
    return None


def _is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` of HF ``datasets`` wrote a folder."""
    return (folder / "dataset_dict.json").exists() or (folder / "dataset_info.json").exists()


def _read_named(source: str, split: str) -> Found:
    library, _, name = source.partition(":")
    if library == "torchvision":
        return from_torchvision(name, split=split)
    if name != "digits":
        raise DataError(f"{source} is not known; of scikit-learn there is sklearn:digits only")
    return _in_memory(sklearn_digits(split))


def _read_folder(folder: Path, split: str, asked: tuple[str, ...] | None) -> Found:
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}. Give a folder of class folders, IDX files or Parquet files, or one from save_to_disk"
        )
    if any(folder.glob("*-idx3-ubyte*")):
        return from_idx(folder, split=split)
    return from_class_folders(folder, split=split, wanted=asked)


def _read_object(source: Any, split: str, names: tuple[str, ...] | None) -> Found:
    if isinstance(source, np.ndarray | Tensor):
        raise DataError(f"{inspection.describe(source)} has no labels. Pass them too: open_images((X, y))")
    if isinstance(source, Mapping) and 0 not in source:  # with items by number it would be a dataset
        keys = ", ".join(map(repr, source))
        raise DataError(f"a dict of {keys} is no dataset. Pass its images and labels as a pair: open_images((X, y))")
    subset_of = "subset of " if isinstance(source, Subset) else ""
    base = base_dataset(source)
    kind = base.kind if isinstance(base, ExaminedItems) else type(base).__name__
    name = "arrays" if is_arrays(source) else f"{subset_of}dataset {kind}"
    if split != "train":
        raise DataError(f"{name} is an object, which has no split {split!r}. Pass the object of that split instead")
    if is_arrays(source):
        return from_arrays(*source)
    if isinstance(source, LabelledImages):
        return _in_memory(source)
    return from_dataset(source, name=name, class_names=names)
