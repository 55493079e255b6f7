"""All that a report says, as data: what ``report.json`` holds, and what the page, its figures and the card show."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ganaug.core.errors import InputError
from ganaug.core.hardware import best_device, has_bf16
from ganaug.evaluation.evaluate import Evaluation
from ganaug.evaluation.fidelity import Fidelity
from ganaug.evaluation.inception import InceptionDistances
from ganaug.evaluation.leakage import LeakageCheck, LeftOut
from ganaug.evaluation.learning_curve import PowerLaw, Worth
from ganaug.evaluation.memorization import Memorization
from ganaug.evaluation.search import JUDGES, Trial
from ganaug.evaluation.statistics import Difference
from ganaug.evaluation.utility import METHOD, ArmResult, Utility
from ganaug.evaluation.verdict import Outcome

FORMAT_VERSION = 2


@dataclass(frozen=True)
class DataFacts:
    """The real images.

    Attributes:
        name, held_out_name (str): of the training images and of the held-out ones.
        train_images, validation_images, test_images (int): how many there are.
        train_counts (dict): class name to number of training images.
        image_size (int): side, in pixels.
        channels (int): 1 for grey, 3 for RGB.
        classes (tuple of str): class names.
        balanced (bool): whether all classes have equally many training images.
        fingerprint (str): of the training images.
        left_out (int): held-out images that were left out because classifiers or a generator were trained on them.
        repeated (int): held-out images that were left out because they are equal to another of their class.
        held_out_images (int, optional): how many were given, with those; None in reports that do not have it.
    """

    name: str
    held_out_name: str
    train_images: int
    train_counts: dict[str, int]
    validation_images: int
    test_images: int
    image_size: int
    channels: int
    classes: tuple[str, ...]
    balanced: bool
    fingerprint: str
    left_out: int
    repeated: int = 0
    held_out_images: int | None = None

    @property
    def left_out_in_words(self) -> str:
        """How many held-out images of how many were left out, and why."""
        remaining = self.validation_images + self.test_images
        given = self.held_out_images or remaining + self.left_out + self.repeated
        return LeftOut(given, self.left_out, self.repeated).sentence


@dataclass(frozen=True)
class SettingsFacts:
    """How the classifiers were trained.

    Attributes:
        seeds (tuple of int): of the judged trainings; those that choose have the seeds 0, 1, ...
        steps, max_steps, batch_size, augmentations, ratios, margin, horizontal_flip, learning_curve: see
            :class:`ganaug.evaluation.UtilitySettings`.
        classifier (str): its name.
        max_shift (int): of classic augmentation, in pixels.
        filter_of_generated_images (str, optional): its name; None if all generated images were used.
        vary (float, optional): strength at which training images were varied; None for images drawn from noise alone.
    """

    seeds: tuple[int, ...]
    steps: int
    max_steps: int
    batch_size: int
    augmentations: tuple[str, ...]
    ratios: tuple[float, ...]
    margin: float
    horizontal_flip: bool
    learning_curve: bool
    classifier: str
    max_shift: int
    filter_of_generated_images: str | None
    vary: float | None = None


@dataclass(frozen=True)
class TrialFacts:
    """One way of training in the search, and its scores on the validation images.

    Attributes:
        name (str): what it was trained with, in words.
        generator (str, optional), ratio (float, optional): whose images were mixed in, and how many; None for neither.
        steps (int), learning_rate_factor (float): how long, and with how many times the classifier's learning rate.
        scores (tuple of float): balanced accuracy of each training, in [0, 1].
        mean, sd (float): of these.
        gain (float, optional): what doubling the steps had brought, for other learning rates at the classifier's own;
            None if half the steps were not tried.
        rising (bool): whether that gain says that more steps would still help.
        chosen (bool): whether it was chosen, as the reference or as a generator's primary arm.
    """

    name: str
    generator: str | None
    ratio: float | None
    steps: int
    learning_rate_factor: float
    scores: tuple[float, ...]
    mean: float
    sd: float
    gain: float | None
    rising: bool
    chosen: bool


@dataclass(frozen=True)
class SearchFacts:
    """The search for the best training without generated images, and for the ratio.

    Attributes:
        trials (tuple of TrialFacts): all that was tried.
        cross_validated (bool): whether the training images, too, chose the reference.
        rising (bool, optional): whether more steps would still help the reference, because the last doubling did and
            the search had to end there; None if it was not given twice the steps.
        too_short (str): that the reference was better by more than chance when it was trained for longer, in words;
            empty if it was not.
    """

    trials: tuple[TrialFacts, ...]
    cross_validated: bool
    rising: bool | None
    too_short: str = ""


@dataclass(frozen=True)
class ArmFacts:
    """Scores of a judged arm on the test images.

    Attributes:
        name (str): what it was trained with, in words.
        generator (str, optional), ratio (float, optional): whose images were mixed in, and how many; None for neither.
        scores (tuple of float): balanced accuracy of each seed, in [0, 1].
        steps (int), learning_rate_factor (float): how it was trained.
        epochs (float): how often training saw each real image, on average.
        mean, sd (float): of balanced accuracy over the seeds.
        accuracy, macro_f1, calibration_error (float): means over the seeds.
        recall (dict): class name to mean recall.
        difference (Difference, optional): to the reference; None for the reference itself.
        seconds (float): that training took, summed over the seeds.
    """

    name: str
    generator: str | None
    ratio: float | None
    scores: tuple[float, ...]
    mean: float
    sd: float
    steps: int
    learning_rate_factor: float
    epochs: float
    accuracy: float
    macro_f1: float
    calibration_error: float
    recall: dict[str, float]
    difference: Difference | None
    seconds: float


@dataclass(frozen=True)
class CurvePoint:
    """Balanced accuracy of the reference with this many real images: of each seed, mean and standard deviation."""

    images: int
    scores: tuple[float, ...]
    mean: float
    sd: float


@dataclass(frozen=True)
class CurveFacts:
    """The learning curve of the reference.

    Attributes:
        points (tuple of CurvePoint): by ascending number of images.
        fit (PowerLaw, optional): None for fewer than three points.
        measured_to (int): images of the last point.
    """

    points: tuple[CurvePoint, ...]
    fit: PowerLaw | None
    measured_to: int


@dataclass(frozen=True)
class VerdictFacts:
    """The verdict on a generator.

    Attributes:
        outcome, sentence, note, recommended_ratio, difference, worth: see :class:`ganaug.evaluation.Verdict`.
        arm (str), ratio (float): the primary arm, which has the ratio that was chosen on the validation images.
    """

    outcome: Outcome
    sentence: str
    note: str
    arm: str
    ratio: float
    recommended_ratio: float
    difference: Difference
    worth: Worth | None


@dataclass(frozen=True)
class FidelityFacts(Fidelity):
    """Fidelity to real images.

    Attributes:
        inception (InceptionDistances, optional): FID and KID; None if Inception's weights were not given.
    """

    inception: InceptionDistances | None


@dataclass(frozen=True)
class GeneratorFacts:
    """One generator and the verdict on it.

    Attributes:
        name (str): in this report.
        source (str): the folder or Hub id it came from.
        generated_only (float): balanced accuracy of a classifier trained on its images alone.
        training (dict): what its training recorded; empty if nothing is known.
    """

    name: str
    source: str
    verdict: VerdictFacts
    generated_only: float
    fidelity: FidelityFacts
    memorization: Memorization
    leakage: LeakageCheck
    training: dict[str, Any]


@dataclass(frozen=True)
class Machine:
    """What the evaluation ran on; ``precision`` is ``"bf16"`` or ``"fp32"``."""

    cpu: str
    cores: int
    device: str
    torch: str
    python: str
    precision: str


@dataclass(frozen=True)
class Cost:
    """What the evaluation took.

    Attributes:
        seconds (float): of this run alone.
        cells (int): classifiers that were trained, in this run or an earlier one.
        cell_seconds (float): what training them took, added up.
        processes (int): how many were trained at a time.
    """

    seconds: float
    cells: int
    cell_seconds: float
    processes: int
    machine: Machine


@dataclass(frozen=True, repr=False)
class Report:
    """A whole report; shares and scores are in [0, 1]. ``dataclasses.asdict`` gives what ``report.json`` holds.

    Shown in a notebook or printed, it is the verdict on each generator, in a sentence.

    Attributes:
        format_version (int): of ``report.json``.
        created (str): UTC time, ISO 8601.
        ganaug_version (str): that made it.
        method (tuple of str): the rule of the verdict, in words.
        metric (str): what scores are of.
        reference (str): name of the arm that all others are compared with.
        search (SearchFacts): how it and the ratios were found.
        arms (tuple of ArmFacts): the ways of training that were judged.
        skipped_arms (dict): name of a way that was not trained to the reason.
        given_up (tuple of str): what was left out of what was asked for, or is usual, and what that costs, a sentence
            each.
        draws (int): of the training images; 1 if the given ones were judged.
        covers (str): what the verdict's interval covers.
    """

    format_version: int
    created: str
    ganaug_version: str
    data: DataFacts
    settings: SettingsFacts
    method: tuple[str, ...]
    metric: str
    reference: str
    search: SearchFacts
    arms: tuple[ArmFacts, ...]
    skipped_arms: dict[str, str]
    given_up: tuple[str, ...]
    draws: int
    covers: str
    curve: CurveFacts
    generators: tuple[GeneratorFacts, ...]
    cost: Cost

    def arm(self, name: str) -> ArmFacts:
        """The arm with this name.

        Raises:
            KeyError: there is none.
        """
        return {arm.name: arm for arm in self.arms}[name]

    def generator(self, name: str) -> GeneratorFacts:
        """The generator with this name.

        Raises:
            KeyError: there is none.
        """
        return {generator.name: generator for generator in self.generators}[name]

    def __repr__(self) -> str:
        return "\n".join(f"{generator.name}: {generator.verdict.sentence}" for generator in self.generators)

    @property
    def verdict(self) -> VerdictFacts:
        """The verdict, of a report on one generator.

        Raises:
            InputError: it is on several; see :meth:`generator`.
        """
        if len(self.generators) > 1:
            names = ", ".join(generator.name for generator in self.generators)
            raise InputError(f"the report has a verdict on each of {names}. Say which: report.generator(NAME).verdict")
        return self.generators[0].verdict

    @property
    def reference_arm(self) -> ArmFacts:
        """The arm that all others are compared with."""
        return self.arm(self.reference)

    @property
    def primary_arms(self) -> list[ArmFacts]:
        """The arm that each generator's verdict is about."""
        return [self.arm(generator.verdict.arm) for generator in self.generators]

    @property
    def reference_trial(self) -> TrialFacts:
        """What the search found of the reference."""
        return next(trial for trial in self.search.trials if trial.chosen and trial.generator is None)


