"""Choosing how many generated images to mix in, which may be none, on images held out for the choice."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError
from ganaug.data import LabelledImages, joined
from ganaug.data.labelled import check_comparable
from ganaug.evaluation.cells import Cells, Job, TrainsCells, answers_of
from ganaug.evaluation.leakage import able_to_judge
from ganaug.evaluation.networks import ClassifierFactory, SmallCNN
from ganaug.evaluation.price import Tally, in_minutes
from ganaug.evaluation.search import JUDGES, best_of, choose_ratios, choosing_jobs, scorer, whole
from ganaug.evaluation.statistics import Difference, paired_difference
from ganaug.evaluation.study import Arm, Study, UtilitySettings
from ganaug.evaluation.timings import time_parts
from ganaug.evaluation.verdict import Outcome, answer, in_words
from ganaug.sampling.filters import Filter
from ganaug.sampling.inference import ConditionalGenerator

logger = logging.getLogger(__name__)

RULE = 3  # of how a ratio is chosen; raised when that changes, so that no older choice is taken for a new one
CANDIDATES = (0.1, 0.2, 0.3, 0.5, 0.8)
STEPS = 2000
LEAST = 4  # validation images of each class: the variance of those that judge needs two
CHOOSING = 0.5  # share of the validation images that chooses the candidate; the rest judges it


@dataclass(frozen=True)
class RatioChoice:
    """Result of :func:`choose_ratio`.

    Attributes:
        ratio (float): the chosen ratio; 0 unless generated images help at ``best``.
        outcome (str): the answer: see :attr:`ganaug.evaluation.Verdict.outcome`.
        difference (Difference): of ``best`` to ratio 0.
        best (float): the ratio above 0 with the highest mean score in the trainings that choose.
        scores (dict): ratio above 0 to that score, balanced accuracy in [0, 1].
        sentence (str): the choice and why.
    """

    ratio: float
    outcome: Outcome
    difference: Difference
    best: float
    scores: dict[float, float]
    sentence: str


@usual_defaults()
def choose_ratio(
    train: LabelledImages,
    validation: LabelledImages,
    generator: ConditionalGenerator,
    *,
    candidates: Sequence[float] = CANDIDATES,
    factory: ClassifierFactory = SmallCNN,
    settings: UtilitySettings | None = None,
    accept: Filter | None = None,
    max_tries: int = 10,
    vary: float | None = None,
    leave_out_copies: bool = False,
    cache_dir: str | Path | None = None,
    processes: int = 1,
) -> RatioChoice:
    """Choose the ratio at which generated images help a classifier most on validation images, or 0.

    Half of the validation images choose the best candidate; the other half, and trainings with other seeds, judge
    whether it helps. If images do not help at any ratio, one above 0 is chosen in 2.5 % of all cases. Augmentation is
    classic, and where classes are imbalanced the real images are oversampled. Up to 10,000 different generated images
    are mixed in, however few real images there are. What all of it takes is estimated first and logged as a warning.

    Args:
        train (LabelledImages): real training images.
        validation (LabelledImages): real images with the same classes and shape, which neither the classifiers nor
            the generator were trained on.
        generator (Generator or module): draws images of the classes of ``train``.
        candidates (sequence of float): ratios in (0, 1) to compare with 0.
        factory (callable): makes the classifier. Default: :class:`SmallCNN`
        settings (UtilitySettings, optional): of the training, for ``max_steps`` steps; its ratios are not used.
            Default: 5 seeds, 2,000 steps
        accept (Filter, optional), max_tries (int), vary (float, optional): see :func:`utility`. Default: all images
            are kept, and drawn from noise alone
        leave_out_copies (bool): leave out validation images that were trained on, however many they are. Default:
            fewer than 1 % are left out, and more are refused
        cache_dir (str or Path, optional): where the answers of trained classifiers are kept. Default:
            ``~/.cache/ganaug/evaluation``
        processes (int): see :func:`utility`. Default: 1

    Raises:
        InputError: ``train`` and ``validation`` differ in classes or image shape, the generator or the classifiers
            are trained on 1 % or more of the validation images, a class has too few of them, or too few without
            copies, or ``accept`` refuses all images drawn for an item.
    """
    check_comparable(train, validation)
    validation, _ = able_to_judge(validation, [(train, [generator])], leave_out_copies=leave_out_copies, least=LEAST)
    for name, count in zip(validation.classes, validation.class_counts, strict=True):
        if count < LEAST:
            raise InputError(
                f"{validation.name} has {count or 'no'} image{'s' * (count != 1)} of class {name} to choose the ratio "
                f"by. Half of them choose and the others judge, so give at least {LEAST}, and many more to see small "
                "effects"
            )
    settings = replace(settings or UtilitySettings(max_steps=STEPS), ratios=tuple(candidates))
    judging, choosing = validation.split(CHOOSING)
    both = replace(joined(choosing, judging), name=validation.name, train=False)
    study = Study(
        train,
        both,
        {"generator": generator},
        factory=factory,
        settings=settings,
        accept=accept,
        max_tries=max_tries,
        vary=vary,
    )
    cells = Cells([study], cache_dir, processes=processes)

    # The price, which does not depend on what is found.
    reference = _reference(study)
    folds, arms = whole(study, len(choosing)), study.mixed_arms("generator", reference)
    tally = Tally(cells, time_parts(study, cells, [reference.augmentation]))
    tally.run([job for arm in arms for job in choosing_jobs(folds, arm)])
    tally.run(_judging(study, arms[-1], reference))
    logger.warning(
        "choosing the ratio: %d classifiers are trained with and without generated images, which takes %s here",
        tally.trained,
        in_minutes(tally.seconds / 60, tally.seconds / 60),
    )

    with cells.one_bar(tally.trained + tally.kept):
        return judged_ratio(study, len(choosing), cells)


def judged_ratio(study: Study, choosing: int, cells: TrainsCells) -> RatioChoice:
    """Choose a ratio and judge it; for the result see :func:`choose_ratio`.

    Args:
        study (Study): with one generator, and the candidates as its ratios.
        choosing (int): how many of its held-out images, the first ones, choose.
        cells (TrainsCells): trains its classifiers.
    """
    settings, reference, held_out = study.settings, _reference(study), study.held_out

    # Some trainings and half of the images choose a candidate.
    score = scorer(cells, whole(study, choosing), "choosing the ratio")
    (trials,) = choose_ratios(study, reference, score).values()
    best = best_of(trials).arm

    # Others, and the other half, judge it.
    found = cells.run(_judging(study, best, reference), "judging it")
    with_it, without = (
        answers_of(of_arm, held_out).of(slice(choosing, None))
        for of_arm in (found[: settings.seeds], found[settings.seeds :])
    )
    difference = paired_difference(with_it.correct, without.correct, with_it.targets, with_it.num_classes)
    judging = len(with_it.targets)
    outcome, note = answer(difference, settings.margin, repeated="seeds", test_images=judging)
    ratio = best.ratio if outcome == "helps" else 0.0
    sentence = f"ratio {ratio:g}: {outcome}, {in_words(difference)} at ratio {best.ratio:g}"
    return RatioChoice(
        ratio,
        outcome,
        difference,
        best.ratio,
        {trial.arm.ratio: trial.mean for trial in trials},
        f"{sentence} on {judging:,} validation images{f'; {note}' if note else ''}",
    )


def _judging(study: Study, *arms: Arm) -> list[Job]:
    """The trainings that judge, arm by arm."""
    return [Job(study, arm, JUDGES + seed) for arm in arms for seed in range(study.settings.seeds)]


def _reference(study: Study) -> Arm:
    """The training without generated images."""
    return Arm("ratio 0", study.settings.max_steps, oversampled=not study.balanced)
