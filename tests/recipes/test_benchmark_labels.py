from __future__ import annotations

import json
from dataclasses import replace

import labels
import pytest
import torch
from helpers.programs import REPOSITORY, as_a_program
from helpers.readmes import readme

from ganaug import InputError
from ganaug.cli.images import DataArguments
from ganaug.training import pseudo_labels


@pytest.fixture
def short(monkeypatch, tmp_path):
    """Arguments by which all is trained for a few steps."""
    monkeypatch.setattr(pseudo_labels, "STEPS", 4)
    monkeypatch.setattr(labels, "STEPS", 4)
    return labels.Arguments(
        data=DataArguments(dataset_name="sklearn:digits"), labelled=20, unlabeled=50, draws=(0, 1), output_dir=tmp_path
    )


@pytest.mark.timeout(200)
def test_both_ways_label_the_same_images_and_a_stopped_run_goes_on(short, capsys, monkeypatch):
    with monkeypatch.context() as stopped:
        stopped.setattr(labels, "by_both", lambda *args: 1 / 0)
        with as_a_program(), pytest.raises(ZeroDivisionError):
            labels.main(short)
    first = json.loads((short.output_dir / "labels.json").read_text())["draws"]
    assert list(first["0"]) == [labels.ALONE]
    with as_a_program():
        labels.main(short)
    shown = capsys.readouterr().out
    draws = json.loads((short.output_dir / "labels.json").read_text())["draws"]
    assert draws["0"][labels.ALONE] == first["0"][labels.ALONE]
    for ways in draws.values():
        assert {found["images"] for found in ways.values()} == {500}
        assert ways[labels.BOTH]["left_out"] == 2 * 10 * pseudo_labels.MEMBERS
    assert shown.count("| labelled images alone |") == shown.count("| labelled and unlabelled images |") == 2
    gains = [100 * (ways[labels.BOTH]["right"] - ways[labels.ALONE]["right"]) for ways in draws.values()]
    assert f"{sum(gains) / 2:+.1f} points ({gains[0]:+.1f}, {gains[1]:+.1f})" in shown
    with as_a_program():
        labels.main(replace(short, table=short.output_dir / "labels.json"))
    assert capsys.readouterr().out == shown
    with as_a_program(), pytest.raises(InputError, match="results of other images or flags"):
        labels.main(replace(short, labelled=10))


def test_the_readme_has_the_table_that_was_measured():
    recorded = json.loads((REPOSITORY / ".images" / "labels.json").read_text())
    assert labels.table(recorded) in readme("recipes/README.md")


def test_shares_are_those_of_the_labels():
    probabilities = torch.tensor([[0.95, 0.05], [0.92, 0.08], [0.3, 0.7], [0.6, 0.4]])
    found = labels.told(probabilities, torch.tensor([0, 1, 1, 1]))
    assert found == pytest.approx({"images": 4, "right": 0.5, "confidence": 0.7925, "sure": 0.5, "right_of_sure": 0.5})
    none = labels.told(probabilities[2:], torch.tensor([1, 1]))
    assert (none["sure"], none["right_of_sure"], none["right"]) == (0, 0, 0.5)
