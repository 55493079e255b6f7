"""When gradients stop being finite: back to the last checkpoint, with half the learning rate."""

from __future__ import annotations

import logging
from pathlib import Path

from ganaug.training.checkpoints import Checkpoint, Progress, open_checkpoint
from ganaug.training.distributed import on_main
from ganaug.training.trainer import Trainer

logger = logging.getLogger(__name__)


class Recovery:
    """Rolls a trainer back to its last checkpoint, three times in a run at most.

    Args:
        trainer (Trainer): whose learning rates are halved.
        resume (Checkpoint, optional): where the run resumes. Default: it starts from scratch

    Attributes:
        rollbacks (int): how often the run was rolled back, resumed parts included.
    """

    PATIENCE = 20  # skipped steps in a row
    ROLLBACKS = 3  # in a run

    def __init__(self, trainer: Trainer, resume: Checkpoint | None) -> None:
        self._trainer = trainer
        self.rollbacks = 0 if resume is None else Progress.of(resume).rollbacks
        self._slow_down()

    def roll_back(self, saved: Path | None, kimg: float, skipped: int) -> Checkpoint:
        """Halve the learning rates and return the checkpoint to load. All processes must call this together.

        Args:
            saved (Path, optional): the last checkpoint, on the main process; None if there is none.
            kimg (float): thousands of images shown so far.
            skipped (int): how many of the latest steps in a row were skipped.

        Returns:
            Checkpoint: the last one, from which training continues.

        Raises:
            FloatingPointError: there is no checkpoint, or the run was already rolled back three times.
            LoadError: the checkpoint is damaged.
        """
        usable = self.rollbacks < self.ROLLBACKS
        checkpoint = on_main(self._trainer.accelerator, lambda: open_checkpoint(saved) if saved and usable else None)
        diagnosis = f"training diverged after {kimg:.1f} kimg: {skipped} steps in a row had infinite or NaN gradients"
        if checkpoint is None:
            tried = f", even after {self.rollbacks} halvings of the learning rate" if self.rollbacks else ""
            raise FloatingPointError(f"{diagnosis}{tried}. Try a smaller learning_rate, or mixed_precision no")
        self.rollbacks += 1
        self._slow_down()
        factor = self._trainer.learning_rate_factor
        logger.warning("%s. Back to %s, with learning rates times %g", diagnosis, checkpoint.path, factor)
        return checkpoint

    def _slow_down(self) -> None:
        self._trainer.learning_rate_factor = 0.5**self.rollbacks
