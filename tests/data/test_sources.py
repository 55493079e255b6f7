"""Sources that are no plain folders: datasets in memory, by name, and of HF."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import assert_same, hf_dataset, small_images, write_class_folders, write_idx_pair
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset
from torchvision import tv_tensors
from torchvision.datasets import CIFAR10, MNIST, FakeData, FashionMNIST, ImageFolder
from torchvision.transforms.v2.functional import to_pil_image

from ganaug import DataError, LabelledImages, open_images
from ganaug.cli.flags import run
from ganaug.cli.images import DataArguments
from ganaug.data import open_unlabeled


def assert_equal(found: LabelledImages, data: LabelledImages) -> None:
    assert found.classes == data.classes
    assert torch.equal(found.images, data.images)
    assert torch.equal(found.targets, data.targets)


def test_hf_columns_are_found_by_type_whatever_the_format():
    data = small_images(channels=3)
    rows = hf_dataset(data)
    assert_equal(open_images(rows), data)
    assert_equal(open_images(rows.with_format("torch")), data)
    assert open_images(rows, resolution=8, channels=1).images.shape == (60, 1, 8, 8)


def test_hf_class_names_keep_their_order():
    data = small_images()
    renamed = LabelledImages(data.images, data.targets, ("zebra", "ant", "horse"), "x")
    assert open_images(hf_dataset(renamed)).classes == ("zebra", "ant", "horse")


def test_hf_splits_are_picked_from_memory_and_from_disk(tmp_path):
    import datasets

    train, test = small_images(), small_images(n=30, seed=1)
    both = datasets.DatasetDict({"train": hf_dataset(train), "test": hf_dataset(test)})
    both.save_to_disk(str(tmp_path / "both"))
    both["test"].save_to_disk(str(tmp_path / "one"))
    for source in (both, tmp_path / "both", str(tmp_path / "both")):
        assert_equal(open_images(source), train)
        assert_equal(open_images(source, split="test"), test)
        with pytest.raises(DataError, match="has the splits train, test, got 'valid'"):
            open_images(source, split="valid")
    assert_equal(open_images(tmp_path / "one"), test)
    assert open_images(tmp_path / "one").name == "saved dataset one, train split"
    for source in (both["test"], tmp_path / "one"):
        with pytest.raises(DataError, match="is one dataset, which has no split 'test'. Leave split out"):
            open_images(source, split="test")


def test_folder_of_parquet_files(tmp_path):
    data = small_images(channels=3)
    (tmp_path / "pets" / "data").mkdir(parents=True)
    hf_dataset(data).to_parquet(tmp_path / "pets" / "data" / "train-00000-of-00001.parquet")
    assert_equal(open_images(tmp_path / "pets"), data)
    assert open_images(str(tmp_path / "pets")).name == "HF dataset pets, train split"  # no path of this machine
    with pytest.raises(DataError, match=r"pets', split 'test', cannot be opened"):
        open_images(tmp_path / "pets", split="test")


def test_hf_datasets_that_cannot_be_used(tmp_path):
    import datasets

    data = hf_dataset(small_images())
    with pytest.raises(DataError, match=r"must have one ClassLabel column, found none.*picture"):
        open_images(data.remove_columns("kind"))
    other = data.rename_column("picture", "other").select_columns("other")
    two = datasets.concatenate_datasets([data, other], axis=1)
    with pytest.raises(DataError, match=r"must have one Image column, found \['picture', 'other'\]"):
        open_images(two)
    unlabelled = data.map(lambda row, i: {"kind": (-1, None, row["kind"])[min(i, 2)]}, with_indices=True)
    with pytest.raises(DataError, match="2 rows have no label"):
        open_images(unlabelled)
    with pytest.raises(DataError, match="has no rows"):
        open_images(data.select([]))


def test_rows_without_an_image_count_as_bad():
    data = small_images()
    pictures = [None if i in (1, 5) else to_pil_image(image) for i, image in enumerate(data.images)]
    rows = hf_dataset(data)
    rows = type(rows).from_dict({"picture": pictures, "kind": data.targets.tolist()}, features=rows.features)
    with pytest.raises(
        DataError, match="2 of 60 images cannot be decoded; the first is .*row 1: the row has no image"
    ):
        open_images(rows)
    kept = torch.tensor([i for i in range(60) if i not in (1, 5)])
    assert_equal(open_images(rows, skip_bad_images=True), data.subset(kept, "x"))


def test_another_str_is_a_hub_id(monkeypatch):
    asked = []

    def load_dataset(*args, **kwargs):
        asked.append((args, kwargs))
        return hf_dataset(small_images())

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    found = open_images("user/pets", config_name="small", split="validation")
    assert asked == [(("user/pets", "small"), {"split": "validation"})]
    assert found.name == "HF dataset user/pets, validation split"


def test_a_str_that_is_neither_a_folder_nor_a_dataset(tmp_path):
    with pytest.raises(
        DataError, match=r"dataset '.*missing', split 'train', cannot be opened.*Give an existing folder"
    ):
        open_images(str(tmp_path / "missing"))


@pytest.mark.parametrize("kind", [str, Path])
def test_the_home_folder_can_be_written_short_and_a_file_is_no_folder(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    data = small_images()
    write_class_folders(tmp_path / "photos", data)
    assert_same(open_images(kind("~/photos")), open_images(tmp_path / "photos"))
    other = small_images(seed=1)
    assert len(open_unlabeled(kind("~/photos"), other)) == len(data)
    (tmp_path / "photos.zip").touch()
    with pytest.raises(DataError, match="is a file"):
        open_images(kind("~/photos.zip"))


def test_a_configuration_is_for_datasets_that_have_some(tmp_path):
    for source in (None, write_class_folders(tmp_path, small_images()), "sklearn:digits", small_images()):
        with pytest.raises(DataError, match="config_name 'small' has no meaning here"):
            open_images(source, config_name="small")


def test_labelled_images_are_converted_only_where_needed():
    data = small_images()
    assert open_images(data, resolution=12, channels=1).images.data_ptr() == data.images.data_ptr()
    found = open_images(data, channels=3, resolution=6)
    assert found.images.shape == (60, 3, 6, 6)
    assert found.classes == data.classes
    assert torch.equal(found.targets, data.targets)
    with pytest.raises(DataError, match="dataset LabelledImages is an object, which has no split 'test'"):
        open_images(data, split="test")


@pytest.fixture
def torchvision_data(tmp_path, monkeypatch):
    """A working directory whose folder ``data`` holds made-up files of torchvision's FashionMNIST: (train, test)."""
    monkeypatch.chdir(tmp_path)
    parts = small_images(n=90, classes=10, size=28), small_images(n=30, classes=10, size=28, seed=1)
    for prefix, part in zip(("train", "t10k"), parts, strict=True):
        write_idx_pair(tmp_path / "data" / "FashionMNIST" / "raw", part, prefix)
    return parts


