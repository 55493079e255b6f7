"""Draws of the images: as they could also have been collected."""

from __future__ import annotations

import pytest
import torch
from helpers.images import small_images
from hypothesis import assume, given
from hypothesis import strategies as st

from ganaug import InputError, LabelledImages
from ganaug.evaluation import Draw, Draws, draw_images, kind_of_draws, shared_by_draws


def numbered(counts: list[int], first: int) -> LabelledImages:
    """Images of one pixel of 3 bytes that number them; classes in turns as far as there are images of each."""
    order = sorted((k, label) for label, count in enumerate(counts) for k in range(count))
    numbers = torch.arange(first, first + len(order))
    images = torch.stack([numbers // 256**2, numbers // 256 % 256, numbers % 256], 1).to(torch.uint8)
    targets = torch.tensor([label for _, label in order], dtype=torch.int64)
    names = tuple(f"class {label}" for label in range(len(counts)))
    return LabelledImages(images[:, :, None, None], targets, names, f"those from {first}")


def labels_of(images: LabelledImages) -> list[tuple[int, int]]:
    """(number, label) of each image."""
    bytes_of = images.images.flatten(1).long()
    numbers = bytes_of[:, 0] * 256**2 + bytes_of[:, 1] * 256 + bytes_of[:, 2]
    return list(zip(numbers.tolist(), images.targets.tolist(), strict=True))


COUNTS = st.lists(st.integers(0, 30), min_size=1, max_size=4)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=4), st.integers(1, 2**64 - 1))
def test_where_there_are_more_a_draw_and_the_rest_share_all_images(counts, draw):
    train = numbered([count for count, _ in counts], 0)
    extra = numbered([count + more for count, more in counts], 1000)
    drawn, rest = draw_images(train, extra, draw=draw)
    assert drawn.class_counts == train.class_counts
    assert rest.class_counts == extra.class_counts
    pool = labels_of(train) + labels_of(extra)
    assert sorted(labels_of(drawn) + labels_of(rest)) == pool  # each once, with its own label
    assert [labels_of(part) for part in (drawn, rest)] == [sorted(labels_of(part)) for part in (drawn, rest)]


@given(COUNTS, st.none() | COUNTS, st.integers(1, 2**64 - 1))
def test_where_there_are_not_more_a_draw_is_a_bootstrap_within_each_class(counts, others, draw):
    train = numbered(counts, 0)
    extra = None
    if others is not None:
        others = (others * 4)[: len(counts)]
        assume(any(more < count for more, count in zip(others, counts, strict=True)))
        extra = numbered(others, 1000)
    drawn, rest = draw_images(train, extra, draw=draw)
    assert rest is extra
    assert drawn.class_counts == counts
    assert set(labels_of(drawn)) <= set(labels_of(train))
    assert labels_of(drawn) == sorted(labels_of(drawn))


@pytest.mark.parametrize("more", [True, False])
def test_draws_differ_and_the_same_one_is_the_same(more):
    train, extra = numbered([30, 20], 0), numbered([60, 60], 1000) if more else None
    draws = [draw_images(train, extra, draw=draw) for draw in (1, 2, 3, 1)]
    found = [drawn.fingerprint for drawn, _ in draws]
    assert found[0] == found[3]
    assert len(set(found[:3])) == 3
    assert draws[2][0].name == "those from 0, draw 3"


def test_a_bootstrap_draws_each_image_as_often_as_any_other():
    train = numbered([40, 10], 0)
    found = torch.zeros(50)
    for draw in range(1, 401):
        for number, _ in labels_of(draw_images(train, None, draw=draw)[0]):
            found[number] += 1
    # Binomial: 400 n draws of n images, so a mean of 400 and a standard deviation of 20.
    assert found.sum() == 400 * 50
    assert (found - 400).abs().max() < 100
    assert 10 < (found - 400).square().mean().sqrt() < 30


def test_what_draws_are_in_words():
    train = small_images(60)
    assert kind_of_draws(train, None) == "bootstrap samples of the 60 images, with about 63 % of them in each"
    assert (
        kind_of_draws(train, small_images(57)) == "bootstrap samples of the 60 images, with about 63 % of them in each"
    )
    assert kind_of_draws(train, small_images(1440)) == "random subsets of the 1,500 images"
    assert shared_by_draws(train, None) == shared_by_draws(train, small_images(57)) == 1
    assert shared_by_draws(train, small_images(1440)) == pytest.approx(60 / 1440)


def test_draws_that_cannot_be_made():
    train = small_images()
    for few in ((), (Draw(train, {}),)):
        with pytest.raises(InputError, match="two or more"):
            Draws(few)
    with pytest.raises(InputError, match="shared must not be negative"):
        Draws((Draw(train, {}),) * 2, shared=-0.1)
    with pytest.raises(InputError, match="draw must be a positive int"):
        draw_images(train, None, draw=0)
    for other in (small_images(classes=4), small_images(size=8)):
        with pytest.raises(InputError, match="differ"):
            draw_images(train, other, draw=1)
