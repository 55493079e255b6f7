"""Images that are too many for memory: decoded once into a file, and read from it as if they were in memory."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import hf_dataset, small_images, write_class_folders
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from ganaug import ConditionalGANAugment, DataError, LabelledImages, open_images
from ganaug.core.image_file import growing_npy
from ganaug.data import audit_images, folders, joined, open_unlabeled, reading
from ganaug.data.stored import Part, StoredImages
from ganaug.evaluation import train_classifier
from ganaug.evaluation.classifier import predict_probabilities
from ganaug.evaluation.memorization import closest_pairs
from ganaug.hub.weights import WEIGHTS
from ganaug.training.own_process import Recipe, Wording, train_once
from ganaug.training.presets import choose_preset
from ganaug.training.settings import TrainingSettings


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own, in which all images are kept that are opened from now on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(reading, "MOST_IN_MEMORY", 0)
    return tmp_path / "cache" / "ganaug" / "images"


@pytest.fixture
def folder(tmp_path):
    return write_class_folders(tmp_path / "photos", small_images(30, channels=3))


@pytest.fixture
def both(folder, monkeypatch, cache):
    """The same images, in memory and in a file."""
    with monkeypatch.context() as patch:
        patch.setattr(reading, "MOST_IN_MEMORY", 2**30)
        in_memory = open_images(folder)
    stored = open_images(folder)
    assert isinstance(in_memory.images, torch.Tensor)
    assert isinstance(stored.images, StoredImages)
    return in_memory, stored


def assert_same(one: LabelledImages, other: LabelledImages) -> None:
    assert torch.equal(one.images[:], other.images[:])
    assert torch.equal(one.targets, other.targets)
    assert torch.equal(one.image_hashes, other.image_hashes)
    assert one.fingerprint == other.fingerprint
    assert (one.classes, one.name, one.train) == (other.classes, other.name, other.train)


def test_images_in_a_file_are_those_in_memory(both):
    in_memory, stored = both
    assert_same(in_memory, stored)
    assert stored.images.shape == in_memory.images.shape
    assert stored.images.ndim == 4
    assert stored.class_counts == in_memory.class_counts
    assert stored.distinct_counts == in_memory.distinct_counts
    assert torch.equal(stored.background, in_memory.background)
    assert all(torch.equal(stored[k][0], in_memory[k][0]) for k in (0, 7, len(stored) - 1))


def test_parts_of_them_stay_in_the_file(both):
    in_memory, stored = both
    for one, other in zip(in_memory.split(0.3), stored.split(0.3), strict=True):
        assert isinstance(other.images, StoredImages)
        assert_same(one, other)
        for here, there in zip(one.take([2, 1, 3]), other.take([2, 1, 3]), strict=True):
            assert_same(here, there)
    more = small_images(9, channels=3, seed=1)
    for one, other in (
        (joined(in_memory, more), joined(stored, more)),
        (joined(more, in_memory), joined(more, stored)),
    ):
        assert isinstance(other.images, StoredImages)
        assert_same(one, other)


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    chosen=st.lists(st.integers(0, 10**6), max_size=8),
    size=st.integers(1, 5),
)
def test_any_rows_of_any_parts_are_read_as_from_one_tensor(sizes, chosen, size):
    everything = torch.arange(sum(sizes) * 6, dtype=torch.uint8).view(-1, 1, 2, 3)
    images = StoredImages([Part.in_memory(piece) for piece in everything.split(sizes)])
    rows = torch.tensor([k % len(everything) for k in chosen], dtype=torch.int64)
    assert torch.equal(images[rows], everything[rows])
    assert torch.equal(images.take(rows)[:], everything[rows])
    assert torch.equal(images[everything[:, 0, 0, 0] > 20], everything[everything[:, 0, 0, 0] > 20])
    pieces = zip(images.take(rows).split(size), everything[rows].split(size), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pieces if len(rows))


def test_images_are_decoded_once_and_again_when_a_file_has_changed(folder, cache, monkeypatch):
    first = open_images(folder, resolution=12)

    def refuse(*_):
        raise AssertionError("decoded a second time")

    with monkeypatch.context() as patch:
        patch.setattr(reading, "decode", refuse)
        patch.setattr(reading, "read_headers", refuse)  # of a million images they take minutes
        assert_same(open_images(folder, resolution=12), first)
    Image.new("RGB", (12, 12), "red").save(folder / "class 1" / "001.png")
    after = open_images(folder, resolution=12)
    assert (after.image_hashes != first.image_hashes).sum() == 1
    assert after.fingerprint != first.fingerprint
    assert open_images(folder, resolution=8).images.shape[1:] == (3, 8, 8)
    assert len(folders_in(cache)) == 3


def folders_in(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


def test_what_nobody_opens_for_a_month_is_removed_when_others_are_decoded(folder, cache, caplog):
    def make_old(place: Path, days: float) -> None:
        for file in place.iterdir():
            os.utime(file, (time.time() - days * 86400,) * 2)

    def place_of(**options) -> Path:
        before = set(folders_in(cache)) if cache.exists() else set()
        open_images(folder, **options)
        (place,) = set(folders_in(cache)) - before
        return place

    stale, used, read, recent = (place_of(resolution=size) for size in (4, 5, 6, 7))
    reader = open_images(folder, resolution=4)
    first = reader.images[0]
    for place in (stale, used, read):
        make_old(place, 31)
    make_old(recent, 29)
    open_images(folder, resolution=5)
    os.utime(read / "images.npy")  # as a process does that opened it long ago
    # Nothing is removed where nothing is written.
    assert len(folders_in(cache)) == 4
    new = place_of(resolution=8)
    assert set(folders_in(cache)) == {used, read, recent, new}
    assert f"{stale} was removed: nobody has opened it for 31 days" in caplog.text
    # Who had it open goes on reading.
    assert torch.equal(reader.images[:2][0], first)
    assert torch.equal(open_images(folder, resolution=4).images[0], first)


def test_a_damaged_file_is_made_again_and_says_so(folder, cache, caplog):
    first = open_images(folder)
    kept = first.images[:]
    (place,) = folders_in(cache)
    with open(place / "images.npy", "r+b") as file:
        file.truncate(1000)
    again = open_images(folder)
    assert torch.equal(again.images[:], kept)
    assert "is damaged" in caplog.text
    # A DataLoader's worker, which opens the file for itself, says what to do.
    (place / "images.npy").unlink()
    with pytest.raises(OSError, match="Remove .* and the images are decoded again"):
        pickle.loads(pickle.dumps(again))[0]


def test_bad_images_are_refused_or_named_each_time(folder, cache, caplog):
    bad = folder / "class 0" / "bad.png"
    bad.write_bytes((folder / "class 0" / "000.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"1 of 31 .*bad\.png"):
        open_images(folder)
    assert not folders_in(cache)  # nor anything half-written
    for _ in range(2):
        caplog.clear()
        images = open_images(folder, skip_bad_images=True)
        assert len(images) == 30
        assert "bad.png" in caplog.text
        assert "left out" in caplog.text
    audit = audit_images(folder)
    assert torch.equal(audit.images.images[:], images.images[:])
    assert len(audit.unreadable) == 1
    assert "bad.png" in audit.unreadable[0]


def test_a_check_knows_of_transparency_when_nothing_is_decoded(folder, cache):
    Image.new("RGBA", (12, 12), (9, 9, 9, 100)).save(folder / "class 2" / "glass.png")
    assert [audit_images(folder).transparent for _ in range(2)] == [1, 1]


def test_items_of_a_dataset_object_make_one_file_however_often_they_are_opened(cache):
    images = small_images(24, channels=3)
    pairs = list(zip(images.images, images.targets.tolist(), strict=True))
    one, other = open_images(pairs), open_images(pairs)
    assert_same(one, other)
    assert torch.equal(one.images[:], images.images)
    assert len(folders_in(cache)) == 1
    assert len(open_images(pairs[:12])) == 12
    assert len(folders_in(cache)) == 2


def test_a_damaged_file_of_a_dataset_object_is_replaced_and_what_was_killed_is_removed(cache, caplog):
    images = small_images(24, channels=3)
    pairs = list(zip(images.images, images.targets.tolist(), strict=True))
    open_images(pairs)
    (place,) = folders_in(cache)
    for name in ("images.npy", "hashes.npy"):
        caplog.clear()
        os.truncate(place / name, 0)
        (cache / ".unnamed.tmp-1").mkdir()  # left by a killed process
        assert torch.equal(open_images(pairs).images[:], images.images)
        assert "is damaged" in caplog.text
        assert folders_in(cache) == [place]


def test_what_the_system_would_not_read_is_tried_again(folder, cache, monkeypatch, caplog):
    opened = folders._open

    def too_many(path):
        if path.endswith("004.png"):
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(path)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "_open", too_many)
        assert len(open_images(folder, skip_bad_images=True)) == 29
    assert "Too many open files" in caplog.text
    assert len(open_images(folder, skip_bad_images=True)) == 30


def test_a_file_that_left_images_out_is_not_taken_for_one_of_all(folder, cache):
    (folder / "class 0" / "bad.png").write_bytes((folder / "class 0" / "000.png").read_bytes()[:60])
    assert len(open_images(folder, skip_bad_images=True)) == 30
    with pytest.raises(DataError, match=r"bad\.png"):
        open_images(folder)


def test_rows_that_name_files_are_read_again_when_these_change(folder, cache):
    datasets = pytest.importorskip("datasets")
    paths = sorted(map(str, folder.glob("*/*.png")))
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a"]))
    dataset = datasets.Dataset.from_dict({"image": paths, "label": [0] * len(paths)}, features=features)
    first = open_images(dataset)
    Image.new("RGB", (12, 12), "red").save(paths[3])
    assert (open_images(dataset).image_hashes != first.image_hashes).nonzero().tolist() == [[3]]


def test_images_in_a_file_are_converted_like_others(both, cache):
    in_memory, stored = both
    for how in ({"resolution": 8}, {"channels": 1}):
        one, other = open_images(in_memory, **how), open_images(stored, **how)
        assert isinstance(other.images, StoredImages)
        assert torch.equal(one.images, other.images[:])


def test_only_images_that_are_there_are_read(both):
    _, stored = both
    file = stored.images.parts[0].images
    for rows in ([-1], [0, 30]):
        with pytest.raises(IndexError, match="images 0 to 29"):
            file.read(rows)
    with pytest.raises(IndexError):
        stored.images[30]
    with pytest.raises(TypeError, match="Read some first"):
        stored.images[:, 0]


@pytest.mark.parametrize("large", [False, True])
def test_a_stream_is_opened_like_the_dataset(large, cache, monkeypatch, caplog):
    monkeypatch.setattr(reading, "MOST_IN_MEMORY", 0 if large else 2**30)
    dataset = hf_dataset(small_images(20, channels=3))
    stream = dataset.to_iterable_dataset()
    whole, streamed = open_images(dataset), open_images(stream)
    assert isinstance(streamed.images, StoredImages) == large
    assert torch.equal(whole.images[:], streamed.images[:])
    assert torch.equal(whole.targets, streamed.targets)
    assert whole.classes == streamed.classes
    named = dataset.add_column("source", [k % 2 for k in range(20)])
    named = named.cast_column("source", pytest.importorskip("datasets").ClassLabel(names=["real", "generated"]))
    open_images(named.to_iterable_dataset())
    assert "10 of 20 rows are generated" in caplog.text
    only = open_images(stream, classes=["class 2"])
    assert torch.equal(only.images[:], whole.images[torch.nonzero(whole.targets == 2).squeeze(1)])


def test_a_stream_that_breaks_off_or_is_untyped_is_refused():
    datasets = pytest.importorskip("datasets")

    def rows():
        yield {"image": Image.new("L", (8, 8)), "label": 0}
        raise OSError("connection lost")

    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"]))
    with pytest.raises(DataError, match="connection lost"):
        open_images(datasets.IterableDataset.from_generator(rows, features=features))
    with pytest.raises(DataError, match=r"dataset\.cast"):
        open_images(datasets.IterableDataset.from_generator(rows))


def test_unlabelled_images_stay_in_the_file_too(folder, tmp_path, cache):
    labelled = open_images(folder)
    more = write_class_folders(tmp_path / "more", joined(labelled, small_images(12, channels=3, seed=2)))
    unlabeled = open_unlabeled(more, labelled)
    assert isinstance(unlabeled, StoredImages)
    assert len(unlabeled) == 12


def test_training_and_judging_do_not_depend_on_where_images_are(both):
    answers = []
    for images, others in (both, both[::-1]):
        classifier = train_classifier(images, steps=3, batch_size=8)
        pairs = closest_pairs(images.take([4, 4, 4])[0], others)
        answers.append((predict_probabilities(classifier, others.images), pairs.distances, pairs.train))
    assert all(torch.equal(one, other) for one, other in zip(*answers, strict=True))


class Cheap(nn.Module):
    latent_dim, label_names = 3, small_images().classes

    def forward(self, z, labels):
        return z.mean(1).tanh().view(-1, 1, 1, 1).expand(-1, 3, 12, 12)


def test_they_are_mixed_with_generated_images(both):
    mixed = [ConditionalGANAugment(images, Cheap(), ratio=0.3, seed=1) for images in both]
    for number, workers in ((0, 0), (1, 0), (1, 2)):
        batches = list(DataLoader(mixed[number], batch_size=8, num_workers=workers, generator=torch.Generator()))
        pixels, labels = (torch.cat(values) for values in zip(*batches, strict=True))
        if not number:
            expected = pixels, labels
        assert torch.equal(pixels, expected[0])
        assert torch.equal(labels, expected[1])


def test_a_generator_is_fitted_to_the_same_images(both, tmp_path):
    """In a process of its own, which is told of the file."""
    further = small_images(9, channels=3, seed=1)
    settings = TrainingSettings(total_kimg=0.02, train_batch_size=8, cpu_threads=1)
    wording = Wording("fitting", "Give one", lambda *_: None)
    weights = []
    for number, images in enumerate(both):
        joint = joined(images, further)
        recipe = Recipe.of(choose_preset(joint), joint)
        recipe = replace(recipe, network={**recipe.network, "width": 16}, settings=settings)
        weights.append((train_once(recipe, joint, tmp_path / str(number), wording) / WEIGHTS).read_bytes())
    assert weights[0] == weights[1]


_OPEN = """
import sys
from ganaug import open_images
from ganaug.data import reading
reading.MOST_IN_MEMORY = 0
print(open_images(sys.argv[1]).fingerprint)
"""


def test_a_killed_process_leaves_no_half_file(tmp_path, monkeypatch):
    folder = write_class_folders(tmp_path / "photos", small_images(3000, channels=1, size=16))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache = tmp_path / "cache" / "ganaug" / "images"
    command = [sys.executable, "-c", _OPEN, str(folder)]
    process = subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.DEVNULL)
    while process.poll() is None and not any(cache.glob(".*.tmp-*/images.npy")):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not [path for path in cache.iterdir() if path.is_dir() and path.name[0] != "."]
    # Two at once: one decodes, the other waits, and both have the same images.
    told = [subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert len({process.communicate()[0] for process in told}) == 1
    assert not any(process.returncode for process in told)
    assert [path.name[0] != "." for path in cache.iterdir() if path.is_dir()] == [True]


_READ = """
import sys, psutil, torch
from pathlib import Path
from ganaug.core.image_file import ImageFile
file = ImageFile(Path(sys.argv[1]), (40000, 1, 100, 100), advice="")
process, order = psutil.Process(), torch.randperm(40000, generator=torch.Generator().manual_seed(0))
file.read(order[:64])
before = process.memory_info().rss
most = max(file.read(rows) is not None and process.memory_info().rss for rows in order.split(64))
print(most - before)
"""


def test_reading_all_images_of_a_large_file_keeps_few_of_them_in_memory(tmp_path):
    path = tmp_path / "images.npy"
    with growing_npy(path, (1, 100, 100)) as append:
        for _ in range(40):
            append(torch.zeros(1000, 1, 100, 100, dtype=torch.uint8))
    assert np.load(path, mmap_mode="r").shape == (40000, 1, 100, 100)
    grown = int(
        subprocess.run([sys.executable, "-c", _READ, str(path)], capture_output=True, check=True, text=True).stdout
    )
    assert grown < 20e6 < path.stat().st_size / 10
