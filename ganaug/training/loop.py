"""A training run from the first step to the saved generator."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from typing import Any

import torch
from tqdm import tqdm

from ganaug import grids
from ganaug.generators.base import Generator
from ganaug.training.monitors import RunningMeans
from ganaug.training.run_folder import RunFolder
from ganaug.training.trainer import Trainer


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
    batch, started = trainer.batches.global_batch, time.monotonic()
    monitors = RunningMeans(accelerator)
    latest: dict[str, float] = {}
    if folder:
        folder.save_picture("real", grids.real_grid(trainer.data))
        accelerator.project_configuration.logging_dir = str(folder.training / "logs")
    accelerator.init_trackers("ganaug", {name: value for name, value in asdict(settings).items() if value is not None})
    # The dropout seeds move torch's global state; give it back as it was.
    with torch.random.fork_rng(), _progress_bar(trainer) as bar:
        for step in range(trainer.total_steps):
            monitors.add(trainer.step(step))
            bar.update(batch)
            seen, last = (step + 1) * batch, step + 1 == trainer.total_steps
            if last or _crosses(seen, batch, settings.log_kimg):
                latest = monitors.take()
                _check_finite(latest, seen)
                bar.set_postfix({name: f"{value:.3g}" for name, value in latest.items()})
                accelerator.log(latest, step=seen)
                if folder:
                    clock = {"kimg": seen / 1000, "seconds": round(time.monotonic() - started, 1)}
                    folder.append_metrics({**clock, **latest})
            if folder and (last or _crosses(seen, batch, settings.sample_kimg)):
                folder.save_picture(f"{seen // 1000:06d}kimg", grids.sample_grid(trainer.averaged_generator))

    generator = trainer.averaged_generator
    generator.info = run_facts(trainer, latest, seconds=time.monotonic() - started)
    if folder:
        generator.save_pretrained(folder.path)
    accelerator.wait_for_everyone()
    return generator


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
            "mixed_precision": accelerator.mixed_precision,
            "num_processes": accelerator.num_processes,
            "device": accelerator.device.type,
            "minutes": round(seconds / 60, 1),
            **{f"last_{name}": round(value, 4) for name, value in monitors.items()},
        },
    }


def _progress_bar(trainer: Trainer) -> Any:
    total = trainer.total_steps * trainer.batches.global_batch
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
