"""Generated once, into a file that workers and processes read."""

from __future__ import annotations

import io
import json
import os
import pickle
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.generators import make_generator
from helpers.images import small_images
from helpers.programs import run_python, start_python
from torch import nn
from torch.utils.data import DataLoader

from ganaug import ConditionalGANAugment
from ganaug.core.files import build_once

CLASSES = small_images().classes


class Counting(nn.Module):
    """A cheap generator that counts the images it makes."""

    latent_dim, label_names = 3, CLASSES
    made = 0

    def __init__(self, shift=0.0):
        super().__init__()
        self.shift = shift

    def forward(self, z, labels):
        type(self).made += len(z)
        return (z.mean(1).tanh().view(-1, 1, 1, 1) * 0.5 + self.shift).expand(-1, 1, 12, 12)


def mix(cache: Path, generator=None, **options) -> ConditionalGANAugment:
    options = {"ratio": 0.5, "cache_dir": cache, **options}
    return ConditionalGANAugment(small_images(), generator or Counting(), **options)


def images_of(items) -> torch.Tensor:
    return torch.stack([item[0] for item in items])


def test_the_file_holds_the_items_and_the_generator_rests(tmp_path):
    lazy = mix(tmp_path)
    expected = images_of(lazy)
    train = mix(tmp_path)
    folder = train.materialize()
    assert {path.name for path in folder.iterdir()} == {"images.npy", "index.json"}
    assert not os.access(folder / "images.npy", os.W_OK) or os.geteuid() == 0
    assert stat.S_IMODE((folder / "images.npy").stat().st_mode) == 0o444
    stored = np.load(folder / "images.npy")
    assert (stored.dtype, stored.shape) == (np.uint8, (60, 1, 12, 12))
    assert np.array_equal(stored, expected[60:].numpy())
    index = json.loads((folder / "index.json").read_text())
    assert index["images"]["shape"] == [60, 1, 12, 12]
    assert index["label_counts"] == {"class 0": 20, "class 1": 20, "class 2": 20}
    before = Counting.made
    assert torch.equal(images_of(train), expected)
    loader = DataLoader(train, batch_size=9, num_workers=2, generator=torch.Generator())
    assert torch.equal(torch.cat([images for images, _ in loader]), expected)
    assert Counting.made == before


def test_it_is_made_once_and_never_stale(tmp_path):
    first = mix(tmp_path).materialize()
    inode = (first / "images.npy").stat().st_ino
    again = mix(tmp_path)
    before = Counting.made
    assert again.materialize() == first
    assert Counting.made - before <= 64  # the few images that are part of the generator's fingerprint
    assert (first / "images.npy").stat().st_ino == inode
    others = [
        mix(tmp_path, Counting(shift=0.25)),  # the same weights: none; only what it draws differs
        mix(tmp_path, seed=1),
        mix(tmp_path, ratio=0.4),
        mix(tmp_path, sampling_strategy="uniform", ratio=0.51),
        mix(tmp_path, accept=_accept_all),
        mix(tmp_path, make_generator(CLASSES, image_size=12)),
        mix(tmp_path, make_generator(CLASSES, image_size=12, latent_dim=9)),
    ]
    folders = {first, *(other.materialize() for other in others)}
    assert len(folders) == 8
    moved = mix(tmp_path, resample=True)
    for epoch in (0, 1):
        moved.set_epoch(epoch)
        folders.add(moved.materialize())
    assert len(folders) == 9  # epoch 0 is what a fixed one draws


def _accept_all(images, labels):
    return torch.ones(len(images), dtype=torch.bool)


def test_epochs_without_a_file_are_drawn(tmp_path):
    lazy, train = mix(tmp_path, resample=True), mix(tmp_path, resample=True)
    train.materialize()
    loader = DataLoader(train, batch_size=9, num_workers=1, persistent_workers=True, generator=torch.Generator())
    for epoch in (0, 1, 2):
        lazy.set_epoch(epoch)
        train.set_epoch(epoch)
        if epoch == 2:
            train.materialize()
        assert torch.equal(torch.cat([images for images, _ in loader]), images_of(lazy))


def test_replaced_items_are_found_in_the_file(tmp_path):
    lazy, train = (mix(tmp_path, mode="replace", ratio=0.3) for _ in range(2))
    for epoch in (0, 7):
        lazy.set_epoch(epoch)
        train.set_epoch(epoch)
        train.materialize()
        before = Counting.made
        made = images_of(train)
        assert Counting.made == before
        assert torch.equal(made, images_of(lazy))


def test_a_pickled_copy_has_the_file_by_name(tmp_path):
    train = mix(tmp_path)
    train.materialize()
    train[60]
    packed = pickle.dumps(train)
    assert len(packed) < 60_000
    before = Counting.made
    assert torch.equal(images_of(pickle.loads(packed)), images_of(train))
    assert Counting.made == before


def test_nothing_is_left_of_a_run_that_was_cut_short(tmp_path):
    train = mix(tmp_path, accept=lambda images, labels: torch.zeros(len(images), dtype=torch.bool))
    with pytest.raises(ValueError, match="the filter starved"):
        train.materialize()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.endswith(".lock")]


