"""Every refusal of the wrapper says what is wrong, what was given, and what to do."""

from __future__ import annotations

import pytest
import torch
from helpers.generators import make_generator
from helpers.images import THREE, small_images
from torch.utils.data import IterableDataset, TensorDataset

from ganaug import ConditionalGANAugment
from ganaug.generators import DCGAN32Generator


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())


def with_transform(data):
    data = TensorDataset(data.images, data.targets)
    data.transform = torch.flatten
    return data


def unconditional():
    with torch.random.fork_rng():
        return DCGAN32Generator((), image_size=16, channels=1)


def mix(data=None, generator=None, **options):
    generator = generator or make_generator(THREE, image_size=12)
    return ConditionalGANAugment(small_images() if data is None else data, generator, **options)


def images(**options):
    return small_images(**options)


def held_out():
    return images().split(held_out=0.5)[1]


REFUSALS = [
    (
        "an evaluation split",
        lambda: mix(held_out()),
        ["LabelledImages is an evaluation split", "train=False", "Augment the training split"],
    ),
    (
        "a class the generator does not know",
        lambda: mix(images(classes=4)),
        [
            "generator does not know class 3",
            "classes are class 0, class 1, class 2, class 3; the generator's are class 0, class 1, class 2",
            "Pass class_map={dataset name: generator name}",
        ],
    ),
    (
        "other channels",
        lambda: mix(images(channels=3)),
        [
            "dataset's images have 3 channels",
            "the generator's 1",
            "Train a generator with ganaug train --channels 3",
        ],
    ),
    (
        "another size",
        lambda: mix(images(size=16)),
        [
            "dataset's images are (C, H, W) = (1, 16, 16)",
            "the generator's (1, 12, 12)",
            "give the dataset a transform that",
        ],
    ),
    (
        "two transforms",
        lambda: mix(with_transform(images()), make_generator(("0", "1", "2"), image_size=12), transform=torch.flatten),
        ["two transforms", "TensorDataset has its own, and one was passed", "pass none, or build the dataset without"],
    ),
    (
        "multi-label targets",
        lambda: mix(TensorDataset(images().images, torch.ones(60, 3).long())),
        [
            "labels of TensorDataset must name one class each",
            "got a Tensor of shape (3,), torch.int64",
            "gives every image one",
        ],
    ),
    (
        "an iterable",
        lambda: mix(Stream()),
        ["dataset must be map-style", "got Stream", "For an iterable there is ganaug.ConditionalGANStream"],
    ),
    (
        "an unconditional generator",
        lambda: mix(generator=unconditional()),
        ["cannot draw a class that is asked for", "DCGAN32Generator) is unconditional", "Train a conditional one"],
    ),
    (
        "two amounts",
        lambda: mix(ratio=0.3, sampling_strategy="auto"),
        ["two amounts", "ratio 0.3, and sampling_strategy 'auto'", "Leave out one of them"],
    ),
    (
        "a starved filter",
        lambda: mix(accept=lambda images, labels: labels < 0, max_tries=3)[60],
        [
            "the filter starved",
            "for class class 0 it accepted 0 of 3 images tried",
            "Raise max_tries, loosen the filter",
        ],
    ),
    (
        "no generator",
        lambda: mix(generator="nowhere"),
        ["no folder 'nowhere'", "it is not a Hub id", "('user/repo' or 'user/repo@revision')"],
    ),
    *(
        (
            f"ratio {ratio!r}",
            lambda ratio=ratio: mix(ratio=ratio),
            [
                "ratio must be a number in [0, 1)",
                f"got {ratio!r}",
                "For 300 generated images beside 700 real ones it is 0.3",
            ],
        )
        for ratio in (True, float("nan"), -0.1, 1, 1.5, "0.3")
    ),
]


@pytest.mark.parametrize(("refused", "parts"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_refusals_say_what_was_given_and_what_to_do(refused, parts):
    with pytest.raises((ValueError, TypeError)) as caught:
        refused()
    for part in parts:
        assert part in str(caught.value)


def test_a_device_that_a_worker_cannot_use():
    from torch.utils.data import DataLoader

    train = mix(ratio=0.5)
    train.sampler.device = torch.device("meta")  # stands in for a GPU
    with pytest.raises(RuntimeError) as caught:
        list(DataLoader(train, sampler=[70], num_workers=1, generator=torch.Generator()))
    for part in ("the generator is on meta", "a DataLoader worker cannot use it there", "Call materialize()"):
        assert part in str(caught.value)
