"""Labels as datasets give them: their form, their list, and the numbers that have no class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers.greys import Grey, Greys, grey_images, labels_and_classes
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from ganaug import ConditionalGANAugment, open_images
from ganaug.data.label_form import LabelForm, class_index, same_form
from ganaug.testing import check_augmented_dataset

NAMES = ("ant", "bee", "cat")


def named(k):
    return NAMES[k]


FORMS = {
    "int": int,
    "numpy int": np.int16,
    "numpy float": np.float32,
    "0-d array": np.array,
    "array of one": lambda k: np.array([k], dtype=np.uint8),
    "0-d tensor": torch.tensor,
    "tensor of one": lambda k: torch.tensor([k]),
    "float tensor of one": lambda k: torch.tensor([float(k)]),
    "half tensor of one": lambda k: torch.tensor([k], dtype=torch.bfloat16),
    "one-hot tensor": lambda k: torch.eye(3)[k],
    "one-hot int tensor": lambda k: torch.eye(3, dtype=torch.int64)[k],
    "one-hot array": lambda k: np.eye(3, dtype=bool)[k],
    "one-hot list": lambda k: [float(k == j) for j in range(3)],
    "one-hot tuple": lambda k: tuple(int(k == j) for j in range(3)),
    "name": named,
    "numpy name": lambda k: np.str_(NAMES[k]),
}


@dataclass(frozen=True)
class OfForm:
    """Makes labels of a form, and can be pickled."""

    name: str

    def __call__(self, k):
        return FORMS[self.name](k)


@pytest.mark.parametrize("form", list(map(OfForm, FORMS)), ids=FORMS)
def test_generated_labels_have_the_form_of_real_ones(form):
    data = Greys([0, 1, 2] * 4, form=form)
    data.classes = NAMES
    train = ConditionalGANAugment(data, Grey(NAMES), ratio=0.5)
    for index in range(12, 24):
        real, made = data[int(train.targets[index])][1], train[index][1]
        assert same_form(real, made)
        assert type(real) is type(made)
        assert str(real) == str(made)
    batch = next(iter(DataLoader(train, batch_size=24, collate_fn=list, generator=torch.Generator())))
    assert len({str(label) for _, label in batch}) == 3
    check_augmented_dataset(train, num_workers=0)


@dataclass
class Unlisted(Dataset):
    """Has no list of labels."""

    labels_of_items: Sequence

    def __len__(self):
        return len(self.labels_of_items)

    def __getitem__(self, index):
        return torch.zeros(1, 8, 8, dtype=torch.uint8), self.labels_of_items[index]


@pytest.mark.parametrize("form", [name for name in FORMS if name not in ("float tensor of one", "half tensor of one")])
def test_labels_are_read_from_items_in_any_form(form):
    binary = form == "numpy float"  # other fractions may be those of a regression
    numbers = [k % (2 if binary else 3) for k in range(9)]
    train = ConditionalGANAugment(Unlisted(list(map(FORMS[form], numbers))), Grey(None), ratio=0.5)
    assert train.targets[:9].tolist() == numbers
    assert train.classes == (list(NAMES) if "name" in form else list("012")[: 2 if binary else 3])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, np.int64(2)], "several forms .int; int64"),
        ([torch.tensor([1.0, 0, 1])] * 3, "one class each.*Tensor of shape .3,"),
        ([1.0, 2.0], "one class each.*float 1.0"),
        ([torch.tensor(0.5), torch.tensor(1.0)], "one class each.*float32"),
        ([None, 1], "one class each.*NoneType"),
        (["ant", 1], "one class each.*'ant'"),
        ([{"label": 1}], "one class each.*dict"),
    ],
)
def test_labels_that_name_no_class_are_refused(labels, message):
    with pytest.raises(TypeError, match=message):
        ConditionalGANAugment(Unlisted(labels), Grey(None))


@given(k=st.integers(0, 9), form=st.sampled_from(sorted(FORMS)))
def test_a_form_is_a_constructor(k, form):
    if "name" in form or "one-hot" in form:
        k %= 3
    label = FORMS[form](k)
    made = LabelForm(FORMS[form](0), dict(enumerate(NAMES)))
    assert made.matches(label, k)
    assert not made.matches(label, k + 1)
    assert same_form(made(k), label)
    assert class_index(made(k)) == (None if "name" in form else k)
    assert LabelForm.of_all([label, label], [k, k]) is not None
    assert LabelForm.of_all([label, label], [k, k + 1]) is None


@pytest.mark.parametrize(
    ("targets", "like"),
    [
        (np.arange(12)[:, None] % 3, lambda k: np.array([k])),  # as MedMNIST's
        (torch.eye(3)[torch.arange(12) % 3], lambda k: torch.eye(3)[k]),
        ([NAMES[k % 3] for k in range(12)], named),
        (np.array([NAMES[k % 3] for k in range(12)]), named),
    ],
)
def test_lists_of_labels_in_other_shapes(targets, like, caplog):
    data = Greys([k % 3 for k in range(12)], form=like)
    data.targets = targets

    class Listed(Greys):
        def __getitem__(self, index):
            image = grey_images([index % 3]).images[0]
            return image, like(index % 3)

    data.__class__ = Listed
    with caplog.at_level("INFO", "ganaug"):
        train = ConditionalGANAugment(data, Grey(None), ratio=0.5)
    assert train.targets[:12].tolist() == [k % 3 for k in range(12)]
    assert "reading all" not in caplog.text


def test_binary_labels_for_bce_in_a_tensor_dataset():
    images = grey_images([0, 1] * 5)
    train = ConditionalGANAugment(TensorDataset(images.images, images.targets.float()[:, None]), Grey(None), ratio=0.5)
    images, labels = next(iter(DataLoader(train, batch_size=20, generator=torch.Generator())))
    assert (labels.shape, labels.dtype) == ((20, 1), torch.float32)
    assert torch.equal(labels[:, 0].long(), train.targets)


def test_own_labels_that_are_not_those_of_the_items_are_refused():
    data = Greys([k % 3 for k in range(30)], form=lambda k: (k + 1) % 3)
    with pytest.raises(ValueError, match="targets of Greys say 0 for item 0, but the item itself has int 1"):
        ConditionalGANAugment(data, Grey())
    with pytest.raises(ValueError, match="lists of the parts of ConcatDataset say"):  # wherever they are
        ConditionalGANAugment(ConcatDataset([Greys([0] * 500), Subset(data, [4, 5])]), Grey())
    data = Greys([0] * 400 + [1], form=lambda k: 0)
    with pytest.raises(ValueError, match="say 1 for item 400, but the item itself has int 0"):  # one of each class
        ConditionalGANAugment(data, Grey())
    for words in (("ant", "bee", "cow", "cow"), ("ant", "bee", "bee", "cow")):
        data = Unlisted(words)
        data.targets = [0, 1, 1, 2] if words[2] == "cow" else list(range(4))
        with pytest.raises(ValueError, match="targets of Unlisted say . for item 2, but the item itself has str"):
            ConditionalGANAugment(data, Grey())
    data = Greys([0, 1, 2, 3], form=lambda k: (0, np.int64(1), 2, 3)[k])
    with pytest.raises(TypeError, match="labels of Greys come in several forms"):
        ConditionalGANAugment(data, Grey())


def test_labels_without_a_class_are_counted():
    data = Greys([0, 1, -1, -1, 2])
    with pytest.raises(ValueError, match=r"from 0 to 2 .* got -1 to 2, and 2 of 5 items are outside. Leave") as caught:
        ConditionalGANAugment(data, Grey(None))
    line = str(caught.value).partition("out: ")[2]
    some = eval(line, {"Subset": Subset, "dataset": data})
    assert labels_and_classes(ConditionalGANAugment(some, Grey(None), ratio=0.5)) == {
        (k, k, made) for k in range(3) for made in (False, True)
    }
    data.classes = ["0", "1"]
    with pytest.raises(ValueError, match="from 0 to 1 for the classes 0, 1; got -1 to 2, and 3 of 5"):
        open_images(data)


def test_classes_without_items_are_named():
    train = ConditionalGANAugment(grey_images([0, 2, 2, 0], "abc"), Grey(tuple("abc")), ratio=0.5)
    assert "No real items: b" in repr(train)
    assert train.sampling_strategy_ == {"a": 2, "b": 0, "c": 2}
    assert "No real items" not in repr(
        ConditionalGANAugment(grey_images([0, 1]), Grey(), ratio=0.5, classes=["0", "1"])
    )


def test_reading_items_leaves_the_random_states_alone():
    """As the fixtures check after every test; this transform draws from all three."""
    import random

    def noisy(image):
        return torch.rand(1) + np.random.rand() + random.random()

    data = Greys([0, 1, 2], transform=noisy)
    data.transforms = lambda image, label: (image, label)  # never called, so that items are read as they are given
    ConditionalGANAugment(data, Grey(None), fake_transform=noisy)


def test_labels_that_contradict_the_class_names():
    words = Greys([0, 1, 0], form=("dog", "cat").__getitem__)
    words.classes = ["cat", "dog"]
    with pytest.raises(
        ValueError, match="in another order than its items say: label 0 is 'dog' in the items, not 'cat'"
    ):
        ConditionalGANAugment(words, Grey(("cat", "dog")))
    words.classes = ["n02084071", "n02121808"]  # other words for the classes contradict nothing
    train = ConditionalGANAugment(words, Grey(("n02084071", "n02121808")), ratio=0.5)
    assert labels_and_classes(train) == {
        (name, k, made) for k, name in enumerate(("dog", "cat")) for made in (False, True)
    }


def test_one_hot_labels_of_fewer_classes_than_there_are_names():
    vectors = Greys([0, 1, 0], form=OfForm("one-hot tensor"))
    assert ConditionalGANAugment(vectors, Grey(), ratio=0.5).classes == ["0", "1", "2"]
    vectors.classes = ["0", "1", "2", "3"]
    with pytest.raises(ValueError, match="one-hot vectors of 3 classes, and there are 4 class names"):
        ConditionalGANAugment(vectors, Grey())
