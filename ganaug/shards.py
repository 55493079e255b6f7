"""Which of the processes that read side by side this one is."""

from __future__ import annotations

import os

from torch import distributed
from torch.utils.data import get_worker_info

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
