"""Private random streams, one for each thing that is drawn.

Neither these functions nor their callers read or move the global random state of torch, numpy or ``random``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganaug.core.integers import unsigned_int


class Purpose(IntEnum):
    """What a stream is for; streams for different purposes never overlap."""

    SAMPLE = 0
    TRAINING_ORDER = 1
    TRAINING_LATENT = 2
    SPLIT = 3
    TRAINING_NOISE = 4
    CLASSIFIER = 5
    MONITOR = 6
    REPLACED = 7
    BATCH_ORDER = 8
    BATCH_MIX = 9
    SUBSAMPLE = 10
    BOOTSTRAP = 11
    EVALUATION = 12
    BATCH_NOISE = 13
    DRAW = 14
    FOLDS = 15
    ORIGINAL = 16


def check_seed(seed: int) -> int:
    """Return ``seed`` as a plain int if it is an int in [0, 2**64).

    Raises:
        ValueError: ``seed`` is anything else.
    """
    return unsigned_int("seed", seed, bits=64)


def random_stream(
    seed: int, purpose: Purpose, *, epoch: int = 0, index: int = 0, attempt: int = 0
) -> np.random.Generator:
    """A random stream that depends on its arguments alone, and on every bit of them.

    Philox is keyed by (seed, epoch) and starts its 256-bit counter at (0, purpose, index, attempt): two streams with
    different arguments cannot overlap. (A ``torch.Generator`` on the CPU keeps only the low 32 bits of its seed:
    among a million items seeded with well-mixed 64-bit numbers, a hundred or so would be drawn twice.)

    Args:
        seed (int): in [0, 2**64).
        purpose (Purpose): what the stream is for.
        epoch (int), index (int), attempt (int): which one it is, each in [0, 2**64). Default: 0

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    counter = np.array([0, purpose, index, attempt], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=np.array([seed, epoch], dtype=np.uint64)))


def latents(seed: int, indices: Sequence[int], latent_dim: int, *, epoch: int = 0, attempt: int = 0) -> Tensor:
    """Standard normal latents, one private stream per index.

    Args:
        seed (int): in [0, 2**64).
        indices (sequence of int): numbers of the latents, each in [0, 2**64).
        latent_dim (int): length of a latent vector.
        epoch (int), attempt (int): see :func:`random_stream`.

    Returns:
        Tensor: float32 of shape (len(indices), latent_dim), on the CPU whatever device the generator is on, so that
        an image does not depend on the machine that draws it.
    """
    z = np.empty((len(indices), latent_dim), dtype=np.float32)
    rng = random_stream(seed, Purpose.SAMPLE, epoch=epoch, attempt=attempt)
    state: Any = rng.bit_generator.state
    for row, index in zip(z, indices, strict=True):
        # The same as random_stream(..., index=index); making a new stream each time would take four times as long.
        state["state"]["counter"][2] = index
        rng.bit_generator.state = state
        rng.standard_normal(dtype=np.float32, out=row)
    return torch.from_numpy(z)


@contextmanager
def forked_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global random state for a block, on the CPU and on ``device``, and restore it afterwards.

    Other devices, which ``torch.manual_seed`` would seed too, are left alone.
    """
    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
        return
    index = torch.accelerator.current_device_index() if device.index is None else device.index
    with torch.random.fork_rng([index], device_type=device.type):
        torch.default_generator.manual_seed(seed)
        with torch.accelerator.device_index(index):
            torch.get_device_module(device).manual_seed(seed)
        yield


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Set the global random states of torch (on the CPU), numpy and ``random`` back after a block."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
