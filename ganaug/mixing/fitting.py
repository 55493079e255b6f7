"""Fitting a generator to a dataset that came without one, once, in a separate process; the generator is kept."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import get_worker_info

from ganaug.core.errors import DataError, InputError
from ganaug.core.files import user_cache
from ganaug.data import LabelledImages, open_images
from ganaug.training import MODELS, choose_preset
from ganaug.training.own_process import Recipe, Wording, folder_of, train_once
from ganaug.training.preflight import Preflight

logger = logging.getLogger(__name__)

LARGEST = 64  # pixels: the largest side that the preset draws in reasonable time
FACTOR = 2  # sides are multiples of it

_INSTEAD = (
    "Instead, train a generator with ganaug train --train_data_dir FOLDER --resolution 64, and pass the "
    "folder of that run"
)


def fit_generator(dataset: Any, *, resolution: int | None = None, cache_dir: str | Path | None = None) -> Path:
    """Fit a generator to a dataset with the default preset, or find the one fitted to the same images before.

    It is trained in a separate process, which takes no part in the accelerate state, the random state or the process
    group of this one. Of several processes that ask at once, one trains and the others wait. If it is stopped or
    killed, the next call for the same images resumes it from the last checkpoint, to the same generator bit for bit.

    Args:
        dataset: an object that :func:`ganaug.open_images` takes; its images before any transform.
        resolution (int, optional): side to resize and crop the images to, in pixels. Default: that of the images
        cache_dir (str or Path, optional): where generators are kept. Default: :func:`ganaug.core.files.user_cache`

    Returns:
        Path: folder of the generator.

    Raises:
        InputError: the images cannot be read, or have a size that the preset does not draw.
        ValueError: the dataset's class names cannot be a generator's.
        RuntimeError: this is a DataLoader worker, the training was stopped, or it failed; then nothing is kept.
        OSError: the folder cannot be written to or the disk is full.
    """
    if get_worker_info() is not None:
        raise RuntimeError(
            "a DataLoader worker cannot fit a generator. Make the dataset before the loader starts, or pass a "
            "generator"
        )
    images = _open(dataset, resolution)
    preset = choose_preset(images)
    model = MODELS[preset.model]
    # The generator is made here too: it refuses class names that cannot be, and knows its network's options.
    with torch.random.fork_rng(devices=[]):
        generator = model.make_generator(images)
    recipe = Recipe(generator.architecture, generator.network_options(), preset.settings, model.objective)

    def begin(folder: Path, how_long: str) -> None:
        logger.warning(
            "No generator was given, so one is fitted first to %s: %d images of %dx%d pixels, %d classes. %s, is kept "
            "in %s and used again for the same images. A generator of your own goes in as the second argument\n%s",
            images.name, len(images), images.image_size, images.image_size, len(images.classes), how_long, folder,
            Preflight(images, preset, "minutes and memory are said after the first seconds of training"),
        )  # fmt: skip

    cache = Path(cache_dir or user_cache()) / "fitted"
    if folder_of(recipe, images, cache).exists():
        logger.info("using the generator that was fitted to these images before: %s", folder_of(recipe, images, cache))
    return train_once(recipe, images, cache, Wording("fitting a generator", _INSTEAD, begin))


def suitable_resolution(height: int, width: int) -> int:
    """Side, in pixels, to resize and crop images to, so that the preset can draw them.

    Args:
        height (int), width (int): of the images, in pixels.
    """
    return max(FACTOR, min(height, width, LARGEST) // FACTOR * FACTOR)


def _open(dataset: Any, resolution: int | None) -> LabelledImages:
    try:
        images = open_images(dataset, resolution=resolution)
    except DataError as error:
        raise DataError(f"no generator can be fitted to this dataset: {error}. {_INSTEAD}") from error
    height, width = images.images.shape[2:]
    if height != width or height % FACTOR or height > LARGEST:
        raise InputError(
            f"no generator can be fitted to {images.name}: the default preset draws squares whose side is even and "
            f"at most {LARGEST} pixels, and these images are {width}x{height}. {_INSTEAD}"
        )
    return images
