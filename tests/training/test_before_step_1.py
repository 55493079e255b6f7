"""What would be lost at the end of training is refused before its first step; torch's defaults change nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from helpers.defaults import DEFAULTS
from helpers.generators import own_generator, tie, times_w
from helpers.images import small_images
from helpers.programs import as_a_program, run_ranks

from ganaug import Generator, InputError
from ganaug.generators import FlowGenerator
from ganaug.training import (
    MODELS,
    FlowTrainer,
    GANObjective,
    GANTrainer,
    RunFolder,
    TrainingSettings,
    find_checkpoint,
    fit,
    make_trainer,
    train,
)

DATA = small_images(24, classes=2, size=8)
SETTINGS = TrainingSettings(
    total_kimg=0.016, train_batch_size=8, checkpointing_kimg=0.008, evaluation_kimg=None, mixed_precision="no"
)
OBJECTIVE = GANObjective("hinge", class_weight_real=1, class_weight_generator=1)


def own_trainer(accelerator, name, *, objective=OBJECTIVE, change=lambda made: made, **members):
    made = change(own_generator(name, DATA.classes, **members))
    with torch.random.fork_rng():
        return GANTrainer(made, made.make_discriminator(), objective, DATA, SETTINGS, accelerator)


def assert_refused(trainer, folder, message):
    """Before the first step: no metrics, no checkpoint, no picture."""
    trainer.step = None
    with pytest.raises(InputError, match=message):
        train(trainer, RunFolder(folder))
    assert not any(path.is_file() for path in folder.rglob("*"))
    RunFolder(folder)  # may be used again


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "WidthsAsAList": ({"network_options": lambda made: {"latent_dim": 64, "widths": [64, 64]}}, "widths must be"),
    "NoiseThatIsNotSaved": (
        {"build": lambda made: made.register_buffer("w", torch.randn(64), persistent=False), "images": times_w},
        "buffer w",
    ),
    "ComplexNumbers": (
        {"build": lambda made: made.register_buffer("w", torch.ones(64, dtype=torch.complex64))},
        "complex64",
    ),
    "TooDeep": ({"network_options": lambda made: {"latent_dim": 64, "depth": 10**6}}, "depth must be"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_generator_that_could_not_be_loaded_again_is_not_trained(accelerator, tmp_path, name):
    members, message = CASES[name]
    assert_refused(own_trainer(accelerator, name, **members), tmp_path, f"could not be loaded again.*{message}")


def test_a_class_that_is_not_registered_is_not_trained(accelerator, tmp_path):
    class Mine(FlowGenerator):
        architecture = "mine"

    with torch.random.fork_rng():
        trainer = FlowTrainer(Mine(DATA.classes, image_size=8, width=8), DATA, SETTINGS, accelerator)
    assert_refused(trainer, tmp_path, "Mine .*register_generator")


def test_facts_of_an_objective_that_cannot_be_saved_are_refused(accelerator, tmp_path):
    @dataclass(frozen=True)
    class Scheduled(GANObjective):
        schedule: dict[str, dict[str, float]] = field(default_factory=lambda: {"lr": {"start": 1.0}})

        def __post_init__(self):
            """Takes values that are not numbers."""

    trainer = own_trainer(accelerator, "AsItIs", objective=Scheduled("hinge", class_weight_real=1))
    assert_refused(trainer, tmp_path, "schedule must be short, plain JSON")


@pytest.mark.parametrize("change", ["double", "half"])
@pytest.mark.parametrize("which", ["generator", "discriminator"])
def test_weights_of_another_type_are_not_trained(accelerator, tmp_path, which, change):
    made = own_generator("AsItIs", DATA.classes)
    with torch.random.fork_rng():
        networks = {"generator": made, "discriminator": made.make_discriminator()}
    getattr(networks[which], change)()
    trainer = GANTrainer(*networks.values(), OBJECTIVE, DATA, SETTINGS, accelerator)
    assert_refused(trainer, tmp_path, r"float(64|16), and weights are trained in float32.*\.float\(\)")


def test_a_generator_made_in_inference_mode_is_not_trained(accelerator, tmp_path):
    with torch.inference_mode():
        trainer = own_trainer(accelerator, "AsItIs")
    assert_refused(trainer, tmp_path, "made in torch.inference_mode")


def test_what_is_not_saved_may_be_anything(accelerator):
    """Without a folder nothing is written."""
    with torch.random.fork_rng():
        trainer = own_trainer(accelerator, "WidthsAsAList", **CASES["WidthsAsAList"][0])
        assert train(trainer, None).label_names == DATA.classes


RANK = """
from accelerate import Accelerator
from helpers.generators import own_generator
from helpers.images import small_images
from ganaug.training import *

