"""The generated items of a mixed dataset: which they are in an epoch, and their images, drawn or read from a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganaug.core import fingerprints
from ganaug.core.files import build_once
from ganaug.core.image_file import ImageFile
from ganaug.mixing.plan import Plan
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.materialized import IMAGES, write_images


class GeneratedItems:
    """Which items of a mixed dataset are generated in each epoch, and their images.

    Args:
        plan (Plan): says which items are generated, and of which class.
        sampler (ClassSampler): draws their images.
        resample (bool): whether every epoch has other images.
        cache_dir (Path): where materialised images are kept.
    """

    def __init__(self, plan: Plan, sampler: ClassSampler, *, resample: bool, cache_dir: Path) -> None:
        self._plan, self._sampler, self._resample, self._cache_dir = plan, sampler, resample, cache_dir
        self._materialized = False
        self._current: _Epoch | None = None

    def rows(self, epoch: int) -> Tensor:
        """Row of each item of the dataset among the generated ones, int64 (N,); -1 for real ones."""
        return self._in_epoch(epoch).row

    def images(self, indices: list[int], epoch: int) -> Tensor:
        """Images of the generated items at ``indices``, uint8 (len(indices), C, H, W)."""
        now = self._in_epoch(epoch)
        if now.images is not None:
            return now.images.read(now.row[indices].tolist())
        labels, places = self._plan.targets[indices], self._plan.places[indices]
        return self._sampler.draw(labels, indices, places=places, epoch=self._image_epoch(epoch))

    def materialize(self, epoch: int, sampler: ClassSampler) -> Path:
        """Folder with all images of an epoch, drawn by a sampler that may be on another device, unless it exists."""
        fakes = self._plan.fakes(epoch)
        labels, places, image_epoch = self._plan.targets[fakes], self._plan.places[fakes], self._image_epoch(epoch)
        folder = build_once(
            self._path(fakes, epoch),
            lambda path: write_images(path, sampler, labels, fakes, places=places, epoch=image_epoch),
            what="the generated images of this dataset",
        )
        self._materialized, self._current = True, None
        return folder

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_current": None}

    def _in_epoch(self, number: int) -> _Epoch:
        """What is known of an epoch, worked out once."""
        if self._current is None or self._current.number != number:
            fakes = self._plan.fakes(number)
            row = torch.full((len(self._plan.targets),), -1, dtype=torch.int64)
            row[fakes] = torch.arange(len(fakes))
            path = self._path(fakes, number) if self._materialized else None
            images = None
            if path and path.exists():
                shape = (len(fakes), *self._sampler.image_shape)
                images = ImageFile(path / IMAGES, shape, advice="Call materialize() again")
            self._current = _Epoch(number, row, images)
        return self._current

    def _image_epoch(self, number: int) -> int:
        return number if self._resample else 0

    def _path(self, fakes: Tensor, epoch: int) -> Path:
        labels = self._plan.targets[fakes]
        name = fingerprints.of_values(self._sampler.fingerprint, fakes, labels, self._image_epoch(epoch))
        return self._cache_dir / "materialized" / name[:32]


@dataclass(frozen=True)
class _Epoch:
    """What is known of one epoch."""

    number: int
    row: Tensor  # of each item among the generated ones, int64 (N,); -1 for real ones
    images: ImageFile | None  # None if they are not in a file
