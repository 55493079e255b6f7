"""The recipes as a user runs them: real processes."""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import small_images, write_class_folders, write_idx_pair
from helpers.programs import LAUNCH, RECIPE, recipe_path, run, run_python, run_ranks
from PIL import Image
from torch import nn

from ganaug import Generator, open_images
from ganaug.generators import ACGANGenerator, FlowGenerator
from ganaug.training import RunFolder

QUICK = ["--total_kimg", "0.128", "--train_batch_size", "32", "--log_kimg", "0.064", "--report_to", "none"]


@pytest.fixture(scope="module")
def first_run(tmp_path_factory) -> tuple[Path, str]:
    """The README's command with a tiny budget: where it ran, and what it printed."""
    cwd = tmp_path_factory.mktemp("first")
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return cwd, run(*LAUNCH, recipe_path("train_acgan"), *QUICK[:-2], cwd=cwd, env=environment)


def test_the_first_command_trains_on_the_bundled_digits(first_run):
    cwd, output = first_run
    assert "(4000, 1, 28, 28) uint8, 10 classes" in output
    # The launcher set OMP_NUM_THREADS=1; the recipe uses all cores.
    cores = len(os.sched_getaffinity(0))
    assert f"threads: {cores} (of {cores} cores; OMP_NUM_THREADS=1 is the launcher's)" in output
    assert cores == 1 or f"which compute {min(cores, 4)} shares of each batch side by side, precision:" in output
    assert re.search(r"preset: acgan, [\d.]+ kimg .* 4,000 images are shown [\d.]+ times each", output)
    assert re.search(
        r"classes: 0 400, .*\n(.|\n)*measured: the case closest .* own images: .* \([+-][\d.]+ points \[", output
    )
    folder = cwd / "outputs" / "acgan"
    generator = Generator.from_pretrained(folder)
    assert generator.label_names == tuple("0123456789")
    assert generator.info["dataset"]["class_counts"]["9"] == 400
    settings = json.loads((folder / "training" / "settings.json").read_text())
    assert settings["total_kimg"] == 0.128
    rows = [json.loads(line) for line in (folder / "training" / "metrics.jsonl").read_text().splitlines()]
    assert [row["kimg"] for row in rows] == [0.064, 0.128]  # the flags', where they differ from the preset's
    assert not list(cwd.rglob("*.tmp*"))


def test_no_warning_of_our_own(first_run):
    """accelerate tells of the defaults it took; nothing else warns."""
    _, output = first_run
    warnings = [line for line in output.splitlines() if "warn" in line.lower()]
    assert [line for line in warnings if "To avoid this warning pass in values" not in line] == []


def test_the_lines_it_prints_work(first_run):
    cwd, output = first_run
    page = re.search(r"Look at it: (\S+)\n", output)[1]
    assert (cwd / page).read_text().startswith("<!DOCTYPE html>")
    lines = output.split("Use it:\n")[1].strip().splitlines()[:3]
    assert lines[1] == "generator = Generator.from_pretrained('outputs/acgan')"
    program = "\n".join(
        ["from ganaug import bundled_digits", "dataset = bundled_digits()", *lines, "print(len(train))"]
    )
    assert run_python("-c", program, cwd=cwd).strip() == "5714"


