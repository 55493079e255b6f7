"""Which classes of a source are opened, and what they are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.images import hf_dataset, small_images, write_class_folders, write_idx_pair
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset, Subset
from torchvision.datasets import EMNIST

from ganaug import DataError, Generator, LabelledImages, open_images
from ganaug.cli.train import TrainArguments
from ganaug.cli.train_flags import with_saved_flags
from ganaug.training import Checkpoint

TEN = small_images(n=40, classes=10)
NAMED = ("T-shirt/top", "Trouser", "Pullover")


class Pairs(Dataset):
    classes, targets = TEN.classes, TEN.targets.tolist()

    def __len__(self):
        return len(TEN)

    def __getitem__(self, index):
        return TEN.images[index], self.targets[index]


def some(indices: list[int]) -> list:
    """The images at some indices of four kinds of datasets with ten classes."""
    return [
        Subset(Pairs(), indices),
        hf_dataset(TEN).select(indices),
        hf_dataset(TEN).filter(lambda row, i: i in indices, with_indices=True),
        TEN.subset(torch.tensor(indices), "part"),
    ]


@pytest.mark.parametrize("kind", range(4))
def test_classes_without_images_are_left_out_with_a_line(kind, caplog):
    indices = [i for i in range(40) if i % 10 in (5, 3)]
    found = open_images(some(indices)[kind])
    assert (found.classes, found.targets.tolist()) == (("class 3", "class 5"), [0, 1] * 4)
    assert torch.equal(found.images, TEN.images[indices])
    assert "8 of 10 classes have no image and are left out: class 0, class 1, class 2, class 4" in caplog.text
    with pytest.raises(DataError, match="no image of class class 4"):
        open_images(some(indices)[kind], classes=["class 3", "class 4"])


def test_emnists_class_of_nothing_is_left_out(tmp_path):
    data = small_images(n=30, classes=5, size=28)
    letters = EMNIST.__new__(EMNIST)
    letters.transform = letters.target_transform = letters.transforms = None
    letters.split, letters.classes = "letters", ["N/A", *"abcde"]
    letters.data, letters.targets = data.images[:, 0], data.targets + 1
    found = open_images(letters)
    assert (found.classes, found.targets.tolist()) == (tuple("abcde"), data.targets.tolist())


@given(st.sets(st.integers(0, 9), min_size=1), st.randoms(use_true_random=False))
def test_classes_that_are_asked_for_keep_the_order_of_the_source(kept, random):
    asked = [f"class {k}" for k in kept]
    random.shuffle(asked)
    found = open_images(TEN, classes=asked)
    assert found.classes == tuple(f"class {k}" for k in sorted(kept))
    assert torch.equal(found.images, TEN.images[[i for i in range(40) if i % 10 in kept]])
    names = [f"class {label}" for label in TEN.targets.tolist() if label in kept]
    assert [found.classes[label] for label in found.targets] == names


def test_images_of_other_classes_are_not_even_read(tmp_path):
    folder = write_class_folders(tmp_path, small_images())
    for path in (folder / "class 1").iterdir():
        path.write_text("not an image")
    assert open_images(folder, classes=["class 0", "class 2"]).class_counts == [20, 20]


def test_classes_that_cannot_be_asked_for():
    with pytest.raises(DataError, match=r"has no class cat, dog; its classes are class 0, class 1, class 2"):
        open_images(small_images(), classes=["cat", "class 1", "dog"])
    with pytest.raises(DataError, match=r"\['class 1'\]"):
        open_images(small_images(), classes="class 1")


def test_held_out_images_get_the_classes_of_the_training_images():
    data = small_images()
    train = data.subset(torch.nonzero(data.targets > 0).squeeze(1), "train")
    backwards = LabelledImages(data.images[:9], 2 - data.targets[:9], data.classes[::-1], "backwards")
    opened = open_images(train)
    found = open_images(backwards, like=opened, classes=opened.classes)
    assert found.classes == opened.classes == ("class 1", "class 2")
    assert torch.equal(found.images, data.images[:9][data.targets[:9] > 0])
    assert found.targets.tolist() == [0, 1] * 3
    assert not found.train
    with pytest.raises(DataError, match="has images of class 0, which train does not"):
        open_images(backwards, like=opened)
    none = data.subset(torch.tensor([0, 3]), "held out")
    with pytest.raises(DataError, match="no image of the classes of train"):
        open_images(none, like=opened, classes=["class 1"])


def test_numbers_get_names(tmp_path):
    data = small_images(n=30)
    write_idx_pair(tmp_path, data)
    write_idx_pair(tmp_path, data.subset(torch.nonzero(data.targets < 2).squeeze(1), "few"), "t10k")
    train = open_images(tmp_path, class_names=NAMED)
    assert (train.classes, train.targets.tolist()) == (NAMED, data.targets.tolist())
    test = open_images(tmp_path, split="test", class_names=NAMED, like=train)
    assert (test.classes, test.class_counts) == (NAMED, [10, 10, 0])
    assert open_images(tmp_path, class_names=NAMED, classes=["Pullover"]).class_counts == [10]
    named = LabelledImages(data.images, 2 - data.targets, NAMED[::-1], "named")  # held-out images that have the names
    assert open_images(named, class_names=NAMED, like=train).fingerprint == train.fingerprint
    arrays = data.images.numpy(), data.targets.numpy()
    assert open_images(arrays, class_names=NAMED).classes == NAMED
    for names in (NAMED[:2], (*NAMED, "Dress")):
        with pytest.raises(DataError, match=rf"class_names has {len(names)} names, .* has 3 classes"):
            open_images(tmp_path, class_names=names)
    with pytest.raises(DataError, match=r"names its classes itself: class 0"):
        open_images(data, class_names=NAMED)
    with pytest.raises(DataError, match="two classes have the same name: a"):
        open_images(tmp_path, class_names=["a", "b", "a"])


def test_flags_choose_and_name_classes_and_a_resumed_run_has_them(in_process, tmp_path: Path):
    write_idx_pair(tmp_path / "data", small_images())
    flags = ["--class_names", *NAMED, "--classes", "Pullover", "T-shirt/top"]
    budget = ["--total_kimg", "0.016", "--train_batch_size", "16", "--log_kimg", "0.016"]
    assert in_process("--train_data_dir", str(tmp_path / "data"), *flags, *budget, "--output_dir", "out") is None
    generator = Generator.from_pretrained(tmp_path / "out")
    assert generator.label_names == ("T-shirt/top", "Pullover")
    assert generator.info["dataset"]["class_counts"] == {"T-shirt/top": 20, "Pullover": 20}
    saved = json.loads((tmp_path / "out" / "training" / "settings.json").read_text())["data"]
    assert (saved["class_names"], saved["classes"]) == (list(NAMED), ["Pullover", "T-shirt/top"])
    checkpoint = Checkpoint(tmp_path / "out" / "training" / "checkpoints" / "step-00000001", 1, {}, 0.0)
    again = with_saved_flags(TrainArguments(), checkpoint).data
    assert (again.class_names, again.classes) == (NAMED, ("Pullover", "T-shirt/top"))
    assert again.open().classes == generator.label_names
