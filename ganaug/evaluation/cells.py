"""Cells: one arm trained with one seed. Each is kept on disk once it is done, so that nothing is trained twice."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

from ganaug.core import fingerprints
from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError
from ganaug.core.files import atomic_path, user_cache, write_tensors
from ganaug.core.hardware import best_device, has_bf16, one_thread_each
from ganaug.core.pixels import to_float
from ganaug.core.seeding import forked_rng
from ganaug.evaluation.classifier import check_logits, predict_probabilities, train_classifier
from ganaug.evaluation.statistics import balanced_accuracy
from ganaug.evaluation.study import Arm, Study

logger = logging.getLogger(__name__)

PROBED = 16  # images that tell one classifier from another
_VERSION = 3  # of how a cell is computed; raised when that changes, so that old and new cells are never compared


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

    def of(self, images: slice) -> Answers:
        """The same classifiers' answers on some of the images."""
        return replace(
            self,
            targets=self.targets[images],
            predicted=self.predicted[:, images],
            confidence=self.confidence[:, images],
        )


class Cells:
    """Trains the cells of a study, several at a time.

    A cell depends on its arm, its seed and the study alone, not on the number of processes: on a CPU each has one
    thread.

    Args:
        study (Study): what is compared.
        folder (str or Path, optional): where finished cells are kept. It may hold cells of other studies, which are
            left alone. Default: ``~/.cache/ganaug/evaluation``
        processes (int): how many cells are trained at a time on a CPU; on an accelerator, one at a time. Default: 1

    Raises:
        ValueError: a generator does not fit the images, or the factory makes something other than a classifier of
            their classes. This is found out before anything is trained.
    """

    def __init__(self, study: Study, folder: str | Path | None = None, *, processes: int = 1) -> None:
        self._generators = {name: study.sampler(name).fingerprint for name in study.generators}
        self.study = study
        self.folder = Path(folder) if folder else user_cache() / "evaluation"
        self.device = best_device()
        self.processes = processes if self.device.type == "cpu" else 1
        self._common = fingerprints.of_values(
            [_VERSION, version("ganaug"), torch.__version__],
            study.train.fingerprint,
            study.held_out.fingerprint,
            [study.settings.steps, study.settings.batch_size, study.settings.learning_rate],
            study.settings.horizontal_flip,
            fingerprints.of_callable(study.factory),
            *_what_it_makes(study),
            [self.device.type, has_bf16(self.device)],
        )

    def run(self, arms: Sequence[Arm], title: str) -> dict[str, Answers]:
        """Train what has not been trained yet, with a progress bar.

        Args:
            arms (sequence of Arm): what to train, each with every seed.
            title (str): what they are, for the bar.

        Returns:
            dict: arm name to the answers of its classifiers, in the order of the seeds.

        Raises:
            InputError: the factory does not make a classifier of these classes.
            OSError: the folder cannot be written to.
        """
        cells = [(arm, seed) for arm in arms for seed in range(self.study.settings.seeds)]
        missing = [cell for cell in cells if self._read(*cell) is None]
        done = len(cells) - len(missing)
        with (
            TemporaryDirectory(prefix="ganaug-") as pools,  # generated images are not kept: they take more room
            # Closed at once on an error here; else torch would keep to one thread while the traceback is kept.
            closing(self._train(missing, Path(pools))) as training,
            tqdm(total=len(cells), initial=done, unit="cell", desc=title, smoothing=0.05) as bar,
        ):
            for (arm, seed), cell in training:
                self._write(arm, seed, cell)
                bar.set_postfix_str(f"{arm.name}, seed {seed}")
                bar.update()
        return {arm.name: self._answers(arm) for arm in arms}

    def _answers(self, arm: Arm) -> Answers:
        cells = []
        for seed in range(self.study.settings.seeds):
            cell = self._read(arm, seed)
            if cell is None:
                raise OSError(f"{self.path(arm, seed)} was removed or changed during the evaluation. Run it again")
            cells.append(cell)
        return Answers(
            targets=self.study.held_out.targets,
            num_classes=len(self.study.held_out.classes),
            predicted=torch.stack([cell.predicted for cell in cells]),
            confidence=torch.stack([cell.confidence for cell in cells]),
            seconds=tuple(cell.seconds for cell in cells),
        )

    def _train(
        self, cells: Sequence[tuple[Arm, int]], pools: Path
    ) -> Generator[tuple[tuple[Arm, int], Cell], None, None]:
        if self.processes == 1 or len(cells) < 2:
            with one_thread_each() as threads:
                # With an accelerator, the CPU only prepares the batches, and may do so with all its threads.
                torch.set_num_threads(1 if self.device.type == "cpu" else threads)
                yield from ((cell, run_cell(self.study, *cell, pools)) for cell in cells)
            return
        with ProcessPoolExecutor(
            min(self.processes, len(cells)), multiprocessing.get_context("spawn"), _start_worker, (self.study, pools)
        ) as pool:
            running = {pool.submit(_run_in_worker, *cell): cell for cell in cells}
            try:
                for future in as_completed(running):
                    yield running[future], future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def path(self, arm: Arm, seed: int) -> Path:
        """File of a cell, named by everything that it depends on."""
        own = {key: value for key, value in asdict(arm).items() if key not in ("name", "generator")}
        source = self._generators[arm.generator] if arm.generator else None
        extra = self.study.extra.fingerprint if self.study.extra and arm.scale > 1 else None
        return self.folder / f"{fingerprints.of_values(self._common, own, source, extra, seed)[:32]}.safetensors"

    def _read(self, arm: Arm, seed: int) -> Cell | None:
        """A finished cell; None if there is none, or its file is damaged."""
        try:
            found = load_file(self.path(arm, seed))
            return Cell(found["predicted"].long(), found["confidence"], float(found["seconds"]))
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError) as error:
            logger.warning("%s cannot be read (%s); this cell is trained again", self.path(arm, seed), error)
            return None

    def _write(self, arm: Arm, seed: int, cell: Cell) -> None:
        tensors = {
            "predicted": cell.predicted.to(torch.int32),
            "confidence": cell.confidence,
            "seconds": torch.tensor(cell.seconds),
        }
        with atomic_path(self.path(arm, seed)) as path:
            write_tensors(path, tensors, {"arm": arm.name, "seed": str(seed)})


