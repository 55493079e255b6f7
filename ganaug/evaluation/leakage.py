"""Which held-out images can judge: none that a classifier or a generator was trained on, and each image once."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganaug.core.errors import InputError
from ganaug.data import LabelledImages
from ganaug.generators.base import Generator
from ganaug.hub.config import UNRECORDED

logger = logging.getLogger(__name__)

ACCIDENTAL = 0.01  # a smaller share of held-out images that are copies is taken for a flaw of a published split
_WAY_ON = (
    "Leave them out with --leave_out_copies (in Python with leave_out_copies=True in ganaug.evaluation.evaluate or "
    "choose_ratio)"
)


@dataclass(frozen=True)
class LeakageCheck:
    """Result of :func:`check_leakage`.

    Attributes:
        known (bool): whether it is known of all images that the generator was trained on.
        same_images (bool): whether they are exactly the training images of the classifiers.
        checked_against (int): number of different images it is known to have been trained on.
        overlap (int): number of held-out images among them; always 0, since any overlap is refused.
        note (str): what is known, in a sentence for the report.
    """

    known: bool
    same_images: bool
    checked_against: int
    overlap: int
    note: str


@dataclass(frozen=True)
class LeftOut:
    """Held-out images that do not judge, because they are copies.

    Attributes:
        given (int): how many held-out images there were.
        trained_on (int): of these, that a classifier or a generator was trained on.
        repeated (int): of the others, that are equal to an earlier one of their class.
    """

    given: int
    trained_on: int
    repeated: int = 0

    @property
    def sentence(self) -> str:
        """How many of how many, and why."""
        number = self.trained_on + self.repeated
        if not number:
            return "No held-out image had to be left out."
        trained_on, repeated = "of what a classifier or a generator was trained on", "of another of the same class"
        why = f" {trained_on if self.trained_on else repeated}"
        if self.trained_on and self.repeated:
            why = f": {self.trained_on:,} {trained_on}, and {self.repeated:,} {repeated}"
        left_out = "was left out as a copy" if number == 1 else "were left out as copies"
        return f"{number:,} of the {self.given:,} held-out images {left_out}{why}."


def check_leakage(generator: Any, train: LabelledImages, held_out: LabelledImages) -> LeakageCheck:
    """Refuse held-out images that the generator or the classifiers were trained on.

    Only images that are equal in every pixel are found: not those that were cropped, resized or encoded in another
    way, nor near-duplicates (Barz and Denzler 2020, "Do we train on test data? Purging CIFAR of near-duplicates").

    Args:
        generator: a :class:`ganaug.Generator`, or another module, of which it is not known what it saw.
        train (LabelledImages): what the classifiers train on.
        held_out (LabelledImages): what they are judged on, in validation and test together.

    Raises:
        InputError: a held-out image is among the training images of the generator or of the classifiers.
    """
    shared = int(torch.isin(held_out.image_hashes, train.image_hashes).sum())
    if shared:
        raise InputError(
            f"{_share(shared, held_out)} are among the training images too ({train.name}): classifiers would be asked "
            f"about images they were trained on, so no verdict would hold for new images. {_WAY_ON}, or give other "
            "held-out images"
        )
    seen = _seen_images(generator, train, held_out)
    if seen is None:
        return LeakageCheck(False, False, 0, 0, _why_unknown(generator, held_out))
    shared = int(torch.isin(held_out.image_hashes, seen).sum())
    if shared:
        raise InputError(
            f"{_share(shared, held_out)} are among the images that the generator was trained on: it can repeat them, "
            "and classifiers that learn from its images would be judged on what they have seen, so no verdict would "
            f"hold for new images. {_WAY_ON}, give other held-out images, or train a generator without these (hold "
            "images out first, or train on another split)"
        )
    if generator.info["training"].get(UNRECORDED):
        note = (
            f"None of the {len(held_out):,} held-out images is among the {len(seen):,} that the generator is known to "
            "have seen. But it began as a generator without a record of its training images."
        )
        return LeakageCheck(False, False, len(seen), 0, note)
    own = train.image_hashes.unique()
    return LeakageCheck(True, torch.equal(seen, own), len(seen), 0, _note(seen, own, len(held_out)))


def able_to_judge(
    held_out: LabelledImages,
    trained: Sequence[tuple[LabelledImages, Collection[Any]]],
    *,
    leave_out_copies: bool,
    least: int,
) -> tuple[LabelledImages, LeftOut]:
    """Leave out the few held-out images that were trained on, or refuse them; and let each of the others judge once.

    An image that is there twice tells no more than one, and the interval of a verdict takes images for independent.
    A repetition with another label stays: which of the two labels is wrong is not known.

    Args:
        held_out, trained, leave_out_copies: see :func:`without_overlap`.
        least (int): how many images of each class must remain.

    Returns:
        tuple of LabelledImages and LeftOut: the remaining images, and what was left out.

    Raises:
        InputError: 1 % or more of the images were trained on and are not to be left out, or fewer than ``least``
            images of a class remain, because others were left out.
    """
    # None that was trained on.
    remaining, trained_on = without_overlap(held_out, trained, leave_out_copies=leave_out_copies)
    for train, generators in trained:
        for generator in generators:
            check_leakage(generator, train, remaining)

    # Of equal images of a class, the first.
    labelled = torch.stack([remaining.image_hashes, remaining.targets], 1).numpy()
    first = np.sort(np.unique(labelled, axis=0, return_index=True)[1])
    repeated = len(remaining) - len(first)
    if repeated:
        logger.warning("%s repeat another of the same class, and are left out", _share(repeated, held_out))
        name = f"{held_out.name}, without {trained_on + repeated:,} copies"
        remaining = remaining.subset(torch.from_numpy(first), name)

    # Enough of each class.
    for name, before, after in zip(held_out.classes, held_out.class_counts, remaining.class_counts, strict=True):
        if after < before and after < least:
            raise InputError(
                f"{before - after:,} of the {before:,} held-out images of class {name} ({held_out.name}) are copies "
                f"and are left out, which leaves {after or 'none'}; at least {least} are needed. Give more held-out "
                "images of this class that nothing was trained on"
            )
    return remaining, LeftOut(len(held_out), trained_on, repeated)


def without_overlap(
    held_out: LabelledImages,
    trained: Sequence[tuple[LabelledImages, Collection[Any]]],
    *,
    leave_out_copies: bool = False,
) -> tuple[LabelledImages, int]:
    """Leave out the held-out images that :func:`check_leakage` would refuse, if there are few of them.

    Published splits may share a few images. An overlap of 1 % or more of the held-out images is no accident: then
    ``held_out`` is returned unchanged, and :func:`check_leakage` refuses it, unless they are to be left out anyway.

    Args:
        held_out (LabelledImages): see :func:`check_leakage`.
        trained (sequence of tuples): the training images of the classifiers, and the generators they are mixed with;
            several where there are draws.
        leave_out_copies (bool): leave them out however many they are. Default: only if they are few

    Returns:
        tuple of LabelledImages and int: the remaining held-out images, and how many were left out.
    """
    seen = [train.image_hashes for train, _ in trained]
    for train, generators in trained:
        known = (_seen_images(generator, train, held_out) for generator in generators)
        seen += [hashes for hashes in known if hashes is not None]
    copies = torch.isin(held_out.image_hashes, torch.cat(seen))
    number = int(copies.sum())
    if not number or (number >= ACCIDENTAL * len(held_out) and not leave_out_copies):
        return held_out, 0
    logger.warning("%s are among the images that were trained on, and are left out", _share(number, held_out))
    left = torch.nonzero(~copies).squeeze(1)
    return held_out.subset(left, f"{held_out.name}, without {number:,} that were trained on"), number


def _seen_images(generator: Any, train: LabelledImages, held_out: LabelledImages) -> Tensor | None:
    """Sorted hashes of the images that the generator was trained on; None if they are not known or not comparable."""
    if not isinstance(generator, Generator) or not _same_form(generator, held_out):
        return None
    fingerprint = generator.info.get("dataset", {}).get("fingerprint")
    hashes = [images.image_hashes for images in (held_out, train) if images.fingerprint == fingerprint]
    if generator.seen_images is not None:
        hashes.append(generator.seen_images)
    return torch.cat(hashes).unique() if hashes else None


def _same_form(generator: Generator, images: LabelledImages) -> bool:
    """Whether the generator was trained on images of this shape. Hashes cover the shape: others would never match."""
    return images.images.shape[1:] == (generator.channels, generator.image_size, generator.image_size)


def _share(shared: int, held_out: LabelledImages) -> str:
    return f"{shared:,} of the {len(held_out):,} held-out images ({held_out.name})"


def _why_unknown(generator: Any, held_out: LabelledImages) -> str:
    what = "Whether the generator saw held-out images could not be checked"
    if not isinstance(generator, Generator):
        return f"{what}: {type(generator).__name__} has no record of the images it was trained on."
    if not _same_form(generator, held_out):
        size, (channels, height, width) = generator.image_size, held_out.images.shape[1:]
        return (
            f"{what}: it was trained on images of {size}x{size} pixels and {generator.channels} channels, and these "
            f"have {width}x{height} and {channels}; only images of one form can be compared."
        )
    trained_on = generator.info.get("dataset", {}).get("name")
    named = f" on {trained_on}, which is another set of images than this one," if trained_on else ""
    return f"{what}: it was trained{named} without a record of the single images."


def _note(seen: Tensor, own: Tensor, held_out: int) -> str:
    what = f"None of the {held_out:,} held-out images is among the {len(seen):,} that the generator was trained on"
    if torch.equal(seen, own):
        return f"{what}, which are the training images."
    foreign = int((~torch.isin(seen, own)).sum())
    if not foreign:
        return f"{what}, which are a part of the training images."
    return (
        f"{what}. But {foreign:,} of these are not among the training images, so a gain can come from more real "
        "images that the generator saw, or from the same ones in another form."
    )
