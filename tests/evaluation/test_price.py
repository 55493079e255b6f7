"""What an evaluation says that it will take, from timings that are given, so that no test depends on the machine."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.evaluated import QUICK, Replay, TinyClassifier, digits_in_parts
from hypothesis import given
from hypothesis import strategies as st

from ganaug import InputError, LabelledImages
from ganaug.evaluation import UtilitySettings, choose_ratio, evaluate
from ganaug.evaluation.cells import Cell, Cells, Job
from ganaug.evaluation.draws import Draw, Draws
from ganaug.evaluation.plan import Plan, plan_of
from ganaug.evaluation.price import (
    SPREAD,
    Price,
    Tally,
    expected_half_width,
    given_up,
    in_minutes,
    nothing_left_out,
    price_of,
    within_budget,
)
from ganaug.evaluation.search import FOLDS, SEEDS, Scored, best_of, choose_ratios, search_reference
from ganaug.evaluation.statistics import paired_difference
from ganaug.evaluation.study import Arm, Study
from ganaug.evaluation.timings import Timings, time_parts
from ganaug.evaluation.utility import carry_out

EACH = ("none", "classic", "trivial", "rand", "own")
# A second for each step, and nothing else.
STEPS_ALONE = Timings(0, 0, dict.fromkeys(EACH, 1.0), 0, 0, {"it": 0.0}, {"it": 0.0})
DEFAULTS = UtilitySettings(batch_size=32)
LEAST = replace(
    DEFAULTS, seeds=3, steps=125, max_steps=125, ratios=(0.5,), augmentations=("classic",), learning_curve=False
)


@pytest.fixture(scope="module")
def study() -> Study:
    train, known, _, held_out = digits_in_parts(10, 10)
    return Study(train, held_out, {"it": Replay(known)}, factory=TinyClassifier, settings=DEFAULTS)


@pytest.fixture(scope="module")
def plan(study) -> Plan:
    return plan_of(study)


@pytest.fixture
def cells(plan, tmp_path) -> Cells:
    return plan.cells(tmp_path, 1)


class Scripted(Cells):
    """Cells whose classifiers are right as often as a stream of random numbers says, and which notes what it ran."""

    def __init__(self, plan: Plan, folder: Path, seed: int) -> None:
        super().__init__([plan.study, *(fold.study for fold in plan.folds), *plan.judged], folder)
        self.random, self.ran = torch.Generator().manual_seed(seed), {}

    def run(self, jobs, title):
        for job in jobs:
            if self.path(job) not in self.ran:
                targets = job.study.held_out.targets
                right = torch.rand(len(targets), generator=self.random) < torch.rand(1, generator=self.random)
                predicted = torch.where(right, targets, (targets + 1) % 10)
                self.ran[self.path(job)] = job, Cell(predicted, torch.full((len(targets),), 0.5), 1.0)
        found = [self.ran[self.path(job)][1] for job in jobs]
        self.used += found
        return found


@pytest.mark.parametrize("seed", range(8))
def test_no_search_takes_less_than_the_least_or_more_than_the_most(plan, tmp_path, seed):
    plan = plan.with_settings(replace(DEFAULTS, max_steps=8000, learning_curve=False))
    cells = Scripted(plan, tmp_path, seed)
    carry_out(plan, cells)
    taken = sum(STEPS_ALONE.of_cell(job) for job, _ in cells.ran.values())
    price = price_of(plan, cells, STEPS_ALONE)
    compared = 2 * 1000  # steps of the classifiers by which images are compared, of the shortest reference
    assert 60 * price.minutes <= taken + compared <= 60 * price.most_minutes
    assert price.cells <= len(cells.ran)


def taken(plan: Plan, accuracy: Callable[[Arm], float]) -> float:
    """Seconds of steps of an evaluation in which classifiers are as good as is said, and in which all is trained."""
    seconds = 0.0

    def score_by(trainings):
        def score(arms):
            nonlocal seconds
            steps = [STEPS_ALONE.of_cell(Job(plan.study, arm, 0)) for arm in arms]
            seconds += trainings * sum(steps)
            return [Scored(torch.tensor([accuracy(arm)] * 2), each) for arm, each in zip(arms, steps, strict=True)]

        return score

    reference = best_of(search_reference(plan.study, score_by(len(plan.folds))))
    mixed = choose_ratios(plan.study, reference.arm, score_by(SEEDS))
    seeds, _ = plan.judged_arms(reference, [best_of(each).arm for each in mixed.values()])
    compared = 2 * plan.study.settings.steps
    return seconds + sum(STEPS_ALONE.of_cell(job) for job in plan.judging(seeds)) + compared


def additions_pay(arm: Arm) -> float:
    """Twice the steps pay in what is added to an augmentation, and not in the augmentation itself."""
    order = 1e-5 * ["none", "classic", "trivial", "rand"].index(arm.augmentation)
    added = arm.mix + arm.oversampled + arm.class_balanced
    if arm.learning_rate_factor < 1:
        return 0.0
    if not added and arm.learning_rate_factor == 1:
        return 0.7 + order - 0.001 * (arm.steps > 1000)
    rise = {1000: -0.005, 2000: 0.001, 4000: 0.007, 8000: 0.02}[arm.steps]
    higher = (arm.learning_rate_factor > 1) + (arm.learning_rate_factor > 4)
    return 0.6995 + 0.0003 * added + rise + order + 0.0004 * higher


def all_steps_pay(arm: Arm) -> float:
    """The more is added the better, in whatever number of steps but the highest, which pays."""
    added = arm.mix + arm.oversampled + arm.class_balanced + math.log(max(arm.learning_rate_factor, 1), 3)
    order = 1e-5 * ["none", "classic", "trivial", "rand"].index(arm.augmentation)
    return (0.7 + 0.002 * added + order + 0.006 * (arm.steps > 2000)) * (arm.learning_rate_factor >= 1)


@pytest.mark.parametrize("accuracy", [additions_pay, all_steps_pay])
@pytest.mark.parametrize("max_steps", [1000, 2000, 4000, 8000])
@pytest.mark.parametrize("balanced", [True, False])
def test_no_search_takes_more_than_the_most_wherever_more_steps_pay(study, tmp_path, accuracy, max_steps, balanced):
    train = study.train if balanced else study.train.take([10] * 9 + [6])[0]
    settings = replace(DEFAULTS, max_steps=max_steps, learning_curve=False)
    plan = plan_of(replace(study, train=train, settings=settings))
    price = price_of(plan, plan.cells(tmp_path, 1), STEPS_ALONE)
    assert 60 * price.minutes <= taken(plan, accuracy) <= 60 * price.most_minutes


def test_the_price_of_settings_that_leave_nothing_open_is_exact(plan, cells):
    """One augmentation, no doublings: five-fold cross-validation, the ratios twice, the verdict."""
    settings = replace(DEFAULTS, steps=100, max_steps=100, augmentations=("classic",), ratios=(0.5,), seeds=4)
    price = price_of(plan.with_settings(replace(settings, learning_curve=False)), cells, STEPS_ALONE)
    searched = FOLDS * (1 + 1 + 2)  # the arm, MixUp/CutMix, a lower and a higher learning rate
    judged = 4 + 4 + 3  # reference and primary arm, and generated images alone
    assert price.cells == searched + SEEDS + judged
    assert price.most_cells == price.cells + FOLDS  # a still higher learning rate
    assert 60 * price.minutes == pytest.approx(100 * (price.cells + 2))
    assert 60 * price.most_minutes == pytest.approx(100 * (price.most_cells + 2))
    # Four sizes of the training set, of which three are smaller than the given one; 0.125 of ten images is one. They
    # are needed only if there is a difference that they put a worth on.
    with_curve = price_of(plan.with_settings(settings), cells, STEPS_ALONE)
    assert (with_curve.cells, with_curve.most_cells) == (price.cells, price.most_cells + 3 * 3)


def test_each_part_is_counted_where_it_is_used(study, plan, cells):
    arm = Arm("mixed", 10, "trivial", mix=True, generator="it", ratio=0.5)
    job = Job(plan.study, arm, 7)
    timings = Timings(1000, 3, {"trivial": 2.0}, 0.5, 0.01, {"it": 4.0}, {"it": 0.1})
    cell = 3 + 10 * (2 + 0.5) + 0.01 * len(study.held_out)
    assert timings.of_cell(job) == pytest.approx(cell)
    drawing = 4 + 320 * 0.1  # it sees 10 batches of 32; there are 100 real images
    tally = Tally(cells, timings)
    tally.run([job])
    assert tally.seconds == pytest.approx(cell + drawing)
    tally.run([job])
    assert (tally.trained, tally.seconds) == (1, pytest.approx(cell + drawing))
    # Arms with the same seed share their images, those with another have their own.
    shared, other = Job(plan.study, replace(arm, ratio=0.8), 8), Job(plan.study, arm, 8)
    before = tally.seconds
    tally.run([shared, other])
    assert tally.seconds - before == pytest.approx(2 * cell + drawing + 1000)


def test_several_processes_share_a_round_and_are_started_for_it(plan, tmp_path):
    tally = Tally(plan.cells(tmp_path, 2), replace(STEPS_ALONE, start=5))
    tally.run([Job(plan.study, Arm("a", steps), 0) for steps in (40, 10, 20, 5)])
    assert tally.seconds == 5 + 40
    tally.run([Job(plan.study, Arm("a", 1000), 0)])  # one alone is trained without starting any
    assert tally.seconds == 45 + 1000


def test_what_is_kept_costs_nothing_and_its_scores_are_known(study, tmp_path):
    settings = replace(QUICK, seeds=2, steps=5, max_steps=10, augmentations=("none",), learning_curve=False)
    plan = plan_of(replace(study, settings=settings))
    cells = plan.cells(tmp_path, 1)
    before = price_of(plan, cells, STEPS_ALONE)
    assert before.kept == 0
    found = carry_out(plan, cells)
    after = price_of(plan, cells, STEPS_ALONE)
    assert (after.cells, after.most_cells, after.kept) == (0, 0, len({id(cell) for cell in cells.used}))
    assert after.minutes == after.most_minutes == pytest.approx(2 * 5 / 60)
    assert before.cells <= after.kept <= before.most_cells
    assert "kept" in after.sentence
    assert found.study is plan.study


@given(st.integers(2, 50), st.integers(50, 10**6), st.integers(1, 20))
def test_more_seeds_make_the_interval_narrower(repeats, images, more):
    assert expected_half_width(repeats + more, [images]) < expected_half_width(repeats, [images])


def test_the_expected_interval_is_students():
    assert expected_half_width(5, [10**9]) == pytest.approx(2.776 * 0.7 / 5**0.5, rel=1e-3)
    assert expected_half_width(100, [50] * 4) == pytest.approx(1.96, rel=0.02)  # 2 % of 200 images: +-1 point


def test_small_classes_of_the_test_images_widen_the_expected_interval():
    """The score is the mean of the classes' recalls, so the rarest class decides."""
    widths = [expected_half_width(100, counts) for counts in ([10, 590], [50, 150], [100, 100])]
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) == 3


