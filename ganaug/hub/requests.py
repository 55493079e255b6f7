"""Requests to the Hugging Face Hub, asked again where it has trouble of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from huggingface_hub.errors import HfHubHTTPError

RETRIES, PAUSE = 3, 1.0  # of a request that the Hub fails to answer; seconds before the first, doubled each time
TransportError: type[Exception] = HfHubHTTPError.__bases__[0]  # of the HTTP library; older clients have another

Answer = TypeVar("Answer")


def patiently(ask: Callable[..., Answer], *args: Any, **kwargs: Any) -> Answer:
    """What a function answers that asks the Hub; where that has an error of its own (5xx), it is called again."""
    for attempt in range(RETRIES):
        try:
            return ask(*args, **kwargs)
        except Exception as error:
            if status_of(error) < 500 or attempt + 1 == RETRIES:
                raise
            time.sleep(PAUSE * 2**attempt)
    raise AssertionError  # the last attempt returns or raises


def status_of(error: BaseException | None) -> int:
    """HTTP status that an error, or what caused it, comes from; 0 where there was no answer."""
    while error is not None:
        if isinstance(error, HfHubHTTPError):
            return int(error.response.status_code)
        error = error.__cause__
    return 0
