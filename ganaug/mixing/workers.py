"""Worker processes: the epoch that they share, and which of those that read side by side this one is."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import distributed
from torch.utils.data import get_worker_info


class SharedEpoch:
    """The number of an epoch, in memory that worker processes share.

    A plain int would stay as it was in workers that live on between epochs. Copies that travel to a worker keep the
    same memory; those that pickle or ``copy`` makes get their own.
    """

    def __init__(self, value: int = 0) -> None:
        self._shared = torch.zeros(1, dtype=torch.int64).share_memory_()
        self.value = value

    @property
    def value(self) -> int:
        """The epoch, from 0."""
        return int(self._shared)

    @value.setter
    def value(self, epoch: int) -> None:
        if isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 <= epoch < 2**63:
            raise ValueError(f"epoch must be an int from 0 to 2**63 - 1, got {epoch!r}")
        self._shared.fill_(epoch)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._shared.share_memory_()  # does nothing where the sender's memory came along


SIZE = 2**40  # numbers of images that each shard has for itself


def number(sender_rank: int = 0) -> int:
    """Number of this process: rank * workers per rank + worker.

    Args:
        sender_rank (int): the rank of the process that started this one, for where nothing else tells. Default: 0
    """
    worker = get_worker_info()
    own = rank(sender_rank)
    return own * worker.num_workers + worker.id if worker else own


def rank(sender_rank: int = 0) -> int:
    """Rank in ``torch.distributed`` where it is initialised, else ``RANK`` of the environment, else the sender's."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank()
    return int(os.environ.get("RANK", sender_rank))
