"""What a run shows and writes while it trains: metrics, pictures, checkpoints, trackers."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from PIL.Image import Image
from torch import Tensor

from ganaug.core.files import naming
from ganaug.data import grids
from ganaug.generators.base import Generator
from ganaug.training.checkpoints import Checkpoint, Checkpoints, Progress, run_settings
from ganaug.training.failure import signs_of_failure
from ganaug.training.run_folder import RunFolder
from ganaug.training.selection import Selection
from ganaug.training.trainer import Trainer

logger = logging.getLogger(__name__)

ROWS = 7  # of the grids of a run, of real images as of generated ones
FINAL_SCORE = "chosen_score"  # of the generator that a run ends with, as in config.json
ON_PROGRESS_BAR = (
    "loss",
    "distance",
    "D_loss",
    "G_loss",
    "D(x)",
    "D(G(z))_before",
    "D(G(z))_after",
    "class_accuracy_fake",
)


class RunningMeans:
    """Means of scalars over steps and processes, kept on the device until they are read.

    Args:
        accelerator (Accelerator): the processes.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self._sums: dict[str, Tensor] = {}
        self._steps: dict[tuple[str, ...], Tensor] = {}  # by their monitors: phases of a training have their own
        self._skipped = torch.zeros((), device=accelerator.device)
        self._in_a_row = torch.zeros((), device=accelerator.device)

    def add(self, scalars: dict[str, Tensor], skipped: Tensor) -> None:
        """Add the scalars of one step, or only count it if it was skipped (1, else 0)."""
        for name, value in scalars.items():
            used = torch.where(skipped > 0, 0, value)
            self._sums[name] = self._sums[name] + used if name in self._sums else used
        monitors = tuple(scalars)
        self._steps[monitors] = self._steps.get(monitors, torch.zeros_like(skipped)) + 1 - skipped
        self._skipped = self._skipped + skipped
        self._in_a_row = (self._in_a_row + skipped) * skipped

    def take(self) -> dict[str, float]:
        """The means since the last call, empty if all steps were skipped. All processes must call this together.

        If any steps were skipped, ``skipped_steps`` is how many.
        """
        totals = torch.stack([*self._sums.values(), *self._steps.values(), self._skipped])
        *values, skipped = self.accelerator.reduce(totals, reduction="mean").tolist()
        sums = dict(zip(self._sums, values, strict=False))
        steps = dict(zip(self._steps, values[len(sums) :], strict=True))
        counts = {name: sum(count for monitors, count in steps.items() if name in monitors) for name in sums}
        means = {name: value / counts[name] for name, value in sums.items() if counts[name]}
        self._sums, self._steps, self._skipped = {}, {}, torch.zeros_like(self._skipped)
        return means | ({"skipped_steps": skipped} if skipped else {})

    def skipped_in_a_row(self) -> int:
        """How many of the latest steps in a row were skipped, the same on all processes; waits for the device."""
        return int(self._in_a_row)


