from __future__ import annotations

import json
import time

import peer_models
import peers
import pytest
import torch
from helpers.programs import as_a_program

from ganaug import InputError, open_images
from ganaug.cli.images import DataArguments
from ganaug.evaluation import UtilitySettings

LABELS = torch.tensor([3, 0, 9])


@pytest.fixture
def trained(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(peers, "PACKAGES", ())  # nothing of theirs is called
    trained = []

    def train_one(arm, minutes, data, labels):
        trained.append((arm, minutes))
        images = torch.zeros(len(labels), *data.images.shape[1:], dtype=torch.uint8)
        return {"shown": 1000, "seconds": 61 * minutes, "drawing_seconds": 4.0}, images

    monkeypatch.setattr(peers, "train_one", train_one)
    return trained


def arguments(tmp_path, **changed):
    return peers.Arguments(
        data=DataArguments(dataset_name="sklearn:digits"),
        settings=UtilitySettings(seeds=2, steps=60, batch_size=32),
        images=205,
        output_dir=tmp_path / "peers",
        processes=1,
        **changed,
    )


def test_each_arm_is_trained_once_for_each_budget_and_judged_beside_as_many_real_images(trained, tmp_path, capsys):
    args = arguments(tmp_path, arms=("flow", "torchcfm"), minutes=(2, 0.5))
    peers.main(args)
    assert trained == [("flow", 2), ("torchcfm", 2), ("flow", 0.5), ("torchcfm", 0.5)]
    results = json.loads((tmp_path / "peers" / "peers.json").read_text())
    assert min(results["real"]) > 0.6
    assert max(results["runs"]["flow, 2 minutes"]["scores"]) < 0.3  # black images teach nothing
    assert (tmp_path / "peers" / "peers.png").stat().st_size > 5000
    shown = capsys.readouterr().out
    assert "| 200 real images | | | |" in shown
    rows = [line for line in shown.splitlines() if line.startswith("| `")]
    assert [row.split(" | ")[:4] for row in rows] == [
        ["| `torchcfm`", "0.5", "1,000 [33]", "50"],
        ["| `flow`", "0.5", "1,000 [33]", "50"],
        ["| `torchcfm`", "2.0", "1,000 [8]", "50"],
        ["| `flow`", "2.0", "1,000 [8]", "50"],
    ]

    peers.main(args)
    assert len(trained) == 4
    assert capsys.readouterr().out == shown
    with pytest.raises(InputError, match="are of 200 images, not of 300"):
        peers.main(peers.Arguments(**{**vars(args), "images": 300}))


def test_what_cannot_be_compared_is_refused_before_anything_is_trained(monkeypatch, trained, tmp_path):
    monkeypatch.setattr(peers, "PACKAGES", ("torchcfm", "diffusers"))
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install torchcfm diffusers, or leave them out of --arms"):
        peers.main(arguments(tmp_path))
    with pytest.raises(InputError, match="arms must be of torchcfm, .* got biggan"):
        peers.main(arguments(tmp_path, arms=("biggan",)))
    assert not trained


@pytest.mark.parametrize("arm", ["public-acgan-32", "acgan"])
def test_ours_and_the_public_acgan_are_trained_for_the_time_and_draw(arm):
    data = open_images("sklearn:digits")
    with as_a_program():
        facts, images = peers.training(arm, 0.5 / 60, data, LABELS)()
    assert 0.1 < facts["seconds"] < 5
    assert facts["shown"] >= 64
    assert facts["drawing_seconds"] > 0
    assert images.dtype == torch.uint8
    assert images.shape == (3, *data.images.shape[1:])


@pytest.mark.parametrize("package", ["torchcfm", "diffusers"])
def test_models_of_other_packages_are_trained_and_draw(package):
    pytest.importorskip(package, exc_type=ImportError)
    data = open_images()
    with as_a_program():
        made = peer_models.ARMS[package](data, 0.01)
        images = made.draw(LABELS)
    assert made.shown == 128
    assert images.dtype == torch.uint8
    assert images.shape == (3, *data.images.shape[1:])


def test_steps_are_taken_until_their_time_is_over():
    def step():
        end = time.process_time() + 0.01
        while time.process_time() < end:
            pass

    shown, seconds = peer_models.train_for(0.045, step, 7)
    assert shown in (7 * 4, 7 * 5)
    assert 0.045 <= seconds < 0.1
