"""A training run from the first step to the saved generator."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from tqdm import tqdm

from ganaug import grids
from ganaug.generators.base import Generator
from ganaug.training.monitors import RunningMeans
from ganaug.training.run_folder import RunFolder
from ganaug.training.trainer import Trainer

ON_PROGRESS_BAR = ("loss", "D_loss", "G_loss", "D(x)", "D(G(z))_before", "D(G(z))_after", "class_accuracy_fake")


def train(trainer: Trainer, folder: RunFolder | None) -> Generator:
    """Train to the end, with monitors and grids on the way, and save the averaged generator.

    Args:
        trainer (Trainer): as it starts.
        folder (RunFolder, optional): where grids, metrics and the generator go; None writes nothing, as on all
            processes but the main one.

    Returns:
        Generator: the averaged generator.

    Raises:
        FloatingPointError: a loss is not finite.
        OSError: the folder can no longer be written to.
    """
    accelerator, settings = trainer.accelerator, trainer.settings
    batch, started = trainer.images_per_step, time.monotonic()
    monitors = RunningMeans(accelerator)
    latest: dict[str, float] = {}
    if folder:
        accelerator.project_configuration.logging_dir = str(folder.training / "logs")
    plain = {k: ", ".join(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items() if v is not None}
    accelerator.init_trackers("ganaug", plain)  # TensorBoard takes no tuples
    if folder:
        _show(grids.real_grid(trainer.data), "real", "real", 0, trainer, folder)
    # The dropout seeds move torch's global state; give it back as it was.
    with torch.random.fork_rng(), _progress_bar(trainer) as bar:
        for step in range(trainer.total_steps):
            monitors.add(trainer.step(step))
            if settings.compile and step == 0:
                bar.write(f"the first step, which compiles the networks, took {time.monotonic() - started:.0f} s")
            bar.update(batch)
            seen, last = (step + 1) * batch, step + 1 == trainer.total_steps
            show = last or _crosses(seen, batch, settings.sample_kimg)
            if show or _crosses(seen, batch, settings.log_kimg):
                latest = monitors.take()
                _check_finite(latest, seen)
                bar.set_postfix({name: f"{latest[name]:.3g}" for name in ON_PROGRESS_BAR if name in latest})
                if folder:
                    if show:
                        latest |= trainer.closer_look()
                        grid = grids.sample_grid(trainer.averaged_generator, rows=7)
                        _show(grid, f"{seen // 1000:06d}kimg", "generated", seen, trainer, folder)
                    clock = {"kimg": seen / 1000, "seconds": round(time.monotonic() - started, 1)}
                    folder.append_metrics({**clock, **latest})
                accelerator.log(latest, step=seen)

    generator = trainer.averaged_generator
    generator.info = run_facts(trainer, latest, seconds=time.monotonic() - started)
    # One that is trained further has seen the images of its earlier training too.
    earlier = [] if generator.seen_images is None else [generator.seen_images]
    generator.seen_images = torch.cat([trainer.data.image_hashes, *earlier]).unique()
    if folder:
        generator.save_pretrained(folder.path)
    accelerator.wait_for_everyone()
    return generator


def _show(picture: Image, file_name: str, tag: str, seen: int, trainer: Trainer, folder: RunFolder) -> None:
    """Save a picture in the run's folder, and show it to the trackers that take pictures."""
    folder.save_picture(file_name, picture)
    for tracker in trainer.accelerator.trackers:
        if hasattr(tracker, "log_images"):
            tracker.log_images({tag: np.asarray(picture.convert("RGB")).transpose(2, 0, 1)[None]}, step=seen)


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


def _progress_bar(trainer: Trainer) -> Any:
    total = trainer.total_steps * trainer.images_per_step
    return tqdm(total=total, unit="img", unit_scale=True, disable=not trainer.accelerator.is_local_main_process)


def _crosses(seen: int, batch: int, interval_kimg: float) -> bool:
    """Whether the last step went over a multiple of the interval."""
    interval = interval_kimg * 1000
    return seen // interval > (seen - batch) // interval


def _check_finite(monitors: dict[str, float], seen: int) -> None:
    if not all(math.isfinite(value) for value in monitors.values()):
        raise FloatingPointError(
            f"training diverged after {seen / 1000:.1f} kimg: {monitors}. "
            "Try a smaller learning_rate, or mixed_precision no"
        )
