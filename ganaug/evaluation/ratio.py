"""Choosing how many generated images to mix in, which may be none, on images held out for the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError
from ganaug.data import LabelledImages
from ganaug.data.labelled import check_comparable
from ganaug.evaluation.cells import Cells
from ganaug.evaluation.leakage import check_leakage, without_overlap
from ganaug.evaluation.networks import ClassifierFactory, SmallCNN
from ganaug.evaluation.statistics import clear_gain
from ganaug.evaluation.study import Arm, Study, UtilitySettings
from ganaug.sampling.filters import Filter
from ganaug.sampling.inference import ConditionalGenerator

CANDIDATES = (0.1, 0.2, 0.3, 0.5, 0.8)


@dataclass(frozen=True)
class RatioChoice:
    """Result of :func:`choose_ratio`.

    Attributes:
        ratio (float): the chosen ratio; 0 if no other is clearly better than training without generated images.
        gain (float): gain in balanced accuracy of ``best`` over ratio 0, in [-1, 1].
        standard_error (float): of that gain, over the seeds.
        best (float): the ratio above 0 with the highest mean score.
        scores (dict): ratio to mean balanced accuracy, in [0, 1].
        sentence (str): the choice and why.
    """

    ratio: float
    gain: float
    standard_error: float
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
) -> RatioChoice:
    """Choose the ratio at which generated images help a classifier most on validation images, or 0.

    For each candidate, classifiers are trained with the same seeds and classic augmentation as for ratio 0. The best
    candidate is chosen if its gain is clear (:func:`ganaug.evaluation.statistics.clear_gain`); otherwise the simpler
    training is, which is ratio 0. Up to 10,000 different generated images are mixed in, however few real images there
    are.

    Args:
        train (LabelledImages): real training images.
        validation (LabelledImages): real images with the same classes and shape, which neither the classifiers nor
            the generator were trained on.
        generator (Generator or module): draws images of the classes of ``train``.
        candidates (sequence of float): ratios in (0, 1) to compare with 0.
        factory (callable): makes the classifier. Default: :class:`SmallCNN`
        settings (UtilitySettings, optional): of the training; its ratios are not used. Default: 3 seeds
        accept (Filter, optional), max_tries (int): see :func:`utility`. Default: all images are kept
        cache_dir (str or Path, optional): where the answers of trained classifiers are kept. Default:
            ``~/.cache/ganaug/evaluation``
        processes (int): see :func:`utility`. Default: 1

    Raises:
        InputError: ``train`` and ``validation`` differ in classes or image shape, the generator or the classifiers
            are trained on validation images, a class has no validation image, or ``accept`` refuses all images drawn
            for an item.
    """
    check_comparable(train, validation)
    validation, _ = without_overlap(validation, train, [generator])
    check_leakage(generator, train, validation)
    for name, count in zip(validation.classes, validation.class_counts, strict=True):
        if not count:
            raise InputError(f"{validation.name}: no image of class {name} to choose the ratio by. Add some")
    settings = settings or UtilitySettings(seeds=3)
    study = Study(
        train,
        validation,
        {"generator": generator},
        factory=factory,
        settings=settings,
        accept=accept,
        max_tries=max_tries,
    )
    reference = Arm("ratio 0", oversampled=not study.balanced)
    arms = {0.0: reference} | {ratio: study.mixed_arm("generator", reference, ratio) for ratio in candidates}
    cells = Cells(study, cache_dir, processes=processes)
    answers = cells.run(list(arms.values()), "choosing the ratio")
    scores = {ratio: answers[arm.name].scores for ratio, arm in arms.items()}
    best = max(candidates, key=lambda ratio: scores[ratio].mean().item())
    gain, error, clear = clear_gain(scores[best], scores[0.0])
    ratio = best if clear else 0.0
    found = f"{best:g} did best on {len(validation):,} validation images, {100 * gain:+.1f} ± {100 * error:.1f} points"
    sentence = f"ratio {ratio:g}: " + (found if ratio else f"generated images did not help ({found} against none)")
    means = {ratio: score.mean().item() for ratio, score in scores.items()}
    return RatioChoice(ratio, gain, error, best, means, sentence)
