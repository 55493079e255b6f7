from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import assert_same, small_images, write_class_folders, write_idx_pair
from PIL import Image

from ganaug import DataError, LabelledImages, open_images


def test_bundled_digits_are_split_class_by_class(digits):
    held_out = open_images(split="test")
    assert digits.images.shape == (4000, 1, 28, 28)
    assert digits.images.dtype == torch.uint8
    assert digits.class_counts == [400] * 10
    assert held_out.class_counts == [100] * 10
    assert digits.classes == tuple("0123456789")
    assert digits.fingerprint == open_images().fingerprint
    train = {image.numpy().tobytes() for image in digits.images}
    assert not train & {image.numpy().tobytes() for image in held_out.images}
    with pytest.raises(DataError, match="splits train and test, got 'valid'"):
        open_images(split="valid")


def test_resolution_resizes_any_source(digits, tmp_path):
    assert open_images(resolution=32).images.shape == (4000, 1, 32, 32)
    write_idx_pair(tmp_path, small_images(size=12))
    assert open_images(tmp_path, resolution=8).images.shape == (60, 1, 8, 8)
    with pytest.raises(DataError, match="resolution must be a positive number of pixels, got 0"):
        open_images(tmp_path, resolution=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_class_folders(tmp_path, channels):
    data = small_images(channels=channels)
    folder = write_class_folders(tmp_path / "pets", data)
    found = open_images(folder)
    assert found.fingerprint == open_images(str(folder)).fingerprint
    assert found.classes == data.classes
    assert found.images.shape == (60, channels, 12, 12)
    assert found.name == "class folders pets"  # no path of this machine: the name is published
    assert_same(found, data)


def test_images_that_are_not_square_are_refused_when_their_side_is_asked_for(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 10)).save(tmp_path / name / "wide.jpg")
    with pytest.raises(DataError, match="images must be square, got 20x10. Give a resolution"):
        _ = open_images(tmp_path).image_size


def test_folders_without_images(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*missing. Give a folder of class folders"):
        open_images(tmp_path / "missing")
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(DataError, match="has no class folders. Put the images in"):
        open_images(tmp_path)
    write_class_folders(tmp_path, small_images())
    with pytest.raises(DataError, match="has no split 'test'; it only has class folders"):
        open_images(tmp_path, split="test")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("")
    with pytest.raises(DataError, match=r"class folder .*empty has no image"):
        open_images(tmp_path)


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("split", ["train", "test"])
def test_idx_files(tmp_path, gzipped, split):
    data = small_images()
    write_idx_pair(tmp_path, data, "train" if split == "train" else "t10k")
    if gzipped:
        for path in list(tmp_path.iterdir()):
            Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    found = open_images(tmp_path, split=split)
    assert found.classes == ("0", "1", "2")
    assert torch.equal(found.images, data.images)
    assert torch.equal(found.targets, data.targets)


def test_damaged_idx_files(tmp_path):
    write_idx_pair(tmp_path, small_images())
    labels, images = tmp_path / "train-labels-idx1-ubyte", tmp_path / "train-images-idx3-ubyte"
    whole = images.read_bytes()
    images.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"images-idx3-ubyte is cut short or too long: 8639 bytes .* \(60, 12, 12\)"):
        open_images(tmp_path)
    images.write_bytes(b"\x00\x00\x0d\x03" + whole[4:])
    with pytest.raises(DataError, match="is not an IDX file of 3 dimensions of bytes"):
        open_images(tmp_path)
    images.write_bytes(whole)
    Path(f"{labels}.gz").write_bytes(gzip.compress(labels.read_bytes())[:-9])
    labels.unlink()
    with pytest.raises(DataError, match=r"labels-idx1-ubyte.gz cannot be read"):
        open_images(tmp_path)
    Path(f"{labels}.gz").unlink()
    with pytest.raises(DataError, match="has no train-labels-idx1-ubyte nor train-labels-idx1-ubyte.gz"):
        open_images(tmp_path)
    write_idx_pair(tmp_path, small_images(n=57))
    images.write_bytes(whole)
    with pytest.raises(DataError, match="60 images but 57 labels"):
        open_images(tmp_path)
    with pytest.raises(DataError, match="IDX files have the splits train and test, got 'valid'"):
        open_images(tmp_path, split="valid")


