"""Datasets as people have them: their own subsets, transforms that were taken away, class names in an array."""

from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers.evaluated import Replay
from helpers.images import small_images
from torch.utils.data import Dataset, Subset
from torchvision.datasets import VisionDataset
from torchvision.transforms import v2

from ganaug import ConditionalGANAugment

to_float = v2.ToDtype(torch.float32, scale=True)


class OwnTransform(Subset):
    """What many write to give the training part of a dataset a transform of its own."""

    def __init__(self, dataset, indices, transform):
        super().__init__(dataset, indices)
        self.transform = transform

    def __getitem__(self, index):
        image, label = self.dataset[self.indices[index]]
        return self.transform(image), label

    def __getitems__(self, indices):
        return [self[index] for index in indices]


class Unnamed(OwnTransform):
    def __getitem__(self, index):
        image, label = self.dataset[self.indices[index]]
        return image / 255, label


def test_a_subset_with_a_transform_of_its_own(three):
    train = ConditionalGANAugment(OwnTransform(small_images(), range(0, 60, 2), to_float), three, ratio=0.5)
    assert (len(train), train.classes) == (60, list(small_images().classes))
    assert train[0][0].dtype == train[40][0].dtype == torch.float32
    assert 0 <= train[40][0].min() <= train[40][0].max() <= 1
    with pytest.raises(TypeError, match="fake_transform"):  # nobody knows what it does
        ConditionalGANAugment(Unnamed(small_images(), range(60), None), three, ratio=0.5)


class Merged(OwnTransform):
    classes = ("class 0", "class 2")

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image, min(label, 1)


def test_a_subset_with_labels_of_its_own(three):
    data = small_images()
    train = ConditionalGANAugment(Merged(data, range(60), to_float), three, ratio=0.5)
    assert train.classes == list(Merged.classes)
    assert train.targets[:60].tolist() == data.targets.clamp(max=1).tolist()
    assert [train[index][1] for index in range(120)] == train.targets.tolist()
    assert train.targets[60:].bincount().tolist() == data.targets.clamp(max=1).bincount().tolist()


class Vision(VisionDataset):
    classes = np.array(small_images().classes)

    def __init__(self, transform):
        super().__init__(transform=transform)
        self.data = small_images()

    def __len__(self):
        return 60

    def __getitem__(self, index):
        image, label = self.data[index]
        return (self.transform(image) if self.transform else image), label


def test_a_transform_that_was_taken_away_and_class_names_in_an_array(three):
    data = Vision(to_float)
    data.transform = None
    train = ConditionalGANAugment(data, three, ratio=0.5)
    assert train.classes == list(small_images().classes)
    assert train[0][0].dtype == train[100][0].dtype == torch.uint8
    data = Vision(to_float)
    data.transform = None
    assert ConditionalGANAugment(data, three, ratio=0.5, transform=to_float)[0][0].dtype == torch.float32


@dataclass
class Scaled(Dataset):
    dtype: torch.dtype
    classes = small_images().classes

    def __len__(self):
        return 60

    def __getitem__(self, index):
        image, label = small_images()[index]
        return image.to(self.dtype) / 255, label


def test_alignment_of_images_in_bfloat16():
    def pairs(dtype):
        return ConditionalGANAugment(
            Scaled(torch.bfloat16),
            Replay(small_images()),
            ratio=0.5,
            fake_transform=lambda image: image.to(dtype) / 255,
        )

    pairs(torch.bfloat16).check_alignment()
    with pytest.raises(ValueError, match="bfloat16.*float32"):
        pairs(torch.float32).check_alignment()


def test_a_relative_folder_is_found_from_elsewhere(generator_folder, tmp_path, monkeypatch, digits):
    shutil.copytree(generator_folder, tmp_path / "here" / "generator")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    train = ConditionalGANAugment(digits, "generator", ratio=0.1, cache_dir="cache")
    train.materialize()
    expected = train[len(train) - 1][0]
    packed = pickle.dumps(train)
    os.chdir(tmp_path / "elsewhere")
    assert np.array_equal(pickle.loads(packed)[len(train) - 1][0], expected)
    assert not list((tmp_path / "elsewhere").iterdir())
