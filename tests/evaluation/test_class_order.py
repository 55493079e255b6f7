"""A dataset numbers its classes in one way and the generator in another: judges of either meet by name, or refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.evaluated import QUICK
from helpers.generators import LEVELS, Honest, Projection, Sees, make_generator, shown

from ganaug import ConditionalGANAugment, InputError, LabelledImages
from ganaug.data import joined
from ganaug.evaluation import GeneratorScore, fidelity, label_fidelity, memorization, ratio, utility
from ganaug.evaluation.ratio import RatioChoice
from ganaug.evaluation.statistics import Difference
from ganaug.evaluation.study import Study
from ganaug.filters import ClassifierAgreement, DiscriminatorScore

OURS = ("bee", "cat", "ant")  # the dataset's numbering
THEIRS = ("ant", "dog", "bee", "cat")  # the generator's


def real_images(names=OURS, each=8, seed=0) -> LabelledImages:
    """Images that show their class, each of them another one."""
    targets = torch.arange(each * len(names)) % len(names)
    levels = torch.tensor([LEVELS[name] for name in names])[targets]
    noise = torch.randint(-9, 10, (len(targets), 1, 4, 4), generator=torch.Generator().manual_seed(seed))
    return LabelledImages((levels.view(-1, 1, 1, 1) + noise).to(torch.uint8), targets, tuple(names), f"set {seed}")


def shows_its_labels(images: LabelledImages) -> bool:
    return all(shown(image) == images.classes[label] for image, label in images)


@pytest.mark.parametrize("names", [THEIRS, ("cat", "bee", "ant"), OURS])
@pytest.mark.parametrize("kind", [None, DiscriminatorScore, ClassifierAgreement])
def test_the_images_that_classifiers_are_trained_on(names, kind, tmp_path):
    """Utility, its verdict, the choice of a ratio, fidelity and memorisation all take their images from here."""
    train, held_out = real_images(), real_images(seed=1)
    network = Projection(*names) if kind is DiscriminatorScore else Sees(*OURS)
    generators = {"it": Honest(*names, wrong=0.33 if kind else 0)}
    accept = kind and kind(network)
    study = Study(train, held_out, generators, settings=QUICK, accept=accept, max_tries=99)
    arm = study.generated_arm("it", study.augmented_arms()[0])
    images, _ = study.training_set(arm, 0, tmp_path)
    assert images.classes == OURS
    assert len(images) > 100
    assert shows_its_labels(images)
    drawn = study.sampler("it").draw(held_out.targets, range(len(held_out)))
    assert shows_its_labels(replace(held_out, images=drawn))


def test_label_fidelity_asks_in_the_classifiers_order():
    generator = Honest(*THEIRS)
    generator.conditional = True
    found = label_fidelity(generator, Sees(*OURS), classes=OURS, num_images=30)
    assert (found.share, found.num_images) == (1.0, 30)
    assert found.per_class == dict.fromkeys(OURS, 1.0)
    assert label_fidelity(generator, Sees(*THEIRS), num_images=30).share == 1
    with pytest.raises(InputError, match="knows 3 classes, and 4 are asked for: ant, dog, bee, cat"):
        label_fidelity(generator, Sees(*OURS))
    with pytest.raises(ValueError, match="does not know emu"):
        label_fidelity(generator, Sees(*OURS), classes=("bee", "emu", "ant"))


def test_label_fidelity_draws_what_sample_draws():
    generator = make_generator(("a", "b"), image_size=8)
    labels = torch.arange(20) % 2
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, images):
            seen.append(images)
            return torch.zeros(len(images), 2)

    label_fidelity(generator, Spy(), num_images=20, seed=3)
    assert torch.equal(seen[0], generator.sample(labels, seed=3) / 127.5 - 1)


@pytest.mark.parametrize("validation_names", [OURS, ("ant", "bee", "cat")])
@pytest.mark.parametrize("rename", [False, True])
def test_the_automatic_ratio_judges_with_the_labels_of_the_dataset(monkeypatch, tmp_path, validation_names, rename):
    """Its filter and its class_map know these labels; validation images may come in another order."""
    asked = {}

    def choose_ratio(train, validation, generator, *, accept, max_tries, vary, cache_dir):
        study = Study(train, validation, {"it": generator}, settings=QUICK, accept=accept, max_tries=max_tries)
        asked.update(train=train, validation=validation, generated=study.pool("it", 0, tmp_path, seen=200))
        gain = Difference(0.1, 0.08, 0.12, 0.001, 5, 1e-5, 1e-5, 20.0)
        return RatioChoice(0.5, "helps", gain, 0.5, {}, "ratio 0.5")

    monkeypatch.setattr(ratio, "choose_ratio", choose_ratio)
    train, validation = real_images(), real_images(validation_names, seed=1)
    class_map = {"bee": "Biene", "cat": "Katze", "ant": "Ameise"} if rename else {}
    generator = Honest(*THEIRS, wrong=0.33)
    generator.label_names = tuple(class_map.get(name, name) for name in THEIRS)
    mixed = ConditionalGANAugment(
        train,
        generator,
        "auto",
        validation=validation,
        class_map=class_map or None,
        accept=ClassifierAgreement(Sees(*OURS)),
        max_tries=99,
        cache_dir=tmp_path,
    )
    assert mixed.ratio_ == 0.5
    for images in asked.values():
        assert images.classes == tuple(class_map.get(name, name) for name in OURS)
        assert shows_its_labels(replace(images, classes=OURS))
    assert torch.equal(asked["train"].targets, train.targets)


def test_sets_of_images_in_another_order_are_refused():
    """They are compared label by label, so a set that is numbered in another way must not get that far."""
    ours, turned = real_images(), real_images(OURS[::-1])
    judge = Sees(*OURS)
    for compare in (
        lambda: joined(ours, turned),
        lambda: fidelity(turned, ours, judge),
        lambda: memorization(turned, ours, ours, judge),
        lambda: memorization(ours, ours, turned, judge),
        lambda: GeneratorScore(ours, turned),
        lambda: utility(ours, real_images(seed=1), {}, extra=turned),
    ):
        with pytest.raises(InputError, match="their classes differ"):
            compare()
    score = GeneratorScore(*(real_images(each=8, seed=seed) for seed in (0, 1)))
    with pytest.raises(InputError, match="their classes differ"):
        score(make_generator(OURS[::-1], image_size=4))
