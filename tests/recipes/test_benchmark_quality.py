from __future__ import annotations

import json
import sys

import pytest
import quality
import torch
from helpers.programs import REPOSITORY
from helpers.readmes import readme

from ganaug.cli.images import DataArguments
from ganaug.evaluation import UtilitySettings
from ganaug.generators import FlowGenerator


@pytest.fixture
def trained(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trained = []

    def train_one(model, kimg, folder, args):
        trained.append((model, kimg))
        with torch.random.fork_rng():
            FlowGenerator([str(k) for k in range(10)], image_size=8, width=8, steps=1).save_pretrained(folder)
        return 60.0 * kimg

    monkeypatch.setattr(quality, "train_one", train_one)
    return trained


def test_models_are_trained_once_for_each_budget_and_judged_beside_real_images(trained, tmp_path, capsys):
    args = quality.Arguments(
        data=DataArguments(dataset_name="sklearn:digits"),
        settings=UtilitySettings(seeds=2, steps=60, batch_size=32),
        models=("flow",),
        kimg=(1, 2),
        output_dir=tmp_path / "quality",
        processes=1,
    )
    quality.main(args)
    assert trained == [("flow", 1), ("flow", 2)]
    results = json.loads((tmp_path / "quality" / "quality.json").read_text())
    assert min(results["real"]) > 0.6
    assert results["runs"]["flow-2"] == {
        "model": "flow", "kimg": 2, "seconds": 120.0, "scores": results["runs"]["flow-2"]["scores"]
    }  # fmt: skip
    assert max(results["runs"]["flow-1"]["scores"]) < 0.5  # noise teaches nothing
    assert (tmp_path / "quality" / "quality.png").stat().st_size > 5000
    shown = capsys.readouterr().out
    assert "| `flow` | 2 | 2.0 |" in shown
    assert "| real images | | |" in shown

    quality.main(args)
    assert len(trained) == 2
    assert capsys.readouterr().out == shown


def test_the_command_that_it_trains_by(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("common.subprocess.run", lambda command, check: seen.append(command))
    args = quality.Arguments(
        data=DataArguments(train_data_dir=tmp_path, images_per_class=20),
        settings=UtilitySettings(horizontal_flip=True),
    )
    quality.train_one("sngan", 100, tmp_path / "out", args)
    command = " ".join(seen[0])
    assert command.startswith(f"{sys.executable} -m accelerate.commands.launch")
    assert "--model sngan --total_kimg 100" in command
    assert f"--train_data_dir {tmp_path} --images_per_class 20" in command
    assert command.endswith("--augment shift cutout brightness flip")


def test_the_readme_has_the_table_that_was_measured():
    recorded = json.loads((REPOSITORY / ".images" / "quality.json").read_text())
    assert quality.table(recorded) in readme("recipes/README.md")
    assert (REPOSITORY / ".images" / "quality.png").exists()
