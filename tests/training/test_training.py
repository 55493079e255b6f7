from __future__ import annotations

import gc
import json
import math
from dataclasses import asdict, replace
from typing import ClassVar

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from helpers.images import small_images
from PIL import Image
from torch import nn

from ganaug import Generator, InputError, LabelledImages
from ganaug.core.hardware import set_cpu_threads
from ganaug.core.pixels import to_float
from ganaug.generators import ACGAN28Generator, FlowGenerator
from ganaug.generators.layers import ByteDropout
from ganaug.training import MODELS, GANObjective, GANTrainer, RunFolder, TrainingSettings, new_run_folder, train
from ganaug.training.distributed import choose_mixed_precision
from ganaug.training.monitoring import ON_PROGRESS_BAR
from ganaug.training.optim import GeneratorEMA


def make_trainer(
    accelerator: Accelerator, data: LabelledImages, objective=None, model: str = "acgan-28", **settings
) -> GANTrainer:
    """A small trainer of one of the models."""
    chosen = MODELS[model]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        generator = chosen.make_generator(data, latent_dim=8)
        discriminator = generator.make_discriminator()
    settings = {"train_batch_size": 8, "total_kimg": 0.05, "ema_kimg": 0.02, **settings}
    return GANTrainer(
        generator,
        discriminator,
        objective or chosen.objective,
        data,
        replace(chosen.settings, **settings),
        accelerator,
    )


def test_average_of_weights_has_the_half_life_it_says():
    with torch.random.fork_rng():
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = GeneratorEMA(model, half_life=100)
    with torch.no_grad():
        model[0].weight.fill_(1)
    ema.update(images=10, images_seen=10)  # the first takes everything
    assert torch.allclose(ema.module[0].weight, torch.ones(2, 2), rtol=0, atol=1e-5)
    with torch.no_grad():
        model[0].weight.zero_()
        model[1].running_mean.fill_(8)
        model[1].num_batches_tracked.fill_(3)
    for _ in range(4):
        ema.update(images=50, images_seen=10**6)
    assert torch.allclose(ema.module[0].weight, torch.full((2, 2), 0.25))
    assert torch.allclose(ema.module[1].running_mean, torch.full((2,), 6.0))
    assert int(ema.module[1].num_batches_tracked) == 3
    ema.update(images=50, images_seen=1000)  # early: half-life 50, not 100
    assert torch.allclose(ema.module[0].weight, torch.full((2, 2), 0.125))


def test_byte_dropout_drops_as_often_as_it_says_and_keeps_the_mean():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        values = torch.ones(50, 7, 9, 11).to(memory_format=torch.channels_last)
        for p in (0.25, 0.5, 1 / 256, 0.4, 1e-4):
            dropped = ByteDropout(p)(values)
            assert abs((dropped == 0).float().mean().item() - p) < 0.006
            assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-4)
            assert dropped.is_contiguous(memory_format=torch.channels_last)
        assert ByteDropout(0.25).eval()(values) is values
        # every byte of a drawn word is uniform, the last one included
        for p in (0.5, 0.4):
            kept = torch.stack([ByteDropout(p)(torch.ones(8)) for _ in range(2000)]).bool().float().mean(0)
            assert torch.allclose(kept, torch.full((8,), 1 - p), atol=0.06)
        weight = torch.ones(4, requires_grad=True)
        out = ByteDropout(0.5)(weight)
        out.sum().backward()
        assert torch.equal(weight.grad, out.detach())
    with pytest.raises(ValueError, match=r"in \[0, 1\)"):
        ByteDropout(1.0)