class Trackers:
    """accelerate's trackers. If one fails, a warning says so and the run continues without it.

    Args:
        accelerator (Accelerator): has the trackers that were asked for.
        folder (Path, optional): where trackers that write files write them.
        hyperparameters (mapping): what sets this run apart from others, which trackers show: bool, int, float, str,
            sequences of them, and None, which is left out.
    """

    def __init__(self, accelerator: Accelerator, folder: Path | None, hyperparameters: Mapping[str, Any]) -> None:
        self._accelerator, self._folder = accelerator, folder
        if folder:
            accelerator.project_configuration.logging_dir = str(folder)
        try:
            accelerator.init_trackers("ganaug")
        except Exception as error:  # a tracker may raise anything
            _warn(", ".join(str(getattr(kind, "name", kind)) for kind in accelerator.log_with), error)
            accelerator.trackers.clear()
        plain = {name: _plain(value) for name, value in hyperparameters.items() if value is not None}
        self._each(lambda tracker: self._describe(tracker, plain))

    def _describe(self, tracker: Any, hyperparameters: dict[str, bool | int | float | str]) -> None:
        """Tell a tracker the hyperparameters of the run."""
        if tracker.name != "tensorboard" or find_spec("tensorboard") is None:  # else it is tensorboardX
            tracker.store_init_configuration(hyperparameters)
        elif self._accelerator.is_main_process:
            from torch.utils.tensorboard.summary import hparams

            # accelerate would make another run of them, in which the tab HParams finds no metric.
            experiment, start, _ = hparams(hyperparameters, {FINAL_SCORE: None})
            for summary in (experiment, start):
                tracker.writer.file_writer.add_summary(summary)

    def log(self, values: dict[str, float], seen: int) -> None:
        """Log values; ``seen`` is the number of real images shown so far."""
        self._each(lambda tracker: tracker.log(values, step=seen))

    def show(self, tag: str, picture: Image, seen: int) -> None:
        """Log a picture to the trackers that take pictures."""

        def show(tracker: Any) -> None:
            if tracker.name == "tensorboard":  # takes arrays (N, C, H, W)
                tracker.log_images({tag: np.asarray(picture.convert("RGB")).transpose(2, 0, 1)[None]}, step=seen)
            elif hasattr(tracker, "log_images"):
                tracker.log_images({tag: [picture]}, step=seen)

        self._each(show)

    def finish(self) -> None:
        """Let the trackers write what is left, and close them."""
        self._each(lambda tracker: tracker.finish())
        self._accelerator.trackers.clear()

    def _each(self, action: Callable[[Any], None]) -> None:
        for tracker in list(self._accelerator.trackers):
            try:
                with naming(self._folder) if self._folder else nullcontext():
                    action(tracker)
            except Exception as error:
                _warn(tracker.name, error)
                self._accelerator.trackers.remove(tracker)


def _plain(value: Any) -> bool | int | float | str:
    """A value as trackers take it: none of them takes a list."""
    return value if isinstance(value, bool | int | float | str) else ", ".join(map(str, value))


def _warn(name: str, error: Exception) -> None:
    logger.warning(
        "the tracker %s failed, and the run continues without it: %s: %s", name, type(error).__name__, error
    )


@dataclass(frozen=True)
class TrainingEvent:
    """What a hook of :func:`ganaug.training.train` is given.

    Attributes:
        step (int): number of steps taken.
        kimg (float): thousands of real images shown.
        generator (Generator): a copy of the averaged generator, on the device that it is trained on, in evaluation
            mode. Training goes on whatever is done with it.
        monitors (dict): the latest values by name, as in ``training/metrics.jsonl``.
        path (Path, optional): the sample grid, a PNG file, or the folder of the checkpoint; None for a grid of a run
            that writes nothing.
    """

    step: int
    kimg: float
    generator: Generator
    monitors: dict[str, float]
    path: Path | None


Hook = Callable[[TrainingEvent], object]