def test_monitors_reach_tensorboard(first_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    cwd, _ = first_run
    logs = EventAccumulator(str(cwd / "outputs" / "acgan" / "training" / "logs" / "ganaug"))
    logs.Reload()
    for name, kimg in (("loss", 64), ("distance", 128)):  # of one step of its first phase, and one of its second
        assert [event.step for event in logs.Scalars(name)] == [kimg]
    assert set(logs.Tags()["images"]) == {"real", "generated"}
    grid = logs.Images("generated")[-1]
    assert (grid.step, grid.width > 500) == (128, True)


def test_class_folders_with_fewer_images_than_the_batch(in_process, tmp_path):
    write_class_folders(tmp_path / "pets", small_images(n=7, classes=2, size=20, channels=3))
    run_python(RECIPE, *QUICK, "--train_data_dir", "pets", "--output_dir", "out", "--resolution", "16", cwd=tmp_path)
    generator = Generator.from_pretrained(tmp_path / "out")
    assert generator.sample([0, 1]).shape == (2, 3, 16, 16)
    assert generator.label_names == ("class 0", "class 1")
    # A second run into the same folder is refused and changes nothing.
    before = (tmp_path / "out" / "config.json").read_bytes()
    assert "error: out already holds a run" in in_process(*QUICK, "--output_dir", "out")
    assert (tmp_path / "out" / "config.json").read_bytes() == before


def test_two_processes_share_a_run_on_gzipped_idx_files(tmp_path):
    write_idx_pair(tmp_path / "idx", small_images(size=28))
    for path in list((tmp_path / "idx").iterdir()):
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    output = "".join(run_ranks(2, RECIPE, *QUICK, "--train_data_dir", "idx", "--output_dir", "out", cwd=tmp_path))
    assert output.count("Use it:") == 1
    assert "processes: 2, threads: 1" in output or len(os.sched_getaffinity(0)) > 3
    generator = Generator.from_pretrained(tmp_path / "out")
    assert generator.info["training"]["num_processes"] == 2
    rows = [json.loads(line) for line in (tmp_path / "out/training/metrics.jsonl").read_text().splitlines()]
    assert [row["kimg"] for row in rows] == [0.064, 0.128]  # 32 images of each process are a step of 64


@pytest.mark.parametrize(
    ("recipe", "flags", "message"),
    [
        ("flow", ["--train_data_dir", "nowhere"], r"error: no folder nowhere\. Give a folder of class folders"),
        ("flow", ["--train_data_dir", "."], r"error: class folder flat has no image"),
        (
            "acgan",
            ["--model", "acgan-28", "--resolution", "30"],
            r"error: acgan-28 enlarges 4 times, .* got 30\. .* --resolution 32",
        ),
        (
            "flow",
            ["--output_dir", "flat/file/out"],
            r"error: output_dir flat/file/out cannot be written to: Not a directory",
        ),
    ],
)
def test_wrong_input_ends_in_a_line_that_helps(in_process, tmp_path, recipe, flags, message):
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "file").touch()
    assert re.match(message, in_process(*QUICK, *flags, name=f"train_{recipe}"))
    assert not (tmp_path / "outputs").exists()


def test_wrong_flags_and_help(in_process, capsys):
    assert in_process("--total_kimgs", "1") == 2
    assert re.search(r"(?s)Unrecognized options: --total_kimgs.*--total_kimg", capsys.readouterr().err)
    assert in_process("--total_kimg", "-1") == 2
    assert "total_kimg must be positive and finite, got -1" in capsys.readouterr().err
    assert in_process("--help") == 0
    shown = capsys.readouterr().out
    for flag in ("--train_data_dir", "--dataset_name", "--resolution", "--total_kimg", "--report_to", "--seed"):
        assert flag in shown
    assert re.search(r"How often a sample grid is written.[\s│]*\(default:[\s│]*from[\s│]*the[\s│]*preset,", shown)


def test_a_disk_that_is_full_ends_a_run_before_its_first_step(tmp_path):
    """A limit on the size of files stands in for the disk: the weights do not fit."""
    output = run_python(RECIPE, *QUICK, "--output_dir", "out", cwd=tmp_path, expected=1, before=_limit_files)
    assert re.search(r"error: .*(File too large|No space).*: 'out'$", output, re.MULTILINE), output
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {"training/settings.json"}


def test_a_disk_that_fills_up_leaves_nothing_half_written(tmp_path):
    output = run_python(RECIPE, *QUICK, "--output_dir", "out", cwd=tmp_path, expected=1, before=_limit_files_later)
    assert re.search(r"error: .*(File too large|No space).*: 'out/model.safetensors'$", output, re.MULTILINE), output
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert "training/metrics.jsonl" in files
    assert not any("safetensors" in name or "tmp" in name or name == "config.json" for name in files)
    for name in files:
        if name.endswith(".png"):
            with Image.open(tmp_path / "out" / name) as picture:
                picture.load()


