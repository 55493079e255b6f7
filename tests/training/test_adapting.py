"""A flow of other classes that becomes one of a few images."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.generators import make_generator
from helpers.images import small_images, write_class_folders
from helpers.programs import as_a_program, without_page
from safetensors.torch import load_file

import ganaug
from ganaug import Generator, InputError, LabelledImages, register_generator
from ganaug.cli import main
from ganaug.evaluation.leakage import check_leakage
from ganaug.generators import ACGANGenerator, FlowGenerator
from ganaug.generators.flow import with_margin
from ganaug.hub.card import published_card
from ganaug.hub.config import Ancestor, ancestors
from ganaug.hub.description import description
from ganaug.mixing import fitting
from ganaug.training import (
    AdaptingTrainer,
    GANObjective,
    check_same_run,
    find_checkpoint,
    fit,
    init_from,
    start_accelerator,
)
from ganaug.training.adapting import CLASSES, adapting_settings, as_other_classes, light_weights, prediction_errors
from ganaug.training.fit import train_to_the_end

QUICK = {"train_batch_size": 8, "total_kimg": 0.064, "log_kimg": 0.032, "mixed_precision": "no", "cpu_threads": 1}


def flow(*names: str, seed: int = 0, **options: int) -> FlowGenerator:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = FlowGenerator(names, **{"image_size": 12, "width": 16, **options})
        for weight in generator.parameters():  # no layer of zeros, as after training
            torch.nn.init.normal_(weight, std=0.1)
    return generator.eval()


def quick(images: LabelledImages, **settings):
    return replace(adapting_settings(images), **{**QUICK, **settings})


def adapted(source: Generator, images: LabelledImages, folder: Path, **settings) -> Generator:
    with as_a_program():
        return train_to_the_end(
            lambda own, accelerator: AdaptingTrainer(source, images, own, accelerator),
            quick(images, **settings),
            folder,
        )


@register_generator
class Greys(FlowGenerator):
    """Knows exactly where images of one grey level are: class k of three is dark, medium or bright."""

    architecture = "greys-for-adapting"

    def velocity(self, x_t, t, labels):
        level = torch.tensor([-0.8, 0.0, 0.8])[labels]
        return (level[:, None, None, None] - x_t) / (1 - t[:, None, None, None])


def of_levels(**levels: int) -> LabelledImages:
    targets = torch.arange(5 * len(levels)) % len(levels)
    noise = torch.randint(0, 10, (len(targets), 1, 12, 12), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(list(levels.values()))[targets][:, None, None, None] + noise
    return LabelledImages(images.to(torch.uint8), targets, tuple(levels), "levels")


def test_a_new_class_starts_as_the_known_one_that_predicts_it_best():
    with torch.random.fork_rng():
        source = Greys(("dark", "medium", "bright"), image_size=12, width=16)
        # Also where a class has a name that the source knows another one by.
        images = of_levels(snow=225, dark=125, coal=20)
        made = as_other_classes(source, images)
    rows = source.label_embedding.weight
    assert torch.equal(made.label_embedding.weight, rows[[2, 1, 0]])
    assert made.label_names == ("snow", "dark", "coal")
    others = [name for name in source.state_dict() if name != "label_embedding.weight"]
    assert all(torch.equal(made.state_dict()[name], source.state_dict()[name]) for name in others)
    errors = prediction_errors(source, images)
    assert errors.argmin(1).tolist() == [2, 1, 0]
    assert torch.equal(errors, prediction_errors(source, images))


class BlackAndWhite(FlowGenerator):
    """The exact flow of a data set that has a black image and a white one, as they are learned."""

    architecture = "black-and-white"

    def velocity(self, images, times, labels):
        targets = with_margin(torch.tensor([-1.0, 1.0]))[labels][:, None, None, None]
        return (targets - images) / (1 - times[:, None, None, None])


def test_black_and_white_are_predicted_as_they_were_learned():
    with torch.random.fork_rng():
        source = BlackAndWhite(("black", "white"), image_size=8, width=8).eval()
    pixels = torch.tensor([255, 0], dtype=torch.uint8)[:, None, None, None].expand(2, 1, 8, 8)
    errors = prediction_errors(source, LabelledImages(pixels, torch.tensor([0, 1]), ("snow", "coal"), "pure"))
    assert errors.flip(1).diagonal().abs().max() < 1e-6
    assert errors.diagonal().min() > 4


def test_a_class_without_images_starts_as_a_known_one():
    source, images = flow("a", "b"), small_images(20, classes=2)
    images = replace(images, classes=(*images.classes, "none yet"))
    with torch.random.fork_rng():
        rows = as_other_classes(source, images).label_embedding.weight
    assert any(torch.equal(rows[2], row) for row in source.label_embedding.weight)


def test_first_only_embeddings_and_normalisations_are_learned_and_then_everything(accelerator):
    source, images = flow("a", "b"), small_images()
    light = light_weights(source)
    assert {name.rsplit(".", 1)[-1] for name in light} == {"weight", "bias"}
    assert "label_embedding.weight" in light
    assert not any("enter" in name or "shrink" in name or "after" in name for name in light)
    with torch.random.fork_rng():
        trainer = AdaptingTrainer(source, images, quick(images), accelerator)
    assert [phase.name for phase in trainer.phases] == ["classes", "network"]

    def changed() -> set[str]:
        began = {**source.state_dict(), "label_embedding.weight": start}
        now = trainer.bare_generator.state_dict()
        return {name for name in now if not torch.equal(now[name], began[name])}

    start = trainer.bare_generator.label_embedding.weight.detach().clone()
    steps = trainer.total_steps
    with torch.random.fork_rng():
        for step in range(steps):
            trainer.step(step)
            if trainer.phase(step).name == CLASSES:
                assert changed() == light
    assert changed() == {name for name, _ in source.named_parameters()}
    rates = [phase.learning_rate_factor for phase in trainer.phases]
    assert rates[0] == 1 > rates[1]


def test_the_same_seed_makes_the_same_generator_and_another_one_another(tmp_path):
    source, images = flow("a", "b"), small_images()
    before = [weight.clone() for weight in source.parameters()]
    first, again = (adapted(source, images, tmp_path / name) for name in ("first", "again"))
    other = adapted(source, images, tmp_path / "other", seed=1)
    weights = [dict(each.named_parameters()) for each in (first, again, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
    assert all(torch.equal(*pair) for pair in zip(before, source.parameters(), strict=True))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda: make_generator(("a", "b"), image_size=12), "only a flow .* of acgan-28"),
        (lambda: flow("a", "b", steps=2), "2 of its 8 passes"),
        (lambda: flow("a", "b", image_size=8), r"grey images of 8x8 pixels, and noise has .*--resolution 8 --chan"),
        (lambda: flow("a", "b", channels=3), r"RGB images of 12x12 pixels, and noise has grey .*--channels 3"),
    ],
)
def test_what_cannot_be_adapted_is_refused_with_what_to_do(accelerator, source, message):
    images = small_images()
    with pytest.raises(InputError, match=message):
        AdaptingTrainer(source(), images, quick(images), accelerator)
    with pytest.raises(InputError, match=message):
        ganaug.adapt(source(), images)


def test_an_acgan_and_augmentation_that_would_be_drawn_are_refused(accelerator):
    images = small_images()
    with torch.random.fork_rng():
        one_pass = ACGANGenerator(("a", "b"), image_size=12, width=16)
    with pytest.raises(InputError, match="1 of its 8 passes"):
        AdaptingTrainer(one_pass, images, quick(images), accelerator)
    with pytest.raises(InputError, match="may only be flip; got shift"):
        ganaug.adapt(flow("a", "b"), images, augment=["shift"])
    with pytest.raises(InputError, match="may only be flip; got shift"):
        AdaptingTrainer(flow("a", "b"), images, quick(images, augment=("shift",)), accelerator)
    with pytest.raises(InputError, match="for evaluation"):
        ganaug.adapt(flow("a", "b"), replace(images, train=False))


def test_a_run_from_another_source_is_not_gone_on_with(tmp_path):
    images = small_images()
    settings = quick(images, checkpointing_kimg=0.032)

    def trainer_of(source: Generator, settings=settings, accelerator=None) -> AdaptingTrainer:
        return AdaptingTrainer(source, images, settings, accelerator or start_accelerator(settings))

    with as_a_program():
        train_to_the_end(partial(trainer_of, flow("a", "b")), settings, tmp_path, resume=True)
        checkpoint = find_checkpoint(tmp_path)
        check_same_run(checkpoint, trainer_of(flow("a", "b")))
        with pytest.raises(InputError, match="adapted_from_sha256"):
            check_same_run(checkpoint, trainer_of(flow("a", "b", seed=1)), override=True)


def test_card_config_and_inspection_tell_all_that_it_was_adapted_from(tmp_path):
    oldest = flow("a", "b")
    oldest.info["dataset"] = {"name": "letters"}
    adapted(oldest, small_images(40, classes=4), tmp_path / "between")
    between = Generator.from_pretrained(tmp_path / "between")
    commit = "0123456789" * 4
    between.origin = between.origin._replace(name=f"alice/noise@{commit}")  # as if it came from there
    adapted(between, small_images(), tmp_path / "new")

    found = Generator.from_pretrained(tmp_path / "new")
    sha256 = [json.loads((tmp_path / "between" / "config.json").read_text())["weights"]["sha256"]]
    sha256.append(oldest.origin.weights_sha256)
    expected = [
        Ancestor(f"alice/noise@{commit}", sha256[0], "noise"),
        Ancestor("flow of a, b", sha256[1], "letters"),
    ]
    assert ancestors(found.info["training"]) == expected
    assert found.info["training"]["further_inputs"] == ["the weights of a trained generator"]
    card = (tmp_path / "new" / "README.md").read_text()
    rows = [f"| {each.name} | `{each.weights_sha256}` | {each.data} |" for each in expected]
    assert "\n".join(rows) in card
    assert "`adapted_from" not in card  # among the settings, too
    for text in (card, published_card(card, None, licence=None)):
        assert "base_model: alice/noise" in text
    assert f"adapted from      alice/noise@{commit}, before that flow of a, b\n" in description(tmp_path / "new", "x")
    assert "Adapted from" not in (tmp_path / "between" / "README.md").read_text().split("### Training")[1]


@pytest.mark.parametrize("facts", [{}, {"adapted_from": "b"}, {"adapted_from": ["b"], "adapted_from_sha256": []}])
def test_what_others_wrote_of_an_origin_is_not_believed_in_part(facts):
    assert ancestors(facts) == []


def test_held_out_images_that_the_source_saw_do_not_judge(tmp_path):
    images, held_out = small_images(), small_images(30, seed=1)
    source = flow("a", "b")
    source.seen_images = held_out.image_hashes[:3].unique()
    found = adapted(source, images, tmp_path / "one")
    assert torch.equal(found.seen_images, torch.cat([source.seen_images, images.image_hashes]).unique())
    with pytest.raises(InputError, match="3 of the 30 held-out images .* that the generator was trained on"):
        check_leakage(found, images, held_out)
    assert check_leakage(found, images, held_out.subset(torch.arange(3, 30), "others")).known


def test_a_source_without_a_record_leaves_it_unknown_what_was_seen(tmp_path):
    """Also two trainings later, and for those that start from it in another way; what is known is still refused."""
    images, held_out = small_images(), small_images(30, seed=1)
    first = adapted(flow("a", "b"), images, tmp_path / "one")
    second = adapted(first, small_images(seed=2), tmp_path / "two")
    third = flow(*images.classes)
    init_from(third, second)
    with as_a_program():
        third = fit(lambda: third, GANObjective(), images, quick(images), tmp_path / "three")
    for generator in (first, second, third):
        check = check_leakage(generator, images, held_out)
        assert (check.known, check.same_images, check.overlap) == (False, False, 0)
        assert "without a record" in check.note
        with pytest.raises(InputError, match="that the generator was trained on"):
            check_leakage(generator, held_out, images)


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A folder with class folders ``photos``, a flow of other classes in ``source``, and a run of ``ganaug adapt``."""
    folder = tmp_path_factory.mktemp("begun")
    write_class_folders(folder / "photos", small_images(24))
    flow("a", "b").save_pretrained(folder / "source")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        flags = ["--total_kimg", "0.064", "--train_batch_size", "8", "--checkpointing_kimg", "0.04"]
        assert command("adapt", "--generator", "source", "--train_data_dir", "photos", *flags) is None
    return folder


