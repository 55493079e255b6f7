"""Training in phases: a flow, its distillation to few passes, and the game against a discriminator."""

from __future__ import annotations

import copy
import gc
import json
from dataclasses import replace
from functools import partialmethod
from itertools import groupby

import pytest
import torch
from accelerate import Accelerator
from helpers.killed import new_trainer
from helpers.programs import as_a_program

from ganaug import Generator, InputError, LabelledImages
from ganaug.core.pixels import to_float
from ganaug.generators import ACGANGenerator, FlowGenerator
from ganaug.training import (
    MODELS,
    FlowTrainer,
    RunFolder,
    check_same_run,
    find_checkpoint,
    loop,
    make_trainer,
    presets,
    train,
)
from ganaug.training.again import recipe_of
from ganaug.training.presets import time_training

FLOW, DISTILLATION, GAME = 12, 8, 2  # steps
STEPS = FLOW + DISTILLATION + GAME


def halves(n: int = 64) -> LabelledImages:
    """Images of two classes, white on the left or on the right."""
    images = torch.full((n, 1, 8, 8), 15, dtype=torch.uint8)
    targets = torch.arange(n) % 2
    images[targets == 0, :, :, :4] = 215
    images[targets == 1, :, :, 4:] = 215
    return LabelledImages(images, targets, ("left", "right"), "halves")


def build(names=("left", "right"), kind=ACGANGenerator, **options) -> FlowGenerator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(names, image_size=8, width=16, **options)


def trainer_of(generator: FlowGenerator, accelerator: Accelerator, data=None, **changes) -> FlowTrainer:
    model = MODELS["acgan" if isinstance(generator, ACGANGenerator) else "flow"]
    settings = replace(model.settings, **{"train_batch_size": 16, "total_kimg": 16 * STEPS / 1000, **changes})
    with torch.random.fork_rng():
        return make_trainer(generator, model.objective, data or halves(), settings, accelerator)


def passes_to_draw(generator: Generator) -> int:
    """Through the network, for a batch of images."""
    count = []
    hook = generator.unet.register_forward_hook(lambda *_: count.append(1))
    with torch.no_grad():
        generator(torch.zeros(2, generator.latent_dim), torch.tensor([0, 1]))
    hook.remove()
    return len(count)


@pytest.mark.parametrize("kind", [ACGANGenerator, FlowGenerator], ids=["acgan", "two passes"])
def test_images_are_drawn_in_few_passes_and_are_of_their_class(accelerator, tmp_path, kind):
    options = {} if kind is ACGANGenerator else {"steps": 2}
    trainer = trainer_of(build(kind=kind, **options), accelerator, total_kimg=4.8, ema_kimg=0.2)
    generator = train(trainer, RunFolder(tmp_path))
    loaded = Generator.from_pretrained(tmp_path)
    assert type(loaded) is kind
    assert passes_to_draw(loaded) == (1 if kind is ACGANGenerator else 2)
    labels = torch.arange(40) % 2
    images = loaded.sample(labels).float()
    assert torch.equal(images, generator.sample(labels).float())
    left, right = images[..., :4].mean((1, 2, 3)), images[..., 4:].mean((1, 2, 3))
    assert ((right > left) == (labels == 1)).all()
    assert abs(torch.where(labels == 1, right, left).mean() - 215) < 40
    assert abs(torch.where(labels == 1, left, right).mean() - 15) < 40


def test_batches_are_computed_in_a_share_for_each_thread(accelerator):
    """Through all phases: to the same bits each time, and nearly to those of whole batches."""

    def train_in(threads: int) -> tuple[int, list[torch.Tensor]]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            trainer = trainer_of(build(), accelerator, train_batch_size=40, total_kimg=40 * STEPS / 1000)
            with torch.random.fork_rng():
                found = [trainer.step(step) for step in range(STEPS)]
        finally:
            torch.set_num_threads(before)
        losses = torch.stack([next(iter(each.values())) for each in found])
        return trainer.shares, [losses, *trainer.averaged_generator.state_dict().values()]

    (one, whole), (two, shared), (_, again), (five, _) = map(train_in, (1, 2, 2, 5))
    assert (one, two, five) == (1, 2, 2)  # a share has at least 16 images
    assert all(map(torch.equal, shared, again))
    torch.testing.assert_close(shared, whole, rtol=0.01, atol=0.001)
    assert not all(map(torch.equal, shared, whole))  # or they were not shared


