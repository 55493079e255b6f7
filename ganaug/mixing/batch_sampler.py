"""Batches that all have the same share of generated items."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from ganaug.core.integers import positive_int
from ganaug.core.seeding import Purpose, check_seed, random_stream
from ganaug.mixing.dataset import ConditionalGANAugment
from ganaug.mixing.workers import SharedEpoch


class MixedBatchSampler(Sampler[list[int]]):
    """Shuffled batches of a mixed dataset, each with the same share of generated items, as nearly as it divides.

    Every item comes once. However many batches have been read, they have the exact share of generated items, rounded.
    The order is the same in every epoch, unless :meth:`set_epoch` is called.

    Args:
        dataset (ConditionalGANAugment): what to draw from.
        batch_size (int): items per batch; the last one may have fewer.
        drop_last (bool): leave out a last batch that is not full. Default: False
        seed (int): decides the order; in [0, 2**64). Default: 0

    Raises:
        ValueError: ``batch_size`` is not a positive int, or ``seed`` is out of range.
    """

    def __init__(
        self, dataset: ConditionalGANAugment, batch_size: int, *, drop_last: bool = False, seed: int = 0
    ) -> None:
        self.dataset, self.drop_last = dataset, drop_last
        self.batch_size = positive_int("batch_size", batch_size)
        self.seed = check_seed(seed)
        self._epoch = SharedEpoch()

    def set_epoch(self, epoch: int) -> None:
        """Shuffle differently for another epoch.

        Args:
            epoch (int): from 0.

        Raises:
            ValueError: ``epoch`` is not an int from 0.
        """
        self._epoch.value = epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        source = self.dataset.source.numpy()
        rng = random_stream(self.seed, Purpose.BATCH_ORDER, epoch=self._epoch.value)
        real, fake = (rng.permutation(np.flatnonzero(source == kind)) for kind in (0, 1))
        for number in range(len(self)):
            start, stop = number * self.batch_size, min((number + 1) * self.batch_size, len(source))
            before, after = (_rounded(upto * len(fake), len(source)) for upto in (start, stop))
            batch = np.concatenate([real[start - before : stop - after], fake[before:after]])
            yield rng.permutation(batch).tolist()


def _rounded(numerator: int, denominator: int) -> int:
    """The quotient, rounded to the nearest int and halves up; exact for ints of any size."""
    return (2 * numerator + denominator) // (2 * denominator)