def report_of(evaluation: Evaluation, *, sources: Mapping[str, str], classifier: str) -> Report:
    """All numbers of an evaluation.

    Args:
        evaluation (Evaluation): what was found.
        sources (mapping): generator name to the folder or Hub id it came from.
        classifier (str): name of the classifier.
    """
    found = evaluation.utility
    study, train = found.study, found.study.train
    repeats = len(found.arms[found.reference.arm.name].scores)
    settings = {**asdict(study.settings), "seeds": tuple(range(JUDGES, JUDGES + repeats))}
    points = [
        CurvePoint(images, tuple(scores.tolist()), scores.mean().item(), scores.std().item())
        for images, scores in zip(found.curve.images, found.curve.scores, strict=True)
    ]
    balanced = {"oversampling and class-balanced loss": "the classes are balanced, so neither changes anything"}
    chosen = [found.reference.arm, *(verdict.primary.arm for verdict in found.verdicts.values())]
    return Report(
        format_version=FORMAT_VERSION,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        ganaug_version=version("ganaug"),
        data=DataFacts(
            name=train.name,
            held_out_name=study.held_out.name,
            train_images=len(train),
            train_counts=dict(zip(train.classes, train.class_counts, strict=True)),
            validation_images=len(found.validation),
            test_images=len(found.test),
            image_size=train.image_size,
            channels=train.channels,
            classes=train.classes,
            balanced=study.balanced,
            fingerprint=train.fingerprint,
            left_out=evaluation.left_out.trained_on,
            repeated=evaluation.left_out.repeated,
            held_out_images=evaluation.left_out.given,
        ),
        settings=SettingsFacts(
            **settings,
            classifier=classifier,
            max_shift=study.classic.max_shift,
            filter_of_generated_images=study.filter_name,
            vary=study.vary,
        ),
        method=METHOD,
        metric="balanced accuracy",
        reference=found.reference.arm.name,
        search=SearchFacts(
            tuple(_trial(trial, trial.arm in chosen) for trial in found.search),
            found.cross_validated,
            _rising(found.reference, found.search),
            found.too_short,
        ),
        arms=tuple(_arm(result, found) for result in found.arms.values()),
        skipped_arms=found.left_out | (balanced if study.balanced else {}),
        given_up=evaluation.given_up,
        draws=found.draws,
        covers=found.covers,
        curve=CurveFacts(tuple(points), found.curve.fit(), found.curve.images[-1]),
        generators=tuple(_generator(name, evaluation, sources[name]) for name in found.verdicts),
        cost=Cost(evaluation.seconds, found.cells, found.cell_seconds, found.processes, _machine()),
    )


