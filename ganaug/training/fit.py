"""A training run in one call: from images to a folder, in one process, without flags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from accelerate.utils import set_seed

from ganaug.core.defaults import usual_defaults
from ganaug.data import LabelledImages
from ganaug.generators.base import Generator
from ganaug.training.distributed import start_accelerator
from ganaug.training.loop import train
from ganaug.training.losses import GANObjective
from ganaug.training.models import make_trainer
from ganaug.training.run_folder import RunFolder
from ganaug.training.settings import TrainingSettings


@usual_defaults()
def fit(
    make_generator: Callable[[], Generator],
    objective: GANObjective,
    images: LabelledImages,
    settings: TrainingSettings,
    folder: str | Path,
) -> Generator:
    """Train a generator on all images and save the last one; no images are held back, no checkpoints are written.

    Seeds the global random states with the settings' seed.

    Args:
        make_generator (callable): makes the generator with its initial weights.
        objective (GANObjective), images (LabelledImages), settings (TrainingSettings): as for :func:`make_trainer`.
        folder (str or Path): is created, and must not hold a run yet.

    Returns:
        Generator: the averaged generator.

    Raises:
        InputError: the folder already holds a run or cannot be written to.
        FloatingPointError: training diverged.
    """
    settings = replace(settings, checkpointing_kimg=None, evaluation_kimg=None)
    accelerator = start_accelerator(settings)
    set_seed(settings.seed)
    trained = train(make_trainer(make_generator(), objective, images, settings, accelerator), RunFolder(folder))
    accelerator.end_training()
    return trained
