"""The contract checks: our own classes pass, and each broken promise is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.generators import make_generator, own_generator, tie, times_w
from helpers.greys import TEN, Grey, Greys, grey_images
from helpers.images import small_images
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset, Subset

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
        (broken(lambda x: x), "can be copied by deepcopy; found TypeError"),
        (broken(lambda x: x.no_such), "draws from float32 latents and int64 labels; found AttributeError"),
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


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    "members",
    [
        {"build": tie},
        {"images": lambda made, values: F.linear(made.first(values).relu(), made.first.weight.t())},
        {"build": lambda made: made.register_buffer("w", torch.arange(64) % 2 == 0), "images": times_w},
    ],
    ids=["Tied", "TiedInForward", "Masked"],
)
def test_generators_of_ones_own_that_work(request, members, bf16, monkeypatch):
    monkeypatch.setattr("ganaug.sampling.inference.has_bf16", lambda device: bf16)
    check_generator(own_generator(f"Checked{request.node.callspec.id.split('-')[0]}", **members))


@pytest.mark.parametrize(
    ("name", "members", "message"),
    [
        ("List", {"network_options": lambda made: {"latent_dim": 64, "widths": [64]}}, "widths must be"),
        ("Option", {"network_options": lambda made: {"latent_dim": 64, "depth": 2}}, "argument 'depth'"),
        (
            "Noise",
            {
                "build": lambda made: made.register_buffer("w", torch.randn(64), persistent=False),
                "images": times_w,
            },
            "buffer w",
        ),
        (
            "Complex",
            {"build": lambda made: made.register_buffer("w", torch.ones(64, dtype=torch.complex64))},
            "complex64",
        ),
    ],
)
def test_generators_that_could_not_be_loaded_again_are_found(name, members, message):
    with pytest.raises(
        AssertionError, match=f"the same once it is saved and loaded again; found InputError.*{message}"
    ):
        check_generator(own_generator(f"Checked{name}", **members))


def test_more_classes_than_can_be_saved_are_found():
    with pytest.raises(AssertionError, match="at most 10,000"):
        check_generator(own_generator("CheckedClasses", tuple(str(k) for k in range(10_001))))


def test_generators_that_only_forward_draws_from_are_found():
    """A sample is of 16 images or more, whatever number is wanted."""

    def up_to_ten(images):
        if len(images) > 10:
            raise MemoryError("too many at once")
        return images

    with pytest.raises(AssertionError, match="sample draws from it; found MemoryError: too many at once"):
        check_generator(picklable("UpToTen", up_to_ten))

    def other_in_large_batches(images):
        return images if images.shape[0] == 7 else -images

    with pytest.raises(AssertionError, match="sample draws the images that forward returns"):
        check_generator(picklable("OtherInLargeBatches", other_in_large_batches))


def picklable(name, change):
    """As :func:`broken`, with copies."""
    module = broken(change, __reduce__=Plain.__reduce__)
    type(module).__qualname__ = type(module).__name__ = name
    globals()[name] = type(module)
    return module


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


class Changed(ConditionalGANAugment):
    """A mixed dataset whose generated items are what ``change(picture of class k, k)`` makes of a picture."""

    change = None

    def __getitems__(self, indices):
        if self.change is None:
            return super().__getitems__(indices)
        made = {index: k for index, k in enumerate(self.targets.tolist()) if self.source[index]}
        return [
            self.change(Image.new("L", (8, 8), 20 * made[index] + 10), made[index])
            if index in made
            else super(Changed, self).__getitems__([index])[0]
            for index in indices
        ]


def of_length_k(image, k):
    return image, np.zeros((k,))


def without_transform(image, k):
    return image, k


def of_another_class(image, k):
    return image, (k + 1) % 10


def of_another_size(image, k):
    return image.resize((4, 4)), k


def array_label(k):
    return np.array(k)


def binary_label(k):
    return torch.tensor([float(k)])


def one_hot(k):
    return torch.eye(10)[k]


def named(k):
    return TEN[k]


def darker(image):
    return image.point(lambda value: value // 2)


@pytest.mark.parametrize(
    ("data", "change", "message"),
    [
        (Greys(range(10), form=array_label), of_length_k, "has the label of item .*ndarray of shape"),
        (Greys(range(10), form=array_label), without_transform, "ndarray of shape .*found int"),
        (Greys([0, 1], form=binary_label), without_transform, r"Tensor of shape \(1,\), float32 .*found int"),
        (Greys(range(10), form=one_hot), without_transform, r"Tensor of shape \(10,\), float32 .*found int"),
        (Greys(range(10), form=named), without_transform, "str '.'; found int"),
        (Greys(range(10)), of_another_class, "has the label of item"),
        (Greys(range(10), darker), without_transform, "real ones go through .transform.; found nothing"),
        (ConcatDataset([Greys(range(9), darker)] * 2), without_transform, "real ones go through .transform."),
        (Subset(Greys(range(10), None, int), range(10)), without_transform, "real ones go through .target_transform."),
        (Greys(range(10)), of_another_size, "generated images have the form of real ones; found shapes"),
    ],
)  # fmt: skip
def test_generated_items_that_are_not_like_real_ones(data, change, message):
    train = Changed(data, Grey(), ratio=0.5, classes=TEN)
    check_augmented_dataset(train, num_workers=0)
    train.change = change
    with pytest.raises(AssertionError, match=message):
        check_augmented_dataset(train, num_workers=0)


class Relabelled(Subset):
    """Digits 3 and 7 as classes 0 and 1."""

    def __init__(self, data):
        super().__init__(data, torch.nonzero((data.targets == 3) | (data.targets == 7)).squeeze(1).tolist())

    def __getitem__(self, index):
        image, label = self.dataset[self.indices[index]]
        return image, int(label == 7)

    def __getitems__(self, indices):
        return [self[index] for index in indices]


class Numbered(Greys):
    """Whose class_to_idx is not the order of its classes."""

    classes = sorted(TEN, reverse=True)
    class_to_idx = {name: k for k, name in enumerate(TEN)}  # noqa: RUF012 - torchvision's are dicts


def renamed(data, names, **options):
    """A mixed dataset that has been told other class names after it was made."""
    train = ConditionalGANAugment(data, Grey(), ratio=0.5, **options)
    train.classes, train.classes_given = list(names), False
    train.class_to_idx = {name: k for k, name in enumerate(names)}
    return train


def test_class_names_that_are_not_those_of_the_labels():
    digits = grey_images(torch.arange(20) % 10)
    for train, message in [
        (renamed(Numbered(range(10)), Numbered.classes), "classes are 0, 1, .*found 9, 8"),
        (renamed(ConcatDataset([digits, digits]), TEN[::-1]), "classes are 0, 1, .*found 9, 8"),
        (renamed(Relabelled(digits), TEN, classes=["3", "7"]), "class names of Relabelled are not known"),
        (renamed(Relabelled(digits), ["0", "1"], classes=["3", "7"]), "class names of Relabelled are not known"),
    ]:
        with pytest.raises(AssertionError, match=message):
            check_augmented_dataset(train, num_workers=0)


def test_targets_that_are_not_the_labels_of_the_items():
    data = grey_images(torch.arange(20) % 10)
    train = ConditionalGANAugment(Relabelled(data), Grey(), ratio=0.5, classes=["3", "7"])
    check_augmented_dataset(train, num_workers=0)
    train.targets[:4] = 1 - train.targets[:4]
    with pytest.raises(AssertionError, match="targets of real items are their labels"):
        check_augmented_dataset(train, num_workers=0)
    with pytest.raises(AssertionError, match="item 2 of class 0 has the label of item 0, int 0; found int 1"):
        check_augmented_dataset(ConditionalGANAugment(Numbers(), Grey(), ratio=0.5), num_workers=0)


class Numbers(Greys):
    """One item has another label than ``targets`` say, which only reading it shows."""

    def __init__(self):
        super().__init__([0] * 300)

    def __getitem__(self, index):
        return super().__getitem__(index)[0], int(index == 2)
