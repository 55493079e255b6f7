"""Images that are read from files when they are asked for, in the place of a tensor of all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganaug.core import fingerprints
from ganaug.core.image_file import ImageFile, growing_npy

IMAGES, HASHES = "images.npy", "hashes.npy"
_PIECE = 2**24  # bytes


@dataclass(frozen=True)
class Part:
    """Some images, in a file or in memory.

    Args:
        images (ImageFile or Tensor): uint8 (N, C, H, W).
        hashes (Tensor): :func:`ganaug.core.fingerprints.of_images` of each, int64 (N,).
    """

    images: ImageFile | Tensor
    hashes: Tensor

    @classmethod
    def in_memory(cls, images: Tensor) -> Part:
        """Images in memory, uint8 (N, C, H, W), and their hashes."""
        return cls(images, fingerprints.of_images(images))

    def __len__(self) -> int:
        return len(self.hashes)

    def read(self, rows: Tensor) -> Tensor:
        """Copy of the images at ``rows``, int64 (M,), as uint8 (M, C, H, W)."""
        return self.images[rows] if isinstance(self.images, Tensor) else self.images.read(rows)


@contextmanager
def writing_part(folder: Path, shape: Sequence[int], *, most: int) -> Iterator[Callable[[Tensor], None]]:
    """Write images and their hashes into a new folder, which :func:`part_in` reads.

    Args:
        folder (Path): made here.
        shape (sequence of int): of an image, (C, H, W).
        most (int): how many images there may be.

    Yields:
        callable: appends images, uint8 (M, C, H, W).

    Raises:
        OSError: the folder cannot be written to or the disk is full.
    """
    folder.mkdir()
    # Room for all hashes beforehand: small results that stay, between large pieces that are freed, make memory grow.
    hashes, count = np.empty(most, np.int64), 0
    with growing_npy(folder / IMAGES, shape) as append:

        def write(images: Tensor) -> None:
            nonlocal count
            append(images)
            hashes[count : count + len(images)] = fingerprints.of_images(images)
            count += len(images)

        yield write
    np.save(folder / HASHES, hashes[:count])


def part_in(folder: Path, shape: Sequence[int], *, advice: str) -> Part:
    """The images, (C, H, W) each, in a folder that :func:`writing_part` wrote; ``advice`` as of :class:`ImageFile`."""
    hashes = torch.from_numpy(np.load(folder / HASHES))
    return Part(ImageFile(folder / IMAGES, (len(hashes), *shape), advice=advice), hashes)


class StoredImages:
    """Images in files, uint8 (N, C, H, W), of which so many are in memory as were asked for.

    It has what is needed of a tensor: ``shape``, ``dtype``, ``ndim``, ``len``, an index (an int, a slice, or a tensor
    of indices or of bools), which reads a tensor, and ``split``.

    Args:
        parts (sequence of Part): one or more, of images of one shape; those of the next follow on those of one.
        rows (Tensor, optional): which images of all parts these are, int64 (N,). Default: all
    """

    def __init__(self, parts: Sequence[Part], rows: Tensor | None = None) -> None:
        self.parts = tuple(parts)
        self._ends = torch.tensor(list(accumulate(map(len, parts))))
        self.rows = torch.arange(int(self._ends[-1])) if rows is None else rows
        self.shape = torch.Size((len(self.rows), *self.parts[0].images.shape[1:]))
        self.ndim, self.dtype = len(self.shape), torch.uint8

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        if not isinstance(index, (int, slice, Tensor)):
            raise TypeError(f"images in files take an int, a slice or a tensor, got {index!r}. Read some first")
        rows = self.rows[index]
        if rows.ndim == 0:
            return self._read(rows[None])[0]
        return self._read(rows)

    def take(self, indices: Tensor) -> StoredImages:
        """The images at ``indices``, int64 (M,), without reading them."""
        return StoredImages(self.parts, self.rows[indices])

    def split(self, size: int) -> Iterator[Tensor]:
        """The images one after another, ``size`` at a time, each piece uint8 (size, C, H, W) or shorter."""
        for rows in self.rows.split(size):
            yield self._read(rows)

    @property
    def hashes(self) -> Tensor:
        """:func:`ganaug.core.fingerprints.of_images` of each image, int64 (N,), known from when they were written."""
        return torch.cat([part.hashes for part in self.parts])[self.rows]

    def _read(self, rows: Tensor) -> Tensor:
        if len(self.parts) == 1:
            return self.parts[0].read(rows)
        images = torch.empty(len(rows), *self.shape[1:], dtype=torch.uint8)
        which = torch.bucketize(rows, self._ends, right=True)
        for number, part in enumerate(self.parts):
            mine = which == number
            images[mine] = part.read(rows[mine] - (int(self._ends[number]) - len(part)))
        return images


Pixels = Tensor | StoredImages  # uint8 (N, C, H, W)


def at_a_time(shape: Sequence[int]) -> int:
    """How many images of a shape (C, H, W) are in memory at a time where all of a set are gone through."""
    return max(1, _PIECE // math.prod(shape))


def followed_by(one: Pixels, other: Pixels) -> Pixels:
    """The images of both, one after the other; what is in files stays there."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.cat([one, other])
    first, second = (
        StoredImages([Part.in_memory(images)]) if isinstance(images, Tensor) else images for images in (one, other)
    )
    return StoredImages(
        [*first.parts, *second.parts], torch.cat([first.rows, second.rows + sum(map(len, first.parts))])
    )


def to_tensors(images: Pixels) -> tuple[dict[str, Tensor], list[tuple[str, tuple[int, ...], str] | None]]:
    """Images as what another process can be given: tensors, and the files of those that are not in memory.

    Returns:
        tuple: tensors by name, and for each part its path, shape and advice, or None if it is among the tensors;
        :func:`from_tensors` puts them together again.
    """
    if isinstance(images, Tensor):
        return {"images": images}, []
    tensors = {"rows": images.rows}
    files: list[tuple[str, tuple[int, ...], str] | None] = []
    for number, part in enumerate(images.parts):
        tensors[f"hashes {number}"] = part.hashes
        if isinstance(part.images, Tensor):
            tensors[f"images {number}"] = part.images
            files.append(None)
        else:
            files.append((str(part.images.path.absolute()), part.images.shape, part.images.advice))
    return tensors, files


def from_tensors(tensors: Mapping[str, Tensor], files: Sequence[Sequence[Any] | None]) -> Pixels:
    """The images that :func:`to_tensors` took apart."""
    if not files:
        return tensors["images"]
    parts = []
    for number, file in enumerate(files):
        pixels = tensors[f"images {number}"] if file is None else ImageFile(Path(file[0]), file[1], advice=file[2])
        parts.append(Part(pixels, tensors[f"hashes {number}"]))
    return StoredImages(parts, tensors["rows"])
