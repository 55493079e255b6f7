from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from helpers.images import small_images
from scipy.stats import binomtest

from ganaug import LabelledImages, open_images
from ganaug.core.errors import InputError
from ganaug.evaluation import SmallCNN, closest_pairs, closest_pairs_picture, train_classifier
from ganaug.evaluation.distances import nearest_distances
from ganaug.evaluation.memorization import memorization
from ganaug.evaluation.study import joined


@pytest.fixture(scope="module")
def parts() -> tuple[LabelledImages, LabelledImages, LabelledImages]:
    """Digits of 8x8 pixels: to train on, held out, and other ones that an honest generator could have made."""
    train, rest = open_images("sklearn:digits").split(0.6, seed=1)
    held_out, other = rest.split(0.5, seed=2)
    return train, held_out, other


@pytest.fixture(scope="module")
def classifier(parts) -> SmallCNN:
    return train_classifier(joined(*parts[:2]), steps=100)


def test_an_honest_generator_is_as_near_to_held_out_images(parts, classifier):
    train, held_out, other = parts
    found, pairs = memorization(other, train, held_out, classifier)
    assert found.num_images == len(other)
    assert found.exact_copies == 0
    assert found.near_copies < 0.04
    for low, share, high in (
        (found.closer_to_train_low, found.closer_to_train, found.closer_to_train_high),
        (
            found.closer_to_train_features_low,
            found.closer_to_train_features,
            found.closer_to_train_features_high,
        ),
    ):
        assert low < 0.5 < high
        assert low < share < high < low + 0.2
        naive = binomtest(round(share * len(other)), len(other)).proportion_ci(method="wilson")
        assert low < naive.low < naive.high < high  # images with one nearest neighbour are not independent
    assert found.nearest_train_pixels == pytest.approx(found.nearest_held_out_pixels, rel=0.1)
    assert found.nearest_train_features == pytest.approx(found.nearest_held_out_features, rel=0.1)
    assert not pairs.exact.any()
    values = dataclasses.asdict(found)
    assert json.loads(json.dumps(values, allow_nan=False)) == values


def test_training_images_are_exact_copies(parts, classifier):
    train, held_out, _ = parts
    found, pairs = memorization(train, train, held_out, classifier)
    assert found.exact_copies == found.near_copies == 1
    # Some are not among the training images that are as many as those held out.
    assert found.closer_to_train > 0.7
    assert found.closer_to_train_features > 0.7
    few, _ = train.take(held_out.class_counts)
    found, _ = memorization(few, few, held_out, classifier)
    assert found.closer_to_train == found.closer_to_train_features == found.closer_to_train_high == 1
    assert found.closer_to_train_low == pytest.approx(binomtest(len(few), len(few)).proportion_ci(method="wilson").low)
    assert (found.nearest_train_pixels, found.nearest_train_features) == (0, 0)
    assert found.nearest_held_out_pixels > 0.05
    assert pairs.exact.all()
    assert torch.equal(pairs.generated, pairs.train)
    assert pairs.distances.tolist() == [0] * 20


@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_copies_of_images_that_only_the_generator_has_seen_are_counted(parts, classifier, share):
    train, held_out, other = parts
    seen = other.image_hashes[: round(share * len(other))]
    found, pairs = memorization(other, train, held_out, classifier, seen_images=seen)
    known = torch.isin(other.image_hashes, seen)  # an image may be there twice
    assert found.exact_copies == known.double().mean().item()
    assert found.near_copies >= found.exact_copies
    assert not pairs.exact.any()  # of what is shown beside them


