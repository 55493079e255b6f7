"""How long the parts of an evaluation take on this machine, from a few steps of each kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from statistics import fmean, median

import torch
from torch import Tensor, nn

from ganaug.core.hardware import best_device
from ganaug.evaluation.cells import Cells, Job
from ganaug.evaluation.classifier import predict_probabilities, train_classifier
from ganaug.evaluation.study import Arm, Augmentation, Study
from ganaug.sampling.variations import places_in_class

WARM_UP = 2  # first steps, which are slower and not counted
FEWEST = 3  # steps that are timed of each kind, however slow they are
TIMED = 1.0  # seconds for which more of them are timed
MOST_TIMED = 0.1  # of the steps that the search begins with; the price of a short training must be quick to tell
BATCH = 256  # images that are asked about
MOST_DRAWN = 1024  # images; it begins with a batch, and ends when they take a while


@dataclass(frozen=True)
class Timings:
    """Seconds that the parts of an evaluation take here.

    Attributes:
        start (float): starting the processes that train, which each round of trainings does anew; 0 for one process.
        making (float): making a classifier.
        step (mapping): augmentation to a step of training with it.
        mixing (float): what MixUp or CutMix adds to a step.
        asking (float): asking a classifier about an image.
        opening (mapping): generator name to getting it ready, which is done for each set of images that is drawn.
        drawing (mapping): generator name to drawing an image.
    """

    start: float
    making: float
    step: Mapping[Augmentation, float]
    mixing: float
    asking: float
    opening: Mapping[str, float]
    drawing: Mapping[str, float]

    def of_drawing(self, generator: str, images: int) -> float:
        """Drawing some images."""
        return self.opening[generator] + images * self.drawing[generator]

    def of_cell(self, job: Job) -> float:
        """Training a classifier and asking it, its images being there."""
        step = self.step[job.arm.augmentation] + self.mixing * job.arm.mix
        return self.making + job.arm.steps * step + self.asking * len(job.study.held_out)


def time_parts(study: Study, cells: Cells, augmentations: Sequence[Augmentation]) -> Timings:
    """Time a few steps of each kind, drawing and asking, in as many processes as will train.

    Args:
        study (Study): whose images, classifier and generators these are.
        cells (Cells): what will train.
        augmentations (sequence of str): those of the steps.
    """
    started = time.perf_counter()
    found = cells.try_out(partial(_time_here, study, augmentations))
    whole_time = time.perf_counter() - started
    parts = [each for each, _ in found]

    def mean(part: Callable[[Timings], float]) -> float:
        return fmean(part(each) for each in parts)

    return Timings(
        start=0.0 if cells.processes == 1 else max(0.0, whole_time - max(seconds for _, seconds in found)),
        making=mean(lambda each: each.making),
        step={kind: fmean(each.step[kind] for each in parts) for kind in augmentations},
        mixing=mean(lambda each: each.mixing),
        asking=mean(lambda each: each.asking),
        opening={name: fmean(each.opening[name] for each in parts) for name in study.generators},
        drawing={name: fmean(each.drawing[name] for each in parts) for name in study.generators},
    )


def _time_here(study: Study, augmentations: Sequence[Augmentation]) -> tuple[Timings, float]:
    """The timings of this process, and the seconds that it took to find them."""
    started = time.perf_counter()
    arms = {kind: Arm(kind, study.settings.steps, kind) for kind in augmentations}
    classifier, _, _ = _train(study, arms[augmentations[0]], 1)  # what is imported and set up once
    step, making = {}, []
    for kind, arm in arms.items():
        step[kind], made = _step_of(study, arm)
        making.append(made)
    first = augmentations[0]
    mixed, _ = _step_of(study, replace(arms[first], mix=True))

    some = study.held_out.images[:BATCH]
    asking = median(_seconds(lambda: predict_probabilities(classifier, some)) for _ in range(1 + FEWEST)) / len(some)
    drawn = {name: _drawing(study, name) for name in study.generators}
    timings = Timings(
        start=0.0,
        making=median(making),
        step=step,
        mixing=max(0.0, mixed - step[first]),
        asking=asking,
        opening={name: opening for name, (opening, _) in drawn.items()},
        drawing={name: drawing for name, (_, drawing) in drawn.items()},
    )
    return timings, time.perf_counter() - started


def _step_of(study: Study, arm: Arm) -> tuple[float, float]:
    """Seconds of a step of an arm, and of making its classifier: medians."""
    _, making, steps = _train(study, arm, WARM_UP + FEWEST + 1)
    more = min(int(TIMED / median(steps)), int(MOST_TIMED * arm.steps))
    if more > FEWEST:
        _, making, steps = _train(study, arm, WARM_UP + more + 1)
    return median(steps), making


def _train(study: Study, arm: Arm, steps: int) -> tuple[nn.Module, float, list[float]]:
    """Train as a cell is trained; the classifier, the seconds before the first step, and those of the steps.

    A step lasts from one batch that is augmented to the next; the first ones do not count.
    """
    device, augment = best_device(), study.augmentation(arm)
    stamps = [time.perf_counter()]

    def stamped(images: Tensor) -> Tensor:
        if device.type != "cpu":
            torch.accelerator.synchronize()
        stamps.append(time.perf_counter())
        return images if augment is None else augment(images)

    classifier = train_classifier(
        study.train,
        study.factory,
        steps=steps,
        batch_size=study.settings.batch_size,
        augment=stamped,
        mix=arm.mix,
        device=device,
    )
    seconds = [after - before for before, after in pairwise(stamps)]
    return classifier, seconds[0], seconds[1 + WARM_UP :]


def _drawing(study: Study, generator: str) -> tuple[float, float]:
    """Seconds that a sampler takes to make, and an image to draw."""
    started = time.perf_counter()
    sampler = study.sampler(generator)
    opening = time.perf_counter() - started
    count = sampler.inference_copy.rows  # fewer take as long
    while True:
        labels = torch.arange(count) % len(study.train.classes)
        seconds = _seconds(partial(sampler.draw, labels, range(count), places=places_in_class(labels)))
        if seconds > TIMED / 4 or count >= MOST_DRAWN:
            return opening, seconds / count
        count *= 4


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
