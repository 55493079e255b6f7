"""The draws that ``ganaug evaluate --draws`` spreads the judged classifiers over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from ganaug import Generator, InputError, LabelledImages
from ganaug.core.integers import positive_int
from ganaug.data import joined
from ganaug.evaluation import Draw, Draws, draw_images, kind_of_draws, shared_by_draws
from ganaug.evaluation.draws import is_subset
from ganaug.training.again import recipe_of, saw, train_again, trained_before, trained_on


def make_draws(
    count: int,
    train: LabelledImages,
    extra: LabelledImages | None,
    generators: Mapping[str, Generator],
    *,
    folder: str | Path | None = None,
) -> Draws | None:
    """Draw images as they could also have been collected, for which generators trained on them are trained again.

    That takes long, so it is left to :attr:`Draws.train_generators`, but for those that an earlier call has trained.
    The given images are draw 0, on which reference and ratio are chosen; the draws that are judged are others, from 1.
    A generator that was trained on other images is the same in all of them. One that saw some of these, or others too,
    is refused: it would bring images into the draws that they do not have.

    Args:
        count (int): number of draws; with 1, the given images and generators are judged alone.
        train (LabelledImages): the images that were collected.
        extra (LabelledImages, optional): others of the same kind.
        generators (mapping): generators by name.
        folder (str or Path, optional): where trained generators are kept, see :func:`train_again`.

    Returns:
        Draws: None if the given images are judged. Its ``train_generators`` raises RuntimeError if a training was
        stopped or failed, and OSError if a folder cannot be written to or the disk is full.

    Raises:
        InputError: ``count`` is not a positive int, or a generator that saw the images cannot be trained again.
    """
    if positive_int("draws", count) == 1:
        return None
    print(f"draws: {count} {kind_of_draws(train, extra)}")
    own = {name: generator for name, generator in generators.items() if _trained_again(name, generator, train, extra)}
    for name, generator in generators.items():
        if name in own:
            minutes = generator.info["training"]["seconds"] / 60
            print(f"{name} is trained again on each of them; it took {minutes:.1f} minutes")
        else:
            print(f"{name} was not trained on just these images, so it is the same in all draws")

    kept, seconds = True, 0.0
    draws = []
    for number in range(1, count + 1):
        images, rest = draw_images(train, extra, draw=number)
        found = {}
        for name, generator in own.items():
            seed = _seed(generator, number)
            if trained_before(generator, images, seed=seed, folder=folder):
                found[name] = train_again(generator, images, seed=seed, folder=folder)
            else:
                kept, seconds = False, seconds + generator.info["training"]["seconds"]
        draws.append(Draw(images, {**generators, **found}, rest))
    train_generators = None if kept else partial(_train_generators, own=own, folder=folder)
    shared = shared_by_draws(train, extra)
    return Draws(tuple(draws), kind_of_draws(train, extra), shared, train_generators, seconds)


def _train_generators(draws: Draws, *, own: Mapping[str, Generator], folder: str | Path | None) -> Draws:
    """The draws with the generators trained on each."""
    each = []
    for number, draw in enumerate(draws.each, 1):
        trained = {}
        for name, generator in own.items():
            trained[name] = train_again(generator, draw.train, seed=_seed(generator, number), folder=folder)
            minutes = trained[name].info["training"]["seconds"] / 60
            print(f"draw {number} of {len(draws.each)}: {name} was trained on it in {minutes:.1f} minutes")
        each.append(replace(draw, generators={**draw.generators, **trained}))
    return replace(draws, each=tuple(each), train_generators=None, seconds=0.0)


def _seed(generator: Generator, draw: int) -> int:
    """Of the generator's training on a draw."""
    return int(generator.info["training"]["seed"] + draw) % 2**32


def _trained_again(name: str, generator: Generator, images: LabelledImages, extra: LabelledImages | None) -> bool:
    """Whether the generator is trained anew on each draw.

    Raises:
        InputError: it should be, and cannot.
    """
    try:
        if trained_on(generator, images):
            recipe_of(generator)
            return True
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    # Where draws are subsets of images that it saw all of, it knows as much of each draw as of the images given.
    knows_all = extra is not None and is_subset(images, extra) and saw(generator, joined(images, extra), least=1.0)
    if saw(generator, images) and not knows_all:
        raise InputError(
            f"{name} saw images of {images.name} in its training, but not just these. If it were the same in all "
            "draws, it would know images that a draw does not have; and on a draw alone it cannot be trained again. "
            "Instead, judge it as it is, on one draw of the images: --draws 1"
        )
    return False