def test_torchvision_by_name(torchvision_data):
    for split, part in zip(("train", "test"), torchvision_data, strict=True):
        found = open_images("torchvision:FashionMNIST", split=split)
        assert found.classes == tuple(FashionMNIST.classes)
        assert found.name == f"torchvision FashionMNIST, {split} split"
        assert torch.equal(found.images, part.images)
        assert torch.equal(found.targets, part.targets)


def test_torchvision_splits_go_in_as_the_class_takes_them(monkeypatch):
    class SVHN(TensorDataset):
        def __init__(self, root, split="train", transform=None, download=False):
            if split not in ("train", "extra"):
                raise ValueError(f"Unknown value '{split}' for argument split")
            super().__init__(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))

    monkeypatch.setattr("torchvision.datasets.SVHN", SVHN)
    assert open_images("torchvision:SVHN", split="extra").images.shape == (2, 3, 4, 4)
    with pytest.raises(DataError, match="torchvision:SVHN, split 'test', cannot be opened: Unknown value 'test'"):
        open_images("torchvision:SVHN", split="test")


@pytest.mark.parametrize(
    ("source", "split", "message"),
    [
        ("torchvision:FashonMNIST", "train", "torchvision:FashonMNIST is not known; the names are CIFAR10, .*MNIST"),
        ("torchvision:ImageFolder", "train", "torchvision:ImageFolder is not known"),
        ("torchvision:FashionMNIST", "valid", "FashionMNIST has the splits train and test, got 'valid'"),
        ("sklearn:iris", "train", "sklearn:iris is not known; of scikit-learn there is sklearn:digits only"),
        ("sklearn:digits", "valid", "have the splits train and test, got 'valid'"),
    ],
)
def test_names_and_splits_that_do_not_exist(source, split, message):
    with pytest.raises(DataError, match=message):
        open_images(source, split=split)


def test_digits_of_scikit_learn(monkeypatch):
    from sklearn.datasets import load_digits

    train, test = open_images("sklearn:digits"), open_images("sklearn:digits", split="test")
    assert train.images.shape == (1438, 1, 8, 8)
    assert test.class_counts == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    assert train.classes == tuple("0123456789")
    assert set(train.images.unique().tolist()) == {round(value * 255 / 16) for value in range(17)}
    bright = {pixels.tobytes() for pixels in np.rint(load_digits().images * 255 / 16).astype(np.uint8)}
    assert {image.numpy().tobytes() for image in torch.cat([train.images, test.images])} == bright
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r'scikit-learn: pip install "ganaug\[recipes\]"'):
        open_images("sklearn:digits")


