from __future__ import annotations

import json
from dataclasses import replace

import colour
import colour_sets
import numpy as np
import pytest
from helpers.programs import REPOSITORY, as_a_program
from helpers.readmes import readme
from PIL import Image

from ganaug import InputError, open_images
from ganaug.evaluation import UtilitySettings

CATEGORIES = {"Flags": 40, "Food & Drink": 36, "Component": 3}


@pytest.fixture
def package(tmp_path):
    """What npm fetches, with few emoji of nothing but noise."""
    folder = tmp_path / "package"
    images = folder / "img" / "google" / "64"
    images.mkdir(parents=True)
    rng, entries = np.random.default_rng(0), []
    for category, count in CATEGORIES.items():
        for k in range(count):
            name = f"{category[:2]}{k}.png"
            Image.fromarray(rng.integers(256, size=(64, 64, 4), dtype=np.uint8)).save(images / name)
            entries.append({"category": category, "image": name, "has_img_google": True})
    entries.append({"category": "Flags", "image": "missing.png", "has_img_google": False})
    (folder / "emoji.json").write_text(json.dumps(entries))
    return folder


def test_emoji_are_split_by_emoji_and_judged_by_the_same_ones(package, tmp_path):
    names = {}
    for number in (20, 1000):
        folder = tmp_path / str(number)
        colour_sets.write_images("emoji", number, folder, package)
        names[number] = {split: {path.name for path in (folder / split).rglob("*.png")} for split in ("train", "test")}
        assert len(names[number]["test"]) == 10 + 9  # a quarter of each category
        assert sorted(path.name for path in (folder / "train").iterdir()) == ["Flags", "Food & Drink"]
    assert names[20]["test"] == names[1000]["test"]
    assert names[20]["train"] < names[1000]["train"]
    assert len(names[20]["train"]) == 40
    assert not names[1000]["train"] & names[1000]["test"]
    assert len(names[1000]["train"] | names[1000]["test"]) == 40 + 36
    with pytest.raises(InputError, match="npm pack emoji-datasource-google"):
        colour_sets.write_images("emoji", 20, tmp_path / "none", None)


def test_patches_that_judge_come_from_another_part_of_the_photograph(monkeypatch, tmp_path):
    here = {scene: place for scene, place in colour_sets.SCENES.items() if place[0] == "sklearn"}
    monkeypatch.setattr(colour_sets, "SCENES", here)
    cut = []
    monkeypatch.setattr(colour_sets, "_patches", lambda part, count, random: cut.append((part, count)) or [part])
    colour_sets.write_images("photographs", 30, tmp_path, None)
    for (seen, count), (held_out, judges) in zip(cut[::2], cut[1::2], strict=True):
        assert (count, judges) == (30, colour_sets.JUDGES)
        assert seen.width + held_out.width == 640
        assert min(*seen.size, *held_out.size) >= colour_sets.SIDES["photographs"]
    monkeypatch.undo()
    monkeypatch.setattr(colour_sets, "SCENES", here)
    colour_sets.write_images("photographs", 5, tmp_path / "cut", None)
    images = open_images(tmp_path / "cut")
    assert (images.classes, images.class_counts) == (("flower", "temple"), [5, 5])
    assert images.images.shape[1:] == (3, 128, 128)
    monkeypatch.setattr(colour_sets, "SCENES", {**here, "moon": ("no_such_package", "moon.png")})
    with pytest.raises(InputError, match=r"no_such_package, which is not installed.*extra benchmarks"):
        colour_sets.write_images("photographs", 5, tmp_path / "missing", None)
    assert not (tmp_path / "missing").exists()


@pytest.mark.timeout(200)
def test_a_row_has_time_memory_quality_and_worth_and_a_stopped_run_goes_on(package, tmp_path, monkeypatch, capsys):
    args = colour.Arguments(
        emoji=package,
        sets=("emoji",),
        sizes=(8, 128),
        numbers=(20,),
        settings=UtilitySettings(seeds=2, steps=2, max_steps=2, augmentations=("none",), ratios=(0.5,)),
        kimg=0.2,
        judge_steps=2,
        cpu_threads=1,
        output_dir=tmp_path / "out",
    )
    with monkeypatch.context() as stopped:
        stopped.setattr(colour, "quality", lambda *args: 1 / 0)
        stopped.setattr(colour.quality, "__name__", "quality")
        with as_a_program(), pytest.raises(ZeroDivisionError):
            colour.main(args)
    first = json.loads((args.output_dir / "colour.json").read_text())["rows"]
    assert list(first) == ["emoji-8-20"]  # no file is as large as 128 pixels
    assert first["emoji-8-20"]["training"]["megabytes"] > 100
    with as_a_program():
        colour.main(args)
    found = json.loads((args.output_dir / "colour.json").read_text())["rows"]["emoji-8-20"]
    assert found["training"] == first["emoji-8-20"]["training"]
    assert 0 <= found["quality"]["label_fidelity"] <= 1
    assert found["quality"]["real_pure"] < 0.05  # noise has few
    assert (args.output_dir / "emoji-8-20.png").exists()
    shown = capsys.readouterr().out
    assert "| emoji, 20 | 8 | `flow`, 0.2 kimg |" in shown
    assert found["worth"]["headline"] in shown
    with as_a_program():
        colour.main(replace(args, table=args.output_dir / "colour.json"))
    assert shown.endswith(table := capsys.readouterr().out)
    assert table.count("\n") == 3


def test_the_readme_has_the_table_that_was_measured():
    recorded = json.loads((REPOSITORY / ".images" / "colour.json").read_text())
    assert colour.table(recorded) in readme("recipes/README.md")
