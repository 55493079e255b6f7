"""Small sets of labelled images, and the forms in which people keep them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from ganaug import LabelledImages

THREE = ("class 0", "class 1", "class 2")


def small_images(n: int = 60, classes: int = 3, size: int = 12, channels: int = 1, seed: int = 0) -> LabelledImages:
    """Noise with a class-dependent brightness; labels 0, 1, 2, 0, 1, ..."""
    rng = np.random.default_rng(seed)
    targets = torch.arange(n) % classes
    pixels = torch.from_numpy(rng.integers(0, 100, (n, channels, size, size), dtype=np.uint8))
    images = pixels + (targets * 50).to(torch.uint8)[:, None, None, None]
    return LabelledImages(images, targets, tuple(f"class {k}" for k in range(classes)), "noise")


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write unsigned bytes in the IDX format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", size) for size in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_idx_pair(folder: Path, data: LabelledImages, prefix: str = "train") -> None:
    """Write grey images and their labels as the MNIST files do."""
    write_idx(folder / f"{prefix}-images-idx3-ubyte", data.images[:, 0].numpy())
    write_idx(folder / f"{prefix}-labels-idx1-ubyte", data.targets.numpy())


def write_class_folders(folder: Path, data: LabelledImages, suffix: str = "png") -> Path:
    for i, (image, label) in enumerate(zip(data.images, data.targets.tolist(), strict=True)):
        path = folder / data.classes[label] / f"{i:03d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        to_pil_image(image).save(path)
    return folder


def hf_dataset(data: LabelledImages, image_column: str = "picture", label_column: str = "kind"):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {image_column: datasets.Image(), label_column: datasets.ClassLabel(names=list(data.classes))}
    )
    columns = {image_column: [to_pil_image(image) for image in data.images], label_column: data.targets.tolist()}
    return datasets.Dataset.from_dict(columns, features=features)


def by_class(data: LabelledImages) -> list[torch.Tensor]:
    return [data.images[data.targets == k] for k in range(len(data.classes))]


def assert_same(first: LabelledImages, second: LabelledImages) -> None:
    assert all(torch.equal(a, b) for a, b in zip(by_class(first), by_class(second), strict=True))