def test_half_of_copies_is_told_from_none(parts, classifier):
    train, held_out, other = parts
    counts = [min(both) // 2 for both in zip(train.class_counts, other.class_counts, strict=True)]
    half = joined(train.take(counts)[0], other.take(counts)[0])
    found, _ = memorization(half, train, held_out, classifier)
    assert found.exact_copies == 0.5
    assert found.near_copies == pytest.approx(0.5, abs=0.02)
    assert found.closer_to_train_low > 0.5
    assert found.closer_to_train_features_low > 0.5


def test_copies_changed_by_one_grey_level_are_near_copies(parts, classifier):
    train, held_out, _ = parts
    images = train.images.clone()
    images[:, 0, 3, 3] = torch.where(images[:, 0, 3, 3] > 0, images[:, 0, 3, 3] - 1, 1)
    found, pairs = memorization(dataclasses.replace(train, images=images), train, held_out, classifier)
    assert found.exact_copies == 0
    assert found.near_copies == 1
    assert not pairs.exact.any()
    assert pairs.distances.numpy() == pytest.approx(1 / 255 / 8)  # one of 64 pixels
    assert ((pairs.generated.int() - pairs.train.int()).abs().flatten(1).sum(1) == 1).all()


def test_held_out_images_themselves_are_not_near_copies(parts, classifier):
    train, held_out, _ = parts
    found, _ = memorization(held_out, train, held_out, classifier)
    assert found.near_copies == pytest.approx(0.01, abs=1 / len(held_out))
    assert found.closer_to_train == found.closer_to_train_features == 0


def test_as_many_training_images_as_held_out_ones_are_compared(parts, classifier):
    train, held_out, other = parts
    few, _ = held_out.take([12] * 10)
    found, _ = memorization(other, train, few, classifier)
    assert found.closer_to_train_low < 0.5 < found.closer_to_train_high
    again, _ = memorization(other, train, few, classifier, seed=1)
    assert again.closer_to_train != found.closer_to_train
    assert again.near_copies == found.near_copies  # of all training images


def test_exact_copies_are_near_copies_where_held_out_images_are_copies_too(parts, classifier):
    train, held_out, _ = parts
    few, _ = train.take([20] * 10)
    found, _ = memorization(few, train, joined(held_out, few), classifier)
    assert found.exact_copies == found.near_copies == 1


def test_ties_count_half():
    data = small_images(30)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = SmallCNN(3, image_size=12)
    found, _ = memorization(small_images(30, seed=1), data, data, classifier)
    assert found.closer_to_train == found.closer_to_train_features == 0.5


def test_repeated_images_count_once_in_the_interval(parts, classifier):
    train, held_out, other = parts
    once, _ = memorization(other.subset(torch.arange(1), "one"), train, held_out, classifier)
    often, pairs = memorization(other.subset(torch.zeros(500, dtype=torch.int64), "one"), train, held_out, classifier)
    assert (often.closer_to_train_low, often.closer_to_train_high) == pytest.approx(
        (once.closer_to_train_low, once.closer_to_train_high)
    )
    assert often.closer_to_train_high - often.closer_to_train_low > 0.7
    assert len(pairs.distances) == 1  # the same training image is shown once


def test_closest_pairs_are_the_closest_and_distinct(parts, classifier):
    train, held_out, other = parts
    _, pairs = memorization(other, train, held_out, classifier, pairs=40)
    distances, nearest = nearest_distances(other.images.flatten(1), train.images.flatten(1))
    expected = {}
    for index in distances.argsort(stable=True).tolist():
        expected.setdefault(int(nearest[index]), index)
    indices = list(expected.values())[:40]
    assert torch.equal(pairs.generated, other.images[indices])
    assert torch.equal(pairs.train, train.images[list(expected)[:40]])
    assert torch.equal(pairs.labels, other.targets[indices])
    difference = (pairs.generated.double() - pairs.train.double()) / 255
    assert pairs.distances.numpy() == pytest.approx(difference.square().mean((1, 2, 3)).sqrt().numpy())
    assert pairs.distances.diff().min() >= 0
    alone = closest_pairs(other, train, pairs=40)
    assert all(
        torch.equal(ours, theirs) for ours, theirs in zip(vars(alone).values(), vars(pairs).values(), strict=True)
    )


def test_copies_are_the_closest_pairs_and_are_marked(parts):
    train, _, other = parts
    copies = joined(other, train.subset(torch.arange(3), "copies"))
    pairs = closest_pairs(copies, train, pairs=5)
    assert pairs.exact.tolist() == [True] * 3 + [False] * 2
    assert torch.equal(pairs.generated[:3], pairs.train[:3])


def test_the_picture_shows_each_pair(parts, classifier):
    train, held_out, other = parts
    _, pairs = memorization(other, train, held_out, classifier, pairs=13)
    picture = closest_pairs_picture(pairs, train.classes)
    cell = 8 * 7 + 2  # 8 pixels enlarged to 56
    title = picture.height // 2 - (2 * cell + 2)
    assert picture.size == (10 * cell + 2, 2 * (title + 2 * cell + 2))
    assert 12 <= title < cell
    for row, column, image in ((0, 0, pairs.generated[0]), (1, 0, pairs.train[0]), (0, 9, pairs.generated[9])):
        left, top = column * cell + 2, title + row * cell + 2
        shown = picture.crop((left, top, left + 56, top + 56)).convert("L").resize((8, 8), 0)
        assert list(shown.get_flattened_data()) == image.flatten().tolist()
    beyond = picture.crop((3 * cell + 2, picture.height // 2, *picture.size))
    assert beyond.getextrema() == ((255, 255),) * 3  # the second row has three pairs
    copies = dataclasses.replace(pairs, exact=torch.ones(13, dtype=torch.bool))
    assert closest_pairs_picture(copies, train.classes).tobytes() != picture.tobytes()  # they are titled so


def test_what_cannot_be_compared_is_refused(parts, classifier):
    train, held_out, other = parts
    nothing = other.subset(torch.arange(0), "nothing")
    with pytest.raises(InputError, match="there is nothing to compare: nothing has 0 images"):
        memorization(nothing, train, held_out, classifier)
    for ours, theirs in ((nothing, train), (other, nothing)):
        with pytest.raises(InputError, match="there is nothing to compare: .* Give more"):
            closest_pairs(ours, theirs)
    with pytest.raises(InputError, match="there is nothing to compare: .* have 0 of the same classes. Give more"):
        memorization(other, train, nothing, classifier)
    with pytest.raises(InputError, match="classes differ"):
        memorization(small_images(), train, held_out, classifier)
    with pytest.raises(InputError, match="image shapes"):
        memorization(other, train, dataclasses.replace(held_out, images=held_out.images[..., 1:]), classifier)
