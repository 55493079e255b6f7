"""Whole studies with made-up answers: the verdict errs as seldom as it says, and its estimates are not biased.

The seeds are fixed, so a test's outcome is too. The bounds are those that are promised, widened by three standard
errors of what so many studies can tell, so that another version of numpy or torch does not break them either.
"""

from __future__ import annotations

import math

import pytest
from simulation import CASES, simulate, summary

NULLS = [name for name in CASES if "no effect" in name]


def by_chance(share: float, studies: int) -> float:
    """Three standard errors of a share."""
    return 3 * math.sqrt(share * (1 - share) / studies)


def test_a_hundred_studies():
    often = {
        "no effect: 5 seeds, 3 ratios": 20,
        "no effect: draws differ (5 draws; before: 5 seeds of one)": 20,
        "+1.5 points: 5 seeds, 3 ratios": 20,
        '`ratio="auto"`, no effect: 5 seeds (before: 3), 5 ratios, 2,000 images': 40,
    }
    judged = {name: simulate(CASES[name], studies) for name, studies in often.items()}
    of_all = [each for rules in judged.values() for each in rules["now"]]
    assert summary(of_all)["coverage"] >= 0.95 - by_chance(0.95, 100)
    nulls = [each for name in NULLS if name in often for each in judged[name]["now"]]
    assert summary(nulls)["answers"].get("helps", 0) <= 0.03 + by_chance(0.03, 80)
    for rules in judged.values():
        now = summary(rules["now"])
        assert abs(now["bias"]) <= 0.0005 + 3 * now["bias_error"]
    before = summary(rules["before"])  # which this would find out
    assert before["bias"] > 0.0005 + 3 * before["bias_error"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(len(CASES)), ids=list(CASES))
def test_a_thousand_studies(seed):
    name, studies = list(CASES)[seed], 1000
    judged = simulate(CASES[name], studies, seed=seed)
    now, before = (summary(judged[rule]) for rule in ("now", "before"))
    assert 0.935 - by_chance(0.935, studies) <= now["coverage"] <= 0.965 + by_chance(0.965, studies)
    assert abs(now["bias"]) <= 0.0005 + 3 * now["bias_error"]
    if name in NULLS:
        assert now["answers"].get("helps", 0) <= 0.03 + by_chance(0.03, studies)
    if "5 ratios" in name:  # the simulation would see what it is there to see
        assert before["bias"] > 0.002
