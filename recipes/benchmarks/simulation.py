"""Does the verdict err as seldom as it says? Whole studies in which only the answers of the classifiers are made up.

What the generated images are worth is then known. Each study is judged as by ganaug.evaluation.utility and, from
answers of the same classifiers, by the rule before it: there the trainings that chose were judged as well. A thousand
studies of every case take about 15 minutes on a core. A command that was stopped goes on where it was.

    python recipes/benchmarks/simulation.py --studies 1000
    python recipes/benchmarks/simulation.py --table outputs/simulation/simulation.json
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Results, fill_and_show, machine
from scipy.stats import norm, t
from tqdm import trange

from ganaug import LabelledImages
from ganaug.cli.flags import run
from ganaug.data import joined
from ganaug.evaluation import Draw, Draws, UtilitySettings
from ganaug.evaluation.cells import Answers, Cell, Job, answers_of
from ganaug.evaluation.plan import Plan, plan_of
from ganaug.evaluation.ratio import CANDIDATES, CHOOSING, judged_ratio
from ganaug.evaluation.statistics import Difference, paired_difference
from ganaug.evaluation.study import Arm, Study
from ganaug.evaluation.utility import carry_out

CLASSES = tuple("abcdefghij")
RARER = tuple(round(3000 * 0.6**k) for k in range(10))  # images of each class, where they are imbalanced
TRAINING = (10,) * 10  # training images of each class
ACCURACY = 0.78  # of the classifiers
WEAKER = 3.0  # points by which other augmentations are worse than TrivialAugment
# Standard deviations on the probit scale: how hard an image is, how well an arm suits it, and what is left to chance.
HARD, SUITS, CHANCE = 1.5, 0.3, 0.6
SPREAD = math.sqrt(HARD**2 + SUITS**2 + CHANCE**2)
USUAL = SPREAD * float(norm.ppf(ACCURACY))  # the level at which that share of the answers is right
POINT = SPREAD / float(norm.pdf(norm.ppf(ACCURACY))) / 100  # the change of it that changes the accuracy by a point
AUTO_BEFORE = 3  # seeds of ratio="auto" before
ANSWERS_NOW = ("no worthwhile effect", "cannot tell yet")  # that the rule before did not tell apart


@dataclass(frozen=True)
class Case:
    """What is so in all studies of a case. Differences and standard deviations are in points.

    Attributes:
        gain (float): that generated images bring at any ratio.
        seeds (int), ratios (tuple of float): settings of the study.
        draws (int): of the training images.
        held_out (tuple of int): images of each class.
        sd_seeds (float): between the trainings of an arm.
        sd_draws (float): of what a draw does to all arms; half of that comes on top for each arm.
        weaker (float): by how much other augmentations are worse than TrivialAugment.
        auto (bool): whether ``ratio="auto"`` judges; the held-out images are its validation images.
    """

    gain: float = 0.0
    seeds: int = 5
    ratios: tuple[float, ...] = (0.3, 0.5, 0.8)
    draws: int = 1
    held_out: tuple[int, ...] = (1000,) * 10
    sd_seeds: float = 0.7
    sd_draws: float = 0.0
    weaker: float = WEAKER
    auto: bool = False


CASES = {
    "no effect: 5 seeds, 3 ratios": Case(),
    "no effect: 5 seeds, 5 ratios": Case(ratios=CANDIDATES),
    "no effect: 3 seeds, 3 ratios": Case(seeds=3),
    "no effect: 2 seeds, 3 ratios": Case(seeds=2),
    "no effect: 5 seeds, 1 ratio, so that nothing is chosen": Case(ratios=(0.5,)),
    "no effect: all augmentations equally good": Case(weaker=0.0),
    "no effect: 300 held-out images": Case(held_out=(30,) * 10),
    "no effect: 3,000 to 30 held-out images of a class": Case(held_out=RARER),
    "no effect: 10 seeds that differ by 0.2 points": Case(seeds=10, sd_seeds=0.2),
    "no effect: draws differ (5 draws; before: 5 seeds of one)": Case(draws=5, sd_draws=1.0),
    "+0.5 points: 5 seeds, 3 ratios": Case(gain=0.5),
    "+1.5 points: 5 seeds, 3 ratios": Case(gain=1.5),
    "+1.5 points: draws differ (5 draws; before: 5 seeds of one)": Case(gain=1.5, draws=5, sd_draws=1.0),
    '`ratio="auto"`, no effect: 5 seeds (before: 3), 5 ratios, 2,000 images': Case(
        ratios=CANDIDATES, held_out=(200,) * 10, auto=True
    ),
    '`ratio="auto"`, +1.5 points: 5 seeds (before: 3), 5 ratios, 2,000 images': Case(
        gain=1.5, ratios=CANDIDATES, held_out=(200,) * 10, auto=True
    ),
}


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        studies: Of each case.
        output_dir: Folder for simulation.json, to which results are added.
        table: Simulate nothing: print the table of this simulation.json.
    """

    studies: int = 1000
    output_dir: Path = Path("outputs/simulation")
    table: Path | None = None


