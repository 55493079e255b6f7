"""The four answers of a verdict, and what would tell where it cannot."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from ganaug.core.text import in_points
from ganaug.evaluation.statistics import Difference

Outcome = Literal["helps", "hurts", "no worthwhile effect", "cannot tell yet"]

MOST_REPEATS = 100  # seeds or draws; more are not worth recommending
MOST_IMAGES = 1000  # times the test images; more are not either


def outcome_of(difference: Difference, margin: float) -> Outcome:
    """The answer that a difference to the reference gives.

    It *helps* or *hurts* if the 95 % interval lies on one side of zero. There is *no worthwhile effect* if the 90 %
    interval lies within the margin (two one-sided tests at 5 %). Where neither is so, it *cannot tell yet*.

    Source: Schuirmann 1987, "A comparison of the two one-sided tests procedure and the power approach for assessing
    the equivalence of average bioavailability".

    Args:
        difference (Difference): arm minus reference.
        margin (float): smallest worthwhile difference, in points of balanced accuracy; fixed beforehand.
    """
    if difference.low > 0:
        return "helps"
    if difference.high < 0:
        return "hurts"
    return "no worthwhile effect" if within(difference, margin) else "cannot tell yet"


def headline(outcome: str, too_short: str) -> str:
    """An answer as it is told, never without the reservation that it may not hold for longer training.

    Args:
        outcome (str): the answer.
        too_short (str): what longer training brings; empty if it brings no more than chance.
    """
    return f"{outcome}, but the classifiers were trained too briefly" if too_short else outcome


def within(difference: Difference, margin: float) -> bool:
    """Whether the 90 % interval lies within the margin, in points: an effect, real or not, that is too small."""
    low, high = difference.interval(0.9)
    return -margin / 100 < low and high < margin / 100


def what_would_tell(difference: Difference, margin: float, *, repeated: str, test_images: int) -> str:
    """How many more repeats would give another answer, if the estimate stays as it is; in words.

    Args:
        difference (Difference), margin (float): as for :func:`outcome_of`.
        repeated (str): what is repeated: ``"seeds"`` or ``"draws"``.
        test_images (int): number of test images.
    """
    enough = repeats_that_tell(difference, margin)
    if enough is not None:
        more = enough - difference.repeats
        return f"about {more} more {repeated if more > 1 else repeated.removesuffix('s')} would tell"
    if _tells(replace(difference, repeat_variance=0.0), margin):
        return f"more than {MOST_REPEATS} {repeated} would be needed to tell"
    if not _tells(replace(difference, repeat_variance=0.0, image_variance=0.0), margin):
        return f"no number of {repeated} would tell, for they are drawn from too few training images"
    # However often it is repeated, the images are too few. How many would do, with twice the repeats?
    too_few = f"no number of {repeated}: {test_images:,} test images are too few"
    times = 1.0
    while times < MOST_IMAGES:
        times *= 1.25
        more_images = replace(difference, image_variance=difference.image_variance / times)
        enough = repeats_that_tell(more_images, margin, at_most=2 * difference.repeats)
        if enough is not None:
            return f"{too_few}, about {_rounded_up(test_images * times):,} with {enough} {repeated} would tell"
    return too_few


def repeats_that_tell(difference: Difference, margin: float, *, at_most: int = MOST_REPEATS) -> int | None:
    """The least number of repeats, more than there were, with which the same estimate gives an answer; None if none.

    Args:
        difference (Difference), margin (float): as for :func:`outcome_of`.
        at_most (int): repeats. Default: 100
    """
    for repeats in range(difference.repeats + 1, at_most + 1):
        variance = difference.repeat_variance * difference.repeats / repeats
        if _tells(replace(difference, repeats=repeats, repeat_variance=variance), margin):
            return repeats
    return None


def _tells(difference: Difference, margin: float) -> bool:
    low, high = difference.interval(0.95)
    return low > 0 or high < 0 or within(difference, margin)


def _rounded_up(images: float) -> int:
    """To two digits: it is a rough number."""
    unit: int = 10 ** max(len(str(math.ceil(images))) - 2, 0)
    return math.ceil(images / unit) * unit


def in_words(difference: Difference) -> str:
    """A difference in points of balanced accuracy with its interval: ``+1.4 points [0.9, 1.9]``."""
    return in_points(difference.estimate, difference.low, difference.high, unit=" points")


def margin_in_words(margin: float) -> str:
    """A margin as ``1 point`` or ``0.5 points``."""
    return f"{margin:g} point{'' if margin == 1 else 's'}"


def answer(difference: Difference, margin: float, *, repeated: str, test_images: int) -> tuple[Outcome, str]:
    """The answer with its difference, and what is to be added: what would tell, or how small an effect is.

    Args:
        difference, margin, repeated, test_images: as for :func:`what_would_tell`.
    """
    outcome = outcome_of(difference, margin)
    if outcome == "cannot tell yet":
        return outcome, what_would_tell(difference, margin, repeated=repeated, test_images=test_images)
    if outcome == "no worthwhile effect":
        return outcome, f"it is less than {margin_in_words(margin)} either way"
    return outcome, f"a small effect, less than {margin_in_words(margin)}" if within(difference, margin) else ""
