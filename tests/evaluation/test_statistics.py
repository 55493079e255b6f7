"""Scores, intervals and learning curves: the arithmetic of the verdict."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, f1_score

from ganaug.evaluation.learning_curve import PowerLaw, learning_curve
from ganaug.evaluation.statistics import (
    Difference,
    balanced_accuracy,
    calibration_error,
    macro_f1,
    paired_difference,
    recalls,
)
from ganaug.evaluation.verdict import outcome_of


def test_balanced_accuracy_is_scikit_learns():
    rng = np.random.default_rng(0)
    targets = torch.from_numpy(rng.choice(4, size=200, p=[0.5, 0.3, 0.15, 0.05]))
    predicted = torch.from_numpy(rng.integers(4, size=(3, 200)))
    scores = balanced_accuracy(predicted == targets, targets, 4)
    assert scores.tolist() == pytest.approx([balanced_accuracy_score(targets, row) for row in predicted])
    assert recalls(predicted == targets, targets, 4).mean(1).tolist() == pytest.approx(scores.tolist())


@given(st.integers(0, 10_000))
def test_macro_f1_is_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    targets, predicted = (torch.from_numpy(rng.integers(5, size=size)) for size in (12, (3, 12)))
    scores = [f1_score(targets, row, labels=range(5), average="macro", zero_division=0) for row in predicted]
    assert macro_f1(predicted, targets, 5) == pytest.approx(np.mean(scores))


def test_f1_of_a_class_that_is_never_predicted_is_0():
    targets = torch.tensor([0, 0, 1, 1])
    assert macro_f1(torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1]]), targets, 2) == pytest.approx((1 / 3 + 1) / 2)


def test_calibration_error_by_hand():
    """Two bins of 15 are used: 0.95, right in half of the cases, and 0.5, always right."""
    confidence = torch.tensor([[0.95, 0.95, 0.5, 0.5]])
    correct = torch.tensor([[True, False, True, True]])
    assert calibration_error(confidence, correct) == pytest.approx((2 * 0.45 + 2 * 0.5) / 4)
    assert calibration_error(torch.ones(2, 5), torch.ones(2, 5, dtype=torch.bool)) == 0


def simulated(rng: np.random.Generator, gain: float, seeds: int, images: int) -> tuple[torch.Tensor, ...]:
    """Right answers of two arms whose true recalls differ by ``gain``; seeds and images have effects of their own."""
    targets = torch.arange(images) % 2
    hardness, better = rng.normal(size=images), rng.normal(size=images)
    base = 1.0 + hardness + 0.25 * rng.normal(size=(seeds, 1))
    other = 1.0 + hardness + gain + 0.4 * better + 0.25 * rng.normal(size=(seeds, 1))
    draw = [torch.from_numpy(rng.normal(size=(seeds, images)) < arm) for arm in (other, base)]
    return *draw, targets


@pytest.mark.parametrize(("seeds", "images"), [(5, 400), (3, 2000), (2, 2000)])
def test_the_interval_covers_the_true_difference(seeds, images):
    """250 studies: a 95 % interval should hold the truth in 95 % of them; 3 standard errors of that are 4.1 %."""
    rng = np.random.default_rng(1)
    gain, trials = 0.2, 250
    # P(normal < 1 + normals of total variance v) in closed form; the extra effect counts in the second arm only.
    normal = torch.distributions.Normal(0, 1)
    first = normal.cdf(torch.tensor((1 + gain) / math.sqrt(1 + 1 + 0.0625 + 0.16)))
    truth = (first - normal.cdf(torch.tensor(1 / math.sqrt(1 + 1 + 0.0625)))).item()
    covered = sum(
        found.low <= truth <= found.high
        for found in (paired_difference(*simulated(rng, gain, seeds, images), 2) for _ in range(trials))
    )
    assert 0.91 <= covered / trials <= 0.995


def test_few_held_out_images_widen_the_interval():
    """The same seeds, all of which agree: what is uncertain then is the images."""
    rng = np.random.default_rng(2)
    widths = []
    for images in (100, 400):
        one, other, targets = simulated(rng, 0.5, 4, images)
        same = [arm[:1].repeat(4, 1) for arm in (one, other)]
        found = paired_difference(*same, targets, 2)
        widths.append(found.high - found.low)
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.3)
    assert widths[1] > 0.02


@pytest.mark.parametrize(("images", "answer"), [(60, "cannot tell yet"), (6000, "no worthwhile effect")])
def test_equal_answers_on_few_images_do_not_show_that_there_is_no_effect(images, answer):
    """With none of N images answered differently, as many as 3 / N may be: the rule of three."""
    correct = torch.rand(5, images, generator=torch.Generator().manual_seed(0)) < 0.7
    found = paired_difference(correct, correct, torch.arange(images) % 3, 3)
    assert (found.estimate, found.p) == (0, 1)
    assert 3 / images < found.high == -found.low < 4 / images
    assert outcome_of(found, 1.0) == answer


def test_one_that_is_always_right_and_one_that_never_is():
    always = torch.ones(5, 60, dtype=torch.bool)
    found = paired_difference(always, ~always, torch.arange(60) % 3, 3)
    assert found.estimate == 1
    assert found.low > 0.9
    assert found.p == 1e-6


def test_one_training_of_each_arm_has_no_interval():
    correct = torch.rand(4, 60, generator=torch.Generator().manual_seed(0)) < 0.7
    with pytest.raises(ValueError, match="at least 2 seeds"):
        paired_difference(correct[:1], correct[1:2], torch.arange(60) % 3, 3)


parts_of_a_variance = st.one_of(st.just(0.0), st.floats(1e-8, 1e-2))


@given(st.floats(-0.2, 0.2), st.integers(2, 12), parts_of_a_variance, parts_of_a_variance, st.floats(0.5, 0.99))
def test_the_quantile_lies_between_those_of_seeds_and_images(estimate, repeats, of_repeats, of_images, level):
    found = Difference(estimate, 0, 0, 0, repeats, of_repeats, of_images, 200.0)
    low, high = found.interval(level)
    assert low + high == pytest.approx(2 * estimate)
    by_repeats, by_images = (stats.t.ppf((1 + level) / 2, freedom) for freedom in (repeats - 1, 200))
    half = (high - low) / 2
    assert by_images * found.standard_error <= half * (1 + 1e-9) + 1e-15
    assert half <= by_repeats * found.standard_error * (1 + 1e-9) + 1e-15
    if not of_images:
        assert half == pytest.approx(by_repeats * found.standard_error)
    if not of_repeats:
        assert half == pytest.approx(by_images * found.standard_error)


@given(st.integers(0, 10_000), st.integers(2, 6), st.floats(-1, 1))
def test_a_p_value_below_5_percent_is_an_interval_beside_zero(seed, seeds, gain):
    found = paired_difference(*simulated(np.random.default_rng(seed), gain, seeds, 60), 2)
    assert (found.low, found.high) == pytest.approx(found.interval(0.95))
    if found.p != pytest.approx(0.05):
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
    assert (
        found.p == 1 or 0 in [pytest.approx(end, abs=1e-6) for end in found.interval(1 - found.p)] or found.p <= 1e-6
    )


def test_seeds_are_averaged_within_their_draw():
    one, other, targets = simulated(np.random.default_rng(5), 0.3, 6, 100)
    found = paired_difference(one, other, targets, 2, [0, 1, 2, 0, 1, 2])
    averaged = [(arm[:3].double() + arm[3:].double()) / 2 for arm in (one, other)]
    assert found == paired_difference(*averaged, targets, 2)
    assert found.repeats == 3
    assert found.estimate == pytest.approx(paired_difference(one, other, targets, 2).estimate)
    assert paired_difference(one, other, targets, 2, [4] * 6) == paired_difference(one, other, targets, 2)


def test_a_rare_class_leaves_few_degrees_of_freedom():
    rng = np.random.default_rng(6)
    targets = torch.tensor([0] * 2000 + [1] * 12)
    one, other = (torch.from_numpy(rng.random((4, 2012)) < 0.6) for _ in range(2))
    same = [arm[:1].repeat(4, 1) for arm in (one, other)]  # what is uncertain is the images
    found = paired_difference(*same, targets, 2)
    assert 11 <= found.image_freedom < 12
    balanced = paired_difference(*same, torch.arange(2012) % 2, 2)
    assert balanced.image_freedom == pytest.approx(2010, rel=0.01)


LAW = PowerLaw(a=0.93, b=1.5, c=0.4)
SIZES = (125, 250, 500, 1000, 2000, 4000)


def noisy_curve(spread: float, sizes: tuple[int, ...] = SIZES):
    noise = np.random.default_rng(3).normal(scale=spread, size=(len(sizes), 5))
    return learning_curve(
        sizes, [torch.tensor([LAW.score(n)] * 5) + torch.from_numpy(e) for n, e in zip(sizes, noise, strict=True)]
    )


def difference(estimate: float, error: float = 0.002) -> Difference:
    return Difference(estimate, estimate - 2 * error, estimate + 2 * error, 0.01, 11, error**2, 0.0, 100.0)


def test_the_curve_is_found_again():
    law = noisy_curve(1e-6).fit()
    assert (law.a, law.b, law.c) == pytest.approx((LAW.a, LAW.b, LAW.c), rel=1e-2)
    assert law.images(law.score(700)) == pytest.approx(700)
    assert law.images(0.95) == math.inf
    steep = PowerLaw(a=0.9, b=1.5, c=0.01)
    assert steep.images(0.899999) == math.inf  # more than a float can hold
    assert steep.images(0.0) == pytest.approx(math.exp(100 * math.log(1.5 / 0.9)))
    assert PowerLaw(a=0.9, b=0.0, c=0.4).images(0.5) == 0


@pytest.mark.parametrize("extra", [-300, 200, 800, 2500])
def test_a_gain_is_worth_the_images_that_give_it(extra):
    gain = LAW.score(1000 + extra) - LAW.score(1000)
    worth = noisy_curve(1e-4).worth(difference(gain, 1e-4), 1000)
    assert worth.images == pytest.approx(extra, rel=0.05)
    assert not worth.beyond
    assert not worth.extrapolated
    noisy = noisy_curve(0.003).worth(difference(gain), 1000)
    assert noisy.low <= extra <= (noisy.high or math.inf)


def test_what_no_number_of_images_gives_is_said_to_be_beyond():
    curve = noisy_curve(1e-4, SIZES[:4])
    worth = curve.worth(difference(0.1), 1000)
    assert (worth.images, worth.beyond, worth.extrapolated) == (10_000, True, True)
    assert worth.high is None
    near = curve.worth(difference(LAW.score(1500) - LAW.score(1000), 1e-4), 1000)
    assert near.images == pytest.approx(500, rel=0.1)
    assert (near.extrapolated, near.beyond) == (True, False)


def test_two_sizes_are_no_curve():
    assert noisy_curve(0.001, SIZES[:2]).worth(difference(0.01), 250) is None


@pytest.mark.parametrize("draws", [3, 5])
def test_the_luck_that_draws_share_does_not_average_out(draws):
    """Bootstrap samples of one set of images: the set's luck varies as much as the samples' do."""
    rng = np.random.default_rng(4)
    targets, trials, covered = torch.arange(2000) % 2, 300, {0.0: 0, 1.0: 0}
    for _ in range(trials):
        luck = 0.03 * (rng.normal() + rng.normal(size=(draws, 1)))
        one = torch.from_numpy(rng.random((draws, 2000)) < 0.7 + luck)
        other = torch.from_numpy(rng.random((draws, 2000)) < 0.7)
        for shared in covered:
            found = paired_difference(one, other, targets, 2, range(draws), shared=shared)
            covered[shared] += found.low <= 0 <= found.high
    assert covered[0.0] / trials < 0.9
    assert 0.91 <= covered[1.0] / trials <= 0.99
