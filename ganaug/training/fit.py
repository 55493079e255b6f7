"""A training run in one call: from images to a folder, in one process, without flags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed

from ganaug.core.defaults import usual_defaults
from ganaug.data import LabelledImages
from ganaug.generators.base import Generator
from ganaug.hub.missing import CHECKPOINTS
from ganaug.training.checkpoints import Checkpoints, check_same_run
from ganaug.training.distributed import start_accelerator
from ganaug.training.loop import train
from ganaug.training.losses import GANObjective
from ganaug.training.models import make_trainer
from ganaug.training.monitoring import Hook
from ganaug.training.run_folder import RunFolder
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import Trainer


@usual_defaults()
def fit(
    make_generator: Callable[[], Generator],
    objective: GANObjective,
    images: LabelledImages,
    settings: TrainingSettings,
    folder: str | Path,
    *,
    resume: bool = False,
    held_out: LabelledImages | None = None,
    on_grid: Hook | None = None,
    on_checkpoint: Hook | None = None,
) -> Generator:
    """Train a generator on all images, and save the last one unless images are given to choose one by.

    Seeds the global random states with the settings' seed.

    Args:
        make_generator (callable): makes the generator with its initial weights.
        objective (GANObjective), images (LabelledImages), settings (TrainingSettings): as for :func:`make_trainer`.
        folder (str or Path): is created; it must not hold a run yet, unless that is resumed.
        resume (bool): go on from the newest whole checkpoint in the folder, if there is one, and write checkpoints as
            the settings say. Default: False, so nothing is written before the end
        held_out (LabelledImages, optional): other real images, by which the generator that is saved is chosen; see
            :func:`train`. Default: the last one is saved
        on_grid, on_checkpoint (callable, optional): called along the way; see :func:`train`. Checkpoints are only
            written with ``resume``. Default: nothing is called

    Returns:
        Generator: the averaged generator.

    Raises:
        InputError: the folder already holds a run or cannot be written to; its checkpoint is of another run; the
            held-out images cannot be used; or ``on_checkpoint`` is given without ``resume``.
        FloatingPointError: training diverged.
        StoppedError: a signal ended training; only with ``resume``.
    """

    def new_trainer(settings: TrainingSettings, accelerator: Accelerator) -> Trainer:
        return make_trainer(make_generator(), objective, images, settings, accelerator)

    return train_to_the_end(
        new_trainer, settings, folder, resume=resume, held_out=held_out, on_grid=on_grid, on_checkpoint=on_checkpoint
    )


@usual_defaults()
def train_to_the_end(
    new_trainer: Callable[[TrainingSettings, Accelerator], Trainer],
    settings: TrainingSettings,
    folder: str | Path,
    *,
    resume: bool = False,
    held_out: LabelledImages | None = None,
    on_grid: Hook | None = None,
    on_checkpoint: Hook | None = None,
) -> Generator:
    """What :func:`fit` does, for a trainer of whatever kind.

    Args:
        new_trainer (callable): makes it, of settings and an accelerator.
        settings, folder, resume, held_out, on_grid, on_checkpoint: as for :func:`fit`, and so are errors and result.
    """
    if held_out is None:
        settings = replace(settings, evaluation_kimg=None)
    if not resume:
        settings = replace(settings, checkpointing_kimg=None)
    accelerator = start_accelerator(settings)
    set_seed(settings.seed)
    trainer = new_trainer(settings, accelerator)

    checkpoint = Checkpoints(Path(folder, CHECKPOINTS)).newest() if resume else None
    if checkpoint:
        check_same_run(checkpoint, trainer, override=True)  # another machine may compute in another precision
    after = checkpoint.facts["kimg"] if checkpoint else 0
    trained = train(
        trainer,
        RunFolder(folder, after_kimg=after if resume else None),
        resume=checkpoint,
        held_out=held_out,
        on_grid=on_grid,
        on_checkpoint=on_checkpoint,
    )
    accelerator.end_training()
    return trained
