"""Training whose gradients are no longer finite: back to the last checkpoint, with half the learning rate."""

from __future__ import annotations

import logging
from pathlib import Path

from accelerate.utils import broadcast_object_list

from ganaug.training.checkpoints import Checkpoint, open_checkpoint
from ganaug.training.trainer import Trainer

logger = logging.getLogger(__name__)


class Recovery:
    """Rolls a trainer back, a few times at most.

    Args:
        trainer (Trainer): the one.
        resume (Checkpoint, optional): that it goes on from. Default: it starts

    Attributes:
        rollbacks (int): how often it was rolled back, in the whole run.
    """

    PATIENCE = 20  # skipped steps in a row
    ROLLBACKS = 3  # in a run

    def __init__(self, trainer: Trainer, resume: Checkpoint | None) -> None:
        self._trainer = trainer
        self.rollbacks = 0 if resume is None else resume.facts["rollbacks"]
        self._slow_down()

    def roll_back(self, saved: Path | None, kimg: float, skipped: int) -> Checkpoint:
        """Halve the learning rates, and give the checkpoint to load; to be called by all processes together.

        Args:
            saved (Path, optional): the last checkpoint, on the main process; None if there is none.
            kimg (float): where training is.
            skipped (int): number of the last steps that were skipped.

        Returns:
            Checkpoint: the last one, from which training goes on.

        Raises:
            FloatingPointError: there is none, or it was rolled back as often as it may.
        """
        path: Path | None = broadcast_object_list([saved])[0]
        diagnosis = (
            f"training diverged after {kimg:.1f} kimg: {skipped} steps in a row had gradients that are no numbers"
        )
        if path is None or self.rollbacks == self.ROLLBACKS:
            tried = f", and so it was after {self.rollbacks} halvings of the learning rate" if self.rollbacks else ""
            raise FloatingPointError(f"{diagnosis}{tried}. Try a smaller learning_rate, or mixed_precision no")
        checkpoint = open_checkpoint(path)
        self.rollbacks += 1
        self._slow_down()
        logger.warning(
            "%s. Back to %s, with learning rates times %g", diagnosis, path, self._trainer.learning_rate_factor
        )
        return checkpoint

    def _slow_down(self) -> None:
        self._trainer.learning_rate_factor = 0.5**self.rollbacks
