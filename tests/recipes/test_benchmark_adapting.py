from __future__ import annotations

import json
from dataclasses import replace

import adapting
import pytest
import torch
from helpers.programs import as_a_program

from ganaug import InputError
from ganaug.cli.images import DataArguments
from ganaug.core.files import write_tensors
from ganaug.evaluation import SmallCNN, UtilitySettings
from ganaug.hub.config import ancestors
from ganaug.training import MODELS, TrainingSettings
from ganaug.training.adapting import adapting_settings


def shortened(settings: TrainingSettings) -> TrainingSettings:
    return replace(settings, total_kimg=0.064, train_batch_size=16)


@pytest.fixture
def short(monkeypatch, tmp_path):
    """Arguments by which all is trained for a few steps."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(adapting, "adapting_settings", lambda images: shortened(adapting_settings(images)))
    monkeypatch.setattr(adapting, "JUDGED", 20)
    with_own = adapting.with_own
    monkeypatch.setattr(adapting, "with_own", lambda settings, *rest: shortened(with_own(settings, *rest)))
    monkeypatch.setitem(adapting.MODELS, "flow", replace(MODELS["flow"], network={"width": 16}))
    with as_a_program():
        yield adapting.Arguments(
            data=DataArguments(dataset_name="sklearn:digits", images_per_class=20),
            settings=UtilitySettings(seeds=2, steps=4, batch_size=16),
            splits=(0, 1),
            numbers=(3,),
            output_dir=tmp_path / "out",
            processes=1,
        )


def test_a_split_parts_the_classes_and_its_seed_decides_how(short):
    splits = [adapting.split_of(short, seed) for seed in (0, 0, 1)]
    for split in splits:
        assert set(split.source.classes) | set(split.own.classes) == {str(k) for k in range(10)}
        assert len(split.source.classes) == len(split.own.classes) == 5
        assert split.held_out.classes == split.own.classes
    assert splits[0].own.classes == splits[1].own.classes != splits[2].own.classes
    few = replace(short, data=replace(short.data, classes=("1", "2", "3")))
    with pytest.raises(InputError, match="take four, and the images have 3"):
        adapting.split_of(few, 0)


@pytest.mark.timeout(300)
def test_each_arm_is_trained_once_and_splits_are_listed_one_by_one(short, capsys, monkeypatch):
    with monkeypatch.context() as stopped:
        fidelities = []

        def stop(*args):
            if len(fidelities) == 4:  # in the second split
                raise KeyboardInterrupt
            fidelities.append(1)
            return 0.5

        stopped.setattr(adapting, "label_fidelity_of", stop)
        with pytest.raises(KeyboardInterrupt):
            adapting.main(short)
    adapting.main(short)
    shown = capsys.readouterr().out
    results = json.loads((short.output_dir / "adapting.json").read_text())
    assert list(results["splits"]) == ["0", "1"]
    for seed, split in results["splits"].items():
        found = split["numbers"]["3"]
        assert f"| {seed} | {', '.join(split['own'])} |" in shown
        assert list(found["scores"]) == ["none", "few images alone", "--init_from", "adapted"]
        for scores in found["scores"].values():
            assert all(len(of_seeds) == 2 for of_seeds in scores.values())
    assert results["splits"]["0"]["numbers"]["3"]["label_fidelity"] == dict.fromkeys(adapting.GENERATORS, 0.5)
    assert shown.count("of 2 |") == 6

    split = adapting.split_of(short, 0)
    images = split.own.take([3] * 5, seed=0)[0]
    made = {arm: adapting.generator_of(arm, images, split, short) for arm in adapting.GENERATORS}
    assert all(each.label_names == split.own.classes for each in made.values())
    seen = torch.cat([split.source.image_hashes, images.image_hashes]).unique()
    assert torch.equal(made[adapting.ADAPTED].seen_images, seen)
    assert torch.equal(made[adapting.FURTHER].seen_images, seen)
    assert torch.equal(made[adapting.ALONE].seen_images, images.image_hashes.unique())
    assert len(ancestors(made[adapting.ADAPTED].info["training"])) == 1

    for name in ("fit", "train_to_the_end", "train_classifier"):
        monkeypatch.setattr(adapting, name, None)  # nothing is trained any more
    monkeypatch.setattr("ganaug.evaluation.cells.run_cell", None)
    adapting.main(short)
    assert capsys.readouterr().out == shown


def test_a_pretrained_classifier_keeps_its_body_and_gets_another_head(tmp_path):
    with torch.random.fork_rng():
        trained = SmallCNN(5, image_size=8)
        write_tensors(tmp_path / "weights", trained.state_dict())
        classifier = adapting.Pretrained(tmp_path / "weights")(3, channels=1, image_size=8)
    body = trained.body.state_dict()
    assert all(torch.equal(value, body[name]) for name, value in classifier.body.state_dict().items())
    assert classifier.head.out_features == 3


def test_means_have_t_intervals():
    # Student's t with 2 degrees of freedom: 4.303 times the standard error, 1 / sqrt(3).
    assert adapting.mean_and_interval([0.01, 0.02, 0.03]) == "+2.0 [-0.5, 4.5]"
