"""The search on validation images: for the best training without generated images, and then for the ratio.

Trainings race: those that are clearly behind get no more steps. No training that is judged later takes part in it, and
no test image. That the best of several was chosen flatters its scores here, which is why other trainings and other
images judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ganaug.core.seeding import Purpose, random_stream
from ganaug.data import LabelledImages, joined
from ganaug.evaluation.cells import Cell, Job, TrainsCells, answers_of
from ganaug.evaluation.study import LEARNING_RATE_STEP, Arm, Study

SEEDS = 2  # trainings of each arm that choose, with the seeds 0 and 1
JUDGES = 1_000  # seed of the first training that is judged
FOLDS = 5  # of the cross-validation, each of which has one training
FEW = 1_000  # validation images; fewer are joined by folds of the training images
RISING = 0.005  # balanced accuracy that doubling the steps must bring for another doubling to be tried
CLOSE = 0.01  # behind the best by no more than this, an arm may still overtake it with more steps
MOST_LEARNING_RATES = 5  # tried, with the classifier's own


@dataclass(frozen=True)
class Scored:
    """How the trainings of an arm did that choose.

    Attributes:
        scores (Tensor): their balanced accuracies on the validation images, float64 (C,).
        seconds (float): that one of them took.
    """

    scores: Tensor
    seconds: float


Score = Callable[[Sequence[Arm]], list[Scored]]


@dataclass(frozen=True)
class Trial:
    """An arm in the search.

    Attributes:
        arm (Arm): how the classifiers were trained.
        scored (Scored): how they did.
        gain (float, optional): what doubling its steps had brought, in [-1, 1]. Default: half the steps were not tried
    """

    arm: Arm
    scored: Scored
    gain: float | None = None

    @property
    def mean(self) -> float:
        """Mean balanced accuracy."""
        return self.scored.scores.mean().item()

    @property
    def rising(self) -> bool:
        """Whether the last doubling of the steps paid."""
        return self.gain is not None and self.gain > RISING

    @property
    def promise(self) -> float:
        """The mean with twice the steps, if they bring as much as the last doubling did."""
        return self.mean + (self.gain if self.gain and self.rising else 0.0)


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial with the highest mean; the earliest of several."""
    return max(trials, key=lambda trial: trial.mean)


def search_reference(study: Study, score: Score) -> list[Trial]:
    """Look for the best training without generated images, in stages, so that the number of trainings stays bounded.

    Args:
        study (Study): what there is to try.
        score (callable): trains arms and scores them on validation images.

    Returns:
        list of Trial: all that were tried; :func:`best_of` is the reference.
    """
    # Ways of training are compared with at most half of the steps that there may be, if that allows for a doubling.
    most = study.settings.max_steps
    half = most // 2 if most >= 4 * study.settings.steps else most

    # Ways to augment the images, from the weakest to the strongest.
    trials = _race(study.augmented_arms(), score, half)

    # What may pay on top of the best, of the best two where classes are to be balanced; then all that did, together.
    for leader in _best_of_each_way(trials)[: 1 if study.balanced else 2]:
        added = _race(study.additions(leader.arm), score, half, best=best_of(trials))
        trials += added
        trials += _race(_together(leader, added), score, half, best=best_of(trials))

    # Learning rates of the best.
    trials += _learning_rates(best_of(trials), score)

    # All steps for the best, though a doubling may have brought nothing, which may have been chance; and for the one
    # beside it that promises most, if that is close.
    for leader in _finalists(trials):
        longest = max((trial for trial in trials if _way(trial) == _way(leader)), key=lambda trial: trial.arm.steps)
        while 2 * longest.arm.steps <= most:
            arm = _doubled(longest)
            longest = _trial(arm, score([arm])[0], longest)
            trials.append(longest)
    return trials