@given(st.integers(2, 6), st.integers(1, 3), st.floats(0, 1), st.integers(0, 10_000))
def test_the_expected_interval_is_that_of_answers_which_vary_as_assumed(draws, of_each, shared, seed):
    """Test images are many, so that trainings and draws alone make it wide."""
    trainings = draws * of_each
    found = expected_half_width(trainings, [10**12], draws=draws, shared=shared)
    means = [torch.zeros(200, dtype=torch.bool) for _ in range(draws)]
    for mean, right in zip(means, torch.randperm(100, generator=torch.Generator().manual_seed(seed)), strict=False):
        mean[: int(right)] = True
    one = torch.stack(means).repeat(of_each, 1)
    made = paired_difference(
        one, torch.zeros_like(one), torch.arange(200) % 2, 2, [k % draws for k in range(trainings)], shared=shared
    )
    of_draws = replace(made, image_variance=0.0)
    spread = (of_draws.repeat_variance * draws) ** 0.5  # between the draws
    low, high = of_draws.interval(0.95)
    assert (high - low) / 2 / spread == pytest.approx(found / (0.7 / of_each**0.5), rel=1e-4)


def budget(plan, cells, minutes):
    return within_budget(plan, cells, STEPS_ALONE, minutes)


def test_a_budget_leaves_out_what_the_verdict_needs_least_first(study, tmp_path):
    # With so many held-out images there is no cross-validation, so a price is told sooner.
    targets = torch.arange(4000) % 10
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (4000, 1, 8, 8), dtype=torch.uint8, generator=random)
    plan = plan_of(replace(study, held_out=LabelledImages(images, targets, study.train.classes, "many")))
    cells = plan.cells(tmp_path, 1)
    whole = price_of(plan, cells, STEPS_ALONE)
    settings, price = budget(plan, cells, whole.most_minutes)
    assert (settings, price) == (DEFAULTS, replace(whole, full_half_width=whole.half_width))
    assert price.sentence == whole.sentence
    left, minutes = [], price.most_minutes
    while settings != LEAST:
        settings, price = budget(plan, cells, minutes := 0.96 * minutes)
        assert price.most_minutes <= minutes or settings == LEAST
        left.append(settings)

    def first(changed):
        return next(k for k, settings in enumerate(left) if changed(settings))

    order = [
        first(lambda found: not found.learning_curve),
        first(lambda found: len(found.ratios) < 3),
        first(lambda found: "rand" not in found.augmentations),
        first(lambda found: found.max_steps < 4000),
        first(lambda found: found.seeds < 5),
        first(lambda found: "trivial" not in found.augmentations),
        first(lambda found: found.steps < 1000),
    ]
    assert order == sorted(order)
    assert len(set(order)) == len(order)


