"""The search for the best training without generated images, and for the ratio: what is tried, and what is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, replace

import pytest
import torch
from helpers.evaluated import digits_in_parts
from hypothesis import given
from hypothesis import strategies as st

from ganaug.data import joined
from ganaug.evaluation import UtilitySettings
from ganaug.evaluation.search import Scored, best_of, folds_of, search_reference
from ganaug.evaluation.study import Arm, Study

SETTINGS = UtilitySettings(steps=1000, max_steps=4000)


@pytest.fixture(scope="module")
def study() -> Study:
    train, _, _, held_out = digits_in_parts(6, 8)
    return Study(train, held_out, {}, settings=SETTINGS)


@pytest.fixture(scope="module")
def imbalanced(study) -> Study:
    return replace(study, train=study.train.take([6] * 9 + [5])[0])


class MadeUpScores:
    """Scores that nobody measured, and the arms that were asked for."""

    def __init__(self, accuracy: Callable[[Arm], float]) -> None:
        self.accuracy, self.asked = accuracy, []

    def __call__(self, arms: Sequence[Arm]) -> list[Scored]:
        self.asked += arms
        return [Scored(torch.tensor([self.accuracy(arm)] * 2, dtype=torch.float64), 1.0) for arm in arms]

    def steps(self, **of: object) -> list[int]:
        """Of the arms that were asked for and are such."""
        return [arm.steps for arm in self.asked if all(getattr(arm, name) == value for name, value in of.items())]


def plain(arm: Arm) -> bool:
    return not (arm.mix or arm.oversampled or arm.class_balanced or arm.learning_rate_factor != 1)


def found_with(study: Study, accuracy: Callable[[Arm], float]):
    score = MadeUpScores(accuracy)
    trials = search_reference(study, score)
    assert [trial.arm for trial in trials] == score.asked
    return best_of(trials), score


def test_an_augmentation_that_pays_late_is_found(study):
    late = {1000: 0.60, 2000: 0.69, 4000: 0.75}

    def accuracy(arm: Arm) -> float:
        return (late[arm.steps] if arm.augmentation == "rand" else 0.70) - 0.1 * (not plain(arm))

    best, score = found_with(study, accuracy)
    assert (best.arm.augmentation, best.arm.steps, best.mean) == ("rand", 4000, pytest.approx(0.75))
    assert best.rising  # and there were no more steps
    assert best.gain == pytest.approx(0.06)
    assert score.steps(augmentation="classic") == [1000, 2000]


def test_a_plateau_ends_the_race(study):
    best, score = found_with(study, lambda arm: 0.7 - 0.1 * (not plain(arm)))
    for augmentation, steps in {"none": [1000, 2000, 4000], "trivial": [1000, 2000], "rand": [1000, 2000]}.items():
        assert score.steps(augmentation=augmentation, mix=False, learning_rate_factor=1.0) == steps
    assert best.arm.steps == 1000
    assert not best.rising
    best, score = found_with(replace(study, settings=replace(SETTINGS, max_steps=1000)), lambda arm: 0.7)
    assert set(score.steps()) == {1000}
    assert best.gain is None


def test_the_best_gets_more_steps_although_a_doubling_brought_nothing(study):
    """By chance, it may be: two trainings choose."""
    chance = {1000: 0.70, 2000: 0.70, 4000: 0.73}
    best, _ = found_with(study, lambda arm: chance[arm.steps] - 0.1 * (arm.augmentation != "trivial" or arm.mix))
    assert (best.arm.augmentation, best.arm.steps) == ("trivial", 4000)
    assert best.gain == pytest.approx(0.03)


def test_an_arm_that_cannot_catch_up_gets_no_more_steps(study):
    """It still rises, by a point for each doubling, and is ten points behind; a weaker one would not even rise."""
    gains = {1000: 0, 2000: 0.01, 4000: 0.02}
    far = {"none": 0.0, "rand": 0.0, "trivial": 0.1, "classic": 0.2}
    best, score = found_with(study, lambda arm: gains[arm.steps] + far[arm.augmentation])
    assert score.steps(augmentation="none") == [1000]
    assert score.steps(augmentation="rand") == score.steps(augmentation="trivial") == [1000, 2000]
    assert score.steps(augmentation="classic", mix=False, learning_rate_factor=1.0) == [1000, 2000, 4000]
    assert best.rising


def test_the_second_gets_all_steps_if_it_is_close(study):
    for behind, steps in ((0.008, [1000, 2000, 4000]), (0.012, [1000, 2000])):
        level = {"none": 0.0, "classic": 0.7, "trivial": 0.0, "rand": 0.7 - behind}
        _, score = found_with(study, lambda arm, level=level: level[arm.augmentation] - 0.1 * (not plain(arm)))
        assert score.steps(augmentation="rand") == steps  # it is the stronger, so it gets twice the steps once
        assert 4000 in score.steps(augmentation="classic")


def test_the_best_gets_all_steps_whatever_another_promises(study):
    """Two gains by chance of two trainings must not keep it from its steps."""
    late = {1000: 0.7, 2000: 0.78, 4000: 0.78}

    def accuracy(arm: Arm) -> float:
        if arm.learning_rate_factor != 1:
            return 0.0
        return (
            0.8 + 0.01 * (arm.steps == 4000)
            if arm.mix
            else late[arm.steps] - 0.2 * (arm.augmentation in ("none", "rand"))
        )

    best, score = found_with(study, accuracy)
    assert (best.arm.mix, best.arm.steps) == (True, 4000)
    assert 4000 in score.steps(augmentation="classic", mix=False) + score.steps(augmentation="trivial", mix=False)


def test_where_one_doubling_is_all_there_is_what_pays_late_gets_it(study):
    late = {1000: 0.68, 2000: 0.71}

    def accuracy(arm: Arm) -> float:
        return (late[arm.steps] if arm.augmentation == "rand" else 0.70) - 0.1 * (not plain(arm))

    best, _ = found_with(replace(study, settings=replace(SETTINGS, max_steps=2000)), accuracy)
    assert (best.arm.augmentation, best.arm.steps) == ("rand", 2000)


@pytest.mark.parametrize("balance", ["oversampled", "class_balanced"])
def test_what_pays_alone_is_tried_together(imbalanced, balance):
    def accuracy(arm: Arm) -> float:
        return 0.6 + 0.1 * (arm.augmentation == "trivial") + 0.03 * arm.mix + 0.02 * getattr(arm, balance)

    best, _ = found_with(imbalanced, accuracy)
    assert best.arm.mix
    assert getattr(best.arm, balance)
    assert best.arm.name.endswith("+ MixUp/CutMix")
    assert best.mean == pytest.approx(0.75)


def test_balancing_is_tried_on_the_best_two_augmentations_where_classes_are_imbalanced(study, imbalanced):
    order = {"none": 0.5, "classic": 0.7, "trivial": 0.65, "rand": 0.6}
    _, score = found_with(imbalanced, lambda arm: order[arm.augmentation])
    assert {arm.augmentation for arm in score.asked if arm.oversampled} == {"classic", "trivial"}
    assert {arm.augmentation for arm in score.asked if arm.class_balanced} == {"classic", "trivial"}
    _, score = found_with(study, lambda arm: order[arm.augmentation])
    assert not any(arm.oversampled or arm.class_balanced for arm in score.asked)


@pytest.mark.parametrize(
    ("best", "tried"),
    [(1, {1, 1 / 3, 3}), (1 / 3, {1, 1 / 3, 1 / 9}), (1 / 9, {1, 1 / 3, 1 / 9}), (9, {1, 1 / 3, 3, 9})],
)
def test_learning_rates_are_tried_in_the_direction_that_pays(study, best, tried):
    def accuracy(arm: Arm) -> float:
        return 0.7 - 0.01 * abs(torch.log(torch.tensor(arm.learning_rate_factor / best)).item())

    found, score = found_with(study, accuracy)
    assert found.arm.learning_rate_factor == pytest.approx(best)
    rates = [arm.learning_rate_factor for arm in score.asked]
    assert {round(rate, 3) for rate in rates} == {round(rate, 3) for rate in tried}


@given(st.integers(0, 10_000), st.booleans())
def test_the_number_of_trainings_is_bounded_and_none_is_repeated(study, imbalanced, seed, balanced):
    generator = torch.Generator().manual_seed(seed)
    _, score = found_with(study if balanced else imbalanced, lambda arm: torch.rand((), generator=generator).item())
    # Each with three numbers of steps: the augmentations, and what is added to the best or the best two; then rates.
    assert len(score.asked) <= 3 * 4 + 3 * (1 if balanced else 2 * 4) + 4
    assert max(score.steps()) <= 4000
    assert len({astuple(replace(arm, name="")) for arm in score.asked}) == len(score.asked)


def test_folds_divide_each_class_and_keep_copies_together(study):
    train = joined(study.train, study.train.take([2] * 10)[0])  # two images of each class are there twice
    study = replace(study, train=train)
    validation = 90
    folds = folds_of(study, validation)
    assert len(folds) == 5
    left_out = []
    for fold in folds:
        held_out = fold.study.held_out
        assert torch.equal(held_out.images[: len(study.held_out)], study.held_out.images)
        assert fold.scored_by[:validation].tolist() == list(range(validation))
        assert fold.scored_by[validation:].tolist() == list(range(len(study.held_out), len(held_out)))
        mine = held_out.image_hashes[len(study.held_out) :]
        assert not torch.isin(fold.study.train.image_hashes, mine).any()
        assert len(fold.study.train) + len(mine) == len(train)
        assert min(fold.study.train.class_counts) >= 4
        left_out.append(mine)
    assert torch.equal(torch.cat(left_out).sort().values, train.image_hashes.sort().values)


def test_what_cannot_be_divided_is_not(study):
    four = replace(study, train=study.train.take([6] * 9 + [4])[0])
    copies = replace(study, train=joined(four.train, four.train))  # eight images, but four different ones
    for each in (four, copies):
        folds = folds_of(each, 90)
        assert [fold.study for fold in folds] == [each, each]
        assert all(fold.scored_by.tolist() == list(range(90)) for fold in folds)
    assert [fold.study for fold in folds_of(study, 1000)] == [study, study]
