"""Did the generated images help a classifier? Arms with and without them, at equal steps, and a verdict.

The rule of the verdict is fixed in advance. :data:`METHOD` says it in words for the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor

from ganaug.core.errors import InputError
from ganaug.data import LabelledImages, joined
from ganaug.evaluation.cells import Answers, Cells, right_answers
from ganaug.evaluation.classifier import ClassifierFactory, SmallCNN
from ganaug.evaluation.learning_curve import LearningCurve, Worth, learning_curve
from ganaug.evaluation.statistics import (
    Difference,
    balanced_accuracy,
    calibration_error,
    clear_gain,
    holm,
    macro_f1,
    paired_difference,
    recalls,
)
from ganaug.evaluation.study import Arm, Study, UtilitySettings, check_comparable
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
        difference (Difference, optional): to the reference arm; None for itself.
        p_holm (float, optional): the difference's p-value, corrected for the number of arms.
        seconds (float): that its cells took, together.
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
        difference (Difference): of the primary arm to the reference.
        recommended_ratio (float): the primary arm's, or 0 where its gain on the validation images is not above one
            standard error.
        worth (Worth, optional): the difference in real images; None where no learning curve could be fitted.
        sentence (str): all of it in one line.
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
        reference (Arm): the arm that differences are taken against.
        validation, test (LabelledImages): parts of the held-out images.
        arms (dict): arm name to result; real ones, then those of each generator.
        verdicts (dict): generator name to verdict.
        curve (LearningCurve): of the reference arm.
        processes (int): how many cells were trained at a time.
        cells (int): number of classifiers that were trained.
        cell_seconds (float): what that took, added up.
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

    Whether the generators saw held-out images is not checked here: see :func:`ganaug.evaluation.check_leakage`.

    Args:
        train (LabelledImages): the real training set.
        held_out (LabelledImages): real images of the same classes, none of them in the training set.
        generators (mapping): name to generator; arms with images of each are compared with the same reference.
        factory (callable): makes the classifier, with the keyword arguments of :class:`SmallCNN`. With several
            processes it must be importable.
        settings (UtilitySettings, optional): of the training. Default: ``UtilitySettings()``
        extra (LabelledImages, optional): further real images that are not in the training set; they extend the
            learning curve, which otherwise ends at the training set, and nothing else.
        accept (Filter, optional), max_tries (int): which generated images are kept, as of
            :class:`ganaug.ConditionalGANAugment`; a classifier in it must not have seen held-out images. With
            several processes it must be picklable. Default: all
        cache_dir (str or Path, optional): where finished cells are kept. Default: ``~/.cache/ganaug/evaluation``
        processes (int): how many classifiers are trained at a time on a CPU, each by one thread; several are started
            by spawning, so a script needs ``if __name__ == "__main__"``. Default: 1

    Raises:
        ValueError: classes, sizes or channels differ, a generator is unconditional or does not fit the images, or a
            class has too few held-out images, or ``accept`` refuses all images for an item.
    """
    check_comparable(train, held_out)
    validation, test = _split(held_out)
    # Validation images first: the answers are cut where they end.
    both = replace(joined(validation, test), name=held_out.name, train=False)
    study = Study(train, both, dict(generators), extra, factory, settings or UtilitySettings(), accept, max_tries)
    cells = Cells(study, cache_dir, processes=processes)
    answers = cells.run(study.real_arms(), "without generated images")
    reference = max(study.real_arms(), key=lambda arm: _validation_scores(answers[arm.name], validation).mean().item())
    answers |= cells.run(study.arms(reference) + study.curve_arms(reference), "with them, and learning curve")
    arms = _results(study, reference, answers, validation, test)
    curve = _curve(study, reference, answers, test)
    verdicts = {name: _verdict(study, reference, name, arms, curve) for name in study.generators}
    each = [answer.seconds for arm in answers.values() for answer in arm]
    return Utility(study, reference, validation, test, arms, verdicts, curve, cells.processes, len(each), sum(each))


