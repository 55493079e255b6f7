"""How much training fits into a time."""

from __future__ import annotations

import time

import torch

from ganaug.core.errors import InputError
from ganaug.training.trainer import Trainer

WARM_UP = 3  # steps, which are slower
TIMED = 10.0  # seconds, about


def kimg_within(minutes: float, trainer: Trainer) -> float:
    """Thousands of images that training shows in so many minutes on this machine, by a few steps that are timed.

    Args:
        minutes (float): for the steps alone; opening the images and writing grids come on top.
        trainer (Trainer): trained for these steps, and of no use afterwards. Of several processes all must ask.

    Raises:
        InputError: ``minutes`` is not positive and finite.
    """
    if not 0 < minutes < float("inf"):
        raise InputError(f"budget_minutes must be positive and finite, got {minutes}")
    with torch.random.fork_rng():
        _time_steps(trainer, 0, WARM_UP)
        one = _time_steps(trainer, WARM_UP, 1)
        steps = max(1, min(100, round(TIMED / one)))
        each = _time_steps(trainer, WARM_UP + 1, steps) / steps
    return max(minutes * 60 / each, 1) * trainer.images_per_step / 1000


def _time_steps(trainer: Trainer, first: int, count: int) -> float:
    """Seconds that steps take, the same number on all processes."""
    started = time.perf_counter()
    for step in range(first, first + count):
        monitors = trainer.step(step)
    next(iter(monitors.values())).item()  # waits for the device
    seconds = torch.tensor(time.perf_counter() - started, device=trainer.accelerator.device)
    return float(trainer.accelerator.reduce(seconds, "mean"))
