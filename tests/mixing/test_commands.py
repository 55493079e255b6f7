"""``ganaug.evaluate``: opening what it is given, and its report."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest
from helpers.evaluated import TinyClassifier
from helpers.generators import Honest, make_generator
from torchvision.transforms.v2.functional import to_pil_image

import ganaug
from ganaug import InputError, LabelledImages, open_images
from ganaug.evaluation import UtilitySettings
from ganaug.mixing import commands

DIGITS = tuple("0123456789")
TINY = {
    "seeds": 2,
    "steps": 4,
    "max_steps": 4,
    "batch_size": 16,
    "ratios": (0.5,),
    "augmentations": ("none",),
    "learning_curve": False,
}


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """The presets, with little to train."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(commands, "UtilitySettings", partial(UtilitySettings, **TINY))
    monkeypatch.setattr(commands, "classifier_named", lambda name: TinyClassifier)


@pytest.fixture(scope="module")
def parts() -> tuple[LabelledImages, LabelledImages]:
    kept, _ = open_images("sklearn:digits").take([8] * 10)
    held_out, _ = open_images("sklearn:digits", split="test").take([12] * 10)
    return kept, held_out


@pytest.fixture(scope="module")
def generator():
    return make_generator(DIGITS, image_size=8)


def test_evaluating_in_one_line(quick, parts, generator, tmp_path):
    generator.save_pretrained(tmp_path / "acgan")
    train, held_out = parts
    report = ganaug.evaluate(tmp_path / "acgan", train, held_out, folder=tmp_path / "report")
    assert repr(report) == f"acgan: {report.verdict.sentence}"
    assert report.verdict is report.generator("acgan").verdict
    assert report.settings.classifier == "small-cnn"
    assert report.generator("acgan").source == str(tmp_path / "acgan")
    written = json.loads((tmp_path / "report" / "report.json").read_text())
    assert written["generators"][0]["verdict"]["sentence"] == report.verdict.sentence
    assert (tmp_path / "report" / "report.html").exists()
    assert report.verdict.sentence in (tmp_path / "acgan" / "README.md").read_text()


def test_images_are_opened_as_the_generators_make_them(quick, parts, generator, tmp_path):
    """Larger, in colour, as PIL images, from folders of splits; and several generators, one in memory."""
    for images, split in zip(parts, ("train", "test"), strict=True):
        for number, (image, label) in enumerate(images):
            path = tmp_path / "photos" / split / images.classes[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            to_pil_image(image).resize((16, 16)).convert("RGB").save(path)
    report = ganaug.evaluate(
        {"one": generator, "two": make_generator(DIGITS[::-1], image_size=8)},
        tmp_path / "photos",
        horizontal_flip=True,
    )
    assert (report.data.image_size, report.data.channels, report.data.train_images) == (8, 1, 80)
    assert report.data.validation_images + report.data.test_images == 120
    assert report.settings.horizontal_flip
    assert [line.partition(":")[0] for line in repr(report).splitlines()] == ["one", "two"]
    with pytest.raises(InputError, match="each of one, two"):
        _ = report.verdict


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minutes": -1}, "minutes must be positive"),
        ({"generator": {}}, "no generator to evaluate"),
        ({"generator": "nowhere"}, "no folder 'nowhere'"),
        ({"held_out": None}, "no split 'test'. Pass the object"),
        ({"generator": make_generator(("cat", "dog"), image_size=8)}, "acgan-28 does not draw 0, 1"),
        ({"folder": __file__}, "is a file"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(parts, generator, options, message):
    given = {"generator": generator, "train": parts[0], "held_out": parts[1]}
    with pytest.raises(InputError, match=message):
        ganaug.evaluate(**{**given, **options})


def test_other_modules_are_told_where_to_go(parts):
    with pytest.raises(TypeError, match=r"got Honest.*ganaug\.evaluation\.evaluate"):
        ganaug.evaluate(Honest("ant", "bee"), *parts)


def test_images_that_the_generator_saw_do_not_judge(quick, parts):
    generator = make_generator(DIGITS, image_size=8)
    generator.seen_images = parts[1].image_hashes.unique()
    with pytest.raises(InputError, match="the generator was trained on"):
        ganaug.evaluate(generator, parts[0], replace(parts[1], train=True))
