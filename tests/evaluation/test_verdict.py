"""The four answers, and what would give another one."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganaug.evaluation.statistics import Difference
from ganaug.evaluation.verdict import answer, in_words, outcome_of, what_would_tell


def difference(points: float, of_repeats: float, of_images: float, repeats: int = 5) -> Difference:
    """A difference, and standard errors of its two parts, all in points."""
    made = Difference(points / 100, 0, 0, 0.5, repeats, (of_repeats / 100) ** 2, (of_images / 100) ** 2, 2000.0)
    low, high = made.interval(0.95)
    return Difference(points / 100, low, high, 0.5, repeats, made.repeat_variance, made.image_variance, 2000.0)


@pytest.mark.parametrize(
    ("points", "error", "expected", "note"),
    [
        (2.0, 0.2, "helps", ""),
        (-2.0, 0.2, "hurts", ""),
        (0.4, 0.1, "helps", "a small effect, less than 1 point"),
        (-0.4, 0.1, "hurts", "a small effect, less than 1 point"),
        (0.2, 0.2, "no worthwhile effect", "less than 1 point either way"),
        (0.5, 0.5, "cannot tell yet", "more seeds would tell"),
    ],
)
def test_the_four_answers(points, error, expected, note):
    outcome, said = answer(difference(points, error, 0.02), 1.0, repeated="seeds", test_images=2000)
    assert outcome == expected
    assert said == note if not note else note in said


@given(st.floats(-5, 5), st.floats(0.01, 2), st.floats(0, 2), st.floats(0.1, 5))
def test_an_answer_is_what_the_intervals_say(points, of_repeats, of_images, margin):
    found = difference(points, of_repeats, of_images)
    low, high = (100 * end for end in found.interval(0.9))
    outcome = outcome_of(found, margin)
    assert (outcome in ("helps", "hurts")) == (not found.low <= 0 <= found.high)
    if outcome == "no worthwhile effect":
        assert -margin < low < high < margin
    if outcome == "cannot tell yet":
        assert low <= -margin or high >= margin
    # The larger the margin, the sooner an effect is not worthwhile; whether it is real does not depend on it.
    wider = outcome_of(found, 2 * margin)
    assert wider == outcome or (outcome, wider) == ("cannot tell yet", "no worthwhile effect")


@given(st.floats(-3, 3), st.floats(0.05, 3), st.floats(0, 1), st.integers(2, 10), st.integers(30, 20_000))
def test_what_is_said_to_tell_does(points, of_repeats, of_images, repeats, test_images):
    def outcome(with_repeats: int, with_images: int = test_images) -> str:
        of_each = of_repeats * math.sqrt(repeats / with_repeats), of_images * math.sqrt(test_images / with_images)
        return outcome_of(difference(points, *of_each, with_repeats), 1.0)

    if outcome(repeats) != "cannot tell yet":
        return
    said = what_would_tell(
        difference(points, of_repeats, of_images, repeats), 1.0, repeated="draws", test_images=test_images
    )
    more = re.match(r"about (\d+) more draws? would tell$", said)
    if more:
        enough = repeats + int(more[1])
        assert outcome(enough - 1) == "cannot tell yet" != outcome(enough)
        return
    assert outcome(100) == "cannot tell yet"
    if said == "more than 100 draws would be needed to tell":
        assert outcome(10**9) != "cannot tell yet"
        return
    assert outcome(10**9) == "cannot tell yet"
    assert said.startswith(f"no number of draws: {test_images:,} test images are too few")
    wanted = re.search(r"about ([\d,]+) with (\d+) draws would tell$", said)
    if wanted:
        images, enough = (int(number.replace(",", "")) for number in wanted.groups())
        assert images > test_images
        assert repeats < enough <= 2 * repeats
        assert outcome(enough, images) != "cannot tell yet"


def test_what_would_tell_in_words():
    def words(*parts: float) -> str:
        return what_would_tell(difference(*parts), 1.0, repeated="seeds", test_images=300)

    assert re.match(r"about \d+ more seeds would tell$", words(0.5, 0.5, 0.05))
    assert words(0.85, 0.32, 0.02) == "about 1 more seed would tell"
    assert re.match(
        r"no number of seeds: 300 test images are too few, about [\d,]+ with \d+ seeds", words(0.3, 0.3, 1)
    )
    assert words(0.1, 10, 0.05) == "more than 100 seeds would be needed to tell"
    assert words(1.0, 0.5, 1.0, 2).startswith("no number of seeds")


def test_what_rounds_to_zero_has_no_minus():
    assert in_words(Difference(-0.0004, -0.0102, -0.0001, 0.5, 5, 1e-4, 1e-4, 2000.0)) == "+0.0 points [-1.0, 0.0]"
