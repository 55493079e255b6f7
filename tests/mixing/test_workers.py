"""Same bytes whatever the loader: every item of several mixed datasets, through real worker processes.

What workers saw comes back through the batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.generators import make_generator
from helpers.images import small_images
from helpers.programs import forkserver
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as v1
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import to_pil_image

from ganaug import ConditionalGANAugment

V1 = {"PIL": v1.Compose([v1.Resize(10), v1.ToTensor()]), "tensor": v1.ConvertImageDtype(torch.float32)}
V2 = v2.Compose([v2.ToImage(), v2.Resize(10, antialias=True), v2.ToDtype(torch.float32, scale=True)])
FIXED = ("PIL v1", "PIL v2", "tensor v1", "tensor v2", "materialised")
SIZE = 12  # images of each dataset; those that are added to come to 20
MOVING = ("resampled", "replaced", "resampled and replaced")


class Images(Dataset):
    """A user's own dataset of PIL images or tensors, with or without a transform."""

    def __init__(self, kind: str, transform: Any = None) -> None:
        self.data, self.kind, self.transform = small_images(n=SIZE), kind, transform
        self.targets, self.classes = self.data.targets, self.data.classes

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        image, label = self.data[index]
        image = to_pil_image(image) if self.kind == "PIL" else image
        return self.transform(image) if self.transform else image, label


class Several(Dataset):
    """Mixed datasets side by side; an index is (name, index). Items are evidence: bytes that can be compared."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.mixed = {f"{kind} v1": self.mix(Images(kind, V1[kind]), folder) for kind in ("PIL", "tensor")}
        self.mixed |= {f"{kind} v2": self.mix(Images(kind), folder, transform=V2) for kind in ("PIL", "tensor")}
        self.mixed["materialised"] = self.mix(Images("tensor"), folder, cache_dir=cache)
        self.mixed["materialised"].materialize()
        self.mixed["resampled"] = self.mix(Images("tensor"), folder, resample=True)
        self.mixed["replaced"] = self.mix(Images("tensor"), folder, mode="replace")
        self.mixed["resampled and replaced"] = self.mix(Images("PIL"), folder, mode="replace", resample=True)

    @staticmethod
    def mix(dataset, folder, **options) -> ConditionalGANAugment:
        return ConditionalGANAugment(dataset, folder, ratio=0.4, return_source=True, seed=3, **options)

    def set_epoch(self, epoch: int) -> None:
        for mixed in self.mixed.values():
            mixed.set_epoch(epoch)

    def __getitems__(self, indices):
        wanted = {name: [index for which, index in indices if which == name] for name, _ in indices}
        made = {name: iter(self.mixed[name].__getitems__(some)) for name, some in wanted.items()}
        return [(name, index, *self.evidence(*next(made[name]))) for name, index in indices]

    @staticmethod
    def evidence(image, label, source):
        pixels = np.asarray(image)
        return f"{type(image).__name__} {pixels.dtype} {pixels.shape}", pixels.tobytes(), label, source

    def batches(self) -> list[list[tuple[str, int]]]:
        """Every item in batches of 64, of 7, and alone, not in order."""
        items = [(name, index) for name, mixed in self.mixed.items() for index in range(len(mixed))]
        order = np.random.default_rng(0).permutation(len(items))
        shuffled = [items[k] for k in order]
        return [shuffled[start : start + size] for size in (64, 7, 1) for start in range(0, len(items), size)]


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Several:
    folder = tmp_path_factory.mktemp("generator")
    make_generator(small_images().classes, image_size=12).save_pretrained(folder)
    return Several(folder, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def expected(several) -> list[dict[tuple[str, int], tuple]]:
    """Evidence of every item in epochs 0, 1 and 2, made one at a time in this process."""
    epochs = []
    for epoch in range(3):
        several.set_epoch(epoch)
        items = [
            several.__getitems__([(name, i)])[0] for name, mixed in several.mixed.items() for i in range(len(mixed))
        ]
        epochs.append({item[:2]: item[2:] for item in items})
    return epochs


def test_what_moves_with_the_epoch_and_what_does_not(several, expected):
    for first, second in ((0, 1), (0, 2), (1, 2)):
        before, after = expected[first], expected[second]
        changed = {key for key in before if before[key] != after[key]}
        fakes = {key for key in before if key[0] == "resampled" and before[key][-1]}
        assert {key for key in changed if key[0] == "resampled"} == fakes
        assert not {name for name, _ in changed} & set(FIXED)
        for name in ("replaced", "resampled and replaced"):
            sources = [[epoch[name, i][-1] for i in range(SIZE)] for epoch in (before, after)]
            assert sum(sources[0]) == sum(sources[1]) == 5
            assert sources[0] != sources[1]
    # Fixed images: an item that is generated in two epochs is the same image in both.
    both = [i for i in range(SIZE) if expected[0]["replaced", i][-1] and expected[2]["replaced", i][-1]]
    assert both
    assert all(expected[0]["replaced", i] == expected[2]["replaced", i] for i in both)
    assert all(expected[0]["materialised", i] == expected[0]["resampled", i] for i in range(20))


def check(several, expected, *, persistent: bool, workers: int, method: str | None) -> None:
    loader = DataLoader(
        several,
        batch_sampler=several.batches(),
        num_workers=workers,
        multiprocessing_context=method,
        persistent_workers=persistent,
        collate_fn=list,
        generator=torch.Generator(),
    )
    for epoch in range(3):
        several.set_epoch(epoch)
        seen = [item for batch in loader for item in batch]
        assert len(seen) == 3 * len(expected[epoch])
        for item in seen:
            assert item[2:] == expected[epoch][item[:2]], (method, workers, epoch, item[:2])


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_same_bytes_in_forked_workers(several, expected, workers, persistent):
    check(several, expected, workers=workers, method="fork", persistent=persistent)


def test_same_bytes_without_workers(several, expected):
    check(several, expected, workers=0, method=None, persistent=False)


@pytest.mark.parametrize(("method", "workers"), [("spawn", 1), ("forkserver", 2)])
def test_same_bytes_in_workers_that_start_afresh(several, expected, method, workers):
    forkserver()
    check(several, expected, workers=workers, method=method, persistent=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_same_bytes_in_any_number_of_workers_that_start_afresh(several, expected, method, workers, persistent):
    check(several, expected, workers=workers, method=method, persistent=persistent)
