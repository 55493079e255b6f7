"""A training run from the first step to the saved generator."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from tqdm import tqdm

from ganaug import grids
from ganaug.generators.base import Generator
from ganaug.training.checkpoints import Checkpoint, Checkpoints
from ganaug.training.collapse import signs_of_failure
from ganaug.training.divergence import Recovery
from ganaug.training.interruption import StoppedError, StopSignals
from ganaug.training.monitors import RunningMeans
from ganaug.training.resume import run_settings
from ganaug.training.run_folder import RunFolder
from ganaug.training.trackers import Trackers
from ganaug.training.trainer import Trainer

logger = logging.getLogger(__name__)

ON_PROGRESS_BAR = ("loss", "D_loss", "G_loss", "D(x)", "D(G(z))_before", "D(G(z))_after", "class_accuracy_fake")


def train(trainer: Trainer, folder: RunFolder | None, *, resume: Checkpoint | None = None) -> Generator:
    """Train to the end, with monitors, grids and checkpoints on the way, and save the averaged generator.

    Where there are checkpoints, the first SIGTERM or SIGINT ends training at the next step, with one more; a second
    ends the program at once.

    Args:
        trainer (Trainer): as it starts.
        folder (RunFolder, optional): where grids, metrics, checkpoints and the generator go; None writes nothing, as
            on all processes but the main one.
        resume (Checkpoint, optional): to go on from, given to all processes; see :func:`check_same_run`. Default:
            start anew

    Returns:
        Generator: the averaged generator.

    Raises:
        FloatingPointError: gradients are not finite, also after going back to the last checkpoint with half the
            learning rate.
        StoppedError: a signal came.
        LoadError: the checkpoint is of other networks.
        OSError: the folder can no longer be written to.
    """
    accelerator, settings = trainer.accelerator, trainer.settings
    monitors, watch, recovery = RunningMeans(accelerator), _Watch(trainer, folder, resume), Recovery(trainer, resume)
    first = step = 0 if resume is None else resume.step
    if resume is not None:
        trainer.load_state(resume.state())
    if first == 0:
        watch.show(grids.real_grid(trainer.data), "real", "real", 0)
    # The dropout seeds move torch's global state; give it back as it was.
    with (
        torch.random.fork_rng(),
        _progress_bar(trainer, step) as bar,
        StopSignals(accelerator, handle=settings.checkpointing_kimg is not None) as signals,
    ):
        while step < trainer.total_steps:
            monitors.add(trainer.step(step), trainer.skipped)
            bar.update(trainer.images_per_step)
            if settings.compile and step == first:
                bar.write(f"the first step, which compiles the networks, took {watch.seconds:.0f} s")
            step += 1
            due, signal = _due(trainer, step), signals.received()
            if not due and not signal:
                continue
            watch.report(step, monitors.take(), bar, grid="grid" in due)
            skipped = monitors.skipped_in_a_row()
            if skipped and skipped >= min(Recovery.PATIENCE, trainer.total_steps - 1):
                step = recovery.roll_back(watch.saved, watch.kimg(step), skipped).step
                monitors = RunningMeans(accelerator)
                bar.reset()
                bar.update(step * trainer.images_per_step)
            elif not skipped and ("checkpoint" in due or signal):
                watch.save_checkpoint(step, rollbacks=recovery.rollbacks)
            if signal:
                watch.trackers.finish()
                accelerator.wait_for_everyone()  # one that ended earlier would take the others with it
                raise StoppedError(signal, watch.kimg(step), watch.saved)

    generator = trainer.averaged_generator
    generator.info = run_facts(trainer, watch.latest, seconds=watch.seconds)
    # One that is trained further has seen the images of its earlier training too.
    earlier = [] if generator.seen_images is None else [generator.seen_images]
    generator.seen_images = torch.cat([trainer.data.image_hashes, *earlier]).unique()
    if folder:
        generator.save_pretrained(folder.path)
    watch.trackers.finish()
    accelerator.wait_for_everyone()
    return generator


class _Watch:
    """What a run tells of itself: metrics, grids, checkpoints, on the main process alone.

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

    def kimg(self, step: int) -> float:
        """Thousands of real images that so many steps show."""
        return step * self._trainer.images_per_step / 1000

    def report(self, step: int, monitors: dict[str, float], bar: Any, *, grid: bool) -> None:
        """Show and log the monitors, with a sample grid where one is due."""
        seen, trainer = step * self._trainer.images_per_step, self._trainer
        _check_finite(monitors, seen)
        bar.set_postfix({name: f"{monitors[name]:.3g}" for name in ON_PROGRESS_BAR if name in monitors})
        self.latest = monitors
        if self._folder:
            if grid:
                self.latest = monitors | trainer.closer_look()
                for sign in signs_of_failure(self.latest):
                    logger.warning("after %.1f kimg %s", seen / 1000, sign)
                picture = grids.sample_grid(trainer.averaged_generator, rows=7)
                self.show(picture, f"{seen // 1000:06d}kimg", "generated", seen)
            self._folder.append_metrics({"kimg": seen / 1000, "seconds": round(self.seconds, 1), **self.latest})
        self.trackers.log(self.latest, seen)

    def show(self, picture: Image, file_name: str, tag: str, seen: int) -> None:
        """Save a picture in the run's folder, and show it to the trackers that take pictures."""
        if self._folder:
            self._folder.save_picture(file_name, picture)
            self.trackers.show(tag, picture, seen)

    def save_checkpoint(self, step: int, *, rollbacks: int) -> None:
        """Write a checkpoint; where that fails, the last one is still there, and training goes on."""
        if not self._checkpoints:
            return
        facts = {
            "settings": run_settings(self._trainer),
            "kimg": self.kimg(step),
            "seconds": self.seconds,
            "monitors": self.latest,
            "rollbacks": rollbacks,
        }
        try:
            self.saved = self._checkpoints.save(step, self._trainer.state(), facts)
        except OSError as error:
            logger.warning("a checkpoint could not be written: %s. The last one is %s", error, self.saved)


