"""``ratio="auto"``: how many generated images to mix in, none included."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from helpers.evaluated import QUICK, MadeUpCells, NextClass, Replay, TinyClassifier, digits_in_parts
from helpers.generators import make_generator

from ganaug import ConditionalGANAugment, InputError
from ganaug.data import joined
from ganaug.evaluation import choose_ratio, ratio
from ganaug.evaluation.ratio import judged_ratio
from ganaug.evaluation.search import JUDGES
from ganaug.evaluation.study import Study

SETTINGS = replace(QUICK, seeds=5, steps=50, max_steps=50)


@pytest.fixture(scope="module")
def parts():
    return digits_in_parts(1, 40)


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """What the wrapper asks for, in seconds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(ratio, "UtilitySettings", lambda max_steps: SETTINGS)


def test_an_oracle_is_mixed_in_and_wrong_labels_are_not(parts):
    train, known, _, held_out = parts
    chosen = choose_ratio(train, held_out, Replay(known), factory=TinyClassifier)
    assert set(chosen.scores) == {0.1, 0.2, 0.3, 0.5, 0.8}
    assert chosen.ratio == chosen.best == max(chosen.scores, key=chosen.scores.get) > 0
    assert chosen.outcome == "helps"
    assert chosen.difference.low > 0.02
    assert chosen.sentence.startswith(f"ratio {chosen.ratio:g}: helps, +")
    assert f" at ratio {chosen.best:g} on 179 validation images" in chosen.sentence

    none = choose_ratio(train, held_out, NextClass(train), candidates=(0.5, 0.8), factory=TinyClassifier)
    assert none.ratio == 0
    assert none.outcome == "hurts"
    assert none.difference.high < -0.02
    assert none.sentence.startswith("ratio 0: hurts, -")


def test_other_trainings_and_other_images_judge_than_choose(parts):
    train, known, _, held_out = parts
    study = Study(train, held_out, {"it": Replay(known)}, settings=replace(SETTINGS, ratios=(0.1, 0.3, 0.5)))
    choosing = 180

    def made_up(accuracy, on=slice(None)):
        made = MadeUpCells(accuracy, on)
        return judged_ratio(study, choosing, made), made

    found, made = made_up(lambda job: 0.95 if job.arm.ratio == 0.3 else 0.7)
    assert (found.ratio, found.outcome) == (0.3, "helps")
    assert {job.seed for job in made.asked["choosing the ratio"]} == {0, 1}
    assert {job.seed for job in made.asked["judging it"]} == set(range(JUDGES, JUDGES + 5))
    assert {job.arm.ratio for job in made.asked["judging it"]} == {0, 0.3}
    # Lucky on the images that choose, or in the trainings that do.
    found, _ = made_up(lambda job: 0.95 if job.arm.ratio == 0.3 else 0.7, slice(choosing))
    assert (found.ratio, found.best) == (0, 0.3)
    assert found.outcome != "helps"
    found, _ = made_up(lambda job: 0.95 if job.arm.ratio == 0.3 and job.seed < JUDGES else 0.7)
    assert (found.ratio, found.best) == (0, 0.3)
    assert found.outcome != "helps"


def test_the_ratio_is_chosen_with_the_images_that_the_filter_keeps(parts, tmp_path):
    train, known, _, held_out = parts
    generator = Replay(known)
    generator.label_names = train.classes
    with pytest.raises(InputError, match=r"the filter starved.* none of the 3 \(max_tries\)"):
        ConditionalGANAugment(
            train,
            generator,
            "auto",
            validation=held_out,
            accept=lambda images, labels: labels < 0,
            max_tries=3,
            cache_dir=tmp_path,
        )