def test_distillation_brings_images_nearer_to_the_teachers(accelerator):
    trainer = trainer_of(build(kind=FlowGenerator, steps=2), accelerator, total_kimg=4.8)
    flow, distillation = trainer.phases
    assert (flow.first, flow.last, distillation.last) == (0, 200, 300)
    with torch.random.fork_rng():
        found = [trainer.step(step) for step in range(trainer.total_steps)]
    assert ["loss" in each for each in found] == [True] * 200 + [False] * 100
    distances = torch.stack([each["distance"] for each in found[200:]])
    assert distances[-10:].mean() < 0.5 * distances[:3].mean()
    assert passes_to_draw(trainer.teacher) == 8


def test_a_real_image_is_learned_from_the_noise_that_the_teacher_would_draw_it_from(accelerator):
    """And no more often than it is there: of 40 batches, 4 are real images, and the others the teacher's own."""
    data = halves()
    trainer = trainer_of(
        build(kind=FlowGenerator, steps=2), accelerator, data, total_kimg=9.6
    )  # 40 batches of triples
    wanted = []
    network = trainer.network
    trainer.network = lambda x, labels, t=None: wanted.append((x, labels)) or network(x, labels, t)
    with torch.random.fork_rng():
        for step in range(440):
            trainer.step(step)
    z, labels = (torch.cat(each) for each in zip(*wanted[400:], strict=True))
    assert (len(z), z.shape[1]) == (640, 64)
    assert 0.9 < z[:64].std() < 1.1  # those of the 64 real images, as spread as noise
    assert labels[:64].sum() == data.targets.sum()
    with torch.no_grad():
        drawn = trainer.teacher(z[:64], labels[:64]).flatten(1)
    one, other = to_float(data.images[:2]).flatten(1)
    nearest = torch.stack([(drawn - image).square().mean(1) for image in (one, other)]).amin(0)
    assert (nearest < 0.1 * (one - other).square().mean()).float().mean() > 0.9


def test_a_flow_of_eight_passes_has_one_phase(accelerator):
    trainer = trainer_of(build(kind=FlowGenerator), accelerator)
    assert len(trainer.phases) == 1
    assert trainer.facts() == {}


def test_pictures_are_drawn_as_it_can_draw_by_then_and_only_the_last_phase_is_chosen_from(accelerator):
    trainer = trainer_of(build(), accelerator)
    passes = []
    with torch.random.fork_rng():
        for step in range(STEPS):
            trainer.step(step)
            passes.append(passes_to_draw(trainer.pictured_generator))
    assert passes == [8] * FLOW + [1] * (DISTILLATION + GAME)
    assert [trainer.may_be_chosen(step) for step in (0, FLOW, STEPS - 2, STEPS - 1, STEPS)] == [False] * 3 + [True] * 2
    trainer = trainer_of(build(kind=FlowGenerator), accelerator)
    assert [trainer.may_be_chosen(step) for step in (1, 16)] == [True] * 2


def test_a_generator_that_a_hook_saves_comes_back_as_it_is(accelerator, tmp_path):
    """In the first phase too, when it cannot draw in one pass yet."""
    alike = []

    def save(event):
        event.generator.save_pretrained(tmp_path / str(event.step))
        loaded = Generator.from_pretrained(tmp_path / str(event.step))
        alike.append(torch.equal(loaded.sample([0, 1]), event.generator.sample([0, 1])))

    train(trainer_of(build(), accelerator, sample_kimg=0.064), RunFolder(tmp_path / "run"), on_grid=save)
    assert alike == [True] * 6


