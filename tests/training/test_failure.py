"""Signs that adversarial training has failed."""

from __future__ import annotations

import logging

import pytest
import torch
from helpers.killed import DIGITS, new_trainer
from helpers.programs import as_a_program

from ganaug.core.pixels import to_float
from ganaug.training import RunFolder, train
from ganaug.training.failure import relative_diversity, signs_of_failure

REAL, LABELS = to_float(DIGITS.images), DIGITS.targets


def test_diversity_of_other_images_of_the_class_of_one_picture_and_of_noise():
    assert torch.allclose(relative_diversity(REAL, REAL, LABELS), torch.ones(10))
    first = torch.stack([REAL[label == LABELS][0] for label in LABELS])
    assert relative_diversity(first, REAL, LABELS).tolist() == [0.0] * 10
    halfway = first + (REAL - first) / 2
    assert torch.allclose(relative_diversity(halfway, REAL, LABELS), torch.full((10,), 0.5), atol=1e-5)
    # Noise on one picture is no diversity: eight times as many pixels, and it averages out.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        large = [images.repeat_interleave(8, 2).repeat_interleave(8, 3) for images in (first, REAL)]
        noisy = large[0] + 0.3 * torch.randn(large[0].shape)
    assert relative_diversity(noisy, large[1], LABELS).max() < 0.2


def test_classes_that_say_nothing_are_left_out():
    labels = torch.tensor([0, 0, 1, 2, 2])
    images = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    images[4] = images[3]
    assert len(relative_diversity(images, images, labels)) == 1
    assert len(relative_diversity(images[:1], images[:1], labels[:1])) == 0


@pytest.mark.parametrize(
    ("monitors", "signs"),
    [
        ({}, []),
        ({"diversity": 0.8, "evaluated_accuracy_real": 1.0, "evaluated_accuracy_fake": 0.6}, []),
        ({"diversity": 0.12}, ["nearly one picture: they have 0.12 of the diversity"]),
        ({"evaluated_accuracy_real": 1.0, "evaluated_accuracy_fake": 0.995}, ["100% of real and 100% of generated"]),
    ],
)
def test_signs(monitors, signs):
    found = signs_of_failure(monitors)
    assert len(found) == len(signs)
    assert all(sign in text for sign, text in zip(signs, found, strict=True))


def test_a_collapsed_generator_is_warned_about(tmp_path, caplog):
    with as_a_program(), caplog.at_level(logging.WARNING):
        trainer = new_trainer("acgan-28", "no", 2)
        train(trainer, RunFolder(tmp_path / "run"))  # untrained, its images of a class are all alike
    assert "after 0.0 kimg images of a class are nearly one picture" in caplog.text
