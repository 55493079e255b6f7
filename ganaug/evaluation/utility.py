"""Did the generated images help a classifier? Arms with and without them, at equal steps, and a verdict.

The rule of the verdict is fixed in advance. :data:`METHOD` says it in words for the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from torch import Tensor

from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError
from ganaug.data import LabelledImages, joined
from ganaug.data.labelled import check_comparable
from ganaug.evaluation.cells import Answers, Cells
from ganaug.evaluation.learning_curve import LearningCurve, Worth, learning_curve
from ganaug.evaluation.networks import ClassifierFactory, SmallCNN
from ganaug.evaluation.statistics import (
    Difference,
    calibration_error,
    clear_gain,
    holm,
    macro_f1,
    paired_difference,
    recalls,
)
from ganaug.evaluation.study import Arm, Study, UtilitySettings
from ganaug.sampling.filters import Filter
from ganaug.sampling.inference import ConditionalGenerator

VALIDATION = 0.25  # share of the held-out images that chooses the ratio

METHOD = (
    "Every arm trains the same classifier for the same number of optimisation steps, once for each seed. A seed fixes "
    "the classifier's initial weights, and the draws of batches, augmentation and generated images; all arms have the "
    "same seeds, so they are compared in pairs. The score is balanced accuracy: the mean of the classes' recalls.",
    "The held-out images are split once, class by class. A quarter of them, the validation images, makes two choices: "
    "the reference, and then the ratio of generated images with the highest mean score, which is the primary arm. The "
    "other three quarters, the test images, say how good both are. No choice looks at the test images.",
    "The reference is the arm without generated images that has the highest mean score on the validation images; "
    "generated images are added to exactly that training. The verdict is helped if the 95 % interval of primary arm "
    "minus reference lies above zero, hurt if it lies below, and no measurable effect otherwise.",
    "The interval is Student's t for a mean over seeds and test images, both taken as samples. It covers how training "
    "happened to go and which images happened to be held out; not which training images were collected, for there is "
    "one such set, nor how the training of the generator happened to go.",
    "The verdict is one comparison for each generator and needs no correction for several. The other rows of the "
    "table are for orientation; beside their intervals, which are not corrected, stand p-values corrected by Holm's "
    "method over the whole table.",
    "What a difference is worth in real images is read off a power law fitted to the scores of the reference with "
    "fewer and, where there are any, more real images. Its interval is a bootstrap over the seeds of that curve and "
    "the difference. Beyond the sizes that were measured it is an extrapolation.",
)

Outcome = Literal["helped", "no measurable effect", "hurt"]


@dataclass(frozen=True)
class ArmResult:
    """Scores of one arm on the test images, all in [0, 1].

    Attributes:
        arm (Arm): how the classifiers were trained.
        scores (Tensor): balanced accuracy of each seed, float64 (S,).
        validation (Tensor): the same on the validation images.
        correct (Tensor): which test images each seed got right, bool (S, N).
        accuracy, macro_f1, calibration_error (float): means over the seeds.
        recall (Tensor): of each class, mean over the seeds, float64 (K,).
        difference (Difference, optional): to the reference arm; None for the reference arm itself.
        p_holm (float, optional): p-value of the difference, corrected for the number of arms.
        seconds (float): that its cells took in total.
    """

    arm: Arm
    scores: Tensor
    validation: Tensor
    correct: Tensor
    accuracy: float
    macro_f1: float
    calibration_error: float
    recall: Tensor
    difference: Difference | None
    p_holm: float | None
    seconds: float

    @property
    def mean(self) -> float:
        """Balanced accuracy, mean over the seeds."""
        return self.scores.mean().item()


@dataclass(frozen=True)
class Verdict:
    """Whether a generator's images helped.

    Attributes:
        outcome (str): ``"helped"``, ``"no measurable effect"`` or ``"hurt"``.
        primary (ArmResult): the arm with the ratio that was chosen on the validation images.
        difference (Difference): primary arm minus reference.
        recommended_ratio (float): the ratio of the primary arm; 0 if its gain on the validation images is not more
            than one standard error.
        worth (Worth, optional): the difference as a number of real images; None if no learning curve could be fitted.
        sentence (str): all of this in one line.
    """

    outcome: Outcome
    primary: ArmResult
    difference: Difference
    recommended_ratio: float
    worth: Worth | None
    sentence: str


@dataclass(frozen=True)
class Utility:
    """Result of :func:`utility`.

    Attributes:
        study (Study): what was compared.
        reference (Arm): the arm that all others are compared with.
        validation, test (LabelledImages): the two parts of the held-out images.
        arms (dict): arm name to result; first the arms without generated images, then those of each generator.
        verdicts (dict): generator name to verdict.
        curve (LearningCurve): of the reference arm.
        processes (int): how many cells were trained at a time.
        cells (int): number of classifiers that were trained, now or earlier.
        cell_seconds (float): that training them took, added up.
    """

    study: Study
    reference: Arm
    validation: LabelledImages
    test: LabelledImages
    arms: dict[str, ArmResult]
    verdicts: dict[str, Verdict]
    curve: LearningCurve
    processes: int
    cells: int
    cell_seconds: float


@usual_defaults()
def utility(
    train: LabelledImages,
    held_out: LabelledImages,
    generators: Mapping[str, ConditionalGenerator],
    *,
    factory: ClassifierFactory = SmallCNN,
    settings: UtilitySettings | None = None,
    extra: LabelledImages | None = None,
    accept: Filter | None = None,
    max_tries: int = 10,
    cache_dir: str | Path | None = None,
    processes: int = 1,
) -> Utility:
    """Train a classifier with and without generated images, and say whether they helped on held-out real images.

    It is not checked here whether the generators saw held-out images: see :func:`ganaug.evaluation.check_leakage`.

    Args:
        train (LabelledImages): the real training set.
        held_out (LabelledImages): real images of the same classes, none of them in the training set.
        generators (mapping): name to generator; all are compared with the same reference.
        factory (callable): makes the classifier, with the keyword arguments of :class:`SmallCNN`. With several
            processes it must be importable.
        settings (UtilitySettings, optional): of the training. Default: ``UtilitySettings()``
        extra (LabelledImages, optional): further real images that are not in the training set; only the learning
            curve, which otherwise ends at the training set, is trained on them.
        accept (Filter, optional), max_tries (int): which generated images are kept; see
            :class:`ganaug.ConditionalGANAugment`. If the filter has a classifier, that must not have seen held-out
            images. With several processes the filter must be picklable. Default: all images are kept
        cache_dir (str or Path, optional): where finished cells are kept. Default: ``~/.cache/ganaug/evaluation``
        processes (int): how many classifiers are trained at a time on a CPU, each by one thread; several are started
            by spawning, so a script needs ``if __name__ == "__main__"``. Default: 1

    Raises:
        ValueError: the classes or image shapes of the real images differ, a class has too few held-out images, a
            generator is unconditional or does not fit the images, or ``accept`` refuses all images for an item.
    """
    check_comparable(train, held_out)
    if extra is not None:
        check_comparable(train, extra)
    validation, test = _split(held_out)
    both = replace(joined(validation, test), name=held_out.name, train=False)
    on_validation, on_test = slice(len(validation)), slice(len(validation), None)
    study = Study(
        train,
        both,
        dict(generators),
        extra=extra,
        factory=factory,
        settings=settings or UtilitySettings(),
        accept=accept,
        max_tries=max_tries,
    )
    cells = Cells(study, cache_dir, processes=processes)

    # The reference is the arm without generated images that does best on the validation images.
    answers = cells.run(study.real_arms(), "without generated images")
    reference = max(study.real_arms(), key=lambda arm: answers[arm.name].of(on_validation).scores.mean().item())

    # Generated images are added to exactly that training, which is also repeated with fewer and more real images.
    answers |= cells.run(study.arms(reference) + study.curve_arms(reference), "with them, and learning curve")
    judged = {name: _BothParts(each.of(on_validation), each.of(on_test)) for name, each in answers.items()}
    scales = [reference, *study.curve_arms(reference)]
    sizes = [len(study.real_images(arm, 0)) for arm in scales]
    seconds = [cell for each in answers.values() for cell in each.seconds]
    found = Utility(
        study=study,
        reference=reference,
        validation=validation,
        test=test,
        arms=_arm_results(study, reference, judged),
        verdicts={},
        curve=learning_curve(sizes, [judged[arm.name].test.scores for arm in scales]),
        processes=cells.processes,
        cells=len(seconds),
        cell_seconds=sum(seconds),
    )
    return replace(found, verdicts={name: _verdict(found, name) for name in study.generators})


@dataclass(frozen=True)
class _BothParts:
    """An arm's answers on both parts of the held-out images."""

    validation: Answers
    test: Answers


