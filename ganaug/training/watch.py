"""What a run tells of itself while it trains: metrics, pictures, checkpoints."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL.Image import Image

from ganaug.data import grids
from ganaug.training.checkpoints import Checkpoint, Checkpoints
from ganaug.training.collapse import signs_of_failure
from ganaug.training.resume import run_settings
from ganaug.training.run_folder import RunFolder
from ganaug.training.selection import Selection
from ganaug.training.trackers import Trackers
from ganaug.training.trainer import Trainer

logger = logging.getLogger(__name__)

ON_PROGRESS_BAR = ("loss", "D_loss", "G_loss", "D(x)", "D(G(z))_before", "D(G(z))_after", "class_accuracy_fake")


class Watch:
    """Metrics, grids and checkpoints of a run, on the main process alone.

    Args:
        trainer (Trainer): that is watched.
        folder (RunFolder, optional): where they go; None writes nothing.
        resume (Checkpoint, optional): that the run goes on from.

    Attributes:
        latest (dict): the last monitors.
        saved (Path, optional): the last checkpoint.
    """

    def __init__(self, trainer: Trainer, folder: RunFolder | None, resume: Checkpoint | None) -> None:
        self._trainer, self._folder = trainer, folder
        self.trackers = Trackers(
            trainer.accelerator, folder.training / "logs" if folder else None, asdict(trainer.settings)
        )
        self._started = time.monotonic()
        self.latest: dict[str, float] = {}
        self.saved: Path | None = None
        if resume is not None:
            self._started -= resume.facts["seconds"]
            self.latest, self.saved = resume.facts["monitors"], resume.path
        self._checkpoints = (
            Checkpoints(folder.checkpoints, trainer.settings.checkpoints_total_limit) if folder else None
        )

    @property
    def seconds(self) -> float:
        """That training took so far."""
        return time.monotonic() - self._started

    def closer_look(self, step: int) -> tuple[dict[str, float], list[str]]:
        """Monitors that take longer, and signs of failure in them, which are warned about."""
        if not self._trainer.accelerator.is_main_process:
            return {}, []
        found = self._trainer.closer_look()
        signs = signs_of_failure(found)
        for sign in signs:
            logger.warning("after %.1f kimg %s", self._trainer.kimg(step), sign)
        return found, signs

    def report(self, step: int, monitors: dict[str, float], bar: Any, *, grid: bool) -> None:
        """Show and log the monitors, with a sample grid where one is due."""
        seen = step * self._trainer.images_per_step
        _check_finite(monitors, seen)
        bar.set_postfix({name: f"{monitors[name]:.3g}" for name in ON_PROGRESS_BAR if name in monitors})
        self.latest = monitors
        if self._folder:
            if grid:
                picture = grids.sample_grid(self._trainer.averaged_generator, rows=7)
                self.show(picture, f"{seen // 1000:06d}kimg", "generated", seen)
            self._folder.append_metrics(
                {"kimg": self._trainer.kimg(step), "seconds": round(self.seconds, 1), **monitors}
            )
        self.trackers.log(monitors, seen)

    def show(self, picture: Image, file_name: str, tag: str, seen: int) -> None:
        """Save a picture in the run's folder, and show it to the trackers that take pictures."""
        if self._folder:
            self._folder.save_picture(file_name, picture)
            self.trackers.show(tag, picture, seen)

    def save_checkpoint(self, step: int, selection: Selection, *, rollbacks: int) -> None:
        """Write a checkpoint; where that fails, the last one is still there, and training goes on."""
        if not self._checkpoints:
            return
        facts = {
            "settings": run_settings(self._trainer),
            "kimg": self._trainer.kimg(step),
            "seconds": self.seconds,
            "monitors": self.latest,
            "rollbacks": rollbacks,
            "candidates": selection.facts(),
        }
        try:
            self.saved = self._checkpoints.save(step, self._trainer.state() | selection.state(), facts)
        except OSError as error:
            logger.warning("a checkpoint could not be written: %s. The last one is %s", error, self.saved)


def _check_finite(monitors: dict[str, float], seen: int) -> None:
    if not all(math.isfinite(value) for value in monitors.values()):
        raise FloatingPointError(
            f"training diverged after {seen / 1000:.1f} kimg: {monitors}. "
            "Try a smaller learning_rate, or mixed_precision no"
        )