def test_a_class_without_images_is_left_out_and_named(tmp_path, caplog):
    data = small_images()
    few = data.subset(torch.nonzero(data.targets != 1).squeeze(1), "few")
    write_idx_pair(tmp_path, few)
    found = open_images(tmp_path)
    assert (found.classes, found.class_counts) == (("0", "2"), [20, 20])
    assert torch.equal(found.targets, few.targets // 2)
    assert caplog.messages[0].endswith("1 of 3 classes have no image and are left out: 1")
    with pytest.raises(DataError, match="no image of class 1. Add some"):
        open_images(tmp_path, classes=["1", "2"])


def test_split_keeps_class_shares():
    data = small_images(n=100, classes=4).subset(torch.arange(100)[torch.arange(100) % 4 != 3], "imbalanced")
    train, held_out = data.split(0.2, seed=3)
    assert train.class_counts == [20, 20, 20, 0]
    assert held_out.class_counts == [5, 5, 5, 0]
    assert data.split(0.2, seed=3)[1].fingerprint == held_out.fingerprint
    assert data.split(0.2, seed=4)[1].fingerprint != held_out.fingerprint
    with pytest.raises(ValueError, match=r"fraction in \(0, 1\), got 1"):
        data.split(1)


def test_an_image_that_is_there_several_times_is_on_one_side_of_a_split():
    """As in a bootstrap sample; of the same different images, the same are held out."""
    data = small_images(n=60)
    often = data.subset(torch.arange(60).repeat_interleave(torch.arange(60) % 4 + 1), "some several times")
    train, held_out = often.split(0.25, seed=3)
    assert len(train) + len(held_out) == len(often) == 150
    assert not torch.isin(train.image_hashes, held_out.image_hashes).any()
    assert torch.equal(held_out.image_hashes.unique(), data.split(0.25, seed=3)[1].image_hashes.unique())
    assert held_out.distinct_counts == [5, 5, 5]


def test_labelled_images_checks_what_it_is_given():
    images, targets = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="images must be uint8"):
        LabelledImages(images.float(), targets, ("a", "b"), "x")
    with pytest.raises(ValueError, match=r"targets must be int64 \(2,\)"):
        LabelledImages(images, targets[:1], ("a", "b"), "x")
    with pytest.raises(ValueError, match="targets must be from 0 to 0 for 1 classes, got 0 to 1"):
        LabelledImages(images, targets, ("a",), "x")
    image, label = LabelledImages(images, targets, ("a", "b"), "x")[1]
    assert (image.shape, label, type(label)) == ((1, 4, 4), 1, int)


def test_fingerprint_sees_every_part():
    data = small_images()
    changed = data.images.clone()
    changed[5, 0, 3, 3] += 1
    prints = {
        data.fingerprint,
        LabelledImages(changed, data.targets, data.classes, "x").fingerprint,
        LabelledImages(data.images, data.targets.roll(1), data.classes, "x").fingerprint,
        LabelledImages(data.images, data.targets, ("x", "y", "z"), "x").fingerprint,
        LabelledImages(data.images.reshape(60, 1, 6, 24), data.targets, data.classes, "x").fingerprint,
    }
    assert len(prints) == 5
    assert LabelledImages(data.images, data.targets, data.classes, "another name").fingerprint == data.fingerprint


@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)
def test_debians_fashion_mnist():
    train = open_images("/usr/share/datasets/fashion-mnist")
    test = open_images("/usr/share/datasets/fashion-mnist", split="test")
    assert train.class_counts == [6000] * 10
    assert test.class_counts == [1000] * 10
    assert np.isclose(train.images.numpy().mean(), 72.94, atol=0.01)
