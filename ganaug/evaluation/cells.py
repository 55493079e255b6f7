"""Cells: one arm of one study trained with one seed. Each is kept on disk once it is done, and never trained twice."""

from __future__ import annotations

import inspect
import logging
import multiprocessing
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Protocol, TypeVar, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from tqdm import tqdm

from ganaug.core import fingerprints
from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError
from ganaug.core.files import WINDOWS, atomic_path, read_tensors, user_cache, write_tensors
from ganaug.core.hardware import best_device, has_bf16, one_thread_each
from ganaug.core.integers import positive_int
from ganaug.core.pixels import to_float
from ganaug.core.progress import describe, in_terminal
from ganaug.core.seeding import forked_rng
from ganaug.data import LabelledImages
from ganaug.evaluation.augmentation import BatchTransform
from ganaug.evaluation.classifier import check_logits, predict_probabilities, train_classifier
from ganaug.evaluation.statistics import balanced_accuracy
from ganaug.evaluation.study import Arm, Study

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_MOST_ON_WINDOWS = 61  # processes that a pool can wait for there
POLLED = 1.0  # seconds after which a progress bar is told how many images were drawn
PROBED = 16  # images that tell one classifier from another
_VERSION = 5  # of how a cell is computed; raised when that changes, so that old and new cells are never compared


@dataclass(frozen=True)
class Job:
    """A cell to train.

    Attributes:
        study (Study): whose images and generators are trained on.
        arm (Arm): how.
        seed (int): with which seed.
    """

    study: Study
    arm: Arm
    seed: int


@dataclass(frozen=True)
class Cell:
    """What one trained classifier says of N held-out images.

    Attributes:
        predicted (Tensor): int64 (N,), the most likely classes.
        confidence (Tensor): float32 (N,), their softmax probabilities.
        seconds (float): that drawing, training and asking took.
    """

    predicted: Tensor
    confidence: Tensor
    seconds: float


@dataclass(frozen=True)
class Answers:
    """What the classifiers of an arm, one for each of S seeds, say of N held-out images.

    Attributes:
        targets (Tensor): int64 (N,), the right classes.
        num_classes (int): K.
        predicted (Tensor): int64 (S, N), the most likely classes.
        confidence (Tensor): float32 (S, N), their softmax probabilities.
        seconds (tuple of float): that each cell took.
    """

    targets: Tensor
    num_classes: int
    predicted: Tensor
    confidence: Tensor
    seconds: tuple[float, ...]

    @cached_property
    def correct(self) -> Tensor:
        """Which images each classifier got right, bool (S, N)."""
        return self.predicted == self.targets

    @cached_property
    def scores(self) -> Tensor:
        """Balanced accuracy of each classifier, float64 (S,), in [0, 1]."""
        return balanced_accuracy(self.correct, self.targets, self.num_classes)

    def of(self, images: slice | Tensor) -> Answers:
        """The same classifiers' answers on some of the images."""
        return replace(
            self,
            targets=self.targets[images],
            predicted=self.predicted[:, images],
            confidence=self.confidence[:, images],
        )

    def first(self, seeds: int) -> Answers:
        """The answers of the first classifiers alone."""
        return replace(
            self,
            predicted=self.predicted[:seeds],
            confidence=self.confidence[:seeds],
            seconds=self.seconds[:seeds],
        )


