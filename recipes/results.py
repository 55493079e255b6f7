"""How the benchmarks say what was measured, and on what."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence

import torch


def machine() -> str:
    """Processor and version that results were measured with."""
    return f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, torch {torch.__version__}"


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation of shares, in per cent."""
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f} %"
