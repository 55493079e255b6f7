"""What an evaluation costs, in minutes, before it starts; and what to leave out so that it fits into a budget.

The search for the reference goes on as long as that pays off, so there is a least and a most. Both come from the
search itself, with scores that are made up so that it ends at once, or as late as it may.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import torch

from ganaug.core.errors import InputError
from ganaug.core.integers import check_minutes
from ganaug.evaluation.cells import Cell, Cells, Job
from ganaug.evaluation.plan import MOST_JUDGED, Plan, waits
from ganaug.evaluation.search import (
    CLOSE,
    RISING,
    Fold,
    Score,
    Scored,
    best_of,
    choose_ratios,
    choosing_jobs,
    scored,
    search_reference,
    whole,
)
from ganaug.evaluation.statistics import Difference
from ganaug.evaluation.study import Arm, Searched, UtilitySettings
from ganaug.evaluation.timings import Timings

# Assumed for the interval that is to be expected. The difference of two arms varies between trainings by a standard
# deviation of so many points: 0.5 to 0.9 in the published table, whose classifiers are not trained as briefly as a
# small budget demands.
SPREAD = 0.7
# And one of the arms gets this share of the test images right that the other gets wrong, in all trainings.
DISAGREEMENT = 0.02

# What a budget may change.
CHOSEN = ("learning_curve", "ratios", "augmentations", "max_steps", "seeds", "steps")
LEAST_SEEDS = 3
Pays = Literal["all trainings", "additions", "all steps"]  # where more steps pay, in a search that is long
LEAST_STEPS = 100


@dataclass(frozen=True)
class Price:
    """What an evaluation takes on this machine, estimated before it starts.

    Attributes:
        minutes (float): if the search ends as early as it can.
        most_minutes (float): if it goes on for as long as it may.
        cells, most_cells (int): classifiers that are trained then.
        kept (int): further ones that an earlier evaluation left on disk, at most.
        half_width (float): of the 95 % interval that is to be expected, in points of balanced accuracy.
        draws (int): that the judged trainings are spread over. Default: 1
        generator_minutes (float): the part of ``minutes`` in which generators are trained on the draws. Default: 0
        given_up (tuple of str): what was left out to fit into a budget, and what that costs, a sentence each.
        full_half_width (float, optional): ``half_width`` without the budget. Default: there is no budget
    """

    minutes: float
    most_minutes: float
    cells: int
    most_cells: int
    kept: int
    half_width: float
    draws: int = 1
    generator_minutes: float = 0.0
    given_up: tuple[str, ...] = ()
    full_half_width: float | None = None

    @property
    def sentence(self) -> str:
        """All of this in words."""
        cells = f"it trains {_range(f'{self.cells:,}', f'{self.most_cells:,}')} classifiers"
        if self.cells < self.most_cells:
            cells += ", and more the longer its search pays off"
        if not self.most_cells:
            cells = f"all {self.kept:,} classifiers are kept from earlier"
        elif self.kept:
            cells += f"; up to {self.kept:,} more are kept from earlier"
        width = f"Expect an interval of about ±{self.half_width:.1f} points"
        if self.given_up and self.full_half_width == self.half_width:
            width += ", as without the budget"
        elif self.given_up:
            width += f" (±{self.full_half_width:.1f} without the budget)"
        takes = f"the evaluation takes {in_minutes(self.minutes, self.most_minutes)} here"
        if self.generator_minutes:
            takes += f", {in_minutes(self.generator_minutes, self.generator_minutes)} of it to train generators again"
        width += f", if differences vary by {SPREAD:g} points between trainings"
        width += ", and no more between draws" if self.draws > 1 else ""
        return ". ".join([f"{takes}: {cells}", *self.given_up, width])


def in_minutes(least: float, most: float) -> str:
    """A range of minutes in words; in hours from two on."""
    if most < 1:
        return "less than a minute"
    if most >= 120:
        return f"{_range(f'{least / 60:.1f}', f'{most / 60:.1f}')} hours"
    low, high = max(1, round(least)), max(1, round(most))
    return f"{_range(str(low), str(high))} minute{'s' if high > 1 else ''}"


def _range(low: str, high: str) -> str:
    return high if low == high else f"{low} to {high}"


class Tally:
    """Adds up what rounds of trainings take, without training.

    Args:
        cells (Cells): what would train; what it has kept costs nothing.
        timings (Timings): of the parts.

    Attributes:
        seconds (float): that the rounds take.
        trained, kept (int): cells that are trained, and that an earlier evaluation has kept.
        rounds (int): how many rounds were counted.
    """

    def __init__(self, cells: Cells, timings: Timings) -> None:
        self.cells, self.timings = cells, timings
        self.seconds, self.trained, self.kept, self.rounds = 0.0, 0, 0, 0
        self._counted: set[Path] = set()

    def run(self, jobs: Sequence[Job]) -> list[Cell | None]:
        """Count a round; a cell that was counted in an earlier one is there already.

        Returns:
            list of Cell: those that an earlier evaluation has kept; None for each that would be trained.
        """
        kept = [self.cells.kept(job) for job in jobs]
        found = {self.cells.path(job): (job, cell) for job, cell in zip(jobs, kept, strict=True)}
        new = {path: each for path, each in found.items() if path not in self._counted}
        missing = [job for job, cell in new.values() if cell is None]
        self.kept += len(new) - len(missing)
        self.trained += len(missing)
        self.rounds += 1
        self._counted |= new.keys()

        # The first cell that needs some generated images draws them, for the others of its round too.
        drawn, seconds = set(), []
        for job in missing:
            seconds.append(self.timings.of_cell(job))
            if name := job.arm.generator:
                size = job.study.pool_size(job.arm.steps * job.study.settings.batch_size)
                if (id(job.study), name, job.seed, size) not in drawn:
                    seconds[-1] += self.timings.of_drawing(name, size)
                    drawn.add((id(job.study), name, job.seed, size))

        # Each process takes the next cell when it is free, and the round ends with the last of them.
        free = [0.0] * min(self.cells.processes, max(1, len(missing)))
        for each in seconds:
            heapq.heappush(free, heapq.heappop(free) + each)
        self.seconds += max(free) + self.timings.start * (len(missing) > 1)
        return kept


def price_of(plan: Plan, cells: Cells, timings: Timings) -> Price:
    """Estimate what an evaluation takes: the classifiers of a plan, and those by which images are compared.

    What the Inception network takes, where FID is measured, is not in it.

    Args:
        plan (Plan): what will be done.
        cells (Cells): what would train.
        timings (Timings): of the parts.
    """
    short = [_tally(plan, Tally(cells, timings), arm) for arm in plan.study.augmented_arms()]
    long = [_tally(plan, Tally(cells, timings), pays) for pays in get_args(Pays)]
    least, most = min(short, key=lambda tally: tally.seconds), max(long, key=lambda tally: tally.seconds)
    of_generators = plan.draws.seconds if plan.draws else 0.0
    repeats, draws = len(plan.draw_of), len(plan.judged)
    return Price(
        minutes=(least.seconds + of_generators) / 60,
        most_minutes=(most.seconds + of_generators) / 60,
        cells=least.trained,
        most_cells=most.trained,
        kept=max(least.kept, most.kept),
        half_width=expected_half_width(
            repeats, plan.test.class_counts, draws=draws, shared=plan.draws.shared if plan.draws else 0.0
        ),
        draws=draws,
        generator_minutes=of_generators / 60,
    )


def _tally(plan: Plan, tally: Tally, best: Arm | Pays) -> Tally:
    """Count the trainings of a plan; where a score is not known yet, it is made up.

    The search is short if a training that it begins with is the best and nothing else pays off. It is long if
    everything does but a lower learning rate, after which no higher one would be tried twice. More steps may pay in
    all trainings, in those alone that come after the augmentations, or only where all steps are given: what is added
    or changed is then tried with fewer steps too.

    Args:
        plan (Plan), tally (Tally): what is counted, and by what.
        best (Arm or str): a training that is the best; or in what more steps pay, and then all that may be trained for
            the verdict is trained too.
    """
    study, timings = plan.study, tally.timings
    half = study.settings.max_steps // 2
    first: dict[Arm, int] = {}  # round in which a way of training was tried first

    def seconds(arm: Arm) -> float:
        return timings.of_cell(Job(study, arm, 0))

    def made_up(arm: Arm) -> float:
        if isinstance(best, Arm):
            return float(arm == best)
        if arm.learning_rate_factor < 1:
            return 0.0
        short = replace(arm, steps=study.settings.steps)
        since, costs = first.setdefault(short, tally.rounds), seconds(short)
        alone = short in study.augmented_arms()
        # Each round is better by enough to go on and too little to leave the others behind; and the costliest training
        # is the best by a little.
        pays = {"all trainings": True, "additions": not alone, "all steps": arm.steps > half}[best]
        return (RISING + CLOSE) / 2 * (tally.rounds if pays else since) + 0.001 * costs / (1 + costs)

    def score_by(folds: Sequence[Fold]) -> Score:
        def score(arms: Sequence[Arm]) -> list[Scored]:
            cells = iter(tally.run([job for arm in arms for job in choosing_jobs(folds, arm)]))
            found = []
            for arm in arms:
                kept = [cell for _ in folds if (cell := next(cells))]
                known = len(kept) == len(folds)
                made = Scored(torch.tensor([made_up(arm)]), max(seconds(arm), 1e-9))
                found.append(scored(folds, kept) if known else made)
            return found

        return score

    trials = search_reference(study, score_by(plan.folds))
    reference = best_of(trials)
    mixed = choose_ratios(study, reference.arm, score_by(whole(study, len(plan.validation))))
    seeds, _ = plan.judged_arms(reference, [best_of(each).arm for each in mixed.values()])
    later = {arm: often for arm, often in seeds.items() if waits(arm, reference.arm)}
    tally.run(plan.judging({arm: often for arm, often in seeds.items() if arm not in later}))
    if not isinstance(best, Arm):
        tally.run(plan.judging(later))

    # The two classifiers by whose features images are compared, and the images that are compared.
    tally.seconds += 2 * seconds(replace(reference.arm, steps=study.settings.steps))
    compared = min(len(study.held_out), MOST_JUDGED)
    tally.seconds += sum(timings.of_drawing(name, compared) for name in study.generators)
    return tally


def expected_half_width(trainings: int, test_images: Sequence[int], *, draws: int = 1, shared: float = 0.0) -> float:
    """Half the width of the 95 % interval that is to be expected, in points.

    It is computed as by :func:`paired_difference`, from an assumed spread between trainings and an assumed share of
    test images on which the arms differ lastingly. Draws are assumed to differ by no more than trainings do.

    Args:
        trainings (int): of an arm, in all draws together.
        test_images (sequence of int): of each class. Small classes count as much as large ones, so they widen it.
        draws (int): that the trainings are spread over. Default: 1
        shared (float): see :attr:`ganaug.evaluation.Draws.shared`. Default: 0
    """
    repeats = draws if draws > 1 else trainings
    variance = (SPREAD / 100) ** 2 / trainings
    expected = Difference(
        estimate=0.0,
        low=0.0,
        high=0.0,
        p=1.0,
        repeats=repeats,
        repeat_variance=variance,
        image_variance=DISAGREEMENT * sum(1 / count for count in test_images) / len(test_images) ** 2,
        image_freedom=float(sum(test_images)),
        shared_variance=shared * variance * repeats,
    )
    return 100 * expected.interval(0.95)[1]


def within_budget(
    plan: Plan, cells: Cells, timings: Timings, minutes: float, *, fixed: Collection[str] = ()
) -> tuple[UtilitySettings, Price]:
    """Leave out of a plan what its verdict needs least, until it fits into a budget even if the search is longest.

    First goes what is no part of the verdict, the learning curve; then ratios, of which several do about equally well,
    and RandAugment, which is much like TrivialAugment; then doublings of the steps, which all arms share, and seeds,
    without which the interval is wider, but right. Last come TrivialAugment, no augmentation, and steps: without them
    the reference is not the best training, and generated images look better than they are.

    Something small may have been left out in vain, because something larger had to go too, or because it is kept from
    an earlier evaluation. So what still fits is put back.

    Args:
        plan, cells, timings: as for :func:`price_of`.
        minutes (float): the budget.
        fixed (collection of str): names of settings that stay as they are. Default: none

    Returns:
        tuple: the settings that fit, and their price with what was given up. Only the least that gives a verdict may
        take longer than the budget, if its search is longest.

    Raises:
        InputError: ``minutes`` is not positive and finite, or even the least does not fit; or ``fixed`` names what is
            no setting.
    """
    check_minutes("budget_minutes", minutes)
    known = list(vars(plan.study.settings))
    if unknown := sorted(set(fixed) - set(known)):
        raise InputError(f"fixed names {', '.join(unknown)}, which is no setting; settings are {', '.join(known)}")
    before, draws = plan.study.settings, len(plan.judged)

    def price(settings: UtilitySettings) -> Price:
        return price_of(plan.with_settings(settings), cells, timings)

    # Less and less, until it fits.
    whole = found = price(before)
    tried = [before]
    for settings in _ever_less(before, draws, fixed):
        if found.most_minutes <= minutes:
            break
        tried.append(settings)
        found = price(settings)
    chosen = tried[-1]
    if found.minutes > minutes:
        given = " and ".join(name for name in CHOSEN if name in fixed)
        free = f"leave {given} to it, " if given else ""
        raise InputError(
            f"{minutes:g} {'minute is' if minutes == 1 else 'minutes are'} too little for a verdict (budget_minutes): "
            f"it takes at least {_up(found.minutes)} minutes here, even with {chosen.seeds} seeds and "
            f"{chosen.steps:,} steps. Give it that much, {free}or take a smaller classifier or smaller images"
        )

    # Put back what still fits, beginning with what the verdict needs most.
    for fuller, less in reversed(list(pairwise(tried[:-1]))):
        left_out = {name: value for name, value in vars(fuller).items() if value != getattr(less, name)}
        if all(getattr(chosen, name) == getattr(less, name) for name in left_out):
            again = replace(chosen, **left_out)
            if (more := price(again)).most_minutes <= minutes:
                chosen, found = again, more
    return chosen, replace(found, given_up=tuple(given_up(before, chosen)), full_half_width=whole.half_width)


def _up(minutes: float) -> str:
    """Minutes to two digits, rounded up, so that they suffice."""
    digits = 1 - math.floor(math.log10(minutes))
    return f"{math.ceil(minutes * 10**digits) / 10**digits:.{max(0, digits)}f}"


def _ever_less(settings: UtilitySettings, draws: int, fixed: Collection[str]) -> Iterator[UtilitySettings]:
    """Settings that leave out more and more, in the order of :func:`within_budget`; some may be fixed."""

    def fewer_ratios(now: UtilitySettings) -> UtilitySettings:
        """The farthest from a half goes first."""
        farthest = max(now.ratios, key=lambda ratio: abs(ratio - 0.5))
        rest = tuple(ratio for ratio in now.ratios if ratio != farthest)
        return replace(now, ratios=rest or now.ratios)

    def one_doubling_fewer(now: UtilitySettings) -> UtilitySettings:
        longest = now.steps
        while 4 * longest <= now.max_steps:
            longest *= 2
        return replace(now, max_steps=longest) if now.max_steps >= 2 * now.steps else now

    def fewer_seeds(now: UtilitySettings) -> UtilitySettings:
        """A round less over all draws."""
        fewer = (-(-now.seeds // draws) - 1) * draws
        return replace(now, seeds=fewer) if fewer >= LEAST_SEEDS else now

    def half_the_steps(now: UtilitySettings) -> UtilitySettings:
        half = now.steps // 2
        return replace(now, steps=half, max_steps=half) if half >= LEAST_STEPS else now

    changes: list[tuple[set[str], Callable[[UtilitySettings], UtilitySettings]]] = [
        ({"learning_curve"}, partial(replace, learning_curve=False)),
        ({"ratios"}, fewer_ratios),
        ({"augmentations"}, partial(_without, "rand")),
        ({"max_steps"}, one_doubling_fewer),
        ({"seeds"}, fewer_seeds),
        ({"augmentations"}, partial(_without, "trivial")),
        ({"augmentations"}, partial(_without, "none")),
        ({"steps", "max_steps"}, half_the_steps),
    ]
    for names, change in changes:
        while names.isdisjoint(fixed) and (fewer := change(settings)) != settings:
            yield (settings := fewer)


def _without(kind: Searched, settings: UtilitySettings) -> UtilitySettings:
    """Settings without an augmentation, unless it is the only one."""
    rest = tuple(each for each in settings.augmentations if each != kind)
    return replace(settings, augmentations=rest or settings.augmentations)


def nothing_left_out(asked: UtilitySettings) -> UtilitySettings:
    """Settings with all that was asked for, and all that is usual."""
    usual = UtilitySettings()
    return replace(
        asked,
        seeds=max(asked.seeds, usual.seeds),
        max_steps=max(asked.max_steps, usual.max_steps),
        augmentations=tuple(dict.fromkeys([*asked.augmentations, *usual.augmentations])),
        ratios=tuple(dict.fromkeys([*asked.ratios, *usual.ratios])),
        learning_curve=True,
    )


def given_up(before: UtilitySettings, after: UtilitySettings) -> Iterator[str]:
    """What is left out, and what that costs, in words."""
    if before.learning_curve and not after.learning_curve:
        yield "There is no learning curve, so a gain is not told in real images"
    if left_out := [f"{ratio:g}" for ratio in before.ratios if ratio not in after.ratios]:
        yield f"Ratios not tried: {', '.join(left_out)}; if one of them is the best, the gain looks smaller than it is"
    if left_out := [kind for kind in before.augmentations if kind not in after.augmentations]:
        yield (
            f"Augmentations not tried: {', '.join(left_out)}; if one of them is the best, generated images look "
            "better than they are"
        )
    if after.max_steps < before.max_steps:
        yield (
            f"Trainings end after {after.max_steps:,} steps at most, not {before.max_steps:,}, and may still be "
            "improving then"
        )
    if after.seeds < before.seeds:
        yield f"{after.seeds} seeds judge instead of {before.seeds}, so the interval is wider"
