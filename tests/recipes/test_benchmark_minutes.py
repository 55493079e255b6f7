from __future__ import annotations

import json
import math
import re
import statistics

import minutes
import pytest
from helpers.programs import REPOSITORY, as_a_program
from helpers.readmes import readme

from ganaug import InputError
from ganaug.training.presets import LENGTHS, QUICK, WIDE, Preset, preset_settings

RATES = {"flow": [100.0, 50.0, 200.0], "flow-wide": [10.0, 10.0, 10.0]}


def test_minutes_follow_from_the_length_of_a_preset_and_the_speed(monkeypatch, tmp_path, capsys):
    timed = []
    monkeypatch.setattr(minutes, "images_per_second", lambda size, models, args: timed.append((size, models)) or RATES)
    args = minutes.Arguments(sizes=(28,), output_dir=tmp_path)
    with as_a_program():
        minutes.main(args)
        minutes.main(minutes.Arguments(sizes=(28, 64), output_dir=tmp_path))
    assert timed == [(28, ["flow", "flow-wide"]), (64, ["flow", "flow-wide"])]
    shown = capsys.readouterr().out
    # 60 kimg at 100 images a second are 10 minutes; 600 kimg at 10 a second are 1,000.
    this = r"\| on a CPU with(out)? bf16"
    assert re.search(rf"{this} \| 28 \|\n", shown)
    assert re.search(rf"{this} \| 28 \| 64 \|\n", shown)
    assert "| 200 images: `flow`, 60 kimg | 10 |\n" in shown
    assert "| 200 images: `flow`, 60 kimg | 10 | 10 |\n" in shown
    assert "| 20,000 images: `flow-wide`, 600 kimg | 1,000 |\n" in shown
    assert "On a GPU: not measured." in shown
    # The slowest round takes twice the median.
    assert shown.count("each round within 100 % of the median.") == 2
    assert "Machine: cpu, " in shown
    with as_a_program(), pytest.raises(InputError, match="28, 32, 64, 128; got 30"):
        minutes.main(minutes.Arguments(sizes=(30,), output_dir=tmp_path))


def test_what_is_timed_is_a_training_step():
    with as_a_program():
        step = minutes.steps_of("flow", minutes.random_images(256, 8))
        step()
        step()


def test_the_readmes_have_the_tables_that_were_measured():
    recorded = json.loads((REPOSITORY / ".images" / "minutes.json").read_text())
    told = readme("README.md") + readme("recipes/README.md")  # which has that of processors without bf16
    assert all(part in told for part in minutes.table(recorded).split("\n\n"))


def test_the_recipes_table_of_presets_has_their_lengths_and_the_minutes_that_were_measured():
    rates = json.loads((REPOSITORY / ".images" / "minutes.json").read_text())["cpu"]["images_per_second"]["28"]
    lines = []
    for most, lengths in LENGTHS:
        models = [model for model in (WIDE, QUICK) if model in lengths]
        kimg = "; ".join(f"`{model}`, {lengths[model]:g} kimg" for model in models)
        takes = "; ".join(
            minutes.minutes(
                Preset(model, preset_settings(model, lengths[model], imbalanced=False), "", ""),
                statistics.median(rates[model]),
            )
            for model in models
        )
        images = "more" if most == math.inf else f"up to {most:,}"
        lines.append(f"| {images} | {kimg}{', where time is short' * (len(models) > 1)} | {takes} |")
    told = readme("recipes/README.md").replace(" minutes |", " |")  # the unit stands in the first row
    assert "\n".join(lines) in told
