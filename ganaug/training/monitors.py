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
        self._steps = torch.zeros((), device=accelerator.device)
        self._skipped = torch.zeros((), device=accelerator.device)
        self._in_a_row = torch.zeros((), device=accelerator.device)

    def add(self, scalars: dict[str, Tensor], skipped: Tensor) -> None:
        """Take in the scalars of one step; those of one that was skipped (1, else 0) only count."""
        for name, value in scalars.items():
            used = torch.where(skipped > 0, 0, value)
            self._sums[name] = self._sums[name] + used if name in self._sums else used
        self._steps = self._steps + 1 - skipped
        self._skipped = self._skipped + skipped
        self._in_a_row = (self._in_a_row + skipped) * skipped

    def take(self) -> dict[str, float]:
        """Means since the last call, without those of which there is none; to be called by all processes together.

        ``skipped_steps`` is the number of steps that were skipped, where there are any.
        """
        totals = torch.stack([*self._sums.values(), self._steps, self._skipped])
        *sums, steps, skipped = self.accelerator.reduce(totals, reduction="mean").tolist()
        means = {name: value / steps for name, value in zip(self._sums, sums, strict=True)} if steps else {}
        self._sums, self._steps, self._skipped = {}, torch.zeros_like(self._steps), torch.zeros_like(self._skipped)
        return means | ({"skipped_steps": skipped} if skipped else {})

    def skipped_in_a_row(self) -> int:
        """Number of the last steps that were skipped, the same on all processes; waits for the device."""
        return int(self._in_a_row)