class Cells:
    """Trains cells, several at a time, and keeps them.

    A cell depends on its study, arm and seed alone, not on the number of processes: on a CPU each has one thread.

    Args:
        studies (sequence of Study): those whose cells are trained. They differ in images and generators alone; other
            seeds, arms and numbers of steps may be asked for later.
        folder (str or Path, optional): where finished cells are kept. It may hold cells of other studies, which are
            left alone. Default: ``~/.cache/ganaug/evaluation``
        processes (int): how many cells are trained at a time on a CPU; on an accelerator, one at a time. Default: 1

    Raises:
        ValueError: a generator does not fit the images, the factory makes something other than a classifier of
            their classes, or ``processes`` is not a positive int. This is found out before anything is trained.
    """

    def __init__(self, studies: Sequence[Study], folder: str | Path | None = None, *, processes: int = 1) -> None:
        self.studies = tuple(studies)
        self.folder = Path(folder) if folder else user_cache() / "evaluation"
        self.device = best_device()
        processes = positive_int("processes", processes)
        most = 1 if self.device.type != "cpu" else _MOST_ON_WINDOWS if WINDOWS else processes
        self.processes = min(processes, most)
        makes = _what_it_makes(self.studies[0])  # the studies of one evaluation differ in images and generators alone
        self.used: list[Cell] = []  # all that were asked for, trained now or earlier
        self._bar: Any = None  # that of all rounds
        # Fingerprints of generators draw images, which takes a while. The first study that has one stands for all: the
        # images that others vary are their training images, which name their cells anyway.
        drawn = {
            id(each): (study, name) for study in reversed(self.studies) for name, each in study.generators.items()
        }
        generators = {key: study.sampler(name).fingerprint for key, (study, name) in drawn.items()}
        self._names = {_of_what(study): _Names.of(study, makes, generators, self.device) for study in self.studies}

    def run(self, jobs: Sequence[Job], title: str) -> list[Cell]:
        """Train what has not been trained yet, with a progress bar.

        Args:
            jobs (sequence of Job): what to train; of the studies that were given.
            title (str): what they are, for the bar.

        Returns:
            list of Cell: one for each job.

        Raises:
            InputError: the factory does not make a classifier of these classes.
            OSError: the folder cannot be written to.
        """
        cells = [self.kept(job) for job in jobs]
        missing = [index for index, cell in enumerate(cells) if cell is None]
        with (
            TemporaryDirectory(prefix="ganaug-") as pools,  # generated images are not kept: they take more room
            self._shown(title, len(jobs), done=len(jobs) - len(missing)) as bar,
            # Closed at once on an error here; else torch would keep to one thread while the traceback is kept.
            closing(self._train([jobs[index] for index in missing], Path(pools), partial(_tell, bar))) as training,
        ):
            for number, cell in training:
                job = jobs[missing[number]]
                self._write(job, cell)
                cells[missing[number]] = cell
                bar.set_postfix_str(f"{job.arm.name}, seed {job.seed}")
                bar.update()
        found = [cell for cell in cells if cell is not None]
        self.used += found
        return found

    @contextmanager
    def one_bar(self, most: int | None = None) -> Iterator[None]:
        """A context whose rounds share a progress bar.

        Args:
            most (int, optional): about how many cells all rounds have, if there are as many as there may be. Default:
                not known, so the bar counts them and shows no share
        """
        with tqdm(total=most, unit="classifier", smoothing=0.05) as self._bar:
            try:
                yield
                if most is not None:  # the rounds ended earlier
                    self._bar.total = self._bar.n
                    self._bar.refresh()
            finally:
                self._bar = None

    @contextmanager
    def _shown(self, title: str, jobs: int, *, done: int) -> Iterator[Any]:
        """The progress bar with a round more."""
        if self._bar is None:
            with self.one_bar(jobs), self._shown(title, jobs, done=done) as bar:
                yield bar
            return
        if self._bar.total is not None:
            self._bar.total = max(self._bar.total, self._bar.n + jobs)
        self._bar.initial += done  # which says nothing about the pace
        self._bar.n += done
        describe(self._bar, title)
        yield self._bar

    def _train(
        self, jobs: Sequence[Job], pools: Path, tell: Callable[[int], None]
    ) -> Generator[tuple[int, Cell], None, None]:
        """Train cells, and tell how many images were drawn for them so far."""
        if self.processes == 1 or len(jobs) < 2:
            drawn = 0

            def count(more: int) -> None:
                nonlocal drawn
                drawn += more
                tell(drawn)

            with self._threads():
                yield from ((number, run_cell(job, pools, count)) for number, job in enumerate(jobs))
            return
        spawn = multiprocessing.get_context("spawn")
        counter = spawn.Value("q", 0)
        with ProcessPoolExecutor(min(self.processes, len(jobs)), spawn, _start_worker, (jobs, pools, counter)) as pool:
            with self._main_left_out():
                running = {pool.submit(_run_in_worker, number): number for number in range(len(jobs))}
            try:
                waiting: set[Future[Cell]] = set(running)
                told = 0
                while waiting:
                    finished, waiting = wait(waiting, POLLED, FIRST_COMPLETED)
                    if counter.value > told:
                        tell(told := counter.value)
                    for future in finished:
                        yield running[future], future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    @contextmanager
    def _threads(self) -> Iterator[None]:
        with one_thread_each() as threads:
            # With an accelerator, the CPU only prepares the batches, and may do so with all its threads.
            torch.set_num_threads(1 if self.device.type == "cpu" else threads)
            yield

    def try_out(self, work: Callable[[], Result]) -> list[Result]:
        """Do something once in each of the processes that train cells, in all at the same time.

        Args:
            work (callable): what to do; with several processes it must be picklable.

        Returns:
            list: what it returned in each.
        """
        if self.processes == 1:
            with self._threads():
                return [work()]
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.processes, spawn, _start_worker, ([], Path(), None)) as pool:
            with self._main_left_out():
                answers = [pool.submit(work) for _ in range(self.processes)]
            return [each.result() for each in answers]

    @contextmanager
    def _main_left_out(self) -> Iterator[None]:
        """Let processes that start inside not run the user's script once more, so that it needs no guard.

        A new process imports the program's own file. It must where a classifier or generator is defined there.
        """
        first = self.studies[0]
        own = first.factory, first.accept, *(each for study in self.studies for each in study.generators.values())
        if any(b"__main__" in pickle.dumps(each) for each in own):
            yield
            return
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main

    def path(self, job: Job) -> Path:
        """File of a cell, named by everything that it depends on."""
        return self.folder / f"{self._names[_of_what(job.study)].of_cell(job.arm, job.seed)}.safetensors"

    def kept(self, job: Job) -> Cell | None:
        """A finished cell; None if there is none, or its file is damaged."""
        path = self.path(job)
        try:
            found = read_tensors(path)
            return Cell(found["predicted"].long(), found["confidence"], float(found["seconds"]))
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError) as error:
            logger.warning("%s cannot be read (%s); this cell is trained again", path, error)
            return None

    def _write(self, job: Job, cell: Cell) -> None:
        tensors = {
            "predicted": cell.predicted.to(torch.int32),
            "confidence": cell.confidence,
            "seconds": torch.tensor(cell.seconds, dtype=torch.float64),
        }
        with atomic_path(self.path(job)) as path:
            write_tensors(path, tensors, {"arm": job.arm.name, "seed": str(job.seed)})


