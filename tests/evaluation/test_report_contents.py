"""What a report takes from an evaluation, whose classifiers are made up and not trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

import pytest
import torch
from helpers.generators import make_generator
from helpers.images import small_images
from helpers.report_example import example_report
from PIL import Image

from ganaug.evaluation import Evaluation, Report, UtilitySettings
from ganaug.evaluation.cells import Cell, Job
from ganaug.evaluation.draws import Draw, Draws
from ganaug.evaluation.evaluate import Judged
from ganaug.evaluation.fidelity import Fidelity
from ganaug.evaluation.leakage import LeftOut
from ganaug.evaluation.plan import plan_of
from ganaug.evaluation.price import Price
from ganaug.evaluation.report.contents import report_of
from ganaug.evaluation.study import Arm, Study
from ganaug.evaluation.utility import carry_out

TRAIN, HELD_OUT = small_images(90, size=4), small_images(240, size=4, seed=1)


class MadeUp:
    """In the place of cells: classifiers that are right as often as a function of their arm says."""

    processes = 1

    def __init__(self, accuracy: Callable[[Arm], float]) -> None:
        self.accuracy = accuracy
        self.used: list[Cell] = []

    def run(self, jobs: Sequence[Job], title: str) -> list[Cell]:
        cells = []
        for job in jobs:
            targets = job.study.held_out.targets
            chance = torch.rand(len(targets), generator=torch.Generator().manual_seed(job.seed))
            # Every part of the images has the same share of right answers, but for chance in which ones they are.
            right = (torch.arange(len(targets)) * 0.618 + 0.05 * chance) % 1 < self.accuracy(job.arm)
            cells.append(Cell(torch.where(right, targets, (targets + 1) % 3), torch.full(targets.shape, 0.5), 2.0))
        self.used += cells
        return cells


def reported(accuracy: Callable[[Arm], float], *, draws: int = 0, **settings) -> Report:
    generator = make_generator(TRAIN.classes, image_size=4)
    generator.info = {"training": {"seconds": 3.0}}
    made = UtilitySettings(**{"ratios": (0.3, 0.5), "batch_size": 30, "learning_curve": False, **settings})
    study = Study(TRAIN, HELD_OUT, {"flow": generator}, settings=made)
    plan = plan_of(study, Draws(tuple(Draw(TRAIN, {"flow": generator}) for _ in range(draws))) if draws else None)
    found = carry_out(plan, MadeUp(accuracy))
    example = example_report(classes=TRAIN.classes).generators[0]
    fidelity = Fidelity(**{name: value for name, value in vars(example.fidelity).items() if name != "inception"})
    judged = Judged(fidelity, None, example.memorization, TRAIN, Image.new("L", (4, 4)))
    price, less = Price(1.0, 2.0, 40, 60, 0, 1.0), ("There is no learning curve",)
    evaluation = Evaluation(found, {"flow": judged}, {"flow": example.leakage}, LeftOut(260, 15, 5), 1.0, price, less)
    return report_of(evaluation, sources={"flow": "outputs/flow"}, classifier="tiny")


def best_at(*by_steps: float) -> Callable[[Arm], float]:
    """Accuracy of one augmentation after 1,000 steps, 2,000 and so on, and a bit more with its images generated."""

    def accuracy(arm: Arm) -> float:
        plain = arm.augmentation == "trivial" and not arm.mix and arm.learning_rate_factor == 1
        return (by_steps[(arm.steps // 1000).bit_length() - 1] if plain else 0.3) + 0.1 * arm.ratio

    return accuracy


def test_the_search_is_told_apart_from_what_was_judged():
    report = reported(best_at(0.5, 0.7, 0.7, 0.7))
    assert report.reference == "real + classic + TrivialAugment"
    assert {trial.steps for trial in report.search.trials if trial.name == report.reference} == {1000, 2000, 4000}
    assert [(trial.name, trial.steps) for trial in report.search.trials if trial.chosen] == [
        (report.reference, 2000),
        (report.generators[0].verdict.arm, 2000),
    ]
    assert report.reference_trial.gain == pytest.approx(0.2, abs=0.02)
    assert {len(trial.scores) for trial in report.search.trials if trial.generator is None} == {5}
    assert report.search.cross_validated
    assert [arm.name for arm in report.arms] == [
        report.reference,
        f"{report.reference}, 2 times the steps",
        f"{report.reference} + 50 % generated",
        "generated only",
    ]
    assert [arm.steps for arm in report.arms] == [2000, 4000, 2000, 2000]
    assert [arm.epochs for arm in report.arms] == pytest.approx([2000 / 3, 4000 / 3, 1000 / 3, 0])
    assert [len(arm.scores) for arm in report.arms] == [5, 3, 5, 3]
    json.dumps(asdict(report), allow_nan=False)


@pytest.mark.parametrize(
    ("by_steps", "max_steps", "rising"),
    [
        ((0.5, 0.6, 0.7), 4000, True),  # the last doubling paid, and none was left
        ((0.5, 0.7, 0.7), 4000, False),  # it did not pay
        ((0.5, 0.7, 0.6), 4000, False),  # the doubling before it did, and this one not
        ((0.7, 0.7, 0.7), 4000, False),  # the shortest is the best
        ((0.5,), 1999, None),  # none was tried
    ],
)
def test_whether_more_steps_would_help_the_reference(by_steps, max_steps, rising):
    # The arm with twice the steps is judged, too.
    report = reported(best_at(*by_steps, 0.7, 0.7), max_steps=max_steps)
    assert report.search.rising is rising


def test_with_draws_the_seeds_are_those_that_were_trained():
    report = reported(best_at(0.5, 0.7, 0.7, 0.7), draws=3, seeds=4)
    assert report.given_up == ("There is no learning curve",)
    assert report.settings.seeds == tuple(range(1000, 1006))  # two for each draw
    assert len(report.reference_arm.scores) == 6
    assert report.draws == 3
    assert "3 independent draws of the images" in report.covers