def _rising(reference: Trial, search: Sequence[Trial]) -> bool | None:
    # More steps of the same, with whatever learning rate, were tried and did not help.
    if any(trial.arm.name == reference.arm.name and trial.arm.steps > reference.arm.steps for trial in search):
        return False
    return None if reference.gain is None else reference.rising


def _trial(trial: Trial, chosen: bool) -> TrialFacts:
    scores = trial.scored.scores
    return TrialFacts(
        name=trial.arm.name,
        generator=trial.arm.generator,
        ratio=trial.arm.ratio if trial.arm.generator else None,
        steps=trial.arm.steps,
        learning_rate_factor=trial.arm.learning_rate_factor,
        scores=tuple(scores.tolist()),
        mean=trial.mean,
        sd=scores.std().item(),
        gain=trial.gain,
        rising=trial.rising,
        chosen=chosen,
    )


def _arm(result: ArmResult, found: Utility) -> ArmFacts:
    settings, images = found.study.settings, len(found.study.train)
    return ArmFacts(
        name=result.arm.name,
        generator=result.arm.generator,
        ratio=result.arm.ratio if result.arm.generator else None,
        scores=tuple(result.scores.tolist()),
        mean=result.mean,
        sd=result.scores.std().item(),
        steps=result.arm.steps,
        learning_rate_factor=result.arm.learning_rate_factor,
        epochs=(1 - result.arm.ratio) * result.arm.steps * settings.batch_size / images,
        accuracy=result.accuracy,
        macro_f1=result.macro_f1,
        calibration_error=result.calibration_error,
        recall=dict(zip(found.test.classes, result.recall.tolist(), strict=True)),
        difference=result.difference,
        seconds=result.seconds,
    )


def _generator(name: str, evaluation: Evaluation, source: str) -> GeneratorFacts:
    found, judged = evaluation.utility, evaluation.judged[name]
    verdict = found.verdicts[name]
    return GeneratorFacts(
        name=name,
        source=source,
        verdict=VerdictFacts(
            outcome=verdict.outcome,
            sentence=verdict.sentence,
            note=verdict.note,
            arm=verdict.primary.arm.name,
            ratio=verdict.primary.arm.ratio,
            recommended_ratio=verdict.recommended_ratio,
            difference=verdict.difference,
            worth=verdict.worth,
        ),
        generated_only=found.arms[found.study.generated_arm(name, found.reference.arm).name].mean,
        fidelity=FidelityFacts(**vars(judged.fidelity), inception=judged.inception),
        memorization=judged.memorization,
        leakage=evaluation.leakage[name],
        training=getattr(found.study.generators[name], "info", {}).get("training", {}),
    )


def _machine() -> Machine:
    device = best_device()
    return Machine(
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        device=device.type,
        torch=torch.__version__,
        python=platform.python_version(),
        precision="bf16" if has_bf16(device) else "fp32",
    )


def _cpu() -> str:
    """Name of the processor; platform.processor() is empty on many Linux systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
