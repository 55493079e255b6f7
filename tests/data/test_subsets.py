"""Fewer or imbalanced images: which, how many, and by which flags."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from helpers.images import small_images, write_idx_pair
from hypothesis import given, settings
from hypothesis import strategies as st

from ganaug import DataError, Generator, LabelledImages
from ganaug.cli.images import DataArguments
from ganaug.data import long_tail_counts, reduce_images


def positions(part: LabelledImages, whole: LabelledImages) -> list[int]:
    """Where the images of a part are in the whole, whose images differ from one another."""
    where = {value: k for k, value in enumerate(whole.image_hashes.tolist())}
    return [where[value] for value in part.image_hashes.tolist()]


def test_hashes_tell_images_and_shapes_apart():
    data = small_images()
    assert data.image_hashes.dtype == torch.int64
    assert data.image_hashes.unique().shape == (60,)
    assert torch.equal(data.subset(torch.tensor([7, 3]), "two").image_hashes, data.image_hashes[[7, 3]])
    reshaped = LabelledImages(data.images.reshape(60, 1, 6, 24), data.targets, data.classes, "wide")
    assert not torch.isin(reshaped.image_hashes, data.image_hashes).any()
    view = LabelledImages(data.images.transpose(2, 3), data.targets, data.classes, "not contiguous")
    copied = LabelledImages(view.images.contiguous(), data.targets, data.classes, "contiguous")
    assert torch.equal(view.image_hashes, copied.image_hashes)
    # What is in files must not change with a release.
    grey = LabelledImages(torch.full((1, 1, 2, 2), 7, dtype=torch.uint8), torch.tensor([0]), ("a",), "grey")
    assert grey.image_hashes.tolist() == [4653846748084836285]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 20), min_size=3, max_size=3), st.data())
def test_taking_fewer_images_takes_a_part_of_more(more, draw):
    data = small_images()
    fewer = [draw.draw(st.integers(0, count)) for count in more]
    seed = draw.draw(st.integers(0, 2**64 - 1))
    some, others = data.take(more, seed=seed)
    assert some.class_counts == more
    assert others.class_counts == [20 - count for count in more]
    kept, left = positions(some, data), positions(others, data)
    assert kept == sorted(kept)
    assert left == sorted(left)
    assert sorted(kept + left) == list(range(60))
    assert torch.equal(some.targets, data.targets[kept])
    assert set(positions(data.take(fewer, seed=seed)[0], data)) <= set(kept)


def test_what_is_taken_depends_on_the_seed_alone():
    data = small_images()
    some, others = data.take([5, 5, 5])
    assert (some.name, others.name) == ("noise, 15 of 60 images", "noise, the other 45 images")
    assert data.take([5, 5, 5])[0].fingerprint == some.fingerprint
    assert data.take([5, 5, 5], seed=1)[0].fingerprint != some.fingerprint
    with pytest.raises(DataError, match="noise: class class 1 has 20 images, and 21 are asked for"):
        data.take([0, 21, 0])
    with pytest.raises(ValueError, match="must not be negative, got -1 for class class 2"):
        data.take([0, 0, -1])


def test_a_part_of_a_part_is_called_a_part_once():
    train, held_out = small_images().split(0.2)
    assert [train.name, held_out.name] == ["noise, training part", "noise, held-out part"]
    assert [part.name for part in train.split(0.5)] == ["noise, training part", "noise, training part, held-out part"]


def test_a_split_chooses_what_it_always_chose(digits):
    """The published numbers depend on it."""
    assert digits.split(0.2, seed=3)[1].fingerprint.startswith("42fce3b6694ff149")


@given(st.integers(1, 10**6), st.floats(1, 10**6), st.integers(2, 100))
def test_the_long_tail_falls_from_the_largest_class_to_the_smallest(largest, ratio, classes):
    counts = long_tail_counts(largest, ratio, classes)
    assert len(counts) == classes
    assert counts[0] == largest
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == max(1, round(largest / ratio)) or math.isclose(counts[-1], largest / ratio, abs_tol=0.51)
    assert min(counts) >= 1


def test_the_long_tail_is_the_published_one():
    """CIFAR-10-LT at imbalance ratio 100, as Cao et al. 2019 have it."""
    published = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    counts = long_tail_counts(5000, 100, 10)
    assert all(0 <= count - there <= 1 for count, there in zip(counts, published, strict=True))  # they round down
    assert long_tail_counts(7, 100, 1) == [7]
    assert long_tail_counts(7, 1, 3) == [7, 7, 7]


def test_a_number_of_images_of_each_class():
    data = small_images()
    assert reduce_images(data) == (data, None)
    kept, rest = reduce_images(data, images_per_class=4)
    assert (kept.class_counts, rest.class_counts) == ([4, 4, 4], [16, 16, 16])
    assert reduce_images(data, images_per_class=4)[0].fingerprint == kept.fingerprint
    assert set(positions(kept, data)) <= set(positions(reduce_images(data, images_per_class=5)[0], data))
    everything, nothing = reduce_images(data, images_per_class=20)
    assert everything.fingerprint == data.fingerprint
    assert nothing is None
    few = data.take([20, 6, 20])[0]
    with pytest.raises(DataError, match="images_per_class is 7, and class class 1 has 6 images. Ask for 6 at most"):
        reduce_images(few, images_per_class=7)


def test_a_long_tail_of_the_data():
    few = small_images().take([20, 16, 18])[0]
    kept, rest = reduce_images(few, long_tail=4)
    assert (kept.class_counts, rest.class_counts) == ([16, 8, 4], [4, 8, 14])
    kept, rest = reduce_images(few, images_per_class=20, long_tail=20)
    assert (kept.class_counts, rest.class_counts) == ([20, 4, 1], [0, 12, 17])
    with pytest.raises(DataError, match="class class 0 has 20 images, and 21 are asked for"):
        reduce_images(few, images_per_class=21, long_tail=20)
    with pytest.raises(DataError, match="no image of class class 0. Add some"):
        reduce_images(rest, long_tail=2)


@pytest.mark.parametrize("number", [0, -3, True, 2.0])
def test_numbers_of_images_that_are_none(number):
    with pytest.raises(DataError, match=f"images_per_class must be a positive int, got {number}"):
        reduce_images(small_images(), images_per_class=number)
    with pytest.raises(DataError, match="of the largest class must be a positive int"):
        long_tail_counts(number, 10, 3)


@pytest.mark.parametrize("ratio", [0.5, -1, math.nan, math.inf, True])
def test_ratios_that_are_none(ratio):
    with pytest.raises(DataError, match=f"long_tail must be a number of at least 1, .*got {ratio}"):
        reduce_images(small_images(), long_tail=ratio)


def test_the_flags_of_a_recipe(in_process, tmp_path: Path):
    """Images, grid, card and record of a run are those of the reduced set."""
    data = small_images()
    write_idx_pair(tmp_path / "data", data)
    budget = ["--total_kimg", "0.016", "--train_batch_size", "16", "--log_kimg", "0.016"]
    flags = ["--images_per_class", "12", "--long_tail", "3", "--output_dir", "out"]
    assert in_process("--train_data_dir", str(tmp_path / "data"), *budget, *flags) is None
    generator = Generator.from_pretrained(tmp_path / "out")
    assert generator.info["dataset"]["class_counts"] == {"0": 12, "1": 7, "2": 4}
    assert generator.info["dataset"]["name"].endswith(", 23 of 60 images")
    assert json.loads((tmp_path / "out" / "training" / "settings.json").read_text())["data"]["long_tail"] == 3.0
    kept, rest = data.take([12, 7, 4])
    assert torch.equal(generator.seen_images, kept.image_hashes.unique())
    assert not torch.isin(rest.image_hashes, generator.seen_images).any()
    wrong = in_process("--train_data_dir", str(tmp_path / "data"), *budget, "--images_per_class", "21")
    assert "has 20 images. Ask for 20 at most" in wrong


def test_flags_change_the_images_to_train_on_and_no_others():
    flags = DataArguments(dataset_name="sklearn:digits", images_per_class=10)
    train, rest = flags.open_with_rest()
    assert train.class_counts == [10] * 10
    assert len(train) + len(rest) == len(flags.open_split("train"))
    assert flags.open_split("test").class_counts[0] == 36
    assert DataArguments(dataset_name="sklearn:digits").open_with_rest()[1] is None
