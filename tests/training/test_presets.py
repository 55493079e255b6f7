"""The default preset, what is expected of it, and a budget in minutes."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from helpers.images import small_images
from helpers.programs import REPOSITORY

from ganaug import Generator, InputError, LabelledImages
from ganaug.training import (
    MODELS,
    TrainingSettings,
    budget,
    choose_preset,
    kimg_within,
    make_trainer,
    presets,
    usefulness,
)
from ganaug.training.usefulness import expected_usefulness


def images_of(*counts: int) -> LabelledImages:
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    images = torch.zeros(len(targets), 1, 8, 8, dtype=torch.uint8)
    return LabelledImages(images, targets, tuple(f"c{k}" for k in range(len(counts))), "zeros")


def test_the_more_images_the_longer_and_it_says_so():
    lengths: dict[bool, list[float]] = {True: [], False: []}
    for quick, kimg in lengths.items():
        for count, model in ((10, "flow"), (100, "flow"), (1_000, "flow-wide"), (6_000, "flow-wide")):
            preset = choose_preset(images_of(*[count] * 10), quick=quick)
            model = "flow" if quick else model
            assert preset.model == model
            shown = 100 * preset.settings.total_kimg / count
            assert f"{10 * count:,} images are shown {shown:,.0f} times each" in preset.reason
            assert str(preset).startswith(f"preset: {model}, {preset.settings.total_kimg:g} kimg. ")
            assert str(preset).endswith(f"{preset.expectation}.")
            assert preset.settings.class_sampling == 1
            assert ("would need more time" in preset.reason) == (quick and count > 500)
            kimg.append(preset.settings.total_kimg)
        assert kimg == sorted(kimg)
        assert kimg[0] < kimg[-1]
    assert all(few <= many for few, many in zip(lengths[True], lengths[False], strict=True))
    imbalanced = choose_preset(images_of(60, 20, 5))
    assert imbalanced.settings.class_sampling == 0.5
    assert "Classes have 5 to 60 images: small ones are shown more often" in imbalanced.reason


ROWS = [
    ("few", 20, 1, "the same images", 0.3, 0.012, "helped"),
    ("many", 500, 1, "the same images", 0.1, -0.001, "no measurable effect"),
    ("tail", 100, 100, "the same images", 0.5, -0.02, "hurt"),
    ("others'", 20, 1, "all other training images", 0.5, 0.08, "helped"),
]
KEYS = ("name", "images_per_class", "imbalance", "generator_from", "ratio", "estimate", "outcome")


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([30, 30], r"is few\. There, .* \+1\.2 points \[0\.7, 1\.7\] .*Expect about as much, at ratio 0\.3"),
        ([5, 5, 0], "is few"),
        ([200, 200], r"is many\. There, .* -0\.1 points \[-0\.6, 0\.4\] .*Expect no gain"),
        ([100, 10], "is tail.*Expect harm"),
    ],
)
def test_the_nearest_of_what_was_measured_is_expected(monkeypatch, counts, expected):
    rows = {}
    for row in ROWS:
        values = dict(zip(KEYS, row, strict=True))
        estimate = values.pop("estimate")
        rows[row[0]] = {
            **values,
            "difference": {"estimate": estimate, "low": estimate - 0.005, "high": estimate + 0.005},
        }
    monkeypatch.setattr(usefulness, "measured", lambda: {"rows": rows})
    assert re.search(expected, expected_usefulness(counts))


def test_a_budget_in_minutes_is_kept_about(accelerator, monkeypatch):
    # Seconds of this process alone, so that what else the machine does has no part in it.
    monkeypatch.setattr(budget, "time", SimpleNamespace(perf_counter=time.process_time))
    data = small_images(size=8)
    settings = TrainingSettings(train_batch_size=16, mixed_precision="no", cpu_threads=1)

    def trainer():
        system = MODELS["flow"]
        with torch.random.fork_rng():
            generator = system.generator(data.classes, image_size=8, width=8)
        return make_trainer(generator, system.objective, data, settings, accelerator)

    kimg = kimg_within(0.02, trainer())  # which leaves the global random state alone, as every test checks
    timed, started = trainer(), time.process_time()
    with torch.random.fork_rng():
        for step in range(round(1000 * kimg / 16)):
            timed.step(step)
    assert 0.4 < time.process_time() - started < 3.6  # 1.2 seconds
    for minutes in (0, -1, float("inf"), float("nan")):
        with pytest.raises(InputError, match="budget_minutes must be positive and finite, got"):
            kimg_within(minutes, trainer())


def test_without_the_time_for_the_wide_network_the_narrow_one_is_trained(in_process, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(budget, "TIMED", 0.1)
    monkeypatch.setattr(presets, "LENGTHS", ((10_000, {"flow": 0.064, "flow-wide": 0.048}),))
    flags = ["--dataset_name", "sklearn:digits", "--mixed_precision", "no", "--train_batch_size", "16"]

    def width(*more: str) -> int:
        assert in_process(*flags, *more) is None
        return Generator.from_pretrained(more[-1]).network_options()["width"]

    assert width("--budget_minutes", "5", "--summary", "--output_dir", "wide") == 192
    assert "preset: flow-wide, 0.048 kimg" in capsys.readouterr().out
    assert width("--budget_minutes", "0.00001", "--output_dir", "narrow") == 96
    assert "preset: flow, 0.064 kimg" in capsys.readouterr().out
    # A narrow one is trained further as it is.
    assert width("--init_from", "narrow", "--output_dir", "more") == 96


def test_a_presets_batch_is_that_of_all_processes_together(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "recipes"))
    import starting
    from training_flags import TrainingArguments

    @dataclass(frozen=True)
    class Arguments(TrainingArguments):
        model: str = "auto"

    monkeypatch.setattr(starting, "parse_again", lambda args: args)
    preset = choose_preset(images_of(9, 9))
    args = starting.with_preset(Arguments(), preset, SimpleNamespace(num_processes=4))
    assert args.training.train_batch_size * 4 == preset.settings.train_batch_size
    assert args.model == preset.model


def test_a_latent_dim_for_a_flow_is_refused(in_process):
    message = in_process("--dataset_name", "sklearn:digits", "--latent_dim", "64")
    assert message == "error: the latents of flow follow from the images; leave out --latent_dim"
    message = in_process("--dataset_name", "sklearn:digits", "--model", "acgan-28", "--latent_dim", "0")
    assert message.startswith("error: latent_dim must be a positive int, got 0")