def test_what_is_given_up_is_said_with_what_it_costs(plan, cells):
    minutes = price_of(plan, cells, STEPS_ALONE).most_minutes
    _, price = budget(plan, cells, 0.95 * minutes)
    assert len(price.given_up) == 1
    assert "learning curve" in price.given_up[0]
    assert "as without the budget" in price.sentence
    settings, price = within_budget(plan, cells, STEPS_ALONE, minutes / 7, fixed={"steps"})
    assert settings.seeds == 3
    counts = plan.test.class_counts
    assert price.half_width == expected_half_width(3, counts) > expected_half_width(5, counts)
    assert price.full_half_width == expected_half_width(5, counts)
    assert f"±{price.half_width:.1f} points (±{price.full_half_width:.1f} without" in price.sentence
    assert any("3 seeds judge instead of 5" in each for each in price.given_up)
    assert all(each in price.sentence for each in price.given_up)


def test_what_flags_leave_out_is_given_up_as_what_a_budget_does(plan, cells):
    """A command that goes on after a budget names in flags what that had left out, and has no budget any more."""
    minutes = price_of(plan, cells, STEPS_ALONE).most_minutes
    settings, price = within_budget(plan, cells, STEPS_ALONE, minutes / 7, fixed={"steps"})
    assert list(given_up(nothing_left_out(settings), settings)) == list(price.given_up)
    assert len(price.given_up) > 2
    assert list(given_up(nothing_left_out(DEFAULTS), DEFAULTS)) == []
    # Of what is more than usual, only what was left out of it.
    more = replace(DEFAULTS, seeds=9, max_steps=8000, ratios=(0.1, *DEFAULTS.ratios))
    assert list(given_up(nothing_left_out(more), more)) == []
    assert len(list(given_up(nothing_left_out(more), DEFAULTS))) == 3