class Watch:
    """Writes metrics, grids and checkpoints of a run, on the main process only.

    Args:
        trainer (Trainer): what is watched.
        folder (RunFolder, optional): where files go; None writes nothing.
        resume (Checkpoint, optional): where the run resumes. Default: it starts from scratch

    Attributes:
        latest (dict): the latest values of the monitors.
        grid (Path, optional): the last sample grid.
        saved (Path, optional): the last checkpoint.
    """

    def __init__(self, trainer: Trainer, folder: RunFolder | None, resume: Checkpoint | None) -> None:
        self._trainer, self._folder = trainer, folder
        self.trackers = Trackers(
            trainer.accelerator,
            folder.training / "logs" if folder else None,
            {
                "architecture": trainer.bare_generator.architecture,
                "num_images": len(trainer.data),
                **asdict(trainer.settings),
                **trainer.facts(),
            },
        )
        self._started = time.monotonic()
        self.latest: dict[str, float] = {}
        self.grid: Path | None = None
        self.saved: Path | None = None
        if resume is not None:
            progress = Progress.of(resume)
            self._started -= progress.seconds
            self.latest, self.saved = progress.monitors, resume.path
        self._checkpoints: Checkpoints | None = None
        if folder and trainer.settings.checkpointing_kimg is not None:
            self._checkpoints = Checkpoints(folder.checkpoints, trainer.settings.checkpoints_total_limit)

    @property
    def seconds(self) -> float:
        """How long the run has trained, resumed parts included."""
        return time.monotonic() - self._started

    def closer_look(self, step: int) -> tuple[dict[str, float], list[str]]:
        """The monitors that take longer, and the signs of failure in them, which are logged as warnings."""
        if not self._trainer.accelerator.is_main_process:
            return {}, []
        found = self._trainer.closer_look()
        signs = signs_of_failure(found)
        for sign in signs:
            logger.warning("after %.1f kimg %s", self._trainer.kimg(step), sign)
        return found, signs

    def report(self, step: int, monitors: dict[str, float], bar: Any, *, grid: bool) -> None:
        """Show and log the monitors, with a sample grid if one is due.

        Raises:
            FloatingPointError: a monitor is not finite.
        """
        seen = step * self._trainer.images_per_step
        _check_finite(monitors, seen)
        bar.set_postfix({name: f"{monitors[name]:.3g}" for name in ON_PROGRESS_BAR if name in monitors})
        self.latest = monitors
        if self._folder:
            if grid:
                picture = grids.sample_grid(self._trainer.pictured_generator, rows=ROWS)
                self.grid = self.show(picture, f"{seen // 1000:06d}kimg", "generated", seen)
            self._folder.append_metrics(
                {"kimg": self._trainer.kimg(step), "seconds": round(self.seconds, 1), **monitors}
            )
        self.trackers.log(monitors, seen)

    def phase_after(self, step: int) -> str:
        """What is done after so many steps, in words."""
        return self._trainer.phase(step).name

    def show(self, picture: Image, file_name: str, tag: str, seen: int) -> Path | None:
        """Save a picture in the run's folder, and log it to the trackers that take pictures."""
        if not self._folder:
            return None
        path = self._folder.save_picture(file_name, picture)
        self.trackers.show(tag, picture, seen)
        return path

    def tell(self, hook: Hook, step: int, path: Path | None) -> None:
        """Call a hook, on the main process."""
        if self._trainer.accelerator.is_main_process:
            generator = copy.deepcopy(self._trainer.averaged_generator).eval()
            hook(TrainingEvent(step, self._trainer.kimg(step), generator, dict(self.latest), path))

    def save_checkpoint(self, step: int, selection: Selection, *, rollbacks: int) -> bool:
        """Write a checkpoint, if the settings ask for any, and say whether there is a new one.

        If it cannot be written, a warning says so and training continues; the last one is still there.
        """
        if not self._checkpoints:
            return False
        progress = Progress(
            settings=run_settings(self._trainer),
            kimg=self._trainer.kimg(step),
            seconds=self.seconds,
            monitors=self.latest,
            rollbacks=rollbacks,
            candidates=selection.candidates,
            held_out=None if selection.held_out is None else selection.held_out.fingerprint,
        )
        try:
            self.saved = self._checkpoints.save(step, self._trainer.state() | selection.state(), asdict(progress))
        except OSError as error:
            logger.warning("a checkpoint could not be written: %s. The last one is %s", error, self.saved)
            return False
        return True


def _check_finite(monitors: dict[str, float], seen: int) -> None:
    if not all(math.isfinite(value) for value in monitors.values()):
        raise FloatingPointError(
            f"training diverged after {seen / 1000:.1f} kimg: {monitors}. "
            "Try a smaller learning_rate, or mixed_precision no"
        )
