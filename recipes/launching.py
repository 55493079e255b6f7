"""Training by a recipe's command, for the benchmarks."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from ganaug.cli.images import DataArguments


def train_by_recipe(name: str, *flags: str) -> None:
    """Run ``accelerate launch recipes/NAME.py`` with these flags to its end.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    recipe = str(Path(__file__).with_name(f"{name}.py"))
    subprocess.run([sys.executable, "-m", "accelerate.commands.launch", recipe, *flags], check=True)


def data_flags(data: DataArguments) -> list[str]:
    """The same as flags for another recipe's command, without those that are as they are by default."""
    changed = [(field.name, getattr(data, field.name)) for field in fields(data)]
    changed = [(name, value) for name, value in changed if value != getattr(DataArguments, name)]
    return [part for name, value in changed for part in (f"--{name}", *([] if value is True else [str(value)]))]
