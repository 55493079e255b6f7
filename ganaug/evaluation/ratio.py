"""Choosing how many generated images to mix in, which may be none, on images held out for the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError
from ganaug.data import LabelledImages, joined
from ganaug.data.labelled import check_comparable
from ganaug.evaluation.cells import Cells, Job, MakeCells, answers_of
from ganaug.evaluation.leakage import check_leakage, without_overlap
from ganaug.evaluation.networks import ClassifierFactory, SmallCNN
from ganaug.evaluation.search import JUDGES, best_of, choose_ratios, scorer, whole
from ganaug.evaluation.statistics import Difference, paired_difference
from ganaug.evaluation.study import Arm, Study, UtilitySettings
from ganaug.evaluation.verdict import Outcome, answer, in_points
from ganaug.sampling.filters import Filter
from ganaug.sampling.inference import ConditionalGenerator

RULE = 2  # of how a ratio is chosen; raised when that changes, so that no older choice is taken for a new one
CANDIDATES = (0.1, 0.2, 0.3, 0.5, 0.8)
STEPS = 2000
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
    cache_dir: str | Path | None = None,
    processes: int = 1,
    train_cells: MakeCells = Cells,
) -> RatioChoice:
    """Choose the ratio at which generated images help a classifier most on validation images, or 0.

    Half of the validation images choose the best candidate; the other half, and trainings with other seeds, judge
    whether it helps. If images do not help at any ratio, one above 0 is chosen in 2.5 % of all cases. Augmentation is
    classic, and where classes are imbalanced the real images are oversampled. Up to 10,000 different generated images
    are mixed in, however few real images there are.

    Args:
        train (LabelledImages): real training images.
        validation (LabelledImages): real images with the same classes and shape, which neither the classifiers nor
            the generator were trained on.
        generator (Generator or module): draws images of the classes of ``train``.
        candidates (sequence of float): ratios in (0, 1) to compare with 0.
        factory (callable): makes the classifier. Default: :class:`SmallCNN`
        settings (UtilitySettings, optional): of the training, for ``max_steps`` steps; its ratios are not used.
            Default: 5 seeds, 2,000 steps
        accept (Filter, optional), max_tries (int): see :func:`utility`. Default: all images are kept
        cache_dir (str or Path, optional): where the answers of trained classifiers are kept. Default:
            ``~/.cache/ganaug/evaluation``
        processes (int), train_cells (callable): see :func:`utility`.

    Raises:
        InputError: ``train`` and ``validation`` differ in classes or image shape, the generator or the classifiers
            are trained on validation images, a class has too few validation images, or ``accept`` refuses all images
            drawn for an item.
    """
    check_comparable(train, validation)
    validation, _ = without_overlap(validation, train, [generator])
    check_leakage(generator, train, validation)
    for name, count in zip(validation.classes, validation.class_counts, strict=True):
        if count < 4:
            raise InputError(
                f"{validation.name} has {count or 'no'} image{'s' * (count != 1)} of class {name} to choose the ratio "
                "by. Half of them choose and the others judge, so give at least 4, and many more to see small effects"
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
    )
    cells = train_cells([study], cache_dir, processes=processes)

    # Some trainings and half of the images choose a candidate.
    reference = Arm("ratio 0", settings.max_steps, oversampled=not study.balanced)
    score = scorer(cells, whole(study, len(choosing)), "choosing the ratio")
    trials = choose_ratios(study, reference, score)["generator"]
    best = best_of(trials).arm

    # Others, and the other half, judge it.
    jobs = [Job(study, arm, JUDGES + seed) for arm in (best, reference) for seed in range(settings.seeds)]
    found = cells.run(jobs, "judging it")
    on_judging = slice(len(choosing), None)
    with_it, without = (
        answers_of(of_arm, both).of(on_judging) for of_arm in (found[: settings.seeds], found[settings.seeds :])
    )
    difference = paired_difference(with_it.correct, without.correct, with_it.targets, with_it.num_classes)
    outcome, note = answer(difference, settings.margin, repeated="seeds", test_images=len(judging))
    ratio = best.ratio if outcome == "helps" else 0.0
    sentence = f"ratio {ratio:g}: {outcome}, {in_points(difference)} at ratio {best.ratio:g}"
    return RatioChoice(
        ratio,
        outcome,
        difference,
        best.ratio,
        {trial.arm.ratio: trial.mean for trial in trials},
        f"{sentence} on {len(judging):,} validation images{f'; {note}' if note else ''}",
    )
