"""Labels for unlabelled images, from classifiers that are trained on labelled and unlabelled ones."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ganaug.core import fingerprints
from ganaug.core.defaults import usual_defaults
from ganaug.core.errors import InputError
from ganaug.core.files import build_once, read_tensors, user_cache, write_tensors
from ganaug.core.hardware import best_device
from ganaug.core.progress import describe
from ganaug.data import LabelledImages, joined
from ganaug.data.stored import Pixels
from ganaug.evaluation.augmentation import ShiftFlip, TrivialAugment
from ganaug.evaluation.classifier import predict_probabilities
from ganaug.evaluation.price import in_minutes
from ganaug.evaluation.semi_supervised import check_same_shape, train_semi_supervised
from ganaug.sampling.class_sampler import ClassSampler
from ganaug.sampling.inference import ConditionalGenerator

logger = logging.getLogger(__name__)

Trains = Callable[[int, int, Callable[[], object]], tuple[nn.Module, LabelledImages]]  # member, steps, after each

MEMBERS = 3  # classifiers, whose probabilities are averaged
STEPS = 3000  # of each
HELD_BACK = 0.1  # share of each class's labelled images that a classifier does not see; each leaves out others
DRAWN = 1000  # generated images of each class, on average
TIMED = 4  # steps that are timed
ASKED = 256  # images, of which the answers are timed
SURE = 0.9  # probability from which a label is called sure in reports


@dataclass(frozen=True)
class PseudoLabels:
    """What classifiers say of unlabelled images.

    Attributes:
        images (LabelledImages): all of them, in their order, each with its most probable class.
        probabilities (Tensor): of each class, float32 (N, K).
        held_back (Tensor): labels of labelled images that a classifier had not seen, int64 (M,); M is 0 where no class
            had enough to leave some out.
        answers (Tensor): what that classifier said of them, probabilities, float32 (M, K).
    """

    images: LabelledImages
    probabilities: Tensor
    held_back: Tensor
    answers: Tensor

    @property
    def confidence(self) -> Tensor:
        """Probability of each image's most probable class, float32 (N,), in [0, 1]."""
        return self.probabilities.max(1).values

    def sure(self, least: float) -> LabelledImages:
        """The images whose most probable class has a probability of ``least`` or more, in [0, 1], in their order.

        Raises:
            InputError: there is none.
        """
        kept = torch.nonzero(self.confidence >= least).squeeze(1)
        if not len(kept):
            raise InputError(
                f"no unlabelled image has a class with a probability of {least} or more; the highest is "
                f"{self.confidence.max():.2f}. Take a lower one"
            )
        return self.images.subset(kept, f"{len(kept):,} pseudo-labelled images")

    def __str__(self) -> str:
        """How many there are, how sure they are, and how many of them may be right, in sentences."""
        sure = (self.confidence >= SURE).double().mean()
        said = (
            f"{self.images.name}: {100 * sure:.0f} % of the labels have a probability of {SURE} or more, and the mean "
            f"is {self.confidence.mean():.2f}"
        )
        if not len(self.held_back):
            return f"{said}. Too few images have labels to leave some out and tell how many are right"
        found = self.answers.argmax(1)
        right, count = int((found == self.held_back).sum()), len(found)
        said += (
            f". Of {count} labelled images that were left out, {right} got their label ({100 * right / count:.0f} %), "
            f"where {self.answers.max(1).values.mean():.2f} was the mean probability"
        )
        confused = self._most_confused()
        return said + (f"; most often confused: {confused}" if confused else "")

    def _most_confused(self) -> str:
        """The two classes that labelled images were most often taken for each other of, in words; empty if never."""
        found, count = self.answers.argmax(1), len(self.images.classes)
        wrong = found != self.held_back
        if not wrong.any():
            return ""
        first = torch.minimum(found, self.held_back)[wrong]
        second = torch.maximum(found, self.held_back)[wrong]
        pair = int((first * count + second).mode().values)
        return f"{self.images.classes[pair // count]} and {self.images.classes[pair % count]}"