@dataclass(frozen=True)
class Judged:
    """A rule's judgement of one study.

    Attributes:
        answer (str): its answer.
        difference (Difference): its estimate and interval.
        truth (float): the true difference between the arms that it compared, in [-1, 1].
    """

    answer: str
    difference: Difference
    truth: float


class SimulatedCells:
    """Answers of classifiers that were never trained, in the place of :class:`ganaug.evaluation.cells.Cells`.

    Whether an answer is right is a probit model with effects of the image, of the arm on the image, of the training,
    of the draw, and of the draw on the arm. The same cell always has the same answers.

    Args:
        case (Case): how large the effects are.
        rng (numpy.random.Generator): where they come from.
    """

    def __init__(self, case: Case, rng: np.random.Generator) -> None:
        self.case, self.rng, self.processes = case, rng, 1
        self.used: list[Cell] = []
        self._made: dict[tuple[Any, ...], Any] = {}
        # Folds, too, are asked about the held-out images first, and then about some of the training images.
        self._hard = HARD * self._normal(sum(case.held_out) + sum(TRAINING))

    def run(self, jobs: Sequence[Job], title: str) -> list[Cell]:
        """The cell of each job."""
        cells = [self._once(("cell", id(job.study), job.arm, job.seed), partial(self._cell, job)) for job in jobs]
        self.used += cells
        return cells

    def _once(self, key: tuple[Any, ...], make: Any) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _normal(self, images: int) -> Any:
        return self.rng.standard_normal(images, dtype=np.float32)

    def _cell(self, job: Job) -> Cell:
        case, study, arm = self.case, job.study, job.arm
        suits = self._once(("suits", arm), lambda: SUITS * self._normal(len(self._hard)))
        of_draw = self._once(("draw", id(study)), lambda: case.sd_draws * self.rng.normal())
        of_both = self._once(("both", id(study), arm), lambda: case.sd_draws / 2 * self.rng.normal())
        shift = level(case, arm) + of_draw + of_both + case.sd_seeds * self.rng.normal()
        targets = study.held_out.targets
        images = len(targets)
        chance = CHANCE * self._normal(images)
        right = USUAL + shift * POINT + self._hard[:images] + suits[:images] + chance > 0
        wrong = (targets + 1) % len(CLASSES)
        return Cell(torch.where(torch.from_numpy(right), targets, wrong), torch.full((images,), ACCURACY), 1.0)


def level(case: Case, arm: Arm) -> float:
    """By how many points an arm is better than the best one without generated images."""
    weaker = arm.augmentation != "trivial" or arm.ratio == 1
    return case.gain * (arm.generator is not None) - case.weaker * (weaker and not case.auto)


def accuracy(case: Case, arm: Arm) -> float:
    """The expected balanced accuracy of an arm: over images, trainings and draws."""
    chance = POINT * math.sqrt(case.sd_seeds**2 + 1.25 * case.sd_draws**2)
    return float(norm.cdf((USUAL + level(case, arm) * POINT) / math.hypot(SPREAD, chance)))


def made_up(counts: Sequence[int], first: int, *, train: bool) -> LabelledImages:
    """Images that are numbers, so that none is there twice."""
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    numbers = np.arange(first, first + len(targets), dtype=np.int32).view(np.uint8).reshape(-1, 1, 2, 2)
    return LabelledImages(torch.from_numpy(numbers), targets, CLASSES, "simulated", train=train)


def simulate(case: Case, studies: int, *, seed: int = 0) -> dict[str, list[Judged]]:
    """Judge studies by both rules; rule to judgements."""
    train, held_out = made_up(TRAINING, 1_000_000, train=True), made_up(case.held_out, 0, train=False)
    settings = UtilitySettings(seeds=case.seeds, ratios=case.ratios, learning_curve=False)
    generators: dict[str, Any] = {"it": object()}
    study = Study(train, held_out, generators, settings=settings)
    draws = Draws(tuple(Draw(train, generators) for _ in range(case.draws))) if case.draws > 1 else None
    plan = plan_of(study, draws)
    judging, choosing = held_out.split(CHOOSING)
    auto = replace(study, held_out=joined(choosing, judging))
    found: dict[str, list[Judged]] = {"before": [], "now": []}
    for number in trange(studies, leave=False, unit="study"):
        cells = SimulatedCells(case, np.random.default_rng([seed, number]))
        found["now"].append(_auto(case, auto, len(choosing), cells) if case.auto else _utility(case, plan, cells))
        found["before"].append(_before(case, plan, cells))
    return found


def _utility(case: Case, plan: Plan, cells: SimulatedCells) -> Judged:
    found = carry_out(plan, cells)
    verdict = found.verdicts["it"]
    truth = accuracy(case, verdict.primary.arm) - accuracy(case, found.reference.arm)
    return Judged(verdict.outcome, verdict.difference, truth)