class Watching(GANObjective):
    """Notes what each update is shown and may train."""

    seen: ClassVar[list] = []

    def discriminator_loss(self, discriminator, images, labels, *, real):
        weights = torch.cat([p.detach().flatten() for p in discriminator.parameters()])
        frozen = not all(p.requires_grad for p in discriminator.parameters())
        self.seen.append(("D real" if real else "D fake", images, labels, frozen, weights))
        return super().discriminator_loss(discriminator, images, labels, real=real)

    def generator_loss(self, discriminator, images, labels):
        frozen = not any(p.requires_grad for p in discriminator.parameters())
        self.seen.append(("G", images, labels, frozen, None))
        return super().generator_loss(discriminator, images, labels)


@pytest.fixture
def watched(accelerator):
    """What each part of a step of a model is shown."""

    def one_step(data, model, **settings):
        monkey = Watching(**asdict(MODELS[model].objective))
        monkey.seen.clear()
        trainer = make_trainer(accelerator, data, monkey, model, **settings)
        with torch.random.fork_rng():
            monitors = trainer.step(0)
        return trainer, monitors, list(monkey.seen)

    return one_step


def test_each_update_trains_its_own_network_alone(watched):
    trainer, monitors, seen = watched(small_images(), "acgan-28")
    assert [(name, images.requires_grad, frozen) for name, images, _, frozen, _ in seen] == [
        ("D real", False, False),
        ("D fake", False, False),
        ("G", True, True),
    ]
    assert torch.equal(seen[1][1], seen[2][1].detach())  # one pass of the generator serves both
    assert all(p.requires_grad for p in trainer.discriminator.parameters())
    assert set(ON_PROGRESS_BAR) - {"loss", "distance"} < monitors.keys()  # a flow has these
    assert not any(value.requires_grad for value in monitors.values())


def test_half_batches(watched):
    """dcgan-32: D learns from half a batch of reals, then from half a batch of fakes; G from a whole batch."""
    trainer, monitors, (real, fake, whole) = watched(small_images(size=16), "dcgan-32")
    assert [len(part[1]) for part in (real, fake, whole)] == [4, 4, 8]
    assert not torch.equal(real[4], fake[4])  # an update in between
    assert trainer.total_steps == 13  # 50 real images, 4 of them per step
    assert float(monitors["D_loss"]) == pytest.approx(float(monitors["D_loss_real"] + monitors["D_loss_fake"]))
    _, _, (real, fake, _) = watched(small_images(size=16), "dcgan-32", half_batches=False)
    assert torch.equal(real[4], fake[4])
    with pytest.raises(InputError, match="even train_batch_size"):
        TrainingSettings(half_batches=True, train_batch_size=7)


def test_several_discriminator_steps(watched):
    """Each has images of its own; the generator is judged on those of the last."""
    trainer, _, seen = watched(small_images(size=16), "sngan", discriminator_steps=3, augment=())
    assert [name for name, *_ in seen] == ["D real", "D fake"] * 3 + ["G"]
    reals, fakes = [part[1] for part in seen[0:6:2]], [part[1] for part in seen[1:6:2]]
    assert len(torch.cat(reals).unique(dim=0)) == 24
    assert not torch.equal(fakes[0], fakes[1])
    assert torch.equal(fakes[2], seen[6][1].detach())
    assert (trainer.images_per_step, trainer.total_steps) == (24, 3)  # of 50 real images
    with pytest.raises(InputError, match="discriminator_steps 1, got 2"):
        TrainingSettings(half_batches=True, discriminator_steps=2)


def test_all_that_the_discriminator_sees_is_augmented(watched):
    data = small_images(size=16)
    _, _, (real, fake, judged) = watched(data, "sngan", discriminator_steps=1, augment=("brightness",))
    plain = watched(data, "sngan", discriminator_steps=1, augment=())[2]
    for changed, unchanged in zip((real[1], fake[1]), (plain[0][1], plain[1][1]), strict=True):
        assert changed.shape == unchanged.shape
        assert not torch.equal(changed, unchanged)
    assert judged[1].requires_grad
    assert not torch.equal(judged[1].detach(), fake[1])  # drawn anew


