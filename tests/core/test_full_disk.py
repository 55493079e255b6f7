"""Where there is no room, nothing is half-written, and the error says which file found none."""

from __future__ import annotations

import errno
import os
import signal
from contextlib import contextmanager

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from ganaug.core.files import atomic_path, build_once, write_json, write_tensors
from ganaug.training import RunFolder

resource = pytest.importorskip("resource", reason="no limit on the size of files on Windows")


@contextmanager
def no_room(most: int = 4096):
    """No file of this process grows larger, which stands in for a full disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def atomically(write):
    def to(path):
        with atomic_path(path) as temporary:
            write(temporary)

    return to


def fill_folder(path):
    path.mkdir()
    (path / "small").write_text("fits")
    (path / "large").write_bytes(bytes(10_000))


def fail_on_sync(path):
    """As some network file systems, which tell only then that there was no room."""
    with pytest.MonkeyPatch.context() as patch:

        def fail(_):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

        patch.setattr(os, "fsync", fail)
        write_json(path, 1)


WRITES = {
    "text": lambda path: write_json(path, "a" * 10_000),
    "tensors": atomically(lambda path: write_tensors(path, {"a": torch.zeros(10_000)})),
    "picture": atomically(lambda path: Image.effect_noise((100, 100), 50).save(path, "png")),
    "table": atomically(lambda path: parquet.write_table(pyarrow.table({"a": list(range(10_000))}), path)),
    "array": atomically(lambda path: path.write_bytes(np.zeros((100, 100)).data)),
    "folder": atomically(fill_folder),
    "built": lambda path: build_once(path, fill_folder, what="a folder"),
    "nested": atomically(lambda path: (path.mkdir(), write_json(path / "inside.json", "a" * 10_000))),
    "synced": fail_on_sync,
}


@pytest.mark.parametrize("what", WRITES)
def test_where_there_is_no_room_the_error_names_the_path(tmp_path, what):
    path = tmp_path / "result.bin"
    with no_room(), pytest.raises(OSError, match="result.bin'$") as raised:
        WRITES[what](path)
    assert raised.value.errno in (errno.EFBIG, errno.EDQUOT)
    assert raised.value.filename == str(path)
    assert not [left for left in tmp_path.iterdir() if not left.name.endswith(".lock")]


@pytest.mark.parametrize("room", [0, 10])
def test_where_there_is_no_room_for_metrics_the_error_names_their_file(tmp_path, room):
    run = RunFolder(tmp_path / "run")
    run.append_metrics({"kimg": 1.0})
    path = run.training / "metrics.jsonl"
    before = path.read_bytes()
    with no_room(len(before) + room), pytest.raises(OSError, match="metrics.jsonl'$"):
        run.append_metrics({"kimg": 2.0, "loss": 1.0})
    assert path.read_bytes() == before
