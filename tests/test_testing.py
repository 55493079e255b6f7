"""The contract checks: our own classes pass, and each broken promise is found."""

from __future__ import annotations

import pytest
import torch
from helpers.generators import make_generator
from helpers.images import small_images
from torch import nn

from ganaug import ConditionalGANAugment
from ganaug.testing import check_augmented_dataset, check_generator
from ganaug.training import MODELS

CLASSES = small_images().classes


@pytest.mark.parametrize("system", [name for name in MODELS if MODELS[name].conditional])
def test_our_generators_keep_the_contract(system):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = MODELS[system].generator(CLASSES, image_size=16, channels=3)
    check_generator(generator)


class Plain(nn.Module):
    """Keeps the contract."""

    latent_dim, label_names = 4, CLASSES

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, z, labels):
        return (self.scale * z.mean(1).tanh()).view(-1, 1, 1, 1).expand(-1, 1, 12, 12)


def broken(change, **attributes):
    """A generator whose images are ``change`` of good ones."""

    def forward(self, z, labels):
        return change(Plain.forward(self, z, labels))

    return type("Broken", (Plain,), {"forward": forward, "__reduce__": None, **attributes})()


def draw_global(images):
    torch.rand(1)
    return images


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (broken(lambda x: x, latent_dim=None), "latent_dim is a positive int; found None"),
        (broken(lambda x: x * 3 + 1), r"images are in \[-1, 1\]; found \["),
        (broken(lambda x: x / 0), "images are finite; found NaN or infinity"),
        (broken(lambda x: x.to(torch.uint8)), "images are a float tensor"),
        (broken(lambda x: x[:, 0]), r"images are \(7, C, H, W\); found \(7, 12, 12\)"),
        (broken(lambda x: x - x.mean(0, keepdim=True) + x[:1]), "does not depend on its place in the batch"),
        (broken(draw_global), "global random state of torch, numpy and random stays as it was"),
    ],
)
def test_broken_generators_are_found(module, message):
    with torch.random.fork_rng(), pytest.raises(AssertionError, match=message):
        check_generator(module)


def test_copies_must_draw_the_same():
    check_generator(Plain())

    class Forgetful(Plain):
        def __getstate__(self):
            return {**super().__getstate__(), "_parameters": {"scale": nn.Parameter(torch.tensor(0.1))}}

    globals()["Forgetful"] = Forgetful
    Forgetful.__qualname__ = "Forgetful"
    with pytest.raises(AssertionError, match="a copy made by .* draws the same images"):
        check_generator(Forgetful())
    with pytest.raises(ValueError, match="no label_names: pass num_classes"):
        check_generator(broken(lambda x: x, label_names=()))


@pytest.mark.parametrize("options", [{}, {"mode": "replace"}, {"return_source": True}, {"ratio": 0}])
def test_our_dataset_keeps_the_contract(options):
    generator = make_generator(CLASSES, image_size=12)
    check_augmented_dataset(ConditionalGANAugment(small_images(), generator, **{"ratio": 0.4, **options}))


def test_broken_datasets_are_found():
    def mixed(**replaced):
        train = ConditionalGANAugment(small_images(), Plain(), ratio=0.4)
        for name, value in replaced.items():
            setattr(train, name, value)
        return train

    for train, message in [
        (mixed(targets=torch.zeros(100)), r"targets are int64 \(len,\)"),
        (mixed(n_fake=41), "source marks n_fake = 41 items; found 40"),
        (mixed(ratio_=0.5), "ratio_ is 0.4; found 0.5"),
        (mixed(class_to_idx={}), "class_to_idx is that of classes"),
    ]:
        with pytest.raises(AssertionError, match=message):
            check_augmented_dataset(train, num_workers=0)

    class Uneven(ConditionalGANAugment):
        def __getitems__(self, indices):
            return super().__getitems__(indices) if len(indices) == 1 else [(0, 0)] * len(indices)

    with pytest.raises(AssertionError, match="items are the same one by one and in a batch"):
        check_augmented_dataset(Uneven(small_images(), Plain(), ratio=0.4), num_workers=0)