def test_learning_rates_fall_to_zero_at_the_end_of_a_run(accelerator):
    trainer = make_trainer(
        accelerator, small_images(), total_kimg=0.08, lr_decay=0.5, discriminator_learning_rate=1e-5
    )
    rates = []
    with torch.random.fork_rng():
        for step in range(trainer.total_steps):
            trainer.step(step)
            rates.append(trainer.generator_optimizer.param_groups[0]["lr"] / 2e-4)
    assert rates == pytest.approx([1] * 6 + [0.8, 0.6, 0.4, 0.2])
    assert trainer.discriminator_optimizer.param_groups[0]["lr"] == pytest.approx(0.2e-5)
    with pytest.raises(InputError, match="lr_decay"):
        TrainingSettings(lr_decay=1.5)


def test_fakes_take_the_real_labels_of_the_batch_where_the_model_says_so(watched):
    data = small_images(n=300, classes=3)
    for model, same in [("cgan-maxout", True), ("cgan-mlp", False)]:
        _, _, (real, fake, whole) = watched(data, model, train_batch_size=64)
        assert torch.equal(real[2], fake[2]) == torch.equal(real[2], whole[2]) == same


def test_no_flip_and_no_padding_between_the_data_and_the_discriminator(watched):
    """Images with a mark in one corner arrive as they are: not mirrored, and no pixel of mid-grey (0) added."""
    images = torch.zeros(40, 1, 12, 12, dtype=torch.uint8)
    images[:, :, 0, 0] = 255
    data = LabelledImages(images, torch.zeros(40, dtype=torch.int64), ("marked",), "marks")
    for model in ("cgan-mlp", "cgan-maxout", "acgan-28"):
        _, _, (real, fake, _) = watched(data, model)
        assert torch.equal(real[1], to_float(images[:8]))
        assert fake[1].shape == real[1].shape
    # acgan-64 is trained as acgan-28 is, and takes 400 MB.
    for model, size in [("dcgan-32", 16), ("dcgan-32-conditional", 16)]:
        enlarged = LabelledImages(images.repeat(1, 1, 2, 2)[..., :size, :size], data.targets, data.classes, "marks")
        _, _, (real, fake, _) = watched(enlarged, model)
        assert torch.equal(real[1], to_float(enlarged.images[: len(real[1])]))
        assert fake[1].shape == real[1].shape
        gc.collect()  # of large networks, which refer to themselves


def test_the_discriminator_may_learn_at_a_rate_of_its_own(accelerator):
    for settings, expected in [({}, (3e-4, 3e-4)), ({"discriminator_learning_rate": 1e-5}, (3e-4, 1e-5))]:
        trainer = make_trainer(accelerator, small_images(), **{"learning_rate": 3e-4, **settings})
        optimizers = (trainer.generator_optimizer, trainer.discriminator_optimizer)
        assert tuple(optimizer.param_groups[0]["lr"] for optimizer in optimizers) == expected


def test_dark_pixels_keep_a_gradient_under_autocast():
    """In bf16 a tanh of -5 is exactly -1, and what it came from can no longer be trained."""
    for model in MODELS.values():  # one at a time, for some are large
        if issubclass(model.generator, FlowGenerator):
            continue  # its images are clamped
        with torch.random.fork_rng():
            generator = model.generator(("a", "b"), image_size=16, channels=1)
        last = [part for part in generator.modules() if getattr(part, "bias", None) is not None][-1]
        with torch.no_grad(), torch.random.fork_rng():
            last.bias.fill_(-5)
            z = torch.randn(4, generator.latent_dim)
        with torch.autocast("cpu", torch.bfloat16):
            images = generator(z, torch.tensor([0, 1, 0, 1]))
        assert images.dtype == torch.float32
        images.sum().backward()
        assert (last.bias.grad != 0).all()