class TrainsCells(Protocol):
    """What :class:`Cells` is to a study."""

    processes: int
    used: list[Cell]

    def run(self, jobs: Sequence[Job], title: str) -> list[Cell]:
        """The cell of each job."""


def _of_what(study: Study) -> tuple[int, ...]:
    """What tells the studies of one evaluation apart: their images and generators."""
    return (id(study.train), id(study.held_out), *map(id, study.generators.values()))


@dataclass(frozen=True)
class _Names:
    """What the cells of a study are named by: fingerprints of all that they depend on."""

    common: str
    generators: Mapping[str, str]
    extra: str | None

    @classmethod
    def of(cls, study: Study, makes: Sequence[Any], generators: Mapping[int, str], device: torch.device) -> _Names:
        common = fingerprints.of_values(
            [_VERSION, version("ganaug"), torch.__version__],
            study.train.fingerprint,
            study.held_out.fingerprint,
            [study.settings.batch_size, study.settings.horizontal_flip],
            fingerprints.of_callable(study.factory),
            *makes,
            [device.type, has_bf16(device)],
        )
        named = {name: generators[id(each)] for name, each in study.generators.items()}
        return cls(common, named, study.extra.fingerprint if study.extra else None)

    def of_cell(self, arm: Arm, seed: int) -> str:
        own = {key: value for key, value in vars(arm).items() if key not in ("name", "generator")}
        source = self.generators[arm.generator] if arm.generator else None
        return fingerprints.of_values(self.common, own, source, self.extra if arm.scale > 1 else None, seed)[:32]


def answers_of(cells: Sequence[Cell], held_out: LabelledImages) -> Answers:
    """The answers of cells that were asked about the same held-out images."""
    return Answers(
        targets=held_out.targets,
        num_classes=len(held_out.classes),
        predicted=torch.stack([cell.predicted for cell in cells]),
        confidence=torch.stack([cell.confidence for cell in cells]),
        seconds=tuple(cell.seconds for cell in cells),
    )


