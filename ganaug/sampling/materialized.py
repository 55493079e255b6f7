"""Generated images in one file that all workers and ranks read."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ganaug.core.files import write_json
from ganaug.core.image_file import growing_npy
from ganaug.sampling.class_sampler import ClassSampler

IMAGES, INDEX = "images.npy", "index.json"
_CHUNK = 512  # images drawn between two writes: what is in memory at a time


def write_images(
    folder: Path, sampler: ClassSampler, labels: Tensor, indices: Tensor, *, places: Tensor, epoch: int
) -> None:
    """Draw images and write them to ``folder``: ``images.npy``, uint8 (N, C, H, W), and a small ``index.json``.

    The file is written piece by piece, so that memory does not grow with N, and is read-only afterwards.

    Args:
        folder (Path): made here.
        sampler (ClassSampler): draws them.
        labels (Tensor), indices (Tensor), places (Tensor), epoch (int): what to draw, tensors int64 (N,); see
            :meth:`ClassSampler.draw`.

    Raises:
        OSError: the folder cannot be written to or the disk is full.
        StarvedFilterError: see :meth:`ClassSampler.draw`.
    """
    folder.mkdir(parents=True)
    shape = (len(labels), *sampler.image_shape)
    with growing_npy(folder / IMAGES, shape[1:]) as append, tqdm(total=shape[0], desc="generating", unit="img") as bar:
        for rows in torch.arange(len(labels)).split(_CHUNK):
            append(sampler.draw(labels[rows], indices[rows].tolist(), places=places[rows], epoch=epoch))
            bar.update(len(rows))
    (folder / IMAGES).chmod(0o444)
    write_json(
        folder / INDEX,
        {
            "images": {"file": IMAGES, "shape": shape, "dtype": "uint8"},
            "generator": sampler.name,
            "fingerprint": sampler.fingerprint,
            "seed": sampler.seed,
            "epoch": epoch,
            "label_counts": dict(
                zip(sampler.classes, torch.bincount(labels, minlength=len(sampler.classes)).tolist(), strict=True)
            ),
        },
    )
