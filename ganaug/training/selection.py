"""Choosing one of the generators along a run by their scores on held-out images."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor

from ganaug.data import LabelledImages, joined
from ganaug.evaluation import GeneratorScore
from ganaug.generators.base import Generator
from ganaug.training.checkpoints import Candidate, Checkpoint, Progress, State
from ganaug.training.interruption import BrokenOffError, StopSignals
from ganaug.training.settings import TrainingSettings
from ganaug.training.trainer import Trainer

HELD_BACK = 0.1  # of each class's images
FEWEST_HELD_BACK = 20  # images, counting classes with at least two
TOLERANCE = 0.95  # of the best score


class Selection:
    """Scores the averaged generator along the run, and keeps the weights of the one that is chosen so far.

    Args:
        trainer (Trainer): whose averaged generator is scored, on the main process.
        held_out (LabelledImages, optional): real images that it is scored by, see
            :class:`ganaug.evaluation.GeneratorScore`. Default: nothing is scored, and the last generator is chosen
        signals (StopSignals): the first signal breaks off a score.

    Attributes:
        candidates (list of Candidate): all scored so far, the same on all processes.
        held_out (LabelledImages, optional): as given.

    Raises:
        InputError: the held-out images have other classes or another form than the training images, or are too few.
    """

    def __init__(self, trainer: Trainer, held_out: LabelledImages | None, signals: StopSignals) -> None:
        self._trainer, self._signals = trainer, signals
        flip = "flip" in trainer.settings.augment
        self.held_out = held_out
        self._score = None if held_out is None else GeneratorScore(trainer.data, held_out, horizontal_flip=flip)
        self.candidates: list[Candidate] = []
        self._weights: dict[str, Tensor] = {}

    @property
    def interval(self) -> float | None:
        """Thousands of real images between candidates; None if nothing is scored, or only the last would be."""
        settings = self._trainer.settings
        if self._score is None or settings.evaluation_kimg is None or settings.total_kimg <= settings.evaluation_kimg:
            return None
        return settings.evaluation_kimg

    def missed(self, step: int) -> bool:
        """Whether a candidate was due after so many steps but was not scored."""
        due = self._trainer.is_due(self.interval, step) and self._trainer.may_be_chosen(step)
        return due and all(each.step != step for each in self.candidates)

    @property
    def chosen(self) -> Candidate | None:
        """The last candidate whose score is within 5 % of the best; None if nothing was scored.

        Candidates with signs of failure count only if all have some. Scores of equally good generators differ by about
        5 %, and of these the last one was trained longest.
        """
        peers = self._peers()
        best = max((candidate.scores["score"] for candidate in peers), default=0.0)
        good = [candidate for candidate in peers if candidate.scores["score"] >= TOLERANCE * best]
        return good[-1] if good else None

    @property
    def exhausted(self) -> bool:
        """Whether the latest candidates, as many as the settings' patience, were no better than an earlier one."""
        patience, peers = self._trainer.settings.patience, self._peers()
        if patience is None or not peers:
            return False
        best = max(peers, key=lambda candidate: candidate.scores["score"])
        return len(self.candidates) - 1 - self.candidates.index(best) >= patience

    def _peers(self) -> list[Candidate]:
        return [candidate for candidate in self.candidates if not candidate.signs] or self.candidates

    def consider(self, step: int, signs: Sequence[str]) -> dict[str, float]:
        """Score the averaged generator, which makes it a candidate. All processes must call this together.

        Args:
            step (int): number of steps taken.
            signs (sequence of str): signs that training has failed, on the main process.

        Returns:
            dict: its scores. Empty if a signal broke off the score; then the generator does not become a candidate.
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
        """The chosen candidate; the averaged generator as it is now if nothing was scored."""
        generator = self._trainer.averaged_generator
        if self._weights:
            generator = copy.deepcopy(generator)
            generator.load_state_dict(self._weights)
        return generator

    def state(self) -> dict[str, dict[str, Tensor]]:
        """The tensors that a checkpoint keeps beside the trainer's: the weights of the chosen candidate."""
        return {"chosen": self._weights} if self._weights else {}

    def load(self, checkpoint: Checkpoint, state: State) -> None:
        """Restore the candidates of a checkpoint, and the weights that :meth:`state` returned."""
        self.candidates = Progress.of(checkpoint).candidates
        self._weights = dict(state.get("chosen", {}))


def hold_back(
    settings: TrainingSettings, images: LabelledImages, labelled: LabelledImages
) -> tuple[LabelledImages, LabelledImages | None]:
    """Split images into those to train on and a tenth of each class that is held back to choose a generator by.

    Nothing is held back if no scoring is configured, or if the images held back would be too few for a score to mean
    anything. The length of the run makes no difference, because it may be resumed and trained for longer.

    Args:
        settings (TrainingSettings): ``evaluation_kimg`` says whether generators are scored.
        images (LabelledImages): all images: first those that came with labels, then pseudo-labelled ones.
        labelled (LabelledImages): those of them that came with labels, of which some are held back.

    Returns:
        tuple: the images to train on, and those held back, or None.
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
