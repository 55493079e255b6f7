"""Timing several arms in turns, so that a busy machine slows all of them, and telling how they compare."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from tqdm import tqdm


def in_turns(arms: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each arm in each round; a first round, which warms up, is left out."""
    found: dict[str, list[float]] = {name: [] for name in arms}
    for number in tqdm(range(rounds + 1), unit="round"):
        for name, arm in arms.items():
            started = time.perf_counter()
            arm()
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            if number:
                found[name].append(time.perf_counter() - started)
    return found


def report(title: str, arms: dict[str, list[float]], unit: str = "s") -> dict[str, list[float]]:
    """Print medians and ranges, and the ratio of the second arm to the first, round by round; returns all three."""
    first, second = arms.values()
    found = {**arms, "ratio": [b / a for a, b in zip(first, second, strict=True)]}
    print(title)
    for name, values in found.items():
        shown = "x" if name == "ratio" else unit
        print(f"  {name:32s} median {statistics.median(values):8.3f}  [{min(values):.3f}, {max(values):.3f}] {shown}")
    return found
