"""How long ``import ganaug`` takes, against ``import torch, torchvision``, which it cannot do without.

Each import has a new process, and the two take turns; the start of Python is included. Both together took 6 seconds of
processor time, so the default ten rounds take about a minute on two cores that have nothing else to do.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from timing import in_turns, report

from ganaug.cli.flags import run
from ganaug.core.files import write_json


@dataclass(frozen=True)
class Arguments:
    """Flags of this benchmark.

    Args:
        rounds: How often each import is timed.
        output: Write the numbers to this JSON file too.
    """

    rounds: int = 10
    output: Path | None = None


def main(args: Arguments) -> None:
    """Time both, and print medians, ranges and their ratio."""
    arms = {
        f"import {modules}": partial(subprocess.run, [sys.executable, "-c", f"import {modules}"], check=True)
        for modules in ("torch, torchvision", "ganaug")
    }
    found = report(f"torch {torch.__version__}", in_turns(arms, args.rounds))
    if args.output:
        write_json(args.output, found)


if __name__ == "__main__":
    run(Arguments, main, __doc__)
