"""Recipes and other programs, in this process and in processes of their own."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from accelerate.state import AcceleratorState

REPOSITORY = Path(__file__).parents[2]
TESTS = str(REPOSITORY / "tests")  # where programs of their own find these helpers
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch"]


def recipe_path(name: str) -> str:
    return str(REPOSITORY / "recipes" / f"{name}.py")


RECIPE = recipe_path("train_acgan")


def run(*command: str, cwd: Path, expected: int = 0, timeout: float = 200, **options) -> str:
    """Standard output and error of a command that ends with the expected code."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False, **options)
    output = done.stdout + done.stderr
    assert done.returncode == expected, output
    return output


@contextmanager
def as_a_program() -> Iterator[None]:
    """What a recipe may do in a process of its own: start accelerate, set threads, seed everything."""
    threads, numpy_state, python_state = torch.get_num_threads(), np.random.get_state(), random.getstate()
    AcceleratorState._reset_state(True)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        AcceleratorState._reset_state(True)
        torch.set_num_threads(threads)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
