"""uint8 images in one ``.npy`` file: written piece by piece and read by row, so that memory stays small."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any, cast

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

_KEPT = 2**24  # bytes that are read before the pages around them are given back to the system: several times as much


class ImageFile:
    """Images in a file, mapped into memory when the first one is read. Processes share what the system keeps of it.

    Args:
        path (Path): the ``.npy`` file.
        shape (sequence of int): of the images, (N, C, H, W).
        advice (str): what to do if the file is damaged, a sentence without its full stop.
    """

    def __init__(self, path: Path, shape: Sequence[int], *, advice: str) -> None:
        self.path, self.shape, self.advice = path, tuple(shape), advice
        self._array: np.ndarray[Any, np.dtype[np.uint8]] | None = None
        self._read = 0

    def read(self, rows: Tensor | Sequence[int] | slice) -> Tensor:
        """Copy of the images at ``rows``, uint8 (len(rows), C, H, W).

        Raises:
            OSError: the file is missing, was cut short or holds something else.
        """
        if self._array is None:
            # Here, in each worker, only its form is looked at.
            try:
                self._array = open_npy(self.path, "uint8", self.shape)
            except OSError as error:
                raise OSError(f"{error}. {self.advice}") from error
        found = self._array[rows if isinstance(rows, slice) else np.asarray(rows)]
        images = torch.from_numpy(found.copy() if isinstance(rows, slice) else found)
        # Pages that were read count as this process's memory until they are given back; the system keeps them anyway
        # as long as it has room.
        self._read += images.nbytes
        if self._read > _KEPT and hasattr(mmap, "MADV_DONTNEED"):
            cast(mmap.mmap, self._array.base).madvise(mmap.MADV_DONTNEED)
            self._read = 0
        return images

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None}  # pickling a mapped array would copy all its images


def open_npy(path: Path, dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Map a file's array into memory, to read from it.

    Raises:
        OSError: the file is missing or holds something other than an array of this form.
    """
    try:
        array: np.ndarray[Any, Any] = npy.open_memmap(path, mode="r")
        problem = "" if array.dtype == dtype and array.shape == shape else f"{array.dtype} {array.shape}"
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is damaged (it is missing)") from error
    except (OSError, ValueError, EOFError, SyntaxError, TokenError, OverflowError) as error:
        problem = str(error)
    if problem:
        raise OSError(f"{path} is damaged ({problem}; wanted {dtype} {shape})")
    return array


@contextmanager
def growing_npy(path: Path, shape: Sequence[int]) -> Iterator[Callable[[Tensor], None]]:
    """Write an ``.npy`` file of uint8 images whose number is not known yet.

    Args:
        path (Path): of the file.
        shape (sequence of int): of an image, (C, H, W).

    Yields:
        callable: appends images, uint8 (M, C, H, W).

    Raises:
        OSError: the file cannot be written to or the disk is full.
    """
    count = 0

    def header() -> dict[str, Any]:
        return {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}

    with open(path, "wb") as file:
        npy.write_array_header_1_0(file, header())
        start = file.tell()

        def append(images: Tensor) -> None:
            nonlocal count
            file.write(images.contiguous().numpy().data)
            count += len(images)

        yield append
        # numpy leaves room in a header for a first axis that grows.
        file.seek(0)
        npy.write_array_header_1_0(file, header())
        assert file.tell() == start
