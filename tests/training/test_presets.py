"""The default preset, what is expected of it, and a budget in minutes."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers.images import small_images

from ganaug import Generator, InputError, LabelledImages
from ganaug.cli.runs import with_preset
from ganaug.cli.train_flags import TrainingArguments
from ganaug.training import (
    MODELS,
    ACGANTrainer,
    TrainingSettings,
    choose_preset,
    expected_utility,
    kimg_within,
    make_trainer,
    presets,
)


def images_of(*counts: int) -> LabelledImages:
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    numbers = torch.arange(len(targets))
    pixels = torch.stack([numbers // 256**k % 256 for k in range(4)], 1).to(torch.uint8).view(-1, 1, 2, 2)
    images = pixels.repeat(1, 1, 4, 4)  # no two alike
    return LabelledImages(images, targets, tuple(f"c{k}" for k in range(len(counts))), "numbers")


def test_the_more_images_the_longer_and_it_says_so():
    lengths: dict[str | None, list[float]] = {"flow": [], None: [], "acgan": []}
    for asked, kimg in lengths.items():
        for count, model in ((10, "flow"), (100, "flow"), (1_000, "flow-wide"), (6_000, "flow-wide")):
            preset = choose_preset(images_of(*[count] * 10), model=asked)
            model = asked or model
            assert preset.model == model
            shown = 100 * preset.settings.total_kimg / count
            told = f"{shown:,.0f}" if shown >= 10 else f"{shown:.2g}"
            assert f"{10 * count:,} images are shown {told} times each" in preset.reason
            assert str(preset).startswith(f"preset: {model}, {preset.settings.total_kimg:g} kimg (")
            assert str(preset).endswith(f"{preset.expectation}.")
            assert preset.settings.class_sampling == 1
            assert ("would need more time" in preset.reason) == (asked == "flow" and count > 500)
            kimg.append(preset.settings.total_kimg)
        assert kimg == sorted(kimg)
        assert kimg[0] < kimg[-1]
    assert all(few <= many for few, many in zip(lengths["flow"], lengths[None], strict=True))
    # An acgan is a flow for as long as the flow.
    flow, whole = ACGANTrainer.LENGTHS[0], sum(ACGANTrainer.LENGTHS)
    assert [kimg * flow / whole for kimg in lengths["acgan"]] == pytest.approx(lengths["flow"])
    imbalanced = choose_preset(images_of(60, 20, 5))
    assert imbalanced.settings.class_sampling == 0.5
    assert "Classes have 5 to 60 images: small ones are shown more often" in imbalanced.reason


@pytest.mark.parametrize(
    ("counts", "flags", "told"),
    [
        (
            (150, 150),
            {"total_kimg": 1},
            r"flow, 1 kimg .*300 images are shown 3\.3 times each; .*full length is 60",
        ),
        (
            (150, 150),
            {"total_kimg": 0.03},
            r"flow, 0\.03 kimg \(30 images shown in training\)\. .*shown 0\.1 times each; .*full length is 60",
        ),
        ((150, 150), {"total_kimg": 120}, r"flow, 120 kimg .*shown 400 times each; .*full length is 60 kimg"),
        ((150, 150), {"learning_rate": 1e-5}, r"flow, 60 kimg .*shown 200 times each; the fewer"),
        ((300, 30), {"class_sampling": 1.0}, r"30 to 300 images: class_sampling 1 decides"),
        (
            (300, 30),
            {"class_sampling": 0.5},
            r"30 to 300 images: small ones are shown more often \(square-root sampling\)",
        ),
    ],
)
def test_what_is_said_of_a_preset_holds_for_the_flags(counts, flags, told):
    images = images_of(*counts)
    own = choose_preset(images)
    preset = choose_preset(images, settings=replace(own.settings, **flags))
    assert re.search(told, str(preset))
    assert preset.settings == replace(own.settings, **flags)
    shorter = preset.settings.total_kimg < own.settings.total_kimg
    assert ("expect less after" in str(preset)) == shorter


@pytest.mark.parametrize("times", [2, 20])
@pytest.mark.parametrize("counts", [(150, 150), (300, 20)])
def test_images_that_are_repeated_count_once(counts, times):
    once = images_of(*counts)
    every = torch.arange(len(once))
    even, some = (
        once.subset(every.repeat(times), "again"),
        once.subset(torch.cat([every, every[:40].repeat(times)]), ""),
    )
    alone = choose_preset(once)
    for repeated in (even, some):
        preset = choose_preset(repeated)
        assert (preset.model, preset.expectation) == (alone.model, alone.expectation)
        assert preset.settings.total_kimg == alone.settings.total_kimg
        assert f"{len(once):,} images ({len(repeated):,} with repetitions) are shown" in preset.reason
    # Classes that repetition has made equally large are shown equally often.
    same = torch.cat([every[once.targets == 0], every[once.targets == 1].repeat(counts[0] // counts[1])])
    assert choose_preset(once.subset(same, "balanced")).settings.class_sampling == 1


ROWS = [
    ("few", 20, 1, "the same images", 0.3, 0.012, "helps"),
    ("many", 500, 1, "the same images", 0.1, -0.001, "no worthwhile effect"),
    ("tail", 100, 100, "the same images", 0.5, -0.02, "hurts"),
    ("some", 100, 1, "the same images", 0.3, 0.004, "cannot tell yet"),
    ("others'", 20, 1, "all other training images", 0.5, 0.08, "helps"),
    ("others' alone", 300, 1, "all other training images", 1.0, -0.03, "hurts"),
    ("another classifier's", 20, 1, "the same images", 0.5, -0.01, "hurts", "small-vit"),
]
KEYS = ("name", "images_per_class", "imbalance", "generator_from", "ratio", "estimate", "outcome", "classifier")


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([30, 30], r"is few\. There, own images: helps \(\+1\.2 points \[0\.7, 1\.7\] .* at ratio 0\.3\)$"),
        ([5, 5, 0], "is few, with far more images"),
        ([100, 100], r"is some\. There, own images: cannot tell yet \(.*has helped: .*own images"),
        ([300, 300], r"is many\. There, own images: no worthwhile effect \(-0\.1 points \[-0\.6, 0\.4\]"),
        (
            [300, 300],
            r"What has helped: own images \(\+1\.2 at 20 of each class\), a published gen.* \(\+8\.0 at 20 of",
        ),
        ([9000, 9000], r"is many, with far fewer images\. There, own images: no worthwhile effect"),
        ([100, 10], r"is tail\. There, own images: hurts"),
    ],
)
def test_the_nearest_of_what_was_measured_is_expected(monkeypatch, counts, expected):
    rows = {}
    for row in ROWS:
        values = {"classifier": "small-cnn", **dict(zip(KEYS, row, strict=False))}
        estimate = values.pop("estimate")
        rows[row[0]] = {
            **values,
            "difference": {"estimate": estimate, "low": estimate - 0.005, "high": estimate + 0.005},
        }
    monkeypatch.setattr(presets, "measured_utility", lambda: {"rows": rows})
    assert re.search(expected, expected_utility(counts))


def test_a_budget_in_minutes_is_kept_about(accelerator, monkeypatch):
    # Seconds of this process alone, so that what else the machine does has no part in it.
    monkeypatch.setattr(presets, "time", SimpleNamespace(perf_counter=time.process_time))
    data = small_images(size=8)
    settings = TrainingSettings(train_batch_size=16, mixed_precision="no", cpu_threads=1)

    def trainer():
        model = MODELS["flow"]
        with torch.random.fork_rng():
            generator = model.generator(data.classes, image_size=8, width=8)
        return make_trainer(generator, model.objective, data, settings, accelerator)

    kimg = kimg_within(0.01, trainer())  # which leaves the global random state alone, as every test checks
    timed, started = trainer(), time.process_time()
    with torch.random.fork_rng():
        for step in range(round(1000 * kimg / 16)):
            timed.step(step)
    assert 0.2 < time.process_time() - started < 1.8  # 0.6 seconds
    for minutes in (0, -1, float("inf"), float("nan")):
        with pytest.raises(InputError, match="budget_minutes"):
            kimg_within(minutes, trainer())


def test_without_the_time_for_the_wide_network_the_narrow_one_is_trained(in_process, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(presets, "TIMED", 0.1)
    monkeypatch.setattr(presets, "LENGTHS", ((10_000, {"flow": 0.064, "flow-wide": 0.064}),))
    flags = ["--dataset_name", "sklearn:digits", "--mixed_precision", "no", "--train_batch_size", "16"]
    flags += ["--sample_kimg", "1"]  # no pictures before the last

    def width(*more: str) -> int:
        assert in_process(*flags, *more) is None
        return Generator.from_pretrained(more[-1]).network_options()["width"]

    assert width("--budget_minutes", "5", "--summary", "--output_dir", "wide") == 192
    assert "preset: flow-wide, 0.064 kimg" in capsys.readouterr().out
    assert width("--budget_minutes", "0.00001", "--output_dir", "narrow") == 96
    told = capsys.readouterr().out  # of one step
    assert "preset: flow, 0.016 kimg" in told
    assert "the preset's full length is 0.064 kimg" in told
    assert "expect less after 0.016 kimg" in told
    assert width("--total_kimg", "0.032", "--output_dir", "short") == 192
    assert "preset: flow-wide, 0.032 kimg" in capsys.readouterr().out
    # A narrow one is trained further as it is.
    assert width("--init_from", "narrow", "--output_dir", "more") == 96


def test_a_presets_batch_is_that_of_all_processes_together():
    preset = choose_preset(images_of(9, 9))
    args = with_preset(TrainingArguments(), preset, 4)
    assert args.training.train_batch_size * 4 == preset.settings.train_batch_size
    assert args.model == preset.model


@pytest.mark.parametrize(
    ("recipe", "flags", "told"),
    [
        ("flow", ["--latent_dim", "64"], "flow has no latent_dim .* --latent_dim, or train .*: cgan-mlp, .*sngan"),
        ("acgan", ["--conditioning", "concat"], "acgan has no conditioning .*: acgan-64$"),
        ("acgan", ["--model", "acgan-28", "--conditioning", "concat"], "acgan-28 has no conditioning .*: acgan-64$"),
        ("flow", ["--adversarial_loss", "hinge"], "a flow has no discriminator, .* adversarial_loss"),
        ("flow", ["--class_weight_real", "0.5", "--fake_labels", "real"], "fake_labels, class_weight_real"),
        ("flow", ["--model", "flow-wide", "--discriminator_learning_rate", "1e-4"], "discriminator_learning_rate"),
        # Before a generator to start from is looked for.
        ("acgan", ["--half_batches", "--init_from", "nowhere"], "no use for half_batches"),
        ("flow", ["--augment", "cutout", "--init_from", "nowhere"], "got cutout"),
    ],
)
def test_a_flag_that_the_model_has_no_use_for_is_refused(in_process, recipe, flags, told):
    message = in_process("--dataset_name", "sklearn:digits", *flags, name=f"train_{recipe}")
    assert re.search(f"^error: .*{told}", message)


def test_a_latent_dim_that_is_none_is_refused(in_process):
    message = in_process(
        "--dataset_name", "sklearn:digits", "--model", "acgan-28", "--latent_dim", "0", name="train_acgan"
    )
    assert message.startswith("error: latent_dim must be a positive int, got 0")
