from __future__ import annotations

import json
from dataclasses import replace

import pytest
import utility
import utility_cases
from helpers.programs import REPOSITORY, as_a_program
from helpers.readmes import readme
from utility_cases import Setting

from ganaug.evaluation import UtilitySettings
from ganaug.filters import ClassifierAgreement
from ganaug.training import choose_preset, pseudo_labels
from ganaug.training.presets import OTHERS, PSEUDO_LABELLED, SAME, expected_utility, measured_utility

DIGITS = {"source": "sklearn:digits", "kimg": 0.064, "flip": False, "draws": 2}
SHORT = {"seeds": 2, "steps": 5, "max_steps": 5, "batch_size": 32, "ratios": (0.3,), "augmentations": ("classic",)}


class Lenient(ClassifierAgreement):
    """Keeps every other image too, so that a generator of noise does not starve it."""

    def forward(self, images, labels):
        return super().forward(images, labels) | (images.sum((1, 2, 3)) % 2 == 0)


def small_preset(images, *, model):
    """That of these images, with a model that trains and draws quickly."""
    return replace(choose_preset(images, model=model), model="cgan-mlp")


@pytest.fixture
def few_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pseudo_labels, "STEPS", 20)
    monkeypatch.setattr(pseudo_labels, "DRAWN", 8)
    monkeypatch.setattr(utility_cases, "SELECTOR_STEPS", 20)
    monkeypatch.setattr(utility_cases, "choose_preset", small_preset)
    monkeypatch.setattr(utility_cases, "ClassifierAgreement", Lenient)
    settings = {
        "own": Setting("few digits", 8, long_tail=4, **DIGITS),
        "pseudo": Setting("more digits", 4, generator_from=PSEUDO_LABELLED, unlabeled=6, **DIGITS),
        "consistency": Setting(
            "digits without labels",
            4,
            generator_from=PSEUDO_LABELLED,
            generator="pseudo",
            unlabeled=6,
            consistent=True,
            **DIGITS,
        ),
        "alone": Setting("some digits", 8, generator_from=OTHERS, alone=True, selected=True, **DIGITS),
    }
    monkeypatch.setattr(utility, "SETTINGS", settings)
    with as_a_program():
        yield


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("few_settings")
def test_each_setting_is_measured_once(tmp_path, capsys):
    args = utility.Arguments(
        settings=("own", "pseudo", "consistency", "alone"),
        utility=UtilitySettings(**SHORT),
        output_dir=tmp_path / "out",
        processes=1,
    )
    utility.main(args)
    rows = json.loads((tmp_path / "out" / "utility.json").read_text())["rows"]
    assert rows["pseudo"]["images_per_class"] == 4
    assert rows["pseudo"]["best_without"].startswith("real and pseudo-labelled")
    assert rows["own"]["imbalance"] == 4
    assert (rows["own"]["kimg"], rows["pseudo"]["kimg"]) == (0.064, 0.064)
    for key, row in rows.items():
        assert {row["best_without"], row["with"]} <= set(row["scores"])
        assert all(len(scores) == 2 for scores in row["scores"].values())
        gain = row["difference"]
        assert gain["low"] <= gain["estimate"] <= gain["high"]
        assert (row["draws"], row["classifier"]) == (2, "small-cnn")
        judged_apart = {rows["pseudo"]["best_without"], rows["consistency"]["best_without"]}
        assert {row["best_without"], row["with"]} <= set(row["beside"]) | judged_apart, key
    assert rows["consistency"]["best_without"] == "real and unlabelled, by consistency"
    assert rows["consistency"]["scores"][rows["pseudo"]["with"]] == rows["pseudo"]["scores"][rows["pseudo"]["with"]]
    assert "real + classic + class-balanced loss" in [name for name, *_ in rows["own"]["search"]]
    assert rows["alone"]["with"] == "generated only"
    for draw in ("0", "1", "2"):
        assert (tmp_path / "out" / "pseudo" / draw / "model.safetensors").exists()
    assert (tmp_path / "out" / "alone" / "selector.safetensors").exists()
    shown = capsys.readouterr().out
    assert shown.count("| few digits, 2 draws | the same images, 0.064 kimg | small-cnn | real") == 1
    assert (tmp_path / "out" / "utility.png").stat().st_size > 5000
    utility.main(args)
    assert capsys.readouterr().out == shown


def test_the_readme_has_the_table_that_expectations_come_from():
    table = measured_utility()
    assert utility.table(table) in readme("ganaug/evaluation/README.md")
    assert (REPOSITORY / ".images" / "utility.png").exists()
    own = {key: row for key, row in table["rows"].items() if row["generator_from"] == SAME}
    assert len(own) >= 3
    for row in own.values():
        shares = [row["imbalance"] ** (-k / 9) for k in range(10)]
        counts = [round(row["images_per_class"] * 10 * share / sum(shares)) for share in shares]
        assert row["name"] in expected_utility(counts)