@dataclass(frozen=True)
class ClassificationAccuracy:
    """Result of :func:`classification_accuracy`: for each seed, float64 (S,), in [0, 1].

    Attributes:
        accuracy (Tensor): on the held-out images, of classifiers trained on generated images alone. Its mean is the
            classification accuracy score.
        real_accuracy (Tensor): of the same classifiers trained on the real images.
        balanced, real_balanced (Tensor): balanced accuracy of both.
        difference (Difference): of the balanced accuracies, generated minus real.
    """

    accuracy: Tensor
    real_accuracy: Tensor
    balanced: Tensor
    real_balanced: Tensor
    difference: Difference


def classification_accuracy(
    train: LabelledImages,
    held_out: LabelledImages,
    generator: ConditionalGenerator,
    *,
    num_images: int | None = None,
    factory: ClassifierFactory = SmallCNN,
    settings: UtilitySettings | None = None,
    accept: Filter | None = None,
    max_tries: int = 10,
    cache_dir: str | Path | None = None,
    processes: int = 1,
) -> ClassificationAccuracy:
    """Train classifiers on generated images alone, and on the real ones, and ask both about held-out real images.

    Both are trained for the same number of steps, with classic augmentation (shifts, flips). Whether the generator
    saw held-out images is not checked here: see :func:`ganaug.evaluation.check_leakage`.

    Source: Ravuri and Vinyals 2019, "Classification accuracy score for conditional generative models".

    Args:
        train (LabelledImages): real images.
        held_out (LabelledImages): real images of the same classes, none of them in ``train``, at least 2 of each.
        generator (Generator or module): draws the images, in the classes of ``train``.
        num_images (int, optional): how many images it draws for each seed, rounded up to as many of each class.
            Default: as many as there are real ones, and at least 10,000 where training sees as many
        factory (callable): makes the classifier. Default: :class:`SmallCNN`
        settings (UtilitySettings, optional): of the training; its ratios are not used. Default: ``UtilitySettings()``
        accept (Filter, optional), max_tries (int): as of :func:`utility`. Default: all images are kept
        cache_dir (str or Path, optional), processes (int): as of :func:`utility`.

    Raises:
        InputError: ``num_images`` is not positive, classes or sizes differ, a class has fewer than 2 held-out images,
            or ``accept`` refuses all images for an item.
        ValueError: the generator is unconditional or does not fit the images.
    """
    check_comparable(train, held_out)
    if num_images is not None and num_images < 1:
        raise InputError(f"num_images must be positive, got {num_images}")
    for name, count in zip(held_out.classes, held_out.class_counts, strict=True):
        if count < 2:
            raise InputError(f"class {name} has {count} held-out images; an interval needs at least 2. Hold out more")
    study = Study(
        train,
        held_out,
        {"it": generator},
        factory=factory,
        settings=settings or UtilitySettings(),
        accept=accept,
        max_tries=max_tries,
        num_generated=num_images,
    )
    real = Arm("real + classic")
    generated = study.generated_arm("it", real)
    answers = Cells(study, cache_dir, processes=processes).run([real, generated], "generated images alone")
    right, real_right = (right_answers(answers[arm.name], held_out.targets) for arm in (generated, real))
    targets, num_classes = held_out.targets, len(held_out.classes)
    return ClassificationAccuracy(
        accuracy=right.double().mean(1),
        real_accuracy=real_right.double().mean(1),
        balanced=balanced_accuracy(right, targets, num_classes),
        real_balanced=balanced_accuracy(real_right, targets, num_classes),
        difference=paired_difference(right, real_right, targets, num_classes),
    )