def test_both_networks_and_the_average_move(accelerator):
    trainer = make_trainer(accelerator, small_images())
    networks = (trainer.generator, trainer.discriminator, trainer.averaged_generator)
    before = [[p.detach().clone() for p in network.parameters()] for network in networks]
    with torch.random.fork_rng():
        for step in range(2):
            trainer.step(step)
    for network, old in zip(networks, before, strict=True):
        assert not any(torch.equal(p, q) for p, q in zip(network.parameters(), old, strict=True))
    assert trainer.generator.layers[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_run_leaves_a_generator_metrics_and_grids(accelerator, tmp_path):
    data = small_images(classes=3)
    trainer = make_trainer(accelerator, data, log_kimg=0.02, sample_kimg=0.025)
    folder = RunFolder(tmp_path / "run")
    trained = train(trainer, folder)
    files = {str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if path.is_file()}
    assert files == {
        "model.safetensors", "config.json", "README.md", "training_images.safetensors",
        "training/metrics.jsonl", "samples/grid.png", "samples/real.png", "samples/000000kimg.png",
        *(f"training/checkpoints/step-00000007/{part}.safetensors" for part in trainer.state()),
        "training/checkpoints/step-00000007/manifest.json",
    }  # fmt: skip
    rows = [json.loads(line) for line in (folder.training / "metrics.jsonl").read_text().splitlines()]
    assert [row["kimg"] for row in rows] == [0.024, 0.032, 0.04, 0.056]
    assert all(0 <= row["class_accuracy_real"] <= 1 and row["D_loss"] > 0 and row["seconds"] >= 0 for row in rows)
    # D's accuracy on 150 real and 150 generated images, wherever a grid is drawn
    assert [0 <= row.get("evaluated_accuracy_real", -1) <= 1 for row in rows] == [False, True, False, True]
    assert "evaluated_accuracy_fake" in rows[-1]
    loaded = Generator.from_pretrained(folder.path)
    assert torch.equal(loaded.sample([0, 1, 2]), trained.sample([0, 1, 2]))
    assert loaded.info["dataset"] == {
        "name": "noise",
        "fingerprint": data.fingerprint,
        "num_images": 60,
        "class_counts": {"class 0": 20, "class 1": 20, "class 2": 20},
    }
    assert loaded.info["training"]["total_kimg"] == 0.05
    assert loaded.info["training"]["last_D_loss"] == round(rows[-1]["D_loss"], 4)
    assert "| class 2 | 20 |" in (folder.path / "README.md").read_text()
    with (
        Image.open(folder.path / "samples" / "real.png") as real,
        Image.open(folder.path / "samples" / "000000kimg.png") as grid,
    ):
        assert real.size == grid.size


def test_same_seed_same_generator(tmp_path):
    weights = []
    for seed in (0, 0, 1):
        AcceleratorState._reset_state(True)
        trainer = make_trainer(Accelerator(cpu=True), small_images(), seed=seed)
        weights.append(train(trainer, None).state_dict())
    AcceleratorState._reset_state(True)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["layers.0.weight"], weights[2]["layers.0.weight"])


@pytest.mark.parametrize(
    "labels", [[0], [0, 1], [0] * 30 + [1]], ids=["one image", "one image per class", "30 images to 1"]
)
def test_few_and_imbalanced_images_train(accelerator, labels):
    data = LabelledImages(
        small_images(n=len(labels)).images, torch.tensor(labels), ("a", "b")[: max(labels) + 1], "few"
    )
    trained = train(make_trainer(accelerator, data, train_batch_size=16), None)
    assert trained.sample(range(len(data.classes))).shape[0] == len(data.classes)


def test_a_run_that_diverges_says_so(accelerator):
    trainer = make_trainer(accelerator, small_images(), learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="smaller learning_rate"):
        train(trainer, None)


def test_networks_must_fit_the_images(accelerator):
    data = small_images()
    with torch.random.fork_rng():
        generator = ACGAN28Generator(data.classes)
        discriminator = generator.make_discriminator()
    with pytest.raises(ValueError, match=r"data are \(1, 12, 12\)"):
        GANTrainer(generator, discriminator, GANObjective(), data, TrainingSettings(), accelerator)


