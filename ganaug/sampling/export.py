"""Generated images written to files, any number of them: by several processes, and resumed after an interruption."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal, get_args

import numpy as np
import torch
from accelerate import PartialState
from filelock import FileLock, Timeout
from numpy.lib import format as npy
from torch import Tensor
from tqdm import tqdm

from ganaug.core.errors import InputError
from ganaug.core.files import atomic_path, move, write_json, write_text
from ganaug.core.hardware import one_thread_each
from ganaug.core.image_file import open_npy
from ganaug.core.integers import positive_int
from ganaug.core.pixels import to_pil
from ganaug.hub.dataset_card import DatasetFacts, dataset_card
from ganaug.hub.folder import CARD
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.materialized import IMAGES, INDEX

Format = Literal["parquet", "npy"]
_Piece = tuple[range, Tensor, Tensor]  # numbers, labels and images of some rows
LABELS = "labels.npy"  # beside IMAGES and INDEX
PLAN, _LOCK = ".generation.json", ".generation.lock"
_UNFINISHED, _DATA = ".shards", "data"  # readers skip hidden names, so that nobody takes some shards for all of them
_CHUNK = 256  # images drawn between two writes: what a thread has in memory at a time

logger = logging.getLogger(__name__)


def generate_shards(
    sampler: ClassSampler,
    num_images: int,
    folder: str | Path,
    *,
    classes: Sequence[str] = (),
    format: Format = "parquet",
    images_per_shard: int = 2048,
    cpu_threads: int = 1,
    processes: PartialState | None = None,
) -> int:
    """Draw images and write them to files; the same call again finishes what an earlier one left unfinished.

    Image k is of class k modulo the number of classes, so that any prefix is balanced. It depends on the sampler, its
    class and k alone, and the files have the same bytes whatever the number of processes and threads. They appear when
    everything is drawn; until then shards are kept in a hidden folder.

    Args:
        sampler (ClassSampler): draws the images.
        num_images (int): how many to draw, in all.
        folder (str or Path): made if missing.
        classes (sequence of str): draw only these; label k is ``classes[k]``. Default: all of the sampler's
        format (str): ``"parquet"``, for ``datasets.load_dataset``, writes ``data/train-00000-of-00005.parquet`` and so
            on, with the columns image (PNG), label (ClassLabel), seed (uint64) and index (int64), which is the image's
            number k, and a card, ``README.md``. ``"npy"`` writes ``images.npy``, uint8 (num_images, C, H, W),
            ``labels.npy``, int64 (num_images,), and ``index.json``. Default: parquet
        images_per_shard (int): images in a file; a thread that is stopped loses fewer than these. Default: 2048
        cpu_threads (int): shards that this process works on at a time. Default: 1
        processes (PartialState, optional): processes that share the work; their timeout must outlast the wait for the
            slowest. Default: this process does it all

    Returns:
        int: how many of the images were there already.

    Raises:
        InputError: a number is not a positive int, ``format`` or a class is unknown, or the folder holds something
            else.
        OSError: the folder cannot be written to or the disk is full.
        StarvedFilterError: see :meth:`ClassSampler.draw`.
    """
    num_images = positive_int("num_images", num_images)
    images_per_shard = positive_int("images_per_shard", images_per_shard)
    cpu_threads = positive_int("cpu_threads", cpu_threads)
    rank, size = (processes.process_index, processes.num_processes) if processes else (0, 1)
    wait = processes.wait_for_everyone if processes else lambda: None
    with one_thread_each():  # several shards side by side instead
        work = _Generation(sampler, num_images, Path(folder), classes, format, images_per_shard)
        with work.prepared() if rank == 0 else nullcontext():
            wait()
            work.check_plan()
            missing = work.missing()
            wait()  # no process writes before all have looked
            mine = missing[rank::size]
            with tqdm(
                total=sum(len(work.numbers(shard)) for shard in mine),
                desc="generating" if size == 1 else f"generating ({rank + 1} of {size} processes)",
                unit="img",
                disable=not mine or (processes is not None and not processes.is_local_main_process),
            ) as bar:
                work.make(mine, cpu_threads, bar)
            wait()
            if rank == 0:
                work.finish()
        wait()
    return num_images - sum(len(work.numbers(shard)) for shard in missing)


class _Generation:
    """What a folder is to hold, and how much of it does; arguments as in :func:`generate_shards`."""

    def __init__(
        self, sampler: ClassSampler, size: int, folder: Path, classes: Sequence[str], format: Format, per_shard: int
    ) -> None:
        if format not in get_args(Format):
            raise InputError(f"format must be parquet or npy, got {format!r}")
        self.sampler, self.folder, self.format, self.size, self.per_shard = sampler, folder, format, size, per_shard
        self.classes = _checked_classes(classes, sampler)
        self.plan = {
            "generator": sampler.name,
            "weights": sampler.weights[:16],
            "classes": list(self.classes),
            "seed": sampler.seed,
            "num_images": size,
            "images_per_shard": per_shard,
            "format": format,
            "fingerprint": sampler.fingerprint,
        }
        self.shards = range(-(-size // per_shard))  # rounded up
        self._unfinished = folder / _UNFINISHED
        self._results = [folder / name for name in ([_DATA] if format == "parquet" else [IMAGES, LABELS, INDEX])]
        # A CPU draws several images side by side; on an accelerator that would only multiply the memory in use.
        self._turn = Lock() if sampler.device.type != "cpu" else nullcontext()

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Hold the folder for this plan and this run, after deleting what killed runs left half-written."""
        self._check_folder()
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / _LOCK)
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            logger.warning("another process is generating into %s; waiting for it", self.folder)
            held = lock.acquire()
        with held:
            self._check_folder()
            for place in (self.folder, self._unfinished, self.folder / _DATA):
                for stale in place.glob(".*.tmp-*"):
                    stale.unlink()
            if not (self.folder / PLAN).exists():
                write_json(self.folder / PLAN, self.plan)
            yield

    def _check_folder(self) -> None:
        if (self.folder / PLAN).exists():
            self.check_plan()
        elif self.folder.exists():
            # What a process leaves that is killed before it has written its plan does not count.
            own = (_LOCK, f".{Path(PLAN).stem}.tmp-")
            others = sorted(path.name for path in self.folder.iterdir() if not path.name.startswith(own))
            if others:
                raise InputError(f"{self.folder} holds {others[0]}. Give a folder that is empty or does not exist")

    def check_plan(self) -> None:
        """Refuse a folder that holds no plan, or another one.

        Raises:
            InputError: the folder was begun with something else, or its plan cannot be read.
        """
        try:
            there = dict(json.loads((self.folder / PLAN).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError) as error:
            raise InputError(
                f"{self.folder / PLAN} cannot be read ({error}). Give a folder that all processes share, and leave "
                "that file alone"
            ) from error
        differing = [name for name in self.plan if there.get(name) != self.plan[name]]
        if differing:
            names = [name for name in differing if name != "fingerprint"] or differing  # it follows from the others
            differences = "; ".join(f"{name}: {there.get(name)} there, {self.plan[name]} now" for name in names)
            alike = "; the generator is the same, but a filter, the processor or the version of a library is not"
            raise InputError(
                f"{self.folder} was begun with something else ({differences}{alike * (names == ['fingerprint'])}). "
                "Give what it was begun with to go on, or another folder"
            )

    def numbers(self, shard: int) -> range:
        """Numbers of the images in a shard."""
        return range(shard * self.per_shard, min((shard + 1) * self.per_shard, self.size))

    def missing(self) -> list[int]:
        """Shards that are not there yet, or are damaged, which a warning says."""
        if self.format == "npy" and self._complete():
            return []
        return [shard for shard in self.shards if not self._is_whole(shard)]

    def _is_whole(self, shard: int) -> bool:
        path, count = self._path(shard), len(self.numbers(shard))
        if self.format == "npy":
            return _is_npy(path, "uint8", (count, *self.sampler.image_shape))
        from pyarrow import ArrowException, parquet  # takes a moment to import

        try:
            problem = "" if parquet.read_metadata(path).num_rows == count else f"it does not have {count} rows"
        except FileNotFoundError:
            return False
        except (OSError, ArrowException) as error:
            problem = str(error)
        if problem:
            logger.warning("%s is damaged (%s), so it is made again", path, problem)
        return not problem

    def _complete(self) -> bool:
        if self.format == "parquet":
            return self._results[0].exists()
        images, labels, index = self._results
        shape = (self.size, *self.sampler.image_shape)
        return _is_npy(images, "uint8", shape) and _is_npy(labels, "int64", shape[:1]) and index.exists()

    @property
    def _counts(self) -> dict[str, int]:
        """Images of each class."""
        return {name: len(range(k, self.size, len(self.classes))) for k, name in enumerate(self.classes)}

    def _path(self, shard: int) -> Path:
        place = f"{shard:05d}-of-{len(self.shards):05d}"
        if self.format == "npy":
            return self._unfinished / f"{place}.npy"
        return (self._results[0] if self._complete() else self._unfinished) / f"train-{place}.parquet"

    def make(self, shards: Sequence[int], threads: int, bar: tqdm) -> None:
        """Draw and write some shards, several at a time; after an error no further one is begun."""
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(partial(self._write, bar=bar), shards):
                pass

    def _write(self, shard: int, bar: tqdm) -> None:
        numbers = self.numbers(shard)
        with one_thread_each(), atomic_path(self._path(shard)) as path:
            if self.format == "parquet":
                self._write_parquet(path, self._draw(numbers, bar))
            else:
                images = (images.numpy() for _, _, images in self._draw(numbers, bar))
                _write_npy(path, "uint8", (len(numbers), *self.sampler.image_shape), images)

    def _write_parquet(self, path: Path, pieces: Iterable[_Piece]) -> None:
        from datasets import ClassLabel, Features, Image, Value  # takes a second to import
        from datasets.arrow_writer import ParquetWriter

        label = ClassLabel(names=list(self.classes))
        features = Features(image=Image(), label=label, seed=Value("uint64"), index=Value("int64"))
        with ParquetWriter(path=str(path), features=features) as writer:
            for numbers, labels, images in pieces:
                pictures = [Image().encode_example(to_pil(image)) for image in images]
                seeds = np.full(len(numbers), self.sampler.seed, dtype=np.uint64)
                rows = {"image": pictures, "label": labels.numpy(), "seed": seeds, "index": np.array(numbers)}
                writer.write_batch(rows)
            writer.finalize()

    def _draw(self, numbers: range, bar: tqdm) -> Iterator[_Piece]:
        of_sampler = torch.tensor([self.sampler.classes.index(name) for name in self.classes])
        for start in range(0, len(numbers), _CHUNK):
            piece = numbers[start : start + _CHUNK]
            labels = torch.arange(piece.start, piece.stop) % len(self.classes)
            with self._turn:
                images = self.sampler.draw(of_sampler[labels], piece)
            yield piece, labels, images
            with bar.get_lock():
                bar.update(len(piece))

    def finish(self) -> None:
        """Give everything its final name, now that all shards are there.

        Raises:
            InputError: a shard is missing.
        """
        if missing := self.missing():
            raise InputError(
                f"{self.folder} lacks {len(missing)} of {len(self.shards)} shards, though all were made. Give a "
                "folder that all processes share, and leave its files alone"
            )
        if not self._complete() and self.format == "parquet":
            write_text(self.folder / CARD, dataset_card(DatasetFacts((self.sampler.provenance,), self._counts)))
            move(self._unfinished, self._results[0])
        elif not self._complete():
            self._join()
        shutil.rmtree(self._unfinished, ignore_errors=True)

    def _join(self) -> None:
        shape, numbers = (self.size, *self.sampler.image_shape), map(self.numbers, self.shards)
        with atomic_path(self.folder / IMAGES) as path:
            _write_npy(path, "uint8", shape, (np.load(self._path(shard), mmap_mode="r") for shard in self.shards))
        with atomic_path(self.folder / LABELS) as path:
            _write_npy(path, "int64", shape[:1], (np.arange(k.start, k.stop) % len(self.classes) for k in numbers))
        what_it_holds = {
            "images": {"file": IMAGES, "shape": shape, "dtype": "uint8"},
            "labels": {"file": LABELS, "shape": shape[:1], "dtype": "int64"},
            "generator": self.sampler.name,
            "fingerprint": self.sampler.fingerprint,
            "seed": self.sampler.seed,
            "label_counts": self._counts,
        }
        write_json(self.folder / INDEX, what_it_holds)


def _checked_classes(classes: Sequence[str], sampler: ClassSampler) -> tuple[str, ...]:
    if not sampler.classes:
        raise InputError(f"the generator ({sampler.name}) does not name its classes. Give it label_names")
    unknown = [name for name in classes if name not in sampler.classes]
    if unknown or len(set(classes)) < len(classes):
        problem = f"the generator does not know {', '.join(unknown)}" if unknown else "a class is named twice"
        raise InputError(f"{problem} in classes {', '.join(classes)}; it knows {', '.join(sampler.classes)}")
    return tuple(classes) or sampler.classes


def _is_npy(path: Path, dtype: str, shape: tuple[int, ...]) -> bool:
    """Whether a file holds an array of this form; a warning says it of one that holds something else."""
    try:
        open_npy(path, dtype, shape)
    except FileNotFoundError:
        return False
    except OSError as error:
        logger.warning("%s, so it is made again", error)
        return False
    return True


def _write_npy(path: Path, dtype: str, shape: tuple[int, ...], pieces: Iterable[np.ndarray[Any, Any]]) -> None:
    header = {"descr": npy.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with open(path, "wb") as file:
        npy.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece).data)  # RGB images may come channels last
