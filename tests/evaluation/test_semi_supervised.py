"""Classifiers that are trained on labelled and unlabelled images together."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers.evaluated import TinyClassifier, digits_in_parts
from helpers.images import small_images

from ganaug import InputError, LabelledImages
from ganaug.evaluation import (
    ShiftFlip,
    accuracy,
    predict,
    predict_probabilities,
    semi_supervised,
    train_classifier,
    train_semi_supervised,
)


def as_it_is(images):
    return images


def two_signs(count, *, left, right):
    """Noise, and for class k of four a bright pixel: in row k on the left, or in the row below it on the right."""
    rng = torch.Generator().manual_seed(count)
    targets = torch.arange(count) % 4
    images = torch.randint(60, (count, 1, 4, 4), generator=rng, dtype=torch.uint8)
    for column, shown, row in ((0, left, targets), (3, right, (targets + 1) % 4)):
        if shown:
            images[torch.arange(count), 0, row, column] = 255
    return LabelledImages(images, targets, ("a", "b", "c", "d"), "signs")


def one_side_hidden(images):
    """Left or right half black, which of them is drawn for each image."""
    images = images.clone()
    hidden = torch.rand(len(images)) < 0.5
    images[hidden, :, :, :2] = 0
    images[~hidden, :, :, 2:] = 0
    return images


def test_what_only_unlabelled_images_show_is_learnt():
    labelled, unlabeled = two_signs(20, left=True, right=False), two_signs(200, left=True, right=True)
    judged = two_signs(400, left=False, right=True)
    common = {"batch_size": 64, "steps": 500}
    both = train_semi_supervised(
        labelled, unlabeled.images, TinyClassifier, weak=as_it_is, strong=one_side_hidden, **common
    )
    alone = train_classifier(labelled, TinyClassifier, augment=one_side_hidden, **common)
    assert accuracy(both, judged) > 0.95
    assert accuracy(alone, judged) < 0.6


def test_answers_have_the_class_shares_of_the_labelled_images(monkeypatch):
    """Where images tell nothing, the answers are as often of a class as the labels are."""
    monkeypatch.setattr(semi_supervised, "RAMP", 1)
    blank = torch.zeros(60, 1, 4, 4, dtype=torch.uint8)
    labelled = replace(two_signs(40, left=True, right=False), targets=(torch.arange(40) % 4 == 0).long())
    train = partial(train_semi_supervised, labelled, blank, TinyClassifier, weak=as_it_is, strong=as_it_is)
    shares = predict_probabilities(train(steps=200, batch_size=64), blank)[0]
    torch.testing.assert_close(shares, torch.tensor([0.75, 0.25, 0, 0]), atol=0.05, rtol=0)


def test_a_training_is_repeated_bit_for_bit_and_leaves_torchs_random_state():
    labelled, _, further, _ = digits_in_parts(4, 10)
    strong = ShiftFlip.like(labelled, flip=False)
    train = partial(
        train_semi_supervised, labelled, further.images, TinyClassifier, weak=as_it_is, strong=strong, batch_size=16
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        before = torch.get_rng_state()
        one = train(steps=5, seed=3)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        two, other = train(steps=5, seed=3), train(steps=5, seed=4)
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name])
    assert not torch.equal(one.layers[1].weight, other.layers[1].weight)
    assert not one.training


def test_only_the_class_of_each_label_is_told_and_each_step_is_counted():
    labelled, _, further, _ = digits_in_parts(4, 10)
    steps, seen = [], []

    def weak(images):
        seen.append(images)
        return images

    options = {"weak": weak, "strong": as_it_is, "steps": 6, "batch_size": 20}
    classifier = train_semi_supervised(
        labelled, further.images, TinyClassifier, each_step=lambda: steps.append(1), **options
    )
    assert len(steps) == 6
    assert [len(batch) for batch in seen] == [15] * 6  # three quarters of a batch
    every = {image.numpy().tobytes() for image in further.images}
    assert {image.numpy().tobytes() for batch in seen for image in batch} <= every
    assert predict(classifier, further.images).shape == (len(further),)
    # Weights decide which labelled images are seen.
    only = torch.zeros(len(labelled))
    only[labelled.targets == 7] = 1
    told = train_semi_supervised(
        labelled, further.images, TinyClassifier, weights=only, **{**options, "steps": 40, "weak": as_it_is}
    )
    assert (predict(told, labelled.images[labelled.targets == 7]) == 7).all()


def test_augmentation_is_not_computed_in_bf16(monkeypatch):
    """In which coordinates of pixels have too few digits: rotated images would be others."""
    monkeypatch.setattr(semi_supervised, "has_bf16", lambda _: True)
    labelled, _, further, _ = digits_in_parts(4, 10)
    autocast = []

    def noting(images):
        autocast.append(torch.is_autocast_enabled("cpu"))
        return images

    train_semi_supervised(labelled, further.images, TinyClassifier, weak=noting, strong=noting, steps=2, batch_size=8)
    assert autocast == [False] * 4


def test_what_does_not_fit_is_refused():
    labelled = small_images(n=6, size=12)
    train = partial(train_semi_supervised, weak=as_it_is, strong=as_it_is)
    with pytest.raises(InputError, match="must have the shape of the labelled ones"):
        train(labelled, torch.zeros(4, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match="no unlabelled images"):
        train(labelled, labelled.images[:0])
    with pytest.raises(ValueError, match="steps"):
        train(labelled, labelled.images, steps=0)
    with pytest.raises(InputError, match="class logits"):
        train(labelled, labelled.images, lambda classes, **form: torch.nn.Conv2d(1, 4, 3), steps=1)