def _split(held_out: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    test, validation = held_out.split(VALIDATION)
    for name, count, rest in zip(held_out.classes, held_out.class_counts, validation.class_counts, strict=True):
        if rest < 1 or count - rest < 2:
            raise InputError(
                f"class {name} has {count} held-out images; a quarter of them chooses the ratio and the rest judge, "
                "so there must be at least 3, and more to see anything. Hold out more"
            )
    return validation, test


def _results(
    study: Study,
    reference: Arm,
    answers: Mapping[str, Sequence[Answers]],
    validation: LabelledImages,
    test: LabelledImages,
) -> dict[str, ArmResult]:
    arms = study.arms(reference)
    correct = {arm.name: _correct(answers[arm.name], test) for arm in arms}
    differences = {
        arm.name: paired_difference(correct[arm.name], correct[reference.name], test.targets, len(test.classes))
        for arm in arms
        if arm != reference
    }
    adjusted = dict(zip(differences, holm([each.p for each in differences.values()]), strict=True))
    return {
        arm.name: _result(
            arm,
            answers[arm.name],
            correct[arm.name],
            validation,
            test,
            differences.get(arm.name),
            adjusted.get(arm.name),
        )
        for arm in arms
    }


def _result(
    arm: Arm,
    answers: Sequence[Answers],
    correct: Tensor,
    validation: LabelledImages,
    test: LabelledImages,
    difference: Difference | None,
    p_holm: float | None,
) -> ArmResult:
    num_classes = len(test.classes)
    predicted = torch.stack([each.predicted[-len(test) :] for each in answers])
    confidence = torch.stack([each.confidence[-len(test) :] for each in answers])
    return ArmResult(
        arm,
        balanced_accuracy(correct, test.targets, num_classes),
        _validation_scores(answers, validation),
        correct,
        correct.double().mean().item(),
        macro_f1(predicted, test.targets, num_classes),
        calibration_error(confidence, correct),
        recalls(correct, test.targets, num_classes).mean(0),
        difference,
        p_holm,
        sum(each.seconds for each in answers),
    )


def _correct(answers: Sequence[Answers], test: LabelledImages) -> Tensor:
    """Which test images each seed got right, bool (S, N); they come last among the held-out images."""
    return right_answers(answers, test.targets, first=len(answers[0].predicted) - len(test))


def _validation_scores(answers: Sequence[Answers], validation: LabelledImages) -> Tensor:
    """Balanced accuracy of each seed on the validation images, float64 (S,); they come first."""
    right = right_answers(answers, validation.targets)
    return balanced_accuracy(right, validation.targets, len(validation.classes))


def _curve(
    study: Study, reference: Arm, answers: Mapping[str, Sequence[Answers]], test: LabelledImages
) -> LearningCurve:
    arms = [reference, *study.curve_arms(reference)]
    scores = [balanced_accuracy(_correct(answers[arm.name], test), test.targets, len(test.classes)) for arm in arms]
    return learning_curve([len(study.real_images(arm, 0)) for arm in arms], scores)


def _verdict(
    study: Study, reference: Arm, generator: str, arms: Mapping[str, ArmResult], curve: LearningCurve
) -> Verdict:
    candidates = [arms[arm.name] for arm in study.mixed_arms(generator, reference)]
    primary = max(candidates, key=lambda result: result.validation.mean().item())
    difference = cast(Difference, primary.difference)  # only the reference has none
    outcome = outcome_of(difference)
    worth = curve.worth(difference, len(study.train))
    sentence = f"{outcome}: {points(difference)} at ratio {primary.arm.ratio:g}"
    if worth and outcome != "no measurable effect":
        sentence += f", {in_images(worth)}"
    if study.filter_name:
        sentence += f", with images that {study.filter_name} kept"
    clear = clear_gain(primary.validation, arms[reference.name].validation)[2]
    return Verdict(outcome, primary, difference, primary.arm.ratio if clear else 0.0, worth, sentence)


def outcome_of(difference: Difference) -> Outcome:
    """What a difference to the reference says: where all of its interval is."""
    if difference.low > 0:
        return "helped"
    return "hurt" if difference.high < 0 else "no measurable effect"


def points(difference: Difference) -> str:
    """A difference in points of balanced accuracy with its interval: ``+1.4 points [0.9, 1.9]``."""
    return f"{100 * difference.estimate:+.1f} points [{100 * difference.low:.1f}, {100 * difference.high:.1f}]"


def in_images(worth: Worth) -> str:
    """What a difference is worth, in words."""
    if worth.images < 0:
        return f"as if there were {-worth.images:,} fewer real images"
    more = "more than " if worth.beyond else ""
    return f"worth {more}{worth.images:,} extra real images"
