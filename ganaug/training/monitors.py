"""Means of what there is to watch about a run, beside the pictures."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor


class RunningMeans:
    """Means of scalars over steps and processes, kept on the device until they are asked for.

    Args:
        accelerator (Accelerator): the processes to average over.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, scalars: dict[str, Tensor]) -> None:
        """Take in the scalars of one step."""
        for name, value in scalars.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1

    def take(self) -> dict[str, float]:
        """Means since the last call; to be called by all processes together."""
        means = torch.stack(list(self._sums.values())) / self._steps
        means = self.accelerator.reduce(means, reduction="mean")
        names, self._sums, self._steps = list(self._sums), {}, 0
        return dict(zip(names, means.tolist(), strict=True))
