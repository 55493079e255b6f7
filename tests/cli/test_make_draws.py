"""The draws of ``ganaug evaluate --draws``."""

from __future__ import annotations

import re
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.generators import make_generator
from helpers.images import small_images
from helpers.programs import as_a_program

from ganaug import Generator, InputError, LabelledImages
from ganaug.cli import draws as draws_module
from ganaug.cli.draws import make_draws
from ganaug.cli.evaluate import kind_of
from ganaug.evaluation.draws import Draw
from ganaug.training import MODELS, AdaptingTrainer, GANObjective, TrainingSettings, fit
from ganaug.training.again import recipe_of, trained_on
from ganaug.training.fit import train_to_the_end

QUICK = TrainingSettings(total_kimg=0.032, train_batch_size=16, mixed_precision="no", cpu_threads=1, seed=2**32 - 1)
DATA = small_images()


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    with as_a_program():
        folder = tmp_path_factory.mktemp("run") / "own"
        return fit(lambda: MODELS["flow"].make_generator(DATA, width=16), GANObjective(), DATA, QUICK, folder)


def in_this_process(generator: Generator, images: LabelledImages, *, seed: int, folder: Path) -> Generator:
    """As :func:`ganaug.training.again.train_again`, which starts a process and takes seconds for that."""
    recipe = recipe_of(generator)
    settings = replace(recipe.settings, seed=seed)
    with as_a_program():
        make = partial(MODELS["flow"].make_generator, images, **recipe.network)
        return fit(make, recipe.objective, images, settings, folder / f"{seed}")


def test_generators_of_these_images_are_trained_on_each_draw(own, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(draws_module, "train_again", in_this_process)
    published = make_generator(DATA.classes, image_size=12)
    generators = {"published": published, "own": own}
    planned = make_draws(2, DATA, small_images(300, seed=1), generators, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []  # trained when all else has been checked and its price is said
    assert [draw.generators for draw in planned.each] == [generators, generators]
    assert planned.seconds == 2 * own.info["training"]["seconds"]
    made = planned.train_generators(planned)
    assert (made.train_generators, made.seconds) == (None, 0.0)
    draws = made.each
    assert (made.kind, made.shared) == (
        "random subsets of the 360 images",
        DATA.class_counts[0] / (300 // len(DATA.classes)),
    )
    for number, draw in enumerate(draws, 1):
        assert draw.train.name == f"noise, draw {number}"
        assert draw.train.class_counts == DATA.class_counts
        assert len(draw.extra) == 300
        assert list(draw.generators) == ["published", "own"]
        assert draw.generators["published"] is published
        assert trained_on(draw.generators["own"], draw.train)
        assert draw.generators["own"].info["training"]["seed"] == number - 1  # after the largest comes 0
    assert len({draw.train.fingerprint for draw in (*draws, Draw(DATA, {}))}) == 3
    said = capsys.readouterr().out
    assert re.sub(r"in \d+\.\d minutes", "in some minutes", said).splitlines() == [
        "draws: 2 random subsets of the 360 images",
        "published was not trained on just these images, so it is the same in all draws",
        "own is trained again on each of them; it took 0.0 minutes",
        "draw 1 of 2: own was trained on it in some minutes",
        "draw 2 of 2: own was trained on it in some minutes",
    ]


def test_generators_of_an_earlier_call_are_there_at_once(own, tmp_path, monkeypatch):
    kept = [copy(own), copy(own)]
    monkeypatch.setattr(draws_module, "trained_before", lambda *given, seed, folder: seed == 0)
    monkeypatch.setattr(draws_module, "train_again", lambda *given, seed, folder: kept[seed])
    planned = make_draws(2, DATA, None, {"own": own}, folder=tmp_path)
    assert [draw.generators["own"] for draw in planned.each] == [kept[0], own]
    assert planned.seconds == own.info["training"]["seconds"]
    monkeypatch.setattr(draws_module, "trained_before", lambda *given, seed, folder: True)
    planned = make_draws(2, DATA, None, {"own": own}, folder=tmp_path)
    assert [draw.generators["own"] for draw in planned.each] == kept
    assert (planned.train_generators, planned.seconds) == (None, 0.0)


def test_one_draw_is_what_was_given(own, capsys):
    extra = small_images(300, seed=1)
    assert make_draws(1, DATA, extra, {"own": own}) is None
    assert capsys.readouterr().out == ""


def test_what_is_refused_is_refused_before_anything_is_trained(own, tmp_path):
    other = make_generator(DATA.classes, image_size=12)
    other.seen_images = DATA.image_hashes.unique()
    with pytest.raises(InputError, match=r"old: the config.json .* lacks"):
        make_draws(2, DATA, None, {"own": own, "old": other}, folder=tmp_path)
    turned = replace(DATA, targets=torch.roll(DATA.targets, 1))
    with pytest.raises(InputError, match="own: .* labels"):
        make_draws(2, turned, None, {"own": own}, folder=tmp_path)
    with pytest.raises(InputError, match="draws must be a positive int"):
        make_draws(0, DATA, None, {}, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A generator of other classes that was adapted to DATA."""
    with as_a_program():
        others = replace(small_images(seed=1), classes=("x", "y", "z"))
        source = MODELS["flow"].make_generator(others, width=16)
        source.seen_images = others.image_hashes.unique()
        settings = replace(QUICK, seed=1)
        folder = tmp_path_factory.mktemp("run") / "adapted"
        return train_to_the_end(lambda *given: AdaptingTrainer(source, DATA, *given), settings, folder)


def test_what_saw_the_images_and_others_is_not_taken_for_one_that_knows_no_draw(adapted, tmp_path, capsys):
    assert adapted.info["dataset"]["fingerprint"] == DATA.fingerprint
    assert kind_of(adapted, DATA).startswith("trained on these images, and on others. ")
    extra = small_images(300, seed=2)
    for more in (None, extra):
        with pytest.raises(InputError, match="it saw images of noise in its training, but not just these.* --draws 1"):
            make_draws(2, DATA, more, {"it": adapted}, folder=tmp_path)
    assert make_draws(1, DATA, None, {"it": adapted}) is None

    # A part of the images is enough, but for as few as two published sets may have in common.
    some = make_generator(DATA.classes, image_size=12)
    some.seen_images = DATA.image_hashes[:20]
    assert kind_of(some, DATA).startswith("trained on some of these images. ")
    some.seen_images = torch.cat([DATA.image_hashes[:20], extra.image_hashes])
    assert kind_of(some, DATA).startswith("trained on some of these images, and on others. ")
    with pytest.raises(InputError, match="saw images"):
        make_draws(2, DATA, None, {"some": some}, folder=tmp_path)
    assert make_draws(2, small_images(300, seed=3), None, {"some": some}, folder=tmp_path)
    # Of draws that are subsets of what it saw, it knows as much as of the images given.
    some.seen_images = torch.cat([DATA.image_hashes, extra.image_hashes, adapted.seen_images])
    planned = make_draws(2, DATA, extra, {"some": some}, folder=tmp_path)
    assert [draw.generators for draw in planned.each] == [{"some": some}] * 2
    with pytest.raises(InputError, match="saw images"):
        make_draws(2, DATA, None, {"some": some}, folder=tmp_path)