data, settings = small_images(24, classes=2, size=8), TrainingSettings(total_kimg=1, train_batch_size=8)
made = own_generator("Wide", data.classes, network_options=lambda made: {"latent_dim": 64, "widths": [64]})
accelerator = start_accelerator(settings)
trainer = GANTrainer(made, made.make_discriminator(), GANObjective("hinge"), data, settings, accelerator)
train(trainer, RunFolder("run") if accelerator.is_main_process else None)
"""


def test_all_processes_end_when_one_refuses(tmp_path):
    for output in run_ranks(2, "-c", RANK, cwd=tmp_path, expected=1):
        assert "InputError" in output
        assert "widths must be" in output
    assert not (tmp_path / "run" / "training" / "metrics.jsonl").exists()


def test_tied_weights_are_trained_kept_in_checkpoints_and_resumed(accelerator, tmp_path):
    with torch.random.fork_rng():
        whole = train(own_trainer(accelerator, "Tied", build=tie), RunFolder(tmp_path))
        checkpoint = find_checkpoint(next(tmp_path.glob("training/checkpoints/*1")))
        resumed = train(
            own_trainer(accelerator, "Tied", build=tie),
            RunFolder(tmp_path, after_kimg=checkpoint.facts["kimg"]),
            resume=checkpoint,
        )
    loaded = Generator.from_pretrained(tmp_path)
    for made in (whole, resumed, loaded):
        assert made.second.weight is made.first.weight
        assert torch.equal(made.sample([0, 1]), whole.sample([0, 1]))
    assert not torch.equal(whole.sample([0, 1]), own_generator("Tied").sample([0, 1]))


def trained_and_drawn(model, accelerator, folder):
    """Weights after two steps, and images of what was loaded from the run's folder."""
    chosen = MODELS[model]
    augment = ("flip",) if model == "flow" else ("shift", "flip", "cutout", "brightness")
    settings = replace(SETTINGS, augment=augment, seed=3)
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        generator = chosen.make_generator(DATA, **({"width": 8} if model == "flow" else {}))
        trained = train(make_trainer(generator, chosen.objective, DATA, settings, accelerator), RunFolder(folder))
        loaded = Generator.from_pretrained(folder)
    return trained.state_dict(), loaded.state_dict(), {"images": loaded.sample([0, 1, 0])}


@pytest.mark.parametrize("model", ["sngan", "flow"])
def test_defaults_of_torch_change_nothing(accelerator, tmp_path, model):
    expected = trained_and_drawn(model, accelerator, tmp_path / "usual")
    for name, other in DEFAULTS.items():
        with other():
            found = trained_and_drawn(model, accelerator, tmp_path / name)
        for ours, theirs in zip(expected, found, strict=True):
            assert ours.keys() == theirs.keys()
            for key, value in ours.items():
                assert theirs[key].dtype == value.dtype
                assert theirs[key].device.type == "cpu"
                assert torch.equal(value, theirs[key]), (name, key)


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_generator_loaded_under_other_defaults_can_be_trained_further(accelerator, generator_folder, name):
    with DEFAULTS[name]():
        loaded = Generator.from_pretrained(generator_folder)
        assert torch.get_default_dtype() == {"float64": torch.float64, "bfloat16": torch.bfloat16}.get(
            name, torch.float32
        )
    assert loaded.origin == Generator.from_pretrained(generator_folder).origin  # which has a hash of all weights
    assert all(value.dtype in (torch.float32, torch.int64) for value in loaded.state_dict().values())
    with torch.random.fork_rng():
        loaded.train()(torch.randn(4, loaded.latent_dim), torch.arange(4)).sum().backward()
    assert loaded.embedding.weight.grad.abs().sum() > 0


def test_fitting_in_one_call_refuses_too(tmp_path):
    folder = tmp_path / "run"
    members, message = CASES["WidthsAsAList"]
    made = own_generator("WidthsAsAList", DATA.classes, **members)
    with as_a_program(), pytest.raises(InputError, match=message):
        fit(lambda: made, OBJECTIVE, DATA, SETTINGS, folder)
