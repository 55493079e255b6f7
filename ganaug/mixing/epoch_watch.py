"""A warning for when generated images should change with the epoch, but nothing tells the dataset its epoch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch.utils.data import get_worker_info

from ganaug.mixing import workers

logger = logging.getLogger(__name__)

_watched = ContextVar("_watched", default=True)
SUBSTANTIAL = 0.5  # of a pass; less is a look at some items, or a check


class EpochWatch:
    """Warns once when a dataset is read again in the same epoch, by a process and its workers taken together.

    Of several ranks, only the first one warns. Once ``set_epoch`` has been called, an epoch may be read twice, to
    train and to evaluate.

    Args:
        size (int): number of items in the dataset; in a pass, each of several ranks reads its share.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        # The number of items read in this epoch, whether set_epoch was called, and whether the warning was given.
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
        return self._size / workers.world_size()

    def _warn(self, epoch: int) -> None:
        worker = get_worker_info()
        if (worker is not None and worker.id > 0) or workers.rank() > 0:  # one warns for all
            return
        self._shared[2] = 1
        logger.warning(
            "epoch %d is read again, with the same generated images. To have others in each epoch, call "
            "dataset.set_epoch(epoch) before it; with a loader that accelerate prepared, loader.set_epoch(epoch); "
            "with Lightning, in a callback's on_train_epoch_start",
            epoch,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._shared.share_memory_()  # changes nothing if the memory is the sender's


@contextmanager
def not_watched() -> Iterator[None]:
    """A context in which reading items, to check them, does not count as a pass."""
    before = _watched.set(False)
    try:
        yield
    finally:
        _watched.reset(before)
