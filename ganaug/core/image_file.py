"""uint8 images in one ``.npy`` file: written piece by piece and read by row, so that memory stays small."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from tokenize import TokenError
from typing import Any, cast
from weakref import finalize

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor


class ImageFile:
    """Images in a file, which is opened when the first one is read.

    They are read, not mapped into memory: pages of a mapped file that were looked at count as the process's memory,
    and a system that keeps files in large pieces maps many more than were looked at.

    Args:
        path (Path): the ``.npy`` file.
        shape (sequence of int): of the images, (N, C, H, W).
        advice (str): what to do if the file is damaged, a sentence without its full stop.
    """

    def __init__(self, path: Path, shape: Sequence[int], *, advice: str) -> None:
        self.path, self.shape, self.advice = path.absolute(), tuple(shape), advice
        self._opened: tuple[FileIO, int] | None = None  # and where its first image begins

    def read(self, rows: Tensor | Sequence[int]) -> Tensor:
        """Copy of the images at ``rows``, uint8 (len(rows), C, H, W).

        Raises:
            IndexError: there is no such image.
            OSError: the file is missing, was cut short or holds something else.
        """
        if self._opened is None:
            # Here, in each worker, only its form is looked at.
            try:
                array = open_npy(self.path, "uint8", self.shape)
            except OSError as error:
                raise OSError(f"{error}. {self.advice}") from error
            self._opened = FileIO(self.path), cast(Any, array).offset
            finalize(self, self._opened[0].close)
        file, start = self._opened
        wanted, size = np.asarray(rows, np.int64), math.prod(self.shape[1:])
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < self.shape[0]:
            raise IndexError(f"there are images 0 to {self.shape[0] - 1}, got {wanted.min()} to {wanted.max()}")
        images = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        # Images that stand one after another are read at once.
        for run in np.split(np.arange(len(wanted)), np.flatnonzero(np.diff(wanted) != 1) + 1):
            if len(run):
                place = images[run[0] : run[-1] + 1].reshape(-1)
                self._fill(file, place, start + int(wanted[run[0]]) * size)
        return torch.from_numpy(images)

    def _fill(self, file: FileIO, place: np.ndarray[Any, np.dtype[np.uint8]], start: int) -> None:
        """Read bytes from a position; threads and forked workers share the file, so it has no position of its own."""
        done = 0
        while done < len(place):
            count = _read_at(file, place[done:], start + done)
            if not count:
                raise OSError(f"{self.path} is damaged (it was cut short). {self.advice}")
            done += count

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


if sys.platform != "win32":

    def _read_at(file: FileIO, place: np.ndarray[Any, np.dtype[np.uint8]], start: int) -> int:
        found = os.pread(file.fileno(), len(place), start)
        place[: len(found)] = np.frombuffer(found, np.uint8)
        return len(found)

else:  # where DataLoader workers are not forked
    _lock = threading.Lock()

    def _read_at(file: FileIO, place: np.ndarray[Any, np.dtype[np.uint8]], start: int) -> int:
        with _lock:
            file.seek(start)
            return file.readinto(place.data)


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
        if file.tell() != start:
            raise OSError(f"{path}: the header of {count:,} images takes more room than was left for it")
