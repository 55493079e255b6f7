"""The score that a run's best generator is chosen by, on generators whose faults are known."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers.generators import make_generator
from helpers.images import small_images

from ganaug import InputError, LabelledImages, open_images
from ganaug.evaluation import GeneratorScore
from ganaug.evaluation import generator_score as module

SHARES = {"label_fidelity", "class_diversity", "closeness", "usefulness"}


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Shorter training, which is enough for digits of 8 pixels."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("IMAGES", 400), ("STEPS", 100), ("REFERENCE_STEPS", 200)):
            patch.setattr(module, name, value)
        yield


@pytest.fixture(scope="module")
def digits():
    """Real digits: some to train on, some held out, and others to play a generator with."""
    train, others = open_images("sklearn:digits").split(0.6)
    return train.take([50] * 10)[0], others.take([80] * 10)[0]


@pytest.fixture(scope="module")
def score(digits):
    held_out = digits[1].take([20] * 10)[0]
    return GeneratorScore(digits[0], held_out)


@pytest.fixture(scope="module")
def others(digits):
    return digits[1].take([20] * 10)[1]


def playing(images, change=lambda own: own, *, conditional=True):
    """A generator whose images of a class are the real ones, or what ``change`` makes of them, again and again."""

    def sample(labels, *, seed=0):
        made = torch.empty(len(labels), *images.images.shape[1:], dtype=torch.uint8)
        for label in labels.unique():
            where = torch.nonzero(labels == label).squeeze(1)
            own = change(images.images[images.targets == label] if conditional else images.images)
            made[where] = own[torch.arange(len(where)) % len(own)]
        return made

    return SimpleNamespace(conditional=conditional, label_names=images.classes if conditional else (), sample=sample)


def test_real_images_score_high_and_each_fault_lowers_its_own_share(score, others):
    found = score(playing(others))
    assert found.keys() == {"score", *SHARES}
    assert found["score"] == pytest.approx(math.prod(found[name] for name in SHARES))
    assert min(found[name] for name in SHARES) > 0.8

    one = score(playing(others, lambda own: own[:1]))
    assert (one["class_diversity"], one["score"]) == (0, 0)
    few = score(playing(others, lambda own: own[:3]))
    assert 0.3 < few["class_diversity"] < found["class_diversity"] - 0.1
    assert few["usefulness"] < found["usefulness"]
    inverted = score(playing(others, lambda own: 255 - own))
    assert inverted["closeness"] < found["closeness"] - 0.2
    assert max(inverted["score"], few["score"]) < 0.8 * found["score"]


def test_labels_count(score, others):
    """Good images of the next class."""
    wrong = copy.copy(others)
    object.__setattr__(wrong, "targets", (others.targets + 1) % 10)
    found = score(playing(wrong))
    assert found["label_fidelity"] < 0.1
    assert found["usefulness"] < 0.15
    assert found["closeness"] > 0.8


def test_an_unconditional_generator_is_scored_by_what_it_has(score, others):
    found = score(playing(others, conditional=False))
    assert found.keys() == {"score", "class_diversity", "closeness"}
    assert found["score"] > 0.8
    sevens = others.subset(torch.nonzero(others.targets == 7).squeeze(1), "sevens")
    assert score(playing(sevens, conditional=False))["score"] < 0.6


@pytest.fixture
def hasty(monkeypatch):
    """No classifier that is good for anything, where that does not matter."""
    for name, value in (("IMAGES", 60), ("STEPS", 5), ("REFERENCE_STEPS", 5)):
        monkeypatch.setattr(module, name, value)


@pytest.mark.usefixtures("hasty")
def test_scores_of_one_generator_are_the_same_and_nothing_else_changes(digits):
    score, again = (GeneratorScore(digits[0], digits[1].take([20] * 10)[0]) for _ in range(2))
    generator = make_generator(digits[0].classes, image_size=8)
    weights = {name: value.clone() for name, value in generator.state_dict().items()}
    state = torch.get_rng_state()
    first = score(generator)
    assert score(generator) == first
    assert again(generator) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in generator.state_dict().items())


@pytest.mark.usefixtures("hasty")
def test_classes_of_which_little_is_held_out_count_where_they_can():
    images = small_images(90)
    held_out = images.take([5, 1, 4])[0]
    found = GeneratorScore(images, held_out)(playing(images))
    assert all(0 <= value <= 1 for value in found.values())
    missing = images.take([5, 0, 4])[0]
    assert math.isfinite(GeneratorScore(images, missing)(playing(images))["usefulness"])


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("num_classes", [59, 60, 61, 150])
def test_each_class_has_two_images_however_many_classes_there_are(num_classes):
    names = tuple(map(str, range(num_classes)))
    pixels = torch.arange(3 * num_classes).remainder(256).to(torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    images = LabelledImages(pixels.contiguous(), torch.arange(3 * num_classes) % num_classes, names, "grey")
    found = GeneratorScore(images, images)(make_generator(names, image_size=8))
    assert found.keys() == {"score", *SHARES}
    assert all(0 <= value <= 1 for value in found.values())


def test_what_cannot_be_compared_is_refused(score, digits):
    images = small_images(60)
    with pytest.raises(InputError, match="at least two images"):
        GeneratorScore(images, images.take([9, 1, 0])[0])
    with pytest.raises(InputError, match="classes differ"):
        GeneratorScore(images, digits[1])
    with pytest.raises(InputError, match="classes differ"):
        score(make_generator(images.classes, image_size=8))
    with pytest.raises(InputError, match="image shapes"):
        score(make_generator(image_size=12))


@pytest.mark.usefixtures("hasty")
def test_classes_that_look_alike_have_a_score_too():
    """Digits of any class under two names: the distance between the two is estimated as less than nothing."""
    digits = open_images("sklearn:digits").take([20] * 10)[0]
    anything = replace(digits, targets=torch.arange(200) % 2, classes=("a", "b"))
    train, held_out = anything.split(0.3)
    found = GeneratorScore(train, held_out)(playing(train, lambda own: 255 - own))
    assert all(0 <= value <= 1 for value in found.values())
