from __future__ import annotations

import json

import pytest
from helpers.generators import make_generator
from helpers.programs import REPOSITORY


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "recipes"))
    import benchmark_selection

    trained = []

    def train_one(folder, seed, args):
        trained.append(seed)
        generator = make_generator(image_size=8)
        generator.info["training"] = {"chosen_after_kimg": 3.0}
        for path in (folder, folder / "training" / "last"):
            generator.save_pretrained(path)

    monkeypatch.setattr(benchmark_selection, "train_one", train_one)
    monkeypatch.setattr(benchmark_selection, "GENERATED", 2000)
    train = benchmark_selection.train_classifier
    short = lambda *args, **options: train(*args, **{**options, "steps": 20})  # noqa: E731
    monkeypatch.setattr(benchmark_selection, "train_classifier", short)
    return benchmark_selection, trained


def test_both_generators_of_each_run_are_judged_once(benchmark, tmp_path, capsys):
    module, trained = benchmark
    args = module.Arguments(
        data=module.DataArguments(dataset_name="sklearn:digits", images_per_class=20),
        kimg=5,
        seeds=(3, 4),
        output_dir=tmp_path / "selection",
    )
    module.main(args)
    assert trained == [3, 4]
    results = json.loads((tmp_path / "selection" / "selection.json").read_text())
    run = results["runs"]["acgan-28-4"]
    assert run["kimg"] == {"chosen": 3.0, "last": 5}
    assert run["chosen"] == run["last"]  # the same images here
    assert 0 <= run["last"]["label_fidelity"] <= 0.4
    assert len(run["last"]["scores"]) == 3
    shown = capsys.readouterr().out
    assert shown.count("| 3 | chosen | 3 |") == shown.count("| 4 | last | 5 |") == 1
    module.main(args)
    assert len(trained) == 2
    assert capsys.readouterr().out == shown


def test_the_command_that_it_trains_by(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(REPOSITORY / "recipes"))
    import benchmark_selection as module

    seen = []
    monkeypatch.setattr("launching.subprocess.run", lambda command, check: seen.append(" ".join(command)))
    args = module.Arguments(data=module.DataArguments(dataset_name="sklearn:digits", images_per_class=20))
    module.train_one(tmp_path / "run", 1, args)
    assert "--model acgan-28 --total_kimg 1000 --seed 1" in seen[0]
    assert f"--output_dir {tmp_path / 'run'} --resume_from_checkpoint latest --dataset_name sklearn:digits" in seen[0]
    make_generator(image_size=8).save_pretrained(tmp_path / "run")
    module.train_one(tmp_path / "run", 1, args)
    assert len(seen) == 1
