"""Processes that read side by side, DataLoader workers and ranks: the epoch they share, and the number of this one."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import distributed
from torch.utils.data import get_worker_info

from ganaug.core.integers import unsigned_int

# How many images each reader can number as its own: reader k has the numbers from k * IMAGES_PER_READER.
IMAGES_PER_READER = 2**40


class SharedEpoch:
    """The number of an epoch, in memory that worker processes share.

    A plain int would keep its old value in workers that live on between epochs. A copy that is sent to a worker shares
    the memory; one that pickle or ``copy`` makes gets its own.

    Args:
        value (int): the epoch, from 0. Default: 0

    Raises:
        ValueError: ``value`` is not an int from 0 to 2**63 - 1.
    """

    def __init__(self, value: int = 0) -> None:
        self._shared = torch.zeros(1, dtype=torch.int64).share_memory_()
        self.value = value

    @property
    def value(self) -> int:
        """The epoch, from 0; another int from 0 can be assigned."""
        return int(self._shared)

    @value.setter
    def value(self, epoch: int) -> None:
        self._shared.fill_(unsigned_int("epoch", epoch, bits=63))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._shared.share_memory_()  # changes nothing if the memory is the sender's


def reader_number(sender_rank: int = 0) -> int:
    """Number of this process among those that read: rank * workers per rank + worker.

    Args:
        sender_rank (int): rank of the process that started this one, which counts if nothing else tells. Default: 0
    """
    worker = get_worker_info()
    own = rank(sender_rank)
    return own * worker.num_workers + worker.id if worker else own


def rank(sender_rank: int = 0) -> int:
    """Rank of this process.

    It is that of ``torch.distributed`` if initialised, else ``RANK`` of the environment, else the sender's.

    Args:
        sender_rank (int): rank of the process that started this one. Default: 0
    """
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank()
    return int(os.environ.get("RANK", sender_rank))


def world_size() -> int:
    """Number of ranks: that of ``torch.distributed`` if initialised, else ``WORLD_SIZE`` of the environment or 1."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return int(os.environ.get("WORLD_SIZE", "1"))
