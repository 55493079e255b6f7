"""Fitting the default preset's generator to images, once, in a separate process; the generator is kept."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from filelock import FileLock
from torch.utils.data import get_worker_info

from ganaug.core.errors import DataError, InputError
from ganaug.core.files import check_writable, user_cache
from ganaug.data import LabelledImages, open_images
from ganaug.generators.base import Generator
from ganaug.hub.config import CONFIG
from ganaug.hub.weights import WEIGHTS
from ganaug.training import MODELS, AdaptingTrainer, GANObjective, choose_preset, new_run_folder, write_run_page
from ganaug.training.adapting import adapting_settings, as_other_classes, check_adaptable, in_words
from ganaug.training.diffaug import Operation
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
    """Fit a generator to a dataset that came without one, or find the one fitted to the same images before.

    Args:
        dataset: an object that :func:`ganaug.open_images` takes; its images before any transform.
        resolution (int, optional): side to resize and crop the images to, in pixels. Default: that of the images
        cache_dir (str or Path, optional): where generators are kept. Default: :func:`ganaug.core.files.user_cache`

    Returns:
        Path: folder of the generator.

    Raises:
        InputError: the images cannot be read, or have a size that the preset does not draw.
        ValueError, RuntimeError, OSError: see :func:`fit_preset`.
    """
    return fit_preset(
        _open(dataset, resolution),
        cache_dir=cache_dir,
        why="No generator was given, so one is fitted first",
        hint=". A generator of your own goes in as the second argument",
        instead=_INSTEAD,
    )


def fit_preset(
    images: LabelledImages,
    *,
    why: str,
    instead: str,
    hint: str = "",
    augment: Sequence[str] = (),
    minutes: float | None = None,
    run_folder: str | Path | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """Fit the default preset's generator to images, or find the one fitted to the same images before.

    It is trained in a separate process, which takes no part in the accelerate state, the random state or the process
    group of this one. Of several processes that ask at once, one trains and the others wait. If it is stopped or
    killed, the next call for the same images resumes it from the last checkpoint, to the same generator bit for bit.

    Args:
        images (LabelledImages): what it is trained on.
        why (str): said before training: what is done; "to" and the images follow.
        instead (str): what the user can do if it fails, a sentence.
        hint (str): follows on where the generator is kept.
        augment (sequence of str): see :class:`ganaug.training.TrainingSettings`. Default: nothing
        minutes (float, optional): train for no longer than about this. Default: for as long as the preset says
        run_folder (str or Path, optional): copy the run there, with its page. Default: it is kept in the cache alone
        cache_dir (str or Path, optional): where generators are kept. Default: :func:`ganaug.core.files.user_cache`

    Returns:
        Path: folder of the generator: ``run_folder``, or that in the cache.

    Raises:
        InputError: the network does not draw this size, a flow is not trained with this augmentation, or
            ``run_folder`` holds another run or cannot be written to.
        ValueError: the dataset's class names cannot be a generator's.
        RuntimeError: this is a DataLoader worker, the training was stopped, or it failed; then nothing is kept.
        OSError: the folder cannot be written to or the disk is full.
    """
    _refuse_in_worker()
    preset = choose_preset(images)
    if augment:
        settings = replace(preset.settings, augment=cast(tuple[Operation, ...], augment))
        MODELS[preset.model].trainer.check_settings(settings)
        preset = replace(preset, settings=settings)
    # This makes a generator here too: it refuses class names that cannot be.
    recipe = Recipe.of(preset, images)
    known = _TOLD_LATER if minutes is not None else str(Preflight(images, preset, _TIMED_LATER))
    wording = _Wording(why, "fitting a generator", instead, hint, known)
    return _kept(recipe, images, wording, minutes=minutes, run_folder=run_folder, cache_dir=cache_dir)


def fit_adapted(
    source: Generator,
    images: LabelledImages,
    *,
    augment: Sequence[str] = (),
    minutes: float | None = None,
    run_folder: str | Path | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """Adapt a generator to images, or find the one adapted to the same images before; otherwise as :func:`fit_preset`.

    Args:
        source (Generator): which is adapted; it stays as it is.
        images (LabelledImages): what it is adapted to.
        augment, minutes, run_folder, cache_dir: see :func:`fit_preset`.

    Raises:
        InputError: see :func:`ganaug.training.adapting.check_adaptable`, and :func:`fit_preset`.
        ValueError, RuntimeError, OSError: see :func:`fit_preset`.
    """
    _refuse_in_worker()
    settings = replace(adapting_settings(images), augment=cast(tuple[Operation, ...], tuple(augment)))
    AdaptingTrainer.check_settings(settings)
    flow = check_adaptable(source, images)
    with torch.random.fork_rng(devices=[]):
        as_other_classes(flow, images)  # refuses class names that cannot be
    recipe = Recipe(flow.architecture, flow.network_options(), settings, GANObjective())
    known = _TOLD_LATER if minutes is not None else str(Preflight(images, in_words(source, settings), _TIMED_LATER))
    instead = "With ganaug adapt --generator NAME --train_data_dir FOLDER you can choose how it is adapted"
    wording = _Wording("A generator of other classes is adapted", "adapting a generator", instead, "", known)
    return _kept(recipe, images, wording, source=flow, minutes=minutes, run_folder=run_folder, cache_dir=cache_dir)


@dataclass(frozen=True)
class _Wording:
    """How a training is talked about.

    Attributes:
        why (str): what is done, before it is; "to" and the images follow.
        doing (str): what is done, while it is; "to" and the images follow.
        instead (str): what the user can do if it fails, a sentence.
        hint (str): follows on where the generator is kept.
        known (str): what is known before.
    """

    why: str
    doing: str
    instead: str
    hint: str
    known: str


_TIMED_LATER = "told after the first seconds of training"
_TOLD_LATER = "How long a training fits into that is said once a few steps are timed"


def _refuse_in_worker() -> None:
    if get_worker_info() is not None:
        raise RuntimeError(
            "a DataLoader worker cannot fit a generator. Make the dataset before the loader starts, or pass a "
            "generator"
        )


def _kept(
    recipe: Recipe,
    images: LabelledImages,
    wording: _Wording,
    *,
    source: Generator | None = None,
    minutes: float | None,
    run_folder: str | Path | None,
    cache_dir: str | Path | None,
) -> Path:
    """The folder of the generator of a recipe, images and source, which is trained if it was not before."""
    minutes = None if minutes is None else float(minutes)  # 10 and 10.0 are found by one name
    cache = Path(cache_dir or user_cache()) / "fitted"
    kept = folder_of(recipe, images, cache, minutes=minutes, source=source)
    if run_folder is not None:
        _check_free(Path(run_folder), kept)
    if kept.exists():
        logger.info("using the generator that was fitted to these images before: %s", kept)

    def begin(folder: Path, how_long: str) -> None:
        logger.warning(
            "%s to %s: %d images of %dx%d pixels, %d classes. %s, is kept in %s and used again for the same images%s"
            "\n%s",
            wording.why, images.name, len(images), images.image_size, images.image_size, len(images.classes),
            how_long, folder, wording.hint, wording.known,
        )  # fmt: skip

    said = Wording(wording.doing, wording.instead, begin)
    train_once(recipe, images, cache, said, minutes=minutes, source=source)
    if run_folder is None:
        return kept
    with FileLock(kept.with_name(f".{kept.name}.lock")):  # processes that ask at once copy one after the other
        _copy_with_page(kept, Path(run_folder))
    return Path(run_folder)


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


def _check_free(folder: Path, kept: Path) -> None:
    """Refuse, before training, a folder that the run cannot be copied to."""
    if new_run_folder(folder) != folder and not _begun(folder, kept):
        raise InputError(
            f"{folder} already holds a run, and not that of these images and choices. Give another folder, move that "
            f"one away, or load its generator: Generator.from_pretrained({str(folder)!r})"
        )
    check_writable(folder)


def _begun(folder: Path, kept: Path) -> bool:
    """Whether the folder is a copy of the run that is kept, be it a whole one or not."""
    ours, theirs = kept / CONFIG, folder / CONFIG
    return ours.is_file() and theirs.is_file() and ours.read_bytes() == theirs.read_bytes()


def _copy_with_page(kept: Path, folder: Path) -> None:
    """Copy a run, and write its page there; a copy that is whole stays as it is."""
    if not (_begun(folder, kept) and (folder / WEIGHTS).exists()):
        # First the config, by which a copy that was broken off is known; last the weights, by which a whole one is.
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(kept / CONFIG, folder)
        for each in kept.iterdir():
            if each.is_dir():
                shutil.copytree(each, folder / each.name, dirs_exist_ok=True)
            elif each.name not in (CONFIG, WEIGHTS):
                shutil.copy2(each, folder)
        shutil.copy2(kept / WEIGHTS, folder)
    if find_spec("matplotlib") is None:
        logger.warning('%s has no page, training/run.html: that takes pip install "ganaug[evaluation]"', folder)
    elif not (folder / "training" / "run.html").exists():
        write_run_page(folder)