def test_the_bar_says_what_is_done(accelerator, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(loop, "describe", lambda bar, what: said.append(what))
    train(trainer_of(build(), accelerator), RunFolder(tmp_path))
    assert [what for what, _ in groupby(said)] == [
        "flow", "distillation", "distillation (preparing, 50%)", "distillation (preparing, 100%)", "distillation",
        "adversarial", "drawing images", "adversarial",
    ]  # fmt: skip


def test_what_a_step_needs_first_is_done_once(accelerator):
    """By whoever asks for it, and else by the step itself."""
    states, shares = [], []
    for asks in (False, True):
        trainer = trainer_of(build(), accelerator)
        with torch.random.fork_rng():
            for step in range(STEPS):
                if asks:
                    shares.append(list(trainer.prepare(step)))
                trainer.step(step)
                assert list(trainer.prepare(step)) == []
        states.append(trainer.state())
    assert shares == [[]] * FLOW + [[0.5, 1.0]] + [[]] * 9  # 8 steps of distillation take two batches of triples
    for part, tensors in states[0].items():
        assert all(torch.equal(value, states[1][part][name]) for name, value in tensors.items()), part


def test_the_auxiliary_classifier_learns_the_classes(accelerator):
    trainer = trainer_of(build(), accelerator, total_kimg=8.8)
    with torch.random.fork_rng():
        monitors = [trainer.step(step) for step in range(trainer.total_steps)]
    assert torch.stack([each["class_accuracy_real"] for each in monitors[-10:]]).mean() > 0.9


@pytest.mark.parametrize("steps", [1, 2, 5, 6, 11])
def test_a_short_training_can_be_timed(accelerator, steps):
    """It has no phases without steps, and none runs into the next."""
    trainer = trainer_of(build(), accelerator, total_kimg=16 * steps / 1000)
    assert sum(phase.last - phase.first for phase in trainer.phases) == steps
    assert all(phase.first < phase.last for phase in trainer.phases)
    assert trainer.may_be_chosen(steps)
    assert time_training(trainer, seconds=0.01).seconds_per_step > 0


def test_learning_rates_fall_to_zero_in_each_phase(accelerator):
    trainer = trainer_of(build(), accelerator, learning_rate=1e-3, lr_decay=1.0)
    rates = []
    with torch.random.fork_rng():
        for step in range(STEPS):
            trainer.step(step)
            rates.append(trainer.optimizer.param_groups[0]["lr"])
    lengths = {FLOW: 1e-3, DISTILLATION: 0.5e-3, GAME: 0.1e-3}
    falls = [rate * (1 - k / length) for length, rate in lengths.items() for k in range(length)]
    assert rates == pytest.approx(falls)


def test_the_discriminator_sees_with_the_teachers_network_and_learns_to_judge(accelerator):
    trainer = trainer_of(build(), accelerator)
    discriminator = trainer.bare_discriminator
    heads = {name: value.clone() for name, value in discriminator.named_parameters() if value.requires_grad}
    with torch.random.fork_rng():
        for step in range(STEPS):
            assert (trainer.closer_look() == {}) == (step <= FLOW + DISTILLATION)  # when the game begins
            monitors = trainer.step(step)
    for name, value in trainer.teacher.unet.state_dict().items():
        assert torch.equal(discriminator.unet.state_dict()[name], value), name
    changed = dict(discriminator.named_parameters())
    still = [name for name, value in heads.items() if torch.equal(changed[name], value)]
    assert set(still) <= {"real_fake_head.bias"}  # pushed up and down alike while nothing is sure
    assert {
        "D_loss",
        "G_loss",
        "class_accuracy_real",
        "class_accuracy_fake",
        "distance",
    } <= monitors.keys()


@pytest.mark.parametrize("steps", [1, 2])
def test_training_that_goes_back_to_the_flow_gets_another_teacher(accelerator, steps):
    """As after a divergence, when the last checkpoint is of the phase before."""
    kind = {"kind": ACGANGenerator} if steps == 1 else {"kind": FlowGenerator, "steps": steps}
    gone, fresh = (trainer_of(build(**kind), accelerator) for _ in range(2))
    ends = []
    with torch.random.fork_rng():
        for step in range(FLOW - 1):
            gone.step(step)
        before = copy.deepcopy(gone.state())
        for step in range(FLOW - 1, FLOW + 4):
            gone.step(step)
        assert gone.teacher is not None
        for trainer in (gone, fresh):
            trainer.load_state(copy.deepcopy(before))
            assert trainer.teacher is None
            for step in range(FLOW - 1, STEPS):
                trainer.step(step)
            ends.append(trainer.state())
    assert ends[0].keys() == ends[1].keys()
    for part, tensors in ends[0].items():
        assert all(torch.equal(value, ends[1][part][name]) for name, value in tensors.items()), part


def test_a_run_goes_on_alike_from_each_of_its_phases(tmp_path):
    """From checkpoints in each phase and between them; the teacher's images are drawn again."""
    with as_a_program():
        everything = {"checkpointing_kimg": 0.008, "checkpoints_total_limit": STEPS}
        whole = new_trainer("acgan", "bf16", STEPS, **everything)
        train(whole, RunFolder(tmp_path / "whole"))
        expected = whole.state()
        assert set(expected) == {
            "average",
            "generator",
            "generator_optimizer",
            "discriminator",
            "discriminator_optimizer",
            "teacher",
        }
        for step in (3, FLOW, FLOW + 3, STEPS - 2, STEPS - 1):
            checkpoint = find_checkpoint(tmp_path / "whole" / "training" / "checkpoints" / f"step-{step:08d}")
            again = new_trainer("acgan", "bf16", STEPS, **everything)
            check_same_run(checkpoint, again)
            train(again, None, resume=checkpoint)
            for part, tensors in again.state().items():
                assert tensors.keys() == expected[part].keys()
                assert all(torch.equal(value, expected[part][name]) for name, value in tensors.items()), (step, part)


def test_its_length_cannot_change_on_the_way(tmp_path):
    """For the phases would be others."""
    with as_a_program():
        trainer = new_trainer("acgan", "no", STEPS)
        train(trainer, RunFolder(tmp_path))
        longer = new_trainer("acgan", "no", 2 * STEPS)
        for override in (False, True):
            with pytest.raises(InputError, match=r"settings\. total_kimg: 0\.176 there, 0\.352 here, and its phases"):
                check_same_run(find_checkpoint(tmp_path), longer, override=override)
        # As long as the phases are what they were, another total_kimg is but another way to say it.
        check_same_run(find_checkpoint(tmp_path), new_trainer("acgan", "no", STEPS, total_kimg=0.1759), override=True)
    facts = json.loads((tmp_path / "config.json").read_text())["training"]
    lengths = [facts[f"{name}_kimg"] for name in ("flow", "distillation", "adversarial")]
    assert lengths == pytest.approx([0.008 * FLOW, 0.008 * DISTILLATION, 0.008 * GAME])
    # They are part of what a run is resumed with, as are the rates, which another version of ganaug may change.
    assert [facts[f"{name}_rate"] for name in ("flow", "distillation", "adversarial")] == [1, 0.5, 0.1]


@pytest.mark.slow
def test_only_what_takes_long_is_compiled(accelerator, monkeypatch):
    """The network in the flow and in distillation, and the discriminator for its own steps and for the generator's."""
    compiled = []

    def note(graph, _):
        compiled.append(graph)
        return graph.forward

    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend=note))
    trainer = trainer_of(build(), accelerator, compile=True, total_kimg=0.4)
    _, distillation, adversarial = trainer.phases
    seen = []
    with torch.random.fork_rng():
        for step in (0, 1, distillation.first, adversarial.first, adversarial.first + 1, adversarial.last - 1):
            trainer.step(step)
            trainer.closer_look()
            seen.append(len(compiled))
    torch.compiler.reset()
    assert seen == [1, 1, 2, 3, 4, 4]


