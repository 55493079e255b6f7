"""Files of tensors: the same bytes for the same tensors, and readable by whom the umask lets read."""

import stat
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from helpers.programs import run_python
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from ganaug.core.files import write_tensors

TENSORS = {"b.weight": torch.arange(6.0).view(2, 3).T, "a": torch.tensor(3), "none": torch.empty(0, 2)}


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=8), st.text(max_size=30), max_size=6))
def test_the_same_tensors_give_the_same_bytes_and_are_read_back(metadata):
    with TemporaryDirectory() as folder:
        paths = [Path(folder, str(k)) for k in range(4)]
        for path, order in zip(paths, (1, -1, 1, -1), strict=True):
            write_tensors(path, dict(list(TENSORS.items())[::order]), dict(list(metadata.items())[::order]))
        assert len({path.read_bytes() for path in paths}) == 1
        found = load_file(paths[0])
        assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)
        with safe_open(paths[0], "pt") as file:
            assert (file.metadata() or {}) == metadata


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_who_may_read_a_file_is_up_to_the_umask(tmp_path, umask):
    path = tmp_path / "model.safetensors"
    # Twice: a new file, and one that is there.
    code = (
        "import os, torch, pathlib; from ganaug.core.files import write_tensors; "
        f"os.umask({umask}); path = pathlib.Path({str(path)!r}); "
        "[write_tensors(path, {'a': torch.zeros(3)}, {'format': 'pt'}) for _ in range(2)]"
    )
    run_python("-c", code, cwd=tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