def command(*words: str) -> int | str | None:
    """Run ``ganaug`` in this process: None after a good run, else what it ends with."""
    with pytest.MonkeyPatch.context() as patch, as_a_program():
        without_page(patch)
        patch.setattr("ganaug.cli.runs.write_run_page", lambda folder: None)
        patch.setattr(sys, "argv", ["ganaug", *words])
        try:
            main([*words, "--report_to", "none", "--cpu_threads", "1"])
        except SystemExit as ended:
            return ended.code
    return None


def test_the_command_adapts_and_a_stopped_run_goes_on_to_the_same_weights(begun, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(begun / "outputs", "outputs")
    whole = load_file("outputs/flow/model.safetensors")
    found = Generator.from_pretrained("outputs/flow")
    assert found.label_names == ("class 0", "class 1", "class 2")
    assert found.info["training"]["command"].startswith("ganaug adapt --generator source")
    lengths = [found.info["training"][f"{phase}_kimg"] for phase in AdaptingTrainer.PHASES]
    assert sum(lengths) == pytest.approx(0.064)

    Path("outputs/flow/model.safetensors").unlink()
    last = max(Path("outputs/flow/training/checkpoints").iterdir())
    shutil.rmtree(last)
    assert command("adapt", "--resume_from_checkpoint", "latest") is None
    assert "going on after 0.0 kimg, from" in capsys.readouterr().out
    again = load_file("outputs/flow/model.safetensors")
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_the_command_says_what_it_cannot_do(begun, tmp_path, monkeypatch):
    monkeypatch.chdir(begun)
    assert "--generator is missing" in command("adapt", "--train_data_dir", "photos")
    run = str(begun / "outputs" / "flow")
    assert f"Resume it with: ganaug adapt --resume_from_checkpoint {run}" in command(
        "train", "--resume_from_checkpoint", run
    )
    flow("c", "d", seed=1).save_pretrained(tmp_path / "other")
    message = command("adapt", "--resume_from_checkpoint", run, "--generator", str(tmp_path / "other"), "--override")
    assert "adapted_from_sha256" in message
    flags = ["--train_data_dir", "photos", "--model", "flow", "--total_kimg", "0.016", "--train_batch_size", "8"]
    assert command("train", *flags, "--checkpointing_kimg", "0.008", "--output_dir", str(tmp_path / "trained")) is None
    message = command("adapt", "--resume_from_checkpoint", str(tmp_path / "trained"))
    assert "Resume it with: ganaug train --resume_from_checkpoint" in message
    (tmp_path / "trained" / "training" / "settings.json").unlink()
    assert "first of all --generator" in command("adapt", "--resume_from_checkpoint", str(tmp_path / "trained"))


def test_settings_of_a_run_adapt_the_same_weights(begun, tmp_path, monkeypatch):
    monkeypatch.chdir(begun)
    settings = "outputs/flow/training/settings.json"
    assert command("adapt", "--config", settings, "--output_dir", str(tmp_path / "again")) is None
    one, again = (load_file(each / "model.safetensors") for each in (begun / "outputs" / "flow", tmp_path / "again"))
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_in_python_it_is_adapted_once_for_each_source(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fitting, "adapting_settings", quick)
    monkeypatch.setattr(fitting, "write_run_page", lambda folder: None)
    source, images = flow("a", "b"), small_images()
    source.save_pretrained(tmp_path / "source")
    found = ganaug.adapt(tmp_path / "source", images, folder=tmp_path / "run")
    in_this_process = adapted(source, images, tmp_path / "here", checkpointing_kimg=10)
    theirs = dict(in_this_process.named_parameters())
    assert all(torch.equal(weight, theirs[name]) for name, weight in found.named_parameters())
    assert found.label_names == images.classes
    assert [each.name for each in ancestors(found.info["training"])] == ["flow of a, b"]

    def trains(*_):
        raise RuntimeError("it is trained")

    monkeypatch.setattr("ganaug.training.own_process._train", trains)
    again = ganaug.adapt(source, images)
    assert again.origin.weights_sha256 == found.origin.weights_sha256
    with pytest.raises(RuntimeError, match="it is trained"):
        ganaug.adapt(flow("a", "b", seed=1), images)