def _what_it_makes(study: Study) -> list[Any]:
    """What tells the factory's classifier from one that it made before its code was edited: untrained, on the CPU."""
    data, cpu = study.held_out, torch.device("cpu")
    with one_thread_each(), usual_defaults(), forked_rng(0, cpu):
        classifier = study.factory(len(data.classes), channels=data.channels, image_size=data.image_size)
        if not isinstance(classifier, nn.Module):
            raise InputError(f"the classifier's factory must make a torch module, got {type(classifier).__name__}")
        found = [fingerprints.of_source(study.factory, classifier), fingerprints.of_module(classifier)]
        try:
            with torch.no_grad():
                said = classifier.to(cpu).eval()(to_float(data.images[:PROBED]))
        except (RuntimeError, NotImplementedError, ValueError, AssertionError):
            return found  # it computes nothing on a CPU
    check_logits(said, len(data.classes))
    return [*found, said]


def run_cell(study: Study, arm: Arm, seed: int, pools: Path) -> Cell:
    """Train the classifier of one arm with one seed, and ask it about the held-out images.

    Args:
        study (Study), arm (Arm), seed (int): what to train.
        pools (Path): folder in which generated images are kept for the other arms.
    """
    started = time.monotonic()
    images, weights = study.training_set(arm, seed, pools)
    settings = study.settings
    classifier = train_classifier(
        images,
        study.factory,
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=seed,
        weights=weights,
        class_weights=study.class_weights(arm),
        augment=study.augmentation(arm),
        device=best_device(),
    )
    confidence, predicted = predict_probabilities(classifier, study.held_out.images).max(1)
    return Cell(predicted, confidence, time.monotonic() - started)


_study: Study  # of a worker process, sent once
_pools: Path


def _start_worker(study: Study, pools: Path) -> None:
    global _study, _pools
    _study, _pools = study, pools
    torch.set_num_threads(1)
    # If the parent is killed, its workers would wait for work forever; so each watches the parent.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(arm: Arm, seed: int) -> Cell:
    return run_cell(_study, arm, seed, _pools)
