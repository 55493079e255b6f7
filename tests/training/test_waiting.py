"""Steps of a training that a GPU computes, for which the CPU never waits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.images import small_images
from helpers.waiting import GPU, NothingWaits, give_it_autocast

from ganaug.training import MODELS, make_trainer
from ganaug.training.batches import BatchNoise
from ganaug.training.monitoring import RunningMeans


@pytest.mark.parametrize("system", ["flow", "sngan", "acgan-28"])
def test_a_step_waits_for_nothing(accelerator, monkeypatch, system):
    monkeypatch.setattr(type(accelerator), "device", GPU)
    give_it_autocast(monkeypatch)
    # Nor has the device random states or a fused optimizer.
    monkeypatch.setattr(BatchNoise, "start", lambda *_: None)
    monkeypatch.setattr("ganaug.training.batches.torch.Generator", lambda device: None)
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *_: None)
    data, model = small_images(size=16), MODELS[system]
    settings = replace(model.settings, train_batch_size=8)
    with torch.random.fork_rng():
        trainer = make_trainer(model.make_generator(data), model.objective, data, settings, accelerator)
        for _, optimizer in trainer._trained.values():
            optimizer.defaults["fused"] = True
        sums = RunningMeans(accelerator)
        trainer.step(0)  # makes what stays for all steps
        with NothingWaits():
            for step in (1, 2):
                sums.add(trainer.step(step), trainer.skipped)
