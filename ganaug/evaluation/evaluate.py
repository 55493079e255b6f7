"""The whole evaluation of one or more generators, from real images to the report."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from PIL.Image import Image
from tqdm import tqdm

from ganaug.core.defaults import usual_defaults
from ganaug.core.hardware import best_device, in_gibibytes, memory_held
from ganaug.core.progress import describe
from ganaug.data import LabelledImages, joined
from ganaug.evaluation.classifier import train_classifier
from ganaug.evaluation.draws import Draws
from ganaug.evaluation.fidelity import Fidelity, fidelity
from ganaug.evaluation.inception import InceptionDistances, inception_distances
from ganaug.evaluation.leakage import LeakageCheck, LeftOut, able_to_judge, check_leakage
from ganaug.evaluation.memorization import Memorization, closest_pairs_picture, memorization
from ganaug.evaluation.networks import ClassifierFactory, SmallCNN
from ganaug.evaluation.plan import LEAST_HELD_OUT, MOST_JUDGED, plan_of
from ganaug.evaluation.price import Price, given_up, nothing_left_out, price_of, within_budget
from ganaug.evaluation.study import Study, UtilitySettings
from ganaug.evaluation.timings import time_parts
from ganaug.evaluation.utility import Utility, carry_out
from ganaug.sampling.filters import Filter
from ganaug.sampling.inference import ConditionalGenerator
from ganaug.sampling.variations import places_in_class

logger = logging.getLogger(__name__)

MOST_PAIRS = 10**9  # of a held-out and a training image, that are compared in search of copies


@dataclass(frozen=True)
class Judged:
    """What one generator's images are like.

    Attributes:
        fidelity (Fidelity): how close they are to real images, and how diverse.
        inception (InceptionDistances, optional): FID and KID; None if Inception's weights were not given.
        memorization (Memorization): how many of them are copies.
        generated (LabelledImages): the images on which this was measured.
        pairs (PIL.Image.Image): the ones closest to training images, each with that training image.
    """

    fidelity: Fidelity
    inception: InceptionDistances | None
    memorization: Memorization
    generated: LabelledImages
    pairs: Image


@dataclass(frozen=True)
class Evaluation:
    """Result of :func:`evaluate`.

    Attributes:
        utility (Utility): arms, learning curve and verdicts.
        judged (dict): generator name to what its images are like.
        leakage (dict): generator name to what is known about the images it saw.
        left_out (LeftOut): held-out images that were left out because they are copies.
        seconds (float): that this call took; classifiers that an earlier one had trained are not in it.
        price (Price): what it was estimated to take, before it started.
        given_up (tuple of str): what was left out of what was asked for, or is usual, and what that costs, a sentence
            each.
    """

    utility: Utility
    judged: dict[str, Judged]
    leakage: dict[str, LeakageCheck]
    left_out: LeftOut
    seconds: float
    price: Price
    given_up: tuple[str, ...]


@usual_defaults()
def evaluate(
    train: LabelledImages,
    held_out: LabelledImages,
    generators: Mapping[str, ConditionalGenerator],
    *,
    factory: ClassifierFactory = SmallCNN,
    settings: UtilitySettings | None = None,
    extra: LabelledImages | None = None,
    accept: Filter | None = None,
    max_tries: int = 10,
    vary: float | None = None,
    draws: Draws | None = None,
    leave_out_copies: bool = False,
    inception_weights: str | Path | None = None,
    cache_dir: str | Path | None = None,
    processes: int = 1,
    budget_minutes: float | None = None,
    fixed: Collection[str] = (),
) -> Evaluation:
    """Find out whether generators help a classifier, and what their images are like.

    Before anything is trained, a few steps are timed, and what all of it will take is logged as a warning. So
    generators of the draws that are still to be trained are trained after that.

    Held-out images that a generator or the classifiers were trained on do not judge: fewer than 1 % are left out, more
    are refused. Of held-out images of a class that are equal in every pixel, one judges.

    Args:
        train, held_out, generators, factory, settings, extra, accept, max_tries, vary, draws, cache_dir,
            processes: see :func:`utility`.
        leave_out_copies (bool): leave out held-out images that were trained on, however many they are. Default: 1 %
            and more are refused
        inception_weights (str or Path, optional): file with the weights of the Inception network, or ``"download"``,
            to measure FID and KID too. Default: they are not measured
        budget_minutes (float, optional): leave out what the verdict needs least, until the rest takes no longer than
            this; see :func:`ganaug.evaluation.price.within_budget`. Default: nothing is left out
        fixed (collection of str): names of settings that the budget leaves as they are. Default: none

    Raises:
        InputError: a generator or the classifiers are trained on 1 % or more of the held-out images, too few images
            of a class remain where copies are left out, ``budget_minutes`` is not positive and finite or too little
            for any verdict, or :func:`utility` refuses the input.
    """
    started = time.monotonic()
    seen_by = [(train, generators), *((draw.train, draw.generators) for draw in (draws.each if draws else ()))]
    held_out, left_out = able_to_judge(
        held_out,
        [(images, of_images.values()) for images, of_images in seen_by],
        leave_out_copies=leave_out_copies,
        least=LEAST_HELD_OUT,
    )
    leakage = {name: check_leakage(generator, train, held_out) for name, generator in generators.items()}
    if draws is not None:
        each = [replace(draw, extra=_further(draw.extra, draw.train, held_out)) for draw in draws.each]
        draws = replace(draws, each=tuple(each))
    asked = Study(
        train,
        held_out,
        dict(generators),
        extra=_further(extra, train, held_out),
        factory=factory,
        settings=settings or UtilitySettings(),
        accept=accept,
        max_tries=max_tries,
        vary=vary,
    )
    plan = plan_of(asked, draws)
    cells = plan.cells(cache_dir, processes)

    # The price, before anything is trained.
    timings = time_parts(plan.study, cells, [arm.augmentation for arm in plan.study.augmented_arms()])
    price = price_of(plan, cells, timings)
    if budget_minutes is not None:
        fitting, price = within_budget(plan, cells, timings, budget_minutes, fixed=fixed)
        plan = plan.with_settings(fitting)
    logger.warning(price.sentence)
    several = f" in each of {cells.processes + 1} processes" if cells.processes > 1 else ""
    logger.warning("memory: about %s%s, estimated from the timed steps", in_gibibytes(memory_held()), several)

    # Generators of the draws, in whose place the given ones stood so far.
    if draws is not None and draws.train_generators is not None:
        plan = plan_of(replace(asked, settings=plan.study.settings), draws.train_generators(draws))
        cells = plan.cells(cache_dir, processes)

    with cells.one_bar(price.most_cells + price.kept):
        found = carry_out(plan, cells)
    study = found.study
    learn = partial(
        train_classifier,
        steps=study.settings.steps,
        batch_size=study.settings.batch_size,
        augment=study.augmentation(found.reference.arm),
        device=best_device(),
    )
    # A classifier's features of its training images are unlike those of other images. Where both are compared, in
    # memorisation, they come from a classifier that was trained on both.
    standard, judged = _part_of(study.held_out, MOST_JUDGED), {}
    first = "training classifiers to compare images by"
    with tqdm(desc=first, total=len(generators) * len(standard), unit="img") as bar:
        judges = [cast(SmallCNN, learn(images)) for images in (train, joined(train, study.held_out))]
        for name in generators:
            judged[name] = _judge(name, found, standard, judges, inception_weights, bar)
    # Flags leave out as much as a budget does: to go on after one, the command is given what it had left out as flags.
    less = tuple(given_up(nothing_left_out(asked.settings), study.settings))
    return Evaluation(found, judged, leakage, left_out, time.monotonic() - started, price, less)


def _further(extra: LabelledImages | None, *others: LabelledImages) -> LabelledImages | None:
    """The extra images that are no copies of others."""
    if extra is None:
        return None
    new = ~torch.isin(extra.image_hashes, torch.cat([images.image_hashes for images in others]))
    return extra.subset(torch.nonzero(new).squeeze(1), extra.name)


def _part_of(images: LabelledImages, most: int) -> LabelledImages:
    """About ``most`` of some images, and at least 2 of each class."""
    if len(images) <= most:
        return images
    share = most / len(images)
    return images.take([min(count, max(2, int(count * share))) for count in images.class_counts])[0]


def _judge(
    name: str,
    found: Utility,
    held_out: LabelledImages,
    judges: Sequence[SmallCNN],
    inception_weights: str | Path | None,
    bar: tqdm[Any],
) -> Judged:
    train = found.study.train
    describe(bar, f"drawing images of {name}")
    labels, numbers = held_out.targets, range(len(held_out))
    images = found.study.sampler(name).draw(labels, numbers, places=places_in_class(labels), drawn=bar.update)
    describe(bar, f"comparing images of {name}")
    generated = LabelledImages(images, labels, train.classes, f"images drawn by the generator {name}")
    inception = None
    if inception_weights is not None:
        weights = None if inception_weights == "download" else Path(inception_weights)
        inception = inception_distances(generated, held_out, weights, best_device())
    seen = getattr(found.study.generators[name], "seen_images", None)
    # Each is compared with all training images in search of copies, so they are fewer where those are many.
    made, real = (_part_of(images, MOST_PAIRS // len(train)) for images in (generated, held_out))
    copies, pairs = memorization(made, train, real, judges[1], seen_images=seen)
    return Judged(
        fidelity(generated, held_out, judges[0]),
        inception,
        copies,
        generated,
        closest_pairs_picture(pairs, train.classes),
    )