def test_a_run_never_overwrites_another(tmp_path):
    wanted = tmp_path / "acgan"
    assert new_run_folder(wanted) == wanted
    RunFolder(wanted)
    with pytest.raises(InputError, match="already holds a run"):
        RunFolder(wanted)
    assert new_run_folder(wanted) == tmp_path / "acgan-2"
    (tmp_path / "acgan-2").mkdir()
    (tmp_path / "acgan-2" / "model.safetensors").touch()
    assert new_run_folder(wanted) == tmp_path / "acgan-3"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Not a directory"):
        RunFolder(tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"total_kimg": 0}, "total_kimg must be positive and finite, got 0"),
        ({"total_kimg": float("nan")}, "total_kimg must be positive and finite, got nan"),
        ({"train_batch_size": -1}, "train_batch_size must be positive and finite, got -1"),
        ({"adam_beta1": 1.0}, r"adam_beta1 must be in \[0, 1\), got 1.0"),
        ({"seed": -3}, "seed must be from 0"),
        ({"cpu_threads": 0}, "cpu_threads must be positive and finite, got 0"),
    ],
)
def test_settings_out_of_range(setting, message):
    with pytest.raises(InputError, match=message):
        TrainingSettings(**setting)


def test_batch_norm_needs_several_images_at_a_time(accelerator):
    data = small_images(size=16)
    with pytest.raises(InputError, match="must be 2 or more"):
        make_trainer(accelerator, data, train_batch_size=1)
    trainer = make_trainer(accelerator, data, model="dcgan-32", half_batches=False, train_batch_size=1)
    with torch.random.fork_rng():
        assert torch.isfinite(trainer.step(0)["D_loss"])  # it has none


def test_precision_follows_flag_then_launcher_then_hardware(monkeypatch):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    for capability, expected in [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": False, "avx2": True}, "no")]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capability: found, raising=False)
        assert choose_mixed_precision("auto") == expected
        assert choose_mixed_precision("no") == "no"
        assert choose_mixed_precision("bf16") == "bf16"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert choose_mixed_precision("auto") == "bf16"
    assert choose_mixed_precision("no") == "no"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(InputError, match="fp16"):
        choose_mixed_precision("auto")


def test_cores_are_divided_unless_the_user_says_otherwise(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)), raising=False)
    monkeypatch.setattr("ganaug.core.hardware.cores_of_cgroups", lambda: math.inf)
    monkeypatch.setattr("os.getppid", lambda: 0)  # what started pytest has an environment of its own
    try:
        for environment, requested, expected in [
            ({}, None, 12),
            ({"OMP_NUM_THREADS": "1"}, None, 1),
            (
                {"OMP_NUM_THREADS": "1", "ACCELERATE_DYNAMO_BACKEND": "NO"},
                None,
                12,
            ),  # what launchers set when not told
            ({"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "4"}, None, 3),
            ({"OMP_NUM_THREADS": "5", "LOCAL_WORLD_SIZE": "4"}, None, 5),
            ({"OMP_NUM_THREADS": "4,2"}, None, 4),
            ({"OMP_NUM_THREADS": ""}, None, 12),
            ({"OMP_NUM_THREADS": "many"}, None, 12),
            ({"OMP_NUM_THREADS": "0"}, None, 12),
            ({"LOCAL_WORLD_SIZE": "40"}, None, 1),
            ({"OMP_NUM_THREADS": "5"}, None, 5),
            ({"OMP_NUM_THREADS": "5"}, 1, 1),
        ]:
            for name in ("OMP_NUM_THREADS", "LOCAL_WORLD_SIZE", "ACCELERATE_DYNAMO_BACKEND"):
                monkeypatch.delenv(name, raising=False)
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            assert set_cpu_threads(requested) == torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
