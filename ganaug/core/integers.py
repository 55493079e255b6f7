"""Numbers that callers pass: ints, Python's own or those of numpy, pandas and torch, and minutes."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any

from ganaug.core.errors import InputError


def to_int(value: Any) -> int | None:
    """A value as a plain int; None if it is a bool or not an int at all."""
    if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def positive_int(name: str, value: Any, *, error: type[InputError] = InputError) -> int:
    """A value as a plain int of at least 1.

    Raises:
        InputError: it is not such an int; the error is an ``error``.
    """
    number = to_int(value)
    if number is None or number < 1:
        raise error(f"{name} must be a positive int, got {value!r}")
    return number


def unsigned_int(name: str, value: Any, *, bits: int) -> int:
    """A value as a plain int in [0, 2**bits).

    Raises:
        InputError: it is not such an int.
    """
    number = to_int(value)
    if number is None or not 0 <= number < 2**bits:
        raise InputError(f"{name} must be an int from 0 to 2**{bits} - 1, got {value!r}")
    return number


def check_minutes(name: str, value: Any) -> None:
    """Refuse a budget that is none.

    Raises:
        InputError: it is not a number of minutes, positive and finite.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise InputError(f"{name} must be positive and finite, got {value!r}")