def as_npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


DAMAGES = {
    "cut": lambda whole: whole[:1000],
    "empty": lambda whole: b"",
    "something else": lambda whole: b"\0" * len(whole),
    "fewer images": lambda whole: as_npy(np.load(io.BytesIO(whole))[:40]),
    "larger images": lambda whole: as_npy(np.load(io.BytesIO(whole)).repeat(2, 3)),
    "another dtype": lambda whole: as_npy(np.load(io.BytesIO(whole)).astype(np.int8)),
    "missing": None,
}
DAMAGES |= {
    "a cut header": lambda whole: whole.replace(b")", b" ", 1),
    "a header that is no dict": lambda whole: whole[:10] + b"1 +" + whole[13:],
    "another kind of file": lambda whole: b"PK" + whole[2:],
}
UNSEEN = {"a flipped bit": lambda whole: bytes([*whole[:-7], whole[-7] ^ 1, *whole[-6:]])}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named(tmp_path, damage):
    train = mix(tmp_path)
    damaged(train.materialize() / "images.npy", DAMAGES[damage])
    with pytest.raises(OSError, match=r"images\.npy is damaged \(.*\)\. Call materialize\(\) again"):
        train[60]


@pytest.mark.parametrize("damage", {**DAMAGES, **UNSEEN})
@pytest.mark.parametrize("file", ["images.npy", "index.json", "notes"])
def test_a_damaged_file_is_made_again(tmp_path, caplog, damage, file):
    expected = images_of(mix(tmp_path))
    folder = mix(tmp_path).materialize()
    if file == "images.npy":
        damaged(folder / file, {**DAMAGES, **UNSEEN}[damage])
    else:
        path = folder / file if file == "index.json" else folder.with_name(f".{folder.name}.sha256.json")
        damaged(path, {"missing": None, "empty": DAMAGES["empty"]}.get(damage, UNSEEN["a flipped bit"]))
    train = mix(tmp_path)
    assert train.materialize() == folder
    assert "is damaged" in caplog.text
    assert torch.equal(images_of(train), expected)
    caplog.clear()
    assert mix(tmp_path).materialize() == folder
    assert not caplog.text


def damaged(path: Path, damage) -> None:
    whole = path.read_bytes()
    path.chmod(0o644)
    path.unlink()
    if damage:
        path.write_bytes(damage(whole))


def test_a_worker_does_not_materialize(tmp_path):
    class Materializing(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return mix(tmp_path).materialize()

    with pytest.raises(RuntimeError, match=r"materialize\(\) was called in a DataLoader worker\. Call it before"):
        list(DataLoader(Materializing(), num_workers=1, generator=torch.Generator()))


RACER = """
import sys, time
from pathlib import Path
from ganaug.core.files import build_once

def build(path):
    with open("builds", "a") as file:
        file.write("built\\n")
    time.sleep(1)
    path.mkdir()
    (path / "content").write_text("whole")

start = Path("start")
while not start.exists():
    time.sleep(0.01)
print((build_once(Path("kept/thing"), build, what="the thing") / "content").read_text())
"""


@pytest.mark.parametrize("there", ["nothing", "damaged"])
def test_processes_that_race_make_one_file(tmp_path, there):
    if there == "damaged":
        build_once(tmp_path / "kept" / "thing", lambda path: path.write_text("whole") and None, what="the thing")
        (tmp_path / "kept" / "thing").write_text("WHOLE")
    racers = [start_python("-c", RACER, cwd=tmp_path) for _ in range(2)]
    (tmp_path / "start").touch()
    assert [racer.wait(60) for racer in racers] == [0, 0]
    assert all("whole\n" in racer.read() for racer in racers)
    assert (tmp_path / "builds").read_text() == "built\n"
    assert not list((tmp_path / "kept").glob(".*tmp*"))


def test_a_builder_that_was_killed_leaves_no_trace(tmp_path):
    killed = "import os, signal; from pathlib import Path; from ganaug.core.files import build_once\n"
    killed += "def build(path):\n    path.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    killed += "build_once(Path('kept/thing'), build, what='the thing')"
    run_python("-c", killed, cwd=tmp_path, expected=-9)
    assert not (tmp_path / "kept" / "thing").exists()
    assert len(list((tmp_path / "kept").glob(".*tmp*"))) == 1
    build_once(tmp_path / "kept" / "thing", lambda path: path.write_text("whole") and None, what="the thing")
    assert (tmp_path / "kept" / "thing").read_text() == "whole"
    assert not list((tmp_path / "kept").glob(".*tmp*"))


def test_rgb_images_are_written_as_they_are_drawn(tmp_path):
    """Networks give them channels last, which a file must not."""
    data = small_images(channels=3)
    generator = make_generator(CLASSES, image_size=12, channels=3)
    lazy, kept = (ConditionalGANAugment(data, generator, ratio=0.3, cache_dir=tmp_path) for _ in range(2))
    kept.materialize()
    for index in range(kept.n_real, len(kept)):
        assert torch.equal(kept[index][0], lazy[index][0])