def _due(trainer: Trainer, step: int) -> set[str]:
    """What is to be done after so many steps."""
    settings, last = trainer.settings, step == trainer.total_steps
    intervals = {"log": settings.log_kimg, "grid": settings.sample_kimg, "checkpoint": settings.checkpointing_kimg}
    seen, shown = step * trainer.images_per_step, trainer.images_per_step
    return {
        name
        for name, kimg in intervals.items()
        if kimg is not None and (last or seen // (1000 * kimg) > (seen - shown) // (1000 * kimg))
    }


def run_facts(trainer: Trainer, monitors: dict[str, float], *, seconds: float) -> dict[str, Any]:
    """What ``config.json`` and the card say of data and training."""
    data, accelerator = trainer.data, trainer.accelerator
    return {
        "dataset": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "num_images": len(data),
            "class_counts": dict(zip(data.classes, data.class_counts, strict=True)),
        },
        "training": {
            **asdict(trainer.settings),
            **trainer.facts(),
            "mixed_precision": accelerator.mixed_precision,
            "num_processes": accelerator.num_processes,
            "device": accelerator.device.type,
            "minutes": round(seconds / 60, 1),
            **{f"last_{name}": round(value, 4) for name, value in monitors.items()},
        },
    }


def _progress_bar(trainer: Trainer, first: int) -> Any:
    return tqdm(
        initial=first * trainer.images_per_step,
        total=trainer.total_steps * trainer.images_per_step,
        unit="img",
        unit_scale=True,
        disable=not trainer.accelerator.is_local_main_process,
    )


def _check_finite(monitors: dict[str, float], seen: int) -> None:
    if not all(math.isfinite(value) for value in monitors.values()):
        raise FloatingPointError(
            f"training diverged after {seen / 1000:.1f} kimg: {monitors}. "
            "Try a smaller learning_rate, or mixed_precision no"
        )
