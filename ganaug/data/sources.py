"""One way to open labelled images, wherever they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import Subset

from ganaug.core.errors import DataError
from ganaug.data import inspection
from ganaug.data.decoding import Conversion, convert_images
from ganaug.data.huggingface import from_hf_dataset, from_hub, from_saved, is_hf_object, pick_split
from ganaug.data.labelled import LabelledImages
from ganaug.data.nesting import base_dataset
from ganaug.data.readers import bundled_digits, from_class_folders, from_idx, sklearn_digits
from ganaug.data.torch_datasets import from_dataset, from_torchvision


def open_images(
    source: Any = None,
    *,
    config_name: str | None = None,
    split: str = "train",
    resolution: int | None = None,
    channels: int | None = None,
    background: str = "white",
    skip_bad_images: bool = False,
) -> LabelledImages:
    """Open labelled images from anywhere, as one uint8 tensor.

    Args:
        source: one of

            - None: the bundled MNIST digits;
            - a Path, or a str that names an existing folder: class folders (``folder/<class>/**``), IDX files as
              MNIST's, Parquet files, or what ``save_to_disk`` of HF ``datasets`` wrote;
            - ``"torchvision:NAME"``, such as ``"torchvision:FashionMNIST"``, downloaded to the folder ``data``;
            - ``"sklearn:digits"``: scikit-learn's digits of 8x8 pixels;
            - another str: the id of a dataset on the Hugging Face Hub;
            - an object: LabelledImages, a map-style dataset of (image, int label), torchvision's among them, or a
              ``Dataset`` or ``DatasetDict`` of HF ``datasets``.
        config_name (str, optional): configuration of the dataset, if HF ``load_dataset`` opens the source.
        split (str): ``"train"`` or ``"test"``, or any split that the source has; class folders and dataset objects
            have ``"train"`` only. Default: train
        resolution (int, optional), channels (int, optional), background (str), skip_bad_images (bool): how the images
            are converted; see :class:`ganaug.data.decoding.Conversion`.

    Returns:
        LabelledImages: uint8 (N, C, H, W). Images that are in memory already and need no change share that memory.

    Raises:
        DataError: the source has no usable images; the message says what was found and what to do.
    """
    conversion = Conversion(resolution, channels, background, skip_bad_images)
    found = _read(source, config_name, split, conversion)
    train = found.train and not inspection.is_evaluation_name(split) and not inspection.evaluation_split(source)
    images = replace(found, images=convert_images(found.images, conversion), train=train)
    missing = [images.classes[k] for k, count in enumerate(images.class_counts) if not count]
    if missing:
        raise DataError(f"{images.name}: no image of class {', '.join(missing)}. Add some, or remove the class")
    return images


def _read(source: Any, config_name: str | None, split: str, conversion: Conversion) -> LabelledImages:
    name = _name_for_load_dataset(source)
    if name is not None:
        return from_hub(name, config_name, split=split, conversion=conversion)
    if config_name is not None:
        raise DataError(
            f"config_name {config_name!r} has no meaning here: only a dataset of the Hub or of Parquet files has "
            "configurations. Leave it out"
        )
    if source is None:
        return bundled_digits(split)
    if isinstance(source, str) and not Path(source).is_dir():
        return _read_named(source, split, conversion)
    if isinstance(source, str | Path):
        return _read_folder(Path(source), split, conversion)
    return _read_object(source, split, conversion)


def _name_for_load_dataset(source: Any) -> str | None:
    """The source, if ``load_dataset`` is to open it: a Hub id or a folder of Parquet files; else None."""
    if isinstance(source, str | Path) and Path(source).is_dir():
        holds_parquet = any(next(Path(source).glob(pattern), None) for pattern in ("*.parquet", "*/*.parquet"))
        return str(source) if holds_parquet else None
    if isinstance(source, str) and not source.startswith(("torchvision:", "sklearn:")):
        return source
    return None


def _read_named(source: str, split: str, conversion: Conversion) -> LabelledImages:
    library, _, name = source.partition(":")
    if library == "torchvision":
        return from_torchvision(name, split=split, conversion=conversion)
    if name != "digits":
        raise DataError(f"{source} is not known; of scikit-learn there is sklearn:digits only")
    return sklearn_digits(split)


def _read_folder(folder: Path, split: str, conversion: Conversion) -> LabelledImages:
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}. Give a folder of class folders, of IDX or Parquet files, or one of save_to_disk"
        )
    if any(folder.glob("*-idx3-ubyte*")):
        return from_idx(folder, split=split)
    if (folder / "dataset_dict.json").exists() or (folder / "dataset_info.json").exists():
        return from_saved(folder, split=split, conversion=conversion)
    if split != "train":
        raise DataError(f"{folder} has class folders, which have no split {split!r}. Point to another folder instead")
    return from_class_folders(folder, conversion)


def _read_object(source: Any, split: str, conversion: Conversion) -> LabelledImages:
    if is_hf_object(source):
        name = f"{type(source).__name__} of HF datasets"
        return from_hf_dataset(pick_split(source, split, name=name), name=name, conversion=conversion)
    subset_of = "subset of " if isinstance(source, Subset) else ""
    name = f"{subset_of}dataset {type(base_dataset(source)).__name__}"
    if split != "train":
        raise DataError(f"{name} is an object, which has no split {split!r}. Pass the object of that split instead")
    return source if isinstance(source, LabelledImages) else from_dataset(source, conversion, name=name)