def test_images_that_were_seen_cannot_choose(parts):
    train, known, _, held_out = parts
    with pytest.raises(InputError, match="are among the training images too"):
        choose_ratio(train, train, Replay(known), factory=TinyClassifier)
    with pytest.raises(InputError, match="has no images of class 9 to choose the ratio by"):
        choose_ratio(train, held_out.take([20] * 9 + [0])[0], Replay(known), factory=TinyClassifier)
    generator = make_generator(train.classes, image_size=8)
    generator.seen_images = held_out.image_hashes.unique()
    with pytest.raises(InputError, match="are among the images that the generator was trained on"):
        choose_ratio(train, held_out, generator, factory=TinyClassifier)
    with pytest.raises(InputError, match="1 of the 1 .* class 0 .* leaves none; at least 4"):
        choose_ratio(train, train, Replay(known), factory=TinyClassifier, leave_out_copies=True)


def test_validation_images_that_were_seen_can_be_left_out(parts, tmp_path):
    train, known, _, held_out = parts
    few = replace(SETTINGS, seeds=2, steps=1, max_steps=1)
    arguments = {"candidates": (0.5,), "factory": TinyClassifier, "settings": few, "cache_dir": tmp_path}
    with_copies = joined(held_out, train)
    found = choose_ratio(train, with_copies, Replay(known), leave_out_copies=True, **arguments)
    without = choose_ratio(train, held_out, Replay(known), **arguments)
    assert found == without
    # With ratio="auto", the error says where they are left out.
    generator = Replay(known)
    generator.label_names = train.classes
    with pytest.raises(InputError, match="leave_out_copies=True in .*choose_ratio"):
        ConditionalGANAugment(train, generator, "auto", validation=with_copies, cache_dir=tmp_path)


@pytest.mark.parametrize(("good", "names"), [(True, "abcdefghij"), (False, "0123456789")])
def test_the_wrapper_asks_and_says_what_came_out(parts, tmp_path, caplog, monkeypatch, good, names):
    train, known, _, held_out = parts
    data = [replace(part, classes=tuple(names)) for part in (train, held_out)]
    generator = Replay(known) if good else NextClass(train)
    generator.label_names = train.classes
    class_map = dict(zip(names, train.classes, strict=True))
    with caplog.at_level(logging.WARNING, "ganaug.mixing.auto_ratio"):
        mixed = ConditionalGANAugment(
            data[0], generator, "auto", validation=data[1], class_map=class_map, cache_dir=tmp_path
        )
    assert caplog.messages[-1].startswith("ratio 0.") == good
    assert (": helps, +" in caplog.messages[-1]) == good
    assert (mixed.n_fake > 0) == good
    assert len(mixed) == len(train) + mixed.n_fake
    assert caplog.messages[-1].startswith(f"ratio {round(mixed.ratio_, 1):g}")
    with monkeypatch.context() as patch:  # another process of the run takes that choice
        patch.setattr(ratio, "choose_ratio", None)
        again = ConditionalGANAugment(
            data[0], generator, "auto", validation=data[1], class_map=class_map, cache_dir=tmp_path
        )
    assert torch.equal(again.targets, mixed.targets)


def test_auto_needs_validation_images_and_a_strategy_that_takes_a_ratio(parts):
    train, known, _, held_out = parts
    generator = Replay(known)
    with pytest.raises(ValueError, match="ratio='auto' and validation go together.* Got ratio 'auto' and .*NoneType"):
        ConditionalGANAugment(train, generator, "auto")
    with pytest.raises(ValueError, match=r"go together.* Got ratio 0\.3 and validation LabelledImages"):
        ConditionalGANAugment(train, generator, 0.3, validation=held_out)
    with pytest.raises(ValueError, match="two amounts"):
        ConditionalGANAugment(train, generator, "auto", validation=held_out, sampling_strategy="minority")
    fewer = held_out.subset(torch.nonzero(held_out.targets < 5).squeeze(1), "fewer")
    with pytest.raises(InputError, match="has no images of class 5"):
        ConditionalGANAugment(train, generator, "auto", validation=replace(fewer, classes=train.classes[:5]))
    strange = replace(held_out, classes=(*train.classes[:9], "ten"))
    with pytest.raises(InputError, match="has images of ten"):
        ConditionalGANAugment(train, generator, "auto", validation=strange)