@pytest.mark.parametrize("kimg", [0.016, 0.032, 0.048])
def test_a_run_may_be_as_short_as_a_step(accelerator, tmp_path, kimg):
    generator = train(trainer_of(build(), accelerator, total_kimg=kimg), RunFolder(tmp_path))
    assert generator.sample([0, 1]).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augment": ("flip", "cutout")}, "an acgan learns to draw all it is shown.*got cutout"),
        ({"discriminator_steps": 2}, "no use for discriminator_steps"),
        ({"half_batches": True}, "no use for half_batches"),
        ({"fake_labels": "real"}, "no use for fake_labels"),
    ],
)
def test_settings_that_mean_nothing_to_an_acgan_are_refused(accelerator, changes, message):
    with pytest.raises(InputError, match=message):
        trainer_of(build(), accelerator, **changes)


def test_batches_in_parts_train_as_whole_ones(accelerator):
    """Through the flow and its distillation; the discriminator's noise is drawn for each part."""
    found = []
    for parts in (1, 2, 4):
        split = {
            "train_batch_size": 8 // parts,
            "total_kimg": 8 * STEPS / 1000,
            "gradient_accumulation_steps": parts,
            "mixed_precision": "no",
        }
        trainer = trainer_of(build(), accelerator, **split)
        with torch.random.fork_rng():
            steps = [trainer.step(step) for step in range(STEPS)]
        found.append(torch.stack([next(iter(each.values())) for each in steps[:-GAME]]))
        assert "G_loss" in steps[-1]
    assert torch.allclose(found[0], found[1], rtol=1e-3)
    assert torch.allclose(found[0], found[2], rtol=1e-3)