def test_mnist_and_cifar_objects_share_memory(torchvision_data):
    fashion = FashionMNIST("data", transform=lambda image: 1 / 0)  # raw images: no transform is called
    found = open_images(fashion)
    assert found.images.data_ptr() == fashion.data.data_ptr()
    assert torch.equal(found.images, torchvision_data[0].images)
    assert found.name == "dataset FashionMNIST"
    assert open_images(fashion, channels=3).images.shape == (90, 3, 28, 28)

    cifar = CIFAR10.__new__(CIFAR10)
    cifar.transform = cifar.target_transform = cifar.transforms = None
    cifar.data = small_images(n=2, size=32, channels=3).images.permute(0, 2, 3, 1).numpy()
    cifar.targets, cifar.classes = [1, 0], ["plane", "car"]
    found = open_images(cifar)
    assert found.images.data_ptr() == cifar.data.ctypes.data
    assert np.array_equal(found.images[1].permute(1, 2, 0), np.asarray(cifar[1][0]))
    assert (found.classes, found.targets.tolist()) == (("plane", "car"), [1, 0])


def test_a_subclass_with_items_of_its_own_is_read_by_item(torchvision_data):
    class Inverted(MNIST):
        raw_folder = "data/FashionMNIST/raw"

        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return Image.eval(image, lambda value: 255 - value), label

    found = open_images(Inverted("data"))
    assert torch.equal(found.images, 255 - torchvision_data[0].images)


def test_subsets_and_other_torch_datasets(torchvision_data):
    some = open_images(Subset(Subset(FashionMNIST("data"), range(10, 90)), range(5, 45)))
    assert torch.equal(some.images, torchvision_data[0].images[15:55])
    assert torch.equal(some.targets, torchvision_data[0].targets[15:55])
    assert (some.name, some.classes) == ("subset of dataset FashionMNIST", tuple(FashionMNIST.classes))
    assert open_images(FakeData(size=40, image_size=(3, 9, 9), num_classes=2)).images.shape == (40, 3, 9, 9)


def test_image_folder_object(tmp_path):
    data = small_images(channels=3)
    found = open_images(ImageFolder(write_class_folders(tmp_path, data), transform=lambda image: 1 / 0))
    assert found.classes == data.classes
    assert_same(found, data)


@pytest.mark.parametrize("form", [lambda x: x, tv_tensors.Image, to_pil_image])
def test_forms_of_items(form):
    data = small_images(channels=3)

    class Pairs(Dataset):
        classes = data.classes

        def __len__(self):
            return len(data)

        def __getitem__(self, index):
            return form(data.images[index]), int(data.targets[index])

    assert_equal(open_images(Pairs()), data)


def test_images_that_a_dataset_holds_open_stay_usable(tmp_path):
    folder = write_class_folders(tmp_path, small_images(n=3))
    images = [Image.open(path) for path in sorted(folder.rglob("*.png"))]
    pairs = [(image, label) for label, image in enumerate(images)]
    assert torch.equal(open_images(pairs).images, open_images(pairs).images)
    assert [image.getpixel((0, 0)) for image in images] == open_images(pairs).images[:, 0, 0, 0].tolist()


def test_datasets_that_cannot_be_used():
    class Streaming(IterableDataset):
        def __iter__(self):
            return iter([])

    with pytest.raises(DataError, match="dataset Streaming cannot be read: dataset must be map-style"):
        open_images(Streaming())
    with pytest.raises(DataError, match="dataset int cannot be read: dataset must be map-style"):
        open_images(3)
    data = small_images()
    with pytest.raises(DataError, match=r"must be PIL images or uint8 \(C, H, W\) tensors.*a Tensor of shape"):
        open_images(TensorDataset(data.images.float(), data.targets))
    with pytest.raises(DataError, match=r"labels of TensorDataset must name one class"):
        open_images(TensorDataset(data.images, data.targets.float()))


def test_flags_open_what_open_images_opens(monkeypatch, tmp_path):
    folder = write_class_folders(tmp_path, small_images())
    (folder / "class 0" / "bad.png").write_text("not an image")
    flags = f"--train_data_dir {folder} --resolution 8 --channels 3 --background #00ff00 --skip_bad_images"
    opened = []
    monkeypatch.setattr(sys, "argv", ["recipe", *flags.split()])
    state = random.getstate()
    run(DataArguments, lambda flags: opened.append(flags.open()), None)
    random.setstate(state)  # tyro draws from it
    assert opened[0].images.shape == (60, 3, 8, 8)
    assert DataArguments(dataset_name="sklearn:digits").open_split("test").class_counts[0] == 36
    with pytest.raises(DataError, match=r"give train_data_dir \(.*\) or dataset_name \(user/pets\), not both"):
        DataArguments(train_data_dir=folder, dataset_name="user/pets").open()
    with pytest.raises(DataError, match="no folder user/pets"):  # never a Hub id
        DataArguments(train_data_dir=Path("user/pets")).open()
