"""Training a generator again, on other images and with another seed."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.generators import TwoLayers, make_generator
from helpers.images import small_images
from helpers.programs import as_a_program
from safetensors.torch import load_file

from ganaug import Generator, InputError, LabelledImages
from ganaug.core.files import write_json, write_tensors
from ganaug.generators import CGANMLPGenerator
from ganaug.training import (
    MODELS,
    FlowTrainer,
    GANObjective,
    GANTrainer,
    RunFolder,
    TrainingSettings,
    fit,
    hold_back,
    init_from,
    make_trainer,
    start_accelerator,
    train,
)
from ganaug.training.again import recipe_of, train_again, trained_before, trained_on
from ganaug.training.own_process import Recipe, run_job

QUICK = TrainingSettings(
    total_kimg=0.064,
    train_batch_size=16,
    log_kimg=0.032,
    evaluation_kimg=0.032,
    mixed_precision="no",
    cpu_threads=1,
    ema_kimg=0.01,
)
DATA = small_images(300)


def trained(model: str = "flow", images: LabelledImages = DATA, **changes: Any) -> Generator:
    """A generator that was trained for some steps and choosing by images held back, not saved."""
    with as_a_program():
        settings = replace(QUICK, **changes)
        accelerator = start_accelerator(settings)
        kept, held_out = hold_back(settings, images, images)
        options = {"width": 16} if model == "flow" else {}
        generator = MODELS[model].make_generator(kept, **options)
        return train(
            make_trainer(generator, MODELS[model].objective, kept, settings, accelerator), None, held_out=held_out
        )


@pytest.fixture(autouse=True, scope="module")
def _quick_scores():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IMAGES", "STEPS", "REFERENCE_STEPS"):
            patch.setattr(f"ganaug.evaluation.generator_score.{name}", 12)
        yield


@pytest.fixture(scope="module")
def flow() -> Generator:
    return trained(evaluation_kimg=None, seed=3)


@pytest.fixture(scope="module")
def gan() -> Generator:
    return trained("cgan-mlp", checkpointing_kimg=None)


def test_the_same_recipe_on_other_images_is_found_and_trained_once(flow, tmp_path, caplog):
    """The whole way, in a process of its own; what it makes is what a training by hand makes."""
    others = replace(small_images(300, seed=1), name="others")
    assert not trained_before(flow, others, seed=4, folder=tmp_path)
    with caplog.at_level(logging.INFO, "ganaug"):
        again = train_again(flow, others, seed=4, folder=tmp_path)
    assert trained_before(flow, others, seed=4, folder=tmp_path)
    assert "flow is trained again on others. It takes minutes" in caplog.text
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]

    with as_a_program():
        make = partial(MODELS["flow"].make_generator, others, width=16)
        fit(make, GANObjective(), others, replace(QUICK, evaluation_kimg=None, seed=4), tmp_path / "by hand")
    ours, wanted = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "by hand"))
    assert ours.keys() == wanted.keys()
    assert all(torch.equal(ours[name], wanted[name]) for name in wanted)

    assert trained_on(again, others)
    assert not trained_on(again, DATA)
    assert again.info["training"]["seed"] == 4
    metrics = (folder / "training" / "metrics.jsonl").read_text().splitlines()
    assert again.info["training"]["seconds"] >= json.loads(metrics[-1])["seconds"]
    # It is found again, from what a folder says too, and can itself be trained again.
    caplog.clear()
    before = folder.stat().st_mtime_ns
    flow.save_pretrained(tmp_path / "first")
    train_again(Generator.from_pretrained(tmp_path / "first"), others, seed=4, folder=tmp_path)
    assert folder.stat().st_mtime_ns == before
    assert recipe_of(again) == replace(recipe_of(flow), settings=replace(recipe_of(flow).settings, seed=4))


def test_a_recipe_is_that_of_the_training_but_for_what_the_machine_decides(flow, gan):
    found = recipe_of(flow)
    assert (found.architecture, found.network["width"]) == ("flow", 16)
    wanted = replace(QUICK, seed=3, evaluation_kimg=None, cpu_threads=None)
    assert found.settings == wanted
    found = recipe_of(gan)
    assert found.objective == MODELS["cgan-mlp"].objective
    assert found.settings == replace(QUICK, cpu_threads=None, checkpointing_kimg=10)
    # Nothing can be held back of so few, so nothing is of as many others.
    assert recipe_of(trained("cgan-mlp", small_images(60))).settings.evaluation_kimg is None
    changed = make_generator(DATA.classes, image_size=12)
    changed.info["training"] = {
        **asdict(TrainingSettings(mixed_precision="bf16", compile=True, cpu_threads=7)),
        **asdict(GANObjective("hinge", class_weight_real=2.0)),
        **{"num_processes": 4, "held_back": 30, "further_inputs": []},
    }
    assert recipe_of(changed).settings == TrainingSettings(train_batch_size=128)
    assert recipe_of(changed).objective == GANObjective("hinge", class_weight_real=2.0)


def test_images_are_held_back_again_to_choose_by(gan, tmp_path):
    """In this process; repeated images, as in a bootstrap sample, are on one side with all their copies."""
    drawn = DATA.subset(torch.cat([torch.arange(200), torch.arange(100)]).sort().values, "drawn")
    write_tensors(tmp_path / "images.safetensors", {"images": drawn.images, "targets": drawn.targets})
    recipe = recipe_of(gan)
    recipe = replace(recipe, settings=replace(recipe.settings, cpu_threads=1))
    write_json(tmp_path / "job.json", {**asdict(recipe), "files": [], "classes": drawn.classes, "name": drawn.name})
    (tmp_path / "run").mkdir()
    with as_a_program():
        run_job(str(tmp_path), str(tmp_path / "run"))
    made = Generator.from_pretrained(tmp_path / "run")
    assert made.info["training"]["candidates"] == 2
    held_back = made.info["training"]["held_back"]
    assert held_back + made.info["dataset"]["num_images"] == 300
    assert 15 <= held_back <= 45
    kept, held_out = hold_back(QUICK, drawn, drawn)
    assert len(held_out) == held_back
    assert not torch.isin(held_out.image_hashes, kept.image_hashes).any()
    assert trained_on(made, drawn)


def test_what_a_generator_was_trained_on(flow, gan, tmp_path):
    for generator in (flow, gan):  # which had a tenth held back
        assert trained_on(generator, DATA)
        assert not trained_on(generator, small_images(300, seed=1))
        assert not trained_on(generator, DATA.subset(torch.arange(299), "fewer"))
        # The classes may have been opened in another order.
        turned = replace(DATA, targets=2 - DATA.targets, classes=DATA.classes[::-1])
        assert trained_on(generator, turned)
        assert not trained_on(generator, replace(DATA, classes=("a", "b", "c")))
        with pytest.raises(InputError, match="labels"):
            trained_on(generator, replace(DATA, targets=(DATA.targets + 1) % 3))
        # Without the list of images, their fingerprint tells.
        generator.save_pretrained(tmp_path / generator.architecture)
        (tmp_path / generator.architecture / "training_images.safetensors").unlink()
        bare = Generator.from_pretrained(tmp_path / generator.architecture)
        assert bare.seen_images is None
        assert trained_on(bare, DATA)
        assert not trained_on(bare, small_images(300, seed=1))
    assert not trained_on(make_generator(DATA.classes, image_size=12), DATA)
    assert not trained_on(torch.nn.Identity(), DATA)


def test_one_that_saw_more_was_not_trained_on_just_these():
    first = trained(images=small_images(300, seed=1), evaluation_kimg=None)
    with as_a_program():
        settings = replace(QUICK, evaluation_kimg=None)
        generator = MODELS["flow"].make_generator(DATA, width=16)
        init_from(generator, first)
        further = train(make_trainer(generator, GANObjective(), DATA, settings, start_accelerator(settings)), None)
    assert further.info["dataset"]["fingerprint"] == DATA.fingerprint
    assert not trained_on(further, DATA)
    with pytest.raises(InputError, match="weights of a trained generator"):
        recipe_of(further)


@pytest.mark.parametrize(("model", "options"), [*(("flow", {"steps": k}) for k in (1, 7, 8)), ("acgan", {})])
def test_a_recipe_knows_of_later_phases_as_its_trainer_does(accelerator, model, options):
    with torch.random.fork_rng():
        generator = MODELS[model].make_generator(DATA, width=16, **options)
        trainer = make_trainer(generator, MODELS[model].objective, DATA, QUICK, accelerator)
    recipe = Recipe(generator.architecture, generator.network_options(), QUICK, MODELS[model].objective)
    assert recipe.has_later_phases == (len(trainer.phases) > 1)


class Mine(CGANMLPGenerator):
    """As the one of ganaug."""


class MyTrainer(FlowTrainer):
    """As the one of ganaug."""


class MyObjective(GANObjective):
    """As the one of ganaug."""


def test_own_code_is_not_trained_again():
    classes, form = DATA.classes, {"image_size": 12, "channels": 1}
    settings = replace(QUICK, total_kimg=0.016, evaluation_kimg=None)

    def gan_of(generator: Generator, **changes: Any) -> Generator:
        made = {"discriminator": generator.make_discriminator(), "objective": GANObjective(), **changes}
        accelerator = start_accelerator(settings)
        return train(GANTrainer(generator, *made.values(), DATA, settings, accelerator), None)

    with as_a_program():
        theirs = MODELS["cgan-mlp"].make_generator
        flow = MODELS["flow"].make_generator(DATA, width=16)
        other = MODELS["cgan-mlp"].make_generator(small_images(300, classes=4)).make_discriminator()
        found = {
            "ganaug's own parts": gan_of(theirs(DATA)),
            "an objective": gan_of(theirs(DATA), objective=MyObjective()),
            "a discriminator": gan_of(theirs(DATA), discriminator=other),
            "a trainer": train(MyTrainer(flow, DATA, settings, start_accelerator(settings)), None),
            "a generator": gan_of(Mine(classes, **form)),
        }
    recipe_of(found.pop("ganaug's own parts"))
    for name, generator in found.items():
        with pytest.raises(InputError, match="own"):
            recipe_of(generator)
        assert generator.info["training"]["further_inputs"] == ["code of the user's own"], name
    with torch.random.fork_rng():
        unknown = TwoLayers(classes)
    with pytest.raises(InputError, match="class of your own"):
        recipe_of(unknown)


def test_pseudo_labelled_images_are_noted(tmp_path):
    with as_a_program():
        settings = replace(QUICK, evaluation_kimg=None)
        run = RunFolder(tmp_path / "run")
        run.write_settings({"command": "ganaug train --unlabeled_data more", "unlabeled_data": "more"})
        generator = MODELS["flow"].make_generator(DATA, width=16)
        made = train(make_trainer(generator, GANObjective(), DATA, settings, start_accelerator(settings)), run)
    with pytest.raises(InputError, match="pseudo-labelled images"):
        recipe_of(made)


def test_configs_that_do_not_say_enough(flow, tmp_path):
    def saying(changes: dict[str, Any]) -> Generator:
        flow.save_pretrained(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        config["training"] = {**config["training"], **changes}
        config["training"] = {name: value for name, value in config["training"].items() if value != "gone"}
        (tmp_path / "config.json").write_text(json.dumps(config))
        return Generator.from_pretrained(tmp_path)

    recipe_of(saying({}))
    with pytest.raises(InputError, match="lacks further_inputs, as those of older versions do"):
        recipe_of(saying({"further_inputs": "gone"}))
    for changes in ({"total_kimg": -1}, {"augment": ["blur"]}, {"num_processes": None}, {"augment": 7}):
        with pytest.raises(InputError, match="but not as ganaug does"):
            recipe_of(saying(changes))
    with torch.random.fork_rng():
        unconditional = MODELS["dcgan-32"].make_generator(small_images(size=32))
    with pytest.raises(InputError, match="unconditional"):
        recipe_of(unconditional)
    with pytest.raises(InputError, match="of its own form"):
        train_again(flow, small_images(300, size=8), seed=1, folder=tmp_path / "unused")
    assert not Path(tmp_path / "unused").exists()
