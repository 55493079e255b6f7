"""Images and labels in arrays, and items in forms that have to be converted."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from helpers.images import small_images
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.utils.data import Dataset, TensorDataset

from ganaug import DataError, open_images

CHANNELS = (1, 2, 3, 4)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.sampled_from(["HW", "HWC", "CHW"]), st.data())
def test_layouts(count, height, width, layout, draw):
    channels = 1 if layout == "HW" else draw.draw(st.sampled_from([1, 3]))
    pixels = np.random.default_rng(0).integers(0, 256, (count, channels, height, width), dtype=np.uint8)
    given_as = {"HW": pixels[:, 0], "HWC": pixels.transpose(0, 2, 3, 1), "CHW": pixels}[layout]
    labels = draw.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    assume(layout == "HW" or not {given_as.shape[1], given_as.shape[3]} <= set(CHANNELS))
    for images in (given_as, torch.from_numpy(given_as.copy()), given_as[::-1][::-1]):
        found = open_images((images, np.array(labels)))
        assert torch.equal(found.images, torch.from_numpy(pixels))
        assert [found.classes[label] for label in found.targets] == [str(label) for label in labels]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 9))
def test_channels_that_could_be_either_axis_are_refused_with_a_line_that_works(first, last, width):
    X = np.zeros((2, first, width, last), np.uint8)  # noqa: N806
    y = np.array([0, 1])
    with pytest.raises(DataError, match="axis 1 or 3 could be the channels") as refused:
        open_images((X, y))
    line = re.search(r"open_images\(list.*", str(refused.value))[0]
    found = eval(line, {"open_images": open_images, "torch": torch, "X": X[:, :1], "y": y})
    assert found.images.shape == (2, 1, width, last)


@pytest.mark.parametrize(
    ("labels", "classes", "targets"),
    [
        (np.array([[0], [2], [0]]), ("0", "2"), [0, 1, 0]),
        (torch.tensor([[1], [0], [1]], dtype=torch.uint8), ("0", "1"), [1, 0, 1]),
        ([1, 0, 0], ("0", "1"), [1, 0, 0]),
        (["dog", "cat", "dog"], ("cat", "dog"), [1, 0, 1]),
        (np.array([["b"], ["a"], ["b"]], dtype=object), ("a", "b"), [1, 0, 1]),
    ],
)
def test_forms_of_labels(labels, classes, targets):
    found = open_images((np.zeros((3, 8, 8), np.uint8), labels))
    assert (found.classes, found.targets.tolist()) == (classes, targets)


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        (np.eye(3), r"y = y\.argmax\(1\)"),
        (np.array([0.0, 1, 2]), r'y = y\.astype\("int64"\)'),
        (np.array([0, -1, 2]), r"1 labels are negative.*X\[y >= 0\], y\[y >= 0\]"),
        (np.array([0, 1]), "X has 3 images and y 2 labels"),
        (5, r"must have the shape \(N,\)"),
        (["a", 1, "b"], "ints or strings"),
    ],
)
def test_labels_that_are_refused(labels, advice):
    with pytest.raises(DataError, match=advice):
        open_images((np.zeros((3, 8, 8), np.uint8), labels))


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("low", [0, -1])
def test_float_images_are_refused_with_the_line_that_converts_them(library, low):
    pixels = small_images(n=6).images[:, 0]
    X = (pixels / 255.0 * (1 - low) + low).numpy().astype(np.float32)  # noqa: N806
    y = np.arange(6)
    if library == "torch":
        X = torch.from_numpy(X)  # noqa: N806
    with pytest.raises(DataError, match="X must be uint8") as refused:
        open_images((X, y))
    line = str(refused.value).partition("X = ")[2]
    assert low or line in ('(X * 255).round().astype("uint8")', "(X * 255).round().to(torch.uint8)")
    assert pixels.max() > 150  # the range is told from the values
    converted = open_images((eval(line, {"X": X, "torch": torch}), y))
    assert low or torch.equal(converted.images[:, 0], pixels)
    assert (converted.images[:, 0].int() - pixels.int()).abs().max() <= 1


def test_other_numbers_and_shapes_of_images():
    y = [0, 1]
    whole = np.full((2, 8, 8), 200, np.int64)
    with pytest.raises(DataError, match=r'X = X\.astype\("uint8"\)$'):
        open_images((whole, y))
    with pytest.raises(DataError, match=r'X = X\.astype\("uint8"\) \* 255$'):
        open_images((whole > 5, y))
    with pytest.raises(DataError, match="lowest and highest"):
        open_images((whole * -3.5, y))
    with pytest.raises(DataError, match="reshape"):
        open_images((np.zeros((2, 64), np.uint8), y))
    with pytest.raises(DataError, match=r"Pass them too: open_images\(\(X, y\)\)"):
        open_images(np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(DataError, match="has no split 'test'"):
        open_images((np.zeros((2, 8, 8), np.uint8), y), split="test")


def test_arrays_share_memory():
    pixels = np.zeros((2, 8, 8), np.uint8)
    assert open_images((pixels, [0, 1])).images.data_ptr() == pixels.ctypes.data
    pixels.flags.writeable = False  # as of a memory map
    assert open_images((pixels, [0, 1])).images.shape == (2, 1, 8, 8)


def test_items_that_are_dicts_are_refused_with_the_line_that_makes_pairs():
    data = small_images()

    class Dicts(Dataset):
        def __len__(self):
            return len(data)

        def __getitem__(self, index):
            return {"id": index, "pixels": data.images[index], "target": int(data.targets[index])}

    with pytest.raises(DataError, match=r"open_images\(\[") as refused:
        open_images(Dicts())
    line = re.search(r"open_images\(\[.*\]\)", str(refused.value))[0]
    found = eval(line, {"open_images": open_images, "dataset": Dicts()})
    assert torch.equal(found.images, data.images)
    assert torch.equal(found.targets, data.targets)
    with pytest.raises(DataError, match=r"dict of 'image', 'label' .*open_images\(\(X, y\)\)"):
        open_images({"image": data.images, "label": data.targets})
    by_number = {k: (image, k % 2) for k, image in enumerate(data.images)}
    assert torch.equal(open_images(by_number).images, data.images)


@pytest.mark.parametrize(
    ("image", "line"),
    [
        (torch.rand(3, 8, 8), "(image * 255).round().to(torch.uint8)"),
        (np.random.default_rng(0).random((8, 8, 3)), 'Image.fromarray((image * 255).round().astype("uint8"))'),
        (np.zeros((8, 8, 3), np.uint8), "Image.fromarray(image)"),
    ],
)
def test_items_of_other_types_are_refused_with_what_converts_them(image, line):
    with pytest.raises(DataError, match=re.escape(line)):
        open_images([(image, 0), (image, 1)])


@pytest.mark.parametrize("wrap", [lambda *pair: pair, lambda x, y: list(zip(x, y.tolist(), strict=True))])
def test_labels_that_number_no_classes_are_refused_before_memory_is_full(wrap):
    images, labels = torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 20_261_129_000, 1])
    with pytest.raises(DataError, match=r"from 0, got 20261129000\. .*return_inverse"):
        open_images(wrap(images, labels))


@pytest.mark.parametrize(("labels", "odd"), [(["a", 1], "1"), ([0, None], "None"), (["a", float("nan")], "nan")])
def test_labels_of_several_kinds_are_refused_with_the_odd_one(labels, odd):
    with pytest.raises(DataError, match=f"all of one kind, got {odd} among them"):
        open_images((np.zeros((2, 8, 8), np.uint8), labels))


def test_tensors_of_two_are_a_dataset_too():
    data = small_images()
    found = open_images(TensorDataset(data.images, data.targets))
    assert torch.equal(found.images, open_images((data.images, data.targets)).images)
