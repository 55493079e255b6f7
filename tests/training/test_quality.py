"""What takes minutes: run by hand with ``pytest -m slow``."""

from __future__ import annotations

import re
import sys

import pytest
from helpers.programs import LAUNCH, recipe_path, run


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_default_run_draws_what_it_is_asked_for(tmp_path):
    run(*LAUNCH, recipe_path("train_acgan"), cwd=tmp_path, timeout=3000)
    output = run(sys.executable, recipe_path("label_fidelity"), "--generator", "outputs/acgan", cwd=tmp_path)
    assert float(re.search(r"held-out real images: ([\d.]+)%", output)[1]) > 97
    assert float(re.search(r"over 1000 generated images: ([\d.]+)%", output)[1]) >= 90