def _split(held_out: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    """Images for validation and for the test."""
    test, validation = held_out.split(VALIDATION)
    for name, count, rest in zip(held_out.classes, held_out.class_counts, validation.class_counts, strict=True):
        if rest < 1 or count - rest < 2:
            raise InputError(
                f"class {name} has {count} held-out images; a quarter of them chooses the ratio and the rest judge, "
                "so there must be at least 3, and many more to see small effects. Hold out more"
            )
    return validation, test


def _arm_results(study: Study, reference: Arm, judged: Mapping[str, _BothParts]) -> dict[str, ArmResult]:
    arms, without = study.arms(reference), judged[reference.name].test
    differences = {
        arm.name: paired_difference(
            judged[arm.name].test.correct, without.correct, without.targets, without.num_classes
        )
        for arm in arms
        if arm != reference
    }
    adjusted = dict(zip(differences, holm([each.p for each in differences.values()]), strict=True))
    results = {}
    for arm in arms:
        validation, test = judged[arm.name].validation, judged[arm.name].test
        results[arm.name] = ArmResult(
            arm=arm,
            scores=test.scores,
            validation=validation.scores,
            correct=test.correct,
            accuracy=test.correct.double().mean().item(),
            macro_f1=macro_f1(test.predicted, test.targets, test.num_classes),
            calibration_error=calibration_error(test.confidence, test.correct),
            recall=recalls(test.correct, test.targets, test.num_classes).mean(0),
            difference=differences.get(arm.name),
            p_holm=adjusted.get(arm.name),
            seconds=sum(test.seconds),
        )
    return results


def _verdict(found: Utility, generator: str) -> Verdict:
    """The verdict on a generator, from the arms and the learning curve."""
    study, reference = found.study, found.arms[found.reference.name]
    candidates = [found.arms[arm.name] for arm in study.mixed_arms(generator, found.reference)]
    primary = max(candidates, key=lambda result: result.validation.mean().item())
    difference = cast(Difference, primary.difference)  # only the reference has none
    outcome = outcome_of(difference)
    worth = found.curve.worth(difference, len(study.train))
    sentence = f"{outcome}: {points(difference)} at ratio {primary.arm.ratio:g}"
    if worth and outcome != "no measurable effect":
        sentence += f", {in_images(worth)}"
    if study.filter_name:
        sentence += f", with images that {study.filter_name} kept"
    clear = clear_gain(primary.validation, reference.validation)[2]
    return Verdict(outcome, primary, difference, primary.arm.ratio if clear else 0.0, worth, sentence)


@usual_defaults()
def classification_accuracy(
    train: LabelledImages,
    held_out: LabelledImages,
    generator: ConditionalGenerator | None = None,
    *,
    settings: UtilitySettings | None = None,
    accept: Filter | None = None,
    max_tries: int = 10,
    cache_dir: str | Path | None = None,
    processes: int = 1,
) -> Answers:
    """Train classifiers on a generator's images alone, or on the real images, and ask them about held-out real images.

    The score of those trained on generated images is the classification accuracy score. Classic augmentation, seeds,
    steps and network are the same for both, so that two results can be compared in pairs.

    Source: Ravuri and Vinyals 2019, "Classification accuracy score for conditional generative models".

    Args:
        train (LabelledImages): the real training set. With a generator, its size only sets how many images are drawn:
            the larger of this size and the smaller of 10,000 and the number of images that training sees.
        held_out (LabelledImages): real images of the same classes, none of them in the training set.
        generator (optional): draws images of the classes. Default: train on the real images
        settings, accept, max_tries, cache_dir, processes: see :func:`utility`; ratios are not used.

    Raises:
        ValueError: classes or image shapes differ, or the generator is unconditional or does not fit the images.
    """
    check_comparable(train, held_out)
    generators = {} if generator is None else {"generator": generator}
    study = Study(
        train, held_out, generators, settings=settings or UtilitySettings(), accept=accept, max_tries=max_tries
    )
    real = Arm("real + classic")
    arm = real if generator is None else study.generated_arm("generator", real)
    return Cells(study, cache_dir, processes=processes).run([arm], arm.name)[arm.name]


def outcome_of(difference: Difference) -> Outcome:
    """The verdict that a difference to the reference gives: on which side of zero its whole interval lies."""
    if difference.low > 0:
        return "helped"
    return "hurt" if difference.high < 0 else "no measurable effect"


def points(difference: Difference) -> str:
    """A difference in points of balanced accuracy with its interval: ``+1.4 points [0.9, 1.9]``."""
    return f"{100 * difference.estimate:+.1f} points [{100 * difference.low:.1f}, {100 * difference.high:.1f}]"


def in_images(worth: Worth) -> str:
    """What a difference is worth in real images, in words."""
    if worth.images < 0:
        return f"as if there were {-worth.images:,} fewer real images"
    more = "more than " if worth.beyond else ""
    return f"worth {more}{worth.images:,} extra real images"