def test_a_budget_that_is_too_small_says_what_would_do(plan, cells):
    with pytest.raises(InputError, match="too little") as refused:
        budget(plan, cells, 1)
    enough = float(str(refused.value).split("at least ")[1].split()[0])
    settings, price = budget(plan, cells, enough)
    assert settings == LEAST
    assert price.minutes <= enough < price.most_minutes  # it may take longer, which is said


def test_what_fits_after_all_is_put_back(plan, cells):
    """Before the steps are halved, all else is left out; then there is room for some of it."""
    price = price_of(plan.with_settings(replace(LEAST, steps=250, max_steps=250)), cells, STEPS_ALONE)
    settings, price = budget(plan, cells, 0.999 * price.most_minutes)
    assert settings.steps == 125
    assert settings.seeds > 3
    assert "trivial" in settings.augmentations or "none" in settings.augmentations


def test_a_budget_goes_into_more_seeds_where_the_least_is_kept(study, tmp_path, monkeypatch):
    plan = plan_of(replace(study, settings=replace(DEFAULTS, augmentations=("classic",))))
    cells = plan.cells(tmp_path, 1)
    minutes = price_of(plan.with_settings(LEAST), cells, STEPS_ALONE).most_minutes
    settings, _ = budget(plan, cells, minutes)
    assert (settings.steps, settings.seeds) == (125, 3)
    earlier = Scripted(plan, tmp_path, 0)
    carry_out(plan.with_settings(settings), earlier)
    monkeypatch.setattr(cells, "kept", lambda job: earlier.ran.get(cells.path(job), (job, None))[1])
    again, price = budget(plan, cells, minutes)
    assert (again.steps, again.seeds) == (125, 5)
    assert price.kept > 0


