"""A warning for those whose generated images are to change with the epoch, where nothing tells the dataset of one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import distributed
from torch.utils.data import get_worker_info

from ganaug.mixing import workers

logger = logging.getLogger(__name__)

_watched = ContextVar("_watched", default=True)
SUBSTANTIAL = 0.5  # of a pass: who reads less has had a look, or checked something


class EpochWatch:
    """Warns once when a dataset is read in the same epoch again, by whichever of the processes that share it.

    Those are a process and its workers; of several ranks the first one warns. Whoever has called ``set_epoch`` may
    read an epoch twice, to train and to evaluate.

    Args:
        size (int): items of the dataset; each of several ranks reads its share in a pass.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        # Items read in this epoch, whether anybody has called set_epoch, and whether it was warned.
        self._shared = torch.zeros(3, dtype=torch.int64).share_memory_()

    def told(self, *, before: int, epoch: int) -> None:
        """Note that ``set_epoch`` was called, in an epoch ``before``."""
        read, called, warned = self._shared.tolist()
        if not called or before != epoch:
            self._shared[:2] = torch.tensor([0, 1])
        elif not warned and read >= SUBSTANTIAL * self._pass:
            self._warn(epoch)

    def read(self, count: int, epoch: int) -> None:
        """Note that items are read."""
        if not _watched.get():
            return
        self._shared[0] += count
        read, called, warned = self._shared.tolist()
        if not warned and read >= ((2 if called else 1) + SUBSTANTIAL) * self._pass:
            self._warn(epoch)

    @property
    def _pass(self) -> float:
        """How many items this process and its workers read in a pass over the dataset."""
        if distributed.is_available() and distributed.is_initialized():
            return self._size / distributed.get_world_size()
        return self._size / int(os.environ.get("WORLD_SIZE", "1"))

    def _warn(self, epoch: int) -> None:
        worker = get_worker_info()
        if (worker is not None and worker.id > 0) or workers.rank() > 0:  # one speaks for all
            return
        self._shared[2] = 1
        logger.warning(
            "epoch %d is read again, with the same generated images. For others in each epoch, call "
            "dataset.set_epoch(epoch) before it; with a loader that accelerate prepared, loader.set_epoch(epoch); "
            "with Lightning, in a callback's on_train_epoch_start",
            epoch,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._shared.share_memory_()  # changes nothing if the memory is the sender's


@contextmanager
def not_watched() -> Iterator[None]:
    """A context in which items are read to check them, which is no pass of training."""
    before = _watched.set(False)
    try:
        yield
    finally:
        _watched.reset(before)
