from __future__ import annotations

import json
import sys

import passes
import pytest
import torch
from helpers.programs import REPOSITORY
from helpers.readmes import readme

from ganaug.cli.images import DataArguments
from ganaug.evaluation import UtilitySettings
from ganaug.generators import ACGANGenerator, FlowGenerator


def test_arms_are_flows_for_equally_long(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("common.subprocess.run", lambda command, check: seen.append(" ".join(command)))
    args = passes.Arguments(
        data=DataArguments(train_data_dir=tmp_path), settings=UtilitySettings(horizontal_flip=True), kimg=120
    )
    for arm in passes.ARMS:
        passes.train_one(arm, 3, tmp_path / "out", args)
    assert all(command.startswith(f"{sys.executable} -m accelerate.commands.launch") for command in seen)
    assert [command.split("--model ")[1].split(" --seed")[0] for command in seen] == [
        "flow --total_kimg 120", "flow --passes 2 --total_kimg 180", "acgan --total_kimg 220"
    ]  # fmt: skip
    assert all(f"--seed 3 --cpu_threads 1 --output_dir {tmp_path / 'out'}" in command for command in seen)
    assert all(command.endswith("--augment flip") for command in seen)


def test_each_arm_is_trained_once_and_compared_with_the_plain_flow(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trained = []

    def train_one(arm, seed, folder, args):
        trained.append((arm, seed))
        names, form = [str(k) for k in range(10)], {"image_size": 8, "width": 8}
        with torch.random.fork_rng():
            made = (
                ACGANGenerator(names, **form)
                if arm == passes.ONE
                else FlowGenerator(names, **form, steps=2 if arm == passes.TWO else 8)
            )
            made.save_pretrained(folder)
        return 60.0 * passes.LONGER[arm]

    monkeypatch.setattr(passes, "train_one", train_one)
    monkeypatch.setattr(passes, "DRAWN", 64)
    args = passes.Arguments(
        data=DataArguments(dataset_name="sklearn:digits", images_per_class=20),
        settings=UtilitySettings(seeds=2, steps=20, batch_size=32),
        output_dir=tmp_path / "passes",
        rounds=1,
        processes=1,
    )
    passes.main(args)
    assert trained == [(arm, 0) for arm in passes.ARMS]
    results = json.loads((tmp_path / "passes" / "passes.json").read_text())
    run = results["runs"]["acgan, seed 0"]
    assert run["seconds"] == pytest.approx(110)
    assert len(run["scores"]) == 2
    assert 0 <= run["coverage"] <= 1
    assert [len(rates) for rates in results["drawing"].values()] == [1, 1, 1]
    shown = capsys.readouterr().out
    assert "| flow | 1.0 [1.00] |" in shown
    assert "| flow, two passes | 1.5 [1.50] |" in shown
    assert "| acgan | 1.8 [1.83] |" in shown

    passes.main(args)
    assert len(trained) == 3
    assert capsys.readouterr().out == shown


def test_the_readme_has_the_table_that_was_measured():
    recorded = json.loads((REPOSITORY / ".images" / "passes.json").read_text())
    assert passes.table(recorded) in readme("recipes/README.md")