def test_what_is_fixed_stays(plan, cells):
    whole = price_of(plan, cells, STEPS_ALONE)
    settings, price = within_budget(
        plan, cells, STEPS_ALONE, whole.most_minutes / 10, fixed={"seeds", "ratios", "learning_curve", "batch_size"}
    )
    assert (settings.seeds, settings.ratios, settings.learning_curve) == (5, DEFAULTS.ratios, True)
    assert settings.steps < 1000
    assert price.most_minutes <= whole.most_minutes / 10
    with pytest.raises(InputError, match="leave max_steps and seeds to it"):
        within_budget(plan, cells, STEPS_ALONE, 10, fixed={"seeds", "max_steps", "batch_size"})


@pytest.mark.parametrize("fixed", [("seed", "steps"), "seeds"])
def test_a_fixed_setting_that_is_none_is_refused(plan, cells, fixed):
    with pytest.raises(InputError, match="no setting; settings are seeds, steps, "):
        within_budget(plan, cells, STEPS_ALONE, 10**6, fixed=fixed)


@pytest.mark.parametrize("minutes", [0, -1, float("inf"), float("nan")])
def test_a_budget_is_positive_and_finite(plan, cells, minutes):
    with pytest.raises(InputError, match="budget_minutes"):
        budget(plan, cells, minutes)


def test_seeds_are_given_up_in_whole_rounds_over_the_draws(study, tmp_path):
    draws = Draws(tuple(Draw(study.train, study.generators, None) for _ in range(2)))
    plan = plan_of(replace(study, settings=replace(DEFAULTS, seeds=7)), draws)
    cells = plan.cells(tmp_path, 1)
    minutes = price_of(plan, cells, STEPS_ALONE).most_minutes / 7
    least = within_budget(plan, cells, STEPS_ALONE, minutes, fixed={"steps"})[0]
    assert least.seeds == 4  # two of each draw; one of each would be fewer than three


def test_an_interval_over_draws_is_expected_as_it_is_computed(study, tmp_path):
    """Each draw counts once; and what draws have in common stays, however many there are."""
    spread = SPREAD / 2**0.5  # of the mean of two trainings
    many = [10**9]
    assert expected_half_width(6, many, draws=3) == pytest.approx(4.303 * spread / 3**0.5, rel=1e-3)
    assert expected_half_width(6, many, draws=3, shared=1) == pytest.approx(4.303 * spread * (4 / 3) ** 0.5, rel=1e-3)
    draws = Draws(tuple(Draw(study.train, study.generators, None) for _ in range(3)), shared=1.0)
    plan = plan_of(study, draws)
    price = price_of(plan, plan.cells(tmp_path, 1), STEPS_ALONE)
    assert price.half_width == expected_half_width(len(plan.draw_of), plan.test.class_counts, draws=3, shared=1.0)
    assert "no more between draws" in price.sentence


