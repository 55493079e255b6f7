"""A dataset numbers its classes in one way and the generator in another: they meet by name, however images are mixed.

The images of these generators show their class, so that each can be compared with its label.
"""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from helpers.generators import LEVELS, Honest, Projection, Sees, shown
from helpers.images import hf_dataset
from helpers.streams import Items
from torch import nn
from torch.nn import functional as F

from ganaug import ConditionalGANAugment, ConditionalGANStream, InputError, LabelledImages
from ganaug.filters import ClassifierAgreement, DiscriminatorScore
from ganaug.mixing.huggingface import augment_dataset, generate_dataset
from ganaug.sampling import ClassSampler, sample
from ganaug.transforms import GANMix

TYPED = ("NFC", "NFD")  # an accent as one character with its letter, and as one of its own
OTHER_ORDER = [("ant", "bee", "cat"), ("cat", "ant", "bee"), ("dog", "cat", "bee", "ant")]  # of the generator


def dataset(names=("bee", "cat", "ant"), each: int = 20, level: int = 0) -> LabelledImages:
    """Images all of one level, which show no class."""
    targets = torch.arange(each * len(names)) % len(names)
    images = torch.full((len(targets), 1, 4, 4), level, dtype=torch.uint8)
    return LabelledImages(images, targets, tuple(names), "plain images")


def by_dataset(data, generator, **options):
    train = ConditionalGANAugment(data, generator, 0.5, **options)
    return [(image, data.classes[label]) for image, label in (train[k] for k in range(len(data), len(train)))]


def by_stream(data, generator, **options):
    stream = Items(*data)
    stream.classes = data.classes
    mixed = ConditionalGANStream(stream, generator, 0.5, return_source=True, **options)
    return [(image, data.classes[label]) for image, label, source in mixed if source]


def by_stream_of_unnamed(data, generator, **options):
    mixed = ConditionalGANStream(iter(data), generator, 0.5, classes=data.classes, return_source=True, **options)
    return [(image, data.classes[label]) for image, label, source in mixed if source]


def by_batch(data, generator, **options):
    images, labels = GANMix(generator, 0.5, classes=data.classes, **options)(data.images, data.targets)
    rows = torch.nonzero((images != data.images).flatten(1).any(1)).squeeze(1)
    return [(images[row], data.classes[labels[row]]) for row in rows.tolist()]


def by_one_hot_batch(data, generator, **options):
    labels = F.one_hot(data.targets, len(data.classes)).float()
    images, _ = GANMix(generator, 0.5, classes=data.classes, **options)(data.images, labels)
    rows = torch.nonzero((images != data.images).flatten(1).any(1)).squeeze(1)
    return [(images[row], data.classes[data.targets[row]]) for row in rows.tolist()]


def by_rows(data, generator, *, cache_dir, **options):
    rows = augment_dataset(hf_dataset(data), generator, 0.5, cache_dir=cache_dir, **options)
    return [(row["picture"], data.classes[row["kind"]]) for row in rows.select(range(len(data), len(rows)))]


def by_generated_rows(data, generator, *, cache_dir, **options):
    features = hf_dataset(data).features
    columns = {"image_column": "picture", "label_column": "kind"}
    rows = generate_dataset(generator, 20, features=features, cache_dir=cache_dir, **columns, **options)
    return [(row["picture"], data.classes[row["kind"]]) for row in rows]


WAYS = [by_dataset, by_stream, by_stream_of_unnamed, by_batch, by_one_hot_batch, by_rows, by_generated_rows]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def mixed(request, tmp_path):
    """Mixes images of a generator into a dataset, and returns the generated ones with the names of their labels."""
    way = request.param
    return partial(way, cache_dir=tmp_path) if way in (by_rows, by_generated_rows) else way


@pytest.mark.parametrize("names", OTHER_ORDER, ids="".join)
def test_every_image_shows_the_class_of_its_label(mixed, names):
    data = dataset()
    made = mixed(data, Honest(*names))
    assert len(made) >= 30
    assert all(shown(image) == name for image, name in made)
    assert {name for _, name in made} == set(data.classes)