def untrained(study: Study) -> nn.Module:
    """A classifier of a study, as its factory makes it with seed 0.

    Raises:
        InputError: the factory does not take the arguments of one, or what it makes is no module.
    """
    data = study.held_out
    try:
        inspect.signature(study.factory).bind(len(data.classes), channels=data.channels, image_size=data.image_size)
    except ValueError:
        pass  # it does not say what it takes
    except TypeError as error:
        raise InputError(
            "the classifier's factory is called with the number of classes, and with channels and image_size by "
            f"keyword, but it does not take these: {error}"
        ) from error
    with one_thread_each(), usual_defaults(), forked_rng(0, torch.device("cpu")):
        classifier = study.factory(len(data.classes), channels=data.channels, image_size=data.image_size)
    if not isinstance(classifier, nn.Module):
        raise InputError(f"the classifier's factory must make a torch module, got {type(classifier).__name__}")
    return classifier


def own_augmentation(study: Study) -> BatchTransform | None:
    """What a study's classifier augments batches with, tried on a few images; None if it brings nothing with it.

    Raises:
        InputError: it is not callable, or makes something other than such a batch.
    """
    augment = getattr(untrained(study), "augmentation", None)
    if augment is None:
        return None
    if not callable(augment):
        raise InputError(f"the classifier's augmentation must be callable, got {type(augment).__name__}")
    images = study.held_out.images[:PROBED]
    with one_thread_each(), usual_defaults(), forked_rng(0, torch.device("cpu")):
        made = augment(images.clone())
    found = (made.dtype, tuple(made.shape)) if isinstance(made, Tensor) else type(made).__name__
    if found != (wanted := (torch.uint8, tuple(images.shape))):
        raise InputError(f"the classifier's augmentation must return images as it is given, {wanted}, not {found}")
    return cast(BatchTransform, augment)


def _what_it_makes(study: Study) -> list[Any]:
    """What tells the factory's classifier from one that it made before its code was edited: untrained, on the CPU."""
    data, cpu = study.held_out, torch.device("cpu")
    classifier = untrained(study)
    found = [fingerprints.of_source(study.factory, classifier), fingerprints.of_module(classifier)]
    with one_thread_each(), usual_defaults(), forked_rng(0, cpu):
        try:
            with torch.no_grad():
                said = classifier.to(cpu).eval()(to_float(data.images[:PROBED]))
        except (RuntimeError, ValueError, AssertionError):
            return found  # it computes nothing on a CPU
    check_logits(said, len(data.classes))
    return [*found, said]


def _tell(bar: Any, drawn: int) -> None:
    """Say in a progress bar how many images were drawn, until a classifier is trained; in a terminal alone."""
    if drawn and in_terminal():
        bar.set_postfix_str(f"{drawn:,} images drawn")


def run_cell(job: Job, pools: Path, drawn: Callable[[int], object] | None = None) -> Cell:
    """Train a classifier, and ask it about the held-out images.

    Args:
        job (Job): what to train.
        pools (Path): folder in which generated images are kept for the other arms.
        drawn (callable, optional): see :func:`ganaug.sampling.sample`. Default: nothing is called
    """
    started = time.monotonic()
    study, arm = job.study, job.arm
    images, weights = study.training_set(arm, job.seed, pools, drawn=drawn)
    classifier = train_classifier(
        images,
        study.factory,
        steps=arm.steps,
        batch_size=study.settings.batch_size,
        learning_rate_factor=arm.learning_rate_factor,
        seed=job.seed,
        weights=weights,
        class_weights=study.class_weights(arm),
        augment=study.augmentation(arm),
        mix=arm.mix,
        device=best_device(),
    )
    confidence, predicted = predict_probabilities(classifier, study.held_out.images).max(1)
    return Cell(predicted, confidence, time.monotonic() - started)


_jobs: Sequence[Job]  # of a worker process, sent once
_pools: Path
_counter: Any  # of images that all workers have drawn


def _start_worker(jobs: Sequence[Job], pools: Path, counter: Any) -> None:
    global _jobs, _pools, _counter
    _jobs, _pools, _counter = jobs, pools, counter
    torch.set_num_threads(1)
    # If the parent is killed, its workers would wait for work forever; so each watches the parent.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(number: int) -> Cell:
    return run_cell(_jobs[number], _pools, _count)


def _count(drawn: int) -> None:
    with _counter.get_lock():
        _counter.value += drawn
