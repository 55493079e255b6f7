"""The five models, each through its recipe, and a network of one's own through the README's example."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
import torch
from helpers.mixed_images import write_mixed_folder
from helpers.programs import REPOSITORY, recipe_path, run_python
from helpers.readmes import code_blocks, readme
from PIL import Image

from ganaug import Generator
from ganaug.training import MODELS

TINY = ["--total_kimg", "0.016", "--train_batch_size", "16", "--cpu_threads", "1"]


@pytest.mark.parametrize(
    ("recipe", "model", "size"),
    [
        ("train_cgan", "cgan-mlp", 28),
        ("train_cgan", "cgan-maxout", 28),
        pytest.param("train_acgan", "acgan-64", 64, marks=pytest.mark.slow),
        ("train_dcgan", "dcgan-32", 32),
        ("train_dcgan", "dcgan-32-conditional", 32),
        ("train_acgan", "sngan", 28),
        ("train_acgan", "acgan", 8),
        ("train_flow", "flow", 8),
        ("train_flow", "flow-wide", 8),
    ],
)
def test_every_model_trains_on_the_bundled_digits(tmp_path, recipe, model, size):
    smaller = ["--resolution", "8"] if size == 8 else []
    # In processes of their own, whose memory goes with them.
    shown = run_python(recipe_path(recipe), "--model", model, *TINY, *smaller, "--summary", cwd=tmp_path)
    folder = tmp_path / "outputs" / MODELS[model].generator.architecture
    generator = Generator.from_pretrained(folder)
    assert type(generator) is MODELS[model].generator
    assert (generator.image_size, generator.channels) == (size, 1)
    assert MODELS[model].network.items() <= generator.network_options().items()
    assert generator.label_names == (tuple("0123456789") if MODELS[model].conditional else ())
    settings = json.loads((folder / "training" / "settings.json").read_text())
    assert settings["model"] == model
    assert settings["half_batches"] == (model == "dcgan-32")
    assert settings["objective"]["class_weight_real"] == MODELS[model].objective.class_weight_real
    adversarial = {"sngan": "hinge", "acgan": "hinge", "flow": None, "flow-wide": None}.get(model, "non-saturating")
    assert generator.info["training"].get("adversarial_loss") == adversarial
    with Image.open(folder / "training" / "curves.png") as plot:
        assert plot.width > 500
    weights = sum(p.numel() for p in generator.parameters())
    assert re.search(rf"{type(generator).__name__}.*", shown)
    assert f"Trainable params: {weights:,}" in shown
    assert ("ratio=0.3" in shown) == MODELS[model].conditional


def test_first_models_need_no_flag_and_help_shows_the_chosen_ones_numbers(in_process, capsys):
    for name, flags, batch in [
        ("train_cgan", [], 64),
        ("train_dcgan", [], 128),
        ("train_acgan", ["--model", "acgan-64"], 16),
        ("train_dcgan", ["--model=dcgan-32-conditional"], 64),
    ]:
        assert in_process(*flags, "--help", name=name) == 0
        shown = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
        assert f"Real images per process and update of the discriminator. (default: {batch})" in shown
    assert in_process("--model", "biggan", name="train_cgan") == 2
    assert "invalid choice 'biggan'" in capsys.readouterr().err


def test_options_of_the_networks(in_process, tmp_path):
    flags = ["--model", "acgan-64", "--conditioning", "concat", "--resolution", "16"]
    flags += ["--dataset_name", "sklearn:digits"]
    run_python(recipe_path("train_acgan"), *TINY, *flags, cwd=tmp_path)
    assert Generator.from_pretrained("outputs/acgan-64").network_options()["conditioning"] == "concat"
    flags = ["--model", "cgan-maxout", "--norm_after_sigmoid", "--latent_dim", "7", "--adversarial_loss", "hinge"]
    flags += ["--resolution", "8"]
    assert in_process(*TINY, *flags, name="train_cgan") is None
    generator = Generator.from_pretrained("outputs/cgan-maxout")
    assert generator.network_options() == {"latent_dim": 7, "norm_after_sigmoid": True}
    assert generator.info["training"]["adversarial_loss"] == "hinge"
    assert in_process(*TINY, "--class_weight_real", "1", name="train_cgan").startswith("error: a class loss was")


def test_passes_of_a_flow(in_process, tmp_path):
    flags = [*TINY, "--resolution", "8", "--passes", "2"]
    assert in_process(*flags, "--output_dir", "two", name="train_flow") is None
    assert Generator.from_pretrained("two").network_options()["steps"] == 2
    settings = "two/training/settings.json"
    assert in_process("--config", settings, "--output_dir", "again", name="train_flow") is None
    assert Generator.from_pretrained("again").network_options()["steps"] == 2
    refused = in_process(*flags, "--model", "acgan", "--output_dir", "no", name="train_acgan")
    assert refused.startswith("error: acgan has no passes to choose. Leave out --passes")
    for passes in ("0", "-1", "1001"):
        refused = in_process(*TINY, "--passes", passes, "--output_dir", "no", name="train_flow")
        assert refused.startswith(f"error: passes must be an int from 1 to 1,000, got {passes}")
    refused = in_process("--resume_from_checkpoint", "two", "--passes", "3", name="train_flow")
    assert "other settings. passes: 2 there, 3 here." in refused


@pytest.mark.slow
def test_a_folder_of_mixed_images_trains_acgan64_and_every_class_is_drawn(in_process, tmp_path):
    """300 images of many kinds and sizes, in 7 classes of 1 to 120 images."""
    counts = write_mixed_folder(tmp_path / "photos")
    flags = ["--model", "acgan-64", *TINY, "--train_data_dir", "photos"]
    flags += ["--evaluation_kimg", "None"]  # all images are trained on
    run_python(recipe_path("train_acgan"), *flags, cwd=tmp_path)
    generator = Generator.from_pretrained("outputs/acgan-64")
    assert generator.label_names == tuple(sorted(counts))
    assert generator.info["dataset"]["class_counts"] == counts
    assert generator.sample(range(7)).shape == (7, 3, 64, 64)
    labels = torch.arange(7)
    assert len({image.numpy().tobytes() for image in generator.sample(labels)}) == 7


def test_broken_files_in_a_folder_of_mixed_images_end_training_or_are_left_out(in_process, tmp_path, caplog):
    counts = write_mixed_folder(tmp_path / "photos")
    (tmp_path / "photos" / "bee" / "000-broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    whole = next((tmp_path / "photos" / "gnu").glob("*.jpg"))
    (whole.parent / "zz-cut.jpg").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    flags = ["--model", "sngan", "--resolution", "16", *TINY, "--train_data_dir", "photos"]
    flags += ["--evaluation_kimg", "None"]  # all images are trained on
    message = in_process(*flags, name="train_acgan")
    assert re.match(r"error: 2 of 302 images cannot be decoded; the first is photos/bee/000-broken\.png: ", message)
    with caplog.at_level(logging.WARNING):
        assert in_process(*flags, "--skip_bad_images", name="train_acgan") is None
    assert "2 of 302 images cannot be decoded; the first is photos/bee/000-broken.png" in caplog.text
    generator = Generator.from_pretrained("outputs/sngan")
    assert generator.info["dataset"]["class_counts"] == counts
    assert generator.sample(range(7)).shape == (7, 3, 16, 16)


def test_the_readmes_network_of_ones_own_trains_and_loads(tmp_path):
    (program,) = code_blocks("ganaug/generators/README.md", "python")
    assert 25 <= len(program.strip().splitlines()) <= 45
    program = program.replace("total_kimg=20", "total_kimg=0.2")
    Path(tmp_path / "mine.py").write_text(program)
    run_python("mine.py", cwd=tmp_path)
    load = (
        "from mine import TinyGenerator; from ganaug import Generator; g = Generator.from_pretrained('outputs/tiny')"
    )
    (tmp_path / "mine.py").write_text(program.split("images = open_images")[0])
    assert run_python("-c", f"{load}; print(g.sample(range(10)).shape)", cwd=tmp_path) == (
        "torch.Size([10, 1, 8, 8])\n"
    )
    (judge,) = code_blocks("ganaug/evaluation/README.md", "python")
    judge = judge.replace(
        "seeds=3, steps=100, max_steps=400", "seeds=2, steps=2, max_steps=2, augmentations=('none',)"
    )
    (tmp_path / "judge.py").write_text(f"from mine import TinyGenerator\n{judge}")
    assert re.search(r"[+-]\d+\.\d points \[", run_python("judge.py", cwd=tmp_path))
    assert (tmp_path / "outputs" / "tiny" / "evaluation" / "report.html").exists()
    unknown = "from ganaug import Generator; Generator.from_pretrained('outputs/tiny')"
    assert "must be registered" in run_python("-c", unknown, cwd=tmp_path, expected=1)


def test_the_table_of_models_in_the_readme_is_what_the_script_wrote(in_process, capsys):
    """Assembling the table from the recorded results gives the README's lines."""
    recorded = REPOSITORY / ".images" / "models.json"
    assert in_process("--table", str(recorded), name="benchmarks/models") is None
    assert capsys.readouterr().out.strip() in readme("recipes/README.md")


@pytest.mark.slow
def test_networks_can_be_compiled(in_process, tmp_path, capsys):
    assert in_process("--model", "cgan-mlp", *TINY, "--compile", name="train_cgan") is None
    shown = capsys.readouterr()
    assert re.search(r"compiles the networks, took \d+ s", shown.out + shown.err)
    assert Generator.from_pretrained(tmp_path / "outputs" / "cgan-mlp").sample([3]).shape == (1, 1, 28, 28)
