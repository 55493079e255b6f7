from __future__ import annotations

import sys

from helpers.programs import run

HEAVY = ("torch._dynamo", "torchvision", "matplotlib", "datasets", "tensorboard", "accelerate", "sklearn")


def test_import_brings_nothing_heavy_along(tmp_path):
    """torchvision imports what torch.compile is made of, which takes as long as all of torch."""
    program = f"import sys, ganaug; print([name for name in {HEAVY} if name in sys.modules])"
    assert run(sys.executable, "-c", program, cwd=tmp_path).strip() == "[]"
