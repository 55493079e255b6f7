"""Generated images in one file that all workers and ranks map into memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor
from tqdm import tqdm

from ganaug.core.files import write_json
from ganaug.sampling.class_sampler import ClassSampler

IMAGES, INDEX = "images.npy", "index.json"
_CHUNK = 512  # images drawn between two writes: what is in memory at a time


def write_images(folder: Path, sampler: ClassSampler, labels: Tensor, indices: Tensor, *, epoch: int) -> None:
    """Draw images and write them to ``folder``: ``images.npy``, uint8 (N, C, H, W), and a small ``index.json``.

    The file is written piece by piece, so that memory does not grow with N, and is read-only afterwards.

    Args:
        folder (Path): made here.
        sampler (ClassSampler): draws them.
        labels (Tensor), indices (Tensor), epoch (int): what to draw, both int64 (N,); see :meth:`ClassSampler.draw`.

    Raises:
        OSError: the folder cannot be written to or the disk is full.
        StarvedFilterError: see :meth:`ClassSampler.draw`.
    """
    folder.mkdir(parents=True)
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(labels), *sampler.image_shape)}
    with open(folder / IMAGES, "wb") as file, tqdm(total=len(labels), desc="generating", unit="img") as bar:
        npy.write_array_header_1_0(file, header)
        for some, numbers in zip(labels.split(_CHUNK), indices.split(_CHUNK), strict=True):
            file.write(sampler.draw(some, numbers.tolist(), epoch=epoch).numpy().data)
            bar.update(len(some))
    (folder / IMAGES).chmod(0o444)
    write_json(
        folder / INDEX,
        {
            "images": {"file": IMAGES, "shape": header["shape"], "dtype": "uint8"},
            "generator": sampler.name,
            "fingerprint": sampler.fingerprint,
            "seed": sampler.seed,
            "epoch": epoch,
            "label_counts": dict(
                zip(sampler.classes, torch.bincount(labels, minlength=len(sampler.classes)).tolist(), strict=True)
            ),
        },
    )


class MappedImages:
    """Images in a folder that :func:`write_images` made, mapped into memory when they are first read.

    Args:
        folder (Path): that folder.
        shape (tuple of int): of the images, (N, C, H, W).
    """

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self.folder, self.shape = folder, shape
        self._array: np.ndarray[Any, np.dtype[np.uint8]] | None = None

    def read(self, rows: Sequence[int]) -> Tensor:
        """Copy of the images at ``rows``, uint8 (len(rows), C, H, W).

        Raises:
            OSError: the file is missing, was cut short or holds something else.
        """
        if self._array is None:
            # The content was compared with its SHA-256 by materialize(); here, in each worker, only its form is.
            try:
                self._array = open_npy(self.folder / IMAGES, "uint8", self.shape)
            except OSError as error:
                raise OSError(f"{error}. Call materialize() again") from error
        return torch.from_numpy(self._array[list(rows)])

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
