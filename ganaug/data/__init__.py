"""Labelled images from anywhere, as one uint8 tensor."""

from __future__ import annotations

from pathlib import Path

from ganaug.data.labelled import LabelledImages
from ganaug.data.readers import bundled_digits, from_class_folders, from_folder, from_hf_dataset, from_hub, from_idx
from ganaug.errors import DataError

__all__ = [
    "LabelledImages",
    "bundled_digits",
    "from_class_folders",
    "from_folder",
    "from_hf_dataset",
    "from_hub",
    "from_idx",
    "open_images",
]


def open_images(
    train_data_dir: str | Path | None = None,
    dataset_name: str | None = None,
    *,
    dataset_config_name: str | None = None,
    split: str = "train",
    resolution: int | None = None,
) -> LabelledImages:
    """Open labelled images; the bundled digits where neither a folder nor a dataset is named.

    Args:
        train_data_dir (str or Path, optional): class folders (``dir/class/*.png``) or IDX files.
        dataset_name (str, optional): HF dataset: a Hub id or a local folder that ``load_dataset`` reads.
        dataset_config_name (str, optional): configuration of the HF dataset.
        split (str): ``"train"`` or ``"test"``, or any split of an HF dataset; class folders have ``"train"`` only.
            Default: train
        resolution (int, optional): side to resize and centre-crop to, with antialiasing. Default: the images' own size

    Raises:
        DataError: nothing usable is there; the message names what was found and what to do.
    """
    if train_data_dir is not None and dataset_name is not None:
        raise DataError(
            f"give train_data_dir ({train_data_dir}) or dataset_name ({dataset_name}), not both: they are two sources"
        )
    if resolution is not None and resolution < 1:
        raise DataError(f"resolution must be a positive number of pixels, got {resolution}")
    if dataset_name is not None:
        images = from_hub(dataset_name, dataset_config_name, split=split, resolution=resolution)
    elif train_data_dir is not None:
        images = from_folder(train_data_dir, split=split, resolution=resolution)
    else:
        images = bundled_digits(split, resolution=resolution)
    missing = [images.classes[k] for k, count in enumerate(images.class_counts) if not count]
    if missing:
        raise DataError(f"{images.name}: no image of class {', '.join(missing)}. Add some, or remove the class")
    return images