def _auto(case: Case, study: Study, choosing: int, cells: SimulatedCells) -> Judged:
    choice = judged_ratio(study, choosing, cells)
    arm = Arm("ratio 0", study.settings.max_steps)
    mixed = replace(arm, generator="it", ratio=choice.best)
    return Judged(choice.outcome, choice.difference, accuracy(case, mixed) - accuracy(case, arm))


def _before(case: Case, plan: Plan, cells: SimulatedCells) -> Judged:
    """The rule until now: the first seeds choose the reference and the ratio, and are judged too.

    ``ratio="auto"`` took the best ratio, by three seeds, if it gained more than a standard error.
    """
    study, every, validation = plan.study, slice(None), len(plan.validation)
    choosing, judging = (every, every) if case.auto else (slice(validation), slice(validation, None))
    real = [Arm("ratio 0", study.settings.max_steps)] if case.auto else study.augmented_arms()[:3]

    answers: dict[Arm, Answers] = {}

    def best_of(arms: Sequence[Arm]) -> Arm:
        for arm in arms:
            jobs = [Job(study, arm, seed) for seed in range(AUTO_BEFORE if case.auto else case.seeds)]
            answers[arm] = answers_of(cells.run(jobs, arm.name), study.held_out)
        return max(arms, key=lambda arm: answers[arm].of(choosing).scores.mean().item())

    reference = best_of(real)
    primary = best_of(study.mixed_arms(*study.generators, reference))
    one, other = (answers[arm].of(judging) for arm in (primary, reference))
    made = _with_the_interval_before(one, other)
    helps = made.estimate > math.sqrt(made.repeat_variance) if case.auto else made.low > 0
    hurts = made.high < 0 and not case.auto
    answer = "helps" if helps else "hurts" if hurts else "no measurable effect"
    return Judged(answer, made, accuracy(case, primary) - accuracy(case, reference))


def _with_the_interval_before(one: Answers, other: Answers) -> Difference:
    """The difference with Satterthwaite's degrees of freedom, which the interval had until now."""
    made = paired_difference(one.correct, other.correct, one.targets, one.num_classes)
    per_image = (one.correct.double() - other.correct.double()).mean(0)
    of_classes = [per_image[one.targets == k] for k in range(one.num_classes)]
    of_images = sum(each.var().item() / len(each) for each in of_classes) / one.num_classes**2
    variance = max(made.standard_error**2, made.repeat_variance, of_images)
    of_each = made.repeat_variance**2 / (made.repeats - 1) + of_images**2 / (len(per_image) - one.num_classes)
    half = float(t.ppf(0.975, max(variance**2 / of_each, made.repeats - 1))) * math.sqrt(variance)
    return replace(made, low=made.estimate - half, high=made.estimate + half)


def summary(judged: Sequence[Judged]) -> dict[str, Any]:
    """Shares of the answers, coverage of the intervals, and bias of the estimates with its standard error."""
    answers = Counter(each.answer for each in judged)
    errors = np.array([each.difference.estimate - each.truth for each in judged])
    covered = [each.difference.low <= each.truth <= each.difference.high for each in judged]
    return {
        "answers": {answer: count / len(judged) for answer, count in answers.items()},
        "coverage": sum(covered) / len(judged),
        "bias": float(errors.mean()),
        "bias_error": float(errors.std(ddof=1) / math.sqrt(len(errors))),
    }


def measure(args: Arguments, results: Results) -> Iterator[None]:
    """Simulate the cases that were not simulated yet with as many studies."""
    for seed, name in enumerate(CASES):
        if results.get(name, {}).get("studies") == args.studies:
            continue
        rules = {rule: summary(judged) for rule, judged in simulate(CASES[name], args.studies, seed=seed).items()}
        results[name] = {"studies": args.studies, "machine": machine(), **rules}
        yield


def table(results: Results) -> str:
    """Markdown table of results, two rows to a case; shares in per cent, differences in points."""
    lines = [
        "| simulated studies | rule | helps | hurts | no worthwhile effect | cannot tell yet | coverage | bias |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in (name for name in CASES if name in results):
        for rule in ("before", "now"):
            row = results[name][rule]
            shares = [f"{100 * row['answers'].get(answer, 0):.1f} %" for answer in ("helps", "hurts", *ANSWERS_NOW)]
            if rule == "before":
                shares[2:] = ["-"] * len(ANSWERS_NOW)
            bias = f"{100 * row['bias']:+.2f} ± {100 * row['bias_error']:.2f}"
            cells = [name if rule == "before" else "", rule, *shares, f"{100 * row['coverage']:.1f} %", bias]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(args: Arguments) -> None:
    """Simulate, and print the table of all results so far."""
    fill_and_show("simulation", args, measure, table)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