@pytest.mark.parametrize("names", OTHER_ORDER, ids="".join)
@pytest.mark.parametrize("kind", [DiscriminatorScore, ClassifierAgreement])
def test_a_filter_is_asked_with_the_numbering_of_its_network(mixed, names, kind):
    """A discriminator has the generator's classes, a classifier the dataset's; a third of the images is wrong."""
    data, generator = dataset(), Honest(*names, wrong=0.33)
    network = Projection(*names) if kind is DiscriminatorScore else Sees(*data.classes)
    assert not all(shown(image) == name for image, name in mixed(data, generator))
    made = mixed(data, generator, accept=kind(network), max_tries=99)
    assert len(made) >= 30
    assert all(shown(image) == name for image, name in made)


def test_a_filter_of_your_own_has_the_datasets_labels_unless_it_says_otherwise(mixed):
    data, generator = dataset(), Honest("ant", "bee", "cat")
    seen = {"dataset": set(), "generator": set()}

    class Own(nn.Module):
        def __init__(self, whose):
            super().__init__()
            self.whose, self.takes_generator_labels = whose, whose == "generator"

        def forward(self, images, labels):
            seen[self.whose] |= {(shown(image), int(label)) for image, label in zip(images, labels, strict=True)}
            return torch.ones(len(images), dtype=torch.bool)

    for whose in seen:
        mixed(data, generator, accept=Own(whose))
    black = {("ant", 0)}  # the rows that fill a filter's batch up
    assert seen["dataset"] | black == {("bee", 0), ("cat", 1), ("ant", 2)} | black
    assert seen["generator"] | black == {("ant", 0), ("bee", 1), ("cat", 2)}


def test_class_map_and_filters_together(mixed):
    data, generator = dataset(), Honest("ant", "bee", "cat", wrong=0.33)
    renamed = replace(data, classes=("Biene", "Katze", "Ameise"))
    class_map = dict(zip(renamed.classes, data.classes, strict=True))
    accept = DiscriminatorScore(Projection("ant", "bee", "cat"))
    made = mixed(renamed, generator, class_map=class_map, accept=accept, max_tries=99)
    assert all(shown(image) == class_map[name] for image, name in made)


@pytest.mark.parametrize("classes", [("bee", "cat"), ("bee", "cat", "ant", "dog")])
def test_a_filters_classifier_of_other_classes_is_refused(mixed, classes):
    with pytest.raises(InputError, match=rf"knows {len(classes)} classes, and the dataset has 3: bee, cat, ant"):
        mixed(dataset(), Honest("ant", "bee", "cat"), accept=ClassifierAgreement(Sees(*classes)))


def test_a_filters_classifier_must_return_logits():
    class Answers(nn.Module):
        def forward(self, images):
            return torch.zeros(len(images))

    with pytest.raises(InputError, match=r"must return class logits \(N, 3\), got"):
        ConditionalGANAugment(dataset(), Honest("ant", "bee", "cat"), accept=ClassifierAgreement(Answers()))


def test_an_empty_class_that_the_generator_does_not_know_is_never_drawn_as_another():
    data = replace(dataset(), classes=("bee", "cat", "ant", "dog"))  # no image of a dog
    generator = Honest("ant", "bee", "cat", wrong=0.33)
    accept = DiscriminatorScore(Projection("ant", "bee", "cat"))
    assert all(shown(image) == name for image, name in by_dataset(data, generator, accept=accept, max_tries=99))
    sampler = ClassSampler(generator, data.classes, present=["bee", "cat"])
    for labels, message in [([0, 3], "does not know dog"), ([0, 4], "from 0 to 3 .* got 4"), ([-1], "got -1")]:
        with pytest.raises(InputError, match=message):
            sampler.draw(torch.tensor(labels), range(len(labels)))
    for dtype in (torch.uint8, torch.int16):  # three labels of three classes are not a mask
        images = ClassSampler(Honest("ant", "bee", "cat")).draw(torch.tensor([2, 0, 1], dtype=dtype), range(3))
        assert [shown(image) for image in images] == ["cat", "ant", "bee"]
    with pytest.raises(InputError, match="labels must be from 0"):
        ClassSampler(nameless(generator)).draw(torch.tensor([0]), [0])


def nameless(generator):
    generator.label_names = None
    return generator


def numerals(*names):
    """A generator that calls its classes 0, 1, 2 and so on."""
    generator = Honest(*names)
    generator.label_names = tuple(map(str, range(len(names))))
    return generator