def _limit_files() -> None:
    # Python ignores the signal by itself, but only since it was built to; make sure.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))


def _limit_files_later() -> None:
    """When training writes its first line of metrics."""
    append = RunFolder.append_metrics

    def append_and_limit(self, row):
        append(self, row)
        _limit_files()

    RunFolder.append_metrics = append_and_limit


def test_label_fidelity_recipe(first_run, in_process):
    cwd, _ = first_run
    flags = ["--generator", "outputs/acgan", "--classifier_steps", "40", "--num_images", "200"]
    output = run_python(recipe_path("label_fidelity"), *flags, cwd=cwd)
    real = float(re.search(r"held-out real images: ([\d.]+)%", output)[1])
    generated = float(re.search(r"over 200 generated images: ([\d.]+)%", output)[1])
    assert real > 60
    assert generated < 60  # trained for four steps, it draws noise

    write_class_folders(Path("pets"), small_images(n=6, classes=2, size=20, channels=3))
    flags = ["--generator", str(cwd / "outputs" / "acgan"), "--train_data_dir", "pets"]
    message = in_process(*flags, name="label_fidelity")
    assert re.search(r"acgan draws 0, 1, .*; class folders pets has class 0, class 1\. Give images", message)


def test_variations_recipe(in_process):
    digits = open_images("sklearn:digits")
    with torch.random.fork_rng():
        FlowGenerator(digits.classes, image_size=8, width=8).save_pretrained("flow")
        ACGANGenerator(digits.classes, image_size=8, width=8).save_pretrained("acgan")
    flags = ["--dataset_name", "sklearn:digits", "--strengths", "0.0001", "1"]
    assert in_process("--generator", "flow", *flags, "--picture", "new/shown.png", name="variations") is None
    with Image.open("new/shown.png") as picture:
        grey = torch.from_numpy(np.array(picture.convert("L"))).float()
    cells = grey[-(2 + 10 * 58) :, :].unfold(0, 56, 58).unfold(1, 56, 58)[:, :3]  # of some zoom, row by row
    first = torch.stack([digits.images[digits.targets == k][0, 0] for k in range(10)]).float()
    shown = cells[..., 3::7, 3::7]
    assert torch.allclose(shown[:, 0], first, atol=1)
    assert torch.allclose(shown[:, 1], first, atol=2)  # hardly varied
    assert (shown[:, 2] - first).abs().mean() > 30  # noise
    refused = in_process("--generator", "acgan", *flags, name="variations")
    assert "acgan cannot vary images" in refused
    write_class_folders(Path("pets"), small_images(n=6, classes=2, size=8))
    assert "has class 0, class 1. Give images" in in_process(
        "--generator", "flow", "--train_data_dir", "pets", name="variations"
    )


class Mirrored(nn.Module):
    """Draws scikit-learn's digits, mirrored."""

    latent_dim, image_size, channels, conditional = 1, 8, 1, True

    def __init__(self, digits):
        super().__init__()
        self.label_names, self.info = digits.classes, {"training": {}}
        by_class = torch.argsort(digits.targets, stable=True)
        self.images = digits.images[by_class].flip(3).float() / 127.5 - 1
        self.starts = torch.bincount(digits.targets).cumsum(0) - torch.bincount(digits.targets)

    def forward(self, z, labels):
        return self.images[self.starts[labels] + (50 * torch.special.ndtr(z[:, 0])).long().clamp(max=49)]


def test_mirrored_images_are_judged_by_a_classifier_that_knows_them(in_process, monkeypatch, capsys):
    made = Mirrored(open_images("sklearn:digits"))
    monkeypatch.setattr(Generator, "from_pretrained", lambda _: made)
    shares = []
    for augment in ([], ["flip"]):
        made.info["training"]["augment"] = augment
        flags = ["--dataset_name", "sklearn:digits", "--classifier_steps", "120", "--num_images", "300"]
        assert in_process("--generator", "mirrored", *flags, name="label_fidelity") is None
        shares.append(float(re.search(r"over 300 generated images: ([\d.]+)%", capsys.readouterr().out)[1]))
    assert shares[1] > shares[0] + 20