def test_the_time_of_a_training_covers_all_phases(accelerator, monkeypatch):
    """The steps of each, and what the teacher draws before the second."""
    trainer = trainer_of(build(), accelerator, total_kimg=3.2)
    asked, timed = [], []
    rehearse, step = trainer.rehearse, trainer.step
    monkeypatch.setattr(trainer, "rehearse", lambda phase: asked.append((phase.name, rehearse(phase))) or 40.0)
    monkeypatch.setattr(trainer, "step", lambda number: timed.append(trainer.phase(number).name) or step(number))
    pace = time_training(trainer, seconds=0.3)
    assert [name for name, _ in asked] == ["flow", "distillation", "adversarial"]
    assert [seconds > 0 for _, seconds in asked] == [False, True, False]
    assert all(timed.count(name) >= 5 for name, _ in asked)
    assert 120 < pace.seconds_per_step * trainer.total_steps < 240


def test_the_memory_of_a_training_covers_its_triples(accelerator, monkeypatch):
    """Of float16 noise and uint8 images, as many as the training will have, when it is asked for."""
    trainer = trainer_of(build(), accelerator, total_kimg=3.2)
    held = []

    def ask() -> int:
        tensors = [each for each in gc.get_objects() if type(each) is torch.Tensor]
        held.append(sum(each.nbytes for each in tensors if each.dtype in (torch.float16, torch.uint8)))
        return 0

    monkeypatch.setattr(presets, "memory_held", ask)
    time_training(trainer, seconds=0.01)
    _, distillation, _ = trainer.phases
    images = 16 * (distillation.last - distillation.first) / 5
    assert held[0] >= 3 * 64 * images > 10 * trainer.data.images.nbytes


def test_what_its_config_says_is_enough_to_train_it_again(accelerator, tmp_path):
    trainer = trainer_of(build(), accelerator)
    assert trainer.is_standard
    train(trainer, RunFolder(tmp_path))
    recipe = recipe_of(Generator.from_pretrained(tmp_path))
    assert (recipe.architecture, recipe.network) == ("acgan", {"width": 16})
    assert recipe.objective == MODELS["acgan"].objective
    assert recipe.settings.total_kimg == trainer.settings.total_kimg
