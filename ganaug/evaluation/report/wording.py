"""How a report writes numbers and settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ganaug.evaluation.statistics import Difference
from ganaug.hub.config import what_was_set

MINUS, NOTHING, SPACE = "\N{MINUS SIGN}", "\N{EN DASH}", "\N{NO-BREAK SPACE}"


def percent(share: float | None) -> str:
    """A share as ``96.4 %``, on one line."""
    return NOTHING if share is None else f"{100 * share:.1f}{SPACE}%"


def points(difference: float | None) -> str:
    """A difference of shares in points with its sign: ``+1.4``."""
    if difference is None:
        return NOTHING
    rounded = round(100 * difference, 1)
    return f"{rounded:+.1f}".replace("-", MINUS) if rounded else "0.0"


def interval(difference: Difference | None) -> str:
    """A difference in points with its interval: ``+1.4 [+0.9, +1.9]``."""
    if difference is None:
        return NOTHING
    return f"{points(difference.estimate)} [{points(difference.low)},{SPACE}{points(difference.high)}]"


def count(images: int) -> str:
    """A number of images, its thousands separated."""
    return f"{images:,}".replace("-", MINUS)


def number(value: float | None) -> str:
    """A number without a unit, to three digits."""
    if value is None:
        return NOTHING
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}").replace("-", MINUS)


def duration(seconds: float) -> str:
    """Seconds as ``1 h 12 min``, ``3 min 20 s``, ``42 s`` or ``4.2 s``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def drawn_by(generator: str) -> str:
    """Whose images they are, in words that no name of a generator turns into others, such as that of a dataset."""
    return f"images drawn by the generator “{generator}”"


def kimg(thousands: float) -> str:
    """Thousands of images shown in training: ``67.8``, and ``20`` for the 20.032 that whole batches make of it."""
    return f"{round(thousands, 1):,.9g}" if thousands >= 1 else f"{thousands:.3g}"


def training_settings(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a training recorded, of what was set for it, as names and values in words.

    Args:
        training (mapping): ``"training"`` of a generator's ``config.json``.
    """
    return [
        (name.replace("_", " "), (kimg if name.endswith("kimg") and isinstance(value, int | float) else plain)(value))
        for name, value in what_was_set(training).items()
    ]


def plain(value: Any) -> str:
    """A setting's value in words."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}: {plain(each)}" for key, each in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


FILTERS: dict[str, Callable[[Any], Any]] = {
    each.__name__: each
    for each in (percent, points, interval, count, number, duration, kimg, training_settings, plain)
}
