from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganaug.mixing.plan import Plan, append_quotas, check_ratio, class_quotas, num_generated, num_replaced


@given(n_real=st.integers(1, 10**6), thousandths=st.integers(0, 999))
def test_number_of_generated_is_the_exact_formula_rounded(n_real, thousandths):
    r = Fraction(thousandths, 1000)
    assert num_generated(n_real, thousandths / 1000) == round(r / (1 - r) * n_real)
    assert num_replaced(n_real, thousandths / 1000) == round(r * n_real)


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


class_counts = st.lists(st.integers(0, 300), min_size=1, max_size=12).filter(any)
CLASSES = [f"class {k}" for k in range(12)]


def names(counts) -> list[str]:
    return CLASSES[: len(counts)]


def plan_of(counts, **options) -> Plan:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return Plan(labels, names(counts), **{"mode": "append", "ratio": None, "strategy": "match", "seed": 0, **options})


@given(counts=class_counts, thousandths=st.integers(0, 999), mode=st.sampled_from(["append", "replace"]),
       strategy=st.sampled_from(["match", "uniform"]))  # fmt: skip
def test_counts_are_exact_in_every_mode_and_strategy(counts, thousandths, mode, strategy):
    r, n = Fraction(thousandths, 1000), sum(counts)
    plan = plan_of(counts, ratio=thousandths / 1000, mode=mode, strategy=strategy)
    fakes = plan.fakes(epoch=0)
    expected = round(r / (1 - r) * n) if mode == "append" else round(r * n)
    assert len(fakes) == expected
    assert len(plan.targets) == (n + expected if mode == "append" else n)
    made = torch.bincount(plan.targets[fakes], minlength=len(counts)).tolist()
    assert made == plan.quotas
    assert sum(plan.quotas) == expected
    if strategy == "match":
        assert made == class_quotas(counts, expected)
    elif mode == "append":
        assert not any(quota for quota, count in zip(made, counts, strict=True) if not count)
        assert max(made) - min(quota for quota, count in zip(made, counts, strict=True) if count) <= 1
    if mode == "replace":
        assert all(quota <= count for quota, count in zip(made, counts, strict=True))
        # Where a class has room left, no other class is more than one ahead of it.
        rest = [quota for quota, count in zip(made, counts, strict=True) if quota < count]
        assert strategy == "match" or not rest or max(made) - min(rest) <= 1


@given(counts=class_counts, strategy=st.sampled_from(["auto", "not majority", "not minority", "minority", "all"]))
def test_classes_are_filled_up_to_the_largest(counts, strategy):
    most, fewest = max(counts), min(count for count in counts if count)
    for count, quota in zip(counts, append_quotas(counts, names(counts), strategy=strategy), strict=True):
        chosen = {"minority": count == fewest, "not minority": count > fewest}.get(strategy, True)
        assert quota == (most - count if chosen and count else 0)


def test_all_classes_that_tie_for_the_minority_are_filled():
    assert append_quotas([9, 2, 5, 2], names(range(4)), strategy="minority") == [0, 7, 0, 7]


def test_totals_by_name_index_and_function():
    for strategy in ({"class 1": 5, 2: 9}, lambda counts: {"class 1": 5, "class 2": max(counts.values()) + 1}):
        assert append_quotas([8, 2, 3], names(range(3)), strategy=strategy) == [0, 3, 6]
    assert append_quotas([8, 0], names(range(2)), strategy={"class 1": 4}) == [0, 4]  # a class without real images


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "most"}, r"must be one of match, uniform, auto, .*got 'most'"),
        ({"strategy": {"giraffe": 9}}, "has 'giraffe', which is neither .*; the classes are class 0, class 1"),
        ({"strategy": {2: 9}}, "has 2, which is neither"),
        ({"strategy": {True: 9}}, "has True, which is neither"),
        ({"strategy": {0: 7}}, "wants 7 images of class class 0, which has 8 real ones. Give the total"),
        ({"strategy": {0: 8.5}}, "wants 8.5 images"),
        ({"strategy": {0: -1}}, "wants -1 images"),
        ({"strategy": lambda counts: 9}, r"must give \{class: total wanted\}, got 9"),
        ({"strategy": "auto", "ratio": 0.3}, "two amounts: ratio 0.3, and sampling_strategy 'auto'.*Leave out one"),
        ({"strategy": {0: 9}, "ratio": 0.0}, "two amounts: ratio 0.0, and"),
        ({"strategy": "auto", "mode": "replace"}, "keeps the number of images of every class.*got 'auto'. Take mode"),
        ({"strategy": {0: 9}, "mode": "replace"}, "keeps the number of images"),
        ({"mode": "overwrite"}, "mode must be 'append' or 'replace', got 'overwrite'"),
    ],
)
def test_plans_that_cannot_be_made(options, message):
    with pytest.raises(ValueError, match=message):
        plan_of([8, 2], **options)


@settings(deadline=None)
@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any), thousandths=st.integers(1, 999))
def test_the_replaced_set_moves_until_all_have_been_replaced_equally_often(counts, thousandths):
    plan = plan_of(counts, ratio=thousandths / 1000, mode="replace", seed=5)
    label, count = max(enumerate(counts), key=lambda pair: pair[1])
    quota = plan.quotas[label]
    times = torch.zeros(sum(counts), dtype=torch.int64)
    for epoch in range(count):  # as many epochs as the class has items
        times[plan.fakes(epoch)] += 1
    assert times[plan.targets == label].tolist() == [quota] * count
    if 2 * quota <= count:
        mine = [set(plan.fakes(epoch)[plan.targets[plan.fakes(epoch)] == label].tolist()) for epoch in (0, 1)]
        assert not mine[0] & mine[1]


def test_the_default_ratio_is_three_tenths():
    assert plan_of([700]).quotas == [300]
    assert plan_of([700], mode="replace").quotas == [210]
