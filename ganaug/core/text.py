"""Strings that anybody may have written: what of them can be shown, and can be a name."""

from __future__ import annotations

import unicodedata

LONGEST_NAME = 200  # characters, of a class
_TURNS = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}  # of the direction of writing


def is_text(value: object, *, most: int) -> bool:
    """Whether a value is a string of at most so many characters that changes nothing but itself where it is shown."""
    if type(value) is not str or len(value) > most:
        return False
    return all(unicodedata.category(letter) not in ("Cc", "Cs") and letter not in _TURNS for letter in value)


def as_text(value: str) -> str:
    """A string with a mark in place of each character that :func:`is_text` refuses."""
    return "".join(letter if is_text(letter, most=1) else "\N{REPLACEMENT CHARACTER}" for letter in value)


def is_name(value: object) -> bool:
    """Whether a value can be the name of a class."""
    return bool(value) and is_text(value, most=LONGEST_NAME)


def in_short(value: object) -> str:
    """A value for a message, in at most 101 printable characters, whoever it comes from."""
    text = value if isinstance(value, str) and value.isprintable() else ascii(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
