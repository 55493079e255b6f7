"""What is fixed before anything is trained: which images choose, which judge, and what is trained for the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ganaug.core.errors import InputError
from ganaug.data import LabelledImages, joined
from ganaug.data.labelled import check_comparable
from ganaug.evaluation.cells import Cells, Job, own_augmentation
from ganaug.evaluation.draws import Draws
from ganaug.evaluation.search import JUDGES, Fold, Trial, folds_of
from ganaug.evaluation.study import Arm, Study, UtilitySettings
from ganaug.hub.config import training_seconds

VALIDATION = 0.25  # share of the held-out images that chooses
LEAST_HELD_OUT = 3  # images of each class: one chooses, and the variance of those that judge needs two
SIDELINES = 3  # trainings of an arm that stands beside the verdict
MOST_JUDGED = 10_000  # images on which fidelity and memorisation are measured
LONGER = 2  # times the reference's steps, in the first arm that is given more of them
MOST_TIMES = 4  # times them, in the arm that is given the generator's training time


@dataclass(frozen=True)
class Plan:
    """An evaluation that has not begun.

    Attributes:
        study (Study): the given images and generators; its held-out images are those for validation, then the test's.
        validation, test (LabelledImages): the two parts of the held-out images.
        folds (sequence of Fold): the trainings that choose the reference.
        judged (sequence of Study): those whose trainings are judged: the study itself, or one for each draw.
        draws (Draws, optional): those draws.
    """

    study: Study
    validation: LabelledImages
    test: LabelledImages
    folds: Sequence[Fold]
    judged: Sequence[Study]
    draws: Draws | None

    @property
    def draw_of(self) -> list[int]:
        """The number of the draw that each judged training belongs to; equally many in each."""
        repeats = -(-self.study.settings.seeds // len(self.judged)) * len(self.judged)
        return [k % len(self.judged) for k in range(repeats)]

    def cells(self, folder: str | Path | None, processes: int) -> Cells:
        """Where its classifiers are trained and kept; see :class:`Cells`."""
        return Cells([self.study, *(fold.study for fold in self.folds), *self.judged], folder, processes=processes)

    def judged_arms(self, reference: Trial, primary: Sequence[Arm]) -> tuple[dict[Arm, int], dict[str, str]]:
        """The arms that may be judged, in the order in which they are shown, and how many trainings each has.

        Args:
            reference (Trial): the best training without generated images.
            primary (sequence of Arm): the arm of each generator that the verdict is about.

        Returns:
            tuple: arm to number of trainings, and what is left out to the reason.
        """
        longer, left_out = self._longer_arms(reference)
        alone = [self.study.generated_arm(name, reference.arm) for name in self.study.generators]
        repeats = len(self.draw_of)
        seeds = dict.fromkeys([reference.arm, *longer, *primary, *alone], repeats)
        of_each = [study.curve_arms(reference.arm) for study in self.judged]  # a draw may have fewer extra images
        curve = [arm for arm in of_each[0] if all(arm in arms for arms in of_each)]
        beside = [*longer, *alone, *curve]
        return seeds | dict.fromkeys(beside, min(SIDELINES, repeats)), left_out

    def _longer_arms(self, reference: Trial) -> tuple[list[Arm], dict[str, str]]:
        """The reference with twice the steps, and with the time that the generators took; and why one is missing."""
        times, left_out = set(), {}
        for name, generator in self.study.generators.items():
            seconds = training_seconds(getattr(generator, "info", {}).get("training", {}))
            if seconds is None:
                left_out[f"the reference for as long as the generator “{name}” was trained"] = "that time is not known"
            else:
                times |= {LONGER, min(MOST_TIMES, 1 + math.ceil(seconds / reference.scored.seconds))}
        return [self.study.longer_arm(reference.arm, often) for often in sorted(times)], left_out

    def judging(self, seeds: Mapping[Arm, int]) -> list[Job]:
        """The trainings that are judged: for each arm as many as are given, spread over the draws."""
        draws = len(self.judged)
        return [Job(self.judged[k % draws], arm, JUDGES + k) for arm, often in seeds.items() for k in range(often)]

    def with_settings(self, settings: UtilitySettings) -> Plan:
        """The same images and generators with other settings."""
        studies = [self.study, *(fold.study for fold in self.folds), *self.judged]
        new = {id(study): replace(study, settings=settings) for study in studies}
        return replace(
            self,
            study=new[id(self.study)],
            folds=[replace(fold, study=new[id(fold.study)]) for fold in self.folds],
            judged=[new[id(study)] for study in self.judged],
        )


def waits(arm: Arm, reference: Arm) -> bool:
    """Whether an arm is trained only if other answers give a reason: more images, fewer, or many more steps."""
    return arm.scale != 1 or arm.steps > LONGER * reference.steps


def plan_of(study: Study, draws: Draws | None = None) -> Plan:
    """Divide a study's held-out images in two, its training images in folds, and its judged trainings over draws.

    Args:
        study (Study): with all held-out images.
        draws (Draws, optional): training images and generators that judge. Default: the study's own do

    Raises:
        ValueError: the classes or image shapes of the images differ, or a class has too few held-out images.
    """
    check_comparable(study.train, study.held_out)
    drawn = draws.each if draws else ()
    for images in [*([study.extra] if study.extra else []), *(draw.train for draw in drawn)]:
        check_comparable(study.train, images)
    if missing := [name for name in study.generators if any(name not in draw.generators for draw in drawn)]:
        raise InputError(f"every draw needs the generators of that name, and one has no {missing[0]}. Add it")
    validation, test = _split(study.held_out)
    both = replace(joined(validation, test), name=study.held_out.name, train=False)
    study = replace(study, held_out=both, own_augmentation=own_augmentation(study))
    judged = [replace(study, train=draw.train, extra=draw.extra, generators=dict(draw.generators)) for draw in drawn]
    return Plan(study, validation, test, folds_of(study, len(validation)), judged or [study], draws)


def _split(held_out: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    """Images for validation and for the test."""
    test, validation = held_out.split(VALIDATION)
    for name, count, rest in zip(held_out.classes, held_out.class_counts, validation.class_counts, strict=True):
        if rest < 1 or count - rest < 2:
            raise InputError(
                f"class {name} has {count} held-out images; a quarter of them chooses the ratio and the rest judge, "
                f"so there must be at least {LEAST_HELD_OUT}, and many more to see small effects. Hold out more"
            )
    return validation, test
