"""The draws that ``ganaug evaluate --draws`` spreads the judged classifiers over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ganaug import Generator, InputError, LabelledImages
from ganaug.core.integers import positive_int
from ganaug.evaluation import Draw, Draws, draw_images, kind_of_draws, shared_by_draws
from ganaug.training.again import recipe_of, train_again, trained_on


def make_draws(
    count: int,
    train: LabelledImages,
    extra: LabelledImages | None,
    generators: Mapping[str, Generator],
    *,
    folder: str | Path | None = None,
) -> Draws | None:
    """Draw images as they could also have been collected, and train the generators that were trained on them again.

    The given images are draw 0, on which reference and ratio are chosen; the draws that are judged are others, from 1.
    A generator that was trained on other images is the same in all of them.

    Args:
        count (int): number of draws; with 1, the given images and generators are judged alone.
        train (LabelledImages): the images that were collected.
        extra (LabelledImages, optional): others of the same kind.
        generators (mapping): generators by name.
        folder (str or Path, optional): where trained generators are kept, see :func:`train_again`.

    Returns:
        Draws: None if the given images are judged.

    Raises:
        InputError: ``count`` is not a positive int, or a generator cannot be trained again; nothing is trained then.
        RuntimeError: a training was stopped, or it failed.
        OSError: a folder cannot be written to or the disk is full.
    """
    if positive_int("draws", count) == 1:
        return None
    print(f"draws: {count} {kind_of_draws(train, extra)}")
    own = {name: generator for name, generator in generators.items() if _trained_again(name, generator, train)}
    for name, generator in generators.items():
        if name in own:
            minutes = generator.info["training"]["seconds"] / 60
            print(f"{name} is trained again on each of them; it took {minutes:.1f} minutes")
        else:
            print(f"{name} was not trained on just these images, so it is the same in all draws")

    draws = []
    for number in range(1, count + 1):
        images, rest = draw_images(train, extra, draw=number)
        trained = {}
        for name, generator in own.items():
            seed = (generator.info["training"]["seed"] + number) % 2**32
            trained[name] = train_again(generator, images, seed=seed, folder=folder)
            minutes = trained[name].info["training"]["seconds"] / 60
            print(f"draw {number} of {count}: {name} was trained on it in {minutes:.1f} minutes")
        draws.append(Draw(images, {**generators, **trained}, rest))
    return Draws(tuple(draws), kind_of_draws(train, extra), shared_by_draws(train, extra))


def _trained_again(name: str, generator: Generator, images: LabelledImages) -> bool:
    """Whether the generator is trained anew on each draw.

    Raises:
        InputError: it should be, and cannot.
    """
    try:
        if not trained_on(generator, images):
            return False
        recipe_of(generator)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return True