def test_generators_of_the_draws_are_trained_within_the_budget_and_after_the_price(study, tmp_path, caplog):
    class TrainedError(Exception):
        pass

    def train(draws):
        assert not any(torch.isin(draw.extra.image_hashes, study.held_out.image_hashes).any() for draw in draws.each)
        assert any("of it to train generators again" in message for message in caplog.messages)
        raise TrainedError

    each = tuple(Draw(study.train, study.generators, extra=study.held_out) for _ in range(2))
    options = {"factory": TinyClassifier, "settings": quick_settings(), "cache_dir": tmp_path}
    given = (study.train, study.held_out, study.generators)
    with caplog.at_level(logging.WARNING), pytest.raises(TrainedError):
        evaluate(*given, draws=Draws(each, train_generators=train, seconds=600.0), **options)
    with pytest.raises(InputError, match="at least 1[01] minutes"):
        evaluate(*given, draws=Draws(each, train_generators=train, seconds=600.0), budget_minutes=9, **options)


def test_minutes_in_words():
    assert in_minutes(0.1, 0.9) == "less than a minute"
    assert in_minutes(0.1, 1) == "1 minute"
    assert in_minutes(3.2, 12.6) == "3 to 13 minutes"
    assert in_minutes(90, 600) == "1.5 to 10.0 hours"
    sentence = Price(3, 12, 1000, 2000, 0, 0.8).sentence
    assert "3 to 12 minutes" in sentence
    assert "1,000 to 2,000 classifiers" in sentence


def test_every_part_is_timed(study, cells):
    timings = time_parts(replace(study, settings=QUICK), cells, ("none", "rand"))
    assert timings.step.keys() == {"none", "rand"}
    assert all(seconds > 0 for seconds in (*timings.step.values(), timings.making, timings.asking))
    assert timings.opening["it"] > 0
    assert timings.drawing["it"] > 0
    assert timings.start == 0
    assert timings.mixing >= 0


def quick_settings(**changes):
    options = {"seeds": 2, "steps": 5, "max_steps": 5, "batch_size": 8, "learning_curve": False}
    return UtilitySettings(**{**options, "augmentations": ("none",), "ratios": (0.5,), **changes})


def quickly_evaluated(study, cache_dir, **options):
    options = {"factory": TinyClassifier, "settings": quick_settings(), "cache_dir": cache_dir, **options}
    return evaluate(study.train, study.held_out, study.generators, **options)


def test_the_evaluation_says_its_price_before_it_starts(study, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        found = quickly_evaluated(study, tmp_path)
    assert found.price.sentence in caplog.messages
    assert found.price.cells <= found.utility.cells <= found.price.most_cells


def test_a_refused_budget_trains_nothing(study, tmp_path):
    with pytest.raises(InputError, match="budget_minutes"):
        quickly_evaluated(study, tmp_path, budget_minutes=0)
    assert not list(tmp_path.iterdir())


def test_the_choice_of_a_ratio_says_how_many_minutes(study, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        choose_ratio(
            study.train,
            study.held_out,
            Replay(study.train),
            factory=TinyClassifier,
            settings=quick_settings(),
            candidates=(0.2, 0.5),
            cache_dir=tmp_path,
        )
    assert f"{2 * SEEDS + 2 * 2} classifiers" in caplog.text
    assert "minute" in caplog.text


@pytest.mark.parametrize("wrong", [(), ("none", "best"), ("own",), ("none", "rand", "none")])
def test_augmentations_are_named_each_once(wrong):
    with pytest.raises(InputError, match="augmentations"):
        UtilitySettings(augmentations=wrong)


def test_only_the_named_augmentations_are_searched(study):
    some = replace(study, settings=replace(DEFAULTS, augmentations=("rand", "none")))
    assert [arm.augmentation for arm in some.augmented_arms()] == ["none", "rand"]  # from the weakest
    with_own = replace(some, own_augmentation=lambda images: images)
    assert [arm.augmentation for arm in with_own.augmented_arms()] == ["none", "rand", "own"]
