"""Which of the generators that a run passes through is kept, by scores on held-out images."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor

from ganaug.data import LabelledImages, joined
from ganaug.evaluation import GeneratorScore
from ganaug.generators.base import Generator
from ganaug.training.checkpoints import Checkpoint, State
from ganaug.training.interruption import BrokenOffError, StopSignals
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import Trainer

HELD_BACK = 0.1  # of each class's images
FEWEST_HELD_BACK = 20  # images, of classes that have two
TOLERANCE = 0.95  # of the best score


@dataclass(frozen=True)
class Candidate:
    """An averaged generator that was scored.

    Attributes:
        step (int): number of steps it was trained for.
        kimg (float): the same in thousands of real images.
        scores (dict): ``"score"``, and what it is made of.
        signs (list of str): that training had failed then, in sentences.
    """

    step: int
    kimg: float
    scores: dict[str, float]
    signs: list[str]


class Selection:
    """Scores the averaged generator, and keeps the weights of the one to choose.

    Args:
        trainer (Trainer): whose averaged generator is scored, on the main process.
        held_out (LabelledImages, optional): what it is scored by; see :class:`ganaug.evaluation.GeneratorScore`.
            Default: nothing is scored, and the last generator is the chosen one
        signals (StopSignals): the first one breaks off a score.

    Attributes:
        candidates (list of Candidate): all so far, the same on all processes.
    """

    def __init__(self, trainer: Trainer, held_out: LabelledImages | None, signals: StopSignals) -> None:
        self._trainer, self._signals = trainer, signals
        flip = "flip" in trainer.settings.augment
        self._score = None if held_out is None else GeneratorScore(trainer.data, held_out, horizontal_flip=flip)
        self.candidates: list[Candidate] = []
        self._weights: dict[str, Tensor] = {}

    @property
    def interval(self) -> float | None:
        """Thousands of real images from one candidate to the next; None where there is none, or only the last."""
        settings = self._trainer.settings
        if self._score is None or settings.evaluation_kimg is None or settings.total_kimg <= settings.evaluation_kimg:
            return None
        return settings.evaluation_kimg

    def missed(self, step: int) -> bool:
        """Whether a candidate is due after so many steps, and is not there."""
        return self._trainer.is_due(self.interval, step) and all(each.step != step for each in self.candidates)

    @property
    def chosen(self) -> Candidate | None:
        """The last one whose score is within 5 % of the best, of those without signs of failure, if there are any.

        Scores of equally good generators differ by about as much, and the last one was trained for longest.
        """
        peers = self._peers()
        best = max((candidate.scores["score"] for candidate in peers), default=0.0)
        good = [candidate for candidate in peers if candidate.scores["score"] >= TOLERANCE * best]
        return good[-1] if good else None

    @property
    def exhausted(self) -> bool:
        """Whether the last candidates, as many as the settings' patience, were no better than one before them."""
        patience, peers = self._trainer.settings.patience, self._peers()
        if patience is None or not peers:
            return False
        best = max(peers, key=lambda candidate: candidate.scores["score"])
        return len(self.candidates) - 1 - self.candidates.index(best) >= patience

    def _peers(self) -> list[Candidate]:
        return [candidate for candidate in self.candidates if not candidate.signs] or self.candidates

    def consider(self, step: int, signs: Sequence[str]) -> dict[str, float]:
        """Score the averaged generator as it is after so many steps; to be called by all processes together.

        Args:
            step (int): number of steps that were taken.
            signs (sequence of str): that training has failed, on the main process.

        Returns:
            dict: its scores; empty if a signal came, and the generator is no candidate then.
        """
        found: Candidate | None = None
        if self._score and self._trainer.accelerator.is_main_process:
            try:
                with self._signals.raising():
                    scores = self._score(self._trainer.averaged_generator)
                    found = Candidate(step, self._trainer.kimg(step), scores, list(signs))
            except BrokenOffError:
                pass
        candidate: Candidate | None = broadcast_object_list([found])[0]
        if candidate is None:
            return {}
        self.candidates.append(candidate)
        if self.chosen is candidate:
            weights = self._trainer.averaged_generator.state_dict()
            self._weights = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
        return candidate.scores

    def generator(self) -> Generator:
        """The chosen candidate, or the averaged generator as it is where nothing was scored."""
        generator = self._trainer.averaged_generator
        if self._weights:
            generator = copy.deepcopy(generator)
            generator.load_state_dict(self._weights)
        return generator

    def state(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint keeps beside the trainer's state."""
        return {"chosen": self._weights} if self._weights else {}

    def facts(self) -> list[dict[str, Any]]:
        """The candidates as JSON values."""
        return [asdict(candidate) for candidate in self.candidates]

    def load(self, checkpoint: Checkpoint, state: State) -> None:
        """Put back what :meth:`facts` and :meth:`state` gave."""
        self.candidates = [Candidate(**facts) for facts in checkpoint.facts["candidates"]]
        self._weights = dict(state.get("chosen", {}))


def hold_back(
    settings: TrainingSettings, images: LabelledImages, labelled: LabelledImages
) -> tuple[LabelledImages, LabelledImages | None]:
    """What to train on, and the images that are held back from it to choose a generator by.

    None are where nothing is scored, or by so few images that it would say nothing. The length of the run has no
    say, for it may be trained further.

    Args:
        settings (TrainingSettings): whether and how often generators are scored.
        images (LabelledImages): all there are; first those that came with labels, then pseudo-labelled ones.
        labelled (LabelledImages): those of them that came with labels.
    """
    if settings.evaluation_kimg is None:
        return images, None
    kept, held_out = labelled.split(HELD_BACK)
    usable = [count for count in held_out.class_counts if count > 1]
    if len(usable) < 2 or sum(usable) < FEWEST_HELD_BACK:
        return images, None
    if len(images) == len(labelled):
        return kept, held_out
    return joined(kept, images.subset(torch.arange(len(labelled), len(images)), "pseudo-labelled images")), held_out
