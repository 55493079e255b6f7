"""Steps of a training that a GPU computes, for which the CPU never waits. The meta device stands in for the GPU."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from helpers.images import small_images
from torch.utils._python_dispatch import TorchDispatchMode

from ganaug.training import MODELS, make_trainer
from ganaug.training.batches import BatchNoise
from ganaug.training.monitoring import RunningMeans

GPU = torch.device("meta")  # its tensors have no values, so that what reads one fails


class NothingWaits(TorchDispatchMode):
    """Refuses copies to the device that are waited for: those that are not told to be non-blocking."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        made = operation(*args, **kwargs)
        if operation.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_):
            source, waited_for = args[-1], not kwargs.get("non_blocking")
            assert not (waited_for and source.device != made.device), f"{tuple(source.shape)} is copied to the device"
        return made


@pytest.mark.parametrize("system", ["flow", "sngan", "acgan-28"])
def test_a_step_waits_for_nothing(accelerator, monkeypatch, system):
    monkeypatch.setattr(type(accelerator), "device", GPU)
    monkeypatch.setattr(BatchNoise, "start", lambda *_: None)
    monkeypatch.setattr("ganaug.training.batches.torch.Generator", lambda device: None)  # the device has none
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # nor has it autocast
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *_: None)  # nor a fused kernel, which a GPU has
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
