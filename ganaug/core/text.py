"""Strings from anywhere, such as a downloaded config: which can be shown, which are names, which are the same name."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

LONGEST_NAME = 200  # characters in the name of a class
_BREAKS = ("Cc", "Cs", "Zl", "Zp")  # control characters, half characters, ends of lines and paragraphs
# Characters that change the direction of writing.
_TURNS = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def in_points(estimate: float, low: float, high: float, *, unit: str = "") -> str:
    """A difference of shares in points, with its interval: ``+1.4 [0.9, 1.9]``, or ``+1.4 points [0.9, 1.9]``."""
    # Not -0.0, which looks as if it were below zero.
    middle, least, most = (round(100 * value, 1) + 0.0 for value in (estimate, low, high))
    return f"{middle:+.1f}{unit} [{least:.1f}, {most:.1f}]"


def is_text(value: object, *, most: int) -> bool:
    """Whether a value is a string of at most ``most`` characters, none of which affects the text around it."""
    if type(value) is not str or len(value) > most:
        return False
    if value.isprintable():  # so it has no such character; nearly all names end here
        return True
    return all(unicodedata.category(letter) not in _BREAKS and letter not in _TURNS for letter in value)


def as_text(value: str) -> str:
    """The string, with a replacement character for each one that :func:`is_text` refuses."""
    return "".join(letter if is_text(letter, most=1) else "\N{REPLACEMENT CHARACTER}" for letter in value)


def is_name(value: object) -> bool:
    """Whether a value can be the name of a class: text of 1 to 200 characters."""
    return bool(value) and is_text(value, most=LONGEST_NAME)


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC), so that names are equal however their accents were typed."""
    return unicodedata.normalize("NFC", name)


def numbers_of(names: Iterable[str]) -> dict[str, int]:
    """{name in its :func:`composed` form: its position}."""
    return {composed(name): k for k, name in enumerate(names)}


def repeated(names: Iterable[str]) -> list[str]:
    """The names that occur more than once, in alphabetical order."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def in_short(value: object) -> str:
    """A value from anyone as at most 101 printable characters, for a message."""
    text = value if isinstance(value, str) and value.isprintable() else ascii(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def shortened(names: Sequence[str], *, most: int = 10) -> str:
    """Names in one line: the first ones, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
