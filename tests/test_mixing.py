from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganaug.mixing import check_ratio, class_quotas, match_plan, num_generated

ratios = st.integers(0, 999).map(lambda thousandths: thousandths / 1000)


@given(n_real=st.integers(1, 10**6), thousandths=st.integers(0, 999))
def test_number_of_generated_is_the_exact_formula_rounded(n_real, thousandths):
    r = Fraction(thousandths, 1000)
    assert num_generated(n_real, thousandths / 1000) == round(r / (1 - r) * n_real)


@pytest.mark.parametrize(
    ("n_real", "ratio", "expected"), [(700, 0.3, 300), (3, 0.7, 7), (2, 0.2, 0), (6, 0.2, 2), (4000, 0.3, 1714)]
)
def test_known_counts(n_real, ratio, expected):
    assert num_generated(n_real, ratio) == expected


@pytest.mark.parametrize("ratio", [True, float("nan"), -0.1, 1, 1.0, 1.5, float("inf"), "0.3", None])
def test_bad_ratios_are_refused_by_value(ratio):
    with pytest.raises(ValueError, match="ratio must be a number in") as error:
        check_ratio(ratio)
    assert repr(ratio) in str(error.value)


@given(shares=st.lists(st.integers(0, 10**6), min_size=1, max_size=40), total=st.integers(0, 10**6))
def test_quotas_sum_exactly_and_stay_within_one_of_the_share(shares, total):
    whole = sum(shares)
    if total and not whole:
        with pytest.raises(ValueError, match="cannot divide"):
            class_quotas(shares, total)
        return
    quotas = class_quotas(shares, total)
    assert sum(quotas) == total
    for quota, share in zip(quotas, shares, strict=True):
        exact = Fraction(total * share, whole) if whole else 0
        assert math.floor(exact) <= quota <= math.ceil(exact)


def test_largest_remainder_wins():
    # exact shares 0.5, 1.3, 3.2 of 5
    assert class_quotas([10, 26, 64], 5) == [1, 1, 3]


@given(counts=st.lists(st.integers(0, 300), min_size=1, max_size=12).filter(any), ratio=ratios)
def test_plan_has_the_real_class_shares(counts, ratio):
    plan = match_plan(counts, ratio)
    assert plan == sorted(plan)
    assert [plan.count(k) for k in range(len(counts))] == class_quotas(counts, num_generated(sum(counts), ratio))
    assert all(counts[label] for label in plan)
