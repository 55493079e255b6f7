"""A training run of one process from images to a folder, without flags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from accelerate.utils import set_seed

from ganaug.data import LabelledImages
from ganaug.generators.base import Generator
from ganaug.training.distributed import start_accelerator
from ganaug.training.loop import train
from ganaug.training.losses import GANObjective
from ganaug.training.models import make_trainer
from ganaug.training.run_folder import RunFolder
from ganaug.training.settings import TrainingSettings


def fit(
    make_generator: Callable[[], Generator],
    objective: GANObjective,
    images: LabelledImages,
    settings: TrainingSettings,
    folder: str | Path,
) -> Generator:
    """Train a generator on all images, and save it as it is in the end; there are no checkpoints.

    Global random states are set by the settings' seed.

    Args:
        make_generator (callable): makes it, with its initial weights.
        objective (GANObjective), images (LabelledImages), settings (TrainingSettings): as of :func:`make_trainer`.
        folder (str or Path): made here.

    Returns:
        Generator: the averaged one.
    """
    settings = replace(settings, checkpointing_kimg=None, evaluation_kimg=None)
    accelerator = start_accelerator(settings)
    set_seed(settings.seed)
    trained = train(make_trainer(make_generator(), objective, images, settings, accelerator), RunFolder(folder))
    accelerator.end_training()
    return trained
