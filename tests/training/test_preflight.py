"""What is said before a training starts: classes, model, minutes and memory."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers.images import small_images

from ganaug.training import MODELS, Trainer, TrainingSettings, choose_preset, make_trainer, preflight, presets
from ganaug.training.preflight import Preflight, cost, cost_of, too_few_or_too_short
from ganaug.training.presets import Pace

SETTINGS = TrainingSettings(total_kimg=16, train_batch_size=16, mixed_precision="no", cpu_threads=1)  # 1,000 steps


def trainer_of(settings: TrainingSettings, accelerator) -> Trainer:
    model, data = MODELS["flow"], small_images(size=8)
    with torch.random.fork_rng():
        generator = model.generator(data.classes, image_size=8, width=8)
    return make_trainer(generator, model.objective, data, settings, accelerator)


def test_minutes_and_memory_come_from_a_few_steps(accelerator, monkeypatch):
    monkeypatch.setattr(preflight, "TIMED", 0.05)
    told = cost_of(partial(trainer_of, SETTINGS, accelerator), SETTINGS)
    memory = float(re.fullmatch(r"(?:about \d+ minutes?|less than a minute) here and ([\d.]+) GiB .*", told)[1])
    assert 0.1 < memory < 30
    assert not accelerator._models  # what was timed is not held on to


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (replace(SETTINGS, total_kimg=0.016), "1 step, too few"),
        (replace(SETTINGS, total_kimg=1.6), "100 steps, too few"),
        (replace(SETTINGS, compile=True), "not timed, since the networks would be compiled"),
    ],
)
def test_what_is_not_worth_timing_is_not_timed(settings, told):
    def never() -> Trainer:
        raise AssertionError("it made a trainer")

    assert cost_of(never, settings).startswith(told)


@pytest.mark.parametrize(
    ("seconds", "device", "told"),
    [
        (0.01, 0, "less than a minute here and 1.5 GiB of memory, estimated"),
        (0.1, 0, "about 2 minutes here and 1.5 GiB of memory, estimated"),
        (10, 2**31, "about 2.8 hours here and 1.5 GiB of memory and 2.0 GiB of the GPU's, estimated"),
    ],
)
def test_what_a_training_takes_in_words(seconds, device, told):
    pace = Pace(seconds, 16, 3 * 2**29, device)
    assert cost(pace, 16).startswith(told)
    assert pace.kimg_within(pace.minutes(16)) == pytest.approx(16)


def test_a_preflight_says_classes_model_cost_and_what_was_measured():
    images = small_images()
    preset = choose_preset(images)
    first, second, third, fourth = str(Preflight(images, preset, "an hour")).splitlines()
    assert first == "classes: class 0 20, class 1 20, class 2 20"
    assert second.startswith(f"preset: flow, {preset.settings.total_kimg:g} kimg (60,000 images shown in training). ")
    assert third == "takes: an hour"
    assert fourth == f"{preset.expectation}."
    assert str(Preflight(images, "sngan, as you asked", "an hour")) == f"{first}\nmodel: sngan, as you asked\n{third}"


@pytest.mark.parametrize(
    ("own", "elsewhere", "told"),
    [
        ("helps", True, "about this many images, .* has helped$"),
        ("no worthwhile effect", True, "here 60 kimg.* has not helped. What has helped brought in other images"),
        ("cannot tell yet", True, "has not helped. What has helped brought in other images"),
        ("hurts", False, "has not helped. Nothing that was measured has helped"),
    ],
)
def test_whether_images_or_training_are_missing_follows_from_the_table(monkeypatch, own, elsewhere, told):
    same = {
        "name": "few",
        "classifier": "small-cnn",
        "generator_from": "the same images",
        "images_per_class": 20,
        "imbalance": 1,
        "ratio": 0.3,
        "outcome": own,
        "difference": {"estimate": 0.0, "low": -0.01, "high": 0.01},
    }
    other = {**same, "generator_from": "all other training images", "outcome": "helps"}
    rows = {"same": same, **({"other": other} if elsewhere else {})}
    monkeypatch.setattr(presets, "measured_utility", lambda: {"rows": rows})
    images = small_images()
    assert re.search(told, too_few_or_too_short(images, choose_preset(images)))
