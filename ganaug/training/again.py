"""Training a generator again: the same network, losses and settings, on other images and with another seed."""

from __future__ import annotations

import logging
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from ganaug.core.errors import InputError
from ganaug.core.files import user_cache
from ganaug.core.text import in_short
from ganaug.data import LabelledImages
from ganaug.evaluation.leakage import ACCIDENTAL
from ganaug.generators import FlowGenerator, Generator
from ganaug.training.losses import GANObjective
from ganaug.training.models import MODELS
from ganaug.training.own_process import Recipe, Wording, folder_of, train_once
from ganaug.training.selection import hold_back
from ganaug.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

_INSTEAD = "Instead, judge the generator as it is, on one draw of the images: --draws 1"


def trained_on(generator: Any, images: LabelledImages) -> bool:
    """Whether a generator was trained on just these images; those held back to choose it by count as trained on.

    Args:
        generator: a :class:`Generator`, or another module, of which it is not known what it saw.
        images (LabelledImages): of the same resolution and channels; their classes may be in another order.

    Raises:
        InputError: the images are those it was trained on, but in another order or with other labels.
    """
    if not isinstance(generator, Generator) or set(generator.label_names) != set(images.classes):
        return False
    fingerprint, seen = generator.info["dataset"].get("fingerprint"), generator.seen_images
    same_images = seen is not None and torch.equal(seen, images.image_hashes.unique())
    if fingerprint is None or (seen is not None and not same_images):
        return same_images
    # Fingerprints cover labels: numbers of classes, in the generator's order.
    numbers = torch.tensor([generator.label_names.index(name) for name in images.classes])
    ours = replace(images, targets=numbers[images.targets], classes=generator.label_names)
    kept, _ = hold_back(TrainingSettings(), ours, ours)
    if fingerprint in (ours.fingerprint, kept.fingerprint):
        return True
    if same_images:
        raise InputError(
            f"a generator was trained on the images of {images.name}, but in another order or with other labels: "
            f"their fingerprint was {fingerprint[:12]}. Open them as in its training, or judge it on one draw of the "
            "images: --draws 1"
        )
    return False


def saw(generator: Any, images: LabelledImages, *, least: float = ACCIDENTAL) -> bool:
    """Whether a generator is known to have seen these images in its training, or in that of what it started from.

    Args:
        generator, images: as for :func:`trained_on`.
        least (float): share of the images that it must have seen. Default: more than accident
    """
    seen = generator.seen_images if isinstance(generator, Generator) else None
    return seen is not None and torch.isin(images.image_hashes, seen).double().mean().item() >= least


def recipe_of(generator: Generator) -> Recipe:
    """What a generator was trained by, as its ``config.json`` says it.

    What the machine decided is left to the machine: threads and compilation, and fp32 where it has no bf16. Batches
    are as large as those of all processes together were.

    Raises:
        InputError: the generator is of no model of ganaug; its ``config.json`` does not say how it was trained; or
            more than settings and images went into it.
    """
    if type(generator) not in {model.generator for model in MODELS.values()} or not generator.conditional:
        kind = "a class of your own" if generator.conditional else "unconditional"
        raise InputError(
            f"a generator can be trained again if it is of one of ganaug's models, and this one, "
            f"{generator.architecture}, is {kind}. {_INSTEAD}"
        )
    said = generator.info["training"]
    settings = [field.name for field in fields(TrainingSettings)]
    losses = [] if type(generator) is FlowGenerator else [field.name for field in fields(GANObjective)]
    facts = "num_processes", "held_back", "further_inputs"
    missing = [name for name in (*settings, *losses, *facts) if name not in said]
    if missing:
        raise InputError(
            f"the config.json of this {generator.architecture} does not say how to train it again: it lacks "
            f"{in_short(', '.join(missing))}, as those of older versions do. Train it once more with ganaug train, "
            "and judge that one"
        )
    if said["further_inputs"]:
        raise InputError(
            f"this {generator.architecture} cannot be trained again on other images, because more than settings and "
            f"images went into it: {in_short(', '.join(map(str, said['further_inputs'])))}. {_INSTEAD}"
        )
    try:
        own = TrainingSettings(**{name: said[name] for name in settings})
        own = replace(
            own,
            train_batch_size=own.train_batch_size * said["num_processes"],
            evaluation_kimg=own.evaluation_kimg if said["held_back"] else None,
            checkpointing_kimg=own.checkpointing_kimg or TrainingSettings.checkpointing_kimg,
            mixed_precision="no" if own.mixed_precision == "no" else "auto",
            cpu_threads=None,
            compile=False,
        )
        objective = GANObjective(**{name: said[name] for name in losses})
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the config.json of this {generator.architecture} says how it was trained, but not as ganaug does: "
            f"{in_short(str(error))}. {_INSTEAD}"
        ) from error
    return Recipe(generator.architecture, generator.network_options(), own, objective)


def train_again(
    generator: Generator, images: LabelledImages, *, seed: int, folder: str | Path | None = None
) -> Generator:
    """Train the same kind of generator, in the same way, on other images and with another seed.

    It is trained in a process of its own and kept; the next call for the same recipe, images and seed finds it. If it
    is stopped or killed, the next call resumes it from the last checkpoint.

    Args:
        generator (Generator): which is trained again; it stays as it is.
        images (LabelledImages): what the new one is trained on, of the same form.
        seed (int): of weights, order of images, latents and dropout, from 0 to 2**32 - 1.
        folder (str or Path, optional): where such generators are kept. Default: ``draws`` in
            :func:`ganaug.core.files.user_cache`

    Returns:
        Generator: the new one, in evaluation mode, on the CPU. ``info["training"]["seconds"]`` says how long it took.

    Raises:
        InputError: the generator cannot be trained again, see :func:`recipe_of`, or the images have another form.
        RuntimeError: the training was stopped, or it failed.
        OSError: the folder cannot be written to or the disk is full.
    """
    recipe = _with_seed(generator, seed)
    draws, form = (generator.channels, generator.image_size, generator.image_size), tuple(images.images.shape[1:])
    if form != draws:
        raise InputError(
            f"a generator can be trained again on images of its own form (C, H, W), {draws}; {images.name} has "
            f"{form}. Open the images with its resolution and channels"
        )
    if recipe.settings.evaluation_kimg is not None and hold_back(recipe.settings, images, images)[1] is None:
        logger.warning(
            "%s: too few different images to hold some back, so the last %s is kept, not one that is chosen",
            images.name,
            generator.architecture,
        )

    def begin(kept_in: Path, how_long: str) -> None:
        again = "%s is trained again on %s. %s, and is kept in %s"
        logger.info(again, generator.architecture, images.name, how_long, kept_in)

    cache = _cache(folder)
    wording = Wording(f"fitting {generator.architecture} again", _INSTEAD, begin)
    return Generator.from_pretrained(train_once(recipe, images, cache, wording))


def trained_before(
    generator: Generator, images: LabelledImages, *, seed: int, folder: str | Path | None = None
) -> bool:
    """Whether :func:`train_again` finds the generator and trains nothing.

    Args:
        generator, images, seed, folder: as for :func:`train_again`.
    """
    return folder_of(_with_seed(generator, seed), images, _cache(folder)).is_dir()


def _with_seed(generator: Generator, seed: int) -> Recipe:
    recipe = recipe_of(generator)
    return replace(recipe, settings=replace(recipe.settings, seed=seed))


def _cache(folder: str | Path | None) -> Path:
    return user_cache() / "draws" if folder is None else Path(folder)