@pytest.mark.parametrize(
    "mix", [lambda *given, **more: ConditionalGANStream(iter(()), *given, **more), GANMix], ids=["stream", "batch"]
)
def test_labels_without_names_meet_only_numerals(mix):
    """Label 1 is the generator's "1" by name; that it is its "bee" would be a guess."""
    assert mix(numerals("ant", "bee")) is not None
    for names in [("ant", "bee", "cat"), ("bee", "ant"), ("ant",)]:
        with pytest.raises(InputError, match=r"classes=generator\.label_names") as refusal:
            mix(Honest(*names))
        assert ", ".join(names) in str(refusal.value)
    turned = numerals("ant", "bee")
    turned.label_names = ("1", "0")
    with pytest.raises(InputError, match=r"classes=generator\.label_names"):
        mix(turned)
    with pytest.raises(InputError, match="class_map was given, but the labels of .* have no names"):
        mix(Honest("ant", "bee"), class_map={"0": "ant", "1": "bee"})
    with pytest.raises(InputError, match="neither .* says what the classes are"):
        mix(nameless(Honest("ant", "bee")))
    with pytest.raises(ValueError, match="does not know emu"):
        mix(Honest("ant", "bee"), classes=["ant", "emu"])


def test_a_streams_class_to_idx_says_what_its_labels_are():
    class Numbered(Items):
        classes = ("ant", "bee", "cat")
        class_to_idx = {"ant": 2, "bee": 0, "cat": 1}  # noqa: RUF012

    class Unlisted(Numbered):
        classes = None

    data = dataset()
    for kind in (Numbered, Unlisted):
        mixed = ConditionalGANStream(kind(*data), Honest("ant", "bee", "cat"), 0.5, return_source=True)
        assert tuple(mixed.classes) == data.classes
        assert all(shown(image) == data.classes[label] for image, label, source in mixed if source)
    stream = Numbered(*((image, label + 1) for image, label in data))
    stream.class_to_idx = {"ant": 3, "bee": 1, "cat": 2}
    mixed = ConditionalGANStream(stream, Honest("ant", "bee", "cat"), 0.5, return_source=True)
    assert all(shown(image) == data.classes[label - 1] for image, label, source in mixed if source)
    stream = Numbered(*data)
    stream.class_to_idx = {"ant": 0, "bee": 0, "cat": 1}
    with pytest.raises(ValueError, match="class_to_idx .* Pass classes"):
        ConditionalGANStream(stream, Honest("ant", "bee", "cat"))
    given = ConditionalGANStream(stream, Honest("ant", "bee", "cat"), classes=data.classes)  # which decide
    assert given.classes == data.classes


def test_names_of_labels_may_be_of_any_kind_of_sequence():
    data = dataset()
    mix = GANMix(Honest("ant", "bee", "cat"), 0.5, classes=np.array(data.classes))
    images, _ = mix(data.images, data.targets)
    assert {shown(image) for image in images if image.any()} == set(data.classes)


@pytest.mark.parametrize("mix", [GANMix, partial(ConditionalGANStream, Items(*dataset()))])
@pytest.mark.parametrize(
    ("classes", "message"), [(3, "got 3"), ("ant", "got 'ant'"), (["ant", "bee", "ant"], "same name")]
)
def test_names_of_labels_that_are_none_are_refused(mix, classes, message):
    with pytest.raises(InputError, match=message):
        mix(Honest("ant", "bee", "cat"), 0.5, classes=classes)


def test_names_meet_however_their_accents_are_composed():
    one, other = (
        tuple(unicodedata.normalize(form, name) for name in ("fée", "abeille", "Ångström")) for form in TYPED
    )
    assert one != other
    generator = Honest("ant", "bee", "cat")
    generator.label_names = other
    data = dataset(one)
    train = ConditionalGANAugment(data, generator, sampling_strategy={other[0]: 23, one[2]: 21}, class_map={})
    assert train.sampling_strategy_ == {one[0]: 3, one[1]: 0, one[2]: 1}
    assert [shown(train[k][0]) for k in range(len(data), len(train))] == ["ant", "ant", "ant", "cat"]
    assert [shown(image) for image in sample(generator, [one[1], other[2]])] == ["bee", "cat"]
    mapped = ConditionalGANAugment(data, Honest("ant", "bee", "cat"), class_map=dict(zip(other, LEVELS, strict=False)))
    assert shown(mapped[-1][0]) == "cat"
    stream = ConditionalGANStream(Items(*data), generator, 0.5, classes=one, return_source=True)
    assert {(label, shown(image)) for image, label, source in stream if source} == {(0, "ant"), (1, "bee"), (2, "cat")}
