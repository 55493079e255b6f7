"""Variations: images that begin on the way from noise at a real one. How far from it, and which real one it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganaug.core.errors import InputError
from ganaug.core.seeding import Purpose, random_stream
from ganaug.data import LabelledImages


def check_strength(strength: Any, name: str = "strength") -> float:
    """Return the strength of variations as a plain float.

    Args:
        strength: what was asked for.
        name (str): what it is called where that was. Default: as here

    Raises:
        InputError: it is not a number in (0, 1].
    """
    number = math.nan if isinstance(strength, bool) or not isinstance(strength, Real) else float(strength)
    if not 0 < number <= 1:
        raise InputError(
            f"{name} must be a number above 0 and up to 1, got {strength!r}. It is the share of the way from noise to "
            "image that is gone again: 0 would copy the image, 1 leaves nothing of it. Begin with 0.5"
        )
    return number


def cannot_vary(generator: str, why: str) -> InputError:
    """The error of a generator that cannot vary images.

    Args:
        generator (str): its architecture or class.
        why (str): it cannot.
    """
    return InputError(
        f"{generator} cannot vary images: {why}. Give a flow of 8 passes, such as ganaug train --model flow makes, or "
        "draw without vary"
    )


def places_in_class(labels: Tensor) -> Tensor:
    """Place of each item among those of its class, from 0 and in their order, int64 (N,), of int64 ``labels`` (N,)."""
    places = torch.empty_like(labels)
    counts = torch.bincount(labels)
    firsts = counts.cumsum(0) - counts
    places[labels.argsort(stable=True)] = torch.arange(len(labels)) - firsts.repeat_interleave(counts)
    return places


def pick_originals(
    images: LabelledImages, labels: Tensor, places: Sequence[int], *, seed: int, epoch: int = 0, attempt: int = 0
) -> Tensor:
    """A real image of its class for each item, to vary.

    It depends on its item's class and (seed, epoch, place, attempt) alone. Of a class of n images, the items at places
    0 to n - 1, n to 2n - 1 and so on have each image once.

    Args:
        images (LabelledImages): with images of all the classes; in files, they are read as they are needed.
        labels (Tensor): int64 (N,), the items' classes.
        places (sequence of int): of the items among those of their class, each in [0, 2**64).
        seed (int), epoch (int), attempt (int): see :func:`ganaug.core.seeding.latents`.

    Returns:
        Tensor: uint8 (N, C, H, W).
    """

    @cache
    def order(size: int, lap: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        rng = random_stream(seed, Purpose.ORIGINAL, epoch=epoch, index=lap, attempt=attempt)
        return rng.permutation(size)

    rows = torch.empty(len(labels), dtype=torch.int64)
    for k, (label, place) in enumerate(zip(labels.tolist(), places, strict=True)):
        of_class = images.of_each_class[label]
        lap, turn = divmod(place, len(of_class))
        rows[k] = of_class[order(len(of_class), lap)[turn]]
    return images.images[rows]