@usual_defaults()
def pseudo_label(
    labelled: LabelledImages,
    unlabeled: Pixels,
    *,
    generator: ConditionalGenerator | None = None,
    horizontal_flip: bool = False,
    cache_dir: str | Path | None = None,
) -> PseudoLabels:
    """Label images with three small classifiers that are trained on them and on labelled ones.

    They learn from unlabelled images by consistency; see :func:`ganaug.evaluation.train_semi_supervised`. Each leaves
    out a tenth of the labelled images of each class, by which the labels are judged. What a finished classifier said
    is kept, so that a labelling that was stopped goes on with the next one. How long it takes is logged first.

    A generator that was trained on pseudo-labelled images can improve their labels: it draws more variety than the
    labelled images have, and repeats fewer single wrong labels than the pseudo-labelled images do.

    Args:
        labelled (LabelledImages): images with labels.
        unlabeled (Tensor or StoredImages): images, uint8 (N, C, H, W), of the same shape as the labelled ones. They
            are taken to have about their class shares.
        generator (Generator or module, optional): draws half of the labelled images that the classifiers are trained
            on. Default: none
        horizontal_flip (bool): augment by mirroring too; only for images whose mirror image is still of its class.
            Default: False
        cache_dir (str or Path, optional): where the answers of finished classifiers are kept. Default: ``labels`` in
            :func:`ganaug.core.files.user_cache`

    Returns:
        PseudoLabels: a label for each of the images, its probabilities, and what tells how good they are.

    Raises:
        InputError: the unlabelled images have another shape, or there are none.
        OSError: the folder cannot be written to or the disk is full.

    Source: Lee 2013, "Pseudo-label: the simple and efficient semi-supervised learning method for deep neural
    networks".
    """
    check_same_shape(labelled, unlabeled)
    everything = replace(
        labelled,
        images=unlabeled,
        targets=torch.zeros(len(unlabeled), dtype=torch.int64),
        name=f"{len(unlabeled):,} pseudo-labelled images",
    )
    shown = None if generator is None else ClassSampler(generator, labelled.classes, device=best_device())
    key = fingerprints.of_values(
        labelled.fingerprint,
        everything.image_hashes,
        shown and shown.fingerprint,
        [horizontal_flip, STEPS, HELD_BACK, str(best_device()), version("ganaug"), torch.__version__],
    )
    folder = user_cache() / "labels" if cache_dir is None else Path(cache_dir)
    paths = [folder / f"{key[:32]}-{member}.safetensors" for member in range(MEMBERS)]
    missing = sum(not path.exists() for path in paths)
    # Drawn when it is known that a classifier is trained: one whose file is damaged is trained again, too.
    train = partial(_train, labelled, unlabeled, cache(partial(_generated, shown, labelled)), horizontal_flip)

    # How long it takes, and then the classifiers, one after another.
    if missing:
        minutes = missing * _seconds(train, unlabeled) / 60
        logger.warning("labelling %s images takes %s here", f"{len(unlabeled):,}", in_minutes(minutes, minutes))
    probabilities, judged = torch.zeros(len(unlabeled), len(labelled.classes)), []
    with tqdm(total=missing * STEPS, unit="step", disable=not missing) as bar:
        for member, path in enumerate(paths):
            describe(bar, f"labelling, classifier {member + 1} of {MEMBERS}")
            build = partial(_ask, train, member, unlabeled, bar.update)
            answers = read_tensors(build_once(path, build, what="labels for unlabelled images"))
            probabilities += answers["probabilities"] / MEMBERS
            judged.append((answers["held_back"], answers["answers"]))
    return PseudoLabels(
        replace(everything, targets=probabilities.argmax(1)),
        probabilities,
        *(torch.cat(each) for each in zip(*judged, strict=True)),
    )


def _generated(sampler: ClassSampler | None, labelled: LabelledImages) -> LabelledImages | None:
    """Images of a generator, in the class shares of the labelled ones, to which answers are brought."""
    if sampler is None:
        return None
    most = DRAWN * len(labelled.classes)
    counts = [math.ceil(most * count / len(labelled)) for count in labelled.class_counts]
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return LabelledImages(sampler.draw(labels, range(len(labels))), labels, labelled.classes, "generated images")


def _train(
    labelled: LabelledImages,
    unlabeled: Pixels,
    generate: Callable[[], LabelledImages | None],
    flip: bool,
    member: int,
    steps: int,
    each_step: Callable[[], object],
) -> tuple[nn.Module, LabelledImages]:
    """Train one classifier; beside it the labelled images that it has not seen, which are others for each."""
    rest, left_out = labelled.split(HELD_BACK)
    for _ in range(member):
        rest, left_out = rest.split(HELD_BACK)
    seen = ~torch.isin(labelled.image_hashes, left_out.image_hashes)
    data, weights = labelled.subset(torch.nonzero(seen).squeeze(1), labelled.name), None
    if (generated := generate()) is not None:
        sizes = torch.tensor([len(data)] * len(data) + [len(generated)] * len(generated))
        data, weights = joined(data, generated), 1 / sizes

    weak = ShiftFlip.like(labelled, flip=flip)
    classifier = train_semi_supervised(
        data,
        unlabeled,
        weak=weak,
        strong=TrivialAugment(weak),
        steps=steps,
        seed=member,
        weights=weights,
        device=best_device(),
        each_step=each_step,
    )
    return classifier, left_out


def _ask(train: Trains, member: int, unlabeled: Pixels, each_step: Callable[[], object], path: Path) -> None:
    """Train one classifier, and write what it says of the unlabelled images, and of labelled ones new to it."""
    classifier, left_out = train(member, STEPS, each_step)
    found = {
        "probabilities": predict_probabilities(classifier, unlabeled),
        "held_back": left_out.targets,
        "answers": predict_probabilities(classifier, left_out.images),
    }
    write_tensors(path, found)


def _seconds(train: Trains, unlabeled: Pixels) -> float:
    """About how long one classifier takes: a few steps are timed, and a few answers."""
    times: list[float] = []
    classifier, _ = train(0, TIMED, lambda: times.append(time.perf_counter()))
    asked, begin = unlabeled[:ASKED], time.perf_counter()
    predict_probabilities(classifier, asked)
    answering = (time.perf_counter() - begin) / len(asked)
    # The first step is slower than the others.
    return STEPS * (times[-1] - times[0]) / (TIMED - 1) + len(unlabeled) * answering
