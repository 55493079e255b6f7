from __future__ import annotations

import json

import pytest
import selection
from helpers.generators import make_generator

from ganaug import InputError
from ganaug.cli.images import DataArguments


@pytest.fixture
def trained(monkeypatch):
    trained = []

    def train_one(folder, seed, args):
        trained.append(seed)
        generator = make_generator(image_size=8)
        generator.info["training"] = {"chosen_after_kimg": 3.0}
        for path in (folder, folder / "training" / "last"):
            generator.save_pretrained(path)

    monkeypatch.setattr(selection, "train_one", train_one)
    monkeypatch.setattr(selection, "GENERATED", 600)
    train = selection.train_classifier
    short = lambda *args, **options: train(*args, **{**options, "steps": 10})  # noqa: E731
    monkeypatch.setattr(selection, "train_classifier", short)
    return trained


def test_both_generators_of_each_run_are_judged_once(trained, tmp_path, capsys):
    args = selection.Arguments(
        data=DataArguments(dataset_name="sklearn:digits", images_per_class=20),
        kimg=50,
        seeds=(3, 4),
        output_dir=tmp_path / "selection",
    )
    selection.main(args)
    assert trained == [3, 4]
    results = json.loads((tmp_path / "selection" / "selection.json").read_text())
    run = results["runs"]["acgan-28-4"]
    assert run["kimg"] == {"chosen": 3.0, "last": 50}
    assert run["chosen"] == run["last"]  # the same images here
    assert 0 <= run["last"]["label_fidelity"] <= 0.4
    assert len(run["last"]["scores"]) == 3
    shown = capsys.readouterr().out
    assert shown.count("| 3 | chosen | 3 |") == shown.count("| 4 | last | 50 |") == 1
    selection.main(args)
    assert len(trained) == 2
    assert capsys.readouterr().out == shown


def test_a_run_in_which_nothing_is_chosen_is_refused(tmp_path):
    for arguments, message in (({"kimg": 30}, "every 40 kimg"), ({"model": "flow"}, "got flow")):
        with pytest.raises(InputError, match=message):
            selection.main(selection.Arguments(output_dir=tmp_path, **arguments))


def test_the_command_that_it_trains_by(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("common.subprocess.run", lambda command, check: seen.append(" ".join(command)))
    args = selection.Arguments(data=DataArguments(dataset_name="sklearn:digits", images_per_class=20))
    selection.train_one(tmp_path / "run", 1, args)
    assert "--model acgan-28 --total_kimg 1000 --seed 1" in seen[0]
    assert f"--output_dir {tmp_path / 'run'} --resume_from_checkpoint latest --dataset_name sklearn:digits" in seen[0]
    make_generator(image_size=8).save_pretrained(tmp_path / "run")
    selection.train_one(tmp_path / "run", 1, args)
    assert len(seen) == 1
