"""What ganaug 0.1 wrote: folders, checkpoints, and states that still load. See ``fixtures/v0.1``."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.programs import as_a_program
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

from ganaug import ConditionalGANAugment, ConditionalGANStream, Generator, open_images
from ganaug.core.fingerprints import of_module
from ganaug.evaluation import SmallCNN
from ganaug.filters import ClassifierAgreement
from ganaug.hub.registry import registered_generators
from ganaug.training import (
    MODELS,
    RunFolder,
    check_same_run,
    find_checkpoint,
    hold_back,
    make_trainer,
    start_accelerator,
    train,
)

WRITTEN = Path(__file__).parent / "fixtures" / "v0.1"
NAMES = tuple("0123456789")
DATA = TensorDataset(torch.zeros(40, 1, 28, 28, dtype=torch.uint8), torch.arange(40) % 10)


class Stream(IterableDataset):
    classes = NAMES

    def __iter__(self):
        return iter(DATA)


def patterned(module: nn.Module) -> nn.Module:
    """Weights that are the same on every machine, as those that the fixtures were written with."""
    with torch.no_grad():
        for k, (name, value) in enumerate(module.state_dict().items()):
            if value.is_floating_point():
                numbers = torch.arange(value.numel(), dtype=torch.float64)  # in place: of millions, each takes 64 MB
                numbers.mul_(7919).add_(k * 104729).remainder_(2001).sub_(1000).div_(1000).mul_(0.1)
                value.copy_(numbers.reshape(value.shape))
                if name.endswith("running_var"):
                    value.abs_().add_(1)
    return module.eval()


def made(architecture: str, **options) -> Generator:
    with torch.random.fork_rng():
        return registered_generators()[architecture](NAMES, **{"image_size": 28, "channels": 1, **options})


def test_fingerprints_of_generators_are_those_of_0_1():
    written = json.loads((WRITTEN / "fingerprints.json").read_text())
    sizes = {"acgan-64": 64, "dcgan-32": 32}
    for architecture, fingerprint in written.items():
        generator = patterned(made(architecture, image_size=sizes.get(architecture, 28)))
        assert of_module(generator) == fingerprint, architecture


@pytest.mark.parametrize(("own", "same"), [({"architecture": "of-my-own"}, True), ({}, False)])
def test_a_class_with_an_architecture_may_move(own, same):
    layers = []
    for place in ("here", "there"):
        cls = type("Mine", (nn.Linear,), {**own, "__module__": place})
        with torch.random.fork_rng():
            layers.append(patterned(cls(2, 2)))
    assert (of_module(layers[0]) == of_module(layers[1])) == same


@pytest.mark.parametrize("architecture", ["flow", "sngan"])
def test_folders_load_and_draw_the_same_images(architecture):
    generator = Generator.from_pretrained(WRITTEN / architecture)
    assert generator.label_names == NAMES
    images = generator.sample(range(10), seed=5)
    expected = load_file(WRITTEN / "drawn.safetensors")[architecture]
    # Other processors round otherwise, by one grey level in a few pixels.
    assert (images.short() - expected.short()).abs().le(1).float().mean() > 0.99


@pytest.mark.parametrize("model", ["flow", "sngan"])
def test_a_run_goes_on_from_its_checkpoint_to_the_same_weights(model, tmp_path):
    run = tmp_path / model
    shutil.copytree(WRITTEN / model, run)
    wanted = load_file(run / "model.safetensors")
    for path in ("config.json", "model.safetensors", "training_images.safetensors", "README.md"):
        (run / path).unlink()
    system = MODELS[model]
    evaluation = {} if model == "flow" else {"evaluation_kimg": 2}
    settings = replace(system.settings, total_kimg=4, checkpointing_kimg=2, checkpoints_total_limit=5, **evaluation)
    settings = replace(settings, train_batch_size=32, mixed_precision="no", cpu_threads=1, sample_kimg=2, log_kimg=2)
    settings = replace(settings, ema_kimg=1)
    with as_a_program():
        digits, accelerator = open_images("sklearn:digits"), start_accelerator(settings)
        images, held_out = hold_back(settings, digits, digits)
        generator = system.make_generator(digits, width=8)
        trainer = make_trainer(generator, system.objective, images, settings, accelerator)
        checkpoint = find_checkpoint(run)
        check_same_run(checkpoint, trainer)
        train(trainer, RunFolder(run, after_kimg=checkpoint.facts["kimg"]), resume=checkpoint, held_out=held_out)
    found = load_file(run / "model.safetensors")
    assert found.keys() == wanted.keys()
    for name, value in found.items():  # to the bit on one processor
        torch.testing.assert_close(value, wanted[name], atol=0.02, rtol=0.02)


def test_states_of_mixed_datasets_and_streams_load(caplog):
    states = json.loads((WRITTEN / "states.json").read_text())
    acgan = patterned(made("acgan-28"))
    dataset = ConditionalGANAugment(DATA, acgan, ratio=0.3, seed=3, mode="replace", resample=True)
    dataset.load_state_dict(states["dataset"])
    assert dataset.epoch == 2
    stream = ConditionalGANStream(Stream(), acgan, ratio=0.3, seed=3, buffer=8)
    expected = [label for _, label in stream][20:]
    stream.load_state_dict(states["stream"])
    assert [label for _, label in stream] == expected
    assert not caplog.records
    for other in ({"seed": 4}, {"generator": states["filtered"]["generator"]}):
        with pytest.raises(ValueError, match="another mixed dataset"):
            dataset.load_state_dict({**states["dataset"], **other})


def test_a_state_with_a_filter_loads_and_says_what_was_not_compared(caplog):
    states = json.loads((WRITTEN / "states.json").read_text())
    with torch.random.fork_rng():
        accept = ClassifierAgreement(SmallCNN(10))
    dataset = ConditionalGANAugment(DATA, patterned(made("acgan-28")), ratio=0.3, accept=accept)
    with caplog.at_level(logging.WARNING):
        dataset.load_state_dict(states["filtered"])
    assert "could not be compared" in caplog.text
    with pytest.raises(ValueError, match="another mixed dataset"):
        dataset.load_state_dict(states["dataset"])
    with pytest.raises(ValueError, match="generator"):  # those of today are compared
        dataset.load_state_dict({**dataset.state_dict(), "generator": states["filtered"]["generator"]})