def _learning_rates(first: Trial, score: Score) -> list[Trial]:
    """Lower and higher learning rates in a training: in the direction that pays, as far as it does."""
    trials = []
    for factor in (1 / LEARNING_RATE_STEP, LEARNING_RATE_STEP):
        best = first
        for _ in range(MOST_LEARNING_RATES // 2):
            arm = replace(best.arm, learning_rate_factor=best.arm.learning_rate_factor * factor)
            trials.append(Trial(arm, score([arm])[0], best.gain))
            if trials[-1].mean <= best.mean:
                break
            best = trials[-1]
        if best is not first:
            break
    return trials


def _race(arms: Sequence[Arm], score: Score, max_steps: int, *, best: Trial | None = None) -> list[Trial]:
    """Train arms with ever more steps, as long as that pays off and they may still become the best.

    Args:
        arms (sequence of Arm): from the weakest augmentation to the strongest, unless ``best`` is given.
        score (callable), max_steps (int): what scores them, and how far.
        best (Trial, optional): what they are added to. Default: they stand by themselves
    """
    trials: list[Trial] = []
    racing: dict[Arm, Trial | None] = dict.fromkeys(arms)
    while racing:
        found = [
            _trial(arm, scores, before)
            for (arm, before), scores in zip(racing.items(), score(list(racing)), strict=True)
        ]
        trials += found
        leader = best_of([*trials, *([best] if best else [])])
        racing = {
            _doubled(trial): trial
            for place, trial in enumerate(found)
            if 2 * trial.arm.steps <= max_steps
            # The stronger an augmentation, the later it pays off.
            and _may_win(trial, leader, stronger=best is None and any(each is leader for each in found[:place]))
        }
    return trials


def _may_win(trial: Trial, leader: Trial, *, stronger: bool) -> bool:
    """Whether an arm may be the best with twice the steps, if they bring as much as the last doubling did."""
    if trial.gain is None:  # nothing is known of its gain yet
        return stronger or trial.mean > leader.mean - CLOSE
    return trial.rising and trial.promise >= leader.mean


def _doubled(trial: Trial) -> Arm:
    """The arm of a trial with twice the steps."""
    return replace(trial.arm, steps=2 * trial.arm.steps)


def _trial(arm: Arm, scores: Scored, before: Trial | None) -> Trial:
    """The trial of an arm, with what it gained over the one before, which had half the steps."""
    trial = Trial(arm, scores)
    return trial if before is None else replace(trial, gain=trial.mean - before.mean)


def _way(trial: Trial) -> Arm:
    """How a trial was trained, whatever the number of steps."""
    return replace(trial.arm, steps=0)


def _best_of_each_way(trials: Sequence[Trial]) -> list[Trial]:
    """Each way of training with the number of steps that was best for it, the best way first."""
    ways = {_way(trial): [each for each in trials if _way(each) == _way(trial)] for trial in trials}
    return sorted(map(best_of, ways.values()), key=lambda trial: trial.mean, reverse=True)


def _finalists(trials: Sequence[Trial]) -> list[Trial]:
    """The best trial, and of the other ways of training one that may be as good with more steps, if there is one."""
    best = best_of(trials)
    others = [trial for trial in _best_of_each_way(trials) if _way(trial) != _way(best)]
    second = max(others, key=lambda trial: trial.promise, default=best)
    return [best, second] if second is not best and second.promise >= best.promise - CLOSE else [best]


def _together(leader: Trial, added: Sequence[Trial]) -> list[Arm]:
    """The leader with mixed batches and the better balance, if each of them alone was better than the leader."""
    mixed = [trial for trial in added if trial.arm.mix and trial.mean > leader.mean]
    balanced = [trial for trial in added if not trial.arm.mix and trial.mean > leader.mean]
    if not mixed or not balanced:
        return []
    best = best_of(balanced).arm
    return [replace(best, name=f"{best.name} + MixUp/CutMix", mix=True, steps=best_of(mixed).arm.steps)]


def choose_ratios(study: Study, reference: Arm, score: Score) -> dict[str, list[Trial]]:
    """Try every ratio of each generator's images beside the training of the reference; by generator."""
    arms = {name: study.mixed_arms(name, reference) for name in study.generators}
    scored = iter(score([arm for each in arms.values() for arm in each]))
    return {name: [Trial(arm, next(scored)) for arm in each] for name, each in arms.items()}


@dataclass(frozen=True)
class Fold:
    """What a training that chooses is trained on and scored by.

    Attributes:
        study (Study): with the training images.
        scored_by (Tensor): int64 (V,), which of the study's held-out images score it.
    """

    study: Study
    scored_by: Tensor


def whole(study: Study, validation: int) -> list[Fold]:
    """Trainings on all training images, scored by the first held-out images, which are those for validation."""
    return [Fold(study, torch.arange(validation))] * SEEDS


def folds_of(study: Study, validation: int) -> list[Fold]:
    """The trainings that choose the reference, one for each seed.

    Where validation images are few, cross-validation adds the training images: each training leaves out a fifth of
    each class, which scores it too. Copies of an image are left out together. A class of fewer than five images
    cannot be divided so, and then there is none. The ratio is not chosen in this way, for a generator may have seen
    the images that are left out.

    Args:
        study (Study): its first held-out images are those for validation.
        validation (int): how many those are.
    """
    if validation >= FEW or min(study.train.distinct_counts) < FOLDS:
        return whole(study, validation)
    fold_of = _divided(study.train)
    folds = []
    for k in range(FOLDS):
        kept, left_out = (torch.nonzero(of_fold).squeeze(1) for of_fold in (fold_of != k, fold_of == k))
        train = study.train.subset(kept, f"{study.train.name}, without fold {k}")
        fold = study.train.subset(left_out, f"{study.train.name}, fold {k}")
        asked = replace(joined(study.held_out, fold), name=study.held_out.name, train=False)
        scored_by = torch.cat([torch.arange(validation), torch.arange(len(study.held_out), len(asked))])
        folds.append(Fold(replace(study, train=train, held_out=asked), scored_by))
    return folds


def _divided(images: LabelledImages) -> Tensor:
    """The fold of each image, int64 (N,): each class in equal parts, copies of an image in the same one."""
    fold_of = torch.zeros(len(images), dtype=torch.int64)
    for k in range(len(images.classes)):
        of_class = torch.nonzero(images.targets == k).squeeze(1)
        _, which = images.image_hashes[of_class].unique(return_inverse=True)
        order = torch.from_numpy(random_stream(0, Purpose.FOLDS, index=k).permutation(int(which.max()) + 1))
        fold_of[of_class] = (order % FOLDS)[which]
    return fold_of


def scorer(cells: TrainsCells, folds: Sequence[Fold], title: str) -> Score:
    """What trains arms and scores them on validation images.

    Args:
        cells (TrainsCells): what trains the classifiers.
        folds (sequence of Fold): one for each seed.
        title (str): what they are for, for the progress bar.
    """

    def score(arms: Sequence[Arm]) -> list[Scored]:
        found = iter(cells.run([job for arm in arms for job in choosing_jobs(folds, arm)], title))
        return [scored(folds, [next(found) for _ in folds]) for _ in arms]

    return score


def choosing_jobs(folds: Sequence[Fold], arm: Arm) -> list[Job]:
    """The trainings of an arm that choose."""
    return [Job(fold.study, arm, seed) for seed, fold in enumerate(folds)]


def scored(folds: Sequence[Fold], cells: Sequence[Cell]) -> Scored:
    """How an arm did whose trainings that choose gave these cells."""
    answers = [answers_of([cell], fold.study.held_out) for cell, fold in zip(cells, folds, strict=True)]
    scores = [each.of(fold.scored_by).scores for each, fold in zip(answers, folds, strict=True)]
    return Scored(torch.cat(scores), sum(cell.seconds for cell in cells) / len(cells))
